"""Our own folders are found among any number of strangers', within a time that everything before a freeze shares."""

import os
from pathlib import Path

import pytest

from tasks.system import time_limit
from tasks.system.files.own_folders import own_folders
from tasks.system.time_limit import before_the_freeze

NOBODY = 65534


def test_only_our_own_folders_of_the_name_are_found(tmp_path: Path) -> None:
    for name in ("ours-2", "ours-1", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "ours-file").touch()
    (tmp_path / "ours-link").symlink_to(tmp_path / "ours-1")
    if os.geteuid() == 0:
        (tmp_path / "ours-strange").mkdir()
        os.chown(tmp_path / "ours-strange", NOBODY, NOBODY)
    assert own_folders(tmp_path, "ours-") == [tmp_path / "ours-1", tmp_path / "ours-2"]
    assert own_folders(tmp_path / "nowhere", "ours-") == []


def test_what_no_time_is_left_for_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limit, "SECONDS", 0.0)
    (tmp_path / "ours-1").mkdir()
    with before_the_freeze() as limit:
        assert own_folders(tmp_path, "ours-") == [tmp_path / "ours-1"], "nobody else has made any here"
        assert limit.losses == []
        tmp_path.chmod(0o777)
        assert own_folders(tmp_path, "ours-") == own_folders(tmp_path, "ours-") == []
    (loss,) = limit.losses
    assert loss.startswith(f"{tmp_path} could not be read to its end in time")


def test_what_is_inside_shares_the_limit_of_what_is_outside() -> None:
    with before_the_freeze() as outer:
        with before_the_freeze() as inner:
            assert inner is outer is time_limit.time_limit()
        assert time_limit.time_limit() is outer
        assert outer.remaining(0.01) == 0.01
        assert 0 <= outer.remaining(10) <= time_limit.SECONDS
    assert time_limit.time_limit() is not outer
