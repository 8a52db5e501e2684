"""Start processes that outlive the run: the guard, and the API that is brought back."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from select import select
from typing import IO, Any, Final

from tasks.custody.containment.identity import Identity
from tasks.host.guard_config import GuardConfig
from tasks.host.process.table import start_of
from tasks.system.accounts import groups_of
from tasks.system.unit_files import BOOTED

GUARD: Final = "tasks.guard"
KEEPER: Final = "flows.deadline"
_PATIENCE: Final = 15.0
_SESSION: Final = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")


def wrap_in_scope(command: Sequence[str], name: str, *, systemd: bool, root: bool) -> list[str]:
    """Return a command that outlives us in a systemd scope of its own: a service takes its processes down with it."""
    if not systemd:
        return list(command)
    user, unit = [] if root else ["--user"], f"--unit={name}-{os.urandom(4).hex()}"
    return ["systemd-run", *user, "--scope", "--quiet", "--collect", unit, "--", *command]


def session_of(environment: Mapping[str, str], *, root: bool) -> dict[str, str]:
    """Return the environment to reach a user's own systemd, without which `systemd-run --user` fails silently."""
    return {} if root else {name: environment[name] for name in _SESSION if name in environment}


def _session() -> dict[str, str]:
    return session_of(os.environ, root=os.geteuid() == 0)


def outliving(command: Sequence[str], name: str) -> list[str]:
    """Return a command that outlives us on this host; without a reachable systemd (cron, su) it only has a session."""
    return wrap_in_scope(command, name, systemd=_has_systemd(), root=os.geteuid() == 0)


def _has_systemd() -> bool:
    return BOOTED.is_dir() and (os.geteuid() == 0 or bool(_session()))


def place_of_scope(ours: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the control groups above what `outliving` starts, by our own: a user's systemd makes none of version 1."""
    user = os.geteuid()
    slices = f"/user.slice/user-{user}.slice/user@{user}.service/app.slice" if user else "/system.slice"
    has_scope = _has_systemd()
    return [(each, slices if has_scope and not (user and each) else path) for each, path in ours]


def start_guard(descriptor: int | None, orders: GuardConfig) -> Identity:
    """Start a guard and hand it the open lock and its configuration. It inherits no other file."""
    folders, settings = [str(Path(__file__).parents[2])], _session()  # the paths of our code alone
    if orders.containers:  # such a guard needs the Docker SDK and its settings too
        folders += [folder for folder in sys.path if Path(folder).name in {"site-packages", "dist-packages"}]
        settings |= {name: value for name, value in os.environ.items() if name.startswith("DOCKER_")}
    environment = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": os.pathsep.join(folders), **settings}
    lock_of, passed = ("-1", []) if descriptor is None else (str(descriptor), [descriptor])
    command = outliving([sys.executable, "-S", "-P", "-m", GUARD, lock_of, orders.marker], "guard")
    process = _start(command, environment, subprocess.DEVNULL, subprocess.DEVNULL, passed)
    return _send_orders(process, orders.to_bytes())


def _start(
    command: Sequence[str], environment: Mapping[str, str], output: int, errors: int, pass_fds: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, with a pipe to it."""
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=errors,
        cwd="/",
        env=environment,
        start_new_session=True,
        pass_fds=pass_fds,
    )


def start_program(orders: Mapping[str, Any], log: Path) -> tuple[Identity, str]:
    """Start a detached program; return it, and where its errors go: to `log` if the orders name no file for them."""
    with log.open("ab") as output:
        process, place = start_as(orders, "evacuated", output.fileno())
    used = {place, *(os.path.realpath(f"/proc/{process.pid}/fd/{number}") for number in (1, 2))}
    if os.path.realpath(log) not in used and not log.stat().st_size:
        log.unlink()
    return _let_go(process), place


def start_as(
    orders: Mapping[str, Any], name: str, output: int, pass_fds: Sequence[int] = ()
) -> tuple[subprocess.Popen[bytes], str]:
    """Start a program by the orders of `tasks.system.start_as`, in a scope or session of its own, and return it.

    Also returns where its errors go. Its variables reach no systemd-run of root's: they may name what is to be loaded.
    Raises OSError if it does not run, or says nothing for `_PATIENCE`: the account may stop it on its way.
    """
    usual = {"groups": groups_of(orders["user"]), "limits": [], "outputs": ["", ""], "log": "", "folder": "."}
    text = json.dumps({**usual, **orders}, default=str).encode()
    command = outliving([sys.executable, "-S", "-P", "-m", "tasks.system.start_as"], name)
    environment = {"PATH": os.defpath, "PYTHONPATH": str(Path(__file__).parents[2]), **_session()}
    process = _start(command, environment, output, subprocess.PIPE, pass_fds)
    with suppress(BrokenPipeError), process.stdin as pipe:  # type: ignore[union-attr]
        pipe.write(text)
    with process.stderr as answer:  # type: ignore[union-attr]
        answer_text = _read_all(answer, _PATIENCE)
    if answer_text is None:
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # a file system of the account may hold it
            process.wait(1)
        if process.stdout:
            process.stdout.close()
        raise OSError(f"{orders['command'][0]} did not run within {_PATIENCE:g} s")
    if answer_text.count("\0") != 1:
        with process:  # whose end closes its pipes
            raise OSError(answer_text.rpartition("\0")[2] or f"{orders['command'][0]} ended with {process.wait()}")
    return process, answer_text.partition("\0")[2]


def _read_all(answer: IO[bytes], seconds: float) -> str | None:
    """Return what a pipe holds until its other end is closed; None if that takes longer."""
    until, found = time.monotonic() + seconds, b""
    while select([answer], [], [], max(0.0, until - time.monotonic()))[0]:
        if not (piece := os.read(answer.fileno(), 1 << 16)):
            return os.fsdecode(found)
        found += piece
    return None


def start_keeper(log: Path, orders: Mapping[str, Any]) -> Identity:
    """Start a process that keeps a question's deadline if we die. Its input holds secrets, so it is never on disk."""
    command = outliving([sys.executable, "-P", "-m", KEEPER], "deadline")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT__")}
    try:
        output = log.open("ab")
    except OSError:
        output = Path(os.devnull).open("ab")  # noqa: SIM115  closed below
    with output:
        process = _start(command, environment, output.fileno(), subprocess.STDOUT)
    return _send_orders(process, json.dumps(orders).encode())


def _send_orders(process: subprocess.Popen[bytes], orders: bytes) -> Identity:
    with process.stdin as pipe:  # type: ignore[union-attr]
        pipe.write(orders)
    return _let_go(process)


def _let_go(process: subprocess.Popen[bytes]) -> Identity:
    """Detach the child from subprocess, which would warn when the object is collected."""
    process.returncode = 0
    return Identity(process.pid, start_of(process.pid))


def exit_code(pid: int) -> int | None:
    """Return how our child ended, negative if by a signal; None while it runs. May be called again."""
    with suppress(ChildProcessError):
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is not None:
            return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
    return None
