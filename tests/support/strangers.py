"""Workloads that we did not write, and those that hide: how each is started, and what is expected of containment."""

import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from blocks.workload import Workload
from tests.support.accounts import Account
from tests.support.environments import furnish
from tests.support.workloads import SmallWorkload, wait_until

TRAIN: Final = "src/train.py"
TRAINING: Final = f"venv/bin/python -u {TRAIN} --dataset TAG --mode full"
ENDED: Final = ""
INTERPRETER: Final = "the file that it was started by lies below the root"
WRITES: Final = "open for writing"
PASSING: Final = "came and went"
MARK: Final = "open(f'ready-{os.getpid()}', 'w').close()\n"
SPIN: Final = "while True:\n    time.sleep(0.05)\n"


@dataclass(frozen=True)
class Stranger:
    """A workload that somebody else wrote, or one that hides.

    `command` is typed in the root, and the block's pattern for it is `pattern`, as one would write it for that line;
    TAG in them is a word that no other test's training has: whose place may not be read counts by its line alone. It is
    at work when `marks` processes have left a mark and the account has `processes`. Without suspects=include it is
    ended, or not contained: `by_default` is then a piece of the fact that has to be told. `requirements` are what its
    environment holds, `program` is one of the machine that it needs.
    """

    name: str
    command: str = TRAINING
    pattern: str = r"python -u src/train\.py --dataset TAG --mode full"
    files: Mapping[str, str] = field(default_factory=dict)
    marks: int = 0
    processes: int = 1
    by_default: str = ENDED
    requirements: str = ""
    program: str = ""
    soak: bool = False


def training(name: str, code: str, marks: int = 1, **more: object) -> Stranger:
    """One that the runbook's own command line starts."""
    return Stranger(name, files={TRAIN: code}, marks=marks, **more)  # type: ignore[arg-type]


RENAME: Final = """
import ctypes, os, time
def rename(title):
    words = open("/proc/self/stat").read().rpartition(")")[2].split()
    begin, end = int(words[45]), int(words[48])  # of the arguments, of the environment behind them
    ctypes.memset(begin, 0, end - begin)
    ctypes.memmove(begin, title, len(title))
    ctypes.CDLL(None).prctl(15, title[:15], 0, 0, 0)
"""
"""What setproctitle does."""

_RENAMED: Final = f"""{RENAME}
for _ in range(2):
    if os.fork() == 0:
        break
rename(b"dbus-daemon --system")
{MARK}{SPIN}"""

_CHAIN: Final = f"""
import os, time
{MARK}while True:
    if os.fork():
        os._exit(0)
    time.sleep(0.001)
"""

_THREADED: Final = f"""
import ctypes, os, threading, time
def compute():
    time.sleep(0.2)
    {MARK}
    while True:
        time.sleep(0.01)
threading.Thread(target=compute).start()
ctypes.CDLL(None).syscall(60, 0)
"""

_DAEMON: Final = f"""
import os, sys, time
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
log = open("logs/daemon.log", "w")
{MARK}os.chdir("/")
{SPIN}"""

_HYDRA: Final = f"""
import os, signal, subprocess, sys, time
def again(*_):
    subprocess.Popen([sys.executable, *sys.orig_argv[1:]], start_new_session=True)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, again)
{MARK}{SPIN}"""

_MULTIPROCESSING: Final = f"""
import multiprocessing, os, signal, time
def work():
    {MARK}
    while True:
        time.sleep(0.05)
if __name__ == "__main__":
    context = multiprocessing.get_context("METHOD")
    workers = [context.Process(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    AFTER
    while True:
        time.sleep(0.05)
"""
_LOOKS: Final = "import glob\n    while len(glob.glob('ready-*')) < 2: time.sleep(0.01)\n    "
_ORPHANED: Final = f"{_LOOKS}os.kill(os.getpid(), signal.SIGKILL)"


def multiprocessing(method: str, after: str = "pass") -> str:
    """A training with two workers that are started in this way."""
    return _MULTIPROCESSING.replace("METHOD", method).replace("AFTER", after)


_LOKY: Final = f"""
import os, time
from joblib import Parallel, delayed
def burn(number):
    {MARK}
    while True:
        number += 1
Parallel(n_jobs=2)(delayed(burn)(number) for number in range(2))
"""

_ASGI: Final = f"""
import os
{MARK}
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"ok"}})
"""

_WSGI: Final = f"""
import os
{MARK}
def app(environ, start):
    start("200 OK", [])
    return [b"ok"]
"""

_CELERY: Final = f"""
import os
from celery import Celery
from celery.signals import worker_process_init
app = Celery("jobs", broker="memory://", backend="cache+memory://")
@worker_process_init.connect
def begin(**_):
    {MARK}
"""

_RAY: Final = f"""
import os, time, ray
ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100_000_000, _temp_dir=os.environ["TMPDIR"])
here = os.getcwd()
@ray.remote
def burn(number):
    os.chdir(here)
    {MARK}
    while True:
        time.sleep(0.05)
ray.get([burn.remote(number) for number in range(2)])
"""

