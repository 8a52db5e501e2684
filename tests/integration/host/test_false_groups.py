"""A control group that is called as a container's holds whoever was moved there: what sees our files is in none."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from secrets import token_hex

import psutil
import pytest

from tasks.containment.containment_check import prove_contained, prove_still_contained
from tasks.containment.cordon import IncidentCordon, cordon
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.containment.watch import watch
from tasks.custody.containment.receipt import Containment
from tasks.host.cgroup.group import Hierarchy
from tests.integration.host.test_suspects import apart
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload, wait_until

HIERARCHY = Hierarchy.find()
pytestmark = pytest.mark.skipif(
    HIERARCHY is None or os.geteuid() != 0, reason="no control groups of version 2, or no root to make one"
)


@contextmanager
def group(engine: str) -> Iterator[list[str]]:
    """A group called as a container's of that engine; yields what starts a program in it. What is left ends with it."""
    assert HIERARCHY
    place = HIERARCHY.place / f"{engine}-{token_hex(32)}.scope"
    place.mkdir()
    try:
        yield ["sh", "-c", f'echo $$ > {place}/cgroup.procs; exec "$@"', "sh"]
    finally:
        (place / "cgroup.kill").write_text("1")
        wait_until(lambda: not (place / "cgroup.procs").read_text(), what="its end")
        place.rmdir()


def whole(small: SmallWorkload, **fields: object) -> Containment:
    """§1 to §3 with the watch, and what the last check says."""
    with case_of(small.block(**fields)) as context:
        for step in (cordon, freeze, stop, prove_contained, watch):
            step.fn(context)
        seen: Containment = made(prove_still_contained.fn(context))
        return seen


@pytest.mark.whole
@pytest.mark.parametrize("engine", ["libpod", "docker"])
def test_a_loop_in_such_a_group_is_named(small: SmallWorkload, tmp_path: Path, engine: str) -> None:
    train = "venv/bin/python -u src/train.py --dataset builtin --mode full"
    (tmp_path / "again.sh").write_text(f'while sleep 601; do (cd "{small.root}" && {train}); done\n')
    with group(engine) as by, apart(["bash", str(tmp_path / "again.sh")], Path("/"), by=by) as loop:
        seen = whole(small)
        assert loop.is_running()
        assert any(f"{loop.pid}: bash" in each for each in seen.alive), seen.summary


@pytest.mark.whole
@pytest.mark.parametrize("place", ["the root", "another folder"])
def test_who_has_mounts_of_his_own_in_such_a_group_is_judged_by_these(
    small: SmallWorkload, tmp_path: Path, place: str
) -> None:
    for name in ("app", "other"):
        (tmp_path / name).mkdir()
    shown = small.root if place == "the root" else tmp_path / "other"
    mounts = ["unshare", "-m", "sh", "-c", f'mount --bind "{shown}" {tmp_path}/app; exec "$@"', "sh"]
    code = "import time; time.sleep(602)"
    with group("libpod") as by, apart(["/usr/bin/python3", "-c", code], Path("/"), by=[*by, *mounts]) as one:
        seen = whole(small)
        assert one.is_running()
        assert [each.identity.pid for each in seen.unknown] == [one.pid] * (place == "the root"), seen.summary


@pytest.mark.whole
@pytest.mark.parametrize("mounts", [[], ["unshare", "-m"]], ids=["our mounts", "mounts of its own"])
def test_a_training_that_starts_in_such_a_group_is_frozen(small: SmallWorkload, mounts: list[str]) -> None:
    """Before the freeze, and under the cordon by the guard."""
    with group("libpod") as named, ExitStack() as ends, case_of(small.block()) as context:
        start = [*named, *mounts]
        first = ends.enter_context(apart(small.training_command, small.root, by=start))
        for step in (cordon, freeze):
            step.fn(context)
        assert first.status() == psutil.STATUS_STOPPED
        stop.fn(context)
        assert made(prove_contained.fn(context)).is_complete
        IncidentCordon(context).wait()
        again = ends.enter_context(apart(small.training_command, small.root, by=start))
        wait_until(lambda: again.status() == psutil.STATUS_STOPPED, 10, "its freeze")
