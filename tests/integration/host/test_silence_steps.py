"""A stopped workload and what still writes in its root: the steps of a run, with real processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from tasks.cli.status import look
from tasks.containment import silence
from tasks.containment.containment_check import prove_contained, prove_still_contained
from tasks.containment.cordon import IncidentCordon, cordon
from tasks.containment.cordon_trial import challenge
from tasks.containment.freeze import freeze
from tasks.containment.members import Membership
from tasks.containment.silence import listen, rehearse_silence
from tasks.containment.stop import stop
from tasks.containment.watch import watch
from tasks.custody.containment.receipt import Containment, End, Stop
from tasks.host.silence import SETTLE_SECONDS, Change, Heard, judge_silence
from tasks.incident.current import note_opened
from tasks.record.dry_run_plan import plan
from tasks.runtime.context import RunContext
from tests.integration.host.test_listening import hidden_writer
from tests.support.accounts import Account, new_user
from tests.support.loops import shell_loop
from tests.support.paper_host import process
from tests.support.run_context import answer_bystander, case_of, made
from tests.support.workloads import SmallWorkload, wait_until, words_of

am_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: fanotify")
LOG = "logs/x.log"


NOTHING = Containment(datetime.now(UTC), (), cordoned=True)


@dataclass
class Replay:
    """Witnesses that have heard this."""

    heard: Heard
    armed: bool = True
    logged: set[tuple[str, int]] = field(default_factory=set)

    def hear(self, **_: bool) -> Heard:
        """Return it."""
        return self.heard

    def end(self) -> None:
        """End nothing."""


@contextmanager
def stopped(small: SmallWorkload, bystander: int | None = None, **block: object) -> Iterator[RunContext]:
    """A run that has stopped a workload at work and looked once, perhaps after an answer on a bystander."""
    small.start_all()
    with case_of(small.block(**block)) as context:
        if bystander:
            answer_bystander(context, bystander)
        cordon.fn(context)
        assert IncidentCordon(context).wait().held
        freeze.fn(context)
        stop.fn(context)
        made(prove_contained.fn(context))
        yield context


def grown(file: Path) -> None:
    """Wait until somebody has written."""
    before = file.stat().st_size if file.exists() else 0
    wait_until(lambda: file.exists() and file.stat().st_size > before, what="a line")


def broken_by(seen: Containment, file: str) -> list[str]:
    return [line for line in seen.alive if line.startswith(f"{file} was changed at")]


@pytest.mark.whole
@am_root
def test_who_matches_nothing_and_writes_on_is_named_with_file_and_process(small: SmallWorkload) -> None:
    with hidden_writer(small.root / LOG) as pid, stopped(small) as context:
        grown(small.root / LOG)
        seen: Containment = made(prove_still_contained.fn(context))
        (entry,) = (each for each in context.log.entries() if each["action"] == "changed")
    assert not seen.is_contained
    (line,) = broken_by(seen, LOG)
    assert f"by process {pid} (" in line
    assert (entry["object"], entry["pid"]) == (LOG, pid)


@contextmanager
def short_lived_writer(file: Path, elsewhere: Path) -> Iterator[int]:
    """A loop outside of the root, whose children append to a file there and end; its pid."""
    (elsewhere / "write.py").write_text(f"open({str(file)!r}, 'a').write('x')")
    with shell_loop(elsewhere, f"'{sys.executable}' -I -S write.py; sleep 0.05", "loop.sh") as pid:
        grown(file)
        yield pid


def grown_for(file: Path, seconds: float) -> None:
    """Wait until somebody has written, again and again, for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        grown(file)


