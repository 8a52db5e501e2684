"""A training run the guarded way: real processes, a real Prefect server, its events and its logs."""

import asyncio
import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
from anyio.from_thread import start_blocking_portal
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import State, StateType
from prefect.events import Event, emit_event
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventResourceFilter
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelling

from flows.train import train
from tasks.containment.cordon import cordon
from tasks.custody.containment.identity import Identity
from tasks.host.host import LinuxHost
from tasks.host.process.table import start_of
from tasks.incident.directory import fallback_home
from tasks.system.declarations import VARIABLE
from tasks.training.log_lines import Lines, RateLimitedLog, readable
from tasks.training.process import Ended
from tasks.training.steps import find_stopping_incident, standing
from tests.support.run_context import case_of
from tests.support.scenes import Scene
from tests.support.workloads import SmallWorkload, open_the_way, wait_until

DOCS = Path(__file__).parents[3] / "docs/training.md"


class Trainee:
    """A small workload whose block is saved under a name of its own, and how its training runs ended."""

    def __init__(self, small: SmallWorkload, client: SyncPrefectClient) -> None:
        """Save the block."""
        self.small, self.client, self.name = small, client, f"t{uuid4().hex[:12]}"
        self.heard = list[Event]()
        self.save(training_command=small.training_command)

    def save(self, **changes: object) -> None:
        """Save the block, a changed one in place of the old."""
        self.block = self.small.block(**changes)
        self.block.save(self.name, overwrite=True)

    def script(self, code: str) -> None:
        """What the training does."""
        (self.small.root / "src/train.py").write_text(code)

    def train(self, **environment: str) -> State:
        """Run the flow here; the state that it ends in."""
        return train(self.name, environment or None, return_state=True)

    @contextmanager
    def training(self) -> Iterator[list[State]]:
        """Run the flow beside us, and be at work when we get there; its state is there at the end."""
        ended: list[State] = []
        runner = threading.Thread(target=lambda: ended.append(self.train()))
        runner.start()
        wait_until(lambda: len(self.small.living()) == 3, what="the training's workers")
        yield ended
        runner.join(30)
        assert ended

    def events(self) -> list[dict[str, Any]]:
        """The alarms of this workload, once the server has passed on everything."""
        emit_event("sentinel", {"prefect.resource.id": f"training.{self.name}"}, id=(mark := uuid4()))
        wait_until(lambda: any(event.id == mark for event in self.heard), what="the sentinel event")
        return [event.model_dump() for event in self.heard if event.event == "training.failed"]

    async def hear(self, ready: threading.Event) -> None:
        """Hear what the server passes on of this workload. It keeps no events: no other test here reads them."""
        this = EventFilter(resource=EventResourceFilter(id=[f"training.{self.name}"]))
        async with get_events_subscriber(this) as passed_on:
            ready.set()
            async for event in passed_on:
                self.heard.append(event)

    async def listen(self, ready: threading.Event, end: asyncio.Event) -> None:
        """Hear until the end."""
        hearing = asyncio.ensure_future(self.hear(ready))
        await end.wait()
        hearing.cancel()
        await asyncio.wait([hearing])

    def logged(self, state: State, needle: str) -> list[str]:
        """The run's log as the server has it, once the needle is in it."""
        this = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[state.state_details.flow_run_id]))

        def read() -> list[str]:
            pages = [self.client.read_logs(this, limit=200, offset=200 * page) for page in range(3)]
            return [line.message for page in pages for line in page]

        wait_until(lambda: any(needle in line for line in read()), what=f"{needle!r} in the run's log")
        return read()  # again: pages shift while lines are still coming in

    def tags(self, state: State) -> list[str]:
        """Tags of the run."""
        run = state.state_details.flow_run_id
        assert run
        return sorted(self.client.read_flow_run(run).tags)