_DASK: Final = f"""
import os, time
from distributed import Client, LocalCluster
here = os.getcwd()
def burn(number):
    os.chdir(here)
    {MARK}
    while True:
        time.sleep(0.05)
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        client.gather(client.map(burn, range(2), pure=False))
"""

_PY: Final = "strangers"
_SOAK: Final = "strangers-soak"


def _stress(what: str, processes: int) -> Stranger:
    line = f"stress-ng --{what} 2"
    return Stranger(f"stress-ng --{what}", line, line, processes=processes, program="stress-ng", soak=True)


STRANGERS: Final = (
    training("fork chain", _CHAIN),
    Stranger(
        "renamed", "venv/bin/python serve.py", r"python serve\.py", {"serve.py": _RENAMED}, 3, by_default=INTERPRETER
    ),
    training(
        "renamed fork chain",
        f"{RENAME}rename(b'dbus-daemon')\n{_CHAIN}",
        by_default=PASSING,
    ),
    training("threaded", _THREADED, soak=True),
    training("double fork", _DAEMON, by_default=WRITES),
    training("hydra", _HYDRA, soak=True),
    Stranger(
        "borrowed argv[0]",
        f'bash -c "exec -a bash {TRAINING}"',
        r"-u src/train\.py --dataset TAG --mode full",
        {TRAIN: f"import os, time\n{MARK}{SPIN}"},
        1,
        soak=True,
    ),
    training("multiprocessing fork", multiprocessing("fork"), 2),
    training("multiprocessing spawn", multiprocessing("spawn"), 2),
    training("multiprocessing forkserver", multiprocessing("forkserver"), 2),
    training("multiprocessing spawn, orphaned", multiprocessing("spawn", _ORPHANED), 2),
    training("multiprocessing forkserver, orphaned", multiprocessing("forkserver", _ORPHANED), 2, soak=True),
    training("joblib", _LOKY, 2, requirements=_PY),
    Stranger(
        "uvicorn --workers",
        "venv/bin/python -m uvicorn api.app:app --port 0 --workers 2",
        r"uvicorn .*api\.app",
        {"api/app.py": _ASGI},
        2,
        requirements=_PY,
    ),
    Stranger(
        "uvicorn --reload",
        "venv/bin/uvicorn api.app:app --port 0 --reload --reload-dir api",
        r"uvicorn .*api\.app",
        {"api/app.py": _ASGI},
        1,
        requirements=_PY,
        soak=True,
    ),
    Stranger(
        "gunicorn",
        "venv/bin/gunicorn --workers 2 --bind 127.0.0.1:0 app:app",
        r"gunicorn .*app:app",
        {"app.py": _WSGI},
        2,
        by_default=INTERPRETER,
        requirements=_PY,
    ),
    Stranger(
        "celery",
        "venv/bin/celery --app jobs worker --concurrency 2 --loglevel ERROR",
        r"celery .*jobs worker",
        {"jobs.py": _CELERY},
        2,
        by_default=INTERPRETER,
        requirements=_PY,
    ),
    training("Ray", _RAY, 2, requirements=_SOAK, soak=True),
    training("Dask with nannies", _DASK, 2, requirements=_SOAK, soak=True),
    *(
        _stress(what, processes)
        for what, processes in (("fork", 3), ("vfork", 3), ("clone", 3), ("daemon", 3), ("session", 3), ("exec", 3))
    ),
)


@contextmanager
def at_work(stranger: Stranger, folder: Path) -> Iterator[tuple[Workload, Account]]:
    """The stranger at work in a root and under an account of its own, and its block. Nothing of it is left after."""
    with Account(folder) as account:
        small = SmallWorkload(folder / "root")
        for name, text in stranger.files.items():
            path = small.root / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        furnish(small.root, stranger.requirements)
        for path in (small.root, *(each for each in small.root.rglob("*") if "venv" not in each.parts)):
            account.give(path)
        tag, pattern = f"of-{account.uid}", stranger.pattern.replace("TAG", f"of-{account.uid}")
        account.start(shlex.split(stranger.command.replace("TAG", tag)), small.root, PYTHONUNBUFFERED="1")
        try:
            wait_until(lambda: _is_at_work(stranger, small.root, account), 60, f"{stranger.name} at work")
        except AssertionError as error:
            raise AssertionError(f"{error}: {account.told()}") from error
        yield small.block(training_pattern=pattern, api_pattern=pattern, grace_seconds=2), account


def _is_at_work(stranger: Stranger, root: Path, account: Account) -> bool:
    marked = len(list(root.glob("ready-*"))) >= stranger.marks
    return marked and (stranger.processes <= 1 or len(account.processes()) >= stranger.processes)


def missing(stranger: Stranger) -> str:
    """What this machine lacks for it; empty if nothing."""
    return stranger.program if stranger.program and not shutil.which(stranger.program) else ""
