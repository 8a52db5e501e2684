"""§8: name the model that the API names or holds and that no collector took: no verdict is green without it.

What the block lets be missing does not count: that says that there may be none, and the API says that there is one.
"""

import json
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from glob import escape
from pathlib import PurePath
from typing import Any, Final, NamedTuple

from blocks.workload import Workload
from blocks.workload_fields import WorkloadFields
from tasks.containment.containers.kept import kept_config
from tasks.containment.containers.pause import WorkloadContainers, starts_kept
from tasks.custody.errors import ContainerGone, EngineError
from tasks.custody.evidence.acquisition import Evidence
from tasks.custody.evidence.keys import IN_CONTAINER
from tasks.custody.evidence.pattern import literal_folder, matches_any, of_root
from tasks.custody.evidence.redact import redact
from tasks.custody.incident.description import leads_to
from tasks.custody.models.contract import parts_of, word_of
from tasks.custody.models.inspection import holds_a_model
from tasks.evidence.model_served import answer_of, api_looks, names_inside
from tasks.host.container.docker_engine import Engine
from tasks.host.container.membership import Mount
from tasks.host.container.mounts import place_outside, real_mounts
from tasks.runtime.context import RunContext

_NO_FILE: Final = 'if it is no file of the workload, model_at = ""'
ANSWER: Final = "its answer names it"
_START: Final = "its start names it"
HELD: Final = "its process holds it open"


class Uncollected(NamedTuple):
    """A model that is lost, for people, and what in the block mends it."""

    problem: str
    cure: str

    def __str__(self) -> str:
        """Return both in one line."""
        return "; ".join(self)


@dataclass(frozen=True)
class Collection:
    """What is collected, or would be, by its names below the root, or as full paths of the host.

    `models` are the block's patterns.
    """

    root: str
    names: frozenset[str]
    models: Sequence[str]

    @cached_property
    def _real(self) -> frozenset[str]:
        real = os.path.realpath(self.root)
        return frozenset(os.path.normpath(posixpath.join(real, name)) for name in self.names)

    @cached_property
    def _files(self) -> frozenset[tuple[int, int]]:
        return frozenset(key for path in self._real if (key := _key_of(path)))

    def has(self, path: str) -> bool:
        """Return whether the file at a path of the host is among them, by any name, or a file of the folder there."""
        real = os.path.realpath(path)
        return (
            real in self._real
            or any(each.startswith(f"{real}/") for each in self._real)
            or _key_of(real) in self._files
        )

    def ends_with(self, name: str) -> bool:
        """Return whether one of them has a relative name, below some folder."""
        return any(f"/{each}".endswith(f"/{name}") for each in self.names)


def _has_model(names: Iterable[str], patterns: Sequence[str]) -> bool:
    """Return whether a file among these is a model by its name, or by the block's patterns."""
    return any(holds_a_model(name) or matches_any(name, patterns) for name in names)


def _key_of(path: str) -> tuple[int, int] | None:
    with suppress(OSError, ValueError):
        status = os.stat(path)  # noqa: PTH116  a name of any bytes
        return status.st_dev, status.st_ino
    return None


def _find_unnamed(answer: str, collection: Collection, places: Iterable[str]) -> tuple[str, str] | None:
    """Return the model of the host that the API's answer means, and its path if that is known, unless collected.

    It may be a path, also relative to one of these `places`, or a base name. One that names no file of a model is
    believed where a model was collected.
    """
    word = word_of(answer)
    paths = (os.path.normpath(posixpath.join(place, word)) for place in (collection.root, *places))
    above = {collection.root, *map(str, PurePath(collection.root).parents)}
    there = [each for each in dict.fromkeys(paths) if _key_of(each) and each not in above]
    if any(map(collection.has, there)) or (not there and collection.ends_with(word)):
        return None
    is_file = holds_a_model(word) or word.startswith("/")
    if not is_file and _has_model(collection.names, collection.models):
        return None
    return answer, there[0] if is_file and there else ""


def _tell_uncollected(answer: str, path: str, how: str, block: WorkloadFields) -> Uncollected:
    """Return for people that nobody takes a model of the host, with the line for the block that mends it."""
    real, root = os.path.realpath(path) if path else "", os.path.realpath(block.root)
    if real.startswith(f"{root}/"):
        name = os.path.relpath(real, root)
        named = matches_any(name, of_root([*block.models, *block.artifacts, *block.logs]))
        cure = "a pattern names it: see why it was lost" if named else _line(block, escape(name))
    elif real:
        cure = (
            "it lies out of the root: in its place put a copy or a mount (mount --bind) below the root, named in models"
        )
    else:
        cure = "name its file in models, by a path from the root"
    return _sentence(answer, how, cure)


