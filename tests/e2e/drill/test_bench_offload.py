"""The offload bench measures what it says, on a data set that is small: nothing here is a figure."""

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks import peers
from benchmarks.datasets import SETS
from benchmarks.figures import Figures, growth, profile, rows
from benchmarks.offload import Bench, main
from benchmarks.transfer import EVERYTHING, Done, Stage
from tasks.drill.parts import SeaweedFS


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench") / "tiny", SETS["tiny"])


def keys_of(server: SeaweedFS) -> set[str]:
    """What lies there by the public client's word."""
    listed = subprocess.run(
        ["aws", "s3api", "list-objects-v2", "--bucket", server.bucket, "--output", "json"],
        env=peers.environment(server),
        capture_output=True,
        check=True,
    )
    return {each["Key"] for each in json.loads(listed.stdout)["Contents"]}


@pytest.mark.soak
def test_the_runbook_and_we_leave_the_same_files_in_three_places(bench: Bench) -> None:
    files = {str(path.relative_to(bench.root)) for path in bench.root.rglob("*") if path.is_file()}
    places = ("snapshots/20260102T030405Z/", "latest/", "incidents/IR-20260102T030405Z/evidence/")
    with bench.server() as server:
        bench._typed(server)
        bench._counted(server)
        there = keys_of(server)
    for side in ("typed/", "ours/"):
        for place in places:
            assert {f"{side}{place}{name}" for name in files} <= there
    size = bench.figures.size
    assert size == sum((bench.root / name).stat().st_size for name in files)
    assert size < bench.figures.sent["first"] < 1.3 * size
    assert bench.figures.sent["second"] < size / 4
    assert bench.figures.typed["first"][0] > 0


@pytest.mark.soak
def test_the_whole_bench_on_a_small_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.offload.RESULTS", tmp_path)
    monkeypatch.setattr("benchmarks.rows.RESULTS", tmp_path)
    main(["tiny", "--rounds", "1"])
    told = json.loads((tmp_path / "offload.json").read_text())["rows"]
    assert len(told) >= 8
    assert all(row["ours"] > 0 for row in told)


def figures(ours: float, theirs: float) -> Figures:
    """Made up: each of our runs takes so long, and each of theirs."""
    seen = Figures(100 << 20, sent={"first": 101 << 20, "second": 6 << 20})
    for run, stages in (
        ("first", EVERYTHING),
        ("second", EVERYTHING),
        ("full", ("offload",)),
        ("resumed", ("offload",)),
    ):
        seen.ours[run] = [Done({stage: Stage(ours / len(stages), 0.1, 0.2) for stage in stages}, 300 << 20)] * 3
    seen.ours["one prefix"] = [Done({"one prefix": Stage(1, 0.1, 0.2), "proven": Stage(0.5, 0.1, 0.2)}, 401 << 20)]
    for run in ("first", "second", "s5cmd"):
        seen.typed[run] = [theirs, 1000, theirs]
    return seen


def test_goals_are_judged_by_medians_and_the_highest_peak() -> None:
    made = {row.what.partition(": ")[2]: row for row in rows("S", figures(2, 6))}
    assert made["copy, sums, three prefixes, proven, s"].holds
    assert made["one prefix, beside s5cmd, s"].ratio == 0.17
    assert not any("rclone" in what for what in made)
    assert made["bytes sent beside bytes of evidence, MiB"].holds
    assert not made["the same content again, MiB sent"].holds
    assert not made["resumed after a kill at half, beside a full run, s"].holds
    assert not made["peak memory, MiB"].holds
    assert not rows("S", figures(2.1, 6))[0].holds
    assert rows("L", figures(2.1, 6))[0].holds
    assert "one prefix, proven" in profile("S", figures(2, 6))


def test_ten_times_as_many_files_may_cost_eleven_times_as_much() -> None:
    tenth, whole = figures(1, 1), figures(1, 1)
    whole.ours["one prefix"] = [Done({"one prefix": Stage(11, 1, 1)}, 1 << 20)]
    time, memory = growth(tenth, whole)
    assert (time.ratio, time.holds, memory.holds) == (11, True, True)
    whole.ours["one prefix"] = [Done({"one prefix": Stage(11.1, 1, 1)}, 401 << 20)]
    assert not any(row.holds for row in growth(tenth, whole))


def test_the_sets_are_what_they_say(tmp_path: Path) -> None:
    assert SETS["tiny"].lay_out(tmp_path / "a") == SETS["tiny"].lay_out(tmp_path / "b")
    sizes = [path.stat().st_size for path in (tmp_path / "a/artifacts").glob("small-*")]
    assert (len(sizes), min(sizes) >= 4096, max(sizes) <= 65536) == (60, True, True)
