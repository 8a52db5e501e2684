"""Hide in what we write and show all that is not known to be harmless, before anything is hashed (runbook §4).

A hidden value becomes `[redacted:9f3c12ab]`, the same for the same value within an incident, so that evidence still
compares. Of a command line words are shown by `tasks.custody.evidence.command_line_redaction`, of an environment the
names, and the values of a short list. Of any other text, as a log, these are hidden: what looks drawn at random, the
value of a secret-looking name, option, or parameter of a query, the password of a URL, the headers Authorization and
Cookie, and keys; the command lines and environments that systemd and sudo quote in it are treated as such. A text that
stands as an array of bytes is searched too. A commit of git is shown by its field, as are the incident's own id and the
words of its reason.
"""

import hashlib
import json
import os
import re
import shlex
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache, partial
from typing import Any, Final

from tasks.custody.evidence.command_line_redaction import CommandWords, exists
from tasks.custody.evidence.named_values import COLOUR, FIGURE, HIDDEN, redact_announced, redact_named
from tasks.custody.evidence.public_tokens import SHAPES
from tasks.custody.evidence.words import (
    COMMIT_IN_TEXT,
    SECRET_NAME,
    TALK,
    all_natural,
    is_commit,
    is_known,
    is_library_variable,
    is_public_variable,
    secret_name,
    surely_secret,
)
from tasks.custody.visible import LINE_LIMIT, visible

_MOST_WORDS: Final = 2000
_MOST_LETTERS: Final = 1 << 15  # shlex takes a word apart in quadratic time
_BYTES: Final = re.compile(r"\[(?:\s*+\d{1,3}+\s*+,)*+\s*+\d{1,3}+\s*+\]")
_URL: Final = re.compile(r"""(?P<name>://(?!\[redacted:)[^/@:\s"]*:)(?P<value>[^/\s]+)@""")
_HTTP: Final = re.compile(r"""(?P<name>https?://)(?P<value>[^/?#\s"'<>]+)@""", re.IGNORECASE)
_KEY_BLOCK: Final = re.compile(SHAPES["private key"][0] + r".*?(?:-----END [A-Z0-9 ]{1,80}-----|\Z)", re.DOTALL)
_BEARER: Final = re.compile(
    r"(?P<name>(?:bearer|(?<![a-z0-9_])basic)\s++)(?P<value>[A-Za-z0-9._~+/=-]{8,})", re.IGNORECASE
)
_HEADER: Final = re.compile(
    r"""(?P<name>(?:authorization|cookie)\\?["']?[ \t]*+[:=][ \t]*+\\?["']?"""
    r"""(?:(?:basic|bearer|digest|negotiate)[ \t]++)?)"""
    r"""(?P<value>[^\s"'](?:[^\n"']*[^\s"'\\])?)""",
    re.IGNORECASE,
)
_CLIENT: Final = re.compile(r"\b(?:mysql|mariadb)[\w-]*+[ \t][^\n]*")
_ATTACHED: Final = re.compile(r"""(?P<name>[ \t]-p)(?P<value>(?:"[^"\n]*"|'[^'\n]*'|\S)++)""")
_RUN: Final = re.compile(r"\[redacted:[0-9a-f]{8}\]|\\(?!\[redacted:[0-9a-f]{8}\]).|[A-Za-z0-9_+.=~-]{6,}")
_OWN: Final = re.compile(r"[A-Za-z0-9_+.=~-]+(?<![.=~-])")
_USUAL: Final = re.compile(
    r"(?!\d+[A-Za-z]+\d+[A-Za-z]|[A-Za-z]+\d+[A-Za-z]+\d)[A-Za-z0-9]{1,7}|\d+[A-Za-z]{0,3}|0x[0-9a-f]{1,16}"
    r"|\d{8}T\d{6,12}Z?|(?=.*[aeiouy])[a-z]{2,24}(?:\d{1,4}[a-z]{2,18})?"
)
_DIGEST: Final = re.compile(r"(?:[0-9a-f]{8,}|[0-9A-F]{8,})[a-zA-Z]{0,2}|[A-Za-z]+")
_ODD: Final = re.compile(
    r"(?<![\w@!$%^&*#])(?=[\w@!$%^&*#]*[A-Za-z])(?=[\w@!$%^&*#]*\d)(?=\w*[@!$%^&*#])[\w@!$%^&*#]{6,200}"
)
"""A password as rules ask for: letters, a digit and a sign."""
_QUOTED: Final = re.compile(
    r"""(?P<before>argv\[\]=|^Exec\w+=[-@:+!|]*(?!\s*\{)|\bCOMMAND=)(?P<line>(?:(?! ; \w+=).)+)"""
    r"""|^Environment=(?P<variables>.+)|(?<=CMDLINE":)(?P<json>"(?:[^"\\]|\\.)*")""",
    re.MULTILINE,
)

