"""§8: show a run's artifacts in Prefect."""

from collections.abc import Sequence
from typing import Any, Final

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.context import TaskRunContext
from prefect.futures import PrefectFuture
from prefect.utilities.annotations import quote

from tasks.custody.visible import visible_rows
from tasks.record.write import Record
from tasks.runtime.artifact import PrefectArtifact
from tasks.runtime.step import after, result_or_reason, step_without_incident

_SHOW_SECONDS: Final = 10.0


@step_without_incident("show_record", "show the record", section="§8", retries=0)
def show(artifacts: Sequence[PrefectArtifact]) -> None:
    """Create the record's artifacts in the UI, in reverse reading order, so that the first can link to the others.

    The first is the flow run's own, which the UI shows before those of its steps. Keys belong to the incident: the UI
    shows its runs as versions of one page. Not retried: that would make another version of the pages that are there,
    and nothing waits for it.
    """
    references = dict[str, object]()
    for artifact in reversed(artifacts):
        put = _put_of_run if artifact is artifacts[0] else _put
        references[artifact.key] = put(artifact.linked_to(references))


def _put(artifact: PrefectArtifact) -> object:
    if isinstance(artifact.content, str):
        return create_markdown_artifact(artifact.content, key=artifact.key, description=artifact.description)
    return create_table_artifact(visible_rows(artifact.content), key=artifact.key, description=artifact.description)


def _put_of_run(artifact: PrefectArtifact) -> object:
    page = ArtifactCreate(key=artifact.key, type="markdown", description=artifact.description, data=artifact.content)
    page.flow_run_id = run.task_run.flow_run_id if (run := TaskRunContext.get()) else None
    with get_client(sync_client=True) as client:
        return client.create_artifact(page).id


def publish(recorded: PrefectFuture[Any]) -> Record | str:
    """Return the record, or why there is none, once it is shown in the UI.

    Best effort: waits 10 s at most for that, and a failure changes nothing.
    """
    result = result_or_reason(Record, recorded)
    if isinstance(result, Record):
        pages = show.submit(quote(result.artifacts), return_state=False, wait_for=after(recorded))
        pages.wait(timeout=_SHOW_SECONDS)
    return result
