"""Run a flow without a Prefect server, with the blocks of a file: `evacuation run|plan|recover|answer|postmortem`.

The server may be down in an emergency. The workload is frozen first (flows/at_the_front.py); then the normal flow runs
on a server that lives as long as the run. An incident can be carried on by worker or command line, whichever
began it.
"""

import json
import logging
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from flows.engine import PATIENCE, load
from flows.phases import phases
from tasks.adapters.prefect_server import PrefectServer
from tasks.custody.errors import EvacuationError
from tasks.custody.evidence.keys import VERDICT
from tasks.custody.incident.commands import by_hand
from tasks.custody.incident.description import place
from tasks.custody.incident.exit_codes import EXIT_CODES
from tasks.custody.incident.timeline import FIGURES, took
from tasks.incident.layout import closings
from tasks.system.cancellation import await_result

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

    from tasks.adapters.local_config import LocalConfig

T = TypeVar("T")
logger = logging.getLogger(__name__)

_IN_MEMORY: Final = {
    "PREFECT_HOME": os.devnull,  # nothing can be created below it, not even by root
    "PREFECT_SERVER_DATABASE_CONNECTION_URL": (
        "sqlite+aiosqlite:///file::memory:?cache=shared&uri=true&check_same_thread=false"
    ),
    "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",
    "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
}
_LOGS: Final = {"PREFECT_LOGGING_EXTRA_LOGGERS": "flows,tasks,blocks", "PREFECT_LOGGING_TO_API_ENABLED": "false"}


class ShortLived(PrefectServer):
    """A server for one run that writes no file, because every folder may be full.

    It runs without UI and without background services, and answers nobody without its password.
    """

    def __init__(self) -> None:
        """Choose a port and a password, and allocate the log in memory."""
        super().__init__(Path("/"))
        self.auth = f"evacuation:{secrets.token_urlsafe(32)}"
        self.log = Path(f"/proc/{os.getpid()}/fd/{os.memfd_create(self.name)}")

    def command(self) -> Sequence[str]:
        """Return the server's command with its background services off, and tables that need no migrations."""
        words = ["server", "start", "--host", "127.0.0.1", "--no-services"]
        return [sys.executable, "-P", "-m", "tasks.adapters.memory_server", *words]

    def environment(self) -> Mapping[str, str]:
        """Return its environment with a database in memory, and without a home, a UI or Prefect's own block types."""
        return {**super().environment(), **_IN_MEMORY, "PREFECT_SERVER_API_AUTH_STRING": self.auth}


def run_by_hand(verb: str, workload: str, store: str, asked: Mapping[str, Any], *, as_json: bool) -> int:
    """Run the flow of a verb (see above) with these parameters; return the exit code of its state.

    Raises EvacuationError; a malformed incident id is refused before a server is started.
    """
    from tasks.custody.incident.incident import parse_id

    if asked.get("incident_id"):
        parse_id(asked["incident_id"])

    def body(names: dict[str, str], known: "LocalConfig") -> int:
        from flows.answer import answer
        from flows.evacuate import evacuate
        from flows.postmortem import postmortem
        from flows.recover import recover

        flow: Any = {"answer": answer, "recover": recover, "postmortem": postmortem}.get(verb, evacuate)
        with by_hand(workload, store):
            state = flow(**names, **asked, return_state=True)
        return _told(verb, state, known, names, (workload, store), as_json=as_json)

    with phases():
        return on_own_server(lambda: _given(workload, store), body)


def on_own_server(
    given: Callable[[], tuple[dict[str, str], "LocalConfig"]], body: Callable[[dict[str, str], "LocalConfig"], T]
) -> T:
    """Run the body on a server of its own, with the names and blocks that `given` returns.

    The server starts while this process imports Prefect: each takes seconds.
    """
    for name, value in {**PATIENCE, **_LOGS}.items():
        os.environ.setdefault(name, value)
    with ThreadPoolExecutor(1) as apart:
        server = ShortLived()
        coming = apart.submit(server.start)
        try:
            load()
            names, known = given()
            await_result(coming)
            with _served_by(server, known):
                return body(names, known)
        finally:
            server.stop()


