"""Foreign text made visible: what would hide, move or break the text around it is shown by its name instead."""

import unicodedata
from typing import Final

TEXT_LIMIT: Final = 600
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
    printable ones is named, as ␛ or ⟨U+202E⟩; plain text stays as it is.
    """
    shown, marks, room = list[str](), 0, limit
    for place, letter in enumerate(text):
        marks = marks + 1 if unicodedata.category(letter) in _MARKING else 0
        sign = _named(letter) if marks > _MARKS or not _plain(letter) else letter
        room -= len(sign)
        if room < 0:
            return f"{''.join(shown)}… (+{len(text) - place})"
        shown.append(sign)
    return "".join(shown)


def _plain(letter: str) -> bool:
    return (letter.isprintable() and letter not in _BLANK) or letter == _WIDE_SPACE


def _named(letter: str) -> str:
    code = ord(letter)
    if code < ord(" "):
        return chr(_CONTROLS + code)
    return "\N{SYMBOL FOR DELETE}" if code == _DELETE else f"⟨U+{code:04X}⟩"
