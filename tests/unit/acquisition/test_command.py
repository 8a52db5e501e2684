"""The output of programs: bounded, whole in its lines, and a refusal told for what it is. All programs are real."""

import os
import time
from pathlib import Path

import pytest

from tasks.acquisition.collector import Incomplete, NothingThere, ProgramOutput, Target, Unanswered
from tasks.acquisition.command import run
from tasks.custody.evidence.acquisition import Outcome


def target(root: Path, limit: int) -> Target:
    globs: dict[str, list[str]] = {"logs": [], "artifacts": [], "models": []}
    return Target("IR-20260102T030405Z", str(root), "python", os.geteuid(), globs, [], limit=limit)


def said(root: Path, script: str, limit: int = 1000, **about: object) -> bytes:
    return run(ProgramOutput(("sh", "-c", script), "out.txt", **about), target(root, limit))  # type: ignore[arg-type]


def test_of_too_much_the_first_part_is_kept_and_the_program_is_ended(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(Incomplete) as part:
        said(tmp_path, "exec yes 0123456", limit=100)
    assert time.monotonic() - began < 10
    assert part.value.data == b"0123456\n" * 12
    assert part.value.outcome is Outcome.TRUNCATED


def test_of_too_much_the_last_part_is_kept_where_that_is_declared(tmp_path: Path) -> None:
    with pytest.raises(Incomplete) as part:
        said(tmp_path, "seq 1000000", limit=20, keep="last")
    assert part.value.data == b"999999\n1000000\n"


def test_as_much_as_fits_is_not_too_much(tmp_path: Path) -> None:
    assert said(tmp_path, "printf 0123456789", limit=10) == b"0123456789"


@pytest.mark.parametrize(
    ("keep", "script"), [("first", "printf 'x\\npassword=canaryA'"), ("last", "printf 'password=canaryA\\nx\\n'")]
)
@pytest.mark.parametrize("limit", range(2, 20))
def test_no_cut_shows_half_a_secret(tmp_path: Path, keep: str, script: str, limit: int) -> None:
    try:
        shown = said(tmp_path, script, limit=limit, keep=keep)
    except Incomplete as part:
        shown = part.data
    assert b"can" not in shown


def test_a_program_that_complains_without_end_fills_no_memory_and_does_not_hang(tmp_path: Path) -> None:
    with pytest.raises(Unanswered) as reason:
        said(tmp_path, "yes 'no such thing' | head -c 5000000 >&2; exit 3")
    assert reason.value.outcome is Outcome.FAILED
    assert str(reason.value) == "no such thing"


def test_a_reason_is_redacted_and_one_on_standard_output_is_heard(tmp_path: Path) -> None:
    with pytest.raises(Unanswered, match=r"password=\[redacted:[0-9a-f]{8}\]"):
        said(tmp_path, "echo password=canary; exit 1")


@pytest.mark.parametrize(
    ("words", "outcome"),
    [
        ("Operation not permitted", Outcome.DENIED),
        ("Permission denied", Outcome.DENIED),
        ("disk on fire", Outcome.FAILED),
    ],
)
def test_a_refusal_is_told_for_what_it_is(tmp_path: Path, words: str, outcome: Outcome) -> None:
    with pytest.raises(Unanswered) as reason:
        said(tmp_path, f"echo 'x: {words}' >&2; exit 1")
    assert reason.value.outcome is outcome


@pytest.mark.parametrize(
    "words", ["System has not been booted with systemd as init system", "506 Cannot talk to daemon"]
)
def test_what_is_not_there_is_missing(tmp_path: Path, words: str) -> None:
    with pytest.raises(NothingThere, match=r"systemd|daemon"):
        said(tmp_path, f"echo '{words}' >&2; exit 1")


def test_what_shows_only_what_it_may_is_kept_and_denied(tmp_path: Path) -> None:
    hint = "Hint: You are currently not seeing messages from other users and the system."
    with pytest.raises(Incomplete) as part:
        said(tmp_path, f"echo mine; echo '{hint}' >&2")
    assert (part.value.data, part.value.outcome) == (b"mine\n", Outcome.DENIED)
