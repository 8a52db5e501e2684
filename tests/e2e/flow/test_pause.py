"""§1 on Prefect's own side: what starts training is paused and let go of again, on a real server."""

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import PREFECT_API_URL, temporary_settings

from blocks.workload import Workload
from tasks.cli.status import status
from tasks.cli.uncordon import let_go as uncordon_by_hand
from tasks.containment.pause_prefect import pause
from tasks.containment.release.resume_prefect import read_prior, resume
from tasks.custody.containment.cordon import Challenge
from tasks.custody.containment.pause import Launcher, LauncherKind, LauncherState, Pause, launchers, with_first_seen
from tasks.custody.containment.receipt import Containment
from tasks.custody.errors import Refused
from tasks.custody.incident.verdict import Word
from tasks.host.host import LinuxHost
from tasks.incident.layout import PRIOR
from tasks.prefect_side.scheduler import PrefectScheduler
from tasks.preflight.requirements import require_not_ours
from tasks.record.content import Findings
from tasks.record.findings import verdict_of
from tasks.runtime.flow_run import own_launchers
from tests.support.run_context import INCIDENT, case_of
from tests.support.scenes import Scene
from tests.support.workloads import SmallWorkload, free_port

pytestmark = pytest.mark.whole


class Training:
    """A deployment on a queue of a pool, under names of its own, and the two others to pause."""

    def __init__(self, client: SyncPrefectClient) -> None:
        """Make them."""
        self.client, self.name = client, f"t{uuid4().hex[:8]}"
        client.create_work_pool(WorkPoolCreate(name=self.name, type="process"))
        self.queue = client.create_work_queue(name="q", work_pool_name=self.name)
        flow_id = client.create_flow_from_name(f"train-{self.name}")
        self.deployment = client.create_deployment(
            flow_id, "d", work_pool_name=self.name, work_queue_name="q", entrypoint="x.y"
        )

    @property
    def fields(self) -> dict[str, list[str]]:
        """What the workload block says of them."""
        return {
            "pause_deployments": [f"train-{self.name}/d"],
            "pause_queues": [f"{self.name}/q"],
            "pause_pools": [self.name],
        }

    def paused(self) -> tuple[bool, bool, bool]:
        """Deployment, queue and pool, as the server shows them."""
        return (
            self.client.read_deployment(self.deployment).paused,
            self.client.read_work_queue(self.queue.id).is_paused,
            self.client.read_work_pool(self.name).is_paused,
        )


@pytest.fixture
def training(prefect: None) -> Iterator[Training]:  # noqa: ARG001  a fixture cannot be marked
    with get_client(sync_client=True) as client:
        yield Training(client)


@pytest.fixture
def small(tmp_path: Path) -> SmallWorkload:
    return SmallWorkload(tmp_path / "work load")


def pause_of(workload: Workload, *, dry_run: bool = False) -> Pause:
    """Pause as a run of an incident does."""
    with case_of(workload, dry_run=dry_run) as context:
        state: Any = pause.fn(context)
        made: Pause = state.data
        return made


def let_go(workload: Workload) -> bool:
    """Resume as recovery and uncordon do; whether it is complete."""
    return resume(PrefectScheduler(), workload.evidence / "cordon.json").is_complete


def test_everything_that_the_block_names_is_paused_and_resumed(small: SmallWorkload, training: Training) -> None:
    block = small.block(**training.fields)
    paused = pause_of(block)
    assert paused.is_complete
    assert training.paused() == (True, True, True)
    assert let_go(block)
    assert training.paused() == (False, False, False)
    assert not (block.evidence / PRIOR).exists()
    assert let_go(block)


def test_a_paused_queue_gives_a_worker_no_run_however_it_was_started(small: SmallWorkload, training: Training) -> None:
    block = small.block(pause_queues=training.fields["pause_queues"])
    pause_of(block)
    training.client.create_flow_run_from_deployment(training.deployment)
    assert training.client.get_scheduled_flow_runs_for_work_pool(training.name) == []
    let_go(block)
    assert len(training.client.get_scheduled_flow_runs_for_work_pool(training.name)) == 1


def test_what_was_left_paused_by_a_release_that_failed_is_resumed_by_hand(
    small: SmallWorkload, training: Training
) -> None:
    block = small.block(**training.fields)
    pause_of(block)
    (block.evidence / "open.json").write_text(json.dumps({"id": INCIDENT}))
    assert [line for line in status(block, LinuxHost(root=block.root)) if line.startswith("paused ")]
    assert "resumed: " in next(iter(uncordon_by_hand(block, LinuxHost(root=block.root))))
    assert training.paused() == (False, False, False)


def test_what_was_paused_before_us_stays_paused_at_release(small: SmallWorkload, training: Training) -> None:
    training.client.update_work_queue(training.queue.id, is_paused=True)
    training.client.pause_deployment(training.deployment)
    block = small.block(**training.fields)
    assert len(pause_of(block).before) == 2
    assert let_go(block)
    assert training.paused() == (True, True, False)


def test_cordoned_twice_and_under_another_incident_the_first_look_counts(
    small: SmallWorkload, training: Training
) -> None:
    training.client.update_work_queue(training.queue.id, is_paused=True)
    block = small.block(**training.fields)
    pause_of(block)
    with case_of(block, incident="IR-20270102T030405Z") as context:
        pause.fn(context)
    assert let_go(block)
    assert training.paused() == (False, True, False)


