"""Who writes below a folder, by real processes: heard as root by the kernel, as another account by comparing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tasks.host.listening import Listening, Witness
from tasks.host.process.table import read_process
from tasks.host.silence import Change, Heard
from tests.support.accounts import Account
from tests.support.workloads import wait_until

pytestmark = pytest.mark.whole

am_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: fanotify, mounts, accounts")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder as a workload has one."""
    made = tmp_path / "work load"
    for folder in ("models", "logs", "evidence"):
        (made / folder).mkdir(parents=True)
    for file in ("models/a.joblib", "models/b.joblib", "logs/x.log"):
        (made / file).write_bytes(b"first" * 2000)
    return made


@contextmanager
def listening(root: Path, *ours: str) -> Iterator[Listening]:
    """Two witnesses whose first listing is made."""
    made = Listening(root, ["evidence", *ours])
    try:
        made.arm()
        assert made.hear().differences == ()
        yield made
    finally:
        made.end()


def ran(code: str, *arguments: object) -> int:
    """Let another process do something and wait until it is looked up; its pid."""
    held = f"{code}\nprint('done', flush=True); import sys; sys.stdin.read()"
    words = [sys.executable, "-I", "-S", "-c", held, *map(str, arguments)]
    with subprocess.Popen(words, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == b"done\n"
        return process.pid


def heard_of(made: Listening, act: str, *arguments: object) -> tuple[int, Heard]:
    """What is known of a process that does something and stays until that was heard."""
    held = f"import os, sys, mmap\n{act}\nprint('done', flush=True); sys.stdin.read()"
    words = [sys.executable, "-I", "-S", "-c", held, *map(str, arguments)]
    with subprocess.Popen(words, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"done\n"
        heard = made.hear()
        process.communicate()
    return process.pid, heard


def files(changes: tuple[Change, ...]) -> set[str]:
    return {each.file for each in changes}


MAP = (
    "f = open(sys.argv[1] + '/models/a.joblib', 'r+b'); m = mmap.mmap(f.fileno(), 0); f.close()\n"
    "m[0:3] = b'new'; m.flush()"
)
ACTS = {
    "append": ("open(sys.argv[1] + '/logs/x.log', 'a').write('more')", {"logs/x.log"}),
    "truncate": ("os.truncate(sys.argv[1] + '/models/a.joblib', 3)", {"models/a.joblib"}),
    "rename over": (
        "os.rename(sys.argv[1] + '/models/b.joblib', sys.argv[1] + '/models/a.joblib')",
        {"models/a.joblib", "models/b.joblib"},
    ),
    "delete": ("os.unlink(sys.argv[1] + '/models/a.joblib')", {"models/a.joblib"}),
    "create": ("open(sys.argv[1] + '/models/new', 'w').close()", {"models/new"}),
    "folder": ("os.mkdir(sys.argv[1] + '/models/deep')", {"models/deep"}),
    "link": ("os.symlink('/etc/passwd', sys.argv[1] + '/models/link')", {"models/link"}),
    "no text": ("open(os.fsencode(sys.argv[1]) + b'/models/\\xff', 'w').close()", {"models/\\xff"}),
    "mapped and closed": (f"{MAP}; m.close()", {"models/a.joblib"}),
}


@pytest.mark.sample(4)
@am_root
@pytest.mark.parametrize("act", ACTS)
def test_as_root_each_change_is_heard_with_its_process_and_seen(root: Path, act: str) -> None:
    code, expected = ACTS[act]
    with listening(root) as made:
        pid, heard = heard_of(made, code, root)
    assert (heard.deaf, heard.blind) == ("", "")
    assert files(heard.events) == expected
    assert {each.pid for each in heard.events} == {pid}
    assert {each.lineage[0].command[-1] for each in heard.events} == {str(root)}
    assert heard.events[0].lineage[1].pid == os.getpid()
    assert files(heard.differences) == expected


@am_root
def test_what_is_written_through_a_mapping_that_stays_is_seen_by_the_comparison(root: Path) -> None:
    with listening(root) as made:
        _, heard = heard_of(made, MAP, root)
    assert heard.events == ()
    assert files(heard.differences) == {"models/a.joblib"}


@am_root
def test_a_writer_in_another_mount_namespace_is_heard_by_the_roots_own_names(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    script = 'mount --bind "$1" "$2" && cd "$2/logs" && echo more >> x.log; echo done; read line'
    words = ["unshare", "--mount", "sh", "-c", script, "sh", str(root), str(elsewhere)]
    with listening(root) as made, subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"done\n"
        heard = made.hear()
        process.communicate(b"\n")
    assert (files(heard.events), {each.pid for each in heard.events}) == ({"logs/x.log"}, {process.pid})


@am_root
def test_a_file_system_that_is_mounted_below_the_root_is_heard_too(root: Path) -> None:
    (mounted := root / "mödels of mine").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", mounted], check=True)
    try:
        with listening(root) as made:
            _, heard = heard_of(made, "open(sys.argv[1] + '/new', 'w').close()", mounted)
    finally:
        subprocess.run(["umount", mounted], check=True)
    assert files(heard.events) == files(heard.differences) == {"mödels of mine/new"}


@am_root
def test_a_folder_under_another_name_since_is_heard_by_that(root: Path) -> None:
    act = (
        "os.chdir(sys.argv[1]); open('logs/x.log', 'a').write('1'); os.rename('logs', 'logs.1'); os.mkdir('logs')\n"
        "open('logs.1/x.log', 'a').write('2'); open('logs/y.log', 'w').close()"
    )
    with listening(root) as made:
        _, heard = heard_of(made, act, root)
    found = files(heard.events)
    assert {"logs", "logs.1", "logs/y.log"} <= found
    assert not found.isdisjoint({"logs/x.log", "logs.1/x.log"}), "by the name that it has, or had when it was heard"


@am_root
def test_a_daemon_with_one_open_file_and_no_place_in_the_root_is_heard(root: Path) -> None:
    with hidden_writer(root / "logs/x.log") as pid, listening(root) as made:
        before = (root / "logs/x.log").stat().st_size
        wait_until(lambda: (root / "logs/x.log").stat().st_size > before, what="a line")
        (change,) = made.hear().events
    assert (change.file, change.pid, change.lineage[0].cwd) == ("logs/x.log", pid, "/")


def test_nothing_and_what_is_ours_and_what_lies_beside_the_root_is_silence(root: Path) -> None:
    with listening(root, "train.lock") as made:
        (root / "evidence/IR-1").mkdir()
        (root / "evidence/IR-1/incident.json").write_text("{}")
        (root / "train.lock").write_text("")
        (root.parent / "work load 2").mkdir()
        (root.parent / "work load 2/x").write_text("")
        (root / "models/a.joblib").read_bytes()
        heard = made.hear()
    assert (heard.events, heard.differences) == ((), ())


@am_root
def test_what_was_changed_before_is_not_heard(root: Path) -> None:
    made = Listening(root, [])
    try:
        (root / "models/a.joblib").write_text("before")
        made.arm()
        heard = made.hear()
    finally:
        made.end()
    assert (heard.events, heard.differences) == ((), ())


@am_root
def test_what_is_changed_in_a_pause_does_not_count_and_the_rest_is_kept(root: Path) -> None:
    with listening(root) as made:
        heard_of(made, ACTS["append"][0], root)
        made.pause()
        ran("import os, sys; os.unlink(sys.argv[1] + '/models/a.joblib')", root)
        made.arm()
        made.hear()
        _, heard = heard_of(made, ACTS["folder"][0], root)
    assert files(heard.events) == files(heard.differences) == {"logs/x.log", "models/deep"}


@am_root
@pytest.mark.parametrize("which", ["_events", "_listing"])
def test_a_witness_that_was_killed_is_not_silence(root: Path, which: str) -> None:
    with listening(root) as made:
        witness = getattr(made, which)
        witness.process.send_signal(signal.SIGKILL)
        _, heard = heard_of(made, ACTS["append"][0], root)
    assert bool(heard.deaf) is (which == "_events")
    assert bool(heard.blind) is (which == "_listing")
    assert files(heard.events) | files(heard.differences) == {"logs/x.log"}


def test_witnesses_that_cannot_be_started_are_no_error_and_no_silence(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    made = Listening(root, [])
    made.arm()
    heard = made.hear()
    made.end()
    assert "could not be started" in heard.deaf
    assert "could not be started" in heard.blind


def test_a_root_that_is_gone_is_not_known(root: Path) -> None:
    with listening(root) as made:
        shutil.rmtree(root)
        heard = made.hear()
    assert "No such file" in heard.blind


@am_root
def test_a_folder_that_is_gone_is_told_by_the_one_above(root: Path) -> None:
    with listening(root) as made:
        shutil.rmtree(root / "models")
        heard = made.hear()
    assert heard.deaf == ""
    assert "models" in files(heard.events)
    assert "models/a.joblib" in files(heard.differences)


def test_a_witness_does_not_outlive_who_started_it(root: Path) -> None:
    code = (
        "import sys, os, signal; from pathlib import Path; from tasks.host.listening import Listening\n"
        "made = Listening(Path(sys.argv[1]), []); made.arm()\n"
        "print(made._events.process.pid, made._listing.process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    told = subprocess.run([sys.executable, "-c", code, root], env=here, capture_output=True, text=True, check=False)
    pids = [int(word) for word in told.stdout.split()]
    assert len(pids) == 2

    def ended(pid: int) -> bool:
        process = read_process(pid)
        return process is None or not process.alive

    wait_until(lambda: all(map(ended, pids)), what="their end")


def test_a_witness_names_nothing_of_the_workload_in_its_command_line(root: Path) -> None:
    witness = Witness(hears=False, root=str(root), ours=[])
    assert witness.process
    try:
        process = read_process(witness.process.pid)
        assert process
        assert str(root) not in process.line
        assert process.cwd in {"/", ""}
    finally:
        witness.end()


UNPRIVILEGED = """
import json, sys
from pathlib import Path
from tasks.host.listening import Listening
made = Listening(Path(sys.argv[1]), ["evidence"])
made.arm(); made.hear()
print("armed", flush=True); sys.stdin.readline()
heard = made.hear(); made.end()
print(json.dumps({"deaf": heard.deaf, "blind": heard.blind, "events": len(heard.events),
                  "files": sorted(each.file for each in heard.differences)}))
"""


@pytest.mark.sample(4)
@am_root
@pytest.mark.parametrize("act", [*ACTS, ""])
def test_another_account_sees_each_change_and_says_that_it_does_not_know_the_writer(act: str) -> None:
    place = Path(tempfile.mkdtemp(prefix="silence "))
    place.chmod(0o755)
    root = place / "root"
    try:
        for folder in ("models", "logs", "evidence"):
            (root / folder).mkdir(parents=True)
        for file in ("models/a.joblib", "models/b.joblib", "logs/x.log"):
            (root / file).write_bytes(b"first" * 2000)
        code, expected = ACTS.get(act, ("", set()))
        with Account(place / "account") as account:
            here = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[3])}
            words = [*account._launch, sys.executable, "-c", UNPRIVILEGED, str(root)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            with subprocess.Popen(words, cwd="/", env=here, text=True, **pipes) as process:  # type: ignore[call-overload]
                assert process.stdout.readline() == "armed\n"
                ran(f"import os, sys, mmap\n{code}", root)
                (root / "evidence/ours").touch()
                told, _ = process.communicate("\n")
        seen = json.loads(told)
    finally:
        shutil.rmtree(place)
    assert "not permitted" in seen["deaf"]
    assert (seen["blind"], seen["events"], set(seen["files"])) == ("", 0, expected)


HIDDEN = """
import os, sys, time
file = open(sys.argv[1], "a", buffering=1); os.chdir("/")
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
print(os.getpid(), flush=True); os.close(1)
end = time.monotonic() + 200
while time.monotonic() < end: file.write("beat\\n"); time.sleep(0.2)
"""


@contextmanager
def hidden_writer(log: Path) -> Iterator[int]:
    """A daemon with cwd `/` that has one file open and writes to it; its pid."""
    words = [sys.executable, "-I", "-S", "-c", HIDDEN, str(log)]
    done = subprocess.run(words, cwd="/", stdout=subprocess.PIPE, text=True, check=True)
    pid = int(done.stdout)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


DEEP = """
os.chdir(sys.argv[1])
for _ in range(30):
    os.mkdir('d' * 200)
    os.chdir('d' * 200)
open('file', 'w').close()
"""


@am_root
@pytest.mark.parametrize("inside", [False, True], ids=["beside the root", "in it"])
def test_a_path_longer_than_the_kernel_spells_makes_nobody_deaf(root: Path, tmp_path: Path, inside: bool) -> None:  # noqa: FBT001
    """One account's write at such a path, anywhere on the disk, ended what is known of who writes."""
    (beside := tmp_path / "beside").mkdir()
    with listening(root) as made:
        pid, heard = heard_of(made, DEEP, root / "models" if inside else beside)
        _, later = heard_of(made, ACTS["append"][0], root)
    assert not heard.deaf
    assert not later.deaf
    assert {each.pid for each in heard.events} == ({pid} if inside else set())
    assert any("more than 4095 bytes" in each for each in files(heard.events)) == inside
    assert "logs/x.log" in files(later.events)


@am_root
@pytest.mark.parametrize("kind", ["missing", "a file"])
def test_of_a_root_that_is_no_folder_nothing_is_known_and_that_is_said(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a file").touch()
    made = Listening(tmp_path / kind, [], [str(tmp_path)])
    try:
        made.arm()
        heard = made.hear()
    finally:
        made.end()
    assert heard.deaf
    assert heard.blind
