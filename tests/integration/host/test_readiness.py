"""A doctor names each fault of host, workload and store, and nothing else; and it touches nothing."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from blocks.signing_key import SigningKey
from tasks.custody.incident.readiness import Finding, Weight, loss, sound
from tasks.drill.store_and_worker import SeaweedFS
from tasks.incident.directory import disks
from tasks.readiness import host
from tasks.readiness.check_target import CheckTarget
from tasks.readiness.examine import PARTS, examine, name_of
from tasks.readiness.host import check_guard, check_incident
from tasks.readiness.store import check_canary
from tasks.system.unit_files import escape
from tests.support.faults import FAULTS, SOUND, Fault, World, hold_cordon, sound_store
from tests.support.workloads import SmallWorkload


@pytest.fixture
def world(
    small: SmallWorkload, tmp_path: Path, seaweed: SeaweedFS, signing_key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    """A workload that is ready as soon as it is at work."""
    with ExitStack() as stack:
        yield World(small, tmp_path, sound_store(seaweed, signing_key, tmp_path), monkeypatch, stack)


HERE = {part: PARTS[part] for part in ("host", "workload", "store")}
"""What is looked at without a Prefect server."""


def test_a_sound_host_is_ready_and_nothing_is_touched(world: World) -> None:
    world.small.start_all()
    patient = world.patient()
    before = {path: path.stat().st_mtime_ns for path in world.folder.rglob("*") if "logs" not in path.parts}
    found = examine(patient, HERE)
    assert found.weights == {}, found.message
    assert (found.ending.name, len(found.findings)) == ("Ready", sum(map(len, HERE.values())))
    assert {path: path.stat().st_mtime_ns for path in world.folder.rglob("*") if "logs" not in path.parts} == before
    assert {each.status() for each in world.small.living()}.isdisjoint({psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE})
    assert [*patient.writer.list("")] == []
    assert patient.seen
    assert patient.writer.head(patient.seen.key)


@pytest.mark.short(1)
@pytest.mark.sample(30)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_is_named(world: World, fault: Fault) -> None:
    if any(name.startswith("workload/") for name in fault.weights):
        world.small.start_all()
    fault.breaks(world)
    checks = {part: [each for each in HERE[part] if f"{part}/{name_of(each)}" in fault.weights] for part in HERE}
    checks["store"] = [*({check_canary} if fault.needs_canary else ()), *checks["store"]]
    found = examine(world.patient(), checks)
    assert found.weights == fault.weights, "\n".join(f"{each.name}: {each.found}" for each in found.findings)
    assert all(each.matters and each.cure for each in found.bad)


@pytest.mark.parametrize("name", SOUND)
def test_the_scene_of_a_fault_without_it_is_sound(world: World, name: str) -> None:
    world.small.start_all()
    SOUND[name](world)
    part, _, check = name.partition("/")
    (found,) = examine(world.patient(), {part: [each for each in HERE[part] if name_of(each) == check]}).findings
    assert found.weight is Weight.SOUND, found


def test_a_cordon_under_its_guard_is_a_loss_alone(world: World) -> None:
    hold_cordon(world)
    (found,) = examine(world.patient(), {"host": [check_incident]}).findings
    assert (found.weight, "a cordon stands: " in found.found) == (Weight.LOSS, True), found


@pytest.mark.parametrize("enabled", ["both", "evidence"])
def test_the_guard_of_each_disk_that_a_cordon_may_lie_on_has_to_come_back(
    world: World, tmp_path: Path, enabled: str
) -> None:
    """Of systemd only its command is played: the fallback's guard was in no unit, and the doctor found all sound."""
    (fallback := tmp_path / "fallback").mkdir()
    (tmp_path / "systemctl").write_text(f'#!/bin/sh\ncase "$*" in *fallback*) exit {int(enabled != "both")};; esac\n')
    (tmp_path / "systemctl").chmod(0o755)
    world.patch.setattr(host, "BOOTED", tmp_path)
    world.patch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    world.fields["fallback_dir"] = fallback
    (found,) = examine(world.patient(), {"host": [check_guard]}).findings
    assert found.weight is (Weight.SOUND if enabled == "both" else Weight.LOSS), found
    assert escape(disks(world.patient().workload)[-1]) in found.found


@pytest.mark.soak
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_is_named_and_nothing_else(world: World, fault: Fault) -> None:
    world.small.start_all()
    fault.breaks(world)
    found = examine(world.patient(), HERE)
    assert found.weights == fault.weights, "\n".join(f"{each.name}: {each.found}" for each in found.bad)


@pytest.mark.whole
def test_what_raises_or_does_not_answer_is_a_loss_and_the_rest_is_looked_at(world: World) -> None:
    def raises(_: CheckTarget) -> Finding:
        raise RuntimeError("out of order")

    def hangs(_: CheckTarget) -> Finding:
        world.stack.enter_context(ExitStack())
        import time

        time.sleep(30)
        return sound("")

    def fine(_: CheckTarget) -> Finding:
        return sound("fine")

    found = examine(world.patient(), {"a": (raises, hangs, fine)}, 5.0)
    assert [each.weight for each in found.findings] == [Weight.LOSS, Weight.LOSS, Weight.SOUND]
    assert "RuntimeError: out of order" in found.findings[0].found
    assert "no answer within 5 s" in found.findings[1].found
    assert loss("", "", "").weight is Weight.LOSS
