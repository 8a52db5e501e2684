"""Who changes a file of the root by a way that no event tells of: by another name of the file, or through a mapping."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.cli.status import look
from tasks.containment import silence
from tasks.containment.containment_check import prove_still_contained
from tasks.containment.freeze import freeze
from tasks.containment.silence import Writers, rehearse_silence
from tasks.custody.containment.receipt import Containment
from tasks.incident.current import note_opened
from tests.integration.host.test_silence_steps import broken_by, stopped
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: fanotify, mounts, accounts")
LOG = "logs/x.log"

HOLDS = "file = open(sys.argv[1], 'a', buffering=1)\nwhile 1: file.write('beat\\n'); time.sleep(0.02)"
MAPS = """file = open(sys.argv[1], 'r+b'); map = mmap.mmap(file.fileno(), 0); file.close()
while 1: map[0:1] = b'ab'[time.time_ns() // 7 % 2:][:1]; map.flush(); time.sleep(0.02)"""
RESIZES = "while 1: os.truncate(sys.argv[1], os.stat(sys.argv[1]).st_size + 1); time.sleep(0.02)"
"""Nobody ever has the file open."""
WAYS = {"held": HOLDS, "mapped": MAPS}


@contextmanager
def stranger(code: str, *arguments: object, words: tuple[str, ...] = ()) -> Iterator[int]:
    """A process outside of the root, and no child of ours, that writes again and again; its pid."""
    code = f"import mmap, os, sys, time\nprint(os.getpid(), flush=True); os.close(1)\n{code}"
    every = ["setsid", "--fork", *words, sys.executable, "-I", "-S", "-c", code, *map(str, arguments)]
    pid = int(subprocess.run(every, cwd="/", stdout=subprocess.PIPE, text=True, check=True).stdout)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def outside(small: SmallWorkload, tmp_path: Path) -> Path:
    """A hard link, outside of the root, of a log of the workload."""
    (small.root / LOG).write_bytes(b"first" * 2000)
    (folder := tmp_path / "else where").mkdir()
    os.link(small.root / LOG, folder / "another name")
    return folder / "another name"


def is_written(file: Path) -> None:
    """Wait until somebody has written since."""
    before = file.stat().st_mtime_ns
    wait_until(lambda: file.stat().st_mtime_ns != before, what="a change")


def seen_after_the_stop(small: SmallWorkload) -> tuple[Containment, str]:
    """The last check of a run, once the stranger has written, and the line on the log."""
    with stopped(small) as context:
        assert context.listening
        context.listening.hear()  # the first listing is made
        is_written(small.root / LOG)
        seen: Containment = made(prove_still_contained.fn(context))
    (line,) = broken_by(seen, LOG)
    return seen, line


def rehearsed(small: SmallWorkload) -> Writers:
    with case_of(small.block(), dry_run=True) as context:
        freeze.fn(context)
        found: Writers = made(rehearse_silence.fn(context))
    return found


@pytest.mark.whole
@pytest.mark.parametrize("way", WAYS)
def test_who_has_the_file_open_under_another_name_is_named(small: SmallWorkload, outside: Path, way: str) -> None:
    with stranger(WAYS[way], outside) as pid:
        _, line = seen_after_the_stop(small)
    assert f"process {pid} (" in line
    assert "no event" in line


@pytest.mark.whole
@pytest.mark.parametrize("way", WAYS)
def test_so_is_who_has_it_open_through_a_mount_of_its_own(small: SmallWorkload, outside: Path, way: str) -> None:
    mount = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" "$0" && exec "$@"', str(outside.parent))
    with stranger(WAYS[way], outside, words=mount) as pid:
        _, line = seen_after_the_stop(small)
    assert f"process {pid} (" in line


@pytest.mark.whole
def test_of_several_that_have_it_open_each_is_named(small: SmallWorkload, outside: Path) -> None:
    with stranger(HOLDS, outside) as first, stranger(MAPS, outside) as second, stopped(small) as context:
        assert context.listening
        context.listening.hear()
        is_written(outside)
        seen: Containment = made(prove_still_contained.fn(context))
    told = "\n".join(broken_by(seen, LOG))
    assert f"process {first} (" in told
    assert f"process {second} (" in told


@pytest.mark.whole
def test_of_one_that_is_not_known_message_and_status_say_what_to_type(small: SmallWorkload, outside: Path) -> None:
    with stranger(RESIZES, outside), stopped(small) as context:
        assert context.listening
        context.listening.hear()
        is_written(outside)
        seen: Containment = made(prove_still_contained.fn(context))
        (line,) = broken_by(seen, LOG)
        (record := context.directory.path / "record/001").mkdir(parents=True)
        (record / "closing.json").write_text('{"verdict": "NOTCONTAINED"}')
        assert note_opened(context.workload, context.incident)
        status = look(context.workload, context.adapters.host)
    assert "by a process that is not known" in line
    assert f"fuser -v '{small.root / LOG}'" in line or f"fuser -v {small.root / LOG}" in line
    assert "-samefile" in line
    assert [each for each in status.writers if "fuser -v" in each]


@pytest.mark.whole
@pytest.mark.parametrize("way", WAYS)
def test_a_rehearsal_names_who_has_it_open_under_another_name(
    small: SmallWorkload, outside: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(silence, "_REHEARSED_SECONDS", 2.0)
    small.start_all()
    with stranger(WAYS[way], outside) as pid:
        found = rehearsed(small)
    assert [(change.file, change.pid) for change in found.changes] == [(LOG, pid)]
    assert found.contradictions


@pytest.mark.whole
def test_of_one_that_is_heard_it_says_that(small: SmallWorkload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "_REHEARSED_SECONDS", 2.0)
    (small.root / LOG).touch()
    with stranger(HOLDS, small.root / LOG) as pid:
        found = rehearsed(small)
    assert [change.pid for change in found.changes] == [pid]
    assert "no event" not in found.summary


@pytest.mark.whole
def test_it_names_him_too_where_the_workload_writes_there_as_well(
    small: SmallWorkload, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "_REHEARSED_SECONDS", 2.0)
    with_training(small, f"while 1: open({LOG!r}, 'a').write('1'); time.sleep(0.01)")
    with stranger(HOLDS, outside) as pid:
        found = rehearsed(small)
    assert [change.pid for change in found.changes] == [pid]


@pytest.mark.whole
def test_it_names_a_change_by_nobody_that_is_known(
    small: SmallWorkload, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "_REHEARSED_SECONDS", 2.0)
    small.start_all()
    with stranger(RESIZES, outside):
        found = rehearsed(small)
    (told,) = found.contradictions
    assert "by a process that is not known" in told
    assert "fuser -v" in told


def with_training(small: SmallWorkload, code: str) -> None:
    """Start the workload with a training that does this, once it has begun."""
    (small.root / LOG).touch()
    head = "import mmap, os, pathlib, sqlite3, subprocess, sys, time\npathlib.Path('logs/begun').touch()\n"
    (small.root / "src/train.py").write_text(f"{head}{code}\n")
    small.start(small.api_command)
    small.start()
    wait_until((small.root / "logs/begun").exists, what="the training")


MAPPED = "file = open('logs/map', 'w+b'); file.truncate(9000); map = mmap.mmap(file.fileno(), 0); file.close()\n"
WRITES = "map[0:8] = time.time_ns().to_bytes(8, 'big'); time.sleep(0.01)"
HONEST = {
    "append": "while 1: open('logs/a', 'a').write('1'); time.sleep(0.01)",
    "held": "file = open('logs/a', 'a', buffering=1)\nwhile 1: file.write('1'); time.sleep(0.01)",
    "mapped": f"{MAPPED}while 1: {WRITES}",
    "mapped by children": f"while 1:\n if os.fork() == 0:\n  {MAPPED}  {WRITES}; os._exit(0)\n os.wait()",
    "mapped until its end": f"{MAPPED}pid = os.fork()\nif pid:\n map.close(); os.waitpid(pid, 0); time.sleep(99)\n"
    f"end = time.time() + 2.5\nwhile time.time() < end: {WRITES}\nos._exit(0)",
    "children": "while 1: subprocess.run(['sh', '-c', 'date >>logs/a; date >logs/b']); time.sleep(0.01)",
    "rename": "while 1:\n os.makedirs('logs/new', exist_ok=True); open('logs/new/a', 'w').write('1')\n"
    " os.rename('logs/new', f'logs/{time.time_ns()}'); open('logs/.b', 'w').close(); os.rename('logs/.b', 'logs/b')\n"
    " time.sleep(0.01)",
    "touch": "while 1: os.utime('logs/begun'); time.sleep(0.01)",
    "another name": "open('logs/a', 'w').close(); os.link('logs/a', 'logs/b')\n"
    "while 1: open('logs/b', 'a').write('1'); time.sleep(0.01)",
    "database": "base = sqlite3.connect('logs/base.db', isolation_level=None)\n"
    "base.execute('pragma journal_mode=wal')\nbase.execute('create table t (a)')\n"
    "while 1: base.execute('insert into t values (1)'); time.sleep(0.01)",
}


@pytest.mark.whole
@pytest.mark.sample(1)
@pytest.mark.parametrize("way", HONEST)
def test_what_the_workload_itself_writes_is_nobody_elses(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(silence, "_REHEARSED_SECONDS", 4.0)
    with_training(small, HONEST[way])
    found = rehearsed(small)
    assert (found.changes, found.deaf) == ((), ""), found.summary
