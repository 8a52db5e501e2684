"""What a doctor finds is what an evacuation then meets: it fails where that is fatal, and works where it is a loss."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event

import pytest
from prefect.settings import get_current_settings

from blocks.signing_key import SigningKey
from flows.evacuate import evacuate
from tasks.custody.errors import EvacuationError
from tasks.custody.incident.readiness import Finding, sound
from tasks.drill.store_and_worker import SeaweedFS
from tasks.host.host import LinuxHost
from tasks.incident import layout
from tasks.incident.directory import bases
from tasks.prefect_side.local_config import LocalConfig, using_local_config
from tasks.readiness.check_target import CheckTarget
from tasks.readiness.examine import PARTS, examine
from tests.support.faults import FAULTS, Fault, World, sound_store
from tests.support.workloads import SmallWorkload

TRIED = [fault for fault in FAULTS if fault.ends]
SAMPLE = {fault.name for fault in random.Random(19).sample(TRIED, 1)}  # noqa: S311  no secret
HERE = {part: PARTS[part] for part in ("host", "workload", "store")}


@pytest.fixture
def world(
    small: SmallWorkload, tmp_path: Path, seaweed: SeaweedFS, signing_key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    """A workload that is ready as soon as it is at work; what the cordon left behind is released at the end."""
    with ExitStack() as stack:
        made = World(small, tmp_path, sound_store(seaweed, signing_key, tmp_path), monkeypatch, stack)
        monkeypatch.setattr(layout, "MEMORY", tmp_path)
        yield made
        for base in bases(made.patient().workload):
            with suppress(NotADirectoryError):
                LinuxHost().release(base / layout.CORDON)


def evacuated(world: World) -> str:
    """The state of an evacuation with these blocks; Failed where it is refused."""
    patient = world.patient()
    with using_local_config(LocalConfig(patient.workload, patient.saved, get_current_settings())):
        state = evacuate(patient.name, patient.store, return_state=True)
    if isinstance(state.result(raise_on_failure=False), EvacuationError):
        return "Failed"
    return str(state.name)


@pytest.mark.whole
@pytest.mark.usefixtures("prefect")
@pytest.mark.parametrize(
    "fault",
    [pytest.param(each, id=each.name, marks=() if each.name in SAMPLE else pytest.mark.soak) for each in TRIED],
)
def test_an_evacuation_ends_as_the_doctor_has_said(world: World, fault: Fault) -> None:
    world.small.start_all()
    fault.breaks(world)
    found = examine(world.patient(), HERE)
    assert found.weights.items() >= fault.weights.items()
    assert evacuated(world) in fault.ends


@pytest.mark.whole
@pytest.mark.usefixtures("prefect")
def test_where_the_doctor_says_ready_an_evacuation_is_verified_while_he_still_looks(world: World) -> None:
    world.small.start_all()
    looking, go_on = Event(), Event()

    def busy(_: CheckTarget) -> Finding:
        looking.set()
        go_on.wait()
        return sound("looked")

    with ThreadPoolExecutor(1) as apart:
        found = apart.submit(examine, world.patient(), {**HERE, "more": (busy,)})
        looking.wait()
        assert evacuated(world) == "Verified"
        go_on.set()
    assert found.result().ending.name == "Ready"
