"""A long list in canonical JSON: the same bytes as ever, read row by row however they come, within limits."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.audit.untrusted import Unreadable, read_manifest
from tasks.custody.errors import TooMany
from tasks.custody.evidence.acquisition import StoredFile
from tasks.custody.store import rows as limits
from tasks.custody.store.manifest import Manifest, canonical
from tasks.custody.store.rows import Misspelled, read_rows, require_readable, spell, spell_rows

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda of: st.lists(of, max_size=3) | st.dictionaries(st.text(), of, max_size=3))
objects = st.dictionaries(st.text(), values, min_size=1, max_size=4)
names = st.text("abc_xyz", min_size=1, max_size=8)
documents = st.tuples(st.dictionaries(names, values, min_size=1, max_size=4), names, st.lists(objects, max_size=5))

FILES = tuple(StoredFile(f"logs/{n}", f"logs/{n}", n, "0" * 64, n) for n in range(4))
WRITTEN = Manifest("IR-20260102T030405Z", 1, "2026-01-02T03:04:05Z", FILES).to_bytes()


def cut(data: bytes, places: list[int]) -> Iterator[bytes]:
    """In pieces of any length, none included."""
    ends = sorted(place % (len(data) + 1) for place in places)
    for start, end in zip([0, *ends], [*ends, len(data)], strict=True):
        yield data[start:end]


@pytest.mark.slow
@given(documents)
def test_it_is_the_canonical_json_that_any_reader_parses(document: tuple[dict[str, Any], str, list[Any]]) -> None:
    fields, name, rows = document
    whole = {**fields, name: rows}
    written = b"".join(spell_rows({key: value for key, value in fields.items() if key != name}, name, rows))
    assert written == canonical(whole)
    assert json.loads(written) == whole


@given(values)
def test_an_object_is_spelled_as_ever(value: Any) -> None:
    assert f"{spell(value)}\n".encode() == canonical(value)


@pytest.mark.slow
@given(documents, st.lists(st.integers(0, 1 << 16), max_size=8))
def test_what_is_written_is_read_back_however_it_comes(
    document: tuple[dict[str, Any], str, list[Any]], places: list[int]
) -> None:
    fields, name, rows = document
    fields.pop(name, None)
    written = canonical({**fields, name: rows})
    assert read_rows(cut(written, places), name, json.loads) == (fields, rows)


@given(st.integers(0, len(WRITTEN) - 1), st.binary(max_size=3))
def test_an_auditor_takes_no_other_spelling(at: int, instead: bytes) -> None:
    changed = WRITTEN[:at] + instead + WRITTEN[at + 1 :]
    try:
        found = read_manifest(changed)
    except Unreadable:
        return
    assert found.to_bytes() == changed


@pytest.mark.parametrize(
    "change",
    [
        lambda text: json.dumps(json.loads(text)),
        lambda text: json.dumps(json.loads(text), indent=4, sort_keys=True) + "\n",
        lambda text: text.replace('  "volume"', '  "items": [{"path": "a"}],\n  "volume"'),
        lambda text: text.replace('  "volume"', '  "items": [],\n  "volume"'),
        lambda text: text.replace('"items"', '"others"'),
        lambda text: text.replace('"volume": 1', '"volume": ' + "[" * 30_000 + "]" * 30_000),
        lambda text: text.replace('"volume": 1', '"volume": NaN'),
        lambda text: text.replace("    },\n    {", "    }\n    {"),
        lambda text: text.replace("\n    }\n", "\n    },\n"),
        lambda text: text.removesuffix("\n"),
        lambda text: text + "{}\n",
    ],
)
def test_another_spelling_is_refused_and_never_read_as_a_shorter_list(change: Callable[[str], str]) -> None:
    changed = change(WRITTEN.decode()).encode()
    assert changed != WRITTEN
    with pytest.raises(Misspelled):
        Manifest.read([changed])
    with pytest.raises(Unreadable):
        read_manifest(changed)


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("ROWS_LIMIT", 3, "rows"),
        ("ROW_LIMIT", 100, "bytes"),
        ("BYTES_LIMIT", 300, "bytes"),
        ("_FRAME_LIMIT", 20, "bytes"),
    ],
)
def test_no_more_is_read_than_its_limits(name: str, value: int, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, name, value)
    with pytest.raises(Misspelled, match=what):
        Manifest.read([WRITTEN])
    with pytest.raises(Unreadable):
        read_manifest(WRITTEN)


@pytest.mark.slow
@pytest.mark.parametrize("endless", [b"x" * (1 << 16), b"\n" * (1 << 16), b"    {\n", b"{\n", b'  "items": [\n'])
def test_what_never_ends_is_left(endless: bytes) -> None:
    given = 0

    def pieces() -> Iterator[bytes]:
        nonlocal given
        yield b'{\n  "items": [\n    {\n'
        while True:
            given += len(endless)
            yield endless

    with pytest.raises(Misspelled):
        Manifest.read(pieces())
    assert given < 4 * limits.ROW_LIMIT


def test_one_file_more_than_can_be_read_back_is_not_written() -> None:
    require_readable("a manifest", limits.ROWS_LIMIT, limits.BYTES_LIMIT, "", "")
    for count, size in ((limits.ROWS_LIMIT + 1, 0), (0, limits.BYTES_LIMIT + 1)):
        with pytest.raises(TooMany, match=r"expected at most 1000000 files .* Nothing is sealed\. Leave some out\."):
            require_readable("a manifest", count, size, "Nothing is sealed.", "Leave some out.")
