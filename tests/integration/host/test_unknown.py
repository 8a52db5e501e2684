"""The campaign of what lives beside or as a workload, of kinds that no list names: no word about it is false.

Each scene runs on a host of its own, whose processes are told apart by a group that the kernel keeps. The block is the
default one for the root.
"""

import os
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import pytest

from blocks.workload import Workload
from tasks.containment.containment_check import prove_contained, prove_still_contained
from tasks.containment.cordon import IncidentCordon, cordon
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.containment.watch import watch
from tasks.custody.containment.receipt import Containment
from tests.support.run_context import case_of, made
from tests.support.strangers import PASSING
from tests.support.survivors import (
    BESIDE_IT,
    HARMLESS,
    OF_THE_WORKLOAD,
    SOMEBODY,
    UNKNOWN,
    WORKLOADS,
    Alive,
    Scene,
    Stage,
    on_a_host_of_its_own,
    starters,
    tagged,
    wipe,
)
from tests.support.workloads import wait_until

pytestmark = [pytest.mark.whole, pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a host of its own")]
SEED: Final = int(os.environ.get("CAMPAIGN_SEED", "29"))
WAYS: Final = ("name", "include", "kill")
ORDINARY: Final = Scene(
    "a training",
    "venv/bin/python src/train.py --mode full",
    files={"src/train.py": "import os, time\nos.fork()\nopen('MARKS/of-%d' % os.getpid(), 'w')\ntime.sleep(900)\n"},
    prepare="mkdir -p ROOT/venv/bin && ln -sfn PYTHON ROOT/venv/bin/python",
    marks=2,
)


@dataclass(frozen=True)
class Case:
    """A scene in one of its variants. `way` is how suspects are dealt with."""

    kind: str
    scene: Scene
    wiped: bool
    unprivileged: bool
    way: str

    @property
    def id(self) -> str:
        """Its name in the report of the tests."""
        account = "account" if self.unprivileged else "root"
        return f"{self.kind}: {self.scene.name}, {account}, {self.way}{', wiped' if self.wiped else ''}"

    @property
    def marks(self) -> list[pytest.MarkDecorator]:
        """One in 24 is for the suite, the same one as long as the seed is."""
        return [] if _draw(self.id, 24) == 0 else [pytest.mark.soak]


def _draw(word: str, among: int) -> int:
    """A number that is the same as long as the seed is."""
    return crc32(f"{SEED} {word}".encode()) % among


def _cases(kind: str, scene: Scene) -> list[Case]:
    first = _draw(scene.name, len(WAYS))
    return [
        Case(kind, scene, wiped, unprivileged, WAYS[(first + wiped + 2 * unprivileged) % len(WAYS)])
        for wiped in ((False, True) if scene.wiped else (False,))
        for unprivileged in (False, True)
    ]


def _params(cases: Iterable[Case]) -> list[Any]:
    return [pytest.param(case, id=case.id, marks=case.marks) for case in cases]


@dataclass(frozen=True)
class Words:
    """What the checks of containment said, and the pids that they named."""

    contained: bool
    alive: tuple[str, ...]
    unknown: tuple[tuple[int, str, str], ...]
    notes: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether a person would read that nothing runs."""
        return self.contained and not self.unknown

    @property
    def named(self) -> set[int]:
        """The pids that contradict it."""
        numbers = {int(pid) for each in self.alive if (pid := each.partition(":")[0]).isdigit()}
        return numbers | {pid for pid, _, _ in self.unknown}

    @property
    def passing(self) -> bool:
        """Whether they say that processes come and go."""
        return any(PASSING in each for each in self.alive)

    def __str__(self) -> str:
        """Return what was said, short."""
        said = "contained" if self.contained else "NOT contained"
        return f"{said}; alive {list(self.alive)}; unknown {list(self.unknown)}"


def _words(seen: Containment) -> Words:
    unknown = tuple((each.identity.pid, each.why, each.line) for each in seen.unknown)
    return Words(seen.is_contained, seen.alive, unknown, seen.notes)


def evacuate(stage: Stage, scene: Scene, way: str, bystanders: Sequence[str] = (), number: int = 1) -> list[Words]:
    """§1 to §3 with the default block of the root, as the flow does it: the words of both checks."""
    block = Workload(
        root=stage.placed(scene.block_root),
        lock=stage.folder / "lock",
        evidence_dir=stage.folder / "evidence",
        watch_seconds=0.3,
        grace_seconds=2,
        bystanders=list(bystanders),
    )
    with case_of(block, incident=f"IR-20260102T03040{number}Z") as context:
        suspects = None if way == "kill" else way
        policy = "kill" if way == "kill" else "graceful"
        context.run = replace(context.run, suspects=suspects, policy=policy)  # type: ignore[arg-type]
        cordon.fn(context)
        wait_until(lambda: IncidentCordon(context).wait().held, what="the guard's turn")
        freeze.fn(context)
        stop.fn(context)
        first = _words(made(prove_contained.fn(context)))
        watch.fn(context)
        return [first, _words(made(prove_still_contained.fn(context)))]


def _short(processes: Iterable[Alive]) -> list[str]:
    return [f"{each.pid} (of {each.parent}) {each.state} {each.command[:90]}" for each in processes]


def _moved(stage: Stage, before: dict[int, Alive], numbers: Iterable[str]) -> list[str]:
    """What was done to neighbours; one that a shell of theirs has started since is no change."""
    after = tagged(BESIDE_IT)
    gone = [each for pid, each in before.items() if pid not in after or after[pid].start != each.start]
    stands = [after[pid] for pid, each in before.items() if pid in after and after[pid].state != each.state]
    notes = [line for number in numbers for line in stage.signals(number)]
    said = [f"a neighbour has ended: {_short([each])}" for each in gone if not _passes(each)]
    return said + [f"a neighbour stands: {_short([each])}" for each in stands] + [f"signals {notes}" for _ in notes[:1]]


def _passes(process: Alive) -> bool:
    return process.command.startswith(("sleep 1", "pgrep", "ls ", "sh -c ls"))


def play_workload(case: Case, folder: Path) -> list[str]:
    """Evacuate it with a neighbour beside it. Return every false word, with what is true."""
    scene = case.scene
    friends = [each for each in HARMLESS if " " not in scene.root or "ROOT" not in each.prepare]
    friend = friends[_draw(case.id, len(friends))]
    stage = Stage(folder, scene.root, unprivileged=case.unprivileged)
    stage.lay(friend, SOMEBODY)
    stage.lay(scene, stage.uid)
    stage.begin(friend, BESIDE_IT, SOMEBODY, "beside")
    stage.begin(scene, OF_THE_WORKLOAD, stage.uid, "workload")
    begun = tagged(OF_THE_WORKLOAD)
    if case.wiped:
        for pid in (pid for pid, each in begun.items() if not _rests(each)):
            wipe(pid)
    beside = tagged(BESIDE_IT)
    said = evacuate(stage, scene, case.way)
    left = {pid: each for pid, each in tagged(OF_THE_WORKLOAD).items() if not each.command.startswith(scene.innocent)}
    wrong = _false_words(said, left, beside)
    wrong += _moved(stage, beside, ["beside"])
    return [f"{each} | was: {_short(begun.values())} | said: {said[-1]} | beside: {friend.name}" for each in wrong]


def _rests(process: Alive) -> bool:
    """Whether it is only what a loop waits for: named alone, it would be excused alone."""
    return process.command.startswith("sleep ")


def _false_words(said: Sequence[Words], left: dict[int, Alive], beside: dict[int, Alive]) -> list[str]:
    named = set().union(*(each.named for each in said))
    clean, passing = all(each.clean for each in said), any(each.passing for each in said)
    wrong = []
    if clean and left:
        wrong.append(f"FALSE CONTAINED: there live {_short(left.values())}")
    elif left and not passing:
        waited_for = {above for pid in named & left.keys() if not _rests(left[pid]) for above in starters(pid, left)}
        unnamed = [each for pid, each in left.items() if (named | waited_for).isdisjoint(starters(pid, left))]
        wrong += [f"UNNAMED: {_short(unnamed)}"] if unnamed else []
    elif not left and not clean and not passing:
        wrong.append("FALSE ALARM: nothing of the workload lives")
    if taken := named & beside.keys():
        wrong.append(f"NEIGHBOUR NAMED: {_short(beside[pid] for pid in taken)}")
    return wrong


def play_neighbour(case: Case, folder: Path) -> list[str]:
    """Evacuate a root without a workload, or with an ordinary one, beside somebody who is harmless."""
    stage = Stage(folder, "app", unprivileged=case.unprivileged)
    uid = SOMEBODY if case.unprivileged else 0
    stage.lay(case.scene, uid)
    stage.lay(ORDINARY, stage.uid)
    stage.begin(case.scene, BESIDE_IT, uid, "beside")
    if case.kind.endswith("beside"):
        stage.begin(ORDINARY, OF_THE_WORKLOAD, stage.uid, "workload")
    beside = tagged(BESIDE_IT)
    said = evacuate(stage, case.scene, case.way)
    wrong = _moved(stage, beside, ["beside"])
    if left := tagged(OF_THE_WORKLOAD):
        wrong.append(f"the training lives: {_short(left.values())}")
    wrong += [f"NEIGHBOUR NAMED: {each}" for each in said if not each.clean][:1]
    return [f"{each} | was: {_short(beside.values())}" for each in wrong]


def play_unknown(case: Case, folder: Path) -> list[str]:
    """Whom a person has to answer is unknown, untouched, and excused by the line that is printed."""
    stage = Stage(folder, "app", unprivileged=case.unprivileged)
    uid = SOMEBODY if case.unprivileged else 0
    stage.lay(case.scene, uid)
    stage.lay(ORDINARY, stage.uid)
    stage.begin(case.scene, BESIDE_IT, uid, "beside")
    beside = tagged(BESIDE_IT)
    said = evacuate(stage, case.scene, case.way)[-1]
    wrong = _moved(stage, beside, ["beside"])
    unknown = {pid for pid, _, _ in said.unknown}
    unnamed = [each for pid, each in beside.items() if unknown.isdisjoint(starters(pid, beside))]
    wrong += [f"NOT UNKNOWN: {_short(unnamed)}: {said}"] if unnamed else []
    wrong += [f"SUSPECT, and no fact ties it: {said}"] if said.alive else []
    lines = [entry for pid, _, line in said.unknown for entry in _typed(pid, line)]
    again = evacuate(stage, case.scene, case.way, lines, 2)[-1]
    wrong += _moved(stage, beside, ["beside"])
    wrong += [] if again.clean else [f"NOT EXCUSED by {lines}: {again}"]
    return [f"{each} | was: {_short(beside.values())}" for each in wrong]


def _typed(pid: int, line: str) -> list[str]:
    """What a person writes who is told this line; where too little is shown for a pattern, it says how to name it."""
    if "= [" in line:
        return list(tomllib.loads(line)["bystanders"])
    assert "exe=" in line, line
    return [f"exe={Path(f'/proc/{pid}/exe').readlink()}"]


def _play(play: Any, case: Case, folder: Path) -> None:
    wrong = on_a_host_of_its_own(lambda: play(case, folder / "scene"))
    assert not wrong, "\n".join(wrong)


@pytest.mark.sample(3)
@pytest.mark.parametrize("case", _params(case for kind, scene in WORKLOADS for case in _cases(kind, scene)))
def test_no_word_about_a_workload_is_false(case: Case, tmp_path: Path) -> None:
    _play(play_workload, case, tmp_path)


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    "case", _params(case for kind in ("alone", "beside") for scene in HARMLESS for case in _cases(kind, scene))
)
def test_a_harmless_neighbour_changes_no_word_and_is_not_touched(case: Case, tmp_path: Path) -> None:
    _play(play_neighbour, case, tmp_path)


@pytest.mark.parametrize("case", _params(case for scene in UNKNOWN for case in _cases("unknown", scene)))
def test_who_is_unknown_is_excused_by_the_line_that_is_printed(case: Case, tmp_path: Path) -> None:
    _play(play_unknown, case, tmp_path)
