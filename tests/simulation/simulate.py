"""Draw evacuations by seed, run them, and say what was not so: `make simulate SEED=1 RUNS=9`.

What it cannot see:
- two runs at work at once, and races of threads: a run is one thread, and the guard looks between its acts;
- Prefect's engine, server and worker, alarms and second triggers that join, fleets, recovery;
- signatures, time stamps and whoever tampers with the store: an audit is asked whether honest documents contradict;
- the start of a run (prestart): nothing is frozen before the run begins;
- containers, control groups, GPUs, cron, accounts, namespaces, open files: a process is what paper says it is;
- the kernel: /proc, signals on their way, pids used again; what a power loss takes is tests/crash's;
- files other than a log, a model and a summary: links, rights, large files, a disk that fills while one is copied;
- a store that is slow, S3's own protocol, several hosts with one store, `latest/` under other policies;
- pages, artifacts and the Japanese words: a message is judged by its English ones.
"""

import argparse
import pickle
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from tasks.custody.containment.answer import Decision, GivenAnswer
from tests.simulation import faults
from tests.simulation.cast import SERVE, people
from tests.simulation.oracle import NOT_ALLOWED, audit_contradicts, false_words, guarded, last_verdict, left_here, named
from tests.simulation.run import End, Event, Order, ran
from tests.simulation.store import Moods, TruthStore
from tests.simulation.world import KINDS, SimClock, SimHost, World

_CARRIED_ON = 9
_ANSWERS = 0.6
"""How often a person answers on a process that is not known, and does not end it by hand."""
_EVENTS = {"kill": 0.5, "cancel": 0.15, "lose_copy": 0.15, "step_clock": 0.1, "fill_disk": 0.1, "fail": 0.1}
"""What happens to a run, and in how many."""
_STEPS = (
    *("", "", "", "freeze", "collect", "stop", "stop", "stop", "prove_contained", "judge_models", "seal", "seal"),
    *("check_seal", "offload", "verify", "watch", "prove_still_contained", "promote", "record", "record"),
)
"""From whose beginning acts are counted: from the run's, or a step's, so that short steps are met as often as long."""


@dataclass
class Story:
    """What happened, a line each, and what was false."""

    seed: int
    lines: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)


def draw_world(rng: Random, folder: Path) -> World:
    """A workload's folder, who lives on its host, and a store."""
    root = folder / "root"
    for each in ("models", "artifacts", "logs", "src", "venv/bin"):
        (root / each).mkdir(parents=True)
    (root / "venv/bin/python").symlink_to(sys.executable)
    (root / "src/train.py").write_text("pass\n")
    (root / "models/model_builtin.joblib").write_bytes(pickle.dumps({"weights": [1, 2, 3]}))
    (root / "artifacts/summary_builtin.json").write_text("{}")
    (root / "logs/train-20260101_000000.log").write_text("iteration 1\n")
    (root / "logs/api-20260101.log").write_text("{}\n")
    host = SimHost(root, SimClock(time.time()))
    people(host, rng)
    block = {
        "root": root,
        "lock": folder / "lock",
        "evidence_dir": folder / "evidence",
        "api_command": list(SERVE),
        "grace_seconds": rng.choice((1, 3)),
        "watch_seconds": rng.choice((1, 4)),
        "stop_supervisors": rng.random() < 0.5,
        "inspect_models": False,
        "reserve_mb": 1,
    }
    if rng.random() < 0.4:
        host.systemd.failing.add("stop")
    stood = frozenset(pid for pid, each in host.processes.items() if each.state == "T")
    return World(folder, host, TruthStore(), block, stood=stood)


def draw_moods(rng: Random) -> Moods:
    """How the store is in one run."""
    if rng.random() < 0.5:
        return Moods()

    def acts() -> frozenset[int]:
        return frozenset({rng.randint(1, 40)} if rng.random() < 0.4 else ())

    begin = rng.randint(1, 60)
    gone = (begin, begin + rng.choice((1, 3, 1000))) if rng.random() < 0.4 else (0, 0)
    return Moods(gone, acts(), acts(), acts(), denies_latest=rng.random() < 0.2, claimed=rng.random() < 0.1)


def draw_order(rng: Random, number: int) -> Order:
    """What is asked of one run, and what happens to it."""
    events = list[Event]()
    for what, chance in _EVENTS.items():
        if rng.random() < chance:
            step = rng.choice(_STEPS)
            act = int(rng.expovariate(0.15)) + 1 if step else rng.randint(1, 230)
            size = rng.choice((-7200, -30, 5, 90, 86400)) if what == "step_clock" else 0
            events += [Event(what, act, step, size)]
            events += [Event("free_disk", act + rng.choice((1, 4, 30)), step)] if what == "fill_disk" else []
    return Order(
        policy="kill" if rng.random() < 0.15 else "graceful",
        events=tuple(events),
        fails=tuple(name for name in ("tree", "logs", "models") if rng.random() < 0.06),
        after=rng.choice((1.1, 1.1, 2, 15)),
        retry=f"00000000-0000-4000-8000-{1000 + number // 2:012d}" if rng.random() < 0.3 else "",
    )