def test_killed_between_writing_down_and_pausing_the_first_look_counts(
    small: SmallWorkload, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    training.client.update_work_queue(training.queue.id, is_paused=True)
    block = small.block(**training.fields)

    def half(self: PrefectScheduler, which: Any, seconds: float, *, paused: bool) -> Any:
        done(self, list(which)[:1], seconds, paused=paused)
        raise KeyboardInterrupt

    done = PrefectScheduler.set_paused
    monkeypatch.setattr(PrefectScheduler, "set_paused", half)
    with pytest.raises(KeyboardInterrupt):
        pause_of(block)
    monkeypatch.undo()
    assert training.paused() == (True, True, False)
    assert pause_of(block).is_complete
    assert let_go(block)
    assert training.paused() == (False, True, False)


def test_an_unknown_name_costs_only_itself(small: SmallWorkload, training: Training) -> None:
    fields = training.fields | {
        "pause_pools": [training.name, "nobody"],
        "pause_queues": [f"{training.name}/nowhere", "odd"],
    }
    paused = pause_of(small.block(**fields))
    assert not paused.is_complete
    assert paused.open == (
        f"work queue {training.name}/nowhere is not paused: the Prefect server knows none of that name",
        "work queue odd is not paused: ValueError: expected pool/queue",
        "work pool nobody is not paused: the Prefect server knows none of that name",
    )
    assert training.paused() == (True, False, True)


@pytest.mark.parametrize("answers", [False, True])
def test_a_server_that_does_not_answer_is_a_reason_in_time(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch, *, answers: bool
) -> None:
    monkeypatch.setattr("tasks.containment.pause_prefect.SECONDS", 0.5)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        if answers:
            deaf.listen()
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/api"
        began = time.monotonic()
        with temporary_settings({PREFECT_API_URL: url}):
            paused = pause_of(small.block(pause_deployments=["train/x"]))
        assert time.monotonic() - began < 10
    assert [told.startswith("deployment train/x is not paused: ") for told in paused.open] == [True]


def test_a_launcher_that_is_gone_needs_no_release_but_one_that_cannot_be_asked_stays_written_down(
    small: SmallWorkload, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = small.block(**training.fields)
    pause_of(block)
    monkeypatch.setattr("tasks.containment.release.resume_prefect.SECONDS", 0.3)
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        assert not let_go(block)
    assert len(read_prior(block.evidence / "cordon.json")) == 3
    monkeypatch.undo()
    training.client.delete_deployment(training.deployment)
    assert let_go(block)
    assert read_prior(block.evidence / "cordon.json") == {}


def test_a_dry_run_pauses_nothing_and_says_what_it_would(small: SmallWorkload, training: Training) -> None:
    block = small.block(**training.fields)
    with case_of(block, dry_run=True) as context:
        state: Any = pause.fn(context)
        would = {
            entry["object"]
            for entry in context.log.entries()
            if (entry["action"], entry.get("act")) == ("would", "pause")
        }
    assert state.data.is_complete
    assert would == {str(launcher) for launcher in launchers(*training.fields.values())}
    assert training.paused() == (False, False, False)
    assert not (block.evidence / PRIOR).exists()


def test_a_disk_that_takes_nothing_does_not_stop_the_pause(
    small: SmallWorkload, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes, _: int) -> None:
        raise OSError(28, f"No space left on device for {len(data)} bytes", path)

    monkeypatch.setattr("tasks.containment.release.resume_prefect.write_whole", full)
    assert pause_of(small.block(**training.fields)).is_complete


def test_a_launcher_that_stays_open_is_not_contained_whatever_the_store_says(scene: Scene) -> None:
    scene.save(workload=scene.small.block(pause_deployments=["train/nobody"]))
    state = scene.evacuate()
    assert (state.type.value, state.name) == ("FAILED", "NotContained")
    assert "deployment train/nobody is not paused: " in str(state.message)
    told = json.loads((scene.home / "record/001/verdict.json").read_bytes())
    assert "the workload is contained" not in told["verdict"]["safe"]
    assert told["pause"]["states"][0]["launcher"]["name"] == "train/nobody"


def test_the_evacuations_own_launchers_are_known_also_inside_a_task(training: Training) -> None:
    @task
    def own() -> frozenset[Launcher]:
        return own_launchers()

    @flow(name=f"train-{training.name}")
    def ask() -> frozenset[Launcher]:
        return own()

    from prefect.flow_engine import run_flow

    run = training.client.create_flow_run_from_deployment(training.deployment)
    named = launchers(*training.fields.values())
    assert run_flow(ask, flow_run=run) == frozenset(named)
    assert ask() == frozenset()


@pytest.mark.parametrize("kind", list(LauncherKind))
def test_naming_the_evacuations_own_is_refused(kind: LauncherKind) -> None:
    own = {Launcher(kind, "evacuation") for kind in LauncherKind}
    require_not_ours([Launcher(kind, "training")], own)
    with pytest.raises(Refused, match=f"{kind} evacuation.*Nothing was touched"):
        require_not_ours([Launcher(kind, "training"), Launcher(kind, "evacuation")], own)


def test_what_was_seen_first_counts() -> None:
    a, b, c = (Launcher(LauncherKind.POOL, name) for name in "abc")
    seen = (LauncherState(a, paused=True), LauncherState(b, paused=True), LauncherState(c, None, "why"))
    assert with_first_seen({a: False}, seen) == {a: False, b: True}


def test_a_launch_that_nothing_caught_is_not_contained(small: SmallWorkload) -> None:
    contained = Containment(datetime.now(UTC), (), cordoned=True)
    caught = Challenge(datetime.now(UTC), caught="")
    findings = Findings(containment=contained, pause=Pause(()), challenge=caught)
    with case_of(small.block()) as context:
        assert verdict_of(context, findings).word is Word.NOT_CONTAINED
        assert verdict_of(context, replace(findings, challenge=None)).word is not Word.NOT_CONTAINED
