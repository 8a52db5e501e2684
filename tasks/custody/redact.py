"""Redaction of what we generate ourselves: a value that looks secret is replaced before anything is hashed."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

HIDDEN: Final = "[redacted]"
_WORD: Final = "password|passwd|passphrase|secret|token|credential|auth[_-]|[_-]auth|(?:api|access|private)[_-]?key"
_SECRET: Final = re.compile(_WORD, re.IGNORECASE)
# A whole word with a secret-looking name in it, tried once, from its first letter: hostile text must not make it slow.
_NAME: Final = rf"(?<![\w.-])(?=[\w.-]*?(?:{_WORD}))[\w.-]++"
_VALUE: Final = r"""(?:"[^"\n]*"|'[^'\n]*'|\S)++"""
_ASSIGNED: Final = re.compile(rf"""(?P<name>{_NAME}\\?["']?[ \t]*+[=:]+>?\s*)(?P<value>{_VALUE})""", re.IGNORECASE)
_OPTION: Final = re.compile(rf"(?=-){_NAME}", re.IGNORECASE)
_SPOKEN: Final = re.compile(rf"(?P<name>(?=-){_NAME}[ \t]++)(?P<value>(?![=:-]){_VALUE})", re.IGNORECASE)
_URL: Final = re.compile(r"(?P<name>://[^/@:\s]*:)(?P<value>[^/\s]+)@")
_BEARER: Final = re.compile(r"(?P<name>\b(?:bearer|basic)\s++)(?P<value>[A-Za-z0-9._~+/=-]{8,})", re.IGNORECASE)


def redact(text: str) -> str:
    """Hide values assigned to secret-looking names or after such options, passwords in URLs, and bearer tokens."""
    text = _URL.sub(rf"\g<name>{HIDDEN}@", text)
    for pattern in (_BEARER, _ASSIGNED, _SPOKEN):
        text = pattern.sub(rf"\g<name>{HIDDEN}", text)
    return text


def redact_command(command: Sequence[str]) -> list[str]:
    """Hide secrets in a command line, also where the value is the argument after its option."""
    words: list[str] = []
    for word in command:
        after_option = bool(words) and bool(_OPTION.fullmatch(words[-1]))
        words.append(HIDDEN if after_option and not word.startswith("-") else redact(word))
    return words


def redact_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Hide values of variables with secret-looking names, and secrets inside other values."""
    return {name: HIDDEN if _SECRET.search(name) else redact(value) for name, value in sorted(environment.items())}
