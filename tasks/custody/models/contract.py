"""Extract from an API's answer what the workload block asks for, and from its processes the models they name.

See docs/adr/0027.
"""

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Final

from tasks.custody.evidence.redact import redact
from tasks.custody.models.inspection import is_named_as_model

_PLACE: Final = re.compile("0|[1-9][0-9]{0,8}")
_SEPARATORS: Final = re.compile("[\"',;=]")
_USUAL: Final = ("/prediction", "/predictions", "/pred_proba", "/pred")
_TRACES: Final = {  # what tree.json says of a process, the strongest first
    "maps": "mapped by its process",
    "open_files": "open in its process",
    "command": "named by its command",
    "environment": "named by its environment",
}
_ANSWERED: Final = "named in its answer"
_DELETED: Final = " (deleted)"
"""Ends the kernel's name of an open file that has none left: another lies at that path, if any."""
_SHELLS_OWN: Final = frozenset({"PWD", "OLDPWD"})
"""Variables that say where a shell was, and nothing of what it starts."""


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


def find_named_models(words: Iterable[str], root: str, names: Iterable[str]) -> list[str]:
    """Return the model files that the words of a start command name, by path or by a folder above them.

    Each word is tried as a whole, after its first "=", and split at quotes and separators; relative to the root or
    absolute, also as a file:// URL.
    """
    each = {part for words_in in words for word in (words_in, *words_in.split()) for part in parts_of(word) if part}
    paths = {_path(root, part) for part in each} - {_path(root, ""), *_path(root, "").parents}
    return [name for name in names if paths & {_path(root, name), *_path(root, name).parents}]


def find_named_elsewhere(words: Iterable[str], root: str, base: str, names: Iterable[str]) -> list[str]:
    """Return the paths in the words of a start command that end in this base name and lead to none of these files."""
    known = {_path(root, name) for name in names}

    def leads_to_one(word: str) -> bool:
        return not known.isdisjoint(_path(root, part) for part in (word, word.partition("=")[2]))

    each = (word for words_in in words if not leads_to_one(words_in) for word in words_in.split())
    others = (word for word in each if not leads_to_one(word))
    parts = (part for word in others for part in _SEPARATORS.split(word))
    return [part for part in parts if posixpath.basename(part) == base and _path(root, part) not in known]


def meant(name: str, folders: Iterable[str], is_there: Callable[[str], bool]) -> str:
    """Return the path of the one file that a relative name in an environment may mean, in one of these folders.

    The name itself if it is none of them, or several: nothing is guessed.
    """
    if not name or name.startswith("/") or "://" in name:
        return name
    places = dict.fromkeys(posixpath.normpath(posixpath.join(folder, name)) for folder in folders)
    found = [place for place in places if is_there(place)]
    return found[0] if len(found) == 1 else name


def parts_of(word: str) -> list[str]:
    """Return a word of a start, what follows its first "=", and its parts at quotes and separators."""
    return [word, word.partition("=")[2], *_SEPARATORS.split(word)]


def _path(root: str, name: str) -> PurePosixPath:
    return PurePosixPath(posixpath.normpath(posixpath.join(root, name.removeprefix("file://"))))


@dataclass(frozen=True)
class ServedBefore:
    """The model that was served at the freeze, and how that is known: a fact that the workload's account decides.

    `contents` are the digests that it may have: several if that is not decided, none if no such model was sealed.
    `answered` says that the API itself has named it just before, whatever else tells of it too.
    `undecided` says that it was one of several, and not known which; `doubt` why the file at its path may be another;
    `cure` how that of the freeze is put back, if the one at its path is another.
    """

    names: tuple[str, ...] = ()
    contents: frozenset[str] = frozenset()
    how: str = ""
    answered: bool = False
    undecided: bool = False
    doubt: str = ""
    cure: str = ""

    @property
    def is_held(self) -> bool:
        """Whether the process had the file itself, not its name alone."""
        return self.how in {_TRACES["maps"], _TRACES["open_files"]}

    @property
    def summary(self) -> str:
        """The model and how it is known; empty if it is unknown."""
        return redact(f"{' or '.join(self.names)} ({self.how})", digests=True) if self.names else ""


