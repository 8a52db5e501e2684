"""What a process writes out of its root, or into a file without a name, is taken before its end, or named."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tasks.acquisition.collector import Taken, Target
from tasks.collectors import open_files
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Frozen
from tasks.custody.evidence.acquisition import Evidence, Outcome
from tasks.custody.evidence.keys import quote
from tasks.evidence.collect import collect
from tasks.host.process.table import start_of
from tasks.runtime.context import RunContext
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload, wait_until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
WRITER = """
import mmap, os, sys
away, root = sys.argv[1:]
def new(path, content, mode="w+b"):
    file = open(path, mode); file.write(content); file.flush(); return file
kept = [new(f"{away}/state.txt", b"epoch 7"), new(f"{root}/logs/own.log", b"below"), new(f"{away}/a.env", b"TOKEN=1")]
kept += [new(f"{away}/conf.ini", b'password = "Zq7canaryX"'), new(f"{away}/large.bin", b"9" * 3000)]
kept += [new(f"{away}/twice.txt", b"once"), open(f"{away}/twice.txt", "ab"), open(f"{away}/read.txt", "rb")]
for name in ("ghost.tmp", "swapped.txt", "next.joblib"):
    kept.append(new(f"{root}/{name}", name.encode()))
    os.unlink(f"{root}/{name}")
for place in (root, away):
    new(f"{place}/held.pkl", b"loaded").close()
    kept.append(open(f"{place}/held.pkl", "rb"))
    os.unlink(f"{place}/held.pkl")
new(f"{root}/swapped.txt", b"another, which lies there").close()
with new(f"{away}/mapped.bin", b" " * 4096) as mapped:
    memory = mmap.mmap(mapped.fileno(), 4096)
