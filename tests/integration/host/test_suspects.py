"""Who hides from the patterns is found by facts of the kernel: real processes, renamed or far from the root."""

import os
import pty
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from tempfile import TemporaryDirectory

import psutil
import pytest

from tasks.cli.status import status
from tasks.containment.containment_check import prove_contained, prove_still_contained
from tasks.containment.cordon import IncidentCordon, cordon
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.custody.containment.receipt import Containment
from tasks.host.host import LinuxHost
from tasks.host.process import contents
from tasks.incident.layout import CORDON
from tasks.prestart.freeze import freeze_described
from tasks.prestart.journal import thaw_again
from tasks.readiness.check_target import CheckTarget
from tasks.readiness.workload import check_starters, check_unknown
from tasks.record.dry_run_plan import plan
from tasks.runtime.context import Suspects
from tasks.system import unix_sockets
from tests.integration.host.test_contain import in_a_process_of_its_own
from tests.support.run_context import case_of, made
from tests.support.strangers import RENAME
from tests.support.workloads import SmallWorkload, wait_until, words_of

LATER = "IR-20260102T030406Z"
MOUNTS = Path("/proc/self/mountinfo")
_SERVE = """
WORKERS = 2
for _ in range(WORKERS):
    if os.fork() == 0:
        rename(b"gunicorn: worker [portfolio]")
        break
else:
    rename(b"gunicorn: master [portfolio]")
open(f"renamed-{os.getpid()}", "w").close()
while True:
    time.sleep(0.05)
"""
RENAMED = RENAME + _SERVE
"""What setproctitle does: gunicorn and celery have another command line then, and no environment."""


@contextmanager
def apart(
    command: Sequence[str], folder: Path, ready: Path | None = None, by: Sequence[str] = ()
) -> Iterator[psutil.Process]:
    """A program that is nobody's child, for our own children are told apart; ended with all that it started."""
    before = set(psutil.pids())
    Popen(["setsid", "--fork", *by, *command], cwd=folder, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL).wait()

    def new() -> list[psutil.Process]:
        found = list[psutil.Process]()
        for pid in set(psutil.pids()) - before:
            with suppress(psutil.NoSuchProcess):  # others come and go
                found.append(psutil.Process(pid))
        return [each for each in found if words_of(each) == list(command)]

    wait_until(new if ready is None else ready.exists, what="its start")
    found = new()
    try:
        yield found[0] if found else psutil.Process()
    finally:
        for process in found:
            with suppress(psutil.NoSuchProcess):  # a fork of one of these ends with it
                process.kill()


def contained(small: SmallWorkload, **fields: object) -> Containment:
    """§1 to §3."""
    with case_of(small.block(**fields)) as context:
        cordon.fn(context)
        freeze.fn(context)
        stop.fn(context)
        seen: Containment = made(prove_contained.fn(context))
        return seen


@pytest.fixture
def renamed(small: SmallWorkload) -> set[int]:
    """A gunicorn with two workers, started in the root by the workload's own Python; it ends with the workload."""
    (small.root / "serve.py").write_text(RENAMED)
    small.start(["setsid", "--fork", "venv/bin/python", "serve.py"])
    wait_until(lambda: len(list(small.root.glob("renamed-*"))) == 3, what="three renamed processes")
    return {int(path.name.partition("-")[2]) for path in small.root.glob("renamed-*")}


def test_the_renamed_are_suspects_with_the_fact_that_ties_them(small: SmallWorkload, renamed: set[int]) -> None:
    """It was called contained, and served on."""
    assert {" ".join(words_of(psutil.Process(pid))) for pid in renamed} == {
        "gunicorn: master [portfolio]",
        "gunicorn: worker [portfolio]",
    }
    seen = contained(small)
    assert not seen.is_contained
    for pid in renamed:
        (told,) = (each for each in seen.alive if each.startswith(f"{pid}: gunicorn: "))
        assert "the file that it was started by lies below the root: venv/bin/python" in told
    assert {psutil.Process(pid).status() for pid in renamed}.isdisjoint({psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE})


@pytest.mark.whole
@pytest.mark.parametrize("by", ["option", "policy"])
def test_suspects_that_are_included_are_frozen_and_ended_with_the_fact(
    small: SmallWorkload, renamed: set[int], by: str
) -> None:
    with case_of(small.block(grace_seconds=2)) as context:
        context.run = replace(context.run, suspects="include" if by == "option" else None)
        context.run = replace(context.run, policy="kill" if by == "policy" else "graceful")
        cordon.fn(context)
        frozen = made(freeze.fn(context)).processes
        assert {each.identity.pid for each in frozen} == renamed
        assert {(each.role, each.why) for each in frozen} == {
            ("suspect", "the file that it was started by lies below the root: venv/bin/python")
        }
        assert {psutil.Process(pid).status() for pid in renamed} == {psutil.STATUS_STOPPED}
        assert {each.identity.pid for each in made(stop.fn(context)).processes} == renamed
        assert made(prove_contained.fn(context)).is_contained
    assert small.living() == []