def _given(workload_text: str, store_text: str) -> tuple[dict[str, str], "LocalConfig"]:
    from prefect.settings import get_current_settings

    from blocks.file import store_given, workload_given
    from tasks.adapters.local_config import LocalConfig

    file, name = place(workload_text)
    there, called = place(store_text or file)
    warn_of_others({Path(file), Path(there)})
    called_workload, workload = workload_given(Path(file), name)
    called_store, store = store_given(Path(there), called)
    return {"workload": called_workload, "store": called_store}, LocalConfig(workload, store, get_current_settings())


def warn_of_others(files: Iterable[Path]) -> None:
    """Warn of files that others than we and root may write: they say what is evacuated, and where to."""
    from tasks.system.atomic_files import why_not_ours

    for file in files:
        if not file.is_dir() and (why := why_not_ours(file)):
            logger.warning("%s says what is evacuated and where to, and %s 他人が書き換えられるファイルです", file, why)


@contextmanager
def _served_by(server: ShortLived, known: "LocalConfig") -> Iterator[None]:
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, PREFECT_API_URL, temporary_settings

    from tasks.adapters.local_config import using_local_config

    ours = {PREFECT_API_URL: server.api, PREFECT_API_KEY: None, PREFECT_API_AUTH_STRING: server.auth}
    with temporary_settings(ours), using_local_config(known):
        yield


def _told(  # noqa: PLR0913  what it is told of
    verb: str,
    state: "State[Any]",
    known: "LocalConfig",
    names: Mapping[str, str],
    files: tuple[str, str],
    *,
    as_json: bool,
) -> int:
    """Print the result, the workload's state and the next step; return the exit code."""
    from dataclasses import asdict

    from tasks.adapters.host import LinuxHost
    from tasks.cli.next_step import Called
    from tasks.cli.output import show
    from tasks.cli.status import look

    if isinstance(reason := state.result(raise_on_failure=False), EvacuationError):
        raise reason
    code = EXIT_CODES.get(str(state.name), EXIT_CODES["Failed"])
    stands = look(
        known.workload, LinuxHost(known.workload.api_port, root=known.workload.root), Called(names["workload"], *files)
    )
    plan = _plan(known, str(state.message)) if state.name == "DryRun" else []
    kept = [] if plan else _kept(known, str(state.message).partition(":")[0])
    figures = _figures(known, state) if verb == "run" else {}
    seconds = [f"took      {told} 所要秒数"] if (told := took(figures)) else []
    more = (*plan, *kept, *seconds, *stands.lines(), f"exit      {code}")
    lines = [f"{state.name}: {state.message}", *(f"  {line}" for line in more)]
    data = {"state": state.name, "message": state.message, "exit_code": code, "plan": plan, "status": asdict(stands)}
    typed = (line for line in stands.next.commands if not line.startswith("prefect "))
    then = " ".join([stands.next.words, *islice(typed, 1)])
    show(verb, lines, {"workload": names["workload"], **data, "next": then, **figures}, as_json=as_json)
    return code


def _figures(known: "LocalConfig", state: "State[Any]") -> dict[str, float | None]:
    """Return how long a run took, by the record that it has closed; each None without one."""
    from tasks.incident.directory import homes

    homes_of_it = (home for home in homes(known.workload) if home.name == str(state.message).partition(":")[0])
    for closing in (closing for home in homes_of_it for closing in closings(home)[-1:]):
        record = json.loads(closing.with_name(VERDICT).read_bytes())
        if record["run"] == str(state.state_details.flow_run_id):
            return {name: record.get(name) for name in FIGURES}
    return dict.fromkeys(FIGURES)


def _kept(known: "LocalConfig", incident: str) -> list[str]:
    """Return where the evidence of an incident lies, on this host and in the store."""
    from blocks.store_fields import StoreFields
    from tasks.incident.directory import homes

    store = StoreFields(**{name: known.store[name] for name in ("bucket", "prefix", "folder") if name in known.store})
    here = [home for home in homes(known.workload) if home.name == incident]
    return [f"evidence  {home} 証跡, and {store.place}/incidents/{incident} 保全先" for home in here]


def _plan(known: "LocalConfig", message: str) -> list[str]:
    from tasks.incident.directory import find_home
    from tasks.incident.layout import RECORD
    from tasks.record.dry_run_plan import PLAN_FILE

    home = find_home(known.workload, message.partition(":")[0], dry_run=True)
    plans = sorted(home.glob(f"{RECORD}/*/{PLAN_FILE}"))
    return plans[-1].read_text().splitlines() if plans else []
