"""Find free TCP ports of this machine, and ask HTTP servers."""

import contextlib
import json
import random
import socket
import urllib.request
from http.client import HTTPException
from typing import Any


def free_ports(*services: str, above: int = 0) -> dict[str, int]:
    """Return a port for each service, below the kernel's ephemeral range; the port `above` higher is free too."""
    candidates = random.sample(range(12_000, 22_500), 200)
    free = [port for port in candidates if _free(port) and _free(port + above)]
    return dict(zip(services, free, strict=False))


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def answers(url: str) -> bool:
    """Return whether a URL answers with success."""
    return ask(url) is not None


def ask(url: str, body: Any = None) -> bytes | None:
    """Return the content of the answer; None without a successful one."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310  always http
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.suppress(OSError, HTTPException), opener.open(request, timeout=2) as answer:
        content: bytes = answer.read()
        return content
    return None
