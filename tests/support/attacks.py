"""The attacks of the hostile account, class by class of SECURITY.md's rows on local accounts."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path
from typing import Final

from tasks.incident.layout import CAUGHT, CORDON, EARLY, OPEN, OWNER, PRIOR

PROGRAM: Final = Path(__file__).with_name("attacker.py").read_text()
TRAINED: Final = "import os, time\nwhile True:\n    time.sleep(0.05)\n"
RENAMED: Final = """
import ctypes, os
if os.fork() == 0:
    title = b"TITLE"
    words = open("/proc/self/stat").read().rpartition(")")[2].split()
    begin, end = int(words[45]), int(words[48])
    ctypes.memset(begin, 0, end - begin)
    ctypes.memmove(begin, title, len(title))
    ctypes.CDLL(None).prctl(15, title[:15], 0, 0, 0)
"""
IGNORING: Final = """
import signal
for number in {*range(1, 32)} - {9, 19}:
    signal.signal(number, signal.SIG_IGN)
"""
FORKING: Final = "import os, signal\nsignal.signal(signal.SIGCONT, lambda *_: os.fork())\n"
CHAIN: Final = "import os, time\nwhile True:\n    if os.fork(): os._exit(0)\n    time.sleep(0.001)\n"
WITH: Final = """
import os, sys
if "NAME" not in os.environ:
    os.environ["NAME"] = "VALUE".replace("ROOT", os.getcwd())
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
"""


@dataclass(frozen=True)
class Attack:
    """An attack of a class: words for the attacker's program, none if the training itself attacks.

    `source` is the training's own, `program` the name of a copy of Python that runs it. `inside`: the evidence lies in
    the root, where the account may rename it. `stands`: root stands in the root when it types the command. `dear`: it
    takes the machine longer than others.
    """

    kind: str
    name: str
    words: tuple[str, ...] = ()
    source: str = TRAINED
    program: str = ""
    inside: bool = False
    stands: bool = False
    dear: bool = False

    def __str__(self) -> str:
        """Its class and its name."""
        return f"{self.kind}: {self.name}"

    @property
    def is_training(self) -> bool:
        """Whether the training itself is another for it."""
        return bool(self.program) or self.source != TRAINED


def _paths() -> Iterator[Attack]:
    for what, then in product(("models", "logs", "src"), ("link", "file", "nothing")):
        yield Attack("path", f"for moments {then} is where {what} was", ("moved", what, then))
    yield Attack("path", "evidence is away for moments", ("own", "moved", "evidence", "nothing"), inside=True)
    yield Attack("path", "evidence is a folder of its own", ("own", "odd"), inside=True)
    yield Attack("path", "evidence is a file", ("evidence_is", "file"), inside=True)
    yield Attack("path", "a tree of 2000 levels", ("deep",))
    yield Attack("path", "odd names", ("odd",))


def _links() -> Iterator[Attack]:
    for what in ("models/evil.joblib", "logs/evil.log", "artifacts/evil.json", "requirements.txt"):
        yield Attack("link", f"{what} leads to a secret", ("link", what, "secret"))
    yield Attack("link", ".git leads to a folder of root's", ("link", ".git", "folder"))
    yield Attack("link", "a second name of a file of root's", ("link", "models/hard.joblib", "public", "hard"))
    for name in (OWNER, OPEN, CORDON, PRIOR, EARLY, CAUGHT, f".{OPEN}.new", f".{EARLY}.new", "dry-run"):
        what = f"evidence/{name} leads to a file of root's"
        yield Attack("link", what, ("own", "link_again", name), inside=True)
    yield Attack("link", "evidence leads to a folder of root's", ("evidence_is", "link"), inside=True)


def _locks() -> Iterator[Attack]:
    yield Attack("lock", "the run's lock is taken again and again", ("own", "lock_again"), inside=True)
    for what in ("folder", "pipe", "socket", "gone"):
        yield Attack("lock", f"the run's lock is a {what}", ("own", "owner_is", what), inside=True)
    for what in ("held", "folder", "link"):
        yield Attack("lock", f"the training lock is a {what}", ("training_lock_is", what))
    yield Attack("lock", "800 locks", ("many_locks",))
    yield Attack("lock", "leases on what is collected", ("leases",))


def _names() -> Iterator[Attack]:
    for program in ("prefect", "tmux", "sshd", "vim", "bash", "make", "cron", "systemd", "tail"):
        yield Attack("name", f"the training is called {program}", program=program)
    for title in ("prefect worker start", "python -m flows.engine", "dbus-daemon --system", "[kworker/0:1]"):
        yield Attack("name", f"its worker calls itself {title}", source=RENAMED.replace("TITLE", title) + TRAINED)


def _modules() -> Iterator[Attack]:
    for name in ("selectors", "json", "sitecustomize", "usercustomize", "prefect", "tasks/__init__", "flows/__init__"):
        yield Attack("module", f"{name}.py, and root stands there", ("module", name), stands=True)
    yield Attack("module", "a .pth file of its environment", ("site",))
    yield Attack("module", "a program in the settings of its repository", ("repository",))


def _environments() -> Iterator[Attack]:
    values = {"LD_PRELOAD": "ROOT/evil.so", "PYTHONPATH": "ROOT", "PYTHONSTARTUP": "ROOT/evil.py", "X": "y" * 99_000}
    for name, value in values.items():
        source = WITH.replace("NAME", name).replace("VALUE", value) + TRAINED
        yield Attack("environment", f"the training has {name}", ("module", "sitecustomize"), source=source)
    yield Attack("environment", "its interpreter is another program", ("interpreter",))


def _sockets() -> Iterator[Attack]:
    yield Attack("socket", "doors of guards to come", ("doors",))
    yield Attack("socket", "it listens beside the server", ("listeners",))
    yield Attack("socket", "it connects to whatever listens", ("connections",))


def _signals() -> Iterator[Attack]:
    yield Attack("signal", "it wakes the training", ("signals", "18"))
    yield Attack("signal", "it traces the training and swallows its stops", ("traces",))
    for what, source in {
        "ignores what it can": IGNORING,
        "forks when it goes on": FORKING,
        "is a chain": CHAIN,
    }.items():
        yield Attack("signal", f"the training {what}", source=source + TRAINED)


def _memory() -> Iterator[Attack]:
    for words in (
        ("in_memory", "40000", "folders"),
        ("in_memory", "100", "links"),
        ("forged_in_memory",),
    ):
        yield Attack("/dev/shm", " ".join(words).replace("_", " "), words)  # noqa: S108


def _apis() -> Iterator[Attack]:
    for kind in ("CANCELLED", "COMPLETED", "CRASHED"):
        yield Attack("API", f"every run is {kind}", ("ends_runs", kind))
    for what in ("flow_runs", "block_documents", "flows"):
        yield Attack("API", f"it deletes {what}", ("deletes", what))


def _records() -> Iterator[Attack]:
    for incident in ("../../x", "IR-20200101T000000Z"):
        yield Attack("record", f"{OPEN} names {incident}", ("own", "forged", OPEN, incident), inside=True)
    for name in (OWNER, CORDON, EARLY, CAUGHT, PRIOR):
        yield Attack("record", f"{name} names a process of root's", ("own", "forged", name), inside=True)
    for count in ("1", "5000"):
        yield Attack("record", f"forged incidents: {count}", ("own", "incidents", count), inside=True)
    yield Attack("record", "markers of 30 MB", ("own", "large"), inside=True)


def _looks() -> Iterator[Attack]:
    for what, count, processes in (
        ("descriptors", 20_000, 20),
        ("descriptors", 520_000, 40),
        ("mounts", 1000, 4),
        ("mounts", 30_000, 10),
        ("threads", 5000, 10),
    ):
        words = ("dear", what, str(count), str(processes))
        yield Attack("look", f"{count} {what} of {processes} processes", words, dear=count > 20_000)


ATTACKS: Final = {
    str(each): each
    for each in chain(
        *(_paths(), _links(), _locks(), _names(), _modules(), _environments()),
        *(_sockets(), _signals(), _memory(), _apis(), _records(), _looks()),
    )
}
