"""The hostile account's own program: `python -I -c TEXT PLACES… VERB WORDS…`, on the standard library alone.

A verb does its work once; what it returns is done again and again.
"""

import ctypes
import fcntl
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

OWNER, OPEN, CORDON = ".owner", "open.json", "cordon.json"
PAYLOAD = "import os\nif os.geteuid() == 0:\n    open('{}/owned', 'w').close()\n"
"""Whoever runs it as root has given himself away."""


class Places(NamedTuple):
    """The workload's root, its evidence, a folder of root's, the training lock, the account's folder, a name."""

    root: Path
    evidence: Path
    canary: Path
    lock: Path
    own: Path
    memory: Path


Again = Callable[[], object]
kept: list[Any] = []


def clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def put(path: Path, text: str = "", link: Path | None = None) -> None:
    clear(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if link:
        path.symlink_to(link)
    else:
        path.write_text(text)


def locked(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def own(at: Places, verb: str, *words: str) -> Again | None:
    """Do it in an evidence folder of its own."""
    at.evidence.mkdir(exist_ok=True)
    at.evidence.chmod(0o777)
    return VERBS[verb](at, *words)


def of_the_workload(at: Places) -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if folder.stat().st_uid == os.getuid() and (folder / "cwd").readlink() == at.root:
                yield int(folder.name)


def started(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def moved(at: Places, what: str, then: str) -> Again:
    path = at.root / what
    aside = path.with_name(f"{what}~")

    def again() -> None:
        path.rename(aside)
        try:
            if then == "link":
                path.symlink_to(at.canary)
            elif then == "file":
                path.touch()
            time.sleep(0.002)
            clear(path)
        finally:
            aside.rename(path)

    return again


def link(at: Places, what: str, leads_to: str, way: str = "symbolic") -> None:
    (os.symlink if way == "symbolic" else os.link)(at.canary / leads_to, at.root / what)


def link_again(at: Places, what: str) -> Again:
    return lambda: put(at.evidence / what, link=at.canary / "public")


def evidence_is(at: Places, what: str) -> None:
    put(at.evidence, link=at.canary if what == "link" else None)


def deep(at: Places) -> None:
    os.chdir(at.root / "logs")
    for _ in range(2000):
        Path("deep").mkdir()
        os.chdir("deep")
    os.chdir("/")


def odd(at: Places) -> None:
    for name in (b"a\nb", b"x" * 255, b"\xff\xfe", "..\u202e".encode(), b"-rf", b"$(touch x)"):
        (at.root / "logs" / os.fsdecode(name)).touch()


def lock_again(at: Places) -> Again:
    def again() -> None:
        kept.append(locked(at.evidence / OWNER))
        while len(kept) > 200:
            os.close(kept.pop(0))

    return again


def owner_is(at: Places, what: str) -> Again:
    path = at.evidence / OWNER
    make: Any = {"folder": Path.mkdir, "pipe": os.mkfifo, "socket": socket_at, "gone": str}[what]

    def again() -> None:
        clear(path)
        make(path)
        time.sleep(0.01)

    return again


def training_lock_is(at: Places, what: str) -> None:
    if what == "link":
        put(at.lock, link=at.canary / "public")
    elif what == "folder":
        at.lock.mkdir()
    else:
        kept.append(locked(at.lock))


def socket_at(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        os.chdir(path.parent)
        bound.bind(path.name)


def many_locks(at: Places) -> None:
    kept.extend(locked(at.own / f"lock-{number}") for number in range(800))


def leases(at: Places) -> None:
    for name in ("models/model_builtin.joblib", "src/train.py", "logs/leased.log"):
        (at.root / name).touch()
        kept.append(os.open(at.root / name, os.O_RDWR))
        fcntl.fcntl(kept[-1], fcntl.F_SETLEASE, fcntl.F_WRLCK)


def module(at: Places, name: str) -> None:
    put(at.root / f"{name}.py", PAYLOAD.format(at.canary))


def site(at: Places) -> None:
    put(
        at.root / "venv/lib/python3/site-packages/evil.pth",
        f"import os; os.geteuid() or open('{at.canary}/owned', 'w')",
    )


def repository(at: Places) -> None:
    subprocess.run(["git", "init", "-q", at.root], check=True)
    put(at.root / ".git/hook", f"#!/bin/sh\ntouch {at.canary}/owned\n")
    (at.root / ".git/hook").chmod(0o755)
    subprocess.run(["git", "-C", at.root, "config", "core.fsmonitor", at.root / ".git/hook"], check=True)


def interpreter(at: Places) -> None:
    put(at.root / "venv/bin/python", f"#!/bin/sh\ntouch {at.canary}/owned\nexec sleep 600\n")
    (at.root / "venv/bin/python").chmod(0o755)


def doors(at: Places) -> None:
    del at
    for pid in range(os.getpid(), os.getpid() + 400):
        kept.append(socket.socket(socket.AF_UNIX))
        kept[-1].bind(f"\0evacuation-guard-{pid}-{started(os.getpid())}")
        kept[-1].listen()


def listeners(at: Places) -> None:
    del at
    kept.extend(socket.create_server((f"127.0.0.{number}", 4200)) for number in range(2, 9))


def connections(at: Places) -> Again:
    del at

    def again() -> None:
        kept.extend(socket.create_connection(("127.0.0.1", port), 0.1) for port in ports())
        del kept[:-50]

    return again


def signals(at: Places, number: str) -> Again:
    def again() -> None:
        for pid in of_the_workload(at):
            os.kill(pid, int(number))

    return again


def traces(at: Places) -> Again:
    trace = ctypes.CDLL(None).ptrace
    for pid in of_the_workload(at):
        trace(0x4206, pid, 0, 0)  # PTRACE_SEIZE

    def again() -> None:
        pid, _ = os.waitpid(-1, os.WNOHANG | 0x40000000)
        if pid:
            trace(7, pid, 0, 0)  # PTRACE_CONT, without the signal

    return again


def in_memory(at: Places, count: str, what: str) -> None:
    for number in range(int(count)):
        path = Path(f"{at.memory}-0-{number}")
        path.mkdir() if what == "folders" else path.symlink_to(at.canary)


def forged_in_memory(at: Places) -> None:
    marker = json.dumps({"pid": os.getpid(), "start": started(os.getpid()), "purpose": "recovery"})
    for number in range(100):
        folder = Path(f"{at.memory}-0-{number}")
        folder.mkdir()
        for name in (CORDON, OPEN, OWNER):
            (folder / name).write_text(marker)
        kept.append(locked(folder / OWNER))


def ports() -> Iterator[int]:
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[3] == "0A":
            yield int(words[1].rpartition(":")[2], 16)


def asked(port: int, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    url, kind = f"http://127.0.0.1:{port}/api{path}", {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data, kind), timeout=0.5) as answer:
        return json.loads(answer.read())


def servers() -> Iterator[int]:
    for port in ports():
        with suppress(OSError, ValueError):
            if asked(port, "/health") is True:
                yield port


def ends_runs(at: Places, kind: str) -> Again:
    del at

    def again() -> None:
        for port in servers():
            for run in asked(port, "/flow_runs/filter", {}):
                asked(port, f"/flow_runs/{run['id']}/set_state", {"state": {"type": kind}, "force": True})

    return again


def deletes(at: Places, what: str) -> Again:
    del at

    def again() -> None:
        for port in servers():
            for each in asked(port, f"/{what}/filter", {}):
                url = f"http://127.0.0.1:{port}/api/{what}/{each['id']}"
                urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=0.5)

    return again


def forged(at: Places, name: str, incident: str = "") -> Again:
    rows = [roots(at)] if name.startswith(("early", "paused")) else roots(at)
    return lambda: put(at.evidence / name, json.dumps(opened(incident) if incident else rows))


def roots(at: Places) -> dict[str, object]:
    pid = int((at.canary / "pid").read_text())
    return {"pid": pid, "start": started(pid), "at": "2026-01-01T00:00:00+00:00", "incident": "IR-20200101T000000Z"}


def opened(incident: str) -> dict[str, object]:
    texts = dict.fromkeys(("workload", "reason", "opened_by", "boot"), "hostile")
    times = dict.fromkeys(("opened_at", "detected_at"), "2026-01-01T00:00:00Z")
    return {"id": incident, "host": socket.gethostname(), **texts, **times}


def incidents(at: Places, count: str) -> None:
    for number in range(int(count)):
        put(at.evidence / f"IR-2099{number:04}T000000Z/record/001/closing.json", json.dumps({"verdict": "VERIFIED"}))


def large(at: Places) -> None:
    for name in (CORDON, OPEN, OWNER):
        (at.evidence / name).write_text(f"[{'0,' * 15_000_000}0]")


def dear(at: Places, what: str, count: str, processes: str) -> None:
    """Processes of its own that have so much of it together, so that a look at all processes takes long."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    each, (reading, writing) = int(count) // int(processes), os.pipe()
    for _ in range(int(processes)):
        if not os.fork():
            DEAR[what](at, each)
            os.write(writing, b".")
            while True:
                time.sleep(60)
    for _ in range(int(processes)):
        os.read(reading, 1)


def descriptors(_: Places, count: int) -> None:
    kept.extend(os.dup(0) for _ in range(count))


def mounts(at: Places, count: int) -> None:
    kernel, point = ctypes.CDLL(None, use_errno=True), os.fsencode(at.own)
    failed = kernel.unshare(0x10020000)  # a user namespace and a mount namespace
    for _ in range(count):
        failed = failed or kernel.mount(point, point, None, 4096, None)
    if failed:
        print("no mounts:", os.strerror(ctypes.get_errno()), flush=True)


def threads(_: Places, count: int) -> None:
    for _number in range(count):
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()


DEAR: dict[str, Callable[[Places, int], None]] = {"descriptors": descriptors, "mounts": mounts, "threads": threads}
VERBS: dict[str, Callable[..., Again | None]] = {
    name: each for name, each in globals().items() if callable(each) and getattr(each, "__module__", "") == __name__
}


def main() -> None:
    """Do it once, tell that it is at work, and go on."""
    at, (verb, *words) = Places(*map(Path, sys.argv[1:7])), sys.argv[7:]
    again: Again | None = None
    try:
        again = VERBS[verb](at, *words)
    except OSError as error:
        print(verb, error, flush=True)
    (at.own / f"ready-{os.getpid()}").touch()
    while True:
        with suppress(OSError, ValueError, KeyError, subprocess.SubprocessError):
            (again or time.sleep)(*([] if again else [0.05]))
        time.sleep(0.002)


if __name__ == "__main__":
    main()
