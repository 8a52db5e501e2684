"""One run of ours works on a workload at a time, and nobody else keeps it out."""

import fcntl
import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.host.process.table import start_of
from tasks.incident.joining import incident_of
from tasks.incident.run_lock import owner, take_ownership
from tests.support.small_disks import fill, small_disk
from tests.support.workloads import open_the_way

PROJECT = Path(__file__).resolve().parents[3]
NOBODY, SOMEBODY = 65534, 65533

HOLD = """
import fcntl, os, sys, time
descriptor = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
fcntl.flock(descriptor, fcntl.LOCK_EX)
os.write(descriptor, sys.argv[2].encode())
print("held", flush=True)
time.sleep(600)
"""


@contextmanager
def held_by_another(path: Path, content: str = "") -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", HOLD, path, content], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


def test_the_second_is_told_what_the_first_is_there_for(tmp_path: Path) -> None:
    assert owner(tmp_path) == ""
    first = take_ownership(tmp_path, "recovery")
    assert first is not None
    assert take_ownership(tmp_path) is None
    assert owner(tmp_path) == "recovery"
    os.close(first)
    assert owner(tmp_path) == ""
    again = take_ownership(tmp_path)
    assert again is not None
    assert owner(tmp_path) == "evacuation"
    os.close(again)


def test_a_rehearsal_and_the_real_one_do_not_meet(tmp_path: Path) -> None:
    both = [take_ownership(tmp_path, dry_run=True), take_ownership(tmp_path)]
    assert None not in both
    for descriptor in both:
        os.close(descriptor or 0)


@pytest.mark.short(1)
@pytest.mark.parametrize(
    "content", ["", "{", '{"purpose": "evacuation", "pid": 1, "start": 1}', '{"purpose": "evacuation"}', "[1]"]
)
def test_nobody_who_is_no_run_of_ours_keeps_an_evacuation_out(tmp_path: Path, content: str) -> None:
    with held_by_another(tmp_path / ".owner", content):
        mine = take_ownership(tmp_path)
        assert mine is not None
        assert owner(tmp_path) == "evacuation"
        os.close(mine)


TAKE = """
import sys
from pathlib import Path
from tasks.incident.run_lock import owner, take_ownership
folder = Path(sys.argv[-1])
mine = take_ownership(folder, "recovery")
print("refused by", owner(folder), flush=True) if mine is None else print("has it", flush=True)
sys.stdin.read()
"""