@pytest.mark.whole
@pytest.mark.sample(1)
@am_root
@pytest.mark.parametrize("file", [LOG, "models/model_builtin.joblib"])
def test_who_writes_by_short_lived_children_is_named_with_the_way_to_end_it(
    small: SmallWorkload, tmp_path: Path, file: str
) -> None:
    """The message named children that were dead by then, each with another pid."""
    (elsewhere := tmp_path / "elsewhere").mkdir()
    with short_lived_writer(small.root / file, elsewhere) as pid, stopped(small) as context:
        grown_for(small.root / file, SETTLE_SECONDS)
        grown(small.root / file)
        seen: Containment = made(prove_still_contained.fn(context))
        assert note_opened(context.workload, context.incident)
        (told,) = look(context.workload, context.adapters.host).writers
        assert f"end it with kill {pid}" in told, "while the run is at work, as its line says"
        (record := context.directory.path / "record/001").mkdir(parents=True)
        (record / "closing.json").write_text(json.dumps({"verdict": "NOTCONTAINED"}))
        (told,) = look(context.workload, context.adapters.host).writers
        assert f"end it with kill {pid}" in told
    assert look(context.workload, context.adapters.host).writers == (), "it has ended"
    (line,) = broken_by(seen, file)
    assert f"; started by process {pid} (bash loop.sh) of user 0 in {elsewhere}, which lives" in line
    assert f"end it with kill {pid}" in line
    assert "more changes after everything was stopped" in str(seen.alive)


@pytest.mark.whole
@pytest.mark.sample(1)
@am_root
@pytest.mark.parametrize("file", [LOG, "old/beat.txt"])
@pytest.mark.parametrize("is_answered", [True, False], ids=["answered", "named"])
def test_what_a_bystander_starts_may_write_for_it(
    small: SmallWorkload, tmp_path: Path, file: str, *, is_answered: bool
) -> None:
    """Such a loop, excused by the block, made each run NotContained, with the advice to kill it."""
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (small.root / "old").mkdir()
    patterns = [] if is_answered else [r"^bash loop\.sh$"]
    with (
        short_lived_writer(small.root / file, elsewhere) as pid,
        stopped(small, pid if is_answered else None, bystanders=patterns) as context,
    ):
        grown_for(small.root / file, 2 * SETTLE_SECONDS)
        seen: Containment = made(prove_still_contained.fn(context))
        rows = [each for each in context.log.entries() if each["action"] == "changed"]
    assert seen.alive == ()
    assert [note for note in seen.notes if "changes by bystanders" in note and file in note]
    assert [each["object"] for each in rows] == [file]


@pytest.mark.whole
@pytest.mark.sample(1)
@am_root
@pytest.mark.parametrize("is_answered", [True, False])
def test_a_later_run_knows_from_the_log_who_wrote_a_file(
    small: SmallWorkload, tmp_path: Path, *, is_answered: bool
) -> None:
    """An answer's run heard one child alone, which was gone before it could be looked up, and was NotContained."""
    (elsewhere := tmp_path / "elsewhere").mkdir()
    with short_lived_writer(small.root / LOG, elsewhere) as pid, stopped(small) as context:
        time.sleep(SETTLE_SECONDS)
        grown(small.root / LOG)
        listening = context.listening
        assert listening
        wait_until(lambda: any(each.lineage for each in listening.hear().events), what="one that is looked up")
        assert broken_by(made(prove_still_contained.fn(context)), LOG)
        if is_answered:
            answer_bystander(context, pid)
        context.stop_listening()
        armed = datetime.now(UTC)
        gone = Change(LOG, armed + timedelta(seconds=9), 4_000_000)
        context.listening = Replay(Heard(armed, (gone,)))  # type: ignore[assignment]
        seen = silence.with_silence(context, NOTHING)
    assert bool(seen.alive) is not is_answered
    assert bool(seen.notes) is is_answered


@pytest.mark.whole
@am_root
def test_a_rehearsal_names_such_a_loop_once(
    small: SmallWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "_REHEARSED_SECONDS", 1.5)
    with short_lived_writer(small.root / LOG, tmp_path) as pid, case_of(small.block(), dry_run=True) as context:
        heard = made(rehearse_silence.fn(context))
    assert len(heard.changes) == 1
    assert f"end it with kill {pid}" in heard.summary


@pytest.mark.whole
@am_root
def test_a_stopped_workload_is_silent_also_after_a_launch_of_ours_that_writes(small: SmallWorkload) -> None:
    train = small.root / "src/train.py"
    train.write_text(f"open('logs/train-new.log', 'a').write('begun')\n{train.read_text()}")
    with stopped(small, training_command=small.training_command) as context:
        tried = made(challenge.fn(context))
        seen: Containment = made(prove_still_contained.fn(context))
    assert tried.caught
    assert (seen.alive, seen.notes) == ((), ())