@pytest.fixture
def trainee(prefect: None, small: SmallWorkload) -> Iterator[Trainee]:  # noqa: ARG001  a fixture cannot be marked
    with get_client(sync_client=True) as client, start_blocking_portal() as portal:
        trainee, ready, end = Trainee(small, client), threading.Event(), asyncio.Event()
        portal.start_task_soon(trainee.listen, ready, end)
        assert ready.wait(60)
        yield trainee
        portal.call(end.set)


def refused(lock: Path) -> bool:
    """Whether a launcher that asks is refused."""
    return subprocess.run(["flock", "-n", "-E", "75", str(lock), "true"], check=False).returncode == 75


def test_a_training_that_succeeds_is_streamed_tagged_and_raises_no_alarm(trainee: Trainee) -> None:
    trainee.script("import os\nprint('epoch 1', os.environ['SEED'], flush=True)\nprint('password=hunter2 done')")
    state = trainee.train(SEED="42")
    assert state.is_completed(), state.message
    assert trainee.tags(state) == sorted(["training", f"workload:{trainee.name}"])
    log = trainee.logged(state, "done")
    assert "epoch 1 42" in log
    assert [line for line in log if re.fullmatch(r"password=\[redacted:[0-9a-f]{8}\] done", line)]
    assert trainee.events() == []
    assert not refused(trainee.block.lock)


def test_a_training_that_fails_by_itself_raises_one_alarm_that_says_how(trainee: Trainee) -> None:
    trainee.script("print('loss is NaN, token=abc', flush=True)\nraise SystemExit(3)")
    state = trainee.train()
    assert (state.type, state.name) == (StateType.FAILED, "Failed")
    assert "exit code 3" in str(state.message)
    (event,) = trainee.events()
    assert event["payload"]["exit_code"] == 3
    (line,) = event["payload"]["last_lines"]
    assert re.fullmatch(r"loss is NaN, token=\[redacted:[0-9a-f]{8}\]", line)
    assert event["payload"]["run_id"] == str(state.state_details.flow_run_id)
    assert event["payload"]["host"] == trainee.block.host
    assert event["payload"]["pid"] > 1


