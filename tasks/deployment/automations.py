"""Create the server's automations beside the alarms of prefect.yaml: find silent runs, and tell people."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import Final
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events import Posture
from prefect.events.actions import ActionTypes, ChangeFlowRunState, RunDeployment, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger
from prefect.events.schemas.events import ResourceSpecification

from tasks.custody.fleet.host_order import FLEET, OF_A_FLEET
from tasks.custody.incident.ending import ENDINGS
from tasks.custody.incident.news import EVENT_CONTAINED, PEOPLE, SENT_BY_SERVER
from tasks.readiness.people import LONG_RUNS, TELL_FLEETS, TELL_PEOPLE, UNBEGUN_RUNS, UNTAKEN_MESSAGES, UNTAKEN_RUNS
from tasks.readiness.server import SILENT_RUNS
from tasks.readiness.tell import EVENT as WORSE

HEARTBEAT: Final = "prefect.flow-run.heartbeat"
RUN_SILENT_SECONDS: Final = 90
"""Three heartbeats: prefect.yaml has each run send one in 30 s."""
ENDED: Final = frozenset(f"prefect.flow-run.{name}" for name in (*(each.name for each in ENDINGS), "TimedOut"))
"""Events of every state in which a run ends."""
RESTING: Final = frozenset(f"prefect.flow-run.{name}" for name in ("Suspended", "Paused", "AwaitingRetry"))
"""States without a process: a run that waits for a person or its next attempt is neither silent nor too long."""
_PENDING, _RUNNING = "prefect.flow-run.Pending", "prefect.flow-run.Running"
_BEGUN: Final = frozenset({_PENDING, _RUNNING})
_NO_NEWS: Final = ("Joined", "Finished", "DryRun", "Completed", "Cancelled", "Ready", "Degraded", "NotReady")
_WITHOUT_MESSAGE: Final = frozenset(f"prefect.flow-run.{name}" for name in _NO_NEWS)
MESSAGE_EVENTS: Final = (ENDED - _WITHOUT_MESSAGE) | {"prefect.flow-run.Paused", EVENT_CONTAINED, WORSE}
"""Events that people are told of: containment, ends of runs, an evacuation that waits for an answer, worse readiness.

Runs that joined, came after the end, rehearsed, looked as the night before, or were cancelled are left out.
"""
LONG_MINUTES: Final = 30.0
UNTAKEN_SECONDS: Final = 120
UNBEGUN_SECONDS: Final = 300
MESSAGE_SECONDS: Final = 30
"""A busy host begins a run within 15 s of its creation."""
_TAGS: Final = ("evacuation", "readiness")
_SILENT: Final = (
    f"No sign of life for {RUN_SILENT_SECONDS} s: the run, its worker or its host is gone. What it had contained stays "
    "frozen and cordoned. Run the deployment again with no incident_id: that carries the incident on. "
    "応答なし。同じデプロイメントを再実行すれば続行します。"
)


def silent_runs(seconds: float = RUN_SILENT_SECONDS) -> AutomationCore:
    """Return the automation that marks a run as Crashed if its heartbeats have stopped and it has not ended."""
    expected, every = {HEARTBEAT, *ENDED, *RESTING}, _runs(*_TAGS, PEOPLE, hosts=True)
    return AutomationCore(
        name=SILENT_RUNS,
        description="An evacuation or recovery whose process and worker both died is marked Crashed. 無応答の検知。",
        trigger=_overdue(HEARTBEAT, expected, timedelta(seconds=seconds), every),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=_SILENT)],
    )


def _runs(*tags: str, hosts: bool = False) -> dict[str, ResourceSpecification]:
    """Return what matches runs with one of the tags; those of a fleet's hosts, of which the fleet tells, if wanted."""
    names = {} if hosts else {"prefect.resource.name": [f"!*{OF_A_FLEET}{FLEET}*"]}
    tagged = [f"prefect.tag.{tag}" for tag in tags]
    return {
        "match": ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"], **names}),
        "match_related": ResourceSpecification({"prefect.resource.role": ["tag"], "prefect.resource.id": tagged}),
    }


def message_of_each_end(tell: UUID) -> AutomationCore:
    """Return the automation that tells people of each of `MESSAGE_EVENTS`. `tell` is the deployment of that flow."""
    return AutomationCore(
        name=TELL_PEOPLE,
        description="Whether a workload is contained, how an evacuation or recovery has ended. 結果の通知。",
        trigger=EventTrigger(**_runs(*_TAGS), expect=set(MESSAGE_EVENTS), posture=Posture.Reactive, threshold=1),
        actions=_telling(
            tell,
            "{{ event.resource['prefect.state-name'] }}",
            "{{ event.resource['prefect.state-message'] }}",
            "{{ event.resource.name }}",
        ),
    )


