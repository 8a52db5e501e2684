"""Thaw a frozen workload without a Prefect server."""

from pathlib import Path

from blocks.workload import Workload
from tasks.cli.next_step import Called
from tasks.cli.status import look
from tasks.cli.uncordon import no_run_at_work, thaw_remaining
from tasks.containment.release.thaw import thaw
from tasks.custody.containment.thaw import Thawed
from tasks.custody.errors import Refused
from tasks.custody.incident.commands import by_hand
from tasks.custody.incident.description import place
from tasks.custody.incident.exit_codes import EXIT_CODES, INCOMPLETE
from tasks.custody.incident.verdict import Word
from tasks.custody.visible import say
from tasks.host.host import LinuxHost
from tasks.incident.current import unfinished_incident
from tasks.incident.directory import base_of
from tasks.incident.layout import EARLY
from tasks.prefect_side.local_config import LocalConfig, using_local_config
from tasks.preflight.open_incident import Opened
from tasks.preflight.reopen import Reopening, reopen
from tasks.preflight.requirements import require_here
from tasks.record.final_state import final_state
from tasks.record.thawed import build_thaw_content
from tasks.record.write import Record, record
from tasks.runtime.actor import BY_HAND
from tasks.runtime.context import RunContext
from tasks.runtime.step import StepRunner


def thaw_by_hand(text: str, reason: str = "") -> int:
    """Thaw the workload; return 0 if all goes on as it was, else the exit code of the state. Raises EvacuationError.

    Where no incident is open, this is what a run has frozen that died before it opened one. The record goes to the
    store of the same file, if it has exactly one; else it stays on this host.
    """
    from prefect.settings import get_current_settings

    from blocks.file import store_given, workload_given

    file, named = place(text)
    name, workload = workload_given(Path(file), named)
    called = Called(name, text)
    if lines := _thaw_early(workload):
        say(*lines)
        return _stands(workload, called, 0)
    try:
        store, fields = store_given(Path(file))
    except Refused:
        store, fields = "none", {}
        say(f"{file} has no store, or several: the record stays on this host", error=True)
    with by_hand(text, ""), using_local_config(LocalConfig(workload, fields, get_current_settings())):
        opened = reopen.fn(Reopening(name, store, None, "", BY_HAND, purpose="thaw", reason=reason))
        if not isinstance(opened, Opened):
            say(opened.summary)
            return _stands(workload, called, 0)
        try:
            code = _let_go(opened.context, stored=bool(fields))
        finally:
            opened.context.close()
    return _stands(workload, called, code)


def _thaw_early(workload: Workload) -> list[str]:
    """Thaw what a run has frozen that died before it opened an incident; return what was done, empty if there is none.

    An open incident takes over what its next start has left, and its thaw lets that go too.
    """
    base = base_of(workload)
    if not (base / EARLY).exists() or unfinished_incident(workload):
        return []
    require_here(workload)
    with no_run_at_work(base, "thaw"):
        if unfinished_incident(workload):  # a run has opened one meanwhile, and is gone
            return []
        return list(thaw_remaining(base / EARLY, workload, _host(workload)))


def _stands(workload: Workload, called: Called, code: int) -> int:
    """Print how the workload stands; return the code, which is not 0 while anything of it stands frozen by us."""
    stands = look(workload, _host(workload), called)
    say(*(f"  {line}" for line in stands.lines()))
    why = stands.why_not_as_it_was
    if not code and why:
        code = INCOMPLETE
        say(f"  exit      {code}: {why}")
    return code


def _host(workload: Workload) -> LinuxHost:
    return LinuxHost(workload.api_port, root=workload.root)


def _let_go(context: RunContext, *, stored: bool) -> int:
    """Run the flow's steps as plain functions; print how it ended, and return the exit code.

    `stored` says whether there is a store for the record: without one, the record's absence there is no loss.
    """
    thawed = thaw.fn(context).result(raise_on_failure=False)
    content = build_thaw_content(StepRunner(context), thawed if isinstance(thawed, Thawed) else str(thawed))
    recorded = record.fn(context, content).result(raise_on_failure=False)
    state = final_state(context, content.verdict, recorded if isinstance(recorded, Record) else str(recorded), None)
    say(f"{state.name}: {state.message}")
    complete = content.verdict.word is Word.THAWED and not content.verdict.missing
    return 0 if complete and not stored else EXIT_CODES[str(state.name)]
