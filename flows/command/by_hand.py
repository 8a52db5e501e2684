"""Run a flow without a Prefect server, with the blocks of a file: `evacuation run|plan|recover|answer|postmortem`.

The server may be down in an emergency. The workload is frozen first (flows/command/freeze_before_import.py); then the
normal flow runs, and this process itself answers what Prefect's client asks. An incident can be carried on by worker or
command line, whichever began it.
"""

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from flows.command.phases import phases
from flows.engine import PATIENCE, load
from tasks.acquisition.remainder import describe_not_taken
from tasks.custody.errors import EvacuationError
from tasks.custody.evidence.keys import VERDICT
from tasks.custody.incident.commands import by_hand
from tasks.custody.incident.description import place
from tasks.custody.incident.exit_codes import EXIT_CODES, NOT_AS_WANTED
from tasks.custody.incident.incident import parse_id
from tasks.custody.incident.timeline import FIGURES, requests, took
from tasks.host.host import LinuxHost
from tasks.incident.layout import CUSTODY_LOG, RECORD, closings
from tasks.prestart.freeze import defer_signals
from tasks.system.files.atomic_files import caught_lines, why_not_ours

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

    from tasks.prefect_side.local_config import LocalConfig

T = TypeVar("T")
logger = logging.getLogger(__name__)

_SETTINGS: Final = {
    "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,tasks,blocks",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "DO_NOT_TRACK": "1",  # on a terminal Prefect tells its makers of a first run, and says so amidst ours
}


def run_by_hand(verb: str, workload: str, store: str, parameters: Mapping[str, Any], *, as_json: bool) -> int:
    """Run the flow of a verb (see above) with these parameters; return the exit code of its state.

    Raises EvacuationError; a malformed incident id is refused before Prefect is imported.
    """
    if parameters.get("incident_id"):
        parse_id(parameters["incident_id"])

    def body(names: dict[str, str], known: "LocalConfig") -> int:
        name = verb if verb in {"answer", "postmortem", "recover"} else "evacuate"
        flow: Any = getattr(import_module(f"flows.{name}"), name)
        flow.serialize_parameters = dict  # they are plain, and nobody asks for them: Prefect would import FastAPI
        with by_hand(workload, store):
            state = flow(**names, **parameters, return_state=True)
        return _print_result(verb, state, known, names, (workload, store), as_json=as_json)

    with phases():
        return without_server(lambda: _load_blocks(workload, store), body)


def without_server(
    load_blocks: Callable[[], tuple[dict[str, str], "LocalConfig"]], body: Callable[[dict[str, str], "LocalConfig"], T]
) -> T:
    """Run the body, which may run flows, with the names and blocks that `given` returns."""
    for name, value in {**PATIENCE, **_SETTINGS}.items():
        os.environ.setdefault(name, value)
    with defer_signals():  # an import that is broken off leaves tracebacks of what it was in, and may go on without
        load()
    names, known = load_blocks()
    with _serve_locally(known):
        return body(names, known)


def _load_blocks(workload_text: str, store_text: str) -> tuple[dict[str, str], "LocalConfig"]:
    from prefect.settings import get_current_settings

    from blocks.file import store_given, workload_given
    from tasks.prefect_side.local_config import LocalConfig

    file, name = place(workload_text)
    there, called = place(store_text or file)
    warn_of_others({Path(file), Path(there)})
    called_workload, workload = workload_given(Path(file), name)
    called_store, store = store_given(Path(there), called)
    return {"workload": called_workload, "store": called_store}, LocalConfig(workload, store, get_current_settings())


def warn_of_others(files: Iterable[Path]) -> None:
    """Warn of files that others than we and root may write: they say what is evacuated, and where to."""
    for file in files:
        if not file.is_dir() and (why := why_not_ours(file)):
            logger.warning("%s says what is evacuated and where to, and %s 他人が書き換えられるファイルです", file, why)


@contextmanager
def _serve_locally(known: "LocalConfig") -> Iterator[None]:
    from prefect.events.clients import NullEventsClient
    from prefect.events.worker import EventsWorker

    from tasks.prefect_side.local_config import asking, using_local_config
    from tasks.prefect_side.run_api import URL, RunApi, answering

    EventsWorker.set_client_override(NullEventsClient)  # nobody would hear them
    ours = known.settings.api.model_copy(update={"url": URL, "key": None, "auth_string": None})
    with answering(RunApi()), asking(ours), using_local_config(known):
        yield


