"""Plain HTTP to a Prefect server, for what its clients do not tell."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx


def http_to(api: str) -> httpx.Client:
    """Return a client that opens a connection for each request.

    The server closes one that has rested for 5 s, which may be the moment in which it is used again.
    """
    return httpx.Client(base_url=api, timeout=30, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))


class Dated:
    """Of a fake client: answers that tell the time by the server's clock, which may differ from this host's."""

    ahead = timedelta()

    def hello(self) -> httpx.Response:
        """The time is in the head of the answer."""
        return httpx.Response(200, headers={"Date": format_datetime(datetime.now(UTC) + self.ahead, usegmt=True)})