def test_the_training_gets_nothing_of_our_environment(trainee: Trainee, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-of-ours")
    trainee.script("import os, json\nopen('environment.json', 'w').write(json.dumps(dict(os.environ)))")
    assert trainee.train().is_completed()
    assert "canary-of-ours" not in (trainee.small.root / "environment.json").read_text()


@pytest.mark.soak
def test_it_runs_as_the_owner_of_the_root_with_its_own_groups(trainee: Trainee) -> None:
    owner = 65534 if os.geteuid() == 0 else os.geteuid()
    open_the_way(trainee.small.root)
    os.chown(trainee.small.root, owner, -1)
    trainee.save(training_command=["sh", "-c", 'echo "it is $(id -u) in $PWD"; touch mine; echo "done"'])
    state = trainee.train()
    assert state.is_completed(), state.message
    assert f"it is {owner} in {trainee.small.root}" in trainee.logged(state, "done")
    assert (trainee.small.root / "mine").stat().st_uid == owner


def test_under_a_cordon_it_is_refused_with_the_incident_and_starts_nothing(trainee: Trainee) -> None:
    trainee.script("open('started', 'w')")
    with case_of(trainee.block) as context:
        cordon.fn(context)
        state = trainee.train()
        assert (state.type, state.name) == (StateType.COMPLETED, "Refused")
        assert context.incident.id in str(state.message)
    assert not (trainee.small.root / "started").exists()
    assert trainee.train().name == "Completed"


def test_the_marker_that_a_reboot_left_refuses_although_nobody_holds_the_lock(trainee: Trainee) -> None:
    trainee.script("open('started', 'w')")
    trainee.block.evidence.mkdir()
    marker = trainee.block.evidence / "cordon.json"
    marker.write_text('{"incident": "IR-20260102T030405Z", "pid": 1, "start": 1}')
    state = trainee.train()
    assert (state.type, state.name) == (StateType.COMPLETED, "Refused")
    assert "IR-20260102T030405Z" in str(state.message)
    assert not refused(trainee.block.lock)
    assert not (trainee.small.root / "started").exists()
    for damaged in ("", "\0\0", "[]"):
        marker.write_text(damaged)
        assert standing(trainee.block)
    marker.unlink()
    assert standing(trainee.block) is None
    (fallback := trainee.small.root.parent / "fallback").mkdir()
    kept = trainee.block.model_copy(update={"fallback_dir": fallback})
    home = fallback_home(kept, kept.evidence / "IR-20260102T030405Z", dry_run=False)
    assert home
    (home.parent / "cordon.json").write_text('{"incident": "IR-20260102T030405Z"}')
    assert standing(kept) == "IR-20260102T030405Z", "an incident that had no room in the evidence folder"


def test_while_another_training_holds_the_lock_it_is_refused(trainee: Trainee) -> None:
    trainee.block.lock.touch()
    with trainee.block.lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        state = trainee.train()
    assert (state.type, state.name) == (StateType.COMPLETED, "Refused")
    assert str(trainee.block.lock) in str(state.message)


@pytest.mark.whole
def test_a_launcher_that_takes_our_lock_itself_is_refused_by_it_and_raises_no_alarm(trainee: Trainee) -> None:
    lock = str(trainee.block.lock)
    trainee.save(training_command=["flock", "-n", "-E", "75", lock, "true"])
    state = trainee.train()
    assert (state.type, state.name) == (StateType.COMPLETED, "Refused"), state.message
    for words in ("exit code 75", lock, "training_refused", "docs/training.md"):
        assert words in str(state.message)
    assert trainee.events() == []
    for count, (code, refused_by) in enumerate([(75, 7), (1, 1)], 1):  # 1 is any failure's
        trainee.save(training_command=["sh", "-c", f"exit {code}"], training_refused=[refused_by])
        assert trainee.train().is_failed()
        assert len(trainee.events()) == count


def test_the_lock_lives_exactly_as_long_as_the_training_tree_and_is_not_ours(trainee: Trainee) -> None:
    with trainee.training() as ended:
        assert refused(trainee.block.lock)
        ours = {str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()}
        assert str(trainee.block.lock) not in ours
        parent = psutil.Process(min(trainee.small.living(), key=lambda process: process.create_time()).pid)
        workers = parent.children()
        parent.kill()
        wait_until(lambda: ended, what="the run's end")
        assert refused(trainee.block.lock)
        for worker in workers:
            worker.kill()
        wait_until(lambda: not refused(trainee.block.lock), what="the lock's end")
    assert ended[0].is_failed()
    (event,) = trainee.events()
    assert event["payload"]["exit_code"] == -signal.SIGKILL
    assert sorted(event["payload"]["still_running"]) == sorted(worker.pid for worker in workers)


@pytest.mark.whole
def test_stopped_by_an_evacuation_it_is_cancelled_and_raises_no_alarm(trainee: Trainee, scene: Scene) -> None:
    scene.save(workload=trainee.block)
    with trainee.training() as ended:
        first = min(trainee.small.living(), key=lambda process: process.create_time()).pid
        this = Identity(first, start_of(first))
        assert scene.evacuate().name == "Verified"
        wait_until(lambda: ended, what="the run's end")
    (state,) = ended
    assert (state.type, state.name) == (StateType.CANCELLED, "Cancelled")
    assert scene.home.name in str(state.message)
    assert trainee.events() == []
    LinuxHost().release(scene.block.evidence / "cordon.json")
    assert find_stopping_incident(trainee.block, Ended(this, 0, (), ())) == scene.home.name
    assert find_stopping_incident(trainee.block, Ended(Identity(this.pid, 1), 1, (), ())) is None


@pytest.mark.soak
def test_cancelled_by_a_person_it_ends_the_whole_tree_and_raises_no_alarm(trainee: Trainee) -> None:
    flow_id = trainee.client.create_flow_from_name("train")
    deployment = trainee.client.create_deployment(
        flow_id, trainee.name, entrypoint="flows.train.train", pull_steps=[], parameters={"workload": trainee.name}
    )
    run = trainee.client.create_flow_run_from_deployment(deployment)
    trainee.script(
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        + (trainee.small.root / "src/train.py").read_text()
    )
    environment = {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())}
    execute = [sys.executable, "-m", "prefect", "flow-run", "execute", str(run.id)]
    elsewhere = trainee.small.root.parent / "elsewhere"  # the command copies the folder that it is called in
    elsewhere.mkdir()
    with subprocess.Popen(
        execute, cwd=elsewhere, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as worker:
        wait_until(lambda: len(trainee.small.living()) == 3, 40, what="the training's workers")
        trainee.client.set_flow_run_state(run.id, Cancelling())
        worker.wait(60)
    assert trainee.small.living() == []
    assert not refused(trainee.block.lock)
    ended = trainee.client.read_flow_run(run.id)
    assert ended.state_name == "Cancelled", ended.state
    assert {"training", f"workload:{trainee.name}"} <= set(ended.tags)
    assert trainee.events() == []


def test_hostile_output_is_text_in_a_bounded_log_and_what_is_left_out_is_told(trainee: Trainee) -> None:
    trainee.script(
        "import os\n"
        "os.write(1, b'\\x00\\xff\\x1b[31m secret\\n')\n"
        "os.write(1, b'A' * 3_000_000 + b'\\n')\n"
        "os.write(1, b'flood\\n' * 200_000)\n"
        "os.write(1, b'no end of line')\n"
        "raise SystemExit(1)\n"
    )
    state = trainee.train()
    assert state.is_failed()
    log = trainee.logged(state, "Finished in state")
    assert "\\x00\\xff\\x1b[31m secret" in log
    assert any("lines left out here" in line for line in log)
    assert any(line.endswith("[2998000 bytes more]") for line in log), "what of it is no word is hidden"
    (event,) = trainee.events()
    assert event["payload"]["last_lines"][-1] == "no end of line"
    assert len(event["payload"]["last_lines"]) == 20


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"training_command": []}, "training_command"), ({"host": "elsewhere"}, "to run on elsewhere")],
)
def test_what_cannot_be_trained_is_refused_with_what_to_do_and_is_no_failure(
    trainee: Trainee, changes: dict[str, object], words: str
) -> None:
    trainee.save(**changes)
    state = trainee.train()
    assert (state.type, state.name) == (StateType.COMPLETED, "Refused"), "Failed with these tags would raise the alarm"
    assert trainee.tags(state) == sorted(["training", f"workload:{trainee.name}"])
    assert words in str(state.message)
    assert "Nothing was touched" in str(state.message)


