"""What a workload deletes as it ends was there at the freeze: it is in the evidence, or it is named."""

import errno
from collections.abc import Iterable
from dataclasses import replace

import pytest

from tasks.containment import files_before_stop
from tasks.containment.cordon import cordon
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.custody.evidence.acquisition import Evidence
from tasks.evidence.collect import collect
from tasks.evidence.deleted_in_stop import find_deleted
from tasks.runtime.context import Policy
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload, wait_until, words_of

TIDY = """
import pathlib, signal, sys, time
def end(*_):
    {act}
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, end)
here = pathlib.Path("artifacts/fold_1")
here.mkdir(parents=True)
for number in range(7):
    (here / f"scores_{{number}}.csv").write_text("1")
pathlib.Path("run.pid").write_text("7")
pathlib.Path("ready").write_text("")
while True:
    time.sleep(0.05)
"""
DELETES = "[each.unlink() for each in here.iterdir()]; here.rmdir()"
RENEWS = "(here / 'scores_0.csv').unlink(); (here / 'final.csv').write_text('2')"
RENAMES = "here.rename('artifacts/fold_2')"


def evacuated(
    small: SmallWorkload, act: str, policy: Policy = "graceful", may_be_missing: Iterable[str] = ()
) -> tuple[str, str]:
    """What is said to be deleted after §1 to §4."""
    (small.root / "src/train.py").write_text(TIDY.format(act=act))
    small.start(["setsid", "--fork", *small.training_command])
    wait_until((small.root / "ready").exists, what="the training's files")
    with case_of(small.block(artifacts=["artifacts/**"], may_be_missing=[*may_be_missing])) as context:
        context.run = replace(context.run, policy=policy)
        for step in (cordon, freeze, stop):
            step.fn(context)
        evidence = [
            item for name in ("artifacts", "code") if isinstance(item := collect.fn(context, name).data, Evidence)
        ]
        return find_deleted(context, evidence)


def test_what_a_pattern_names_and_the_training_deletes_as_it_ends_is_lost(small: SmallWorkload) -> None:
    lost, others = evacuated(small, DELETES)
    assert "deleted before it was taken" in lost
    assert "artifacts/fold_1/scores_0.csv, " in lost
    assert "scores_4.csv and 2 more; policy kill" in lost
    assert others == ""


def test_a_new_file_that_has_the_inode_of_a_deleted_one_is_not_that_file(small: SmallWorkload) -> None:
    lost, others = evacuated(small, RENEWS)
    assert ": artifacts/fold_1/scores_0.csv; policy kill" in lost
    assert others == ""


def test_what_would_have_been_named_and_not_taken_is_told_too(small: SmallWorkload) -> None:
    (small.root / "token.txt").write_text("Zq7")
    lost, others = evacuated(small, "pathlib.Path('token.txt').unlink()")
    assert lost == ""
    assert others.endswith(": token.txt")


def test_what_may_be_missing_is_told_and_no_loss(small: SmallWorkload) -> None:
    lost, others = evacuated(small, DELETES, may_be_missing=["artifacts"])
    assert lost == ""
    assert "artifacts/fold_1/scores_0.csv" in others


def test_what_nobody_names_is_told_and_no_loss(small: SmallWorkload) -> None:
    lost, others = evacuated(small, "pathlib.Path('run.pid').unlink()")
    assert lost == ""
    assert others.endswith(": run.pid")


def test_files_that_cannot_be_listed_delay_no_stop_and_are_told(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise PermissionError(errno.EACCES, "no")

    small.start(["setsid", "--fork", *small.training_command])
    wait_until(lambda: any("src/train.py" in words_of(each) for each in small.living()), what="the training")
    with case_of(small.block()) as context:
        cordon.fn(context)
        freeze.fn(context)
        with monkeypatch.context() as patched:
            patched.setattr(files_before_stop, "survey", broken)
            assert made(stop.fn(context)).processes
        assert [each for each in context.losses if "deleted during the stop is not known" in each]
        context.state.files.write({"models/gone.pkl": 1})
        monkeypatch.setattr(files_before_stop, "survey", broken)
        assert "deleted during the stop is not known" in find_deleted(context, [])[0]


@pytest.mark.short(1)
@pytest.mark.parametrize(("act", "policy"), [("pass", "graceful"), (RENAMES, "graceful"), (DELETES, "kill")])
def test_what_is_kept_renamed_or_killed_before_is_not(small: SmallWorkload, act: str, policy: Policy) -> None:
    assert evacuated(small, act, policy) == ("", "")
