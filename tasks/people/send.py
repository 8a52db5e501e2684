"""Send a message through one of Prefect's notification blocks."""

import logging
import re
from typing import Final

from httpx import HTTPStatusError
from prefect.blocks import notifications  # noqa: F401  a saved block is found by its class
from prefect.blocks.abstract import NotificationBlock, NotificationError
from prefect.blocks.core import Block

_TALKATIVE: Final = ("apprise", "httpx", "urllib3")
"""Loggers that write the addresses of requests, though not in warnings."""


def send_by(block: str, subject: str, body: str) -> str:
    """Send once, by the saved block TYPE/NAME. Return why the receiver has not taken it; empty if it has. Never raises.

    What libraries say may have the address or a token in it: of it only an HTTP status or the kind of error is told.
    """
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        sender = Block.load(block)
        if not isinstance(sender, NotificationBlock):
            return "it is no notification block"
        with sender.raise_on_failure():
            sender.notify(body, subject)  # type: ignore[unused-coroutine]  # not in a synchronous task
    except HTTPStatusError as error:
        return f"HTTP {error.response.status_code}"
    except NotificationError as error:
        status = re.search(r"error=(\d{3})\b", error.log)
        return f"HTTP {status[1]}" if status else "it was not taken"
    except Exception as error:  # noqa: BLE001  a message is tried again, whatever it was
        return type(error).__name__
    return ""
