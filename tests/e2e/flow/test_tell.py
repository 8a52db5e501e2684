"""A message as a run: tried again, each receiver by itself, once for one thing, and with no secret in what is left."""

import logging
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Crashed, Running

from flows import tell as module
from flows.tell import send, tell
from tasks.custody.incident.news import EVENT_CONTAINED, PEOPLE, SENT_BY_SERVER, topic
from tasks.people import send as notification
from tests.support.receivers import SECRET, MailServer, Webhook, serving

ENDED = "prefect.flow-run.Verified"


@pytest.fixture
def webhook(prefect: None) -> Iterator[Webhook]:  # noqa: ARG001  blocks are saved there
    """Saved as custom-webhook/tell, and as quick to give up as it can be."""
    with serving(Webhook()) as server:
        block = CustomWebhookNotificationBlock(
            name="tell",
            url="{{webhook}}",
            json_data={"text": "{{subject}}\n{{body}}"},
            secrets={"webhook": server.url},
            timeout=2.0,
        )
        block.save("tell", overwrite=True)
        yield server


@pytest.fixture
def mail(prefect: None) -> Iterator[MailServer]:  # noqa: ARG001
    """Saved as docs/triggers.md says."""
    with serving(MailServer()) as server:
        SlackWebhook(url=server.url).save("mail", overwrite=True)
        yield server


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two more attempts, at once."""
    monkeypatch.setattr(module, "send", send.with_options(retries=2, retry_delay_seconds=0))


def told(subject: str, body: str, event: str = "", to: tuple[str, ...] = ("custom-webhook/tell",)) -> State[Any]:
    return tell(subject, body, list(to), event, return_state=True)


@pytest.mark.usefixtures("quick")
def test_a_receiver_that_fails_is_asked_again_and_one_that_has_taken_it_is_not(
    webhook: Webhook, mail: MailServer
) -> None:
    webhook.answers, mail.refusals = [503, 429], 1
    state = told("Contained: 封じ込め", "body", to=("custom-webhook/tell", "slack-webhook/mail"))
    assert state.is_completed(), state.message
    assert (webhook.texts, mail.subjects) == (["Contained: 封じ込め\nbody"], ["Contained: 封じ込め"])
    assert webhook.asked == 3
    assert "told custom-webhook/tell at 20" in str(state.message)


def refusing(webhook: Webhook) -> None:
    webhook.shutdown()
    webhook.server_close()


def overloaded(webhook: Webhook) -> None:
    webhook.answers = [503] * 9


def slow(webhook: Webhook) -> None:
    webhook.open.clear()


@pytest.mark.sample(1)
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("fault", "why"), [(refusing, "ConnectError"), (overloaded, "HTTP 503"), (slow, "ReadTimeout")]
)
def test_what_nobody_took_is_a_failed_run_that_says_why_without_the_address(
    fault: Callable[[Webhook], None], why: str, webhook: Webhook, mail: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    fault(webhook)
    with caplog.at_level(logging.DEBUG):
        state = told("s", "b", to=("custom-webhook/tell", "slack-webhook/mail"))
    webhook.open.set()
    assert state.is_failed()
    assert f"NOT told custom-webhook/tell: {why}" in str(state.message)
    assert "told slack-webhook/mail" in str(state.message)
    assert mail.subjects == ["s"], "who has taken it is left in peace"
    assert SECRET not in str(state.message) + caplog.text


@pytest.mark.whole
def test_one_thing_is_told_once_and_a_change_again(webhook: Webhook) -> None:
    incident = f"IR-20260101T000000Z-{uuid4().hex[:6]}"
    contained, ended = ("Contained: a", f"{incident}: x", EVENT_CONTAINED), ("Partial: a", f"{incident}: y", ENDED)
    back, other = ("NotContained: a", *ended[1:]), ("Partial: a", f"{incident}-2: y", ENDED)
    for about in (contained, ended, contained, ended, back, ended, other):
        assert told(*about).is_completed()
    subjects = [text.partition("\n")[0] for text in webhook.texts]
    assert subjects == ["Contained: a", "Partial: a", "NotContained: a", "Partial: a", "Partial: a"]


@pytest.mark.usefixtures("quick")
def test_what_was_not_delivered_is_told_when_it_comes_again(webhook: Webhook) -> None:
    about = ("Verified: a", f"IR-20260101T000000Z-{uuid4().hex[:6]}: x", ENDED)
    webhook.answers = [503] * 3
    assert told(*about).is_failed()
    assert told(*about).is_completed()
    assert len(webhook.texts) == 1


def run_of(subject: str, body: str, state: State[Any]) -> UUID:
    """A run of that message, as far as others can see, in this state."""
    with get_client(sync_client=True) as client:
        asked = {"subject": subject, "body": body, "to": ["custom-webhook/tell"], "event": ENDED}
        run = client.create_flow_run(tell, parameters=asked, tags=[PEOPLE, f"about:{topic(ENDED, body)}"])
        client.set_flow_run_state(run.id, Running(), force=True)
        client.set_flow_run_state(run.id, state, force=True)
        return run.id


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("state", "sent"),
    [
        (Cancelled(message="by a person"), True),
        (Cancelled(message=f"No worker began within 30 s: {SENT_BY_SERVER}."), False),
        (Crashed(), True),
        (Completed(), False),
    ],
    ids=["cancelled by a person", "sent by the server", "crashed", "told"],
)
def test_a_message_counts_as_told_only_if_it_was(webhook: Webhook, state: State[Any], *, sent: bool) -> None:
    """That of a run which a person had cancelled counted."""
    about = ("Verified: a", f"IR-20260101T000000Z-{uuid4().hex[:6]}: x")
    run_of(*about, state)
    assert told(*about, ENDED).is_completed()
    assert len(webhook.texts) == sent


@pytest.mark.parametrize("sent", [True, False])
def test_a_message_that_is_being_sent_is_waited_for(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch, *, sent: bool
) -> None:
    about = ("Verified: a", f"IR-20260101T000000Z-{uuid4().hex[:6]}: x")
    run, waited = run_of(*about, Running()), list[float]()

    def wait(seconds: float) -> None:
        waited.append(seconds)
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run, Cancelled() if sent else Completed(), force=True)

    monkeypatch.setattr("tasks.system.polling.time.sleep", wait)
    assert told(*about, ENDED).is_completed()
    assert waited
    assert len(webhook.texts) == sent


def test_a_block_that_is_gone_or_no_notification_is_named(webhook: Webhook) -> None:  # noqa: ARG001  a server is there
    assert notification.send_by("custom-webhook/none", "s", "b") == "ValueError"
    with get_client(sync_client=True) as client:
        assert client.read_flow_runs(limit=1)
    assert notification.send_by("workload/none", "s", "b")


def test_a_run_can_be_found_by_what_it_is_about(webhook: Webhook) -> None:  # noqa: ARG001
    incident = f"FL-20260101T000000Z-lab-{uuid4().hex[:4]}"
    state = told("Silent: fleet lab", f"{incident}: x", ENDED)
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(UUID(str(state.state_details.flow_run_id)))
    assert f"about:{incident} ended" in run.tags
