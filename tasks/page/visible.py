"""Foreign text made visible: what would hide, move or break the text around it is shown by its name instead."""

import unicodedata
from typing import Final

TEXT_LIMIT: Final = 600
_CONTROLS: Final = 0x2400
_DELETE: Final = 0x7F
_MARKS: Final = 3
_WIDE_SPACE: Final = "\N{IDEOGRAPHIC SPACE}"
_BLANK: Final = (
    "\N{HANGUL FILLER}\N{HALFWIDTH HANGUL FILLER}\N{HANGUL CHOSEONG FILLER}\N{HANGUL JUNGSEONG FILLER}\u2800"
)


def visible(text: str, limit: int = TEXT_LIMIT) -> str:
    """One line of what was said, at most `limit` letters and a count of what was cut.

    Laws: the result is printable and holds no line break, no control and no direction mark; each letter beyond the
    printable ones is named, as ␛ or ⟨U+202E⟩; plain text stays as it is.
    """
    shown, marks = [], 0
    for letter in text[:limit]:
        marks = marks + 1 if unicodedata.category(letter) in {"Mn", "Me"} else 0
        shown.append(_named(letter) if marks > _MARKS or not _plain(letter) else letter)
    if len(text) > limit:
        shown.append(f"… (+{len(text) - limit})")
    return "".join(shown)


def _plain(letter: str) -> bool:
    return (letter.isprintable() and letter not in _BLANK) or letter == _WIDE_SPACE


def _named(letter: str) -> str:
    code = ord(letter)
    if code < ord(" "):
        return chr(_CONTROLS + code)
    return "\N{SYMBOL FOR DELETE}" if code == _DELETE else f"⟨U+{code:04X}⟩"
