"""The manifest: one spelling, readable by the runbook's readers and by sha256sum, and blind to nothing."""

import hashlib
import json
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.custody.errors import Tampered
from tasks.custody.evidence.acquisition import IN_PLACE, StoredFile
from tasks.custody.evidence.keys import MANIFEST, SUMS, quote, stored_name
from tasks.custody.evidence.part_sizes import Parts
from tasks.custody.store.manifest import (
    Manifest,
    canonical,
    differences,
    digest,
    digest_bytes,
    digest_of,
    is_canonical,
    require_intact,
)

NAMES = (
    b"logs/train.log",
    b"models/model_builtin.joblib",
    b"logs/a\nb \xff%.log",
    b"./manifest.json",
    b"x" * 250,
    b"empty",
)

files = st.builds(
    lambda parts, source, size, *about: replace(
        StoredFile(stored_name(source), quote(source), size, *about),
        parts=Parts(1 << 24, size, tuple(parts)) if parts else None,
    ),
    st.lists(st.binary(min_size=32, max_size=32).map(bytes.hex), max_size=2),
    st.binary(min_size=1, max_size=30).filter(stored_name),
    st.integers(0, 2**63),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
    st.none() | st.integers(-(2**62), 2**62),
    st.text(max_size=20),
    st.sampled_from(["", IN_PLACE, "/mnt/other disk/IR-20260102T030405Z/evidence"]),
    st.sampled_from(["", "-rw-r--r-- 1000:1000"]),
)
contents = st.lists(files, max_size=6, unique_by=lambda file: file.stored)


def manifest(*of: StoredFile) -> Manifest:
    return Manifest("IR-20260102T030405Z", 1, "2026-01-02T03:04:05Z", of)


def fill(folder: Path, seed: int = 1) -> Manifest:
    """A sealed folder with hostile names and random contents."""
    dice = random.Random(seed)  # noqa: S311  a repeatable test, no secret
    made = []
    for source in NAMES:
        path = folder / stored_name(source)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if source == b"empty" else dice.randbytes(dice.randint(1, 70_000)))
        made.append(
            StoredFile(stored_name(source), quote(source), path.stat().st_size, digest(path), path.stat().st_mtime_ns)
        )
    sealed = manifest(*made)
    (folder / MANIFEST).write_bytes(sealed.to_bytes())
    (folder / SUMS).write_bytes(sealed.sums())
    return sealed


def lying(folder: Path) -> Callable[[StoredFile], Path]:
    return lambda file: folder / file.stored


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "evidence"
    made.mkdir()
    return made


@pytest.mark.slow
@given(contents)
def test_what_is_read_back_has_the_same_bytes_again(of: list[StoredFile]) -> None:
    written = manifest(*of).to_bytes()
    again = Manifest.read([written])
    assert again.to_bytes() == written
    assert set(again.files) == set(of)


@pytest.mark.slow
@given(contents, st.randoms(use_true_random=False))
def test_the_order_of_the_files_changes_no_byte(of: list[StoredFile], dice: random.Random) -> None:
    shuffled = list(of)
    dice.shuffle(shuffled)
    assert manifest(*shuffled).to_bytes() == manifest(*of).to_bytes()
    assert manifest(*shuffled).sums() == manifest(*of).sums()


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=6))
def test_canonical_json_does_not_depend_on_the_order_of_keys(value: dict[str, Any]) -> None:
    backwards = dict(reversed(list(value.items())))
    assert canonical(backwards) == canonical(value)
    assert json.loads(canonical(value)) == value


def test_canonical_json_refuses_what_has_no_single_spelling() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical(float("nan"))
    with pytest.raises(TypeError, match="no canonical form"):
        canonical({"a": {1, 2}})
    assert canonical(datetime(2026, 1, 2, tzinfo=UTC)) == b'"2026-01-02T00:00:00+00:00"\n'


