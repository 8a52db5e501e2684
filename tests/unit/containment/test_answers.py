"""Whom an answer excuses, whom it ends, and which answers are refused: on paper."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import pytest

from tasks.containment.answers import answered_bystanders, find_unknown, keep_answer
from tasks.containment.answers import to_answer as left_to_answer
from tasks.containment.freeze import freeze
from tasks.containment.members import Membership
from tasks.custody.containment.answer import Decision, GivenAnswer
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Unknown
from tasks.custody.errors import Refused
from tasks.host.process.process import Process
from tasks.runtime.context import RunContext
from tests.support.paper_host import PaperHost, process
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload

NODE: Final = ("/usr/bin/node", "serve.js")
TRAINING: Final = ("venv/bin/python", "-u", "src/train.py", "--dataset", "builtin", "--mode", "full")
NOW: Final = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def run(small: SmallWorkload) -> Iterator[RunContext]:
    with case_of(small.block()) as context:
        context.adapters.host = PaperHost(root=context.directory.root)
        yield context


def there(run: RunContext, number: int, command: tuple[str, ...] = NODE, parent: int = 1) -> Process:
    """One that works in the root."""
    assert isinstance(run.adapters.host, PaperHost)
    one = process(number, command, parent, cwd=str(run.directory.root))
    run.adapters.host.processes[one.pid] = one
    return one


def told(each: Process) -> Unknown:
    return Unknown(each.identity, " ".join(each.command), "it works in the root", 'bystanders = ["^/usr/bin/node "]')


def answer(run: RunContext, each: Process, decision: Decision) -> None:
    run.state.unknown.write([told(each)])
    found = find_unknown(run.directory.path, run.adapters.host, each.pid)
    keep_answer(run.state, run.log, GivenAnswer(each.pid, decision, "ana (1000)"), found, "she knows it")


def members(run: RunContext) -> set[int]:
    return {who.pid for who in Membership(run).members(run.adapters.host.snapshot())}


def test_without_an_answer_nobody_is_excused_or_ended(run: RunContext) -> None:
    there(run, 1)
    assert (members(run), Membership(run).excused_pids(run.adapters.host.snapshot())) == (set(), frozenset())


def test_who_is_to_be_ended_is_a_member_with_its_descendants(run: RunContext) -> None:
    one = there(run, 1)
    child, other = there(run, 2, ("/bin/sh", "-c", "x"), one.pid), there(run, 3)
    answer(run, one, "end")
    assert members(run) == {one.pid, child.pid}
    assert other.pid not in {each.identity.pid for each in made(freeze.fn(run)).processes}
    assert {each.identity for each in run.state.frozen.read()} == {one.identity, child.identity}


def test_who_has_ended_and_waits_for_its_parent_is_no_member(run: RunContext) -> None:
    one = there(run, 1)
    answer(run, one, "end")
    assert isinstance(run.adapters.host, PaperHost)
    run.adapters.host.processes[one.pid] = replace(one, state="Z")
    assert members(run) == set()


def test_a_bystander_is_excused_with_its_descendants_down_to_what_matches(run: RunContext) -> None:
    """Somebody may start a training from an excused editor's terminal later."""
    one = there(run, 1)
    child, training = there(run, 2, ("/bin/sh", "-c", "x"), one.pid), there(run, 3, TRAINING, one.pid)
    loky = there(run, 4, ("/bin/loky",), training.pid)
    answer(run, one, "bystander")
    assert Membership(run).excused_pids(run.adapters.host.snapshot()) == {one.pid, child.pid}
    assert members(run) == {training.pid, loky.pid}


@pytest.mark.parametrize("decision", ["bystander", "end"])
def test_another_process_of_the_pid_is_not_the_one_that_was_answered(run: RunContext, decision: Decision) -> None:
    one = there(run, 1)
    answer(run, one, decision)
    assert isinstance(run.adapters.host, PaperHost)
    run.adapters.host.processes[one.pid] = replace(one, identity=Identity(one.pid, one.identity.start + 1))
    assert (members(run), Membership(run).excused_pids(run.adapters.host.snapshot())) == (set(), frozenset())


def test_only_who_was_not_known_can_be_answered_and_only_while_it_lives(run: RunContext) -> None:
    one, other = there(run, 1), there(run, 2)
    home, host = run.directory.path, run.adapters.host
    with pytest.raises(Refused, match=r"did not know: it knew all; got \d+"):
        find_unknown(home, host, one.pid)
    run.state.unknown.write([told(one)])
    assert find_unknown(home, host, one.pid) == told(one)
    with pytest.raises(Refused, match=f"did not know: {one.pid}; got {other.pid}"):
        find_unknown(home, host, other.pid)
    assert isinstance(host, PaperHost)
    host.processes[one.pid] = replace(one, identity=Identity(one.pid, one.identity.start + 1))
    with pytest.raises(Refused, match="another one that has its pid now"):
        find_unknown(home, host, one.pid)
    assert left_to_answer(home, host) == ()
    del host.processes[one.pid]
    with pytest.raises(Refused, match=f"expected process {one.pid} as the last check"):
        find_unknown(home, host, one.pid)


def test_an_answer_is_on_record_and_is_not_asked_again(run: RunContext) -> None:
    one, other = there(run, 1), there(run, 2)
    run.state.unknown.write([told(one), told(other)])
    found = find_unknown(run.directory.path, run.adapters.host, one.pid)
    keep_answer(run.state, run.log, GivenAnswer(one.pid, "bystander", "ana (1000)"), found, "she knows it")
    entry = run.log.entries()[-1]
    expected = {"decision": "bystander", "by": "ana (1000)", "reason": "she knows it", "line": told(one).line}
    assert (entry["action"], entry["object"]) == ("process answered", str(one.pid))
    assert expected.items() <= entry.items()
    assert [each.identity for each in left_to_answer(run.directory.path, run.adapters.host)] == [other.identity]


def test_the_last_answer_says_who_is_a_bystander(run: RunContext) -> None:
    one, other = there(run, 1), there(run, 2)
    for each, decisions in ((one, ("end", "bystander")), (other, ("bystander", "end"))):
        for decision in decisions:
            answer(run, each, decision)  # type: ignore[arg-type]
    assert answered_bystanders(run.directory.path) == {one.identity}


def test_a_journal_that_others_may_have_written_asks_nothing(run: RunContext) -> None:
    one = there(run, 1)
    run.state.unknown.write([told(one)])
    run.directory.path.chmod(0o777)
    assert left_to_answer(run.directory.path, run.adapters.host) == ()
    with pytest.raises(Refused, match="it knew all"):
        find_unknown(run.directory.path, run.adapters.host, one.pid)
