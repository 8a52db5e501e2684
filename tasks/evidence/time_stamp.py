"""§8: have an authority vouch for when a closing existed (RFC 3161). Best effort: no record waits for it.

See docs/adr/0034.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tasks.custody.errors import EvacuationError
from tasks.custody.evidence.keys import TIME_STAMP, UNSTAMPED
from tasks.custody.store.manifest import canonical
from tasks.custody.visible import LINE_LIMIT, visible
from tasks.system.cancellation import run_in_thread

if TYPE_CHECKING:
    from blocks.store_fields import StoreFields

logger = logging.getLogger(__name__)

SECONDS: Final = 10.0
_HEADERS: Final = {"Content-Type": "application/timestamp-query", "Accept-Encoding": "identity"}


def stamp(store: "StoreFields", closing: bytes, put: Callable[[str, bytes], object]) -> str:
    """Have the store's time-stamp authority stamp a stored closing; return why it has not, empty if it has.

    `put` is called with name and content of what goes beside the closing: the time stamp, or the reason for having
    none. Never raises, and waits 10 s for the authority at most.
    """
    answer = time_stamp(store, closing)
    reason = "" if isinstance(answer, bytes) else answer
    try:
        put(*((TIME_STAMP, answer) if isinstance(answer, bytes) else (UNSTAMPED, canonical({"reason": answer}))))
    except Exception as error:  # noqa: BLE001  the record is safe
        reason = reason or f"the time stamp could not be stored: {error}"
    if reason:
        logger.warning("No time is vouched for, because %s", reason)
    return reason


def time_stamp(store: "StoreFields", data: bytes, seconds: float = SECONDS) -> bytes | str:
    """Return the authority's time stamp over `data` as it answered, or why there is none.

    Its signature is not proven here: an auditor knows whom to trust. Name resolution and a server that sends a byte
    now and then know no time limit of their own, so a thread is left behind after `seconds`.
    """
    done, _ = run_in_thread(lambda: _request_stamp(store, data, seconds))
    try:
        return done.result(seconds)
    except TimeoutError:
        why = f"no answer within {seconds:g} s"
    except EvacuationError as error:
        why = error.got
    except Exception as error:  # noqa: BLE001  whatever is wrong with the authority, the record is safe
        why = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return visible(f"{store.timestamp_url}: {why}", LINE_LIMIT)


def _request_stamp(store: "StoreFields", data: bytes, seconds: float) -> bytes:
    """Ask through the environment's proxy, trusting the store's own CA too. Follows no redirect, unpacks nothing."""
    import httpx

    from blocks.credentials import find_ca_file
    from tasks.custody.store.timestamp import TOKEN_LIMIT, request_for, stamped_at

    request, answer, tls = request_for(data), bytearray(), httpx.create_ssl_context()
    if authority := find_ca_file(store.credentials):
        tls.load_verify_locations(authority)
    with (
        httpx.Client(verify=tls, timeout=seconds) as client,
        client.stream("POST", store.timestamp_url, content=request.as_bytes(), headers=_HEADERS) as response,
    ):
        response.raise_for_status()
        for piece in response.iter_raw():
            answer += piece
            if len(answer) > TOKEN_LIMIT:
                break
    stamped_at(bytes(answer), data, request)
    return bytes(answer)
