"""Prove a past incident again from its store alone, or list the incidents of a store."""

from typing import Any, Final

from prefect import flow
from prefect.client.schemas.objects import State

from flows.fields import AnyIncidentId, BlockName
from tasks.audit.report import ENDINGS
from tasks.audit.tasks import audit_incident, list_incidents, show
from tasks.custody.incident.ending import LISTED
from tasks.runtime.flow_run import make_state

_SHOW_SECONDS: Final = 10.0


@flow(name="audit", flow_run_name="audit {store}", persist_result=False)
def audit(
    store: BlockName,
    incident_id: AnyIncidentId | None = None,
    allowed_signers: str = "",
    tsa_roots: str = "",
    deep: bool = False,  # noqa: FBT001, FBT002  the form has a switch for it
) -> State[Any]:
    """Prove an incident again from its store alone; Completed only if all of it is proven. Without an id, list them.

    保管先だけから過去のインシデントを検証します。ID を省くと一覧を表示します。

    Args:
        store: Name of the Evidence Store block that holds it. 保全先の Evidence Store ブロック名。
        incident_id: IR-… of the incident, or FL-… of a fleet's; all are listed if left out. 対象のインシデント ID。
        allowed_signers: Who may sign, as lines of ssh-keygen's allowed_signers file. 署名者(allowed_signers の内容)。
        tsa_roots: Root certificates of time-stamp authorities, in PEM. 信頼するタイムスタンプ局のルート証明書。
        deep: Read every byte back and hash it, instead of asking the store for its digests. 全バイトを読み戻して照合。
    """
    if incident_id is None:
        held, fleets = list_incidents(store)
        summary = f"{len(held)} incidents; see the artifact 'incidents'"
        return make_state(LISTED, f"{summary}; {len(fleets)} fleets: the artifact 'fleets'" if fleets else summary)
    found = audit_incident(store, incident_id, allowed_signers, tsa_roots, deep=deep, return_state=True)
    result: Any = found.result(raise_on_failure=False)
    if isinstance(result, BaseException):
        raise result
    show.submit(result).wait(timeout=_SHOW_SECONDS)
    message = f"{result.incident}: {result.summary}. The incident's own verdict: {result.verdict}"
    return make_state(ENDINGS[result.word], message)