def served_before(  # noqa: PLR0913, PLR0917  what the words of a start may mean
    processes: Sequence[Mapping[str, Any]],
    root: str,
    models: Mapping[str, str],
    folders: Iterable[str] = (),
    is_there: Callable[[str], bool] = lambda _: False,
    follow: Callable[[str], str] = lambda _: "",
    answer: str = "",
) -> ServedBefore:
    """Return what was served by these processes, as tree.json has them. `models` are the sealed digests by path.

    What the API itself named in its `answer` before the freeze decides: a trace that leads elsewhere may be of a model
    that it has replaced since, whatever lies there now. Else the first kind of trace that leads to one content does. A
    relative name in the answer or the environment may be one in the root, where the process worked, or in one of these
    `folders` of the root. `is_there` knows of unsealed files; `follow` returns where a path in the root leads, by links
    too, and nothing where that is not known.
    """
    words = {how: [word for each in processes for word in _texts(each.get(what))] for what, how in _TRACES.items()}
    worked = [where for each in processes if isinstance(where := each.get("cwd"), str)]
    places = [root, *worked, *(posixpath.join(root, folder) for folder in folders)]
    sealed = {str(_path(root, name)) for name in models}
    given = [part for word in words[_TRACES["environment"]] for part in (word, word.partition("=")[2])]
    words[_TRACES["environment"]] += [meant(each, places, lambda at: at in sealed or is_there(at)) for each in given]
    for how in (_TRACES["command"], _TRACES["environment"]):
        parts = dict.fromkeys(part for word in words[how] for part in (word, *word.split()) if part)
        paths = (posixpath.join(place, each) for part in parts for each in parts_of(part) for place in (root, *worked))
        ends = dict.fromkeys(filter(None, map(follow, dict.fromkeys(paths))))
        words[how] += [end for end in ends if find_named_models([end], root, models)]
    found = [each for how in words if (each := _trace(dict.fromkeys(words[how]), root, models, how)).names]
    if not (named := _find_answered(answer, root, places, models, is_there, follow)).names:
        return first_certain(found)
    sure = (each for each in found if len(each.contents) == 1 and {*each.names} & {*named.names})
    return replace(next(sure, named), answered=True)


def word_of(answer: str) -> str:
    """Return the path, or the name, in an API's answer."""
    return answer.removeprefix("file://").rstrip("/")


def _find_answered(  # noqa: PLR0913, PLR0917  as served_before
    answer: str,
    root: str,
    places: Iterable[str],
    models: Mapping[str, str],
    is_there: Callable[[str], bool],
    follow: Callable[[str], str],
) -> ServedBefore:
    """Return what the API named: a path, the end of one, or one that the custody log hides. A mere word names none."""
    if not (word := word_of(answer)):
        return ServedBefore()
    paths = [posixpath.join(place, word) for place in dict.fromkeys(places)]
    ends = {_path(root, each) for each in (*paths, *filter(None, map(follow, paths)))}
    ends -= {_path(root, ""), *_path(root, "").parents}
    known = [name for name in models if not ends.isdisjoint({_path(root, name), *_path(root, name).parents})]
    known = known or [name for name in models if f"/{name}".endswith(f"/{word}")]
    known = known or [name for name in models if answer in _hidden(name, root)]
    is_file = known or is_named_as_model(word) or any(is_there(str(each)) for each in ends)
    names = tuple(sorted(known)) or ((answer,) if is_file else ())
    contents = frozenset(models[name] for name in known)
    return ServedBefore(names, contents, _ANSWERED if names else "", undecided=len(contents) > 1)


def _hidden(name: str, root: str) -> set[str]:
    """Return the names of a model of which the custody log hides a part, as it writes them."""
    shown = {each: redact(each, digests=True) for each in (name, posixpath.basename(name), str(_path(root, name)))}
    return {each for plain, each in shown.items() if each != plain}


def first_certain(found: Iterable[ServedBefore]) -> ServedBefore:
    """Return the first that leads to one content, or else the first; an empty one of none."""
    return min(found, key=lambda each: len(each.contents) != 1, default=ServedBefore())


def _trace(words: Iterable[str], root: str, models: Mapping[str, str], how: str) -> ServedBefore:
    """Return what the words name. One that names a single content outranks one that names a folder of several."""
    named = find_named_models(words, root, models)
    each = [find_named_models([word], root, named) for word in words] if named else []
    alone = [names for names in each if len({models[name] for name in names}) == 1]
    known = sorted({name for names in alone for name in names} or named)
    unsealed = {part for word in words for part in (word, word.partition("=")[2]) if is_named_as_model(part)}
    return ServedBefore(tuple(known or sorted(unsealed)), frozenset(models[name] for name in known), how)


def _texts(answer: Any) -> list[str]:
    """Return the texts that tree.json has for a question; of rows the paths of files that are not deleted."""
    named = answer.items() if isinstance(answer, Mapping) else ()
    rows = answer if isinstance(answer, list) else [text for name, text in named if name not in _SHELLS_OWN]
    there = [each for each in rows if isinstance(each, Mapping) and not each.get("deleted")]
    texts = (text for text in (*rows, *(each.get("path", each.get("to")) for each in there)) if isinstance(text, str))
    return [text for text in texts if not text.endswith(_DELETED)]
