"""Redaction of what we generate ourselves: a value that looks secret is replaced before anything is hashed."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

HIDDEN: Final = "[redacted]"
_WORD: Final = "password|passwd|passphrase|secret|token|credential|(?:api|access|private)[_-]?key"
_NAME: Final = rf"[\w.-]*(?:{_WORD})[\w.-]*"
_SECRET_NAME: Final = re.compile(_NAME, re.IGNORECASE)
_ASSIGNED: Final = re.compile(rf"(?P<name>{_NAME})(?P<sign>[=:]\s*)(?P<value>\S+)", re.IGNORECASE)
_OPTION: Final = re.compile(rf"--?{_NAME}", re.IGNORECASE)
_URL: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)(?P<user>[^/@:\s]*):(?P<value>[^/@\s]+)@", re.IGNORECASE)
_BEARER: Final = re.compile(r"(?P<kind>\b(?:bearer|basic)\s+)(?P<value>[A-Za-z0-9._~+/=-]{8,})", re.IGNORECASE)


def redact(text: str) -> str:
    """Hide values assigned to secret-looking names, passwords in URLs, and bearer tokens."""
    text = _URL.sub(rf"\g<scheme>\g<user>:{HIDDEN}@", text)
    text = _BEARER.sub(rf"\g<kind>{HIDDEN}", text)
    return _ASSIGNED.sub(rf"\g<name>\g<sign>{HIDDEN}", text)


def redact_command(command: Sequence[str]) -> list[str]:
    """Hide secrets in a command line, also where the value is the argument after its option."""
    words: list[str] = []
    for word in command:
        after_option = bool(words) and bool(_OPTION.fullmatch(words[-1]))
        words.append(HIDDEN if after_option and not word.startswith("-") else redact(word))
    return words


def redact_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Hide values of variables with secret-looking names, and secrets inside other values."""
    return {
        name: HIDDEN if _SECRET_NAME.fullmatch(name) else redact(value) for name, value in sorted(environment.items())
    }