def person_acts(world: World, message: str) -> list[str]:
    """Do what the message says: end by hand what it names. What the workload has not started it leaves alone."""
    host, done = world.host, list[str]()
    for pid in sorted(named(message)):
        if pid in host.processes and "guard" not in host.processes[pid].name:
            done.append(" ".join(host.processes[pid].command))
            host.end(pid)
    return [*done, *stop_units(world, message)]


def stop_units(world: World, message: str) -> list[str]:
    """Stop the services that a message names."""
    host, told = world.host, [unit for unit in world.host.systemd.units if unit in message]
    for unit in told:
        host.systemd.units[unit]["ActiveState"] = "inactive"
        host.end_unit(unit, "")
    return told


def simulate(seed: int, change: Callable[[], object] = int, *, tell: bool = False) -> Story:
    """One evacuation with its faults, and then without any until it ends Verified."""
    story, rng = Story(seed), Random(seed)  # noqa: S311  it draws scenes
    with TemporaryDirectory(prefix="simulation-") as folder:
        world = draw_world(rng, Path(folder))
        story.lines.append("; ".join(" ".join(each.command) for each in world.host.processes.values()))
        try:
            _play(world, rng, story, change)
        finally:
            if tell:
                print("\n".join(story.lines))
    return story


def _run(world: World, order: Order, story: Story, change: Callable[[], object]) -> End:
    end = ran(world, order, change)
    about = {name: value for name, value in vars(order).items() if value and value != "graceful"}
    story.lines.append(f"{about} store {world.store.moods} -> {end.name} after {end.acts} acts: {end.message[:700]}")
    story.false += false_words(world, end)
    return end


def _play(world: World, rng: Random, story: Story, change: Callable[[], object]) -> None:
    end = End("None")
    for number in range(rng.randint(0, 3)):
        world.store.moods, order = draw_moods(rng), draw_order(rng, number)
        end = _run(world, order, story, change)
        chance = rng.random()
        if end.name in {"Killed", "Cancelled"} and chance < 0.2:
            _run(world, Order(act="thaw"), story, change)
        elif chance < 0.8:
            _run(world, Order(act="wait"), story, change)
            story.false += guarded(world) if end.name == "Killed" else []
        stop_units(world, end.message)
        meanwhile(world, rng)
        if story.false:
            return
    world.store.moods = Moods()
    world.store.mend()
    world.host.systemd.failing.clear()
    _carry_on(world, rng, story, change, end)
    story.false += [] if story.false else left_here(world)


def _carry_on(world: World, rng: Random, story: Story, change: Callable[[], object], end: End) -> None:
    """Run until it ends Verified, and latest/ follows; a person does what the messages say, or answers."""
    again = end.incident if end.name == "Verified" and NOT_ALLOWED in last_verdict(world, end) else None
    order = Order(incident=again)
    for _ in range(_CARRIED_ON):
        end = _run(world, order, story, change)
        if story.false or end.name == "Verified":
            break
        order = Order(incident=again)
        asked = sorted(named(end.message) & world.host.processes.keys())
        if end.name == "Unanswered" and asked and rng.random() < _ANSWERS:
            said: Decision = "end" if asked[0] in world.host.workload() else "bystander"
            order = Order(incident=end.incident, answer=GivenAnswer(asked[0], said, "ana"))
        else:
            story.lines.append(f"a person ends {person_acts(world, end.message)}")
    else:
        story.false.append(f"it was carried on {_CARRIED_ON} times, and never ended Verified: {end.message[:900]}")
    if not story.false and NOT_ALLOWED in last_verdict(world, end):
        story.false.append("it ended Verified, the right to change latest/ was granted, and latest/ was left as it is")
    story.false += [] if story.false else audit_contradicts(world, end)


def meanwhile(world: World, rng: Random) -> None:
    """Let something happen between two runs: files change, and somebody starts the training again."""
    logs = sorted((world.folder / "root/logs").glob("*.log"))
    if rng.random() < 0.3:
        KINDS["training"](world.host, 1)
    if rng.random() < 0.3:
        logs[0].write_text(f"{logs[0].read_text()}another line\n")
    if rng.random() < 0.15:
        logs[-1].unlink()
        logs[-1].with_name(f"new-{len(logs)}.log").write_text("new\n")
    if rng.random() < 0.1:
        world.host.reboot()


def main() -> int:
    """Run many, one line for each that found something; the exit code says whether one did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--fault", default="", help="put this fault back first: " + ", ".join(faults.FAULTS))
    parser.add_argument("--tell", action="store_true", help="tell the whole story of each")
    parser.add_argument("--first", action="store_true", help="end with the first that is found")
    asked = parser.parse_args()
    began, found, done = time.time(), 0, 0
    change = faults.FAULTS[asked.fault].put_back if asked.fault else int
    for seed in range(asked.seed, asked.seed + asked.runs):
        if time.time() - began > asked.seconds:
            break
        story, done = simulate(seed, change, tell=asked.tell), done + 1
        if story.false:
            found += 1
            replay = f"make simulate SEED={seed} RUNS=1 TELL=1" + (f" FAULT={asked.fault}" if asked.fault else "")
            print(f"{replay}: {story.false[0]}", flush=True)
            if asked.first:
                break
    seconds, cpu = time.time() - began, sum(__import__("os").times()[:4])
    print(f"{done} evacuations, {found} with a false word, {seconds:.0f} s, {cpu:.0f} s of processor")
    return min(found, 1)


if __name__ == "__main__":
    sys.exit(main())
