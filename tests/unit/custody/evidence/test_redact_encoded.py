"""Redaction of what is not written plainly: texts as arrays of bytes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.evidence.redact import HIDDEN, redact
from tests.unit.custody.evidence.test_redact import CANARY, ORDINARY, around, names, signs


def as_bytes(text: str, gap: str = "") -> str:
    """The text as journalctl writes it if it has control characters."""
    return str(list(text.encode())).replace(" ", gap)


def test_an_array_of_bytes_with_a_secret_becomes_a_redacted_string() -> None:
    said = {"_PID": "1", "MESSAGE": list(b"\x1b[32mINFO\x1b[0m \xff, password=hunter2-XYZ"), "A": [1, 2]}
    shown = json.loads(redact(json.dumps(said, separators=(",", ":"))))
    assert shown == said | {"MESSAGE": f"\x1b[32mINFO\x1b[0m \\xff, password={HIDDEN}"}


@given(around, names, signs, around, st.sampled_from(["", " ", "\n "]))
def test_no_secret_is_left_in_an_array_of_bytes(before: str, name: str, sign: str, after: str, gap: str) -> None:
    hidden = redact(f"[{as_bytes(f'{before} {name}{sign}{CANARY}{after}', gap)}, 1]")
    assert CANARY not in hidden
    assert as_bytes(CANARY, gap)[1:-1] not in hidden


@pytest.mark.parametrize("text", ORDINARY)
def test_an_array_of_bytes_without_a_secret_is_unchanged(text: str) -> None:
    for array in (as_bytes(text), as_bytes(text, " ")):
        assert redact(array) == array


@given(st.lists(st.integers(-999, 999)).map(str) | st.text("[]0123456789, \n.-"))
def test_an_array_of_other_numbers_is_unchanged(text: str) -> None:
    assert redact(text) == text
