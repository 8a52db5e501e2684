"""What a process writes as it ends, where only the look at the frozen workload looks: out of the root, or deleted."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.containment.cordon import cordon
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.custody.evidence.acquisition import Evidence
from tasks.custody.evidence.keys import LAST_WRITES
from tasks.evidence.collect import collect
from tasks.runtime.context import Policy, RunContext
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload, wait_until

TRAINING = """
import mmap, os, pathlib, signal, sys, tempfile, time
away = sys.argv[sys.argv.index("--away") + 1]
there = open(f"{away}/train.log", "w", buffering=1)
gone = open("logs/rotated.log", "w", buffering=1)
small = open(f"{away}/state.bin", "w+b")
small.write(b"step 0\\n" * 512); small.flush()
mapped = mmap.mmap(small.fileno(), 7 * 512)
mapped[:6] = b"step 1"
os.unlink("logs/rotated.log")
SPOOL
for each in (there, gone):
    each.write("epoch 1\\n")
def end(*_):
    LAST
    sys.exit(0)
signal.signal(signal.SIGINT, end)
signal.signal(signal.SIGTERM, end)
pathlib.Path("ready").write_text("")
while True:
    time.sleep(0.05)
"""
WRITES = "[each.write('Zq7last: loss is nan\\n') for each in (there, gone)]"
DELETES = WRITES + "; os.unlink(there.name)"
MAPS = "mapped.seek(0); mapped.write(b'step 9'); mapped.flush()"
SPOOLS = "spool.write(b'Zq7last: loss is nan\\n'); spool.flush()"
LEAK = "there.write('aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYZq7lastKEY\\n')"


def taken(context: RunContext, collector: str) -> Evidence:
    evidence: Evidence = made(collect.fn(context, collector))
    return evidence


def evacuated(
    small: SmallWorkload, away: Path, last: str, policy: Policy = "graceful", *, died: bool = False
) -> tuple[Evidence, dict[str, bytes]]:
    """What is collected after the stop of a training with these last words; every file that is kept by then."""
    away.mkdir()
    spool = "spool = tempfile.TemporaryFile(dir=away)" if last == SPOOLS else ""
    (small.root / "src/train.py").write_text(TRAINING.replace("LAST", last).replace("SPOOL", spool))
    small.start([*small.training_command, "--away", str(away)])
    wait_until((small.root / "ready").exists, what="its files")
    with case_of(small.block()) as context:
        context.run = replace(context.run, policy=policy)
        cordon.fn(context)
        freeze.fn(context)
        assert len(taken(context, "open_files").files) == 3
        stop.fn(context)
        if died:  # its open files went with it
            held = context.state.held_files.read()
            context.state.held_files.write([replace(each, link="/proc/1/fd/0") for each in held])
            for each in held:
                os.close(int(each.link.rsplit("/", 1)[1]))
        evidence, folder = taken(context, LAST_WRITES), context.directory.evidence_dir(1)
        files = {each.stored: (folder / each.stored).read_bytes() for each in evidence.files}
    return evidence, files


@pytest.mark.whole
@pytest.mark.parametrize("last", [WRITES, DELETES])
def test_the_last_words_are_in_the_evidence(small: SmallWorkload, tmp_path: Path, last: str) -> None:
    evidence, files = evacuated(small, tmp_path / "away", last)
    assert evidence.is_complete
    assert not evidence.losses
    assert sorted(each.rsplit("/", 1)[1] for each in files) == ["rotated.log", "train.log"]
    assert set(files.values()) == {b"epoch 1\nZq7last: loss is nan\n"}


def test_what_is_written_through_a_mapping_is_in_the_evidence(small: SmallWorkload, tmp_path: Path) -> None:
    _, files = evacuated(small, tmp_path / "away", MAPS)
    (content,) = files.values()
    assert content.startswith(b"step 9\nstep 0\n")  # the time of writing was that of step 1


def test_what_is_first_written_into_a_deleted_file_is_in_the_evidence(small: SmallWorkload, tmp_path: Path) -> None:
    evidence, files = evacuated(small, tmp_path / "away", SPOOLS)
    assert not evidence.losses
    assert [*files.values()] == [b"Zq7last: loss is nan\n"]


@pytest.mark.whole
@pytest.mark.parametrize(("last", "policy"), [("pass", "graceful"), (WRITES, "kill")])
def test_nothing_is_taken_or_told_where_nothing_was_written(
    small: SmallWorkload, tmp_path: Path, last: str, policy: Policy
) -> None:
    evidence, files = evacuated(small, tmp_path / "away", last, policy)
    assert evidence.is_complete
    assert not evidence.losses
    assert not files


def test_what_may_hold_a_secret_is_withheld_and_told(small: SmallWorkload, tmp_path: Path) -> None:
    evidence, files = evacuated(small, tmp_path / "away", LEAK)
    (loss,) = evidence.losses
    assert loss.source.endswith("/away/train.log")
    assert "withheld" in loss.reason
    assert not files
    assert not evidence.lost


def test_of_a_run_that_died_in_between_a_deleted_file_is_lost_and_the_rest_is_taken(
    small: SmallWorkload, tmp_path: Path
) -> None:
    evidence, files = evacuated(small, tmp_path / "away", WRITES, died=True)
    (loss,) = evidence.losses
    assert loss.source.endswith("logs/rotated.log")
    assert evidence.lost
    assert set(files.values()) == {b"epoch 1\nZq7last: loss is nan\n"}


def test_nothing_stays_open_once_it_is_collected(small: SmallWorkload, tmp_path: Path) -> None:
    evacuated(small, tmp_path / "away", WRITES)
    names = [str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    assert not [each for each in names if "rotated.log" in each or "train.log" in each]