@pytest.mark.whole
def test_a_bystander_that_is_named_after_it_was_frozen_is_let_go(small: SmallWorkload, tmp_path: Path) -> None:
    """The person did as the record says; the next run ended the log shipper, because the journal named it."""
    ready = tmp_path / "ready"
    code = f"import time; held = open({str(small.root / 'logs/shipped')!r}, 'w'); open({str(ready)!r}, 'w'); "
    with apart([sys.executable, "-c", f"{code}time.sleep(600)", "ship logs"], tmp_path, ready) as shipper:
        training = psutil.Process(small.start(WORKERS="0").pid)
        with case_of(small.block()) as context:
            context.run = replace(context.run, suspects="include")
            assert shipper.pid in {each.identity.pid for each in made(freeze.fn(context)).processes}
            assert shipper.status() == psutil.STATUS_STOPPED
        with case_of(small.block(bystanders=["ship logs$"], grace_seconds=1)) as context:
            cordon.fn(context)
            assert [each.identity.pid for each in made(freeze.fn(context)).processes] == [training.pid]
            assert [each.identity.pid for each in made(stop.fn(context)).processes] == [training.pid]
            assert made(prove_contained.fn(context)).is_contained
            (entry,) = (each for each in context.log.entries() if each["action"] == "let go")
            assert entry["object"] == str(shipper.pid)
        assert shipper.status() == psutil.STATUS_SLEEPING


@pytest.mark.whole
def test_a_renamed_child_of_a_member_is_a_member(small: SmallWorkload) -> None:
    (small.root / "src/train.py").write_text(RENAMED)
    small.start(["setsid", "--fork", *small.training_command])
    wait_until(lambda: len(list(small.root.glob("renamed-*"))) == 3, what="three renamed processes")
    master = next(each for each in small.living() if "master" in " ".join(words_of(each)))
    pattern = "gunicorn: master"  # of the master alone
    with case_of(small.block(api_pattern=pattern, grace_seconds=2)) as context:
        cordon.fn(context)
        frozen = {each.identity.pid: each.why for each in made(freeze.fn(context)).processes}
        assert frozen.pop(master.pid) == "matches the api pattern"
        assert set(frozen.values()) == {f"child of {master.pid}"}
        assert len(frozen) == 2
        stop.fn(context)
        assert made(prove_contained.fn(context)).is_contained


SLEEPS = "import time; open('{}', 'w').close(); time.sleep(600)"


def test_who_calls_itself_our_own_worker_is_a_suspect_all_the_same(small: SmallWorkload) -> None:
    """A command line is forged in a moment; no name protects."""
    us = psutil.Process()
    forged = [str(Path(us.cwd(), us.cmdline()[0])), "-m", "prefect", "worker", "start"]
    title = "\0".join(forged).encode()
    renamed = RENAMED.replace("WORKERS = 2", "WORKERS = 0").replace('b"gunicorn: master [portfolio]"', repr(title))
    small.start(["setsid", "--fork", "venv/bin/python", "-c", renamed, "x" * 400])
    wait_until(lambda: list(small.root.glob("renamed-*")), what="the renamed process")
    (told,) = contained(small, training_pattern="no such training").alive
    assert "the file that it was started by lies below the root: venv/bin/python" in told


@pytest.mark.whole
def test_code_of_an_environment_that_is_only_linked_ties_who_works_elsewhere(
    small: SmallWorkload, tmp_path: Path
) -> None:
    """Its shared objects are mapped from where they really lie."""
    real, ready = tmp_path / "envs/portfolio", tmp_path / "ready"
    shutil.copytree(small.root / "venv", real, symlinks=True)
    (real / "pyvenv.cfg").touch()
    shutil.rmtree(small.root / "venv")
    (small.root / "venv").symlink_to(real)
    library = next(path for path in Path("/usr/lib").rglob("libz.so.*") if path.is_file())
    shutil.copy(library, real / "lib/core.so")
    code = f"import ctypes, time; ctypes.CDLL('{real}/lib/core.so'); open('{ready}', 'w').close(); time.sleep(600)"
    with apart([sys.executable, "-c", code], tmp_path, ready) as process:
        (told,) = contained(small).alive
        assert told.startswith(f"{process.pid}: ")
        assert f"it runs code of the workload's environment: {real}/lib/core.so" in told
        (small.root / "venv").unlink()
        assert contained(small).is_contained


@pytest.mark.whole
def test_who_writes_below_the_root_is_a_suspect_and_who_reads_there_is_not(
    small: SmallWorkload, tmp_path: Path
) -> None:
    log, ready = small.root / "logs/train-20260101_000000.log", tmp_path / "ready"
    code = f"import time; f = open('{log}', {{!r}}); open('{ready}', 'w').close(); time.sleep(600)"
    with apart([sys.executable, "-c", code.format("r")], tmp_path, ready):
        assert contained(small).is_contained
    ready.unlink()
    with apart([sys.executable, "-c", code.format("a")], tmp_path, ready) as process:
        (told,) = contained(small).alive
        assert told.startswith(f"{process.pid}: ")
        assert f"open for writing: {log}" in told
        assert process.status() == psutil.STATUS_SLEEPING


