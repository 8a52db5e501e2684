"""Run the evacuation without a Prefect server: `python -m flows.by_hand evacuation.toml [evacuation.toml]`.

The server may be the casualty. This freezes first, by the standard library alone, and then runs the same flow on a
server that lives as long as the run does, with the blocks of a file. It is the same incident as that of a worker:
either carries on what the other has begun.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from flows.engine import PATIENCE, load
from tasks.adapters.prefect_server import PrefectServer
from tasks.custody.errors import EvacuationError, Refused
from tasks.custody.incident.description import one, place, tables
from tasks.custody.visible import say
from tasks.prestart.freeze import freeze_described, thaw_again, uninterrupted
from tasks.system.cancellation import await_result
from tasks.system.managed_process import ManagedProcessError
from tasks.system.priority import give_way, take_priority

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

    from tasks.adapters.local_config import LocalConfig
    from tasks.cli.status import Called

T = TypeVar("T")

_IN_MEMORY: Final = {
    "PREFECT_HOME": os.devnull,  # nothing can be made below it, by root neither
    "PREFECT_SERVER_DATABASE_CONNECTION_URL": (
        "sqlite+aiosqlite:///file::memory:?cache=shared&uri=true&check_same_thread=false"
    ),
    "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
}
_LOGS: Final = {"PREFECT_LOGGING_EXTRA_LOGGERS": "flows,tasks,blocks", "PREFECT_LOGGING_TO_API_ENABLED": "false"}


class ShortLived(PrefectServer):
    """A server for one run that writes no file, because every folder may be full.

    Nobody looks at it, so it needs no UI, and none of what a server does by itself.
    """

    def __init__(self) -> None:
        """Choose a port, and take memory for the log."""
        super().__init__(Path("/"))
        self.log = Path(f"/proc/{os.getpid()}/fd/{os.memfd_create(self.name)}")

    def command(self) -> Sequence[str]:
        """As it is, without what works in the background."""
        return [*super().command(), "--no-services"]

    def environment(self) -> Mapping[str, str]:
        """The same, with a database in memory, and without a home, a UI or the types of Prefect's own blocks."""
        return {**super().environment(), **_IN_MEMORY}


def main(arguments: Sequence[str]) -> int:
    """Exit 0 only if the run is Completed; 2 if refused with nothing touched, 130 if interrupted before the run."""
    given = _parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    early = None
    try:
        take_priority()
        try:
            with uninterrupted():
                described = _described(given.workload)
                early = None if given.dry_run else freeze_described(described, given.incident_id)
            return _run(given)
        finally:
            if early:
                thaw_again(early)
    except (EvacuationError, ManagedProcessError) as error:
        say(error, error=True)
        return 2
    except KeyboardInterrupt:
        print("cancelled 中止: `make status` tells how the workload stands ワークロードの状態を確認", file=sys.stderr)
        return 130
    finally:
        give_way()  # the session's priority would stay with the operator's shell


def _interrupt(*_: object) -> NoReturn:
    """Once: a second signal must not keep what is frozen from being let go, or the server from ending."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows.by_hand", description=__doc__)
    parser.add_argument("workload", help="a TOML file with a [workload.NAME], or FILE:NAME where it has several")
    parser.add_argument("store", nargs="?", help="the same for a [store.NAME]; the workload's file if left out")
    parser.add_argument("--reason", default="", help="why, in a sentence")
    parser.add_argument("--incident", dest="incident_id", help="IR-… to carry that incident on")
    parser.add_argument("--policy", choices=("graceful", "kill"), default="graceful")
    parser.add_argument("--suspects", choices=("name", "include"), help="include: end them too")
    parser.add_argument("--dry-run", action="store_true", help="show what would be done; nothing stops")
    parser.add_argument("--recover", action="store_true", help="bring the API back after VERIFIED or PARTIAL")
    return parser


def _described(text: str) -> Mapping[str, Any]:
    """The fields of the workload as they stand in the file: what is wrong with them, the block says later."""
    file, name = place(text)
    try:
        found = tables(file, Path(file).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise Refused("a TOML file", f"{file}: {error}", "Start from examples/evacuation.toml.") from error
    return one(found, "workload", file, name)[1]


def _run(wanted: argparse.Namespace) -> int:
    def body(names: dict[str, str], known: "LocalConfig") -> int:
        from tasks.cli.status import Called

        called = Called(names["workload"], wanted.workload, wanted.store or "")
        return _told(_evacuate(names, wanted), known, called)

    return on_own_server(lambda: _given(wanted), body)


def on_own_server(
    given: Callable[[], tuple[dict[str, str], "LocalConfig"]], body: Callable[[dict[str, str], "LocalConfig"], T]
) -> T:
    """Run the body on a server that ends with it, with the names and the blocks that are given.

    The server comes up while we import: each takes seconds, and a machine has more than one processor.
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


def _given(wanted: argparse.Namespace) -> tuple[dict[str, str], "LocalConfig"]:
    from prefect.settings import get_current_settings

    from blocks.file import store_given, workload_given
    from tasks.adapters.local_config import LocalConfig

    (file, name), (there, called) = place(wanted.workload), place(wanted.store or place(wanted.workload)[0])
    called_workload, workload = workload_given(Path(file), name)
    called_store, store = store_given(Path(there), called)
    return {"workload": called_workload, "store": called_store}, LocalConfig(workload, store, get_current_settings())


@contextmanager
def _served_by(server: PrefectServer, known: "LocalConfig") -> Iterator[None]:
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, PREFECT_API_URL, temporary_settings

    from tasks.adapters.local_config import using_local_config

    ours = {PREFECT_API_URL: server.api, PREFECT_API_KEY: None, PREFECT_API_AUTH_STRING: None}
    with temporary_settings(ours), using_local_config(known):
        yield


def _evacuate(names: Mapping[str, str], wanted: argparse.Namespace) -> "State[Any]":
    from flows.evacuate import evacuate

    fields = ("reason", "incident_id", "policy", "suspects", "dry_run", "recover")
    asked = {name: getattr(wanted, name) for name in fields}
    return evacuate(**names, **asked, return_state=True)


def _told(state: "State[Any]", known: "LocalConfig", called: "Called") -> int:
    """What came out, how the workload stands, and what to do next."""
    from tasks.adapters.host import LinuxHost
    from tasks.cli.status import status
    from tasks.custody.incident.ending import DRY_RUN
    from tasks.incident.directory import find_home
    from tasks.incident.layout import RECORD
    from tasks.record.dry_run_plan import PLAN_FILE

    if isinstance(reason := state.result(raise_on_failure=False), EvacuationError):
        raise reason
    say(f"{state.name}: {state.message}")
    if state.name == DRY_RUN.name:
        home = find_home(known.workload, str(state.message).partition(":")[0], dry_run=True)
        for path in sorted(home.glob(f"{RECORD}/*/{PLAN_FILE}"))[-1:]:
            say(*(f"  {line}" for line in path.read_text().splitlines()))
    for line in status(known.workload, LinuxHost(known.workload.api_port), called):
        say(f"  {line}")
    return 0 if state.is_completed() else 1


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # Prefect would go on offering its events to the server that has ended with the run
