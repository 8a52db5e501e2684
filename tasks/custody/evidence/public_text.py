"""Decide whether a file that nobody named is known to be public: text that was searched whole, with nothing to hide.

What is not known to be public is hidden, so a secret of unknown shape stays out too. Of source code what would be
hidden counts where it is a word with a digit in a string: code is full of names that look drawn at random, and of
`password=password`. Digests that say so, packages by version, files of public indexes and formats of dates are public.

See docs/adr/0052.
"""

import re
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from itertools import zip_longest
from typing import Final

from tasks.custody.evidence.redact import redact
from tasks.custody.evidence.secrets_in_files import search

MOST_READ: Final = 4 << 20
_LONGEST_LINE: Final = 1 << 16  # the redactor takes a line of systemd apart in quadratic time
_SOURCE: Final = re.compile(r".*\.(py[ix]?|pxd|c|cc|cpp|cuh?|h|hpp|go|rs|java|jl|[jt]s)", re.IGNORECASE | re.DOTALL)
_STRING: Final = re.compile(
    r"""(?:[=(,\[{+>]\s{0,80}|:[ ]?|\breturn[ ])[A-Za-z]{0,12}"""
    r"""(?:\"{3}(?:[^"]|"(?!""))*+\"{3}|'{3}(?:[^']|'(?!''))*+'{3}|`[^`]*+`)"""
    r"""|(?:\"{3}|'{3})|"[^"\n]*"|'[^'\n]*'|`[^`\n]*`"""
)
"""One that ends in its line, or a value of several lines: a text that begins its line tells of the code below it."""
_WORD: Final = re.compile(r"""[^\s"'`]{6,}+""")
_DIGIT: Final = re.compile(r"\d")
_PUBLIC: Final = re.compile(
    r"""\b(?P<label>(?:sha(?:1|224|256|384|512)|md5|content-hash)["']?[ ]?[:=][ ]?["']?)[0-9a-f]{32,128}\b"""
    r"""|https://(?:files\.pythonhosted\.org|conda\.anaconda\.org|repo\.anaconda\.com)/[\w./+-]+"""
    r"""|^[A-Za-z][\w.-]{0,80}(?:\[[\w,.-]{1,80}\])?==\d[\w.!+*-]*|(?<=\s)["']?\+%[A-Za-z][%A-Za-z_:-]*""",
    re.MULTILINE,
)


def why_private(name: str, data: bytes) -> str:
    """Return why a file is not known to be public, by its name and content; empty if it is. In linear time."""
    if len(data) > MOST_READ:
        return f"not searched, above the {MOST_READ >> 20} MiB that are looked through unnamed"
    if max(map(len, data.split(b"\n"))) > _LONGEST_LINE:
        return f"not searched, a line above {_LONGEST_LINE >> 10} KiB"
    found = search(BytesIO(data), name)
    if found.hits or found.unsearched:
        return found.summary or f"not searched, {found.unsearched}"
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "not searched, no text in UTF-8"
    line = 0 if "\0" not in text else text.count("\n", 0, text.index("\0")) + 1
    line = line or _first_hidden(text, is_source=bool(_SOURCE.fullmatch(name)))
    return f"not known to be public, line {line}" if line else ""


def _first_hidden(text: str, *, is_source: bool) -> int:
    """Return the first line in which something would be hidden, from 1; 0 if nothing would."""
    text = _PUBLIC.sub(lambda found: f"{found['label'] or ''}digest", text)
    shown = redact(text)
    if shown == text:
        return 0
    lines = enumerate(zip_longest(text.split("\n"), shown.split("\n"), fillvalue=""), 1)
    if not is_source:
        return next(number for number, (before, after) in lines if before != after)
    hidden = Counter(word for word, _ in _words(text)) - Counter(word for word, _ in _words(shown))
    return next((text.count("\n", 0, at) + 1 for word, at in _words(text) if word in hidden), 0)


def _words(text: str) -> Iterator[tuple[str, int]]:
    """Yield the words with a digit of all strings, each with its place."""
    for string in _STRING.finditer(text):
        words = ((found[0], found.start()) for found in _WORD.finditer(string[0]) if _DIGIT.search(found[0]))
        yield from ((word, string.start() + at) for word, at in words)