@pytest.mark.whole
@pytest.mark.parametrize("way", ["", "; m = mmap.mmap(f.fileno(), 0); f.close()"])
def test_a_quiet_holder_by_a_hard_link_is_a_suspect_and_of_a_link_elsewhere_is_not(
    small: SmallWorkload, tmp_path: Path, way: str
) -> None:
    """A plan was green, and the run, beside one that had a log open by its other name and did not write then."""
    log, ready = small.root / "logs/train-20260101_000000.log", tmp_path / "ready"
    (tmp_path / "other").write_text("other")
    for file, name in ((log, "link"), (tmp_path / "other", "away")):
        (tmp_path / name).hardlink_to(file)
    code = f"import mmap, time; f = open({{!r}}, 'r+b'){way}; open('{ready}', 'w').close(); time.sleep(600)"
    with apart([sys.executable, "-c", code.format(str(tmp_path / "away"))], tmp_path, ready):
        assert contained(small).is_contained
        (tmp_path / "away").unlink()
        found = contained(small)
        assert found.is_contained
        assert "not known" not in found.summary
    ready.unlink()
    with apart([sys.executable, "-c", code.format(str(tmp_path / "link"))], tmp_path, ready) as process:
        (told,) = contained(small).alive
        assert told.startswith(f"{process.pid}: ")
        assert f"open for writing: {tmp_path}/link" in told


def test_of_a_folder_too_large_to_look_for_links_a_holder_of_one_is_not_known_to_be_harmless(
    small: SmallWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = tmp_path / "ready"
    (tmp_path / "other").write_text("other")
    (tmp_path / "away").hardlink_to(tmp_path / "other")
    monkeypatch.setattr(contents, "_SECONDS", -1.0)
    code = f"import time; f = open('{tmp_path}/away', 'a'); open('{ready}', 'w').close(); time.sleep(600)"
    with apart([sys.executable, "-c", code], tmp_path, ready):
        found = contained(small)
    assert "1 process not known to be harmless" in found.summary


def test_a_shared_writable_mapping_is_open_for_writing(small: SmallWorkload, tmp_path: Path) -> None:
    log, ready = small.root / "logs/train-20260101_000000.log", tmp_path / "ready"
    code = f"import mmap, time; f = open('{log}', 'r+b'); m = mmap.mmap(f.fileno(), 0); f.close()"
    with apart([sys.executable, "-c", f"{code}; open('{ready}', 'w').close(); time.sleep(600)"], tmp_path, ready):
        assert any("open for writing" in told for told in contained(small).alive)


WATCH = "libc = ctypes.CDLL(None); f = libc.inotify_init(); libc.inotify_add_watch(f, {}.encode(), 0x100)"


@pytest.mark.short(1)
@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("s = socket.socket(socket.AF_UNIX); s.bind(root + '/a b.sock'); s.listen()", "it answers at a socket"),
        (
            "os.chdir(root); s = socket.socket(socket.AF_UNIX); s.bind('b.sock'); os.chdir('/')",
            "it answers at a socket",
        ),
        ("f = os.open(root, os.O_RDONLY)", "it has a folder of the root open"),
        ("f = os.open(root + '/models', os.O_PATH)", "it has a folder of the root open"),
        ("os.mkfifo(root + '/f'); f = os.open(root + '/f', os.O_RDONLY | os.O_NONBLOCK)", "it has a FIFO of the root"),
        (WATCH.format("root"), "it watches what happens in the root"),
        (WATCH.format("(root + '/models')"), "it watches what happens in the root"),
        ("f = open(root + '/data.txt', 'rb'); m = mmap.mmap(f.fileno(), 0, prot=1); f.close()", "of the root mapped"),
        ("f = open(root + '/data.txt', 'rb')", ""),
    ],
)
def test_who_waits_in_the_root_without_an_open_file_is_told(
    small: SmallWorkload, tmp_path: Path, code: str, words: str
) -> None:
    """It served at a socket, or wrote by a folder that it held open, a minute after a Verified."""
    (away := tmp_path / "away").mkdir()
    for place in (away, small.root):
        (place / "models").mkdir(exist_ok=True)
        (place / "data.txt").write_text("data")
    for place, is_told in ((away, False), (small.root, bool(words))):
        (where := tmp_path / "where").write_text(str(place))
        ready = tmp_path / "ready"
        begin = f"import ctypes, mmap, os, socket, time; root = open('{where}').read()"
        end = f"os.chdir('/'); open('{ready}', 'w').close(); time.sleep(600)"
        with apart([sys.executable, "-c", f"{begin}; {code}; {end}"], tmp_path, ready) as process:
            seen = contained(small)
        told = [*seen.alive, *(f"{each.identity.pid}: {each.why}" for each in seen.unknown)]
        assert [words in each for each in told if each.startswith(f"{process.pid}: ")] == [True] * is_told
        ready.unlink()


