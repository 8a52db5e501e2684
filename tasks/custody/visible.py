"""Make untrusted text safe to print: characters that hide, move or break surrounding text are shown by name.

Everything that others may have written passes through here before it is shown: on a terminal (`say`), in a log line, a
state's message, an artifact or a page. Standard library only, for guard and prestart.
"""

import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

TEXT_LIMIT: Final = 600
LINE_LIMIT: Final = 4_000
_CUT: Final = re.compile(r"… \(\+[0-9]{1,9}\)\Z")
_CONTROLS: Final = 0x2400
_DELETE: Final = 0x7F
_MARKS: Final = 3
_MARKING: Final = frozenset({"Mn", "Me"})
_WIDE_SPACE: Final = "\N{IDEOGRAPHIC SPACE}"
_BLANK: Final = (
    "\N{HANGUL FILLER}\N{HALFWIDTH HANGUL FILLER}\N{HANGUL CHOSEONG FILLER}\N{HANGUL JUNGSEONG FILLER}\u2800"
)


def visible(text: str, limit: int = TEXT_LIMIT) -> str:
    """Return text as one safe line of at most `limit` characters, followed by the count of those cut off.

    The result is printable, without line breaks, control characters and direction marks; such characters are named, as
    ␛ or ⟨U+202E⟩. Plain text is unchanged. Idempotent.
    """
    shown, marks, room = list[str](), 0, limit
    cut = _CUT.search(text)
    for place, letter in enumerate(text[: cut.start()] if cut else text):
        marks = marks + 1 if unicodedata.category(letter) in _MARKING else 0
        sign = _name_letter(letter) if marks > _MARKS or not _plain(letter) else letter
        room -= len(sign)
        if room < 0:
            return f"{''.join(shown)}… (+{len(text) - place})"
        shown.append(sign)
    return "".join(shown) + (cut[0] if cut else "")


def join_some(texts: Sequence[str], most: int, between: str = ", ") -> str:
    """Return the first of these texts, at most so many, and how many more there are."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return f"{between.join(texts[:most])}{more}"


def visible_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a table with all their texts made visible."""
    return [{name: visible(it) if isinstance(it, str) else it for name, it in row.items()} for row in rows]


def say(*lines: object, error: bool = False) -> None:
    """Print each object as one line for a person, on stderr if `error`. Escapes characters that the terminal lacks."""
    stream = sys.stderr if error else sys.stdout
    encoding = stream.encoding or "utf-8"
    for line in lines:
        text = visible(str(line), LINE_LIMIT)
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)


def _plain(letter: str) -> bool:
    return (letter.isprintable() and letter not in _BLANK) or letter == _WIDE_SPACE


def _name_letter(letter: str) -> str:
    code = ord(letter)
    if code < ord(" "):
        return chr(_CONTROLS + code)
    return "\N{SYMBOL FOR DELETE}" if code == _DELETE else f"⟨U+{code:04X}⟩"
