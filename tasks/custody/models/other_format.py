"""Look whether a file of a format that is not read here is, or may hold, a pickle: then no suffix makes it sound."""

import json
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import BinaryIO, Final

from tasks.custody.models.content import BEGINNING, is_packed, looks_like_a_model, unpack
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
_ZIPS: Final = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_PACKS: Final = re.compile(
    rb"7z\xbc\xaf|Rar!|MSCF\0|!<arch>\n|\xed\xab\xee\xdb|070701[0-9A-Fa-f]{8}"  # archives; then compressed streams
    rb"|\x1f[\x8b\x9d\xa0]|BZh[1-9]|\xfd7zXZ|LZIP\x01|\x89LZO|[\x1e-\x28]\xb5\x2f\xfd|[\x02-\x04]\x22\x4d\x18"
    rb"|[\x50-\x5f]\x2a\x4d\x18|\xff\x06\0\0sNaPpY"
)
_NAMED: Final = re.compile(
    r"\.(7z|ar|br|bz2?|cab|cpio|deb|gz|h5|hdf5?|iso|jar|lz|lz4|lzma|lzo|np[yz]|rar|rpm|snappy|sz|tar|tbz2?|tgz|txz|tzst"
    r"|whl|xz|z|zip|zlib|zst)",
    re.IGNORECASE,
)
_HDF: Final = b"\x89HDF\r\n\x1a\n"  # at 0, or after any block of the user's
_CONTROL: Final = re.compile(rb"[\0-\x06\x0e-\x1a\x1c-\x1f]")
_UNSEEN: Final = "what it packs is not looked at"


def why_not_unread(file: BinaryIO, suffix: str, as_pickle: str) -> str:
    """Return why a file may not be trusted unread: it is or may hold a pickle, or is not whole; else empty.

    `as_pickle` says why it is none: one that only ends too early may be a part of one.
    """
    file.seek(0)
    if not (head := file.read(BEGINNING)):
        return "it is empty"
    try:
        is_zip = head.startswith(b"PK") or zipfile.is_zipfile(file)
        why = _why_no_member(file, lambda head, _: _why_not(head)) if is_zip else ""
        if not (why or head.startswith(b"PK")):
            why = _why_not(head) or ("it may be part of a pickle" if as_pickle.startswith("it ends") else "")
        file.seek(0)
        if suffix == ".json" and not why:
            json.load(file)
    except Exception as error:  # noqa: BLE001  a hostile file may raise anything
        return f"not whole, or not to be looked into: {plain(error)}"
    return why


def may_be_zip(file: BinaryIO, head: bytes) -> bool:
    """Return whether a reader may take a file for a zip: by its beginning, or by a list of members at its end."""
    try:
        return head.startswith(_ZIPS) or zipfile.is_zipfile(file)
    except zipfile.BadZipFile:
        return True


def why_zip_untrusted(file: BinaryIO) -> str:
    """Return why a zip that nobody vouches for may hold a pickle; empty if all of its members are seen to be none."""
    file.seek(0)
    head = file.read(BEGINNING)
    try:
        before = "" if head.startswith(_ZIPS) else why_untrusted(head, "")
        return before or _why_no_member(file, _why_member_untrusted)
    except Exception as error:  # noqa: BLE001  a hostile file may raise anything
        return f"not whole, or not to be looked into: {plain(error)}"


def why_untrusted(head: bytes, name: str) -> str:
    """Return why a file that nobody vouches for, and that is no zip, may hold a pickle in what it packs; else empty.

    What is or is called an archive, a compressed stream or an array container may, unless it is seen to be text, to
    have text compressed once, or to be an array of plain items.
    """
    if head.startswith(_ARRAY):
        return _why_not(head)
    if _is_text(head) or (is_packed(head) and _is_text(unpack(head))):
        return ""
    packs = _PACKS.match(head) or is_packed(head) or _HDF in head or _is_tar(head)
    return _UNSEEN if packs or _NAMED.fullmatch(PurePosixPath(name).suffix) else ""


def _why_member_untrusted(head: bytes, name: str) -> str:
    why = _UNSEEN if _ZIPS[0] in head else why_untrusted(head, name)
    return why or ("it may be a pickle" if looks_like_a_model(head) else "")


def _is_text(head: bytes) -> bool:
    return not (_CONTROL.search(head) or _PACKS.match(head))


def _is_tar(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except tarfile.TarError:
        return b"ustar" in head[257:262]
    return True


def _why_no_member(file: BinaryIO, look: Callable[[bytes, str], str]) -> str:
    with zipfile.ZipFile(file) as archive:
        if len(archive.infolist()) > _MEMBERS:
            return f"it holds more than {_MEMBERS} files, which are not looked at"
        for each in archive.infolist():
            with archive.open(each) as member:
                is_named = is_named_as_model(each.filename)
                why = "it is a pickle by its name" if is_named else look(member.read(_SEEN), each.filename)
            if why:
                return f"{plain(each.filename)} in it: {why}"
    return ""


def _why_not(head: bytes) -> str:
    if head.startswith(_ARRAY):
        start = 10 if head[6:7] == b"\x01" else 12
        header = head[start : start + int.from_bytes(head[8:start], "little")]
        return "" if _PLAIN.fullmatch(header) else "its array may hold pickled objects"
    if head.startswith(_ARCHIVES) or b"ustar" in head[257:262] or is_packed(head):
        return _UNSEEN
    return "it may be a pickle" if looks_like_a_model(head) else ""