FORGES = """import os, re, socket, time
inode, path = os.environ['INODE'], os.environ['FORGED']
os.setuid(65534)
forgers = [socket.socket(socket.AF_UNIX) for _ in range(64)]
for number, each in enumerate(forgers):  # some of them come after the row that is the kernel's
    each.bind(f"\\0{number}\\n0: 2 0 00010000 1 1 {inode} {path}")
assert re.search(f" {inode} {path}$", open('/proc/net/unix').read(), re.MULTILINE)
print(flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root acts as another account")
@pytest.mark.parametrize(("where", "forged"), [("away", "root"), ("root", "away")])
def test_no_account_writes_at_which_file_another_ones_socket_is(where: str, forged: str) -> None:
    """By a name with a newline in it a service with nothing in the root was ended, or a listener there was hidden."""
    with TemporaryDirectory() as short, SmallWorkload(Path(short) / "w") as small:  # a socket's name has 108 bytes
        judge_forged(small, Path(short), where, forged)


def judge_forged(small: SmallWorkload, tmp_path: Path, where: str, forged: str) -> None:
    """Have another account name a socket so that the table has a row of it, and judge whose socket it is."""
    (tmp_path / "away").mkdir()
    places, ready = {"away": tmp_path / "away", "root": small.root}, tmp_path / "ready"
    code = (
        f"import os, socket, time; s = socket.socket(socket.AF_UNIX); s.bind('{places[where]}/s'); s.listen(); "
        f"open('{ready}', 'w').write(str(os.fstat(s.fileno()).st_ino)); time.sleep(600)"
    )
    with apart([sys.executable, "-c", code], tmp_path, ready) as process:
        wait_until(ready.read_text, what="the number of its socket")
        variables = {"INODE": ready.read_text(), "FORGED": f"{places[forged]}/s"}
        with Popen([sys.executable, "-c", FORGES], env=variables, cwd="/", stdout=PIPE) as forger:
            assert forger.stdout
            assert forger.stdout.readline() == b"\n"
            seen = contained(small)
            forger.kill()
        told = [each for each in seen.alive if each.startswith(f"{process.pid}: ")]
        assert ["it answers at a socket below the root" in each for each in told] == [True] * (where == "root")
        assert seen.is_contained is (where == "away")


ANSWERS, GONE, LARGE = (
    "it answers at a socket",
    "may have had one in the root",
    "than there is time to look for a socket",
)


@pytest.mark.parametrize(
    ("way", "told", "told_in_large"),
    [
        ("s.bind(root + '/s')", ANSWERS, ANSWERS),
        ("s.bind(root + '/s'); libc.unshare(0x40000000)", ANSWERS, ANSWERS),
        ("os.symlink(root, 'way'); s.bind('way/s'); os.remove('way')", ANSWERS, LARGE),
        ("s.bind('s'); os.link('s', root + '/s')", ANSWERS, LARGE),
        ("s.bind('s'); os.rename('s', root + '/s')", ANSWERS, LARGE),
        ("s.bind(root + '/s'); os.remove(root + '/s')", GONE, LARGE),
        ("s.bind(root + '/s'); os.rename(root + '/s', 's')", GONE, LARGE),
        ("s.bind(os.getcwd() + '/s')", "", ""),
        ("s.bind('\\0' + root + '/s')", "", ""),
    ],
)
def test_a_socket_is_below_the_root_by_its_file_and_not_by_its_name(  # noqa: PLR0913, PLR0917  a row of the table
    small: SmallWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, told: str, told_in_large: str
) -> None:
    """A listener at another name, or of another network, was not told; of a root too large to look through unknown."""
    (away := tmp_path / "away").mkdir()
    (where := tmp_path / "where").write_text(str(small.root))
    ready = tmp_path / "ready"
    code = (
        f"import ctypes, os, socket, time; root = open('{where}').read(); libc = ctypes.CDLL(None); "
        f"os.chdir('{away}'); s = socket.socket(socket.AF_UNIX); {way}; s.listen(); os.chdir('/'); "
        f"open('{ready}', 'w').close(); time.sleep(600)"
    )
    with apart([sys.executable, "-c", code], tmp_path, ready) as process:
        for seconds, words in ((3.0, told), (-1.0, told_in_large)):
            monkeypatch.setattr(contents, "_SECONDS", seconds)
            seen = contained(small)
            found = [*seen.alive, *(f"{each.identity.pid}: {each.why}" for each in seen.unknown)]
            why = [each for each in found if each.startswith(f"{process.pid}: ")]
            assert [words in each for each in why] == [True] * bool(words)


def test_where_the_kernel_does_not_tell_of_sockets_who_has_one_is_unknown(
    small: SmallWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unix_sockets, "_REQUEST", unix_sockets._REQUEST[:16] + b"\x2d" + unix_sockets._REQUEST[17:])
    ready = tmp_path / "ready"
    code = "import socket, time; s = {}; open('{}', 'w').close(); time.sleep(600)"
    for one, is_told in (("socket.socket(socket.AF_UNIX)", True), ("None", False)):
        with apart([sys.executable, "-c", code.format(one, ready)], tmp_path, ready) as process:
            seen = contained(small)
        told = [each.why for each in seen.unknown if each.identity.pid == process.pid]
        assert ["could not be asked for: unix_diag: " in each for each in told] == [True] * is_told
        ready.unlink()


GIVES = """import socket, time
server, line = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
server.bind({0!r} + "/api.sock")
server.listen()
line.bind({0!r} + "/line.sock")
line.listen()
kept = line.accept()[0]
socket.send_fds(kept, [b"x"], [server.fileno()])
time.sleep(600)
"""
TAKES = (
    "import socket, time; s = socket.socket(socket.AF_UNIX); s.connect({0!r} + '/line.sock'); "
    "held = socket.recv_fds(s, 1, 1)[1]; {1}; open({0!r} + '/ready', 'w').close(); time.sleep(600)"
)


@pytest.mark.whole
@pytest.mark.parametrize(("then", "is_held"), [("pass", True), ("import os; os.close(held[0])", False)])
def test_who_was_given_the_socket_at_which_the_workload_listened_answers_for_it(
    small: SmallWorkload, tmp_path: Path, then: str, *, is_held: bool
) -> None:
    """It lies out of the root, and no port tells of it."""
    (small.root / "src/train.py").write_text(GIVES.format(str(tmp_path)))
    small.start(["setsid", "--fork", *small.training_command])
    wait_until((tmp_path / "line.sock").exists, what="the training's sockets")
    with apart([sys.executable, "-c", TAKES.format(str(tmp_path), then)], tmp_path, tmp_path / "ready") as process:
        seen = contained(small)
        told = [each for each in seen.alive if each.startswith(f"{process.pid}: ")]
        assert ["it has a socket at which the workload listened" in each for each in told] == [True] * is_held
        assert seen.is_contained is not is_held


@pytest.mark.whole
def test_an_editor_in_the_root_contradicts_nothing_and_another_server_is_unknown_until_it_is_named(
    small: SmallWorkload, tmp_path: Path
) -> None:
    node = str(shutil.copy(shutil.which("sleep") or "", tmp_path / "node"))
    vim = str(shutil.copy("/bin/bash", tmp_path / "vim.basic"))
    terminals = pty.openpty()
    edits = ["-c", f"exec < {os.ttyname(terminals[1])} 7> .notes.swp; while :; do read -t 600; done"]
    with apart([node, "600"], small.root), apart([vim, *edits], small.root):
        wait_until((small.root / ".notes.swp").exists, what="the editor's file")
        seen = contained(small)
        assert seen.is_contained, seen.summary
        (unknown,) = seen.unknown
        why = "its working directory is in the root, and nothing proves it harmless; what started it is gone"
        assert (unknown.command, unknown.why) == (f"{node} 600", f"{why} 起動元は終了済み")
        (excused,) = seen.notes
        assert excused.startswith("1 excused 除外: ")
        assert vim in excused
        assert seen.notes[0] in seen.summary
        assert "exe=, cwd= or unit= of process" in unknown.line, "the program's name is no word that is shown"
        named = contained(small, bystanders=[f"exe={node}"])
        assert named.is_contained
        assert named.unknown == ()
    for terminal in terminals:
        os.close(terminal)


def test_who_the_block_excuses_is_never_signalled_and_is_told(small: SmallWorkload, renamed: set[int]) -> None:
    with case_of(small.block(bystanders=[r"^gunicorn: (master|worker) \["])) as context:
        context.run = replace(context.run, policy="kill")
        cordon.fn(context)
        assert made(freeze.fn(context)).processes == ()
        stop.fn(context)
        seen = made(prove_contained.fn(context))
        assert seen.is_contained, seen.summary
        assert seen.notes[0].startswith("3 excused 除外: ")
    assert {psutil.Process(pid).status() for pid in renamed}.isdisjoint({psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE})


@pytest.mark.whole
def test_a_bystander_that_the_training_has_started_lives_on_and_its_other_child_does_not(
    small: SmallWorkload,
) -> None:
    (small.root / "src/train.py").write_text(
        "import subprocess, time\nfor name in ('601', '602'):\n    subprocess.Popen(['sleep', name])\ntime.sleep(600)\n"
    )
    small.start()
    wait_until(lambda: len(small.living()) == 3, what="its children")
    with case_of(small.block(bystanders=["^sleep 601"], grace_seconds=2)) as context:
        cordon.fn(context)
        freeze.fn(context)
        stop.fn(context)
        (left,) = small.living()
        assert (left.cmdline(), left.status()) == (["sleep", "601"], psutil.STATUS_SLEEPING)
        assert made(prove_contained.fn(context)).is_contained


@pytest.mark.whole
def test_a_bystander_may_listen_on_the_apis_port(small: SmallWorkload, tmp_path: Path) -> None:
    code = f"import socket, time; s = socket.create_server(('127.0.0.1', {small.port})); time.sleep(600)"
    with apart([sys.executable, "-c", code], tmp_path):
        wait_until(small.healthy, what="its port")
        assert not contained(small).is_contained
        assert contained(small, bystanders=["import socket, time"]).is_contained


def test_a_rehearsal_lists_members_suspects_and_excused(small: SmallWorkload, renamed: set[int]) -> None:
    small.start_all(workers=1)
    with case_of(small.block(bystanders=["^gunicorn: worker"]), dry_run=True) as context:
        for verb in (cordon, freeze, stop, prove_contained, prove_still_contained):
            verb.fn(context)
        rows = plan(context.log.entries())
    by_act = {
        act: [row for row in rows if row["act"] == act] for act in ("would freeze", "would name", "would leave alone")
    }
    assert len(by_act["would freeze"]) == 3
    assert [row["act"] for row in rows[:3]] == ["would name", "would leave alone", "would leave alone"]
    (suspect,) = by_act["would name"]
    assert "gunicorn: master" in suspect["on"]
    assert "the file that it was started by lies below the root" in suspect["why"]
    assert [row["why"] for row in by_act["would leave alone"]] == ["the block's bystanders"] * 2
    assert {psutil.Process(pid).status() for pid in renamed}.isdisjoint({psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE})


@pytest.mark.whole
@pytest.mark.sample(1)
@pytest.mark.parametrize("suspects", ["name", "include"])
def test_a_rehearsal_spares_the_guard_of_a_standing_cordon(small: SmallWorkload, suspects: Suspects) -> None:
    """Another process has started it, and it holds the lock open for writing, below the root."""
    small.start_all(workers=1)
    lock = small.root / "train.lock"
    in_a_process_of_its_own(
        small,
        "cordon.fn(case), os._exit(0)",
        first="from functools import partialmethod; from tasks.containment.cordon import cordon\n"
        f"SmallWorkload.block = partialmethod(SmallWorkload.block, lock=Path({str(lock)!r}))",
    )
    host, evidence = LinuxHost(), small.root.parent / "shared/evidence"
    wait_until(lambda: host.guard(evidence / CORDON), what="the guard")
    guard = host.guard(evidence / CORDON)
    assert guard
    try:
        with case_of(small.block(lock=lock, evidence_dir=evidence), incident=LATER, dry_run=True) as context:
            context.run = replace(context.run, suspects=suspects)
            for verb in (cordon, freeze, stop):
                verb.fn(context)
            seen = made(prove_contained.fn(context))
            rows = plan(context.log.entries())
        assert seen.alive == ()
        assert [row for row in rows if row["on"].partition(":")[0] == str(guard.pid)] == []
    finally:
        host.release(evidence / CORDON)


@pytest.mark.parametrize(
    ("code", "field"),
    [
        ("held = open('train.lock', 'w')", "training_pattern"),
        ("import socket; held = socket.create_server(('127.0.0.1', 0))", "api_pattern"),
        ("held = open('logs/x.log', 'w')", "worker_pattern"),
    ],
)
def test_a_suspect_is_told_with_the_line_of_the_block_that_fits_it(small: SmallWorkload, code: str, field: str) -> None:
    words = ["venv/bin/python", "-c", f"import time; {code}; open('ready', 'w'); time.sleep(600)"]
    with apart(words, small.root, small.root / "ready") as suspect:
        block = small.block(lock=small.root / "train.lock")
        with case_of(block, dry_run=True) as context:
            seen = made(prove_contained.fn(context))
            (row,) = (row for row in plan(context.log.entries()) if row["on"].startswith(f"{suspect.pid}:"))
        line = row["why"].partition("; if it belongs to the workload: ")[2]
        ((told, pattern),) = tomllib.loads(line).items()
        assert told == field
        assert f"If it belongs to the workload: {line}, or" in seen.notes[0]
        with case_of(small.block(lock=block.lock, **{field: pattern}), incident=LATER, dry_run=True) as context:
            assert {each.identity.pid for each in made(freeze.fn(context)).processes} == {suspect.pid}


@pytest.mark.parametrize(
    "held",
    [
        "import mmap; held = open({root!r} + '/models/model_builtin.joblib'); m = mmap.mmap(held.fileno(), 0, prot=1)",
        "held = open({root!r} + '/logs/x.log', 'w')",
    ],
    ids=["model", "log"],
)
def test_message_and_status_have_the_line_that_excuses_a_suspect(
    small: SmallWorkload, tmp_path: Path, held: str
) -> None:
    """A neighbour's API was named with the command that ends it alone."""
    (tmp_path / "else where").mkdir()
    code = f"import time; {held.format(root=str(small.root))}; open('ready', 'w'); time.sleep(600)"
    (tmp_path / "else where/napi.py").write_text(code)
    words = [sys.executable, "napi.py"]
    with apart(words, tmp_path / "else where", tmp_path / "else where/ready") as suspect:
        lines = []
        with case_of(small.block(), dry_run=True) as context:
            seen: Containment = made(prove_contained.fn(context))
        (message,) = (each for each in seen.alive if each.startswith(f"{suspect.pid}: "))
        (line,) = (each for each in status(small.block(), LinuxHost(root=small.root)) if each.startswith("suspect "))
        assert f"kill {suspect.pid}" in line
        assert "; if it belongs to the workload: " in message
        for each in (message, line):
            lines.append(each.partition("; if it is another's 無関係なら: ")[2].rstrip(")"))
            bystanders = tomllib.loads(lines[-1])["bystanders"]
            with case_of(small.block(bystanders=bystanders), incident=LATER, dry_run=True) as context:
                assert made(prove_contained.fn(context)).alive == ()
        assert lines[0] == lines[1]