memory[:5] = b"by it"
kept += [os.memfd_create("own"), mmap.mmap(-1, 4096), open("/dev/null", "wb"), open("/proc/self/oom_score_adj", "w")]
os.write(os.memfd_create("tokens"), b"state")
import ctypes
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
shared = libc.shmget(0, 8192, 0o600)
assert libc.shmat(shared, None, 0) not in (None, 2**64 - 1)
libc.shmctl(shared, 0, None)  # so that it ends with us
print("open", flush=True)
sys.stdin.read()
"""


@contextmanager
def writing(context: RunContext, away: Path) -> Iterator[int]:
    command = [sys.executable, "-I", "-S", "-c", WRITER, str(away), str(context.workload.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        assert process.stdin
        process.stdout.readline()
        who, now = Identity(process.pid, start_of(process.pid)), datetime.now(UTC)
        context.state.frozen.write([Frozen(who, "training", "python", os.geteuid(), now, now)])
        yield process.pid
        process.stdin.close()


@pytest.fixture
def context(small: SmallWorkload) -> Iterator[RunContext]:
    with case_of(small.block()) as context:
        yield context


@pytest.fixture
def away(tmp_path: Path) -> Path:
    (away := tmp_path / "away").mkdir()
    (away / "read.txt").write_text("only read")
    return away


def taken(context: RunContext, found: Evidence) -> dict[str, bytes]:
    rows = (file for file in found.files if file.source)
    return {file.path: context.directory.locate(1, file).read_bytes() for file in rows}


def not_taken_of(context: RunContext) -> dict[str, str]:
    code: Evidence = made(collect.fn(context, "code"))
    told: list[dict[str, Any]] = json.loads(context.directory.locate(1, code.files[-1]).read_bytes())["not_taken"]
    return {row["name"]: row["reason"] for row in told}


@pytest.mark.slow
def test_each_file_is_taken_or_named_once_and_no_other(context: RunContext, away: Path) -> None:
    root = context.workload.root
    with writing(context, away) as pid:
        found: Evidence = made(collect.fn(context, "open_files"))
    assert taken(context, found) == {
        f"{away}/state.txt": b"epoch 7",
        f"{away}/twice.txt": b"once",
        f"{away}/large.bin": b"9" * 3000,
        f"{away}/mapped.bin": b"by it" + b" " * 4091,
        f"{root}/ghost.tmp (deleted)": b"ghost.tmp",
        f"{root}/swapped.txt (deleted)": b"swapped.txt",
        f"{root}/next.joblib (deleted)": b"next.joblib",
        f"{root}/held.pkl (deleted)": b"loaded",
    }
    assert not found.lost
    assert found.outcome is Outcome.COLLECTED
    notes = {file.path: file.note for file in found.files if file.source}
    assert notes[f"{away}/state.txt"] == f"open for writing in process {pid}, out of the root"
    assert notes[f"{root}/ghost.tmp (deleted)"].endswith("deleted, and with the process gone")
    assert notes[f"{root}/held.pkl (deleted)"] == f"open in process {pid}, deleted, and with the process gone"
    rows = not_taken_of(context)
    assert "withheld unread" in rows[f"{away}/a.env"]
    assert "withheld: value of a secret-looking name" in rows[f"{away}/conf.ini"]
    memory = {name.partition("%20")[0]: reason for name, reason in rows.items() if "collector takes memory" in reason}
    assert {*memory} == {"/memfd%3Atokens", "/SYSV00000000"}
    assert (
        memory["/SYSV00000000"]
        == f"open for writing in process {pid}, shared memory: no file, and no collector takes memory"
    )
    assert not [name for name in rows if "state.txt" in name or "read.txt" in name or "own.log" in name]
    kept = b"".join(path.read_bytes() for path in context.directory.path.rglob("*") if path.is_file())
    assert b"Zq7canaryX" not in kept


@pytest.mark.parametrize(("most", "limit"), [(1, 1 << 20), (100, 10)])
def test_what_is_above_the_bounds_is_named(
    context: RunContext, away: Path, monkeypatch: pytest.MonkeyPatch, most: int, limit: int
) -> None:
    monkeypatch.setattr(open_files, "_MOST_FILES", most)
    monkeypatch.setattr(open_files, "_MOST_BYTES", limit)
    (folder := context.directory.path / "own").mkdir()
    with writing(context, away) as pid:
        frozen = [(pid, start_of(pid))]
        target = Target(context.incident.id, str(context.workload.root), "python", os.geteuid(), {}, frozen)
        found = [*open_files.gather(target, folder)]
    names = [item.file.path for item in found if isinstance(item, Taken)]
    listed = json.loads((folder / "open.files/not_taken.json").read_bytes())["not_taken"]
    assert len(names) + len(listed) == 12
    assert sum("after the first" in row["reason"] for row in listed) == 9 - len(names) > 0


def test_of_what_is_too_large_only_a_deleted_model_is_taken(
    context: RunContext, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be what was served, and ends with the process: the file at its name is another."""
    monkeypatch.setattr(open_files, "LARGEST", 3)
    (folder := context.directory.path / "own").mkdir()
    with writing(context, away) as pid:
        frozen = [(pid, start_of(pid))]
        target = Target(context.incident.id, str(context.workload.root), "python", os.geteuid(), {}, frozen)
        found = [*open_files.gather(target, folder)]
    names = {item.file.path for item in found if isinstance(item, Taken)}
    root = context.workload.root
    assert names == {f"{root}/next.joblib (deleted)", f"{root}/held.pkl (deleted)"}


LOGS = """
import os, sys
away, root = sys.argv[1:]
places = [f"{root}/{name}" for name in ("logs/gone.log", "logs/key.log", "scratch.tmp")]
places += [f"{away}/away.log", f"{away}/plain.log"]
texts = ["run 81HqDtbqAywKSOumSha3BhWN", "password=Zq7canaryX9", "p Zq7canary!X", "p Zq7canary!X", "epoch 7 loss 0.25"]
kept = [open(place, "w") for place in places]
for file, text in zip(kept, texts):
    file.write(text); file.flush()
for place in places[:3]:
    os.unlink(place)
print("open", flush=True)
sys.stdin.read()
"""