_AUDITED: Final = re.compile(r"\b(?:argc=\d|proctitle=|cmd=)[^\n]*")
_ARGUMENT: Final = re.compile(
    r"""(?P<name>\b(?:proctitle|cmd|a\d{1,4}(?:\[\d+\])?)=)(?:"(?P<text>[^"\n]*)"|(?P<hex>(?:[0-9A-F]{2})++)(?!\w))"""
)


class _Known:
    """What this process redacts with: the salt of the incident, words of the block's patterns, and of our texts."""

    salt = os.urandom(32)
    public: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()


def redact_with(salt: bytes, patterns: Iterable[str] = (), own: Iterable[str] = ()) -> None:
    """Redact with this salt from now on, and show what the patterns of the block spell. An empty salt changes nothing.

    A process without a salt uses one of its own, which nobody knows. Words of our `own` texts, the incident's id and
    reason, are shown where they do not stand for a secret: they are on record as they are.
    """
    _Known.salt = salt or _Known.salt
    _Known.own = frozenset(word for text in own for word in (*text.split(), *_OWN.findall(text)))
    spelled = (re.sub(r"\\[A-Za-z]", " ", each) for each in patterns)
    _Known.public = frozenset(piece.lower() for each in spelled for piece in re.findall(r"[A-Za-z]{2,}", each))


def hide(value: str) -> str:
    """Return what stands for a hidden value. What is hidden already stays as it is."""
    bare = value.strip("\"'") or value
    if HIDDEN.fullmatch(bare):
        return bare
    code = hashlib.blake2b(bare.encode(errors="surrogatepass"), digest_size=4, key=_Known.salt)
    return f"[redacted:{code.hexdigest()}]"


def redact(text: str, *, digests: bool = False) -> str:
    """Return the text with secrets replaced; without its colours if they divide a secret from its name.

    With `digests` hexadecimal numbers are shown: of a tool that prints no secret, but ids, addresses and commits.
    """
    shown, bare = _redact(text, digests=digests), COLOUR.sub("", text)
    if bare != text and (hidden := _redact(bare, digests=digests)) != COLOUR.sub("", shown):
        shown = text if hidden == bare else hidden
    return _BYTES.sub(_redact_bytes, shown)


def _redact_bytes(array: re.Match[str]) -> str:
    """Return an array of bytes as a JSON string if it has a secret: journalctl writes text with colours as an array."""
    try:
        text = bytes(map(int, array[0][1:-1].split(","))).decode(errors="backslashreplace")
    except ValueError:  # a number above 255
        return array[0]
    hidden = redact(text)
    return array[0] if hidden == text else json.dumps(hidden)


def _redact(text: str, *, digests: bool) -> str:
    """Redact what stands in the text as it is."""
    text = text if unicodedata.is_normalized("NFKC", text) else re.sub(".+", _normalise, text)
    text = _AUDITED.sub(_redact_audited, text) if re.search("argc=|title=|cmd=", text) else text
    text = _QUOTED.sub(_redact_quoted, text)
    text = _CLIENT.sub(lambda found: _ATTACHED.sub(_without_value, found[0]), text)
    for pattern, end in ((_URL, "@"), (_HTTP, "@"), (_BEARER, ""), (_HEADER, "")):
        text = pattern.sub(partial(_without_value, end=end), text)
    text = _KEY_BLOCK.sub(lambda found: hide(found[0]), "".join(redact_named(text, hide)))
    text = "".join(_redact_runs(text, digests=digests))
    text = text if digests else _ODD.sub(lambda found: hide(found[0]), text)
    return "".join(redact_announced(text, cache(_redact_announced)))


def _redact_runs(text: str, *, digests: bool) -> Iterator[str]:
    """Yield the text in pieces, without what looks drawn at random and is no commit of git by its field."""

    def show(found: re.Match[str]) -> str:
        run = found[0]
        is_own = run.rstrip(".=~-").rpartition("=")[2] in _Known.own
        return hide(run) if not is_own and _looks_random(run, digests=digests) else run

    done = 0
    for found in COMMIT_IN_TEXT.finditer(text):
        at, end = found.span("commit")
        yield from (_RUN.sub(show, text[done:at]), text[at:end])
        done = end
    yield _RUN.sub(show, text[done:])


def _redact_announced(word: str) -> str:
    """Return a word behind the name of a secret; one of a sentence may stand before a sign."""
    bare = word.rstrip("!?:")
    return word if not bare or _words("", TALK).value(bare, "-") == bare else hide(word)


def _normalise(line: re.Match[str]) -> str:
    """Return a line with the usual forms of its letters if it names a secret: full-width ones are not found."""
    usual = line[0] if line[0].isascii() else unicodedata.normalize("NFKC", line[0])
    return usual if SECRET_NAME.search(usual) else line[0]


