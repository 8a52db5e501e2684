"""Write and read canonical JSON with one long list, row by row: a manifest, or a transaction of latest/.

The document is what `manifest.canonical` writes: sorted, indented by 2. Its lines therefore show where each row begins
and ends, and a reader needs memory for one row at a time. Input may be forged: all sizes have limits.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, Final, TypeVar

from tasks.custody.errors import TooMany

T = TypeVar("T")

ROWS_LIMIT: Final = 1_000_000
"""Maximum rows of a list, written or read: files of one evidence folder, or of latest/."""
BYTES_LIMIT: Final = 1 << 30
"""Maximum bytes of a document: a million rows with names of usual length."""
ROW_LIMIT: Final = 2 << 20
"""Maximum bytes of one row: two contents of ten thousand parts."""
_FRAME_LIMIT: Final = 1 << 16
_TOGETHER: Final = 1000
_scalar = json.JSONEncoder(ensure_ascii=True, allow_nan=False).encode


class Misspelled(ValueError):
    """The document is not canonical JSON, or exceeds a limit."""


def spell(value: Any, margin: str = "\n") -> str:
    """Return canonical JSON of one value, with `margin` before each line, as `canonical` without its line end."""
    if value and isinstance(value, Mapping):
        inner = [f"{_scalar(name)}: {spell(each, f'{margin}  ')}" for name, each in sorted(value.items())]
        return f"{{{margin}  {f',{margin}  '.join(inner)}{margin}}}"
    if value and isinstance(value, list | tuple):
        return f"[{margin}  {f',{margin}  '.join(spell(each, f'{margin}  ') for each in value)}{margin}]"
    return _scalar(value)


def spell_rows(fields: Mapping[str, Any], name: str, rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Yield the document in pieces: `fields`, and the rows as the list `name`."""
    empty = f'\n  "{name}": []'
    head, _, tail = (spell({**fields, name: []}) + "\n").partition(empty)
    before, source = f"{head}{empty[:-1]}\n    ", iter(rows)
    while some := [*islice(source, _TOGETHER)]:
        yield (before + ",\n    ".join(spell(row, "\n    ") for row in some)).encode()
        before = ",\n    "
    yield (f"\n  ]{tail}" if before.startswith(",") else f"{head}{empty}{tail}").encode()


def read_rows(pieces: Iterable[bytes], name: str, make: Callable[[bytes], T]) -> tuple[dict[str, Any], list[T]]:
    """Parse a document; returns its fields, and what `make` returns for each row.

    Raises Misspelled, and any error of `make`. Other spellings are refused, because the list would be missed in them.
    """
    lines, around, rows = _lines(pieces), bytearray(), None
    for line in lines:
        if rows is None and line == f'  "{name}": ['.encode():
            end, rows = _until_end(lines, make)
            around += f'  "{name}": []'.encode() + end.removeprefix(b"  ]") + b"\n"
        else:
            around += line + b"\n"
        if len(around) > _FRAME_LIMIT:
            raise Misspelled(f"more than {_FRAME_LIMIT} bytes beside {name}")
    return _fields(bytes(around), name), rows or []


def _fields(around: bytes, name: str) -> dict[str, Any]:
    """Parse the text around the list, which must be canonical with an empty list."""
    with suppress(ValueError, RecursionError):
        fields = json.loads(around)
        if (
            isinstance(fields, dict)
            and fields.pop(name, None) == []
            and b"".join(spell_rows(fields, name, ())) == around
        ):
            return fields
    raise Misspelled(f"another spelling than canonical JSON (sorted, indented by 2, ASCII) with {name}")


def _until_end(lines: Iterator[bytes], make: Callable[[bytes], T]) -> tuple[bytes, list[T]]:
    """Return the line that ends the list, and its rows."""
    rows, row, size, more = list[T](), list[bytes](), 0, True
    for line in lines:
        if not row and not more and line in {b"  ]", b"  ],"}:
            return line, rows
        if not more or bool(row) == (line == b"    {"):
            break
        row.append(line)
        if (size := size + len(line) + 1) > ROW_LIMIT or len(rows) == ROWS_LIMIT:
            raise Misspelled(f"more than {ROWS_LIMIT} rows, or one of more than {ROW_LIMIT} bytes")
        if line in {b"    }", b"    },"}:
            rows.append(make(b"\n".join(row).removesuffix(b",")))
            row, size, more = [], 0, line.endswith(b",")
    raise Misspelled("canonical JSON (sorted, indented by 2, ASCII) ends, or goes on otherwise, within its list")


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest, size = b"", 0
    for piece in pieces:
        if (size := size + len(piece)) > BYTES_LIMIT:
            raise Misspelled(f"more than {BYTES_LIMIT} bytes")
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
        if len(rest) > ROW_LIMIT:
            raise Misspelled(f"a line of more than {ROW_LIMIT} bytes")
    if rest:
        raise Misspelled("a last line without an end")


def require_readable(what: str, rows: int, size: int, consequence: str, remedy: str) -> None:
    """Raise TooMany for a document that exceeds the limits of reading."""
    if rows > ROWS_LIMIT or size > BYTES_LIMIT:
        expected = f"at most {ROWS_LIMIT} files and {BYTES_LIMIT} bytes in {what}"
        raise TooMany(expected, f"{rows} files and {size} bytes", consequence, remedy)