@pytest.mark.whole
@am_root
def test_a_bystander_and_an_editor_may_write(small: SmallWorkload, tmp_path: Path) -> None:
    editor = shutil.copy("/bin/bash", tmp_path / "vim")
    text = small.root / "notes.txt"
    text.touch()
    words = [editor, "-c", 'while read -t 0.2; [ $? -gt 128 ]; do echo line >> "$1"; done', "vim", str(text)]
    with (
        hidden_writer(small.root / LOG),
        subprocess.Popen(words, cwd="/", stdin=subprocess.PIPE, start_new_session=True) as writer,
        stopped(small, bystanders=[r"-I -S -c .*os\.setsid"]) as context,
    ):
        grown(small.root / LOG)
        grown(text)
        seen: Containment = made(prove_still_contained.fn(context))
        assert writer.stdin
        writer.stdin.close()
    assert (broken_by(seen, LOG), broken_by(seen, "notes.txt")) == ([], [])


@am_root
@pytest.mark.parametrize(
    ("owner", "writer", "is_excused"), [(4711, 4711, False), (4711, 4712, True), (4711, 0, True), (0, 0, True)]
)
def test_what_an_editor_of_the_workloads_own_account_writes_counts(
    small: SmallWorkload, owner: int, writer: int, *, is_excused: bool
) -> None:
    """Its `vim -c 'while 1 | call writefile(...)'` wrote all through a run that ended Verified."""
    vim = replace(process(4000, name="vim", executable="/usr/bin/vim", user=writer), terminal=True)
    os.chown(small.root, owner, -1)
    with case_of(small.block()) as context:
        change = Change("logs/x.log", datetime.now(UTC), vim.pid, (vim,))
        excuses = silence.excuses(Membership(context), context.adapters.host.snapshot())
        assert excuses(change) is is_excused
        for other in (replace(vim, terminal=False), replace(vim, strange=True)):
            assert not excuses(replace(change, lineage=(other,))), "nobody edits without a terminal, or with his own"


@pytest.mark.whole
@am_root
def test_the_last_words_of_what_waited_for_the_training_are_a_note(small: SmallWorkload) -> None:
    code = (
        f"import subprocess; ended = subprocess.run({small.training_command}, cwd={str(small.root)!r}).returncode\n"
        f"open({str(small.root / 'logs/run.log')!r}, 'a').write(str(ended))"
    )
    small.start(["setsid", "--fork", sys.executable, "-I", "-S", "-c", code])
    with stopped(small) as context:
        wait_until((small.root / "logs/run.log").exists, what="the last words")
        seen: Containment = made(prove_still_contained.fn(context))
    assert broken_by(seen, "logs/run.log") == []


@pytest.mark.whole
@am_root
def test_what_came_back_and_was_ended_has_written_before_that(small: SmallWorkload) -> None:
    train = small.root / "src/train.py"
    train.write_text(f"import os\nopen(f'logs/begun-{{os.getpid()}}', 'w').close()\n{train.read_text()}")
    with stopped(small) as context:
        context.adapters.host.release(context.cordon_files.marker)
        before = len(list(small.root.glob("logs/begun-*")))
        small.start(["setsid", "--fork", *small.training_command])
        wait_until(lambda: len(list(small.root.glob("logs/begun-*"))) > before, what="its first file")
        (back, *_) = made(watch.fn(context)).returned
        seen: Containment = made(prove_still_contained.fn(context))
    assert back.end is End.KILLED
    assert seen.alive == ()
    assert [note for note in seen.notes if "changes by what has ended since" in note]


@am_root
def test_a_run_that_finds_everything_stopped_listens_from_its_first_check(small: SmallWorkload) -> None:
    with hidden_writer(small.root / LOG) as pid, case_of(small.block()) as context:
        prove_contained.fn(context)
        grown(small.root / LOG)
        (line,) = broken_by(made(prove_still_contained.fn(context)), LOG)
    assert f"process {pid}" in line


@am_root
def test_witnesses_end_with_the_run_and_before_a_recovery(small: SmallWorkload) -> None:
    def witnesses() -> list[psutil.Process]:
        return [each for each in psutil.Process().children() if "tasks.silence" in words_of(each)]

    with case_of(small.block()) as context:
        stop.fn(context)
        assert len(witnesses()) == 2
        context.stop_listening()
        assert witnesses() == []
    with case_of(small.block()) as context:
        stop.fn(context)
        assert len(witnesses()) == 2
    assert witnesses() == []