def message_of_cancelled_fleets(tell: UUID) -> AutomationCore:
    """Return the automation that tells people of a fleet whose worst host was cancelled.

    Its state has the name of a run's that a person cancelled, and another type.
    """
    runs = _runs(*_TAGS)
    failed = ResourceSpecification({**runs["match"].root, "prefect.state-type": [StateType.FAILED.value]})
    return AutomationCore(
        name=TELL_FLEETS,
        description="A fleet of which a host was cancelled has ended. 結果の通知。",
        trigger=EventTrigger(
            **{**runs, "match": failed}, expect={"prefect.flow-run.Cancelled"}, posture=Posture.Reactive, threshold=1
        ),
        actions=message_of_each_end(tell).actions,
    )


def long_runs(tell: UUID, minutes: float = LONG_MINUTES) -> AutomationCore:
    """Return the automation that tells people of a run that is alive and has not ended after `minutes`."""
    return AutomationCore(
        name=LONG_RUNS,
        description="An evacuation or recovery that has not ended in time. 長時間終了しない実行の通知。",
        trigger=_overdue(_RUNNING, ENDED | RESTING, timedelta(minutes=minutes), _runs(*_TAGS)),
        actions=_telling(
            tell,
            f"Not ended after {minutes:g} minutes",
            "Look at its last step and its progress. If nothing moves, cancel it and run the deployment "
            "again: the incident carries on. 終了していません。進捗を確認してください。",
        ),
    )


def untaken_runs(tell: UUID, seconds: float = UNTAKEN_SECONDS) -> AutomationCore:
    """Return the automation that tells people of a run that no worker takes: a doctor's, too, that never looks."""
    return AutomationCore(
        name=UNTAKEN_RUNS,
        description="An evacuation, recovery or nightly look that no worker has taken. ワーカー不在の通知。",
        trigger=_overdue("prefect.flow-run.Late", _BEGUN | ENDED | RESTING, timedelta(seconds=seconds), _runs(*_TAGS)),
        actions=_telling(
            tell,
            f"No worker in {seconds:g} s",
            "The host, its worker or its queue is gone or paused. Look at the host. "
            "ワーカーが応答していません。ホストを確認してください。",
        ),
    )


def unbegun_runs(tell: UUID, seconds: float = UNBEGUN_SECONDS) -> AutomationCore:
    """Return the automation that tells people of a run that a worker has taken, and whose process does not begin."""
    return AutomationCore(
        name=UNBEGUN_RUNS,
        description="A worker has taken a run, and nothing has followed. 開始しない実行の通知。",
        trigger=_overdue(_PENDING, {_RUNNING} | ENDED | RESTING, timedelta(seconds=seconds), _runs(*_TAGS)),
        actions=_telling(
            tell,
            f"Taken, and not begun after {seconds:g} s",
            "What its worker has frozen stays frozen. Look at the worker's log. If the worker is gone, cancel the run "
            "and run the deployment again. 凍結済みのまま開始していません。ワーカーを確認してください。",
        ),
    )


def _telling(tell: UUID, what: str, body: str, name: str = "{{ flow_run.name }}") -> list[ActionTypes]:
    """Return the action that tells what has happened to a run, with its name and the way to it."""
    message = {"subject": f"{what}: {name}", "body": f"{body}\n{{{{ flow_run | ui_url }}}}"}
    parameters = {**message, "event": "{{ event.event }}"}
    return [RunDeployment(source="selected", deployment_id=tell, parameters=parameters)]


def untaken_messages(blocks: Sequence[UUID], seconds: float = MESSAGE_SECONDS) -> AutomationCore:
    """Return the automation by which the server itself sends a message whose run does not begin, and cancels the run.

    That is for workers that are gone, also with the run in their hands, and for nothing else: the server's alarms wait
    while it sends, and what a receiver does not take is lost.
    """
    fields = "{{ flow_run.parameters['subject'] }}", "{{ flow_run.parameters['body'] }}"
    messages = [SendNotification(block_document_id=block, subject=fields[0], body=fields[1]) for block in blocks]
    reason = f"No worker began within {seconds:g} s: {SENT_BY_SERVER}. サーバーから直接送信しました。"
    return AutomationCore(
        name=UNTAKEN_MESSAGES,
        description="The server sends it by itself. ワーカー不在時の直接通知。",
        trigger=_overdue("prefect.flow-run.Scheduled", {_RUNNING, *ENDED}, timedelta(seconds=seconds), _runs(PEOPLE)),
        actions=[*messages, ChangeFlowRunState(state=StateType.CANCELLED, name="Cancelled", message=reason)],
    )


def _overdue(
    after: str, expect: AbstractSet[str], within: timedelta, runs: Mapping[str, ResourceSpecification]
) -> EventTrigger:
    """Return a trigger that fires for a run of which, after one event, none of the expected comes in time."""
    return EventTrigger(
        **runs,
        after={after},
        expect=set(expect),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=within,
    )


def put(client: SyncPrefectClient, automation: AutomationCore) -> None:
    """Create or update the automation of this name; whether it is enabled is not changed."""
    automations = client.read_automations_by_name(automation.name)
    if not automations:
        client.create_automation(automation)
    for existing in automations[:1]:
        client.update_automation(existing.id, automation.model_copy(update={"enabled": existing.enabled}))
    for existing in automations[1:]:
        client.delete_automation(existing.id)
