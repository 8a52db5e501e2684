"""Foreign text on a page: what hides or moves is shown by its name, and plain text stays as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.page.visible import visible


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


@given(st.text(max_size=60) | st.text(alphabet="\u202e\x1b\udc80a", max_size=60), st.integers(1, 40))
def test_what_is_shown_is_printable_and_not_longer_than_its_limit(text: str, limit: int) -> None:
    shown = visible(text, limit)
    assert all(letter.isprintable() or letter == "\u3000" for letter in shown)
    assert len(shown.partition("…")[0]) <= limit


@given(st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=60))
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_what_was_cut_is_counted() -> None:
    assert visible("x" * 30, 10) == "x" * 10 + "… (+20)"
