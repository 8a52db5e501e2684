"""What of the workload's files that are no models may go to latest/."""

import pytest

from tasks.custody.evidence.artifact import not_plain, unsteady

GREW = "it grew while it was read: its first 5 bytes are here"


@pytest.mark.parametrize("stored", ["a/s.json", "a/S.CSV", "a/x.png", "logs/t.log", "logs/t.log.1", "logs/nohup.out"])
def test_plain_files_are_promoted(stored: str) -> None:
    assert not not_plain(stored)


@pytest.mark.parametrize(
    "stored", ["a/x", "a/x.bin", "a/x.json.gz", "a/x.log.gz", "a/x.PKL", "a/log", "a/x.py", "a/x.npy"]
)
def test_whatever_else_there_is_is_held(stored: str) -> None:
    assert "neither" in not_plain(stored)


def test_a_log_may_grow_and_nothing_may_change() -> None:
    assert unsteady("a/x.png", GREW)
    assert not unsteady("logs/x.log", GREW)
    assert not unsteady("a/x.png", "a hard link, the same file as a/y.png; another file has its name by now")
    for said in ("it changed while it was read", "it was truncated while it was read"):
        assert unsteady("logs/x.log", f"a link to y; {said}") == said