def tell_uncollected_inside(answer: str, path: str, how: str, block: WorkloadFields) -> "Uncollected":
    """Return for people that nobody takes a model of a container, with the line for the block that mends it."""
    by_hand = f"models = {json.dumps([*block.models, '/FOLDER/' + escape(answer)])} by its full path in the container"
    return _sentence(answer, how, _line(block, escape(path)) if path else by_hand)


def _line(block: WorkloadFields, pattern: str) -> str:
    return f"in the block: models = {json.dumps([*block.models, pattern], ensure_ascii=False)}"


def _sentence(answer: str, how: str, cure: str) -> "Uncollected":
    cure = f"{cure}; {_NO_FILE}" if how == ANSWER else cure
    shown = redact(answer, digests=True)
    problem = f"the API's model is collected by nobody, API のモデルが未採取: {shown!r} ({how})"
    return Uncollected(problem, cure)


def find_uncollected(context: RunContext, evidence: Iterable[Evidence]) -> tuple[str, ...]:
    """Return a sentence for each model that the API named or held at its freeze and that is not in the evidence.

    A run that was cancelled has not collected what it would have.
    """
    if context.cancelled:
        return ()
    files = [file for item in evidence for file in item.files if file.source]
    answer, block = answer_of(context.log), context.workload
    if was := WorkloadContainers(context).find_api(leads_to(block.api_address)[1]):
        own = {file.path for file in files if file.note.startswith(f"{IN_CONTAINER}{was.name}")}
        outside = {file.path for file in files if not file.note.startswith(IN_CONTAINER) and file.path[:1] != "/"}
        config = kept_config(context.directory.path, was.identity)
        mounts, worked = real_mounts(config), config["Config"].get("WorkingDir") or "/"
        inside = {*own, *names_inside(os.path.realpath(block.root), outside, mounts)}
        container = ModelsInside(worked, mounts, frozenset(inside), block.models)
        lies_in = partial(_lies_in, context.adapters.engine, was.identity.id, container)
        return tuple(map(str, _find_inside(block, config, container, lies_in, answer)))
    names = frozenset(file.path for file in files if not file.note.startswith(IN_CONTAINER))
    collection = Collection(str(block.root), names, block.models)
    rows = next(api_looks(context.directory, context.log, context.state, range(1, context.run.volume + 1)), [])
    worked = [where for each in rows if isinstance(where := each.get("cwd"), str)]
    places = [*worked, *(posixpath.join(collection.root, each) for each in map(literal_folder, of_root(block.models)))]
    found = {path: HELD for path in _find_held(rows) if not collection.has(path)}
    found |= {
        path: _START
        for path in _find_named(rows, [collection.root, *places])
        if path not in found and not collection.has(path)
    }
    return tuple(map(str, tell_lost(found, answer, collection, places, block)))


def tell_lost(
    found: Mapping[str, str], answer: str, collection: Collection, places: Iterable[str], block: WorkloadFields
) -> list[Uncollected]:
    """Return for people the models that were found, by how, and that which the API's answer means unless collected."""
    lost = {path: _tell_uncollected(path, path, how, block) for path, how in found.items()}
    if answer and (missing := _find_unnamed(answer, collection, places)):
        shown, path = missing
        lost.setdefault(os.path.realpath(path) if path else shown, _tell_uncollected(shown, path, ANSWER, block))
    return [*lost.values()]


