"""What a script depends on: the exit code of each word, and which words are a completed run."""

from tasks.custody.incident import ending
from tasks.custody.incident.ending import Ending
from tasks.custody.incident.exit_codes import EXIT_CODES

ZERO = "Verified Recovered Thawed DryRun Proven Listed Rehearsed Written Mirrored Ready Completed"
OTHERS = {
    **dict.fromkeys(["Failed", "Crashed"], 1),
    "Partial": 3,
    "Unverified": 4,
    "NotContained": 5,
    "Cancelled": 6,
    "Joined": 7,
    "PartlyRecovered": 8,
    "NotRecovered": 9,
    "PartlyThawed": 10,
    "Broken": 11,
    "Indeterminate": 12,
    "NotRehearsed": 13,
    "Refused": 14,
    "Declined": 15,
    "Expired": 16,
    "Silent": 17,
    "Degraded": 18,
    "NotReady": 19,
    "Unanswered": 20,
    "Stale": 21,
    "Finished": 22,
    "Unfinished": 23,
}
GREEN_WITHOUT_PROOF = {"Declined", "Expired", "Finished", "Joined", "Refused", "Stale"}
"""Nothing went wrong in these runs, and what was asked for was not done: a script is told so by the code."""


def test_each_word_has_its_exit_code() -> None:
    assert {**dict.fromkeys(ZERO.split(), 0), **OTHERS} == EXIT_CODES


def test_a_run_is_completed_if_its_exit_code_is_zero_or_it_had_nothing_to_do() -> None:
    endings = [each for each in vars(ending).values() if isinstance(each, Ending)]
    assert endings
    completed = {each.name for each in endings if each.completed}
    assert completed - GREEN_WITHOUT_PROOF <= {*ZERO.split()}
    assert {each.name for each in endings} & {*ZERO.split()} <= completed
