"""Judge from its format whether a model is complete and harmless (runbook §4). Unpickles nothing.

See docs/adr/0013.
"""

import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from typing import Any, BinaryIO, Final

from tasks.custody.models.content import ModelContent, Torn, Undecided
from tasks.custody.models.imports import is_allowed, is_trusted, may_be_own, may_call, never
from tasks.custody.models.inspection import Soundness, plain, plain_all
from tasks.custody.models.joblib_arrays import BuiltObject, Name
from tasks.custody.models.pickle_reader import Read, read_as_joblib, read_as_pickle

LIMIT: Final = 1 << 33
_DEEPEST: Final = 20_000
_TRUSTED: Final = 20
_WORDS_OF_ARRAYS: Final = frozenset({"_reconstruct", "dtype", "ndarray"})
_CONTAINERS: Final = ("_codecs", "builtins", "collections", "copyreg", "joblib", "numpy")

Scanner = Callable[[bytes], Iterable[Name]]
"""Finds dangerous imports in a plain pickle: a second opinion."""


def judge(
    file: BinaryIO,
    own: Collection[str],
    scan: Scanner,
    limit: int = LIMIT,
    planted: Callable[[str], bool] = lambda _: False,
) -> dict[str, Any]:
    """Return the fields of a ModelFinding: outcome, reason, imports outside the allowlist, and self-description.

    A truncated file is torn. A file with a name outside the allowlist is suspect, even if torn. A file that cannot be
    read to its end is unknown. A model is also suspect if it imports a name for which `planted` is true: the API's own
    folders hold a module of that name, which would be loaded in place of the installed one.
    """
    read = Read()
    outcome, reason = _whole(file, read, limit)
    dangerous = {str(name) for name in _second_opinion(read, scan)}
    strangers = {str(name) for name in read.names if not is_allowed(*name, own)} | dangerous
    details = {"imports": plain_all(sorted(strangers)), **about_itself(read.top)}
    read.odd |= {f"calls {plain(name)}" for name in read.called if is_allowed(*name, own) and not may_call(*name, own)}
    of_packages = [name for name in read.names if is_allowed(*name, own) and not is_trusted(*name, own)]
    installed = {name.module.partition(".")[0] for name in of_packages}
    read.odd |= {f"would import {name} from the workload's own folder" for name in installed if planted(name)}
    if strangers and outcome is Soundness.SOUND and not (dangerous or read.odd):
        # the unknown names, if each may be from the operator's own code and they are few enough to review
        may_trust = len(strangers) <= _TRUSTED and all(map(may_be_own, strangers))
        details["trust"] = tuple(sorted(strangers)) if may_trust else ()
    if strangers or read.odd:
        return {"outcome": Soundness.SUSPECT, "reason": _suspicion(strangers, read.odd, reason), **details}
    if outcome is Soundness.SOUND and (other := _other_reading(file, read, own, limit)):
        return {**details, **other}
    return {"outcome": outcome, "reason": reason, **details}


def _second_opinion(read: Read, scan: Scanner) -> Iterator[Name]:
    """Yield the scanner's findings. A file on which the scanner fails is suspect: it may be meant to end the scan."""
    for stream in (each for each in read.streams if each[1:]):  # a single opcode, as of a .npy, loads nothing
        try:
            yield from scan(stream)
        except Exception as error:  # noqa: BLE001  a hostile file may raise anything in third-party code
            read.odd.add(f"breaks its scanner: {type(error).__name__}")


def _whole(file: BinaryIO, read: Read, limit: int) -> tuple[Soundness, str]:
    try:
        read_as_joblib(ModelContent(file, limit), read)
    except Torn as how:
        return Soundness.TORN, plain(how)
    except Undecided as why:
        return Soundness.UNKNOWN, plain(why)
    return Soundness.SOUND, ""


def _suspicion(strangers: Collection[str], odd: Collection[str], torn: str) -> str:
    would = [f"would import {plain(name)}" for name in sorted(strangers)[:5]]
    more = [f"and {len(strangers) - len(would)} more"] if len(strangers) > len(would) else []
    return "; ".join([*would, *more, *sorted(odd), *([f"and it is not whole: {torn}"] if torn else [])])


def _other_reading(file: BinaryIO, read: Read, own: Collection[str], limit: int) -> dict[str, Any]:
    """Return the finding if pickle.load, which takes arrays for opcodes, would read something else than joblib."""
    content, other = ModelContent(file, limit), Read()
    if content.compressed:
        return {}
    with suppress(Torn, Undecided):
        read_as_pickle(content, other)
    named = {name for name in other.names - read.names if not is_allowed(*name, own)}
    called = {name for name in other.called - read.called if not may_call(*name, own)}
    strangers = {str(name) for name in named | called if not _is_garbled(name, read)}
    if not strangers:
        return {}
    return {
        "outcome": Soundness.SUSPECT if any(map(never, strangers)) else Soundness.UNKNOWN,
        "reason": f"pickle.load would read it otherwise than joblib: {_suspicion(strangers, (), '')}",
        "imports": plain_all(sorted(strangers)),
    }


def _is_garbled(name: Name, read: Read) -> bool:
    """Return whether a name is an artefact of that reading, which honest files produce too.

    An inner pickle restarts its memo, so pickle.load finds other words in it. Accepted are only names that cannot be
    imported, numpy's, those that joblib's reading imports too, and single words in joblib's memo that are no module of
    Python, or are `copy`, a parameter of many estimators.
    """
    first, *rest = name.module.split(".")
    known = first == "numpy" or name.module in {each.module for each in read.names}
    python = first in sys.stdlib_module_names and (first != "copy" or name.name == "_reconstruct")
    word = not rest and first in read.words and not python
    return name.name in _WORDS_OF_ARRAYS and (known or word or not all(map(str.isidentifier, (first, *rest))))


def about_itself(top: object) -> dict[str, Any]:
    """Return estimator, version and features, as far as the file has them as plain data."""
    found: dict[str, Any] = {}
    for item in _objects(top):
        kind, state = item.kind, item.state
        if "estimator" not in found and kind and not kind.module.startswith(_CONTAINERS):
            found["estimator"] = plain(kind)
        if isinstance(version := state.get("_sklearn_version"), str):
            found.setdefault("sklearn", plain(version))
        if type(features := state.get("n_features_in_")) is int:
            found.setdefault("features", features)
        if isinstance(names := state.get("feature_names_in_"), BuiltObject):
            found.setdefault("feature_names", plain_all(_strings(names)))
    return found


def _objects(top: object) -> Iterator[BuiltObject]:
    """Yield all objects, outermost first. Handles cycles."""
    seen: set[int] = set()
    queue = deque([top])
    while queue and len(seen) < _DEEPEST:
        each = queue.popleft()
        if isinstance(each, BuiltObject | list | tuple | dict):
            if id(each) in seen:
                continue
            seen.add(id(each))
        if isinstance(each, BuiltObject):
            yield each
            queue += [each.arguments, *each.states]
        elif isinstance(each, dict):
            queue += each.values()
        elif isinstance(each, list | tuple):
            queue += each


def _strings(array: BuiltObject) -> list[str]:
    for item in _objects(array):
        for state in item.states:
            if isinstance(state, tuple) and state and isinstance(state[-1], list):
                return [each for each in state[-1] if isinstance(each, str)]
    return []
