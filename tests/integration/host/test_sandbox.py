"""A program behind walls reaches nothing, and ends with all that it started."""

import io
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.system.accounts import groups_of
from tasks.system.sandbox import Limits, SandboxResult, run_confined
from tests.support.workloads import open_the_way

NOBODY = 65534
TRIES = """
import json, os, socket, sys
found = {}
def attempt(name, act):
    try:
        found[name] = repr(act())
    except BaseException as error:
        found[name] = type(error).__name__
victim, port = sys.argv[1], int(sys.argv[2])
attempt("environment", lambda: sorted(os.environ))
fds = "/proc/self/fd"
attempt("descriptors", lambda: sorted(int(n) for n in os.listdir(fds) if os.path.exists(f"{fds}/{n}")))
attempt("write here", lambda: open("x", "w").write("x"))
attempt("write there", lambda: open(victim, "a").write("x"))
attempt("truncate", lambda: os.truncate(victim, 0))
attempt("remove", lambda: os.unlink(victim))
attempt("write to the model", lambda: os.write(0, b"x"))
attempt("connect", lambda: socket.create_connection(("127.0.0.1", port), 2))
attempt("datagram", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 9)))
attempt("memory", lambda: len(bytearray(1 << 34)))
attempt("privileges", lambda: [l.split()[1] for l in open("/proc/self/status") if l.startswith("NoNewPrivs")])
attempt("who", lambda: (os.geteuid(), os.getgroups()))
if os.geteuid():
    attempt("fork", lambda: os.fork() or os._exit(0))
print(json.dumps(found))
"""


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def confined(tmp_path: Path, limits: Limits, code: str, *arguments: str) -> SandboxResult:
    model = tmp_path / "model"
    model.write_bytes(b"model")
    with model.open("rb") as file:
        return run_confined(["/usr/bin/python3", "-I", "-c", code, *arguments], file, limits)


@pytest.mark.parametrize("user", [None, NOBODY], ids=["as we are", "as nobody"])
def test_the_walls_hold(tmp_path: Path, listener: int, user: int | None) -> None:
    if user is not None and os.geteuid() != 0:
        pytest.skip("only root can become another user")
    victim = tmp_path / "victim"
    victim.write_text("evidence")
    victim.chmod(0o666)
    open_the_way(tmp_path)
    limits = Limits(30, 1 << 30, user, groups_of(user) if user else ())
    answer = confined(tmp_path, limits, TRIES, str(victim), str(listener))
    assert answer.without == (), "a wall that this host does not have"
    found = json.loads(answer.output)
    assert found.pop("environment") == "['LANG', 'OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'PATH']"
    assert set(json.loads(found.pop("descriptors"))) <= {0, 1, 2, 3}
    assert found.pop("privileges") == "['1']"
    assert found.pop("who") == repr((user, [NOBODY]) if user else (os.geteuid(), os.getgroups()))
    for name, how in found.items():
        assert how in {"PermissionError", "OSError", "MemoryError", "BlockingIOError"}, (name, how)
    assert victim.read_text() == "evidence"


def test_a_program_that_does_not_end_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    code = "import os, time\nos.fork()\nwhile True: time.sleep(1)"
    answer = confined(tmp_path, Limits(1, 1 << 30), code)
    assert (answer.late, answer.ended) == (True, -9)


LEAVES_ONE_BEHIND = """
import os, signal
ready, told = os.pipe()
if os.fork() == 0:
    os.setsid()
    os.write(1, str(os.getpid()).encode())
    os.write(told, b"x")
    signal.pause()
os.read(ready, 1)
"""


def test_whoever_it_left_behind_delays_nothing(tmp_path: Path) -> None:
    started = time.monotonic()
    answer = confined(tmp_path, Limits(60, 1 << 30), LEAVES_ONE_BEHIND)
    os.kill(int(answer.output), signal.SIGKILL)
    assert (answer.ended, answer.late) == (0, False)
    assert time.monotonic() - started < 30


def test_a_program_that_says_too_much_is_cut_off(tmp_path: Path) -> None:
    answer = confined(tmp_path, Limits(30, 1 << 30), "while True: print('x' * 10_000)")
    assert len(answer.output) == 1 << 20
    assert not answer.late


def test_a_program_that_cannot_be_run_says_why(tmp_path: Path) -> None:
    with io.BytesIO(), (tmp_path / "x").open("w+b") as file:
        answer = run_confined([str(tmp_path / "none")], file, Limits(30, 1 << 30))
    assert answer.refused == "No such file or directory"