def _without_value(found: re.Match[str], end: str = "") -> str:
    return f"{found['name']}{hide(found['value'])}{end}"


@lru_cache(maxsize=1 << 15)  # a log repeats its words: it is read twice as fast
def _looks_random(run: str, *, digests: bool) -> bool:
    atoms = [] if run.startswith(("[", "\\")) else re.findall("[A-Za-z0-9]+", run)
    usual = (_USUAL.fullmatch(atom) or is_known(atom) or all_natural(atom) for atom in atoms)
    return not all(fits or (digests and _DIGEST.fullmatch(atom)) for fits, atom in zip(usual, atoms, strict=True))


def _redact_quoted(found: re.Match[str]) -> str:
    """Return a command line or environment that systemd or sudo quotes in a text."""
    if found["variables"]:
        return f"Environment={redact_assignments(found['variables'])}"
    if not found["json"]:
        return found["before"] + redact_line(found["line"])
    try:
        return json.dumps(redact_line(json.loads(found["json"])))
    except ValueError:
        return hide(found[0])


def _redact_audited(record: re.Match[str]) -> str:
    """Return a record of the kernel's audit, whose command is quoted, or in hexadecimal if it has a blank."""
    words = _words()

    def redact_argument(found: re.Match[str]) -> str:
        text = bytes.fromhex(found["hex"]).decode(errors="backslashreplace") if found["hex"] else found["text"]
        shown = " ".join(map(words.word, re.split(r"[\0\s]", text)))
        return f'{found["name"]}"{shown}"'

    return _ARGUMENT.sub(redact_argument, record[0])


def redact_assignments(text: str) -> str:
    """Return the variables of an environment as systemd's directive has it, each with its value if that is shown.

    A very long text is hidden whole.
    """
    if len(text) > _MOST_LETTERS:
        return hide(text)
    try:
        pairs = [word.partition("=") for word in shlex.split(text)]
    except ValueError:
        return hide(text)
    return " ".join(f"{name}={_variable(name, value)}" if sign else redact_value(name) for name, sign, value in pairs)


def redact_line(line: str) -> str:
    """Return a command line that stands in a text, as a shell would read it."""
    return _words().line(line)


def _words(folder: str = "", public: frozenset[str] = frozenset()) -> CommandWords:
    return CommandWords(hide, _Known.public | public, folder, own=_Known.own)


def redact_command(command: Sequence[str], folder: str = "") -> list[str]:
    """Return the command line of a process that works in `folder`, with each word that is not shown replaced."""
    words = _words(folder)
    return [words.word(word) if place < _MOST_WORDS else hide(word) for place, word in enumerate(command)]


def command_line(command: Sequence[str], limit: int = LINE_LIMIT, folder: str = "") -> str:
    """Return an untrusted command line as one printable line, with each word that is not shown replaced."""
    return visible(" ".join(redact_command(command, folder)), limit)


def redact_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables, with the values of those that are not public replaced."""
    return {name: _variable(name, value) for name, value in sorted(environment.items())}


def _variable(name: str, value: str) -> str:
    if not value or (is_public_variable(name) and exists(value)) or is_commit(name, value):
        return value
    if is_library_variable(name):
        return redact_value(value)
    return redact(value) if is_public_variable(name) or value in _Known.own else hide(value)


def redact_value(value: str) -> str:
    """Return a value that somebody has configured, such as a label, as it would be shown in a command line."""
    return _words().value(value)


def redact_fields(content: Any, name: str = "", *, digests: bool = False) -> Any:
    """Return parsed JSON with the values of secret names replaced, and with secrets in other texts and names."""
    if isinstance(content, Mapping):
        below = name if secret_name(name, alone=True) else ""
        of = {str(key).lower(): each for key, each in content.items() if isinstance(each, str)}
        pair = next((of[key] for key in ("name", "key") if key in of and secret_name(of[key], alone=True)), "")
        return {
            redact(str(key)): redact_fields(
                each, below or (pair if str(key).lower() == "value" else "") or str(key), digests=digests
            )
            for key, each in content.items()
        }
    if isinstance(content, list | tuple):
        before = (str(each) if str(each).startswith("-") else "" for each in ("", *content))
        names = (each if secret_name(each, alone=True) else name for each in before)  # a command line's option
        return [redact_fields(each, given, digests=digests) for each, given in zip(content, names, strict=False)]
    if isinstance(content, str):
        if is_commit(name, content):
            return content
        is_secret = bool(content) and secret_name(name, alone=True) and not FIGURE.fullmatch(content)
        return hide(content) if is_secret else redact(content, digests=digests)
    numbered = isinstance(content, int | float) and not isinstance(content, bool)
    return hide(str(content)) if numbered and surely_secret(name) else content
