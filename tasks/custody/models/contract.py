"""Extract from an API's answer what the workload block asks for, and from its start command the models it names."""

import posixpath
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any, Final

_PLACE: Final = re.compile("0|[1-9][0-9]{0,8}")
_SEPARATORS: Final = re.compile("[\"',;=]")
_USUAL: Final = ("/prediction", "/predictions", "/pred_proba", "/pred")


def value_at(document: Any, pointer: str) -> Any:
    """Return the value at a JSON pointer (RFC 6901), such as /outputs/0/data; None if there is none."""
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(document, Mapping):
            document = document.get(name)
        elif isinstance(document, list) and _PLACE.fullmatch(name) and int(name) < len(document):
            document = document[int(name)]
        else:
            return None
    return document


def prediction_in(document: Any, pointer: str) -> Any:
    """Return the prediction at the pointer, or else under a usual name; None if there is no value."""
    values = (value_at(document, each) for each in ([pointer] if pointer else _USUAL))
    return next((value for value in values if _holds_a_value(value)), None)


def _holds_a_value(value: Any) -> bool:
    """Return whether any leaf is other than null or an empty text."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list):
            waiting += each
        elif isinstance(each, Mapping):
            waiting += each.values()
        elif each not in {None, ""}:
            return True
    return False


def models_named(words: Iterable[str], root: str, names: Iterable[str]) -> list[str]:
    """Return the model files that the words of a start command name, by path or by a folder above them.

    Each word is tried as a whole, after its first "=", and split at quotes and separators; relative to the root or
    absolute, also as a file:// URL.
    """
    each = {part for words_in in words for word in words_in.split() for part in _parts(word) if part}
    said = {_path(root, part) for part in each} - {_path(root, ""), *_path(root, "").parents}
    return [name for name in names if said & {_path(root, name), *_path(root, name).parents}]


def named_elsewhere(words: Iterable[str], root: str, base: str, names: Iterable[str]) -> list[str]:
    """Return the paths in the words of a start command that end in this base name and lead to none of these files."""
    known = {_path(root, name) for name in names}
    each = (word for words_in in words for word in words_in.split())
    others = (word for word in each if known.isdisjoint(_path(root, part) for part in (word, word.partition("=")[2])))
    parts = (part for word in others for part in _SEPARATORS.split(word))
    return [part for part in parts if posixpath.basename(part) == base and _path(root, part) not in known]


def _parts(word: str) -> list[str]:
    return [word, word.partition("=")[2], *_SEPARATORS.split(word)]


def _path(root: str, name: str) -> PurePosixPath:
    return PurePosixPath(posixpath.normpath(posixpath.join(root, name.removeprefix("file://"))))