def alive_beside(small: SmallWorkload, script: str, stranger: Sequence[str]) -> dict[int, str]:
    """What counts as alive, by pid, once a bash has launched a stranger of this command line by a script."""
    ready = small.root.parent / "ready"
    words = ["bash", "-c", f"{script} : >{shlex.quote(str(ready))}; wait", "sh", *stranger]
    with apart(words, Path("/"), ready) as launcher:
        with case_of(small.block(), dry_run=True) as context:
            seen: Containment = made(prove_contained.fn(context))
        for child in launcher.children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it has ended with what it had a pipe to
                child.kill()
    return {int(line.partition(":")[0]): line for line in seen.alive if line.partition(":")[0].isdecimal()}


STRANGER = (sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)", "a stranger")


def test_who_has_a_pipe_from_the_same_shell_as_a_suspect_is_none(small: SmallWorkload) -> None:
    """A stranger's process was one, with a kill, by a descriptor that a tool's shell had left open in both."""
    log = shlex.quote(str(small.root / "logs/x.log"))
    writes = f"tail -f /dev/null </dev/null >/dev/null 2>&1 7>>{log} &"
    script = f'exec 251< <(sleep 600) 252> >(sleep 600); {writes} "$@" </dev/null >/dev/null 2>&1 &'
    alive = alive_beside(small, script, STRANGER)
    assert alive
    assert [line for line in alive.values() if "a stranger" in line or "time.sleep(600)" in line] == []


