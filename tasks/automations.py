"""What the Prefect server does by itself, beside the alarms of prefect.yaml: find a run that has gone silent."""

from datetime import timedelta
from typing import Final

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events import Posture
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger
from prefect.events.schemas.events import ResourceSpecification

from tasks.custody.ending import ENDINGS

HEARTBEAT: Final = "prefect.flow-run.heartbeat"
SILENT_SECONDS: Final = 90
"""Three heartbeats; prefect.yaml has each run send one in 30 s."""
ENDED: Final = frozenset(f"prefect.flow-run.{name}" for name in (*(each.name for each in ENDINGS), "TimedOut"))
"""Every state in which a run ends, as an event."""
OF_AN_EVACUATION: Final = ResourceSpecification(
    {"prefect.resource.role": ["tag"], "prefect.resource.id": ["prefect.tag.evacuation"]}
)
_SILENT: Final = (
    f"No sign of life for {SILENT_SECONDS} s: the run, its worker or its host is gone. What it had contained stays "
    "frozen and cordoned. Run the deployment again with no incident_id: that carries the incident on. "
    "応答なし。同じデプロイメントを再実行すれば続行します。"
)


def silent_runs(seconds: float = SILENT_SECONDS) -> AutomationCore:
    """Mark as Crashed what has sent heartbeats and sends none any more, and has not ended."""
    return AutomationCore(
        name="evacuation: a run has gone silent",
        description="An evacuation or recovery whose process and worker both died is marked Crashed. 無応答の検知。",
        trigger=EventTrigger(
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=OF_AN_EVACUATION,
            after={HEARTBEAT},
            expect={HEARTBEAT, *ENDED},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=seconds),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=_SILENT)],
    )


def put(client: SyncPrefectClient, automation: AutomationCore) -> None:
    """Make it, or change the one of this name; whether it is enabled stays as a person has left it."""
    found = client.read_automations_by_name(automation.name)
    if not found:
        client.create_automation(automation)
    for index, there in enumerate(found):
        if index:
            client.delete_automation(there.id)
        else:
            client.update_automation(there.id, automation.model_copy(update={"enabled": there.enabled}))
