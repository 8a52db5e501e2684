"""The laws of the ledger: what was written is read, whatever happened to the rest of the file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.storage.upload_ledger import Entry, entries

made = st.builds(Entry, place=st.text(max_size=20), key=st.text(max_size=20), sha256=st.text(max_size=64))


@pytest.mark.slow
@given(st.lists(made, max_size=6))
def test_what_was_written_is_read(written: list[Entry]) -> None:
    assert list(entries(entry.to_line() for entry in written)) == written


@given(st.lists(made, max_size=6), st.integers(min_value=0, max_value=2000))
def test_of_a_torn_file_the_whole_lines_are_read(written: list[Entry], kept: int) -> None:
    data = b"".join(entry.to_line() for entry in written)[:kept]
    read = list(entries(data.splitlines(keepends=True)))
    assert read == written[: data.count(b"\n")]


@given(st.lists(made | st.binary(max_size=30), max_size=6))
def test_lines_of_others_are_passed_over(mixed: list[Entry | bytes]) -> None:
    lines = [each.to_line() if isinstance(each, Entry) else each.replace(b"\n", b"") + b"\n" for each in mixed]
    assert list(entries(lines)) == [each for each in mixed if isinstance(each, Entry)]


def test_a_line_that_is_json_and_no_entry_is_none() -> None:
    lines = [
        b"[]\n",
        b'{"place": 1, "key": "k", "sha256": "s"}\n',
        b"null\n",
        b'{"place": "p"}\n',
        b"[" * 100_000 + b"\n",
    ]
    assert list(entries(lines)) == []
