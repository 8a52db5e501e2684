"""The laws of parts: they are the file, whole, and give the digest that a store gives."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.evidence import part_sizes as division
from tasks.custody.evidence.part_sizes import ABOVE, MOST, PART, Parts, divide, hash_file, part_size

MIB = 1 << 20
S3_LARGEST = 5 << 40


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parts") / "file"


@given(data=st.binary(max_size=400), size=st.integers(min_value=1, max_value=90))
def test_the_parts_are_the_file_and_their_digest_is_that_of_their_digests(file: Path, data: bytes, size: int) -> None:
    file.write_bytes(data)
    whole, parts = divide(file, size, len(data))
    cut = [data[part.start : part.start + part.length] for part in parts]
    assert whole == hashlib.sha256(data).hexdigest()
    assert b"".join(cut) == data
    assert all(len(each) == size for each in cut[:-1])
    assert [part.number for part in parts] == list(range(1, len(cut) + 1))
    assert [part.sha256 for part in parts] == [hashlib.sha256(each).hexdigest() for each in cut]
    digests = b"".join(hashlib.sha256(each).digest() for each in cut)
    assert parts.composite == f"{hashlib.sha256(digests).hexdigest()}-{len(cut)}"
    assert parts.whole == bool(data)


@given(data=st.binary(min_size=1, max_size=200), more=st.binary(max_size=50))
def test_what_grew_is_divided_as_it_was(file: Path, data: bytes, more: bytes) -> None:
    file.write_bytes(data)
    before = divide(file, 7, len(data))
    file.write_bytes(data + more)
    assert divide(file, 7, len(data)) == before


@given(data=st.binary(max_size=200), gone=st.integers(min_value=1, max_value=50))
def test_what_was_cut_short_has_another_digest(file: Path, data: bytes, gone: int) -> None:
    file.write_bytes(data)
    whole, _ = divide(file, 7, len(data) + gone)
    assert whole == hashlib.sha256(data).hexdigest()


@given(data=st.binary(min_size=1, max_size=200), named=st.integers(min_value=0, max_value=250))
def test_a_file_is_hashed_as_long_as_it_was_and_divided_if_it_is_large_and_all_there(
    file: Path, data: bytes, named: int
) -> None:
    file.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(division, "ABOVE", 100)
        patch.setattr(division, "PART", 40)
        sha256, parts = hash_file(file, named)
    assert sha256 == hashlib.sha256(data[:named]).hexdigest()
    assert parts == (divide(file, MIB, named)[1] if 100 < named <= len(data) else None)


@given(total=st.integers(min_value=0, max_value=S3_LARGEST))
def test_any_size_up_to_the_largest_object_has_a_division_that_s3_takes(total: int) -> None:
    size = part_size(total)
    assert (size == 0) == (total <= ABOVE)
    if size:
        assert size >= PART
        assert size % MIB == 0
        assert -(-total // size) <= MOST


def test_parts_that_do_not_make_the_file_are_known() -> None:
    digest = hashlib.sha256(b"").hexdigest()
    assert not Parts(0, 10, (digest,)).whole
    assert not Parts(5, 11, (digest, digest)).whole
    assert Parts(5, 10, (digest, digest)).whole


def test_another_digest_of_as_many_parts_is_a_contradiction_and_one_of_more_or_none_is_not() -> None:
    parts = Parts(5, 10, (hashlib.sha256(b"a").hexdigest(), hashlib.sha256(b"b").hexdigest()))
    other = hashlib.sha256(b"c").hexdigest()
    assert parts.contradicted_by(f"{other}-2")
    assert not any(parts.contradicted_by(said) for said in (parts.composite, f"{other}-3", other, ""))
