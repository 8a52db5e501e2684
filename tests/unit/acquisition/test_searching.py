"""Files of the workload are searched for secrets as they are acquired; the block decides whether they are withheld."""

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.acquisition.collector import Target
from tasks.acquisition.searching import search_items
from tasks.collectors import discover
from tasks.custody.evidence.acquisition import Evidence, Loss, Outcome, StoredFile
from tasks.custody.evidence.secrets_in_files import Search
from tasks.evidence.collect import collect
from tasks.evidence.seal import read_manifest, seal
from tests.support.run_context import case_of, key_of, made
from tests.support.workloads import SmallWorkload

SECRET = "ghp" + "_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"
LEAK = "logs/train-leak.log"


@pytest.fixture
def leaky(small: SmallWorkload) -> SmallWorkload:
    (small.root / LEAK).write_text(f"harmless\npushing with {SECRET}\n")
    return small


def collected(small: SmallWorkload, collector: str, **changes: Any) -> tuple[Evidence, set[Path]]:
    with case_of(small.block(**changes)) as context:
        evidence = made(collect.fn(context, collector))
        assert isinstance(evidence, Evidence)
        return evidence, {
            path
            for path in context.directory.path.rglob("*")
            if path.is_file() and SECRET.encode() in path.read_bytes()
        }


@pytest.mark.slow
def test_a_secret_in_a_log_is_told_by_line_and_the_log_is_kept_byte_for_byte(leaky: SmallWorkload) -> None:
    evidence, holding = collected(leaky, "logs")
    (search,) = [each for each in evidence.searches if each.hits]
    assert (search.stored, search.summary) == (LEAK, "GitHub token in line 2")
    assert {path.name for path in holding} == {Path(LEAK).name}
    assert evidence.outcome is Outcome.COLLECTED
    assert SECRET not in repr(evidence.searches)


def test_withhold_keeps_the_file_out_and_tells_what_it_was(leaky: SmallWorkload) -> None:
    evidence, holding = collected(leaky, "logs", sensitive="withhold")
    assert holding == set()
    (loss,) = evidence.losses
    assert (loss.source, loss.outcome) == (LEAK, Outcome.WITHHELD)
    data = (leaky.root / LEAK).read_bytes()
    assert "GitHub token in line 2" in loss.reason
    assert f"{len(data)} bytes" in loss.reason
    assert [file.stored for file in evidence.files] == ["logs/train-20260101_000000.log"]
    assert (evidence.is_complete, evidence.lost) == (True, False)
    assert SECRET not in json.dumps(loss.reason)


def test_a_collector_whose_every_file_is_withheld_is_no_loss(leaky: SmallWorkload) -> None:
    (leaky.root / "logs/train-20260101_000000.log").unlink()
    evidence, _ = collected(leaky, "logs", sensitive="withhold")
    assert (evidence.outcome, evidence.lost, evidence.files) == (Outcome.WITHHELD, False, ())


def test_what_binary_files_were_not_searched_for_is_said(leaky: SmallWorkload) -> None:
    (leaky.root / "models/model_builtin.joblib").write_bytes(b"\x80\x04" + bytes(100) + SECRET.encode() + b".")
    evidence, _ = collected(leaky, "models")
    (search,) = evidence.searches
    assert search.unsearched.startswith("binary")
    assert [hit.rule for hit in search.hits] == ["GitHub token"]


def test_the_setting_is_part_of_what_a_cached_result_depends_on(leaky: SmallWorkload) -> None:
    keys = set()
    for sensitive in ("scan", "withhold"):
        with case_of(leaky.block(sensitive=sensitive)) as context:
            keys |= {key_of(collect, context, collector=name) for name in ("logs", "artifacts", "models")}
    assert len(keys) == 6


@pytest.mark.parametrize(
    ("changes", "collectors"),
    [
        (
            {"needed": ["processes", "logs", "git"]},
            {"packages", "environment", "artifacts", "models", "code", "folders", "git", "last_writes"},
        ),
        ({"may_be_missing": ["logs", "processes"]}, {"logs"}),
        ({"units": ["training.service"]}, {"units"}),
        ({"interpreter": "env/bin/python"}, {"interpreter", "packages", "environment", "installation"}),
        ({"ask_seconds": 60}, set()),
    ],
)
def test_what_a_changed_block_asks_of_a_collector_is_asked_of_it_again_and_of_no_other(
    small: SmallWorkload, changes: dict[str, Any], collectors: set[str]
) -> None:
    with case_of(small.block()) as context:
        before = {name: key_of(collect, context, collector=name) for name in discover()}
    with case_of(small.block(**changes)) as context:
        assert {name for name in discover() if key_of(collect, context, collector=name) != before[name]} == collectors


@pytest.mark.parametrize("still_there", [True, False])
def test_what_an_earlier_run_stored_before_it_was_to_be_withheld_is_not_sealed(
    leaky: SmallWorkload, tmp_path: Path, *, still_there: bool
) -> None:
    (tmp_path / "other disk").mkdir()
    with case_of(leaky.block(fallback_dir=tmp_path / "other disk")) as context:
        collect.fn(context, "logs")
        (fallback_volume,) = filter(None, [context.directory.fallback_volume(1)])
        for again in (context.directory.evidence_dir(1) / "attempt-1" / LEAK, fallback_volume / LEAK):
            again.parent.mkdir(parents=True)
            again.write_bytes((leaky.root / LEAK).read_bytes())
        (fallback_volume / "harmless.log").write_text("harmless\n")
    if not still_there:
        (leaky.root / LEAK).unlink()
    with case_of(leaky.block(fallback_dir=tmp_path / "other disk", sensitive="withhold")) as context:
        evidence = made(collect.fn(context, "logs"))
        made(seal.fn(context, 1, [evidence]))
        stored = {file.stored for file in read_manifest(context.directory, 1).files}
        assert stored > {"harmless.log", "logs/train-20260101_000000.log"}
        assert not [name for name in stored if name.endswith(LEAK)]
        assert not [
            path
            for path in context.directory.path.rglob("*")
            if path.is_file() and SECRET.encode() in path.read_bytes()
        ]
        told = [json.loads(line) for line in (context.directory.path / "custody.jsonl").read_text().splitlines()]
    withheld = [line for line in told if "withheld" in line.values()]
    assert len(withheld) == 3
    assert "GitHub token in line 2" in str(withheld[0])


@pytest.mark.parametrize("sensitive", ["scan", "withhold"])
def test_a_copy_that_cannot_be_read_ends_nothing_and_is_not_kept_as_searched(sensitive: str, tmp_path: Path) -> None:
    target = Target("IR-20260102T030405Z", str(tmp_path), "python", 0, {}, [], sensitive=sensitive)
    (tmp_path / "next.txt").write_text("harmless\n")
    files = [StoredFile("lost.txt", "", 1, "00"), StoredFile("next.txt", "", 9, "00")]
    told = list(search_items(files, target, tmp_path, all_of_them=True))
    why = "all of it: No such file or directory"
    if sensitive == "scan":
        assert told == [files[0], Search("lost.txt", unsearched=why), files[1]]
    else:
        loss, kept = told
        assert isinstance(loss, Loss)
        assert (loss.outcome, kept) == (Outcome.WITHHELD, files[1])
        assert f"not searched, {why}" in loss.reason