def test_a_deleted_file_that_a_pattern_names_is_taken_unless_it_may_hold_a_secret(
    context: RunContext, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody named has to be known to be public."""
    monkeypatch.setitem(globals(), "WRITER", LOGS)
    root = context.workload.root
    with writing(context, away):
        found: Evidence = made(collect.fn(context, "open_files"))
    assert taken(context, found).keys() == {f"{root}/logs/gone.log (deleted)", f"{away}/plain.log"}
    rows = not_taken_of(context)
    assert "value of a secret-looking name in line 1" in rows[quote(f"{root}/logs/key.log (deleted)".encode())]
    for name in (f"{root}/scratch.tmp (deleted)", f"{away}/away.log"):
        assert "withheld: not known to be public, line 1; 13 bytes, sha256" in rows[quote(name.encode())]
    assert not found.lost


@pytest.mark.slow
def test_a_workload_that_writes_in_its_root_alone_leaves_nothing(context: RunContext, small: SmallWorkload) -> None:
    small.start_all()
    wait_until(small.healthy, what="the API")
    now = datetime.now(UTC)
    living = [Identity(each.pid, start_of(each.pid)) for each in small.living()]
    context.state.frozen.write([Frozen(who, "training", "python", os.geteuid(), now, now) for who in living])
    found: Evidence = made(collect.fn(context, "open_files"))
    assert (found.files, found.losses, found.outcome) == ((), (), Outcome.EMPTY)


@contextmanager
def mounted(context: RunContext, command: str) -> Iterator[int]:
    """Stand a process frozen, for this run, that has run a command in a mount namespace of its own."""
    root = context.workload.root
    (root / "artifacts/run2").mkdir(parents=True, exist_ok=True)
    script = f"mount --make-rprivate /; {command}; echo ready; exec cat"
    words = ["unshare", "--mount", "sh", "-ec", script]
    with subprocess.Popen(words, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        who, now = Identity(process.pid, start_of(process.pid)), datetime.now(UTC)
        context.state.frozen.write([Frozen(who, "training", "sh", os.geteuid(), now, now)])
        yield process.pid
        process.stdin.close()


@as_root
@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("mount -t tmpfs t artifacts/run2; echo 0.9 >artifacts/run2/summary_9.json", "tmpfs"),
        ("mount -t tmpfs t artifacts/run2; mkdir artifacts/run2/a; echo 1 >artifacts/run2/a/b", "tmpfs"),
        ("mount -t tmpfs t artifacts/run2; echo 1 >artifacts/run2/a; mount -t tmpfs t artifacts", "tmpfs"),
        ("mount -t ramfs t artifacts/run2; echo 1 >artifacts/run2/b", "ramfs"),
        ("mount -t proc t artifacts/run2", "proc"),  # not memory: nobody looks whether it holds any
    ],
)
def test_what_a_process_alone_sees_in_the_root_is_lost_and_named(context: RunContext, command: str, kind: str) -> None:
    with mounted(context, command) as pid:
        found: Evidence = made(collect.fn(context, "open_files"))
    (loss,) = found.losses
    assert loss.source == quote(f"{context.workload.root}/artifacts/run2".encode())
    assert loss.reason.startswith(f"process {pid} sees another place there than we do ({kind}): ")
    assert "mount it for the whole host" in loss.reason
    assert found.lost
    assert not found.is_complete


@as_root
@pytest.mark.parametrize(
    "command",
    [
        "mount -t tmpfs t artifacts/run2; mkdir artifacts/run2/empty",
        "mount -t tmpfs t /mnt; echo 1 >/mnt/own",  # out of the root, as by PrivateTmp=
        "mount --bind . .; mount -o remount,bind,ro .; mount --bind artifacts artifacts",  # as by ReadWritePaths=
        "touch artifacts/key; mount --bind /dev/null artifacts/key",  # as by a sandbox that hides a file
    ],
)
def test_a_mount_of_its_own_that_hides_no_file_of_it_is_no_loss(context: RunContext, command: str) -> None:
    with mounted(context, command):
        found: Evidence = made(collect.fn(context, "open_files"))
    assert (found.losses, found.outcome) == ((), Outcome.EMPTY)
