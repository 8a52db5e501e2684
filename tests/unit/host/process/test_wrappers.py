"""Which processes above the frozen ran, which of them wait for it, and which have lost their child."""

from dataclasses import replace

from tasks.custody.containment.identity import Identity
from tasks.host.process.process import Masks, Process
from tasks.host.process.wrappers import above_held, bereft, running_above


def process(pid: int, parent: int, state: str = "S", program: str = "bash") -> Process:
    return Process(Identity(pid, pid * 10), parent, state, (program,), executable=f"/usr/bin/{program}")


def table(*processes: Process) -> dict[int, Process]:
    return {each.pid: each for each in processes}


TREE = table(
    process(1, 0, program="systemd"),
    process(2, 1),
    process(3, 2, program="sudo"),
    process(4, 3, program="python"),
    process(5, 4, program="python"),
    process(6, 2, program="vim"),
)


def pids(found: object) -> set[int]:
    assert isinstance(found, (set, list))
    return {who.pid for who in found}


def test_what_runs_above_is_noted_without_init_without_the_frozen_and_without_who_stood_before() -> None:
    assert pids(running_above(TREE, [4, 5])) == {2, 3}
    assert pids(running_above(TREE | table(process(3, 2, "T", "sudo")), [4, 5])) == {2}
    pending = replace(TREE[3], masks=Masks(pending=1 << 18))
    assert pids(running_above(TREE | table(pending), [4])) == {2}
    assert running_above(TREE, [99]) == set()
    assert running_above(TREE, []) == set()


def test_who_is_above_one_that_is_held_and_stands_waits() -> None:
    ran, held = [TREE[2].identity, TREE[3].identity, TREE[6].identity], [TREE[5].identity]
    assert above_held(TREE, ran, held) == set(), "it goes on"
    assert pids(above_held(TREE | table(process(5, 4, "T")), ran, held)) == {2, 3}
    assert above_held(TREE | table(process(5, 4, "Z")), ran, held) == set(), "it has ended"
    reused = replace(TREE[3], identity=Identity(3, 999))
    assert pids(above_held(TREE | table(process(5, 4, "T"), reused), ran, held)) == {2}


def test_a_terminals_wrapper_without_a_living_child_is_bereft() -> None:
    def left(program: str, state: str, child: str = "Z") -> set[int]:
        seen = TREE | table(process(3, 2, state, program), process(4, 3, child))
        return pids(bereft(seen, [each.identity for each in TREE.values()]))

    assert left("script", "T") == left("su", "S") == {3}
    assert left("script", "T", child="S") == set()
    assert left("script", "Z") == set()
    assert left("sudo", "T") == left("bash", "T") == set(), "they see its end themselves"
