"""Make foreign text safe to print: what would hide, move or break the text around it is shown by its name instead.

Whatever others may have written passes through here on its way out: to a terminal (`say`), into a log line, a state's
message, an artifact or a page. The standard library alone: the guard and what runs before Prefect use it.
"""

import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping
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
    """One line of what was said: what fits in `limit` letters, and a count of what does not.

    Laws: the result is printable and holds no line break, no control and no direction mark; each letter beyond the
    printable ones is named, as ␛ or ⟨U+202E⟩; plain text stays as it is; doing it twice is doing it once.
    """
    shown, marks, room = list[str](), 0, limit
    cut = _CUT.search(text)
    for place, letter in enumerate(text[: cut.start()] if cut else text):
        marks = marks + 1 if unicodedata.category(letter) in _MARKING else 0
        sign = _named(letter) if marks > _MARKS or not _plain(letter) else letter
        room -= len(sign)
        if room < 0:
            return f"{''.join(shown)}… (+{len(text) - place})"
        shown.append(sign)
    return "".join(shown) + (cut[0] if cut else "")


def visible_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a table, each text in them made visible."""
    return [{name: visible(it) if isinstance(it, str) else it for name, it in row.items()} for row in rows]


def say(*lines: object, error: bool = False) -> None:
    """Print each as one line for a person; on stderr if it is an error. Letters that the terminal lacks are escaped."""
    stream = sys.stderr if error else sys.stdout
    encoding = stream.encoding or "utf-8"
    for line in lines:
        text = visible(str(line), LINE_LIMIT)
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)


def _plain(letter: str) -> bool:
    return (letter.isprintable() and letter not in _BLANK) or letter == _WIDE_SPACE


def _named(letter: str) -> str:
    code = ord(letter)
    if code < ord(" "):
        return chr(_CONTROLS + code)
    return "\N{SYMBOL FOR DELETE}" if code == _DELETE else f"⟨U+{code:04X}⟩"
