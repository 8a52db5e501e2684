"""A path is found again in its instance's name, and a stamped text tells every change."""

from pathlib import PurePath

from hypothesis import given
from hypothesis import strategies as st

from tasks.system.unit_files import escape, is_as_written, stamp, unescape

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=20)
PLAIN = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.-\\")


@given(st.lists(NAMES.filter(lambda name: name not in {".", ".."}), min_size=1, max_size=4))
def test_a_path_is_found_again_in_the_name_of_its_instance(names: list[str]) -> None:
    path = PurePath("/", *names)
    assert unescape(escape(path)) == path
    assert {*escape(path)} <= PLAIN


@given(st.text(), st.text())
def test_a_text_is_as_written_until_anything_of_it_changes(text: str, other: str) -> None:
    written = stamp(text, "evacuation install 1.0")
    first, _, _ = written.partition("\n")
    assert is_as_written(written)
    assert is_as_written(f"{first}\n{other}") == (text == other)
    assert not is_as_written(text)
