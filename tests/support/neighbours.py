"""Programs that share a host, and often a root, with a workload and are none of it: what was done to them is seen.

Each is started on a terminal of its own by a keeper, its parent, whom the kernel tells when it was stopped and when it
went on: who was frozen for a moment only is found out too.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from tests.support.accounts import Account
from tests.support.environments import furnish
from tests.support.workloads import wait_until

_KEEPER: Final = """
import json, os, pty, select, sys
told, command, folder = json.load(open(sys.argv[1]))
pid, terminal = pty.fork()
if pid == 0:
    os.chdir(folder)
    os.execvp(command[0], command)
log = open(told, "a", buffering=1)
while True:
    if select.select([terminal], [], [], 0.02)[0]:
        try:
            os.read(terminal, 65536)
        except OSError:
            pass
    who, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
    if who:
        print(status, file=log)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            break
"""

_NOTING: Final = """
import os, signal, sys, time
def note(number, _):
    os.write(notes, f"{number}\\n".encode())
notes = os.open(PLACE, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, note)
"""
"""Notes each signal that it gets, in a file of the account's."""

_NOBODY: Final = 65534
_ORDERS: Final = ("keeper.py", "orders.json")

_SHIPPER: Final = f"""{_NOTING.replace("PLACE", "os.environ['HOME'] + '/signals'")}
registry = open("logs/.registry", "w")
shipped = open("logs/train-20260101_000000.log")
while True:
    registry.write(str(len(shipped.read())))
    registry.flush()
    time.sleep(0.05)
"""

_OTHER: Final = f"""{_NOTING.replace("PLACE", "'signals'")}
for _ in range(2):
    if os.fork() == 0:
        break
while True:
    time.sleep(0.05)
"""

_SHELL: Final = "set -m; sleep 3600 & kill -STOP $!; while :; do read -r -t 3600 line; done"


@dataclass(frozen=True)
class Neighbour:
    """A program beside the workload, in its root unless it has a root of its own.

    ROOT and HOME in `command` are the workload's root and the account's folder, PYTHON is our interpreter. It is there
    when it has so many `processes`, one that `runs` this, and a file that `shows` matches. `program` of the machine is
    what it needs, `database` the folder of one that is made for it, and `bystanders` the block's own word for it, where
    a fact ties it to the workload. One that is `unnamed` is in no list of ours, and in none of the block's.
    """

    name: str
    command: Sequence[str]
    processes: int = 1
    program: str = ""
    bystanders: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    shows: str = ""
    own_root: bool = False
    requirements: str = ""
    database: str = ""
    soak: bool = False
    unnamed: bool = False
    runs: str = ""


# Debian keeps the programs of each version apart.
_NEWEST: Final = max(
    Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name), default=Path("/postgresql")
)
POSTGRES: Final = str(_NEWEST / "postgres")
_SERVER: Final = f'exec {POSTGRES} -D database -k "$TMPDIR" -c listen_addresses= -c autovacuum=off'
_REACHED: Final = '-h "$TMPDIR" -U postgres'
_CLIENT: Final = (
    f"(cd; {_SERVER}) & "
    f"until {_NEWEST}/pg_isready -q {_REACHED}; do sleep 0.05; done; "
    f'exec {_NEWEST}/psql -X -L "HOME/typed" {_REACHED} postgres'
)

LOG: Final = "logs/train-20260101_000000.log"
NEIGHBOURS: Final = (
    Neighbour(
        "vim",
        ["vim", "-N", "-u", "NONE", "src/notes.py"],
        program="vim",
        files={"src/notes.py": "a\n"},
        shows="src/.notes.py.swp",
    ),
    Neighbour("nano", ["nano", "src/train.py"], program="nano"),
    Neighbour("a shell with a stopped job", ["bash", "-c", _SHELL], 2),
    Neighbour(
        "tmux",
        ["tmux", "-S", "HOME/socket", "-f", "/dev/null", "new-session", f"exec tail -F {LOG}"],
        3,
        program="tmux",
        runs="tail -F",
    ),
    Neighbour(
        "rsync", ["rsync", "-a", "--bwlimit=1", "./src/", "HOME/copy/"], 3, "rsync", files={"src/big": "x" * 300_000}
    ),
    Neighbour("a log shipper", ["PYTHON", "-u", "HOME/shipper.py"], 1, "", r"/shipper\.py$", shows="logs/.registry"),
    Neighbour(
        "VS Code's server",
        ["node", "-e", "setInterval(() => {}, 1000)", "server-main.js", "--start-server"],
        program="node",
        unnamed=True,
    ),
    Neighbour(
        "PostgreSQL",
        ["sh", "-c", _SERVER],
        5,
        program=POSTGRES,
        bystanders=r"^(\S*/)?postgres\b",
        database="database",
        runs="postgres: logical replication launcher",
    ),
    Neighbour(
        "psql",
        ["sh", "-c", _CLIENT],
        7,
        program=POSTGRES,
        shows="HOME/typed",
        database="HOME/database",
    ),
    Neighbour(
        "another workload",
        ["venv/bin/python", "-u", "src/train.py", "--dataset", "builtin", "--mode", "full"],
        3,
        files={"src/train.py": _OTHER},
        shows="signals",
        own_root=True,
    ),
    Neighbour(
        "Jupyter",
        ["HOME/venv/bin/jupyter-server", "--no-browser", "--port=0"],
        bystanders="jupyter",
        shows="HOME/.local/share/jupyter/runtime/jpserver-*.json",
        requirements="strangers-soak",
        soak=True,
    ),
)