def test_a_block_that_is_not_there_is_refused(trainee: Trainee) -> None:
    state = train(f"not-{trainee.name}", return_state=True)
    assert (state.type, state.name) == (StateType.COMPLETED, "Refused")
    assert trainee.name in str(state.message)


def test_a_command_that_cannot_be_started_is_refused_and_leaves_the_lock_free(trainee: Trainee) -> None:
    trainee.save(training_command=["venv/bin/nothing"])
    state = trainee.train()
    assert (state.type, state.name) == (StateType.COMPLETED, "Refused")
    assert "venv/bin/nothing" in str(state.message)
    assert not refused(trainee.block.lock)
    assert trainee.events() == []


def one_liner(variant: str) -> str:
    """The launcher as the page has it, the third line in one of its two variants."""
    first, second = re.findall(r"```sh\n(.*?)```", DOCS.read_text(), re.DOTALL)[1:3]
    lines = first.splitlines()
    return "\n".join(["", lines[1], lines[2] if variant == "prefect" else second.strip(), lines[3]])


def launch(trainee: Trainee, variant: str = "prefect") -> int:
    """Run it as written, with its names, and `make` as the training; its exit code."""
    programs = trainee.small.root / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "make").write_text('#!/bin/sh\ntest "$1" = train-full && exec venv/bin/python -u src/train.py\n')
    (programs / "make").chmod(0o755)
    names = {
        "NAME": trainee.name,
        "LOCK": str(trainee.block.lock),
        "MARKER": str(trainee.block.evidence / "cordon.json"),
    }
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, **names, "PATH": path, "PREFECT_API_URL": str(PREFECT_API_URL.value())}
    script = one_liner(variant)
    return subprocess.run(["sh", "-c", script], cwd=trainee.small.root, env=environment, check=False).returncode