def test_the_runbooks_fields_are_kept() -> None:
    file = StoredFile("logs/a.log", "logs/a.log", 7, "0" * 64, 1_700_000_000_250_000_000, "a note")
    read = json.loads(manifest(file).to_bytes())
    assert read["generated_utc"] == "2026-01-02T03:04:05Z"
    (item,) = read["items"]
    assert (item["path"], item["bytes"], item["sha256"], item["mtime"]) == ("logs/a.log", 7, "0" * 64, 1_700_000_000.25)


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    """The auditor's own tool."""
    command = [shutil.which("sha256sum") or "sha256sum", "--check", "--strict", "--quiet", SUMS]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_sha256sum_accepts_the_sums_and_notices_a_change(folder: Path) -> None:
    sealed = fill(folder)
    assert len(sealed.sums().splitlines()) == len(NAMES) + 1
    done = check(folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (folder / MANIFEST).write_bytes(sealed.to_bytes() + b" ")
    assert check(folder).returncode == 1


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_single_flipped_bit_in_a_sealed_folder_is_named(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = tmp_path_factory.mktemp("sealed")
    sealed = fill(place)
    assert differences(sealed.files, lying(place)) == []
    file = data.draw(st.sampled_from([file for file in sealed.files if file.size]))
    path, at = place / file.stored, data.draw(st.integers(0, file.size - 1))
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    (line,) = differences(sealed.files, lying(place))
    assert line.startswith(f"{file.stored}: ")
    assert digest_bytes(bytes(content)) in line
    shutil.rmtree(place)


def test_a_missing_file_is_named(folder: Path) -> None:
    sealed = fill(folder)
    (folder / "logs/train.log").unlink()
    assert differences(sealed.files, lying(folder)) == ["logs/train.log: gone"]


def test_a_link_to_the_same_content_is_not_the_sealed_file(folder: Path, tmp_path: Path) -> None:
    sealed = fill(folder)
    (folder / "logs/train.log").rename(tmp_path / "elsewhere")
    (folder / "logs/train.log").symlink_to(tmp_path / "elsewhere")
    assert differences(sealed.files, lying(folder)) == ["logs/train.log: gone"]


def test_a_folder_in_the_place_of_a_file_is_named(folder: Path) -> None:
    sealed = fill(folder)
    (folder / "empty").unlink()
    (folder / "empty").mkdir()
    assert differences(sealed.files, lying(folder)) == ["empty: gone"]


def test_the_error_names_some_and_counts_all(folder: Path) -> None:
    sealed = fill(folder)
    for file in sealed.files:
        (folder / file.stored).unlink()
    with pytest.raises(Tampered, match="and 1 more"):
        require_intact(sealed.files, folder, lying(folder))


def test_where_the_bytes_lie_is_said_only_of_those_that_lie_elsewhere() -> None:
    there = StoredFile("models/b", "models/b", 7, "0" * 64, 1, "", IN_PLACE)
    (here, elsewhere) = json.loads(manifest(StoredFile("a", "a", 7, "0" * 64), there).to_bytes())["items"]
    assert not {"where", "in_place"} & here.keys()
    assert (elsewhere["where"], elsewhere["in_place"]) == (IN_PLACE, True)


def test_one_digest_for_many_files_is_that_of_their_lines_in_the_sums() -> None:
    files = [StoredFile("b", "", 1, "1" * 64), StoredFile("a", "", 1, "2" * 64)]
    lines = f"{'2' * 64}  a\n{'1' * 64}  b\n"
    assert digest_of(files) == digest_of(reversed(files)) == hashlib.sha256(lines.encode()).hexdigest()
    assert digest_of([]) == hashlib.sha256(b"").hexdigest()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)


@given(values, st.binary(max_size=3), st.integers(0))
def test_one_spelling_of_a_value_is_canonical_and_no_other(value: Any, more: bytes, place: int) -> None:
    data = canonical(value)
    at = place % (len(data) + 1)
    assert is_canonical(value, data)
    assert is_canonical(value, other := data[:at] + more + data[at:]) == (other == data)
    assert not is_canonical(value, data[:-1])


def test_a_spelling_that_is_far_longer_than_the_bytes_is_not_made() -> None:
    # Indented, each of these numbers would stand on a line of 400 spaces.
    data = b"[" * 200 + b"0," * 200_000 + b"0" + b"]" * 200
    value = json.loads(data)
    before = time.process_time()
    assert not is_canonical(value, data)
    assert time.process_time() - before < 1
