"""The bench of reading counts what it says, on a disk of its own that is gone afterwards: no speed here is a figure."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from benchmarks.loop_disk import drop_caches, loop_disk
from benchmarks.reading import main, rows, times_read
from benchmarks.reading_steps import Reading, Readings

GIB = 1 << 30
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it mounts a disk")


def found(**disk: float) -> Readings:
    """Made up: so many bytes read by each step, of which half was copied; and asked for ten times."""
    steps = {name: Reading(2.0, int(each * GIB), int(10 * each * GIB)) for name, each in disk.items()}
    return Readings(steps, GIB // 2, GIB // 2)


def test_copies_are_charged_with_seal_and_check_and_what_lies_in_place_with_its_judgement() -> None:
    seen = found(collect=1, judge=0.25, seal=0.0, check=0.5, offload=1)
    assert times_read(seen, "disk") == (3.0, 2.5)
    assert times_read(seen, "asked") == (30.0, 25.0)


def test_the_goal_is_the_slower_of_the_two_and_no_byte_is_read_three_times() -> None:
    rates = {"ours": [950.0, 1.0, 2000.0], "cp": [1000.0], "sha256sum": [2000.0]}
    made = rows(rates, found(collect=1, judge=0, seal=0, check=0.5, offload=1))
    assert [row.holds for row in made] == [True, True, False, True, False, False]
    assert (made[0].ratio, made[1].ratio) == (0.95, 0.47)
    assert not rows(rates | {"ours": [949.0]}, found(collect=1, judge=0, seal=0, check=0, offload=1))[0].holds


@as_root
def test_a_disk_counts_what_is_read_from_it_and_leaves_nothing(tmp_path: Path) -> None:
    with loop_disk(tmp_path / "made", 64 << 20) as disk:
        (disk.path / "file").write_bytes(os.urandom(8 << 20))
        drop_caches()
        before = disk.read
        (disk.path / "file").read_bytes()
        assert 8 << 20 <= disk.read - before < 9 << 20
        before = disk.read
        (disk.path / "file").read_bytes()
        assert disk.read == before, "what the page cache has is not read"
        disk.leave(1 << 20)
        with pytest.raises(OSError, match="No space left"):
            (disk.path / "more").write_bytes(bytes(2 << 20))
        device = disk.device
    assert list((tmp_path / "made").iterdir()) == [tmp_path / "made/disk"]
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    assert f"/dev/{device}:" not in subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout


@as_root
@pytest.mark.soak
def test_the_whole_bench_in_its_smallest_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.reading.RESULTS", tmp_path)
    monkeypatch.setattr("benchmarks.rows.RESULTS", tmp_path)
    main(["--small"])
    told = {row["what"]: row for row in json.loads((tmp_path / "reading.json").read_text())["rows"]}
    often = [row["ours"] for what, row in told.items() if "from the disk" in what]
    assert len(often) == 2
    assert all(2 <= each < 2.1 for each in often)
    assert [path.name for path in tmp_path.iterdir()] == ["reading.json"]
