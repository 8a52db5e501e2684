"""Alter the objects of an incident as an attacker would: one who writes to the bucket, and one who has a key too."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

from blocks.signing_key import SigningKey
from conformance.incidents import GPU1, HOME, ID, Objects
from tasks.custody.evidence.keys import COVERAGE, MANIFEST, SEGMENT, SIGNATURE, STATEMENT, SUMS, VERDICT
from tasks.custody.incident.incident import Origin
from tasks.custody.incident.log import chain_line, head
from tasks.custody.incident.verdict import Verdict
from tasks.custody.store.manifest import canonical, digest_bytes
from tasks.custody.store.statement import statement
from tasks.evidence.signing import Signer

MANIFEST_KEY: Final = f"{HOME}/evidence/{MANIFEST}"
COVERAGE_KEY: Final = f"{HOME}/evidence/{COVERAGE}"
SUMS_KEY: Final = f"{HOME}/evidence/{SUMS}"
NOTHING: Final[Mapping[str, bytes]] = {}
Change = Callable[[dict[str, Any]], object]
Lines = Callable[[list[bytes]], list[bytes]]


def closing_key(record: int = 1) -> str:
    """Return the key of a closing."""
    return f"{HOME}/record/{record:03d}/closing.json"


def verdict_key(record: int = 1) -> str:
    """Return the key of a verdict."""
    return f"{HOME}/record/{record:03d}/{VERDICT}"


def segment_key(record: int = 1) -> str:
    """Return the key of a record's segment of the custody log."""
    return f"{HOME}/record/{record:03d}/{SEGMENT}"


def without(objects: Objects, *starts: str) -> Objects:
    """Remove every object whose key begins so."""
    return {key: data for key, data in objects.items() if not key.startswith(starts)}


def changed(objects: Objects, key: str) -> Objects:
    """Change one byte."""
    data = objects[key]
    return objects | {key: data[:-2] + bytes([data[-2] ^ 1]) + data[-1:]}


def edited(objects: Objects, key: str, change: Change) -> Objects:
    """Change a JSON document, and leave everything that names it as it is."""
    said = json.loads(objects[key])
    change(said)
    return objects | {key: canonical(said)}


def signed(objects: Objects, key: str, by: SigningKey = GPU1) -> Objects:
    """Sign a document again."""
    return objects | {f"{key}.sig": by.sign(objects[key])}


def named(by: SigningKey) -> dict[str, Any]:
    """Return how a closing names its signer."""
    return asdict(Signer(by.identity, by.fingerprint, by.public_key))


def closed(objects: Objects, record: int = 1, by: SigningKey | None = GPU1, change: Change = dict) -> Objects:
    """Set right what a closing says of the objects that it names, change it, and sign it: as the host itself could.

    So is the statement beside the verdict.
    """
    key, verdict = closing_key(record), json.loads(objects[verdict_key(record)])["verdict"]
    folder, home, said = key.removesuffix("closing.json"), f"{HOME}/", json.loads(objects[key])
    for names, where in (("files", folder), ("manifests", home), ("postmortem", f"{home}record/")):
        told = said.get(names, {})
        told |= {name: digest_bytes(objects[where + name]) for name in told if where + name in objects}
    said |= {"verdict": verdict["word"], "signer": named(by) if by else None}
    change(said)
    if by and STATEMENT in said["files"]:
        about = (said["incident"], Origin(said["host"], said["workload"], said["place"]), said["record"])
        words = Verdict(verdict["word"], (), tuple(verdict["missing"]), (), "")
        made = by.envelop(statement(*about, words, said["files"].get(VERDICT, ""), said["manifests"]))
        said["files"][STATEMENT] = digest_bytes(made)
        objects = objects | {f"{folder}{STATEMENT}": made}
    objects = objects | {key: canonical(said)}
    return signed(objects, key, by) if by else without(objects, f"{key}.sig")


def judged(objects: Objects, change: Change, record: int = 1, by: SigningKey | None = GPU1) -> Objects:
    """Change the facts or the verdict of a record, and close it again as the host itself could."""
    return closed(edited(objects, verdict_key(record), change), record, by)


def logged(objects: Objects, change: Lines, record: int = 1, by: SigningKey = GPU1) -> Objects:
    """Change the lines of a record's segment of the custody log, and close it again as the host itself could."""
    lines = objects[segment_key(record)].splitlines(keepends=True)
    return closed(objects | {segment_key(record): b"".join(change(lines))}, record, by)


def chain(lines: list[bytes], previous: str, number: int) -> list[bytes]:
    """Chain lines anew from a head and a number on."""
    made = list[bytes]()
    for each, line in enumerate(lines, number):
        facts = {name: fact for name, fact in json.loads(line).items() if name not in {"seq", "prev"}}
        made.append(chain_line(previous, each, facts))
        previous = head(made[-1])
    return made


def appended(lines: list[bytes], **facts: object) -> list[bytes]:
    """Add a line to a segment, chained as it has to be."""
    last = json.loads(lines[-1])
    return [*lines, chain_line(head(lines[-1]), last["seq"] + 1, {"utc": last["utc"], "monotonic": 9.0, **facts})]


def sealed(
    objects: Objects, change: Change = dict, by: SigningKey = GPU1, contents: Mapping[str, bytes] = NOTHING
) -> Objects:
    """Set right all that rests on the evidence, from manifest to closing, and sign it: as the host itself could.

    `change` is of the manifest; `contents` are of evidence, by its name.
    """
    folder = f"{HOME}/evidence/"
    objects = objects | {folder + name: content for name, content in contents.items()}

    def true(said: dict[str, Any]) -> None:
        for item in said["items"]:
            data = objects[folder + item["path"]]
            item |= {"bytes": len(data), "sha256": digest_bytes(data)}
        change(said)

    return resealed(edited(objects, MANIFEST_KEY, true), by)


def resealed(objects: Objects, by: SigningKey = GPU1) -> Objects:
    """Set right all that rests on the manifest as it stands, and sign it: as the host itself could."""
    folder, manifest = f"{HOME}/evidence/", objects[MANIFEST_KEY]
    names = [line[66:] for line in objects[SUMS_KEY].decode().splitlines()]
    sums = "".join(f"{digest_bytes(objects[folder + name])}  {name}\n" for name in names)
    snapshot = f"snapshots/{ID.removeprefix('IR-')}/"
    copies = {key: objects[folder + key.removeprefix(snapshot)] for key in objects if key.startswith(snapshot)}
    objects = objects | copies | {SUMS_KEY: sums.encode(), f"{folder}{SIGNATURE}": by.sign(manifest)}

    def true(said: dict[str, Any]) -> None:
        for receipt in said["objects"]:
            data = objects[receipt["key"]]
            receipt |= {"size": len(data), "sha256": digest_bytes(data)}

    return judged(objects, true, by=by)


def respelled(objects: Objects, key: str, old: str, new: str) -> Objects:
    """Replace a text in a document by another, once."""
    before = objects[key].decode()
    if before.count(old) < 1:
        raise ValueError(f"expected {old!r} in {key}; it is not there")
    return objects | {key: before.replace(old, new, 1).encode()}


def beside(objects: Objects, prefix: str) -> Objects:
    """Return the objects with a prefix, as a bucket that holds several places has them."""
    return {f"{prefix}/{key}": data for key, data in objects.items()}


def moved(objects: Mapping[str, bytes], old: str, new: str) -> Objects:
    """Rename what begins so."""
    return {new + key.removeprefix(old) if key.startswith(old) else key: data for key, data in objects.items()}
