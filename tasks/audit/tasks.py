"""Run the audit as Prefect tasks, show its result in the UI and set the run's state."""

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from tasks.audit.fleet import audit_by_id
from tasks.audit.list_incidents import fleets, holdings
from tasks.audit.report import markdown, rows
from tasks.custody.audit.finding import Audit
from tasks.custody.audit.signers import read_signers
from tasks.custody.store.timestamp import read_roots
from tasks.custody.visible import visible_rows
from tasks.prefect_side.saved_blocks import store_to_read
from tasks.runtime.step import step_without_incident


@step_without_incident("audit_incident", "audit {incident}", section="§6", retries=2, retry_delay_seconds=2.0)
def audit_incident(store: str, incident: str, allowed_signers: str, tsa_roots: str, *, deep: bool) -> State[Audit]:
    """Audit the incident in the store of this block; Failed, with the audit as data, unless all of it is proven."""
    signers = read_signers(allowed_signers) if allowed_signers.strip() else None
    roots = read_roots(tsa_roots) if tsa_roots.strip() else None
    found = audit_by_id(store_to_read(store), incident, signers, roots, deep=deep)
    return (Completed if found.is_complete else Failed)(message=found.summary, data=found)


@step_without_incident("list_incidents", "list the incidents", section="§6", retries=2, retry_delay_seconds=2.0)
def list_incidents(store: str) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return a row for each incident in the store and for each fleet's, and show them as tables in the UI."""
    opened = store_to_read(store).open()
    found, of_fleets = holdings(opened), fleets(opened)
    for key, listed in (("incidents", found), ("fleets", of_fleets)):
        table = visible_rows(listed) or [{"id": "none"}]
        create_table_artifact(table, key=key, description=f"{key.capitalize()} of the store 一覧")
    return found, of_fleets


@step_without_incident("show_audit", "show the audit", section="§6", retries=1)
def show(found: Audit) -> None:
    """Show the audit in the UI: the report, and a table of findings."""
    title = f"{found.incident}: {found.word}"
    create_markdown_artifact(markdown(found), key="audit", description=f"{title}: audit 監査")
    create_table_artifact(visible_rows(rows(found)), key="audit-findings", description=f"{title}: findings 指摘")
