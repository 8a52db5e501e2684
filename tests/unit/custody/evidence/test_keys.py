"""Names: the laws of stored names, over hostile byte paths."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.evidence.keys import (
    CONTAINERS,
    COVERAGE,
    MANIFEST,
    NAME_LIMIT,
    SEGMENT,
    SEGMENT_LIMIT,
    SNAPSHOT_FOLDERS,
    SUMS,
    evidence_key,
    in_snapshot,
    placed_name,
    quote,
    stored_name,
    unquote,
)

OURS = (MANIFEST, SUMS, SEGMENT, COVERAGE, CONTAINERS, "ps_top.txt", "envinfo.json", "attempt-1", "attempt-12")
TRICKY = [b"", b".", b"..", b"...", b"~", b"%", b"%2E", b"%2F", b"a\nb", b"a b", b"\xff\xfe", "ログ".encode(), b"C:\\x"]
PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")

segments = st.one_of(
    st.sampled_from([part for part in TRICKY if part]),
    st.binary(min_size=1, max_size=40),
    st.builds(
        lambda letter, times: letter * times, st.sampled_from([b"a", b".", b"~", b"%", b"\xff"]), st.integers(1, 255)
    ),
    st.builds(lambda head, tail: head * 200 + tail, st.sampled_from([b"a", b"."]), st.binary(max_size=3)),
).map(lambda part: part.replace(b"/", b"").replace(b"\0", b"") or b"x")
deep = st.builds(
    lambda part, times, last: b"/".join([part] * times + [last]), segments, st.integers(1, 1300), segments
).filter(lambda path: len(path) < 4096)
paths = st.lists(segments, min_size=1, max_size=4).map(b"/".join) | deep


@given(st.lists(paths, min_size=2, max_size=6, unique=True))
def test_different_sources_get_different_names(sources: list[bytes]) -> None:
    assert len({stored_name(source) for source in sources}) == len(sources)


@given(paths)
def test_every_segment_is_short_printable_ascii_and_no_place_of_its_own(source: bytes) -> None:
    parts = stored_name(source).split("/")
    assert len(parts) == len(source.split(b"/")) or parts[-1].startswith("~")
    for part in parts:
        assert part.isascii()
        assert part.isprintable()
        assert " " not in part
        assert 0 < len(part) <= SEGMENT_LIMIT
        assert part not in {".", ".."}


@given(paths)
def test_no_key_is_longer_than_s3_takes(source: bytes) -> None:
    assert len(stored_name(source)) <= NAME_LIMIT
    inside = f"attempt-999/{CONTAINERS}/{'c' * SEGMENT_LIMIT}/{stored_name(source)}"
    assert len(evidence_key("IR-20260101T000000Z-" + "h" * 64, 999, inside)) < 1024


@given(deep, segments, segments)
def test_deep_names_that_differ_only_at_the_end_are_told_apart(folder: bytes, one: bytes, other: bytes) -> None:
    same = stored_name(folder + b"/" + one) == stored_name(folder + b"/" + other)
    assert same == (one == other)


def test_the_digest_of_a_deep_name_cannot_be_imitated() -> None:
    cut = stored_name(b"/".join([b"ab"] * 600))
    assert stored_name(cut.encode()) != cut
    assert placed_name(cut.encode()) != cut


@given(
    st.lists(
        st.from_regex(PLAIN, fullmatch=True).filter(lambda part: len(part) <= SEGMENT_LIMIT), min_size=1, max_size=3
    )
)
def test_plain_names_stay_as_they_are(parts: list[str]) -> None:
    plain = "/".join(parts)
    assert stored_name(plain.encode()) == plain


@pytest.mark.parametrize("letters", [b"a", b".", b"\n"])
def test_names_that_differ_only_at_a_long_end_are_told_apart(letters: bytes) -> None:
    long = letters * 250
    assert stored_name(long + b"1") != stored_name(long + b"2")
    assert len(stored_name(long)) <= SEGMENT_LIMIT


def test_a_shortened_name_cannot_be_imitated() -> None:
    shortened = stored_name(b"a" * 250)
    assert stored_name(shortened.encode()) != shortened


def test_a_name_that_looks_encoded_is_not_taken_for_what_it_spells() -> None:
    assert stored_name(b"%2E%2E/passwd") != stored_name(b"../passwd")


@given(st.binary(max_size=300))
def test_unquote_gives_back_what_quote_took(source: bytes) -> None:
    quoted = quote(source)
    assert unquote(quoted) == source
    assert quoted.isascii()
    assert quoted == "" or quoted.isprintable()


@given(paths)
def test_a_key_never_leaves_its_folder(source: bytes) -> None:
    key = evidence_key("IR-20260101T000000Z", 2, stored_name(source))
    assert key.startswith("incidents/IR-20260101T000000Z/evidence.2/")
    assert not {"", ".", ".."} & set(key.split("/"))


@given(paths)
def test_a_workloads_file_is_never_placed_on_one_of_ours(source: bytes) -> None:
    first, slash, _ = placed_name(source).partition("/")
    assert slash
    assert first not in OURS


@pytest.mark.parametrize("ours", OURS)
def test_a_workloads_file_that_is_named_like_one_of_ours_is_placed_apart(ours: str) -> None:
    for source in (ours, f"{ours}/x", f"./{ours}"):
        assert placed_name(source.encode()).startswith("%2E/")


@given(st.lists(paths, min_size=2, max_size=6, unique=True))
def test_different_sources_get_different_places(sources: list[bytes]) -> None:
    assert len({placed_name(source) for source in sources if not source.startswith(b"./")}) == len(
        {source for source in sources if not source.startswith(b"./")}
    )


def test_a_file_in_a_plain_folder_is_placed_where_it_was() -> None:
    assert placed_name(b"logs/train.log") == "logs/train.log"
    assert placed_name(b"..logs/train.log") == "%2E/..logs/train.log"


@pytest.mark.parametrize("folder", SNAPSHOT_FOLDERS)
def test_a_file_in_one_of_the_three_folders_belongs_to_the_snapshot(folder: str) -> None:
    assert in_snapshot(f"{folder}/deep/file")


@pytest.mark.parametrize(
    "stored", ["models", "logs", "envinfo.json", "%2E/models", "cache/models/x", "models.bak/x", "Models/x"]
)
def test_everything_else_does_not_belong_to_the_snapshot(stored: str) -> None:
    assert not in_snapshot(stored)