def _print_result(  # noqa: PLR0913  all that it prints
    verb: str,
    state: "State[Any]",
    known: "LocalConfig",
    names: Mapping[str, str],
    files: tuple[str, str],
    *,
    as_json: bool,
) -> int:
    """Print the result, the workload's state and the next step; return the exit code."""
    from tasks.cli.next_step import Called
    from tasks.cli.output import show
    from tasks.cli.status import look

    if isinstance(reason := state.result(raise_on_failure=False), EvacuationError):
        raise reason
    dry = _dry_record(known, str(state.message)) if state.name == "DryRun" else None
    code = EXIT_CODES.get(str(state.name), EXIT_CODES["Failed"]) if dry is None else exit_code_of(dry)
    host = LinuxHost(known.workload.api_port, root=known.workload.root)
    stands = look(known.workload, host, Called(names["workload"], *files), has_ended=True)
    plan = _plan(dry) if dry else []
    records = {} if plan else _records_of(known, state)
    kept = _evidence_lines(known, records)
    figures = _figures(records, state) if verb == "run" else {}
    seconds = [f"took      {duration} 所要秒数"] if (duration := took(figures, figures.get("runs") or 1)) else []
    more = (*plan, *kept, *seconds, *stands.lines(), f"exit      {code}")
    lines = [f"{state.name}: {state.message}", *(f"  {line}" for line in more)]
    data = {"state": state.name, "message": state.message, "exit_code": code, "plan": plan, "status": asdict(stands)}
    then = " ".join([stands.next.words, *stands.next.commands[:1]])
    show(verb, lines, {"workload": names["workload"], **data, "next": then, **figures}, as_json=as_json)
    return code


def _records_of(known: "LocalConfig", state: "State[Any]") -> dict[Path, dict[str, Any]]:
    """Return the last closed record of the incident that a run's message begins with, by folder; empty without one."""
    from tasks.incident.directory import homes

    incident = str(state.message).partition(":")[0]
    last = {home: closings(home)[-1:] for home in homes(known.workload) if home.name == incident}
    return {home: json.loads(each[0].with_name(VERDICT).read_bytes()) if each else {} for home, each in last.items()}


def _figures(records: Mapping[Path, Mapping[str, Any]], state: "State[Any]") -> dict[str, Any]:
    """Return how long an incident took until this run's end, and by how many runs; each None without one."""
    for home, record in records.items():
        if record.get("run") == str(state.state_details.flow_run_id):
            return {"runs": requests(caught_lines(home / CUSTODY_LOG)), **{name: record.get(name) for name in FIGURES}}
    return dict.fromkeys(("runs", *FIGURES))


def _evidence_lines(known: "LocalConfig", records: Mapping[Path, Mapping[str, Any]]) -> list[str]:
    """Return where the evidence of an incident lies: on this host, and in the store as far as that was proven."""
    from blocks.store_fields import StoreFields

    store = StoreFields(**{name: known.store[name] for name in ("bucket", "prefix", "folder") if name in known.store})
    last = next(filter(None, records.values()), {})  # tells of what lies on the fallback disk too
    holding = [home for home in records if any(path.is_file() for path in home.rglob("*"))] or list(records)[:1]
    at, objects = f"{store.place}/incidents", {home: (records[home] or last).get("objects") or [] for home in holding}
    lines = [f"evidence  {home} 証跡{describe_stored(f'{at}/{home.name}', each)}" for home, each in objects.items()]
    return lines + ([f"not taken {rest} 未採取"] if (rest := describe_not_taken(*records)) else [])


def describe_stored(place: str, objects: Sequence[Mapping[str, Any]]) -> str:
    """Return how much of the evidence is proven to be at a place in the store, by its receipts."""
    proven = sum(bool(each["proven"] or each["beside"]) for each in objects)
    if not proven:
        return f"; nothing of it is proven to be in {place} 保全先は未確認"
    return f", and {place} 保全先{f' ({proven} of {len(objects)} objects proven)' * (proven < len(objects))}"


def _dry_record(known: "LocalConfig", message: str) -> Path:
    """Return the record of a dry run by its message, which begins with the id; it may be missing."""
    from tasks.incident.directory import find_home

    home = find_home(known.workload, message.partition(":")[0], dry_run=True)
    return next(iter(sorted(home.glob(f"{RECORD}/*"), reverse=True)), home)


def _plan(record: Path) -> list[str]:
    from tasks.record.dry_run_plan import PLAN_FILE

    return (record / PLAN_FILE).read_text().splitlines() if (record / PLAN_FILE).exists() else []


def exit_code_of(record: Path) -> int:
    """Return the exit code of a dry run by its record: 0 only if the real run would end Verified, whatever happens."""
    from tasks.custody.incident.verdict import Word

    try:
        verdict = json.loads((record / VERDICT).read_bytes())["verdict"]
    except FileNotFoundError:
        return NOT_AS_WANTED
    return EXIT_CODES["DryRun"] if verdict["word"] == Word.VERIFIED else NOT_AS_WANTED
