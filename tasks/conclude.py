"""How a run ends in Prefect: what it shows beside it, and the state that carries the verdict."""

from typing import Any, Final

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from tasks.case import Case
from tasks.custody.ending import (
    DRY_RUN,
    NOT_CONTAINED,
    NOT_RECOVERED,
    OF_WORD,
    PARTLY_RECOVERED,
    RECOVERED,
    UNVERIFIED,
    VERIFIED,
)
from tasks.custody.receipt import Recovery
from tasks.custody.verdict import Verdict, Word
from tasks.ended import ended
from tasks.leaf import Leaf
from tasks.leaves import PLAN
from tasks.progress import artifact_key
from tasks.record import Record
from tasks.wording import JAPANESE

_SHOW: Final = "§8 show the record"
_SHOW_SECONDS: Final = 10.0


@task(name=_SHOW, task_run_name=_SHOW, cache_policy=NO_CACHE, persist_result=False)
def show(case: Case) -> None:
    """Put what the record tells beside the run in the UI: what is read first goes last, to lead to all others.

    The keys are the incident's own, so that the UI shows one incident's runs as the versions of one page.
    """
    made = dict[str, object]()
    for leaf in reversed(case.leaves):
        made[leaf.key] = _put(leaf.leading_to(made))


def _put(leaf: Leaf) -> object:
    if isinstance(leaf.content, str):
        return create_markdown_artifact(leaf.content, key=leaf.key, description=leaf.about)
    return create_table_artifact([dict(row) for row in leaf.content], key=leaf.key, description=leaf.about)


def publish(case: Case) -> None:
    """Show the record in the UI, as a favour: nothing waits long for it, and its failure changes nothing."""
    future = show.submit(case)
    future.wait(timeout=_SHOW_SECONDS)


def final_state(case: Case, recorded: Record | None, recovery: Recovery | str | None) -> State[Any]:
    """The state that the run ends in. Only VERIFIED, with its record in the store, is Completed.

    `recovery` is None where none was wanted, and the reason where it failed.
    """
    if recorded is None:
        return ended(UNVERIFIED, f"{case.incident.id}: the record could not be written; see the log")
    verdict = recorded.verdict
    message = f"{case.incident.id}: {_in_both(verdict)}"
    if isinstance(recovery, str):
        message += f" The API did not come back: {recovery}"
    if case.dry_run:
        told = f"nothing was touched 予行のみ; see the artifact '{artifact_key(PLAN, case.incident.id)}'"
        return ended(DRY_RUN, f"{case.incident.id}: {told}")
    if verdict.word is not Word.VERIFIED:
        return ended(OF_WORD[verdict.word], message)
    return _unless_recovered(recorded, recovery, message) or ended(VERIFIED, message)


def recovered_state(case: Case, recorded: Record | None, recovery: Recovery | str) -> State[Any]:
    """The state that a recovery ends in. Only one that was proven whole, with its record in the store, is Completed."""
    told = recovery if isinstance(recovery, str) else recovery.told
    message = f"{case.incident.id}: {told}"
    if recorded is None:
        return ended(UNVERIFIED, f"{message} But the record could not be written; see the log")
    message += f" The incident is {_in_both(recorded.verdict)}"
    if recorded.verdict.word is Word.NOT_CONTAINED:
        return ended(NOT_CONTAINED, message)
    return _unless_recovered(recorded, recovery, message) or ended(RECOVERED, message)


def _in_both(verdict: Verdict) -> str:
    """The verdict in a line, its word in Japanese as well."""
    return verdict.message.replace(verdict.word, f"{verdict.word} {JAPANESE[verdict.word]}", 1)


def _unless_recovered(recorded: Record, recovery: Recovery | str | None, message: str) -> State[Any] | None:
    """What keeps a run from being Completed, beside the verdict."""
    if isinstance(recovery, str):
        return ended(NOT_RECOVERED, message)
    if not recorded.stored:
        return ended(UNVERIFIED, f"{message} But the record is {recorded.reason}")
    if recovery and not recovery.complete:
        return ended(PARTLY_RECOVERED, message)
    return None
