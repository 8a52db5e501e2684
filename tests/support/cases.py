"""Programs under a user and, where wanted, in a control group of their own: they are counted by that user alone."""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tasks.drill.sample_workload import every_process
from tasks.host.cgroup.group import ControlGroup, Hierarchy
from tests.support.accounts import new_user
from tests.support.workloads import wait_until

HIERARCHY = Hierarchy.find()
PATTERN = "def beat"
_NUMBERS = itertools.count()

# A root process adopts and reaps what is orphaned, and starts the program as the user, in the group and the root.
KEEP = """
import ctypes, os, signal, sys, threading, time
group, user, sign, root = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[5]
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
sign = os.open(sign, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
end = time.monotonic() + 300
def beat(): os.write(sign, b".") if time.monotonic() < end else os._exit(0)
signal.alarm(310)
if os.fork() == 0:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if group: open(group + "/cgroup.procs", "w").write("0")
    os.setsid(); os.chdir(root); os.setgroups([]); os.setgid(user); os.setuid(user)
    exec(sys.argv[4])
    os._exit(0)
os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", "import signal; signal.pause()"])
"""
# Its parent ends at once, and it takes other words than the program's: what descends from the process that evacuates
# would be that one's own, and what matches would be the workload's.
BESIDE = """
import subprocess, sys
print(subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, start_new_session=True).pid)
"""
CHAIN = """
while True:
    if os.fork(): os._exit(0)
    beat(); time.sleep(0.001)
"""
FAMILY = """
for _ in range(3):
    if os.fork() == 0: break
while True:
    beat(); time.sleep(0.005)
"""
HEADLESS = """
def compute():
    while True: beat(); time.sleep(0.005)
threading.Thread(target=compute).start()
ctypes.CDLL(None).syscall(60, 0)
"""


class Case:
    """A program that tells by a growing file that it runs. Everything of its user ends with it."""

    def __init__(self, root: Path, program: str, group: ControlGroup | None = None, *, apart: bool = False) -> None:
        """Start it in this folder, and wait until it runs. `apart` makes it nobody's child: a guard may freeze it."""
        self.user = new_user()
        self.sign = root.parent / f"sign-{self.user}"
        place = str(group.place) if group else ""
        python = [sys.executable, "-I", "-S", "-c"]
        words = [*python, KEEP, place, str(self.user), str(self.sign), program, str(root)]
        if apart:
            self.keeper = psutil.Process(int(subprocess.check_output([*python, BESIDE, *words], cwd="/")))
        else:
            self.keeper = psutil.Popen(words, start_new_session=True, cwd="/")
        wait_until(self.runs, what="a sign of life")

    def runs(self) -> bool:
        """Whether the file grows, counted without any look at processes."""
        before = self.size()
        time.sleep(0.2)
        return self.size() > before

    def goes_on(self) -> bool:
        """The same, waited for: a busy machine gives it its turn later. Raises AssertionError if it stands."""
        before = self.size()
        try:
            wait_until(lambda: self.size() > before, what="a sign of life")
        except AssertionError as error:
            raise AssertionError(f"{error}: {[(each.pid, each.status()) for each in self.living()]}") from error
        return True

    def size(self) -> int:
        """How far it came."""
        return self.sign.stat().st_size if self.sign.exists() else 0

    def states(self) -> set[str]:
        """The states of all their threads that are no zombies."""
        stats = [stat for each in self.living() for stat in Path(f"/proc/{each.pid}/task").glob("*/stat")]
        return {stat.read_text().rpartition(")")[2].split()[0] for stat in stats} - {"Z", "X"}

    def living(self) -> list[psutil.Process]:
        """Whoever of this user is there and no zombie."""
        return [each for each in every_process() if _is_alive(each, self.user)]

    def group(self, pid: int) -> str:
        """The control group of one of its processes, by another thread than the main one where it has any."""
        threads = Path(f"/proc/{pid}/task").iterdir()
        lines = "".join((thread / "cgroup").read_text() for thread in threads if thread.name != str(pid))
        lines = lines or Path(f"/proc/{pid}/cgroup").read_text()
        return next(line[3:] for line in lines.splitlines() if line.startswith("0::"))

    def end(self) -> None:
        """The kernel ends all of a user's processes at once, for one that is this user."""
        code = f"import os; os.setgroups([]); os.setgid({self.user}); os.setuid({self.user}); os.kill(-1, 9)"
        for _ in range(3):
            subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
        self.keeper.kill()
        self.keeper.wait()


def _is_alive(process: psutil.Process, user: int) -> bool:
    """Whether one of its threads is no zombie: the main one may have exited."""
    try:
        threads = Path(f"/proc/{process.pid}/task").iterdir() if process.uids().real == user else ()
        return any((thread / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX" for thread in threads)
    except (OSError, psutil.NoSuchProcess):
        return False


def new_group() -> Iterator[ControlGroup]:
    """A group for a test, which is thawed and removed at its end."""
    assert HIERARCHY
    group = ControlGroup(HIERARCHY.place / f"test-{os.getpid()}-{next(_NUMBERS)}")
    assert not group.make()
    yield group
    group.thaw()
    wait_until(lambda: not group.remove(), what="an empty group")


def path_below(group: ControlGroup) -> str:
    """What the kernel calls it."""
    assert HIERARCHY
    return f"{HIERARCHY.root.rstrip('/')}/{group.place.relative_to(HIERARCHY.place)}"
