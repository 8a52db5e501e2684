"""Look whether a file of a format that is not read here is, or may hold, a pickle: then no suffix makes it sound."""

import json
import re
import zipfile
from typing import BinaryIO, Final

from tasks.custody.models.content import BEGINNING, is_packed, looks_like_a_model
from tasks.custody.models.inspection import is_named_as_model, plain

_MEMBERS: Final = 10_000
_SEEN: Final = 1 << 16
_ARRAY: Final = b"\x93NUMPY"
_ARCHIVES: Final = (b"PK", b"7z\xbc\xaf", b"\x28\xb5\x2f\xfd", b"Rar!")
_KIND: Final = rb"'[<>|=]?[?abcdefghilmquBDFGHILMQSUV]\d*(\[\d*\w+\])?'"  # any but O, of objects
_PLAIN: Final = re.compile(
    rb"\{'descr': (%b|\[(\('\w+', %b(, \([\d, ]*\))?\)(, )?)+\]), "
    rb"'fortran_order': (True|False), 'shape': \([\dL, ]*\),? ?\}\s*" % (_KIND, _KIND)
)


def why_not_unread(file: BinaryIO, suffix: str, as_pickle: str) -> str:
    """Return why a file may not be trusted unread: it is or may hold a pickle, or is not whole; else empty.

    `as_pickle` says why it is none: one that only ends too early may be a part of one.
    """
    file.seek(0)
    if not (head := file.read(BEGINNING)):
        return "it is empty"
    try:
        is_zip = head.startswith(b"PK") or zipfile.is_zipfile(file)
        why = _why_no_member(file) if is_zip else ""
        if not (why or head.startswith(b"PK")):
            why = _why_not(head) or ("it may be part of a pickle" if as_pickle.startswith("it ends") else "")
        file.seek(0)
        if suffix == ".json" and not why:
            json.load(file)
    except Exception as error:  # noqa: BLE001  a hostile file may raise anything
        return f"not whole, or not to be looked into: {plain(error)}"
    return why


def _why_no_member(file: BinaryIO) -> str:
    with zipfile.ZipFile(file) as archive:
        if len(archive.infolist()) > _MEMBERS:
            return f"it holds more than {_MEMBERS} files, which are not looked at"
        for each in archive.infolist():
            with archive.open(each) as member:
                why = "it is a pickle by its name" if is_named_as_model(each.filename) else _why_not(member.read(_SEEN))
            if why:
                return f"{plain(each.filename)} in it: {why}"
    return ""


def _why_not(head: bytes) -> str:
    if head.startswith(_ARRAY):
        start = 10 if head[6:7] == b"\x01" else 12
        header = head[start : start + int.from_bytes(head[8:start], "little")]
        return "" if _PLAIN.fullmatch(header) else "its array may hold pickled objects"
    if head.startswith(_ARCHIVES) or b"ustar" in head[257:262] or is_packed(head):
        return "what it packs is not looked at"
    return "it may be a pickle" if looks_like_a_model(head) else ""
