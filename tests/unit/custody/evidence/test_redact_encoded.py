"""Redaction of what is not written plainly: arrays of bytes, colours, quotes around a whole assignment."""

import json
import shlex
import string
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.custody.evidence.test_redact import CANARY, HIDDEN, ORDINARY, around, names, redact, signs


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
    for array in (as_bytes(text), as_bytes(f"\x1b[1m{text}\x1b[0m", " ")):
        assert redact(array) == array


@given(st.lists(st.integers(-999, 999)).map(str) | st.text("[]0123456789, \n.-"))
def test_an_array_of_other_numbers_is_unchanged(text: str) -> None:
    assert redact(text) == text


ESCAPES = ("\x1b", r"\x1b", r"\033", r"\e", r"\u001b", r"\\u001B")
escapes = st.sampled_from(ESCAPES)


@pytest.mark.parametrize("escape", ESCAPES)
def test_a_secret_between_colours_is_hidden_and_the_colours_left_out(escape: str) -> None:
    on, off = f"{escape}[1;36m", f"{escape}[0m"
    text = f"{on}info{off} {on}password{off}={on}hunter2{off} {on}step{off}=3"
    assert redact(text) == f"info password={HIDDEN} step=3"


@pytest.mark.parametrize("escape", ESCAPES)
def test_colours_that_hide_no_secret_stay(escape: str) -> None:
    done = f"{escape}[32mdone{escape}[m"
    assert redact(f"token=x {done}") == f"token={HIDDEN} {done}"


@given(around, names, signs, around, escapes)
def test_no_secret_is_left_between_colours(before: str, name: str, sign: str, after: str, escape: str) -> None:
    colour = f"{escape}[38;5;1m"
    text = f"{before} {colour}{name}{colour}{sign}{colour}{CANARY}{colour}{after}"
    assert CANARY not in redact(text)
    hidden = redact(as_bytes(text))
    assert CANARY not in hidden
    assert as_bytes(CANARY)[1:-1] not in hidden


@given(st.sampled_from(ORDINARY), escapes, st.sets(st.integers(0, 12)))
def test_ordinary_text_keeps_its_colours(text: str, escape: str, coloured: set[int]) -> None:
    words = enumerate(text.split(" "))
    shown = " ".join(f"{escape}[33m{word}{escape}[0m" if place in coloured else word for place, word in words)
    assert redact(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('Environment="DB_PASSWORD=correct horse battery" "A=b"', f"Environment=DB_PASSWORD={HIDDEN} A={HIDDEN}"),
        ("docker run -e 'DB_PASSWORD=correct horse' image", f"docker run -e 'DB_PASSWORD={HIDDEN}' image"),
        ('"Env": ["DB_PASSWORD=correct horse", "A=b"]', f'"Env": ["DB_PASSWORD={HIDDEN}", "A=b"]'),
        ('{"MESSAGE":"password: correct horse","N":"1"}', f'{{"MESSAGE":"password: {HIDDEN}","N":"1"}}'),
        (r'"PASS=a \" b" "B=c"', f'"PASS={HIDDEN}" "B=c"'),
        (r'{"a":"-e \"PASS=a b\" c","n":1}', rf'{{"a":"-e \"PASS={HIDDEN}","n":1}}'),
        (r"-e \"PASS=a b\" c", rf'-e \"PASS={HIDDEN}" c'),
        (r'"Cookie: a=\"x y\"; b=z" c', f'"Cookie: {HIDDEN}" c'),
        ("-e 'DB_PASS=it'\"'\"'s x'\\''s y' z", f"-e 'DB_PASS={HIDDEN} z"),
        ("-e 'DB_PASS=a b", f"-e 'DB_PASS={HIDDEN} b"),
        ('"DB_PASS:\n a b"', f'"DB_PASS:\n {HIDDEN} {HIDDEN}"'),
        ('"DB_PASS=', '"DB_PASS='),
        ('"DB_PASS="', f'"DB_PASS={HIDDEN}'),
    ],
)
def test_a_value_whose_quote_begins_before_its_name_is_hidden_up_to_the_closing_one(text: str, shown: str) -> None:
    assert redact(text) == shown


def escaped(text: str, quote: str) -> str:
    return quote + text.replace("\\", "\\\\").replace(quote, f"\\{quote}") + quote


QUOTING: list[Callable[[str], str]] = [
    lambda text: escaped(text, '"'),
    lambda text: escaped(text, "'"),
    lambda text: json.dumps(["A=b", text, "B=c"]),
    lambda text: shlex.quote(text.replace("\\", "")),
]
words = st.text(string.ascii_letters + string.digits + string.punctuation + "\u3042", max_size=6).map(CANARY.__add__)


@given(
    around,
    st.tuples(names, st.sampled_from(["=", ":", ": ", " = ", ":="])).map("".join),
    st.lists(words, min_size=2, max_size=4),
    st.sampled_from(QUOTING),
    around,
)
def test_no_word_of_a_quoted_assignment_is_left(
    before: str, name: str, value: list[str], quote: Callable[[str], str], after: str
) -> None:
    assert CANARY not in redact(f"{before} {quote(name + ' '.join(value))} {after}")
