"""What of the workload's files that are no models may go to latest/."""

from tasks.custody.evidence.artifact import unsteady

GREW = "it grew while it was read: its first 5 bytes are here"


def test_a_log_may_grow_and_nothing_may_change() -> None:
    assert unsteady("a/x.png", GREW)
    assert not unsteady("logs/x.log", GREW)
    assert not unsteady("a/x.png", "a hard link, the same file as a/y.png; another file has its name by now")
    for said in ("it changed while it was read", "it was truncated while it was read"):
        assert unsteady("logs/x.log", f"a link to y; {said}") == said
