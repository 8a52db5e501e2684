"""Foreign text on its way out: what hides or moves is shown by its name, and plain text stays as it is."""

import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.errors import Refused
from tasks.custody.evidence.redact import command_line
from tasks.custody.visible import say, visible, visible_rows


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("models/model a.joblib", "models/model a.joblib"),
        ("証跡 全角　空白 👍", "証跡 全角　空白 👍"),
        ("e\u0301", "e\u0301"),
        ("\x00\x1b\n\r\t\x7f", "␀␛␊␍␉␡"),
        ("\x85\u2028\u202e\u2066\ufeff", "⟨U+0085⟩⟨U+2028⟩⟨U+202E⟩⟨U+2066⟩⟨U+FEFF⟩"),
        ("\udc80\U000e0041\u3164", "⟨U+DC80⟩⟨U+E0041⟩⟨U+3164⟩"),
        ("z" + "\u0300" * 4, "z" + "\u0300" * 3 + "⟨U+0300⟩"),
    ],
)
def test_what_hides_is_named_and_the_rest_stays(text: str, shown: str) -> None:
    assert visible(text) == shown


anything = st.text(st.characters(), max_size=60) | st.text(alphabet="\u202e\x1b\udc80\u2028…(+1)a", max_size=60)
"""With lone surrogates too, which a command line and a file's name may hold."""


def is_harmless(text: str) -> bool:
    return not any(unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for letter in text)


@given(anything, st.integers(1, 60))
def test_doing_it_twice_is_doing_it_once(text: str, limit: int) -> None:
    shown = visible(text, limit)
    assert visible(shown, limit) == shown


@given(st.lists(anything, min_size=1, max_size=4))
def test_no_way_out_lets_a_control_or_format_character_through(words: list[str]) -> None:
    assert is_harmless(command_line(words))
    assert is_harmless(str(Refused(words[0], words[-1], "Do it.")))
    assert all(is_harmless(row["name"]) for row in visible_rows({"name": word, "size": 1} for word in words))


@given(st.lists(anything, max_size=4), st.sampled_from(["utf-8", "ascii", "cp932"]))
def test_what_is_said_is_one_line_each_on_any_terminal(words: list[str], encoding: str) -> None:
    with pytest.MonkeyPatch.context() as patch, io.TextIOWrapper(io.BytesIO(), encoding) as terminal:
        patch.setattr("sys.stdout", terminal)
        say(*words)
        terminal.seek(0)
        said = terminal.read().split("\n")
    assert len(said) == len(words) + 1
    assert all(map(is_harmless, said))


@given(st.text(max_size=60) | st.text(alphabet="\u202e\x1b\udc80a", max_size=60), st.integers(1, 40))
def test_what_is_shown_is_printable_and_not_longer_than_its_limit(text: str, limit: int) -> None:
    shown = visible(text, limit)
    assert all(letter.isprintable() or letter == "\u3000" for letter in shown)
    assert len(shown.rpartition("… (+")[0] or shown) <= limit + len("… (+999999999)")


@given(st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=60))
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_what_was_cut_is_counted() -> None:
    assert visible("x" * 30, 10) == "x" * 10 + "… (+20)"