@dataclass(frozen=True)
class Seen:
    """A process as it was at one moment, found without any code of the product."""

    start: float
    stands: bool
    folder: str
    command: str


class Beside:
    """A neighbour at work under an account of its own, and how it was before anything was evacuated."""

    def __init__(self, neighbour: Neighbour, root: Path, folder: Path) -> None:
        """Write what it needs."""
        self.neighbour, self.account, self._told = neighbour, Account(folder), folder / "told"
        self.where = folder / "root" if neighbour.own_root else root
        self.before = dict[int, Seen]()
        self._prepare(root)

    def _prepare(self, root: Path) -> None:
        folder, neighbour = self.account.folder, self.neighbour
        for name, text in neighbour.files.items():
            path = self.where / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            self.account.give(path)
        if neighbour.own_root or neighbour.requirements:
            furnish(self.where if neighbour.own_root else folder, neighbour.requirements)
            self.where.chmod(0o777)
        (folder / "shipper.py").write_text(_SHIPPER)
        (folder / "keeper.py").write_text(_KEEPER)
        if neighbour.database:
            _, at_home, name = neighbour.database.rpartition("HOME/")
            lay(folder / name if at_home else self.where / name, self.account)
        places = {"ROOT": str(root), "HOME": str(folder), "PYTHON": sys.executable}
        command = [_placed(word, places) for word in neighbour.command]
        (folder / "orders.json").write_text(json.dumps([str(self._told), command, str(self.where)]))

    def start(self) -> None:
        """Start it."""
        self.account.start([sys.executable, *(str(self.account.folder / name) for name in _ORDERS)], Path("/"))

    def settle(self) -> None:
        """Wait until it is there, and note how it is then."""
        try:
            wait_until(self._there, 60, self.neighbour.name)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.account.told()}") from error
        wait_until(self._rests, what=f"{self.neighbour.name} at rest")

    def _rests(self) -> bool:
        """What has only begun to become another program is not at rest."""
        last, self.before = self.before, self.seen()
        return last == self.before and all(each.command and "sh -c exec" not in each.command for each in last.values())

    def _there(self) -> bool:
        _, at_home, name = self.neighbour.shows.rpartition("HOME/")
        place = self.account.folder if at_home else self.where
        shown = not self.neighbour.shows or any(place.glob(name))
        seen = self.seen()
        runs = any(each.command.startswith(self.neighbour.runs) for each in seen.values())
        return shown and runs and len(seen) >= self.neighbour.processes

    def seen(self) -> dict[int, Seen]:
        """Its processes; not the keeper."""
        found = {}
        for pid, process in self.account.processes().items():
            with suppress(psutil.Error):
                stands, command = process.status() == psutil.STATUS_STOPPED, " ".join(process.cmdline())
                if "keeper.py" not in command:
                    found[pid] = Seen(process.create_time(), stands, process.cwd(), command)
        return found

    def signals(self) -> list[str]:
        """What the kernel told its parent of it, and what it was sent itself, so far as it notes that."""
        notes = [path for path in (self.where / "signals", self.account.folder / "signals") if path.exists()]
        return [line for path in (self._told, *notes) if path.exists() for line in path.read_text().splitlines()]


def lay(database: Path, account: Account) -> None:
    """Make an account's database as somebody who has a name: its maker wants one, its server does not."""
    database.mkdir()
    os.chown(database, _NOBODY, _NOBODY)
    somebody = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
    ways = ["--username=postgres", "--auth=trust", "--no-sync", "--no-locale"]
    command = [*somebody, str(_NEWEST / "initdb"), *ways, "-D", str(database)]
    subprocess.run(command, cwd="/", stdout=subprocess.DEVNULL, check=True)
    for path in (database, *database.rglob("*")):
        account.give(path)


def _placed(word: str, places: Mapping[str, str]) -> str:
    for name, place in places.items():
        word = word.replace(name, place)
    return word


def lacking(neighbour: Neighbour) -> str:
    """What this machine lacks for it; empty if nothing."""
    return "" if not neighbour.program or shutil.which(neighbour.program) else neighbour.program