@contextmanager
def run_as(user: int, folder: Path, *called: str) -> Iterator[str]:
    """A run of that account, which has the folder if it can, until the block ends; what it said."""
    become = ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups"] if user != os.geteuid() else []
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [*become, sys.executable, "-c", TAKE, *called, str(folder)]
    with subprocess.Popen(
        command, env=environment, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        yield process.stdout.readline().strip()
        process.communicate()


def test_a_run_whose_signature_no_disk_took_is_neither_replaced_nor_overtaken_by_an_alarm(tmp_path: Path) -> None:
    """Two runs worked on one incident: each wrote its custody log and stopped its processes."""
    with small_disk(tmp_path / "disk", 1) as folder:
        fill(folder)
        with run_as(os.geteuid(), folder, "flows.engine") as said:
            assert said == "has it"
            assert (folder / ".owner").read_bytes() == b""
            assert take_ownership(folder) is None
            began = time.monotonic()
            assert incident_of(None, [folder], wait=0.3) == ""
            assert time.monotonic() - began > 0.3, "it may be refused"
        mine = take_ownership(folder)
        assert mine is not None
        os.close(mine)


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    """An evidence folder in a folder of root's, as an operator makes it."""
    if os.geteuid():
        pytest.skip("to be several accounts needs root")
    folder = tmp_path / "evidence"
    folder.mkdir()
    open_the_way(folder)
    return folder


@pytest.mark.whole
@pytest.mark.parametrize("dedicated", [True, False])
def test_a_run_of_root_is_seen_by_every_account(evidence: Path, dedicated: bool) -> None:  # noqa: FBT001
    os.chown(evidence, NOBODY, NOBODY)
    if not dedicated:
        os.chown(evidence.parent, NOBODY, NOBODY)
    mine = take_ownership(evidence)
    assert mine is not None
    with run_as(NOBODY, evidence) as said:
        assert said == "refused by evacuation"
    os.close(mine)
    with run_as(NOBODY, evidence) as said:
        assert said == "has it"


def test_a_run_of_the_evidence_folder_s_own_account_is_seen_by_root(evidence: Path) -> None:
    os.chown(evidence, NOBODY, NOBODY)
    with run_as(NOBODY, evidence) as said:
        assert said == "has it"
        assert take_ownership(evidence) is None
        assert owner(evidence) == "recovery"


@pytest.mark.parametrize("way", ["another account", "the workload's account"])
def test_no_other_account_fends_off_an_evacuation(evidence: Path, way: str) -> None:
    evidence.chmod(0o777)
    if way == "the workload's account":
        os.chown(evidence, NOBODY, NOBODY)
        os.chown(evidence.parent, NOBODY, NOBODY)
    with run_as(NOBODY if way == "the workload's account" else SOMEBODY, evidence) as said:
        assert said == "has it"
        mine = take_ownership(evidence)
        assert mine is not None
        os.close(mine)


LOCK_AGAIN = """
import fcntl, os, sys, time
print("at work", flush=True)
kept = []
while True:
    try:
        kept.append(os.open(sys.argv[1], os.O_CREAT | os.O_RDWR | os.O_NONBLOCK))
        fcntl.flock(kept[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        time.sleep(0.0001)
    for descriptor in kept[:-50]:
        os.close(descriptor)
    del kept[:-50]
"""


@pytest.mark.parametrize("owner_of_folder", [NOBODY, 0])
def test_who_takes_the_lock_again_and_again_delays_no_run(evidence: Path, owner_of_folder: int) -> None:
    """Each that was put aside was locked anew before ours: sixteen seconds went by, with Ctrl-C masked."""
    os.chown(evidence, owner_of_folder, owner_of_folder)
    (evidence / ".owner").touch()
    (evidence / ".owner").chmod(0o666)
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    command = [*become, sys.executable, "-I", "-c", LOCK_AGAIN, str(evidence / ".owner")]
    lockers = [subprocess.Popen(command, cwd="/", stdout=subprocess.PIPE) for _ in range(3)]
    try:
        for each in lockers:
            assert each.stdout
            each.stdout.readline()
        began = time.monotonic()
        mine = take_ownership(evidence)
        assert time.monotonic() - began < 8
        assert mine is not None
        os.close(mine)
    finally:
        for each in lockers:
            each.kill()
            each.communicate()


@pytest.mark.short(1)
@pytest.mark.parametrize("what", ["a folder", "a link", "a pipe", "a socket", "another account's file"])
def test_whatever_lies_where_the_lock_belongs_is_put_aside(evidence: Path, what: str) -> None:
    """A run went on without a lock, and a log line said so."""
    path, strange = evidence / ".owner", evidence / "strange"
    strange.write_text("untouched")
    match what:
        case "a folder":
            (path / "inner").mkdir(parents=True)
        case "a link":
            path.symlink_to(strange)
        case "a pipe":
            os.mkfifo(path)
        case "a socket":
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(str(path))
        case _:
            path.touch()
            os.chown(path, NOBODY, NOBODY)
    mine = take_ownership(evidence)
    assert mine is not None
    about = path.lstat()
    assert (stat.S_ISREG(about.st_mode), about.st_uid, stat.S_IMODE(about.st_mode)) == (True, 0, 0o644)
    assert owner(evidence) == "evacuation"
    assert strange.read_text() == "untouched"
    os.close(mine)


def test_a_second_name_of_a_file_that_root_has_locked_is_no_run_of_ours(evidence: Path) -> None:
    """The training lock's guard was root's, its file the account's: a recovery was under way for ever."""
    lock = evidence / "training.lock"
    lock.touch()
    with held_by_another(lock) as pid:
        lock.write_text(json.dumps({"purpose": "recovery", "pid": pid, "start": start_of(pid)}))
        (evidence / ".owner").hardlink_to(lock)
        assert owner(evidence) == ""
        mine = take_ownership(evidence)
        assert mine is not None
        assert owner(evidence) == "evacuation"
        os.close(mine)


def test_a_lock_on_a_file_that_was_put_aside_is_no_ownership(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waited for it while another put it aside has locked a file that nobody meets any more."""
    flock, aside = fcntl.flock, [tmp_path / ".owner"]

    def late(descriptor: int, how: int) -> None:
        if aside:
            aside.pop().unlink()
        flock(descriptor, how)

    monkeypatch.setattr("fcntl.flock", late)
    mine = take_ownership(tmp_path)
    assert mine is not None
    assert os.fstat(mine).st_ino == (tmp_path / ".owner").stat().st_ino
    assert json.loads((tmp_path / ".owner").read_text())["pid"] == os.getpid()
    os.close(mine)
