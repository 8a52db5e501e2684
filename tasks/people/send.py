"""Send a message through one of Prefect's notification blocks, and not twice in a row about the same."""

import logging
import re
from typing import Final
from uuid import UUID

from httpx import HTTPStatusError
from prefect.blocks import notifications  # noqa: F401  a saved block is found by its class
from prefect.blocks.abstract import NotificationBlock, NotificationError
from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient

from tasks.custody.incident.news import PEOPLE, SENT_BY_SERVER
from tasks.system.polling import poll_until

AGAIN_SECONDS: Final = [2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0]
"""Between two attempts: some nine minutes in all."""
_BEFORE: Final = ["COMPLETED", "RUNNING", "CANCELLED"]
"""Types of states of a message that was sent, is being sent, or may have been sent by the server."""
_SHOWN: Final = 50
_POLL_SECONDS: Final = 1.0
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


def is_repeated(client: SyncPrefectClient, run: UUID, theme: str, subject: str) -> bool:
    """Return whether the last message about this was the same, and note that this run's is about it, too.

    One that is being sent is waited for. One whose run a person has cancelled was told to nobody.
    """
    tags = [PEOPLE, f"about:{theme}"]
    client.update_flow_run(run, tags=tags)
    conditions = {
        "id": {"not_any_": [str(run)]},
        "tags": {"all_": tags},
        "state": {"type": {"any_": _BEFORE}},
        "start_time": {"before_": str(client.read_flow_run(run).start_time)},
    }
    query = {"flow_runs": conditions, "sort": "START_TIME_DESC", "limit": _SHOWN}

    def look() -> str:
        runs = ((each, each["state"]) for each in client.request("POST", "/flow_runs/filter", json=query).json())
        sent = (each for each, now in runs if now["type"] != "CANCELLED" or SENT_BY_SERVER in (now["message"] or ""))
        last = next(sent, None)
        if not last or last["parameters"]["subject"] != subject:
            return "new"
        return "" if last["state"]["type"] == "RUNNING" else "repeated"

    return poll_until(look, 2 * sum(AGAIN_SECONDS), _POLL_SECONDS) == "repeated"