@pytest.mark.parametrize("by", ['"$@" | tee -a {log} &', '"$@" > >(tee -a {log}) &', '"$@" 5> >(cat >>{log}) &'])
def test_who_writes_by_a_tool_below_the_root_is_one(small: SmallWorkload, by: str) -> None:
    alive = alive_beside(small, by.format(log=shlex.quote(str(small.root / "logs/x.log"))), STRANGER)
    (line,) = (each for each in alive.values() if "time.sleep(600)" in each)
    assert "it shares a pipe with process" in line
    assert " by descriptor 0" in line


def test_strangers_that_are_alike_are_one_line_with_their_pids(tmp_path: Path) -> None:
    """Fifteen of one host that are called like the training, in folders that are gone, were fifteen lines each time."""
    with ExitStack() as stack:
        pids = set[str]()
        for name in ("one", "two", "three"):
            (tmp_path / name / "src").mkdir(parents=True)
            ready = tmp_path / name / "ready"
            (tmp_path / name / "src/train.py").write_text("open('ready', 'w').close()\nimport time\ntime.sleep(600)")
            pids.add(
                str(stack.enter_context(apart([sys.executable, "src/train.py", "--alike"], ready.parent, ready)).pid)
            )
            shutil.rmtree(ready.parent)
        small = stack.enter_context(SmallWorkload(tmp_path / "work load"))
        block = small.block(training_pattern=r"src/train\.py --alike$")
        suspect_lines = [line for line in status(block, LinuxHost(root=block.root)) if line.startswith("suspect ")]
        with case_of(block, dry_run=True) as context:
            seen: Containment = made(prove_contained.fn(context))
            rows = [row["on"] + row["why"] for row in plan(context.log.entries()) if row["act"] == "would name"]
    for lines in (suspect_lines, seen.alive, [note for note in seen.notes if "is a suspect" in note], rows):
        assert len(lines) == 1
        assert "; and 2 more like it" in lines[0]
        assert pids <= set(re.findall(r"\d+", lines[0]))


