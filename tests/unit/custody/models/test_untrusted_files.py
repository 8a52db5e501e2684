"""What packs others and is not seen to hold no pickle may hold one, whatever it is called; plain results hold none."""

import bz2
import gzip
import io
import lzma
import pickle
import random
import sqlite3
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.custody.models.content import BEGINNING, looks_like_a_model
from tasks.custody.models.other_format import may_be_zip, why_untrusted, why_zip_untrusted

PICKLE = pickle.dumps({"w": [1.0]})
NOISE = random.Random(1).randbytes(5000)  # noqa: S311  the same in each run
CSV = b"fold,score\n" + b"1,0.5\n" * 200


def zipped(packed: int = zipfile.ZIP_DEFLATED, /, **members: bytes) -> bytes:
    with zipfile.ZipFile(file := io.BytesIO(), "w", packed) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)
    return file.getvalue()


def tarred(name: str, content: bytes, mode: str = "w", form: int = tarfile.PAX_FORMAT) -> bytes:
    with tarfile.open(fileobj=(file := io.BytesIO()), mode=mode, format=form) as archive:  # type: ignore[call-overload]
        (member := tarfile.TarInfo(name)).size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return bytes(file.getvalue())


def old_tar(name: str, content: bytes) -> bytes:
    """Write a tar of before 1988, without the word ustar."""
    header = bytearray(tarred(name, content)[:512])
    header[257:265] = bytes(8)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content.ljust(512, b"\0") + bytes(1024)


def saved(save: Any, *what: Any, **named: Any) -> bytes:
    save(file := io.BytesIO(), *what, **named)
    return file.getvalue()


def sqlite(into: Path) -> bytes:
    with sqlite3.connect(into / "runs.sqlite") as made:
        made.execute("create table runs (score real)")
    made.close()
    return (into / "runs.sqlite").read_bytes()


OBJECTS = np.array([{"a": 1}], dtype=object)
HELD = {
    "objects.npz": saved(np.savez, a=OBJECTS),
    "packed.npz": saved(np.savez_compressed, w=np.eye(3), a=OBJECTS),
    "spelt.npy": saved(np.save, np.zeros(3)).replace(b"'<f8'", b"'ob' "),
    "field.npy": saved(np.save, np.zeros(2, [("x", "<f8"), ("y", "O")])),
    "array.npy": NOISE,
    "run.sh": b"#!/bin/sh\n" + zipped(a__data=PICKLE),
    "long.sh": b"#!/bin/sh\n" + b"# why\n" * 300_000 + zipped(a__data=PICKLE),
    "bundle.tar": tarred("m.pkl", PICKLE),
    "bundle.dat": tarred("m", PICKLE, form=tarfile.GNU_FORMAT),
    "old.dat": old_tar("m", PICKLE),
    "bundle.tar.gz": tarred("m.pkl", PICKLE, "w:gz"),
    "bundle.tar.xz": tarred("m.pkl", PICKLE, "w:xz"),
    "a.gz.gz": gzip.compress(gzip.compress(PICKLE)),
    "a.bz2.gz": gzip.compress(bz2.compress(PICKLE)),
    "a.xz.dat": lzma.compress(zlib.compress(PICKLE)),
    "zip.gz": gzip.compress(zipped(a=PICKLE)),
    "run.sh.gz": gzip.compress(b"#!/bin/sh\n" + zipped(a=PICKLE)),
    "npy.gz": gzip.compress(saved(np.save, OBJECTS)),
    "npz.zip": zipped(a_npz=saved(np.savez, a=np.eye(2))),
    "zip.zip": zipped(run=b"#!/bin/sh\n" + zipped(a=PICKLE)),
    "tar.zip": zipped(a=old_tar("m", PICKLE)),
    "gz.zip": zipped(a=gzip.compress(gzip.compress(PICKLE))),
    "plain.zip": zipped(readme_md=b"# Card\n", weights=PICKLE),
    "stored.zip": zipped(zipfile.ZIP_STORED, weights=pickle.dumps([1], 0)),
    "bz2.zip": zipped(zipfile.ZIP_BZIP2, weights=PICKLE),
    "model.keras": zipped(config_json=b"{}", model_weights_h5=b"\x89HDF\r\n\x1a\n" + NOISE),
    "cut.zip": zipped(a=CSV)[:-30],
    "tar.and.zip": tarred("m", PICKLE) + zipped(a=CSV),
    "table.h5": b"\x89HDF\r\n\x1a\n" + NOISE,
    "table.dat": bytes(512) + b"\x89HDF\r\n\x1a\n" + NOISE,
    "data.zst": b"\x28\xb5\x2f\xfd" + NOISE,
    "zst.dat": b"\x28\xb5\x2f\xfd" + NOISE,
    "skipped.dat": b"\x5a\x2a\x4d\x18" + NOISE,
    "data.lz4": b"\x04\x22\x4d\x18" + NOISE,
    "lz4.dat": lz4.frame.compress(gzip.compress(PICKLE)),
    "data.7z": b"7z\xbc\xaf\x27\x1c" + NOISE,
    "data.br": b"\x0b" + NOISE,
    "DATA.BR": b"\x0b" + NOISE,
    "cut.gz": gzip.compress(NOISE)[:40],
}
GOES = {
    "cv.csv": CSV,
    "keys.csv": b"PK,name\n1,a\n",
    "bz.txt": b"BZh is how bzip2 begins\n",
    "summary.json": b'{"auc": 0.9}',
    "card.md": "# モデル\n".encode(),
    "sjis.csv": "列,値\n".encode("shift_jis"),
    "wide.txt": "a\tb\n".encode("utf-16"),
    "x.txt": b"x y\n1 2\n",
    "formula.txt": b"x^2 + 1\n",
    "figure.png": b"\x89PNG\r\n\x1a\n" + NOISE,
    "photo.jpg": b"\xff\xd8\xff\xe0\0\x10JFIF" + NOISE,
    "table.parquet": b"PAR1" + NOISE + b"PAR1",
    "report.pdf": b"%PDF-1.7\n" + NOISE,
    "weights.onnx": b"\x08\x07\x12\x07pytorch" + NOISE,
    "events.tfrecord": b"\x18" + bytes(7) + NOISE,
    "arrays.npz": saved(np.savez, w=np.eye(9), b=np.array(["é", "b"]), t=np.zeros(2, "M8[ns]"), n=np.array(3)),
    "small.npz": saved(np.savez_compressed, r=np.zeros(2, [("x", "<f4"), ("y", "|u1", (2, 3))])),
    "array.npy": saved(np.save, np.zeros((2, 3), order="F")),
    "table.xlsx": zipped(xl__workbook_xml=b"<workbook/>", xl__media__a_png=b"\x89PNG\r\n\x1a\n" + NOISE),
    "results.zip": zipped(cv_csv=CSV, keys_csv=b"PK,name\n1,a\n", old_csv_gz=gzip.compress(CSV)),
    "train.log.gz": gzip.compress(CSV),
    "train.log.bz2": bz2.compress(CSV),
    "table.csv.xz": lzma.compress(CSV),
    "progress.log": b"10%\r\x1b[K20%\x08\n",
    "text.gz": CSV,
    "empty.zip": zipped(),
}


