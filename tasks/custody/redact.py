"""Redaction of what we generate ourselves: a value that looks secret is replaced before anything is hashed.

What is hidden: the value of a secret-looking name or option, the password of any URL and all of the userinfo of an
http one (a token often stands there alone), a bearer token, keys and tokens of a known shape, and the value of a short
option of a program that is known to take a secret there (mysql -pSECRET, curl -u). Other programs' -p stays: it is a
port as often as not.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from tasks.custody.shapes import SHAPES

HIDDEN: Final = "[redacted]"
SECRET_WORD: Final = (
    "password|passwd|passphrase|secret|token(?!i[sz](?:e|ing|ation))|credential|cookie|auth[_-]|[_-]auth"  # noqa: S105  names of secrets
    "|(?:api|access|private|signing|encryption)[_-]?key|[_.-]pwd|[_.-]pass(?:in|out)?(?![a-z])"
)
_SECRET: Final = re.compile(SECRET_WORD, re.IGNORECASE)
# A whole word with a secret-looking name in it, tried once, from its first letter: hostile text must not make it slow.
_NAME: Final = rf"(?<![\w.-])(?=[\w.-]*?(?:{SECRET_WORD}))[\w.-]++"
_VALUE: Final = r"""(?:"[^"\n]*"|'[^'\n]*'|\S)++"""
_ASSIGNED: Final = re.compile(rf"""(?P<name>{_NAME}\\?["']?[ \t]*+[=:]+>?\s*)(?P<value>{_VALUE})""", re.IGNORECASE)
_OPTION: Final = re.compile(rf"(?=-){_NAME}", re.IGNORECASE)
_SPOKEN: Final = re.compile(rf"(?P<name>(?=-){_NAME}[ \t]++)(?P<value>(?![=:-]){_VALUE})", re.IGNORECASE)
_URL: Final = re.compile(r"""(?P<name>://[^/@:\s"]*:)(?P<value>[^/\s]+)@""")
_HTTP: Final = re.compile(r"""(?P<name>https?://)(?P<value>[^/?#\s"'<>]+)@""", re.IGNORECASE)
_KEY_BLOCK: Final = re.compile(SHAPES["private key"][0] + r".*?(?:-----END [A-Z0-9 ]{1,80}-----|\Z)", re.DOTALL)
_TOKENS: Final = tuple(re.compile(each) for patterns in SHAPES.values() for each in patterns)
_BEARER: Final = re.compile(
    r"(?P<name>(?:bearer|(?<![a-z0-9_])basic)\s++)(?P<value>[A-Za-z0-9._~+/=-]{8,})", re.IGNORECASE
)

_WORDS: Final = re.compile(_VALUE)
_SEPARATOR: Final = re.compile(r"[|&;]+")
_CLIENT: Final = re.compile(
    r"(?P<attached>(?:mysql|mariadb)[\w-]*)|(?P<p>sshpass|mongo\w*)|(?P<a>redis-cli)|(?P<u>curl)|(?P<w>ldap\w+)"
)


def redact(text: str) -> str:
    """Hide what looks secret in a text."""
    for pattern in (_URL, _HTTP):
        text = pattern.sub(rf"\g<name>{HIDDEN}@", text)
    for pattern in (_BEARER, _ASSIGNED, _SPOKEN):
        text = pattern.sub(rf"\g<name>{HIDDEN}", text)
    text = _KEY_BLOCK.sub(HIDDEN, text)
    for pattern in _TOKENS:
        text = pattern.sub(HIDDEN, text)
    return _redact_clients(text) if _CLIENT.search(text) else text


def redact_command(command: Sequence[str]) -> list[str]:
    """Hide secrets in a command line, also where the value is the argument after its option."""
    words: list[str] = []
    for word in command:
        after_option = bool(words) and bool(_OPTION.fullmatch(words[-1]))
        words.append(HIDDEN if after_option and not word.startswith("-") else redact(word))
    return list(_hide_for_clients(words))


def redact_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Hide values of variables with secret-looking names, and secrets inside other values."""
    return {name: HIDDEN if _SECRET.search(name) else redact(value) for name, value in sorted(environment.items())}


def _redact_clients(text: str) -> str:
    shown = _hide_for_clients(_WORDS.findall(text))
    return _WORDS.sub(lambda _: next(shown), text)


def _hide_for_clients(words: Iterable[str]) -> Iterator[str]:
    """The words, without the secrets that follow the short option of the program that was named last."""
    option, due = "", False
    for word in words:
        if due and not word.startswith("-"):
            yield HIDDEN
            due = False
            continue
        client = _CLIENT.fullmatch(word.rpartition("/")[2])
        if client or _SEPARATOR.fullmatch(word):
            option = (client and client.lastgroup) or ""
        letter = "p" if option == "attached" else option
        hit = bool(option) and word.startswith(f"-{letter}")
        due = hit and len(word) == len("-p") and option != "attached"
        yield f"-{letter}{HIDDEN}" if hit and len(word) > len("-p") else word
