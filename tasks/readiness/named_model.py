"""Look whether a run would take the model that the running API names, or that its processes hold open."""

import os
import posixpath
from contextlib import closing, suppress
from fnmatch import fnmatchcase

from tasks.acquisition.matching import find_names
from tasks.containment.api_port import port_of
from tasks.custody.errors import EngineError, EvacuationError
from tasks.custody.evidence.pattern import literal_folder, matches_inside, of_root
from tasks.custody.models.contract import word_of
from tasks.custody.models.inspection import holds_a_model
from tasks.evidence.uncollected_model import (
    ANSWER,
    HELD,
    Collection,
    ModelsInside,
    Uncollected,
    is_model_there,
    tell_lost,
    tell_uncollected_inside,
)
from tasks.host.container.docker_engine import DockerEngine
from tasks.host.container.membership import Container
from tasks.prefect_side.saved_blocks import secret_headers
from tasks.readiness.check_target import CheckTarget
from tasks.recovery.api_client import Api
from tasks.recovery.recover import address_of
from tasks.recovery.served_model import parse_model_name


def is_the_workloads(target: CheckTarget) -> bool:
    """Return whether processes of the workload alone listen at the API's address."""
    owners = target.host.owners(address_of(target.workload)[1])
    return bool(owners) and all(each.process and each.process.identity in target.members for each in owners)


def containers_on(port: int | None, target: CheckTarget) -> list[Container]:
    """Return the block's containers that publish a port, or have it on the host's network."""
    if not port or not target.workload.containers:
        return []
    inside = {each.process.container for each in target.host.owners(port) if each.process}
    with suppress(EngineError):  # a check of its own tells it
        return [each for each in target.containers if port in each.ports or each.id in inside]
    return []


def find_uncollected(target: CheckTarget) -> list[Uncollected]:
    """Return what of the API's models no collector would take, as far as it is known now."""
    block, answer = target.workload, _ask(target)
    patterns = [*block.logs, *block.artifacts, *block.models, *block.folders]
    names = {os.fsdecode(each) for each in find_names(os.fsencode(block.root), patterns)[0]}
    names |= {os.fsdecode(each) for each in target.root_walk.names}
    collection = Collection(str(block.root), frozenset(names), block.models)
    if containers := containers_on(port_of(block), target):
        inside = _find_inside(target, containers[0], answer, collection) if answer else None
        return [inside] if inside else []
    apis = [target.snapshot[identity.pid] for identity, each in target.members.items() if each.role == "api"]
    handles = target.host.handles(apis).values()
    held = (os.path.realpath(path) for each in handles for path in sorted(each.read | each.below))
    found = dict.fromkeys((path for path in held if is_model_there(path) and not collection.has(path)), HELD)
    places = [*(each.cwd for each in apis), *(str(block.root / literal_folder(each)) for each in of_root(block.models))]
    return tell_lost(found, answer, collection, places, block)


def _ask(target: CheckTarget) -> str:
    """Return the model that the API names now; empty if none, or if that is not to be asked."""
    block = target.workload
    ours = is_the_workloads(target)
    if not block.model_at or not (ours or block.names_port):
        return ""
    with suppress(EvacuationError):
        headers = secret_headers(block.api_headers)
        if ours or not headers:
            with Api(block, headers) as client:
                return parse_model_name(client.ask("GET", block.health_path), block.model_at)[0]
    return ""


def _find_inside(target: CheckTarget, container: Container, answer: str, collection: Collection) -> Uncollected | None:
    """Return what the API of a container names and no pattern reaches there, by the root where that is mounted."""
    block, worked = target.workload, container.folder
    patterns, word = [*block.models, *block.artifacts, *block.logs], word_of(answer)
    inside = ModelsInside(worked, container.mounts, frozenset(), block.models)

    def is_named(path: str) -> bool:
        place = inside.place(path)
        return matches_inside(path, worked, patterns) or bool(place and collection.has(place))

    with suppress(EngineError), closing(DockerEngine(block.docker_host)) as engine:

        def is_there(path: str) -> bool:
            return engine.archive(container.id, path) is not None

        there = [each for each in inside.paths(word) if is_there(each)]
        folders = {each: posixpath.join(worked, literal_folder(each)) for each in patterns}
        reached = [posixpath.join(worked, each) for each, folder in folders.items() if is_there(folder)]
        if any(map(is_named, there)) or (not there and any(_may_be(word, each) for each in reached)):
            return None
        if missing := inside.find_unnamed(answer, is_there):
            return tell_uncollected_inside(*missing, ANSWER, block)
    return None


def _may_be(word: str, pattern: str) -> bool:
    """Return whether a pattern may match a file that ends in this name; any, if it names no file of a model."""
    parts, ends = (posixpath.normpath(each).split("/")[::-1] for each in (word, pattern))
    several = 1 if "**" in ends else len(parts)
    return not holds_a_model(word) or all(map(fnmatchcase, parts[:several], ends))