@pytest.mark.whole
@am_root
@pytest.mark.parametrize("bystanders", [[], ["^nobody$"]])
def test_a_rehearsal_names_who_else_writes_and_not_the_workload(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch, bystanders: list[str]
) -> None:
    monkeypatch.setattr(silence, "_REHEARSED_SECONDS", 1.5)
    train = small.root / "src/train.py"
    train.write_text(train.read_text().replace("time.sleep(0.05)", "time.sleep(0.05); open('logs/a', 'a').write('1')"))
    with hidden_writer(small.root / LOG) as pid, case_of(small.block(bystanders=bystanders), dry_run=True) as context:
        small.start_all()
        freeze.fn(context)
        heard = made(rehearse_silence.fn(context))
        (row,) = (row for row in plan(context.log.entries()) if row["on"].startswith(f"{pid}: "))
        prove_contained.fn(context)
        assert context.listening is None
    assert [change.pid for change in heard.changes] == [pid]
    assert row["act"] == "would name"
    assert LOG in row["why"]
    assert heard.warnings


UNPRIVILEGED = """
import json, os, sys
from pathlib import Path
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload, wait_until
from tasks.containment.containment_check import prove_contained, prove_still_contained
small = SmallWorkload.__new__(SmallWorkload)
small.root, small.port, small.dataset, hidden = Path(sys.argv[1]), 1, "builtin", int(sys.argv[3])
with case_of(small.block(evidence_dir=Path(sys.argv[2]))) as case:
    prove_contained.fn(case)
    case.listening.hear()
    before = (log := small.root / "logs/x.log").stat().st_size
    wait_until(lambda: not hidden or log.stat().st_size > before, what="a line")
    seen = prove_still_contained.fn(case).data
print(json.dumps([[each for each in seen.alive if "was changed" in each], seen.notes]))
"""


@pytest.mark.whole
@pytest.mark.sample(1)
@am_root
@pytest.mark.parametrize("hidden", [True, False])
def test_another_account_names_the_file_and_not_the_writer(*, hidden: bool) -> None:
    place = Path(tempfile.mkdtemp(prefix="silence "))
    place.chmod(0o755)
    try:
        with Account(place / "account") as account, SmallWorkload(place / "work load") as small:
            (small.root / LOG).touch()
            paths = {"PYTHONPATH": str(Path(__file__).parents[3]), "PREFECT_HOME": str(account.folder)}
            words = ["-c", UNPRIVILEGED, str(small.root), str(account.folder / "evidence"), str(int(hidden))]
            with hidden_writer(small.root / LOG if hidden else place / "x.log"):
                told = account.run([sys.executable, *words], **paths)
    finally:
        shutil.rmtree(place)
    broken, notes = json.loads(told.splitlines()[-1])
    assert [line.startswith(f"{LOG} was changed at") and "not known" in line for line in broken] == [True] * hidden
    assert [note for note in notes if "who writes is not known" in note]


SLOW = """
import os, time
print(os.getpid(), flush=True)
os.close(1)
while True:
    exec(open("write.py").read())
    time.sleep(3)
"""


@contextmanager
def slow_writer(file: Path, elsewhere: Path, *, by_children: bool) -> Iterator[int]:
    """What writes each three seconds, itself or by a child that it waits for, and does not name the root; its pid."""
    (elsewhere / "write.py").write_text(f"with open({str(file)!r}, 'a') as log: log.write('x')")
    if by_children:
        with shell_loop(elsewhere, f"'{sys.executable}' -I -S write.py; sleep 3", "loop.sh") as pid:
            yield pid
        return
    (elsewhere / "slow.py").write_text(SLOW)
    words = ["setsid", "--fork", sys.executable, "-I", "-S", "slow.py"]
    pid = int(subprocess.run(words, cwd=elsewhere, stdout=subprocess.PIPE, text=True, check=True).stdout)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def hears_its_source(context: RunContext) -> bool:
    """Look, and tell whether it is known by now who wrote, or what started that."""
    made(prove_still_contained.fn(context))
    return any(each.get("source") for each in context.log.entries() if each["action"] == "changed")


@contextmanager
def next_run(context: RunContext) -> Iterator[None]:
    """Another run of the incident: it has heard nothing of what the first one heard."""
    context.stop_listening()
    listen(context, armed=True)
    context.stop_listening()
    context.listening = Replay(Heard(datetime.now(UTC)))  # type: ignore[assignment]
    yield