def _find_held(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the files that these processes have mapped or open, as tree.json has them, and that are models by name."""
    for each in rows:
        for what in ("maps", "open_files"):
            listed = answer if isinstance(answer := each.get(what), list) else []
            there = [row for row in listed if isinstance(row, Mapping) and not row.get("deleted")]
            paths = dict.fromkeys(str(row.get("path", row.get("to"))) for row in there)
            yield from (os.path.realpath(path) for path in paths if is_model_there(path))


def _find_named(rows: Iterable[Mapping[str, Any]], places: Sequence[str]) -> Iterator[str]:
    for each in rows:
        command, environment = each.get("command"), each.get("environment")
        words = command if isinstance(command, list) else []
        values = environment.values() if isinstance(environment, Mapping) else ()
        for part in _files_in([*words, *values]):
            paths = (posixpath.join(place, part) for place in places)
            yield from (os.path.realpath(path) for path in paths if is_model_there(path))


def _files_in(words: Iterable[Any]) -> list[str]:
    """Return the words, and parts of them, that name a model's file."""
    texts = [each for each in words if isinstance(each, str)]
    parts = (part for word in texts for text in (word, *word.split()) for part in parts_of(text))
    return [*dict.fromkeys(part.removeprefix("file://") for part in parts if holds_a_model(part))]


def is_model_there(path: str) -> bool:
    """Return whether a full path of the host is a file that is a model by its name."""
    with suppress(OSError, ValueError):
        return path.startswith("/") and holds_a_model(path) and os.path.isfile(path)  # noqa: PTH113  a word of any length and content
    return False


def _find_inside(
    block: Workload,
    config: Mapping[str, Any],
    container: "ModelsInside",
    lies_in: Callable[[str], bool | None],
    answer: str,
) -> Iterator[Uncollected]:
    starts = [{"command": [config["Path"], *config["Args"]], "environment": config["Config"].get("Env") or []}]
    words = [word for each in (*starts, *starts_kept(config)) for word in (*each["command"], *each["environment"])]
    found = (_find_lost(container, word, lies_in) for word in dict.fromkeys(words))
    lost = [*dict.fromkeys(path for path in found if path)]
    yield from (tell_uncollected_inside(path, path, _START, block) for path in lost)
    missing = container.find_unnamed(answer, lambda path: bool(lies_in(path)))
    if answer and missing and missing[1] not in lost:
        yield tell_uncollected_inside(*missing, ANSWER, block)


def _find_lost(container: "ModelsInside", word: str, lies_in: Callable[[str], bool | None]) -> str:
    """Return the file of a model that a word of a container's start names and nobody collects; empty if none.

    Of a container that is gone it is not known whether it had such a file.
    """
    parts = _files_in([word])
    paths = [path for part in parts for path in container.paths(part)]
    if any(map(container.has, paths)) or any(map(container.ends_with, parts)):
        return ""
    known = {path: lies_in(path) for path in paths}
    doubtful = sorted((path for path, there in known.items() if there is None), key=lambda path: "=" in path)
    return next((path for path, there in known.items() if there), next(iter(doubtful), ""))


def _lies_in(engine: Engine, id_: str, container: "ModelsInside", path: str) -> bool | None:
    """Return whether a container has a file, by the host's view of its mounts, else by the engine; None if unknown."""
    if place := container.place(path):
        return _key_of(place) is not None
    with suppress(ContainerGone, EngineError):
        return engine.archive(id_, path) is not None
    return None


@dataclass(frozen=True)
class ModelsInside:
    """What is collected of the API's container, by full path, where it works, what is mounted, and the patterns."""

    worked: str
    mounts: Sequence[Mount]
    names: frozenset[str]
    models: Sequence[str]

    def has(self, path: str) -> bool:
        """Return whether a file is collected, or one of the folder there."""
        return path in self.names or any(each.startswith(f"{path}/") for each in self.names)

    def ends_with(self, word: str) -> bool:
        """Return whether a file is collected that has a relative name, below some folder."""
        return not word.startswith("/") and any(each.endswith(f"/{word}") for each in self.names)

    def place(self, path: str) -> str:
        """Return where the host has a path of the container; empty if it is in no mount."""
        return str(place_outside(PurePath(path), self.mounts) or "")

    def paths(self, word: str) -> list[str]:
        """Return the paths that a name may mean: where the API works, in a mount, or where patterns look."""
        folders = (posixpath.join(self.worked, literal_folder(each)) for each in self.models)
        places = (self.worked, *(str(each.target) for each in self.mounts), *folders)
        return [*dict.fromkeys(posixpath.normpath(posixpath.join(place, word)) for place in places)]

    def find_unnamed(self, answer: str, is_there: Callable[[str], bool]) -> tuple[str, str] | None:
        """Return the model that the API's answer means, and its path if that is known, unless it is collected."""
        word = word_of(answer)
        paths = self.paths(word)
        if any(map(self.has, paths)) or self.ends_with(word):
            return None
        is_file = holds_a_model(word) or word.startswith("/")
        if not is_file and _has_model(self.names, self.models):
            return None
        there = word if word.startswith("/") else next((each for each in paths if is_there(each)), "")
        return answer, there if is_file else ""
