"""When an attempt is over: by all its time, or by the time in which nothing moved."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.acquisition.collector import Target
from tasks.collectors import discover
from tasks.collectors.attempt import Pulse, attempt, count_moved_bytes
from tests.support.workloads import wait_until

SLOW = """
import json, sys, time
from pathlib import Path
part = Path(sys.argv[2]) / "huge.part"
with part.open("wb") as out:
    for _ in range(20):
        out.write(b"x" * 1000)
        out.flush()
        time.sleep(0.1)
print(json.dumps("end"))
"""


def test_who_moves_may_go_on_until_all_the_time_is_over() -> None:
    pulse = Pulse(10.0, 2.0)
    assert [pulse.over(now, now) for now in range(10)] == [""] * 10
    assert pulse.over(10, 10) == "not done after 10 s"


def test_who_does_not_move_is_over_sooner() -> None:
    pulse = Pulse(10.0, 2.0)
    assert [pulse.over(now, 7) for now in (0.0, 1.0, 1.9)] == [""] * 3
    assert pulse.over(2.0, 7) == "neither read nor wrote for 2 s"


def test_who_cannot_be_seen_to_move_is_given_all_the_time() -> None:
    pulse = Pulse(10.0, 2.0)
    assert [pulse.over(now, None) for now in range(10)] == [""] * 10
    assert pulse.over(10, None)


@given(
    st.floats(1, 100),
    st.floats(0.5, 100),
    st.lists(st.tuples(st.floats(0, 5), st.none() | st.integers(0, 3)), min_size=1),
)
def test_an_attempt_is_never_over_early_and_never_late(
    seconds: float, stalled: float, looks: list[tuple[float, int | None]]
) -> None:
    pulse, now, still_since, last = Pulse(seconds, stalled), 0.0, 0.0, -1
    for number, (later, seen) in enumerate(looks):
        now += later if number else 0.0
        if seen is None or seen != last:
            still_since, last = now, seen or 0
        over = bool(pulse.over(now, seen))
        assert over == (now >= seconds or now - still_since >= stalled)
        assert pulse.seconds_left(now) > 0


def test_a_process_that_reads_and_writes_is_seen_to_move() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as cat:
        before = count_moved_bytes(cat.pid)
        assert cat.stdin
        cat.stdin.write(b"x" * 1000)
        cat.stdin.flush()
        wait_until(lambda: (count_moved_bytes(cat.pid) or 0) >= (before or 0) + 2000, what="the bytes")
    assert count_moved_bytes(cat.pid) is None


@pytest.mark.whole
@pytest.mark.slow
@pytest.mark.parametrize(("pause", "ended"), [("0.1", False), ("3", True)])
def test_the_copy_of_one_huge_file_is_progress_as_long_as_bytes_arrive(
    tmp_path: Path, pause: str, *, ended: bool
) -> None:
    """It tells nothing for two seconds and more, and may do nothing for one."""
    program, staging = tmp_path / "slow.py", tmp_path / "staging"
    program.write_text(SLOW.replace("0.1", pause))
    staging.mkdir()
    globs: dict[str, list[str]] = {"logs": [], "artifacts": [], "models": []}
    target = Target("IR-20260102T030405Z", str(tmp_path), "python", os.geteuid(), globs, [], seconds=60.0)
    what = replace(discover()["models"], stalled=1.0)
    lines, trouble = attempt(what, target, staging, program=(sys.executable, str(program)))
    assert lines == []
    assert (trouble and trouble.reason) == ("neither read nor wrote for 1 s" if ended else None)
