"""Plain HTTP to a Prefect server, for what its clients do not tell."""

import httpx


def http_to(api: str) -> httpx.Client:
    """Return a client that opens a connection for each request.

    The server closes one that has rested for 5 s, which may be the moment in which it is used again.
    """
    return httpx.Client(base_url=api, timeout=30, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
