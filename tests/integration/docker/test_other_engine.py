"""A real container of an engine that nobody asks, as of a rootless Docker: judged by its own mounts, and left alone."""

import pytest

from tasks.containment.containment_check import check_containment
from tasks.containment.cordon import cordon
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tests.support.containers import Containers
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload

pytestmark = pytest.mark.whole

LOOP = ["sh", "-c", "echo up; while sleep 611; do (cd /app && sh nightly.sh); done"]


@pytest.mark.parametrize(
    ("bind", "is_asked"),
    [("{root}:/app", True), ("{root}/logs:/var", True), ("{root}:/app:ro", False), ("{other}:{root}", False)],
)
def test_what_has_the_root_writable_is_asked_about_and_a_neighbour_is_not_told(
    containers: Containers, small: SmallWorkload, bind: str, *, is_asked: bool
) -> None:
    (other := small.root.parent / "other").mkdir()
    id_ = containers.run(LOOP, working_dir="/", binds=[bind.format(root=small.root, other=other)])
    with case_of(small.block(docker_host="unix:///nowhere/docker.sock")) as context:
        for step in (cordon, freeze, stop):
            step.fn(context)
        seen = check_containment(context)
    told = [each for each in (*seen.alive, *(one.why for one in seen.unknown), *seen.left_alone) if id_[:12] in each]
    assert bool(told) == is_asked, seen.summary
    assert all("no engine that was asked has its container" in each for each in told)
    assert containers.state(id_) == "running"


def test_of_the_engine_that_is_asked_the_container_is_told_once(containers: Containers, small: SmallWorkload) -> None:
    id_ = containers.run(LOOP, working_dir="/", binds=[f"{small.root}:/app"])
    with case_of(containers.block(small, containers=[])) as context:
        seen = check_containment(context)
    assert containers.state(id_) == "running"
    assert [each for each in seen.alive if id_[:12] in each]
    assert not [each for each in seen.unknown if id_[:12] in each.why]