@pytest.mark.whole
@pytest.mark.sample(1)
@am_root
@pytest.mark.parametrize("by_children", [False, True], ids=["itself", "by children"])
def test_who_wrote_after_the_stop_and_lives_is_asked_about_by_a_run_that_listens_in_its_pause(
    small: SmallWorkload, tmp_path: Path, *, by_children: bool
) -> None:
    """The line that carries on was typed until a run fell into the pause: Verified, beside the writer."""
    (elsewhere := tmp_path / "elsewhere").mkdir()
    with slow_writer(small.root / LOG, elsewhere, by_children=by_children) as pid:
        with stopped(small) as context:
            wait_until(lambda: hears_its_source(context), what="a writer that is looked up")
            with next_run(context):
                seen: Containment = made(prove_contained.fn(context))
                (one,) = seen.unknown
                assert one.identity.pid == pid
                assert f"changed {LOG} at " in one.why
                assert not broken_by(seen, LOG)
                answer_bystander(context, pid)
                assert not made(prove_contained.fn(context)).unknown
            context.state.answers.write([])
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", what="its end")
            assert not made(prove_contained.fn(context)).unknown
        if by_children:
            (elsewhere / "pid").unlink()


@pytest.mark.whole
@am_root
def test_a_run_after_one_that_heard_nobody_known_watches_for_longer(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a second of a later run fell between two lines of who wrote."""
    monkeypatch.setattr("tasks.containment.watch.UNKNOWN_SECONDS", 2.5)
    with stopped(small, watch_seconds=0.1) as context:
        ended = Stop(datetime.now(UTC) - timedelta(minutes=1), ())
        began = time.monotonic()
        made(watch.fn(context, ended))
        assert time.monotonic() - began < 2.5
        context.log.write("changed", LOG, at=datetime.now(UTC).isoformat(), pid=0, lineage=[], source=[], result="")
        began = time.monotonic()
        made(watch.fn(context, ended))
        assert time.monotonic() - began >= 2.5
        assert context.listening
        context.listening.logged.add((LOG, 0))
        began = time.monotonic()
        made(watch.fn(context, ended))
        assert time.monotonic() - began < 2.5, "by this run, which is red"


@pytest.mark.whole
@am_root
def test_after_a_child_that_its_loop_has_let_go_no_run_is_green_until_nothing_has_changed_for_long(
    small: SmallWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its line of parents led to nobody, and the next run was Verified between two of them."""
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (elsewhere / "write.py").write_text(
        f"import time\nopen({str(small.root / LOG)!r}, 'a').write('x')\ntime.sleep(0.2)"
    )
    with stopped(small) as context:
        words = ["setsid", "--fork", sys.executable, "-I", "-S", "write.py"]
        time.sleep(SETTLE_SECONDS)
        subprocess.run(["setsid", "--fork", *words], cwd=elsewhere, check=True)
        wait_until(lambda: broken_by(made(prove_still_contained.fn(context)), LOG), what="its change")
        with next_run(context):
            seen: Containment = made(prove_still_contained.fn(context))
        (line,) = (each for each in seen.alive if LOG in each)
        assert "nothing may change for 120 s: carry the incident on after " in line
        monkeypatch.setattr("tasks.containment.writers.QUIET_SECONDS", 0.0)
        seen = made(prove_still_contained.fn(context))
        assert seen.is_contained
        assert [note for note in seen.notes if "書込元は不明のまま" in note and LOG in note]


@pytest.mark.whole
@am_root
def test_what_of_the_workloads_account_may_have_started_who_is_not_known_is_asked_about(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop that let go of its children, and paused for longer than two minutes, got a green word with a note."""
    monkeypatch.setattr("tasks.containment.writers.QUIET_SECONDS", 0.0)
    user = new_user()
    as_it = f"--reuid={user} --clear-groups sleep 600"
    with stopped(small) as context:
        os.chown(small.root, user, -1)
        words = ["setsid", "--fork", "sh", "-c", f"echo $$; exec setpriv {as_it} >/dev/null"]
        loop = int(subprocess.run(words, cwd="/", stdout=subprocess.PIPE, text=True, check=True).stdout)
        try:
            wait_until(lambda: psutil.Process(loop).name() == "sleep", what="its account")
            context.log.write("changed", LOG, at=datetime.now(UTC).isoformat(), pid=0, lineage=[], source=[], result="")
            seen: Containment = made(prove_still_contained.fn(context))
            (one,) = seen.unknown
            assert one.identity.pid == loop
            assert f"may have started who has changed {LOG} at " in one.why
            answer_bystander(context, loop)
            assert not made(prove_still_contained.fn(context)).unknown
            context.state.answers.write([])
        finally:
            os.kill(loop, signal.SIGKILL)
        wait_until(lambda: not psutil.pid_exists(loop), what="its end")
        seen = made(prove_still_contained.fn(context))
    assert seen.is_contained
    assert not seen.unknown


@pytest.mark.whole
@am_root
@pytest.mark.parametrize("by_event", [True, False], ids=["heard", "by another name"])
def test_what_is_written_in_the_first_second_of_a_run_that_stops_nothing_counts(
    small: SmallWorkload, tmp_path: Path, *, by_event: bool
) -> None:
    """The last words of what was stopped were waited for, where an earlier run had stopped it."""
    (small.root / LOG).touch()
    (other := tmp_path / "other").hardlink_to(small.root / LOG)
    with stopped(small) as context:
        context.stop_listening()
        made(prove_contained.fn(context))
        (elsewhere := tmp_path / "elsewhere").mkdir()
        (elsewhere / "write.py").write_text(f"open({str(small.root / LOG if by_event else other)!r}, 'a').write('x')")
        subprocess.run(["setsid", "--fork", sys.executable, "-I", "-S", "write.py"], cwd=elsewhere, check=True)
        seen: Containment = made(prove_still_contained.fn(context))
        grown_at = (small.root / LOG).stat().st_size
    assert grown_at
    assert broken_by(seen, LOG)


@pytest.mark.whole
@am_root
def test_what_was_started_after_the_stop_has_no_last_words_to_write(small: SmallWorkload, tmp_path: Path) -> None:
    """A loop's child wrote 0.2 s after the stop: Verified, with a note of a change by what has ended since."""
    (small.root / LOG).touch()
    (tmp_path / "write.py").write_text(f"open({str(small.root / LOG)!r}, 'a').write('x')\nimport time; time.sleep(0.2)")
    with stopped(small) as context:
        words = ["setsid", "--fork", sys.executable, "-I", "-S", "write.py"]
        subprocess.run(["setsid", "--fork", *words], cwd=tmp_path, check=True)
        wait_until(lambda: (small.root / LOG).stat().st_size, what="its line")
        assert broken_by(made(prove_still_contained.fn(context)), LOG)


@pytest.mark.whole
@am_root
def test_of_what_waited_for_the_workload_the_last_words_contradict_nothing(small: SmallWorkload) -> None:
    with stopped(small) as context:
        context.stop_listening()
        with subprocess.Popen(
            ["sh", "-c", 'read line; echo "$line" >>"$0"', str(small.root / LOG)], cwd="/", stdin=-1
        ) as last:
            listen(context, armed=True)
            last.communicate(b"the end\n")
            listening = context.listening
            assert listening
            wait_until(lambda: listening.hear().events, what="the event")
            heard = replace(listening.hear(), settle_seconds=60.0)  # of a busy machine
        found = judge_silence(heard, lambda _: False, (), lambda who: psutil.pid_exists(who.pid))
    assert {each.file for each in found.settled} == {LOG}
    assert found.broken == ()


@pytest.mark.whole
@am_root
def test_what_was_written_after_it_was_taken_counts_though_no_comparison_has_it(
    small: SmallWorkload, tmp_path: Path
) -> None:
    """By another name of the file, in the second in which what was stopped may write: a note of a green verdict."""
    (small.root / LOG).touch()
    (other := tmp_path / "other").hardlink_to(small.root / LOG)
    with stopped(small) as context:
        context.stop_listening()
        armed = datetime.now(UTC)
        other.write_text("x")
        context.written_since = (LOG,)
        for at, counts in ((armed - timedelta(seconds=1), True), (armed + timedelta(seconds=9), False)):
            context.listening = Replay(Heard(at))  # type: ignore[assignment]
            assert bool(broken_by(silence.with_silence(context, NOTHING), LOG)) is counts
