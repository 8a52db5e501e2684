"""§7: wait until the restarted API is healthy."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx

from tasks.recovery.api_client import REFUSED, Api, ApiResponse, advice, failure
from tasks.system.polling import poll_until

_POLL_SECONDS: Final = 0.2


def wait_healthy(  # noqa: PLR0913, PLR0917
    api: Api,
    lives: Callable[[], bool],
    listens: Callable[[], bool],
    seconds: float,
    log: Path | str,
    why_ended: Callable[[], str] = lambda: "it ended",
) -> tuple[str, str]:
    """Poll the API until it answers with 2xx, while its process lives. Return how that ended, and what is not proven.

    Sends nothing before the restarted API listens, because a request may hold a key. An API that answers 3xx or 4xx is
    up, but not proven healthy. Raises NotRecovered if the API ends, or does not answer in `seconds`.
    """
    began, path = time.monotonic(), api.block.health_path
    last = ApiResponse(0, b"what was started does not listen there", api.url)

    def is_settled() -> bool:
        nonlocal last
        if not lives():
            raise failure(f"the API at {api.url} to keep running", f"{why_ended()}; see {log}")
        if listens():
            last = api.ask("GET", path)
        return last.good or last.status in REFUSED

    poll_until(is_settled, seconds, _POLL_SECONDS)
    if last.good:
        return f"HTTP {last.status} after {time.monotonic() - began:.1f} s", ""
    if httpx.codes.is_redirect(last.status) or httpx.codes.is_client_error(last.status):
        return last.summary, f"that it is healthy: {last.summary}{advice(last)}"
    raise failure(f"an answer from {api.url}{path} in {seconds:g} s", f"{last.summary}; see {log}")
