"""Decompress a model file as joblib would, in one pass and within limits."""

import bz2
import io
import lzma
import pickletools
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Final

_BLOCK: Final = 1 << 20
_LINE_LIMIT: Final = 1 << 20


class Torn(Exception):
    """The content ends, or becomes invalid, before its format says so."""


class Undecided(Exception):
    """The content cannot be judged: it exceeds a limit, or is of an unknown form."""


class _Packed:
    """One compressed stream, decompressed in small pieces. Data after its end is refused."""

    def __init__(self, file: BinaryIO, stream: Any) -> None:
        self._file, self._stream = file, stream

    def read(self, size: int, /) -> bytes:
        while not self._stream.eof:
            packed = bytes(getattr(self._stream, "unconsumed_tail", b""))  # zlib has it
            if not packed and getattr(self._stream, "needs_input", True):
                packed = self._file.read(_BLOCK)
            if data := self._stream.decompress(packed, size):
                return bytes(data)
            if not packed:
                raise EOFError("the compressed stream has no end")
        if self._stream.unused_data or self._file.read(1):
            raise Undecided("something follows the end of the compressed stream")
        return b""


def _lz4() -> Any:
    from lz4.frame import LZ4FrameDecompressor  # loaded for such models only

    return LZ4FrameDecompressor()


_ZLIB: Final = b"\x78"
_COMPRESSED: Final[Mapping[bytes, Callable[[], Any]]] = {
    _ZLIB: zlib.decompressobj,
    b"\x1f\x8b": lambda: zlib.decompressobj(31),  # gzip
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ": lzma.LZMADecompressor,
    b"\x5d\x00\x00": lzma.LZMADecompressor,
    b"\x04\x22\x4d\x18": _lz4,
}
_BROKEN: Final = (zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError)
_PICKLE: Final = b"\x80\x02"
HEAD: Final = 6
BEGINNING: Final = 1 << 20  # a block of bzip2 has up to 900,000 bytes
_SEEN: Final = 1 << 16
_CALL: Final = re.compile(r" (REDUCE|INST|OBJ|NEWOBJ|NEWOBJ_EX|BUILD)\b")
_WITHIN: Final = ((b"PK\x03\x04", b".pkl"), (b"\x93NUMPY", b"'|O'"))  # as torch writes it; an array of objects


def looks_like_a_model(head: bytes) -> bool:
    """Return whether a file begins like a pickle, compressed or not, or may, as far as can be seen."""
    if any(head.startswith(magic) and mark in head for magic, mark in _WITHIN):
        return True
    plain = unpack(head) if _is_packed(head) else head
    return looks_like_a_pickle(plain) or _is_old_pickle(plain[:_SEEN])


def _is_old_pickle(head: bytes) -> bool:
    """Return whether these are opcodes to their end, or some that call something: protocols 0 and 1 have no mark."""
    listing = io.StringIO()
    try:
        pickletools.dis(head, listing)
    except Exception as error:  # noqa: BLE001  text is no opcodes in many ways
        why, lines = str(error), listing.getvalue().splitlines()
        ran = lines[:-1] if why.startswith(("tries to pop", "no MARK")) else lines
        cut = len(head) == _SEEN and why.startswith(("pickle exhausted", "no newline", "expected", "not enough"))
        return cut or "already defined" in why or any(map(_CALL.search, ran))
    return True


def unpack(head: bytes) -> bytes:
    """Return the beginning of what is compressed; that of a pickle if more is needed, nothing if it is not."""
    make = next(make for magic, make in _COMPRESSED.items() if head.startswith(magic))
    stream = lzma.LZMADecompressor(memlimit=1 << 26) if make is lzma.LZMADecompressor else make()
    try:
        first = bytes(stream.decompress(head, _SEEN))
    except (lzma.LZMAError, MemoryError):  # it may only want more memory
        return _PICKLE
    except _BROKEN:
        return b""
    return first or (b"" if stream.eof else _PICKLE)


def looks_like_a_pickle(head: bytes) -> bool:
    """Return whether a file begins like a pickle of protocol 2 or later. A length may too, but NUL is no opcode."""
    proto = len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5  # noqa: PLR2004  the opcode and its argument
    return proto and head[2:3] != b"\0"


def is_packed(head: bytes) -> bool:
    """Return whether a file begins like a compressed stream, and can be unpacked as far as is seen."""
    return _is_packed(head) and bool(unpack(head))


def _is_packed(head: bytes) -> bool:
    if head.startswith(_ZLIB):  # also the letter x: RFC 1950 has a check in the first two bytes
        return len(head) > 1 and int.from_bytes(head[:2]) % 31 == 0
    return head.startswith(tuple(_COMPRESSED))


class ModelContent:
    """The content that an unpickler reads, at most `limit` bytes. Skipped bytes are not kept."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        """Recognise the compression by the first bytes, as joblib does."""
        file.seek(0)
        head = file.read(HEAD)
        opener = next((make for magic, make in _COMPRESSED.items() if head.startswith(magic)), None)
        self.compressed = opener is not None
        self._stream: _Packed | BinaryIO = _Packed(file, opener()) if opener else file
        self._file, self._remaining = file, limit
        self._size = file.seek(0, io.SEEK_END)
        file.seek(0)

    def read(self, size: int) -> bytes:
        """Return exactly `size` bytes. Raises Torn if there are fewer."""
        if not self.compressed and size > (there := self._size - self._file.tell()):
            raise Torn(f"it ends {size - there} bytes too early")
        found = self._some(size)
        if len(found) < size:
            raise Torn(f"it ends {size - len(found)} bytes too early")
        return found

    def readline(self) -> bytes:
        """Return the rest of the line, as arguments in text form have it."""
        line = bytearray()
        while not line.endswith(b"\n"):
            line += self.read(1)
            if len(line) > _LINE_LIMIT:
                raise Torn(f"a line of more than {_LINE_LIMIT} bytes")
        return bytes(line)

    def skip(self, size: int) -> None:
        """Skip the bytes of an array."""
        if not self.compressed:
            if size > self._size - self._file.tell():
                raise Torn(f"an array of {size} bytes is not all there")
            self._file.seek(size, io.SEEK_CUR)
            return
        while size > 0:
            passed = len(self._some(min(size, _BLOCK)))
            if not passed:
                raise Torn(f"an array ends {size} bytes too early")
            size -= passed

    def require_end(self) -> None:
        """Raise Undecided if something follows. A compressed stream has its own end mark and checksum."""
        if self._some(1):
            raise Undecided("something follows its end")

    def _some(self, size: int) -> bytes:
        """Return up to `size` bytes; a false size costs no memory."""
        if self.compressed and size > self._remaining:
            raise Undecided("it holds more than is read here")
        parts, wanted = [], size
        while wanted:
            try:
                block = self._stream.read(min(wanted, _BLOCK))
            except _BROKEN as error:
                raise Torn(f"{type(error).__name__}: {error}") from error
            if not block:
                break
            parts.append(block)
            wanted -= len(block)
        self._remaining -= size - wanted
        return b"".join(parts)