@pytest.mark.parametrize("variant", ["prefect", "curl"])
def test_the_one_liner_as_written_raises_one_alarm_when_the_training_fails(trainee: Trainee, variant: str) -> None:
    trainee.script("raise SystemExit(3)")
    assert launch(trainee, variant) == 3
    (event,) = trainee.events()
    assert event["payload"]["exit_code"] == 3


@pytest.mark.soak
def test_the_one_liner_as_written_refuses_under_marker_or_lock_and_says_nothing(trainee: Trainee) -> None:
    trainee.script("open('started', 'w')")
    trainee.block.lock.touch()
    with trainee.block.lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert launch(trainee) == 75
    trainee.block.evidence.mkdir()
    (trainee.block.evidence / "cordon.json").write_text("{}")
    assert launch(trainee) == 75
    assert not (trainee.small.root / "started").exists()
    (trainee.block.evidence / "cordon.json").unlink()
    assert launch(trainee) == 0
    trainee.script("open('evidence/cordon.json', 'w')\nraise SystemExit(130)")
    assert launch(trainee) == 130
    assert trainee.events() == []


def test_lines_are_cut_where_they_end_however_the_data_is_split() -> None:
    data = b"a\r\nb\rc\n\nd"
    for size in range(1, len(data) + 1):
        lines = Lines()
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        assert [*(line for piece in pieces for line in lines.feed(piece)), *lines.rest()] == [
            b"a",
            b"b",
            b"c",
            b"",
            b"d",
        ]


def test_an_endless_line_takes_no_memory() -> None:
    lines = Lines()
    for _ in range(1000):
        assert list(lines.feed(b"x" * 10_000)) == []
    assert len(lines._held) == 2000
    assert list(lines.rest()) == [b"x" * 2000 + b" [9998000 bytes more]"]


def test_a_flood_is_cut_counted_and_let_through_again() -> None:
    told: list[str] = []
    now = [0.0]
    log = RateLimitedLog(told.append, burst=3, rate=1, clock=lambda: now[0])
    for number in range(10):
        log(b"%d" % number)
    now[0] = 1.5
    log(b"later")
    log(b"lost")
    log.report_skipped()
    assert told == [
        "0",
        "1",
        "2",
        "[7 lines left out here: they came too fast]",
        "later",
        "[1 lines left out here: they came too fast]",
    ]
    assert list(log.last)[-2:] == [b"later", b"lost"]


def test_whatever_the_bytes_it_is_text_that_a_database_takes() -> None:
    text = readable(bytes(range(256)) + "損失\u2028\ud7ff".encode())
    assert "\0" not in text
    assert all(letter.isprintable() or letter == "\t" for letter in text)
    assert "損失" in text


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_training_does_not_run_as_root_undeclared(trainee: Trainee, monkeypatch: pytest.MonkeyPatch) -> None:
    trainee.script("open('began', 'w')")
    monkeypatch.delenv(VARIABLE)
    state = trainee.train()
    assert (state.name, "an account other than root" in str(state.message)) == ("Refused", True), state.message
    assert not (trainee.small.root / "began").exists()
