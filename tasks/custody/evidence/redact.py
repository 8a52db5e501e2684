"""Redact what we generate: replace values that look secret before anything is hashed (runbook §4).

Replaced are: the value of a secret-looking name, option, or parameter of a query or connection string; what follows the
colon or percent sign in the value of a user option; the password of any URL, and the whole userinfo of an http URL
(often a token); the headers Authorization and Cookie, and bearer tokens anywhere; keys and tokens of known shape; and
the value of a short option of a program known to take a secret there (mysql -pSECRET, curl -u, login -p of any
program). Other programs' -p stays: it often is a port. A text that stands as an array of bytes is searched too.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from tasks.custody.evidence.token_shapes import SHAPES
from tasks.custody.visible import LINE_LIMIT, visible

HIDDEN: Final = "[redacted]"
SECRET_WORD: Final = (
    "password|passwd|passphrase|secret|token(?!i[sz](?:e|ing|ation))|credential|cookie|auth[_-]|[_-]auth(?!or(?!i[sz]))"  # noqa: S105  names of secrets
    "|(?:api|access|private|signing|encryption)[_-]?key|[_.-]pwd|[_.-]pass(?:in|out)?(?![a-z]|[_-]through)"
)
_SECRET: Final = re.compile(SECRET_WORD, re.IGNORECASE)
_PART: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_ENDING: Final = re.compile(r"\w*(?:pass|pwd|key|auth|jwt|webhook)|keys|\w*pw|creds?|pin|otp|bearer")
_CARRIER: Final = frozenset({"url", "uri", "string", "value", "data", "base", "b"})
"""Last parts of a name that say only how a secret is encoded, as in SLACK_WEBHOOK_URL or SSH_KEY_B64."""
_PLAIN: Final = re.compile(
    r"oldpwd|compass|bypass|(?:tres|sur|encom)pass|(?:mon|don|tur|hot|turn|pub)key|(?:ho|jo|whis)c?key"
)
_KEY_OF: Final = frozenset(
    {"public", "primary", "foreign", "sort", "partition", "cache", "group", "join", "index", "row", "column", "object"}
)
_ALONE: Final = frozenset({"key", "keys", "pwd"})
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
_OPTION: Final = re.compile(r"-[\w.-]+")
_LONG: Final = re.compile(r"--[A-Za-z]")
"""Begins the next option. Any other word, even with one dash, is the value of the option before it."""
_NAMED: Final = re.compile(
    r"""(?<![\w.-])(?P<name>[\w.-]++)(?:(?P<sign>(?P<shut>\\?["']?)[ \t]*+[=:]+>?\s*)"""
    r"""|(?P<gap>[ \t]++)(?![=:]|--[A-Za-z]))"""
)
# A number of a few digits or a switch is no secret of `pass` or `key`: sort --key 2,2n, PASS=12, auth=false.
_FIGURE: Final = re.compile(
    r"""(?P<quote>["']?)(?:\d{1,3}(?:[.,]\d{1,3}){0,3}[a-zA-Z]{0,2}|true|false|yes|no|on|off|none|null)(?P=quote)(?![^\s,;&)}\]])""",
    re.IGNORECASE,
)
_USER: Final = re.compile(r"-[uU]|--?(?:[\w.]+-)*(?:user|username|login|account)", re.IGNORECASE)
_USER_AND: Final = re.compile(r"""["']?(?P<who>(?!\d+:\d+(?!\S))[^\s:%/"']{0,128}+[:%])(?!//)(?=[^\s"'])""")
_BYTES: Final = re.compile(r"\[(?:\s*+\d{1,3}+\s*+,)*+\s*+\d{1,3}+\s*+\]")
_COLOUR: Final = re.compile(r"(?:\x1b|(?<!\\)\\++(?i:u001b|x1b|033|e))\[[\d;:]*+m")
_URL: Final = re.compile(r"""(?P<name>://[^/@:\s"]*:)(?P<value>[^/\s]+)@""")
_HTTP: Final = re.compile(r"""(?P<name>https?://)(?P<value>[^/?#\s"'<>]+)@""", re.IGNORECASE)
_KEY_BLOCK: Final = re.compile(SHAPES["private key"][0] + r".*?(?:-----END [A-Z0-9 ]{1,80}-----|\Z)", re.DOTALL)
_TOKENS: Final = tuple(re.compile(each) for patterns in SHAPES.values() for each in patterns)
_BEARER: Final = re.compile(
    r"(?P<name>(?:bearer|(?<![a-z0-9_])basic)\s++)(?P<value>[A-Za-z0-9._~+/=-]{8,})", re.IGNORECASE
)
_HEADER: Final = re.compile(
    r"""(?P<name>(?:authorization|cookie)\\?["']?[ \t]*+[:=][ \t]*+\\?["']?"""
    r"""(?:(?:basic|bearer|digest|negotiate)[ \t]++)?)"""
    r"""(?P<value>[^\s"'](?:[^\n"']*[^\s"'\\])?)""",
    re.IGNORECASE,
)

_SEPARATOR: Final = re.compile(r"[|&;]+")
_CLIENT: Final = re.compile(
    r"(?P<attached>(?:mysql|mariadb)[\w-]*|7z\w*|rar)|(?P<p>sshpass|mongo\w*|cqlsh|rabbitmqadmin|rdesktop|login)"
    r"|(?P<P>zip|unzip|sqlcmd|bcp|isql|tsql|mosquitto_\w+|ipmitool)|(?P<a>redis-cli|https?|xh)|(?P<u>curl|lftp)"
    r"|(?P<w>ldap\w+)|(?P<k>openssl)"
)
_FLAGS: Final = {"u": "#0-46afgGiIjJklLMnNOpqRsSvVZ", "P": "0-9acDejlmnoqrTuvyX", "w": "cLMnvxZ"}
"""Short options without a value that may precede the letter in one word: curl -sSLu, zip -rP, ldapsearch -xw."""
_TAKES: Final = {
    name: re.compile(rf"(?P<said>-{f'[{_FLAGS[name]}]*' if name in _FLAGS else ''}{name})(?P<value>.*)", re.DOTALL)
    for name in ("p", "P", "a", "u", "w", "k")
}


def redact(text: str) -> str:
    """Return the text with secrets replaced by HIDDEN; without its colours if they divide a secret from its name."""
    shown, bare = _redact(text), _COLOUR.sub("", text)
    if bare != text and (hidden := _redact(bare)) != _COLOUR.sub("", shown):
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


def _redact(text: str) -> str:
    """Redact what stands in the text as it is."""
    for pattern in (_URL, _HTTP):
        text = pattern.sub(rf"\g<name>{HIDDEN}@", text)
    for pattern in (_BEARER, _HEADER):
        text = pattern.sub(rf"\g<name>{HIDDEN}", text)
    text = "".join(_redact_named(text))
    text = _KEY_BLOCK.sub(HIDDEN, text)
    for pattern in _TOKENS:
        text = pattern.sub(HIDDEN, text)
    return _redact_clients(text) if _CLIENT.search(text) else text


def redact_command(command: Sequence[str]) -> list[str]:
    """Return the command line with secrets replaced, also where the value is the argument after its option."""
    words: list[str] = []
    option = ""
    for word in command:
        after = None if not option or _LONG.match(word) else _instead(option, "".join(word.split()), 0, "")
        words.append(after[0] if after else redact(word))
        option = word if not after and _OPTION.fullmatch(word) else ""
    return list(_hide_for_clients(words))


def command_line(command: Sequence[str], limit: int = LINE_LIMIT) -> str:
    """Return an untrusted command line as one printable line, with secrets replaced."""
    return visible(" ".join(redact_command(command)), limit)


def redact_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with secrets replaced: values of secret-looking names, and secrets inside other values."""
    return {name: HIDDEN if _hides(name, value) else redact(value) for name, value in sorted(environment.items())}


def _hides(name: str, value: str) -> bool:
    return bool(_SECRET.search(name)) or (secret_name(name, alone=name != "PWD") and not _FIGURE.fullmatch(value))


def secret_name(name: str, *, alone: bool = False) -> bool:
    """Return whether a name denotes a secret: by words anywhere in it, or by its last word.

    `alone` is for options and parameters, where a bare `key` or `pwd` denotes a secret; elsewhere it does not.
    """
    if _SECRET.search(name):
        return True
    parts = [part.lower() for part in _PART.findall(name)]
    while len(parts) > 1 and parts[-1] in _CARRIER:
        parts.pop()
    if not parts or _PLAIN.fullmatch(parts[-1]) or not _ENDING.fullmatch(parts[-1]):
        return False
    if len(parts) == 1:
        return alone or parts[0] not in _ALONE
    return parts[-1] not in {"key", "keys"} or parts[-2] not in _KEY_OF


def _redact_named(text: str) -> Iterator[str]:
    """Yield the text in pieces, without the values of secret names and options. Linear time."""
    done = 0
    while found := _NAMED.search(text, done):
        yield text[done : found.end()]
        done = found.end()
        before = text[found.start() - 1 : found.start()]
        if before in _IN_QUOTES and (found["shut"] or "\n" in (found["sign"] or "\n")):
            before = ""
        if (found["sign"] or found["name"].startswith("-")) and (hidden := _instead(found["name"], text, done, before)):
            shown, done = hidden
            yield shown
    yield text[done:]


def _instead(name: str, text: str, at: int, before: str) -> tuple[str, int] | None:
    """Return the replacement of the value at this position and its end; None if it is no secret.

    `before` is the character before the name; a quote only if name, sign and value may stand in it together.
    """
    option, parameter = name.startswith("-"), before in {"?", "&", ";"}
    if secret_name(name, alone=option or parameter) or (parameter and name.lower().rpartition("-")[2] in _IN_A_QUERY):
        plain = not _SECRET.search(name) and _FIGURE.match(text, at)
        value = None if plain else _IN_QUOTES.get(before, _VALUE).match(text, at)
        return (HIDDEN, value.end()) if value else None
    if option and _USER.fullmatch(name) and (user := _USER_AND.match(text, at)):
        value = _VALUE.match(text, at)
        return (f"{user['who']}{HIDDEN}", value.end() if value else user.end())
    return None


def _redact_clients(text: str) -> str:
    shown = _hide_for_clients(_VALUE.findall(text))
    return _VALUE.sub(lambda _: next(shown), text)


def _hide_for_clients(words: Iterable[str]) -> Iterator[str]:
    """Yield the words, without secrets after a short option of the last named program."""
    option, due = "", False
    for word in words:
        if due and not _LONG.match(word):
            yield HIDDEN
            due = False
            continue
        client = _CLIENT.fullmatch(word.rpartition("/")[2])
        if client or _SEPARATOR.fullmatch(word):
            option = (client and client.lastgroup) or ""
        found = _TAKES["p" if option == "attached" else option].fullmatch(word) if option else None
        value = found["value"] if found else ""
        due = found is not None and not value and option != "attached"
        yield f"{found['said']}{HIDDEN}" if found and value else word
