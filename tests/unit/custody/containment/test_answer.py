"""What people answer on processes that nobody knew."""

from datetime import UTC, datetime

from tasks.custody.containment.answer import Answer, Decision, answered_processes
from tasks.custody.containment.identity import Identity

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def answer(pid: int, decision: Decision, start: int = 1) -> Answer:
    return Answer(Identity(pid, start), "node serve.js", decision, "ana (1000)", NOW, 'bystanders = ["serve.js"]')


def test_the_last_answer_on_a_process_counts() -> None:
    answers = [answer(7, "bystander"), answer(8, "end"), answer(7, "end"), answer(9, "bystander")]
    given = [(each.identity, each.decision) for each in answers]
    assert answered_processes(given, "end") == {Identity(7, 1), Identity(8, 1)}
    assert answered_processes(given, "bystander") == {Identity(9, 1)}


def test_another_process_of_the_pid_is_not_answered() -> None:
    assert Identity(7, 2) not in answered_processes([(answer(7, "bystander").identity, "bystander")], "bystander")


def test_a_bystander_is_told_with_the_line_that_keeps_it() -> None:
    said = "7 (node serve.js) was answered by ana (1000): "
    assert answer(7, "end").summary == f"{said}end"
    assert (
        answer(7, "bystander").summary
        == f'{said}bystander; to keep it, in the workload block: bystanders = ["serve.js"]'
    )