def why(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(BEGINNING)
        if may_be_zip(file, head):
            return why_zip_untrusted(file)
    return why_untrusted(head, path.name)


@pytest.mark.parametrize("name", HELD)
def test_what_packs_others_and_is_not_seen_to_hold_no_pickle_may_hold_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(HELD[name])
    assert why(tmp_path / name)


@pytest.mark.parametrize("name", GOES)
def test_a_plain_result_holds_none(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(GOES[name])
    assert not looks_like_a_model(GOES[name][:BEGINNING])
    assert why(tmp_path / name) == ""


def test_a_database_holds_none(tmp_path: Path) -> None:
    assert sqlite(tmp_path)
    assert why(tmp_path / "runs.sqlite") == ""


def test_the_member_that_may_be_a_pickle_is_named(tmp_path: Path) -> None:
    for name in ("objects.npz", "run.sh", "npz.zip", "bz2.zip"):
        (tmp_path / name).write_bytes(HELD[name])
    assert why(tmp_path / "objects.npz") == "a.npy in it: its array may hold pickled objects"
    assert why(tmp_path / "run.sh") == "a/data in it: it may be a pickle"
    assert why(tmp_path / "npz.zip") == "a.npz in it: what it packs is not looked at"
    assert why(tmp_path / "bz2.zip") == "weights in it: it may be a pickle"


@pytest.mark.slow
@given(st.sampled_from(sorted(HELD)), st.data())
@settings(max_examples=100)
def test_damaged_files_are_looked_at_without_a_crash(name: str, data: st.DataObject) -> None:
    content = bytearray(HELD[name][-2000:] if data.draw(st.booleans()) else HELD[name][:2000])
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=20)):
        content[at] = data.draw(st.integers(0, 255))
    head, file = bytes(content), io.BytesIO(content)
    may_be_zip(file, head)
    assert all(isinstance(each, str) for each in (why_untrusted(head, name), why_zip_untrusted(file)))
