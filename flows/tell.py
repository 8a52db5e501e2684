"""Tell people, as a run of its own: nothing waits for it, and what a receiver does not take is sent again.

See docs/adr/0036.
"""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from tasks.custody.incident.news import TELL, topic
from tasks.people.send import AGAIN_SECONDS, is_repeated, send_by
from tasks.runtime.flow_run import this_run
from tasks.runtime.step import end_of, step_without_incident


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
