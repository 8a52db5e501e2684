"""Tell people, as a run of its own: nothing waits for it, and what a receiver does not take is sent again.

See docs/adr/0036.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from tasks.custody.incident.news import PEOPLE, SENT_BY_SERVER, TELL, topic
from tasks.people.send import send_by
from tasks.runtime.flow_run import this_run
from tasks.runtime.step import end_of, step_without_incident
from tasks.system.polling import poll_until

AGAIN_SECONDS: Final = [2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0]
"""Between two attempts: some nine minutes in all."""
_BEFORE: Final = ["COMPLETED", "RUNNING", "CANCELLED"]
"""Types of states of a message that was sent, is being sent, or may have been sent by the server."""
_SHOWN: Final = 50
_POLL_SECONDS: Final = 1.0


@step_without_incident("send", "send {block}", retries=len(AGAIN_SECONDS), retry_delay_seconds=AGAIN_SECONDS)
def send(block: str, subject: str, body: str) -> State[Any]:
    """Send by one block; Failed, which is tried again, if its receiver has not taken the message."""
    if why := send_by(block, subject, body):
        return Failed(message=f"{block}: {why}")
    return Completed(message=f"{block} at {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")


@flow(name=TELL, flow_run_name="tell {subject}", persist_result=False)
def tell(subject: str, body: str, to: Annotated[list[str], Field(min_length=1)], event: str = "") -> State[Any]:
    """Send a message by notification blocks; Completed only if every receiver has taken it.

    通知を送信します。受信者が受け取らなければ再送します。

    Args:
        subject: What has happened, in a few words. 件名。
        body: The rest. 本文。
        to: Saved notification blocks, each as TYPE/NAME. 通知ブロック名。
        event: Name of the event that it tells of; what is told already is not told again. 通知の元になったイベント名。
    """
    run = UUID(this_run()[0])
    with get_client(sync_client=True) as client:
        if (theme := topic(event, body)) and is_repeated(client, run, theme, subject):
            return Completed(message="told before, and of this nothing else since 通知済み")
    ends = [end_of(each) for each in [send.submit(block, subject, body) for block in to]]
    successes = "; ".join(f"told {end.message}" for end in ends if end.is_completed())
    lost = "; ".join(f"NOT told {end.message}" for end in ends if not end.is_completed())
    return Failed(message=f"{lost}. {successes}") if lost else Completed(message=successes)


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
