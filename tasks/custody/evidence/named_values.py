"""Hide in a text what the name of a secret announces: its value, the rest of the line, and a block below it.

A value behind a sign or option is hidden. Of what else follows the name of a secret in its line, words are shown by the
law of command lines. A block that begins there, by a bracket, quotes, a mark of YAML or nothing, is hidden too.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final

from tasks.custody.evidence.words import SECRET_NAME, all_natural, secret_name, surely_secret

HIDDEN: Final = re.compile(r"\[redacted:[0-9a-f]{8}\]")
_HIDDEN_ALONE: Final = re.compile(HIDDEN.pattern + r"""(?=[\s"',;&)}\]]|\Z)""")
_IN_A_QUERY: Final = frozenset({"sig", "signature", "code"})
_PIECE: Final = r""""[^"\n]*"|'[^'\n]*'|\S"""
_VALUE: Final = re.compile(rf"(?:{_PIECE})++")
# Behind a quote before its name a value reaches to the closing one, or to the line's last one: one that is looked for
# in vain again and again takes quadratic time. What a shell joins to it belongs to it: 'PASS=it'"'"'s x'.
_IN_QUOTES: Final = {
    quote: re.compile(
        rf"(?!{quote})(?:(?:[^{quote}\\\n]|\\.)++|[^\n]+)"
        rf"(?:(?={quote}(?:[\s,;&)}}\]]|\Z))|{quote}(?:\\.|{_PIECE})++)|(?:{_PIECE})++"
    )
    for quote in ('"', "'")
}
_NAMED: Final = re.compile(
    r"""(?<![\w.-])(?P<name>[\w.-]++)(?:(?P<sign>(?P<shut>\\?["']?)[ \t]*+[=:]+>?[ \t]*+)"""
    r"""|(?P<gap>[ \t]++)(?![=:]|--[A-Za-z]))"""
)
# A number of a few digits or a switch is no secret of `pass` or `key`: sort --key 2,2n, PASS=12, auth=false.
FIGURE: Final = re.compile(
    r"""(?P<quote>["']?)(?:\d{1,3}(?:[.,]\d{1,3}){0,3}[a-zA-Z]{0,2}|true|false|yes|no|on|off|none|null)(?P=quote)(?![^\s,;&)}\]])""",
    re.IGNORECASE,
)
_USER: Final = re.compile(r"-[uU]|--?(?:[\w.]+-)*(?:user|username|login|account)", re.IGNORECASE)
_USER_AND: Final = re.compile(
    rf"""["']?(?!\d+:\d+(?!\S))(?:{HIDDEN.pattern}|[^\s:%/"']){{0,128}}+[:%](?!//)(?=[^\s"'])(?:{_PIECE})++"""
)
COLOUR: Final = re.compile(r"(?:\x1b|(?<!\\)\\++(?i:u001b|x1b|033|e))\[[\d;:]*+m")
_ANNOUNCED: Final = re.compile(rf"{SECRET_NAME.pattern}|identified\s+by|sshpass\s+-p", re.IGNORECASE)
_IN_LOWER_CASE: Final = re.compile(_ANNOUNCED.pattern)  # looks through a text in a third of the time
_HEAD: Final = re.compile(r"""[^\s"'`=:,;()&?|<>{}]*\Z""")
_REST: Final = re.compile(r"[\w.-]{0,80}")
_LISTED: Final = re.compile(rf"[(\[{{][^\n)\]}}]*+(?:{_PIECE})*+")
_SIGN: Final = re.compile(r"""\\?["']?[ \t]*+[=:]""")
_LAST: Final = re.compile(r"(?:s|es)?[\d_-]*(?:[_.-]?(?:value|string|data|file|hash|text|key|url|uri|name|id)s?)?\.?")
"""How a name may go on behind its secret word, so that this is what it names: token_classifier is none."""
_WORD: Final = re.compile(
    rf"{HIDDEN.pattern}|{COLOUR.pattern}|\\."
    r"""|(?P<word>[^\s"'`<>(){}\[\],;|=\\\x1b]+)(?P<sign>(?=\\?["']?[ \t]*[=:]))?"""
)
_OPENED: Final = re.compile(
    r"""(?:[ \t]*+(?:[bfruBFRU]{0,2}(?:\"{3}|'{3})|[|>][-+\d]{0,2}|[&!][\w./:-]{1,40}|[(\[{]{1,4}|\\))*+"""
    r"[ \t\r]*+(?=\n)"
)
_INDENT: Final = re.compile(r"(?:[+-](?! \S))?(?P<blanks>[ \t]*)(?P<item>- )?")
_BESIDE: Final = re.compile(r"""\n[ \t+-]*["']?value["']?[ \t]*[:=]""", re.IGNORECASE)
_SECTION: Final = re.compile(r"(?:\n(?![ \t]*\[)[^\n]*+){0,200}")
_BEGIN: Final = re.compile(r"\n[ \t+-]*\Z")
_CLOSES: Final = {"(": ")", "[": "]", "{": "}", '"': '"' * 3, "'": "'" * 3}
_MOST_LINES: Final = 200
Show = Callable[[str], str]


def redact_named(text: str, hide: Show) -> Iterator[str]:
    """Yield the text in pieces, without the values of secret names and options. Linear time."""
    done = 0
    while found := _NAMED.search(text, done):
        yield text[done : found.end()]
        done = found.end()
        before = text[found.start() - 1 : found.start()]
        if before in _IN_QUOTES and (found["shut"] or not found["sign"]):
            before = ""
        if (found["sign"] or found["name"].startswith("-")) and (
            hidden := _instead(found["name"], text, done, before, hide)
        ):
            shown, done = hidden
            yield shown
    yield text[done:]


def _instead(name: str, text: str, at: int, before: str, hide: Show) -> tuple[str, int] | None:
    """Return the replacement of the value at this position and its end; None if it is no secret.

    `before` is the character before the name; a quote only if name, sign and value may stand in it together.
    """
    if known := _HIDDEN_ALONE.match(text, at):
        return known[0], known.end()
    option, parameter = name.startswith("-"), before in {"?", "&", ";"}
    path = name.lower() == "pwd" and text[at : at + 1] in {"/", "~"}
    alone = option or parameter or (name.lower() == "pwd" and not path)
    if secret_name(name, alone=alone) or (parameter and name.lower().rpartition("-")[2] in _IN_A_QUERY):
        if opened := _OPENED.match(text, at):
            return _redact_block(text, at, opened.end(), hide)
        plain = not surely_secret(name) and FIGURE.match(text, at)
        form = _LISTED if _LISTED.match(text, at) and not HIDDEN.match(text, at) else _IN_QUOTES.get(before, _VALUE)
        value = None if plain else form.match(text, at)
        return (hide(value[0]), value.end()) if value else None
    user = _USER_AND.match(text, at) if option and _USER.fullmatch(name) else None
    return (hide(user[0]), user.end()) if user else None


def _redact_block(text: str, at: int, opened: int, hide: Show) -> tuple[str, int]:
    """Return what stands for a block whose mark stands between two positions, and its end; of it names are shown."""
    mark = text[at:opened]
    end = _find_end(text, opened, _CLOSES.get(mark.rstrip()[-1:], ""), value=True)
    shown = _redact_words(
        text[opened:end],
        lambda word: hide(word) if re.search(r"\w|...", word) else word,
        names=not re.search("[|>\"']", mark),
    )
    return re.sub(r"[&!]\S+", lambda found: hide(found[0]), mark) + shown, end


def _find_end(text: str, at: int, closing: str = "", *, value: bool = False) -> int:
    """Return the end of the lines that are indented deeper than that which ends here, or stand before `closing`.

    The first is one of them if it must be the `value`.
    """
    depth = _measure(text[text.rfind("\n", 0, at) + 1 : at])
    for _ in range(_MOST_LINES):
        end = text.find("\n", at + 1)
        line = text[at + 1 : end if end >= 0 else len(text)]
        if line.strip():
            if not (value or closing) and _measure(line) <= depth:
                break
            value, closing = False, "" if closing in line else closing
        if end < 0:
            return len(text)
        at = end
    return at


def _measure(line: str) -> int:
    """Return how deep a line is indented, behind the sign of a difference; an item of a list is deeper than a name."""
    found = _INDENT.match(line)
    return 2 * found.end("blanks") + bool(found["item"]) if found else 0


def redact_announced(text: str, show: Show) -> Iterator[str]:
    """Yield the text in pieces: behind the name of a secret only words that `show` gives back are left of a line.

    If nothing follows the name there, so it is with the lines that are indented deeper.
    """
    find = _IN_LOWER_CASE if text.isascii() else _ANNOUNCED
    searched = text.lower() if text.isascii() else text
    done = at = 0
    while found := find.search(searched, at):
        at = _find_tail(text, found)
        if at < 0:
            at = found.end()
            continue
        yield text[done:at]
        done = text.find("\n", at)
        done = done if done >= 0 else len(text)
        tail = text[at:done]
        if not tail.strip("\"'`,;:)]}>\\ \t\r"):
            section = text[text.rfind("\n", 0, at) + 1 : at].startswith("[") and _SECTION.match(text, done)
            done = section.end() if section else _find_end(text, done, value=bool(_BESIDE.match(text, done)))
        name = re.search(r"[\w.-]*\Z", text[max(0, at - 80) : at])
        yield _redact_words(text[at:done], show, closing=f"/{name[0]}" if name else "")
        at = done
    yield text[done:]


def _find_tail(text: str, found: re.Match[str]) -> int:
    """Return where the name with this secret word ends; -1 if that is part of a path or says something else."""
    if not found[0].isascii() or re.search(r"\s", found[0]):
        return found.end()
    head, rest = _HEAD.search(text[max(0, found.start() - 80) : found.start()]), _REST.match(text, found.end())
    before, behind = head[0] if head else "", rest[0] if rest else ""
    end = found.end() + len(behind)
    is_name = surely_secret(before + found[0] + behind) and (_SIGN.match(text, end) or _LAST.fullmatch(behind))
    return end if is_name and "/" not in before else -1


def _redact_words(text: str, show: Show, *, names: bool = True, closing: str = "") -> str:
    first = len(text) - len(text.lstrip())

    def replace(found: re.Match[str]) -> str:
        word = found["word"]
        if not word:
            return found[0]
        begins = word.endswith(":") and _BEGIN.search(text[max(0, found.start() - 80) : found.start()])
        named = names and found.start() > first and (begins or found["sign"] is not None)
        is_name = (named and ":" not in word[:-1] and all_natural(word)) or word == closing
        return word if is_name else show(word)

    return _WORD.sub(replace, text)