def test_status_names_suspects(small: SmallWorkload, renamed: set[int]) -> None:
    told = [line for line in status(small.block(), LinuxHost(root=small.root)) if line.startswith("suspect ")]
    assert {int(line.split()[2].rstrip(":")) for line in told} == renamed


@pytest.mark.whole
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to run as root to become somebody else")
def test_what_may_not_be_read_is_told_with_a_number_and_proves_nothing(small: SmallWorkload, tmp_path: Path) -> None:
    with apart([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path) as process:
        told = in_a_process_of_its_own(
            small,
            "(seen := prove_contained.fn(case).data).is_contained, *seen.notes, sep='\\n'",
            first="os.setgroups([]); os.setgid(65534); os.setuid(65534)",
        )
    del process
    assert "may not be looked into, which proves nothing" in told


@contextmanager
def control_group(small: SmallWorkload, kind: str) -> Iterator[Path]:
    """A control group named as that of a unit of systemd; all that is left in it is ended."""
    unified = next((Path(line.split()[4]) for line in MOUNTS.read_text().splitlines() if " - cgroup2 " in line), None)
    if unified is None or os.geteuid() != 0:
        pytest.skip("needs root and control groups of version 2")
    group = unified / f"workload-{os.getpid()}-{small.port}.{kind}"
    group.mkdir()
    yield group
    (group / "cgroup.kill").write_text("1")
    wait_until(lambda: not (group / "cgroup.procs").read_text(), what="the end of all in it")
    group.rmdir()


@pytest.fixture
def service(small: SmallWorkload) -> Iterator[Path]:
    """The group of a service."""
    with control_group(small, "service") as group:
        yield group


def serving(
    small: SmallWorkload, group: Path, command: Sequence[str], folder: Path, by: Sequence[str] = ()
) -> psutil.Process:
    """A program that is started in a service, as systemd does: the leader of a session, with pid 1 for its parent."""
    before = set((group / "cgroup.procs").read_text().split())
    enter = 'echo 0 > "$0/cgroup.procs" && exec setsid --fork sh -c \'SYSTEMD_EXEC_PID=$$ exec "$@"\' sh "$@"'
    environment = {**os.environ, "WORKERS": "0"}
    small.started.append(Popen(["sh", "-c", enter, str(group), *by, *command], cwd=folder, env=environment))

    def new() -> set[str]:
        found = set((group / "cgroup.procs").read_text().split()) - before
        return {pid for pid in found if words_of(psutil.Process(int(pid))) == list(command)}

    small.started[-1].wait()
    wait_until(new, what="its start")
    return psutil.Process(int(new().pop()))


@pytest.mark.whole
@pytest.mark.parametrize("early", [True, False], ids=["early freeze", "freeze"])
def test_who_sits_in_a_service_whose_main_process_is_a_member_is_one(
    small: SmallWorkload, service: Path, tmp_path: Path, *, early: bool
) -> None:
    main = serving(small, service, small.training_command, small.root)
    stray = serving(small, service, ["sleep", "601"], tmp_path, by=["env", "-u", "SYSTEMD_EXEC_PID"])
    if main.ppid() != 1:
        pytest.skip("orphans have another parent than pid 1 here")
    block = small.block(grace_seconds=1)
    if early:
        frozen = freeze_described({"root": str(small.root), "evidence_dir": str(block.evidence)})
        assert frozen
        assert {who.pid for who in frozen.frozen} == {main.pid, stray.pid}
        thaw_again(frozen)
    with case_of(block) as context:
        cordon.fn(context)
        why = {each.identity.pid: each.why for each in made(freeze.fn(context)).processes}
        assert why == {
            main.pid: "matches the training pattern",
            stray.pid: f"sits in {service.name}, whose main process is {main.pid}",
        }
        stop.fn(context)
        assert made(prove_contained.fn(context)).is_contained
    assert not (service / "cgroup.procs").read_text()


@pytest.mark.whole
@pytest.mark.parametrize("told", [True, False], ids=["systemd tells", "an older systemd"])
def test_the_service_of_another_in_which_a_former_job_has_left_a_training_goes_on(
    small: SmallWorkload, service: Path, tmp_path: Path, *, told: bool
) -> None:
    """As a runner of CI has it that has restarted since, with KillMode=process."""
    untold = ["env", "-u", "SYSTEMD_EXEC_PID"]
    left = serving(small, service, small.training_command, small.root, by=untold)
    runner = serving(small, service, ["sleep", "603"], tmp_path, by=[] if told else untold)
    if left.ppid() != 1:
        pytest.skip("orphans have another parent than pid 1 here")
    with case_of(small.block(grace_seconds=1)) as context:
        cordon.fn(context)
        assert [each.identity.pid for each in made(freeze.fn(context)).processes] == [left.pid]
        stop.fn(context)
        assert made(prove_contained.fn(context)).is_contained
    assert runner.status() == psutil.STATUS_SLEEPING


DETACHES = "import subprocess, time\nsubprocess.call({!r}, cwd={!r})\nopen('has', 'x').close()\ntime.sleep(600)\n"


@pytest.mark.short(1)
@pytest.mark.parametrize("kind", ["service", "scope"])
@pytest.mark.parametrize("launches", [True, False], ids=["it may have", "it came later"])
def test_who_may_have_started_the_training_that_nobody_is_seen_to_have_is_asked_about(
    small: SmallWorkload, tmp_path: Path, kind: str, *, launches: bool
) -> None:
    """What was started by `setsid --fork` has neither a parent nor a session: it came again after VERIFIED."""
    detach = ["setsid", "--fork", *small.training_command] if launches else ["true"]
    (tmp_path / "nightly.py").write_text(DETACHES.format(detach, str(small.root)))
    untold = ["env", "-u", "SYSTEMD_EXEC_PID"]
    with control_group(small, kind) as group, case_of(small.block(grace_seconds=1)) as context:
        if not launches:
            serving(small, group, small.training_command, small.root, by=untold)
        launcher = serving(small, group, [sys.executable, "nightly.py"], tmp_path, by=untold)
        wait_until((tmp_path / "has").exists, what="what it starts in the root at first")
        wait_until(lambda: [words_of(each) for each in small.living()] == [list(small.training_command)], what="it")
        before = check_starters(CheckTarget("small", context.workload, "store", {}))
        cordon.fn(context)
        freeze.fn(context)
        stop.fn(context)
        seen = made(prove_contained.fn(context))
        assert seen.is_contained
        assert [each.identity.pid for each in seen.unknown] == [launcher.pid] * launches
        assert (str(launcher.pid) in f"{before}") is launches
        launcher.kill()
        wait_until(lambda: not launcher.is_running(), what="its end")
        assert made(prove_contained.fn(context)).is_complete


@pytest.mark.whole
def test_who_sits_in_a_service_that_the_block_names_is_a_member_for_the_guard_too(
    small: SmallWorkload, service: Path, tmp_path: Path
) -> None:
    first = serving(small, service, ["sleep", "601"], tmp_path)
    with case_of(small.block(units=[service.name], grace_seconds=1)) as context:
        cordon.fn(context)
        assert IncidentCordon(context).wait().held
        wait_until(lambda: first.status() == psutil.STATUS_STOPPED, what="the guard's look")
        (frozen,) = made(freeze.fn(context)).processes
        assert (frozen.identity.pid, frozen.role) == (first.pid, "service")
        assert frozen.why == f"sits in {service.name}, which `units` names"
        stop.fn(context)
        assert made(prove_contained.fn(context)).is_contained
        second = serving(small, service, ["sleep", "602"], tmp_path)
        wait_until(lambda: second.status() == psutil.STATUS_STOPPED, what="the guard's catch")
        assert not made(prove_contained.fn(context)).is_contained


def test_what_has_started_the_training_is_told_with_the_workloads_side(small: SmallWorkload, tmp_path: Path) -> None:
    """`make` was to be called a bystander, and nothing else."""
    (small.root / "src/train.py").write_text("open('ready', 'w').close()\nimport time\ntime.sleep(600)\n")
    (small.root / "Makefile").write_text(f"zorkmid:\n\t-{' '.join(small.training_command)}\n\t-sleep 600\n")
    block, own = small.block(), str(shutil.copy("/usr/bin/make", tmp_path / "own"))
    with apart([own, "-s", "zorkmid"], small.root, small.root / "ready") as make, case_of(block) as context:
        found = check_unknown(CheckTarget("small", block, "store", {}))
        cordon.fn(context)
        freeze.fn(context)
        stop.fn(context)
        unknown = {each.identity.pid: each for each in made(prove_contained.fn(context)).unknown}
        for process in make.children():
            process.kill()
    for line in (unknown[make.pid].line, found.cure):
        assert f"process {make.pid} has started the workload's own" in line
        assert "stop_supervisors = true; if it is no part of " in line
        assert "zorkmid" not in line
