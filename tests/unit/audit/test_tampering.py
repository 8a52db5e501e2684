"""Whatever is done to the objects of an incident, the audit names the object, and is PROVEN only if it was added.

The campaign is `make soak`; the suite runs a seeded sample of it.
"""

import json
import socket
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from blocks.port import StoredObject
from tasks.audit.verify import verify_incident
from tasks.custody.audit.finding import Audit, AuditWord, Severity
from tasks.custody.audit.signers import AllowedSigner, read_signers
from tasks.custody.incident.log import chain_line, head
from tests.support.examples import scaled
from tests.support.memory_store import MemoryStore
from tests.support.run_context import INCIDENT

Objects = dict[str, bytes]
Holding = Callable[[Objects], MemoryStore]
STAMP = INCIDENT.removeprefix("IR-")
sample = settings(max_examples=scaled(80), deadline=None, derandomize=True, database=None)
campaign = settings(max_examples=5000, deadline=None, suppress_health_check=list(HealthCheck))


class Tampering:
    """The objects afterwards, and the keys of which the audit must name one. No dataclass: its repr would be theirs."""

    def __init__(self, objects: Objects, keys: frozenset[str]) -> None:
        """Keep both."""
        self.objects, self.keys = objects, keys

    def __repr__(self) -> str:
        """Short: hypothesis shows it in what it tells of a failure."""
        return str({key: self.objects.get(key, b"")[:999] for key in sorted(self.keys)})


class LyingStore(MemoryStore):
    """Tells the digests of what was stored, and gives other bytes."""

    def __init__(self, told: Objects, given: Objects) -> None:
        """Take what is told, and what is given."""
        super().__init__()
        self._told = MemoryStore()
        self._told._objects.update(told)
        self._objects.update(given)

    def head(self, key: str) -> StoredObject | None:
        """As if nothing had happened."""
        return self._told.head(key)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """The same."""
        return self._told.list(prefix)


def faults(audit: Audit) -> dict[str, str]:
    return {each.object: each.summary for each in audit.findings if each.severity is not Severity.NOTE}


def require_found(audit: Audit, tampering: Tampering, whole: Objects) -> None:
    """Of a file and its signature that do not belong together either may be the one that was changed.

    What is only added is named, and changes nothing that is proven.
    """
    either = {*tampering.keys, *(key.removesuffix(".sig") for key in tampering.keys)}
    if whole.items() <= tampering.objects.items():
        assert {each.object for each in audit.findings} & either, (sorted(either), audit.summary)
        return
    assert audit.word is not AuditWord.PROVEN, audit.summary
    assert faults(audit).keys() & either, (sorted(either), faults(audit))


@st.composite
def flipped(draw: st.DrawFn, objects: Objects) -> Tampering:
    key = draw(st.sampled_from(bound(objects)))
    content = bytearray(objects[key])
    content[draw(st.integers(0, len(content) - 1))] ^= 1 << draw(st.integers(0, 7))
    return Tampering(objects | {key: bytes(content)}, frozenset({key}))


@st.composite
def cut_or_grown(draw: st.DrawFn, objects: Objects) -> Tampering:
    key = draw(st.sampled_from(bound(objects)))
    whole = objects[key]
    ways = {"end": whole[:-1], "start": whole[1:], "more": whole + b"\n", "none": b"", "twice": whole + whole}
    content = ways[draw(st.sampled_from(sorted(ways)))]
    return Tampering(objects | {key: content}, frozenset({key}))


@st.composite
def removed(draw: st.DrawFn, objects: Objects) -> Tampering:
    key = draw(st.sampled_from(bound(objects)))
    return Tampering({name: content for name, content in objects.items() if name != key}, frozenset({key}))


@st.composite
def added(draw: st.DrawFn, objects: Objects) -> Tampering:
    folder = draw(
        st.sampled_from(
            [
                *(f"incidents/{INCIDENT}/{name}" for name in ("", "evidence/", "evidence.2/logs/", "evidence.3/")),
                *(f"incidents/{INCIDENT}/{name}" for name in ("evidence.02/", "record/", "record/002/", "record/003/")),
                *(f"snapshots/{STAMP}{name}/" for name in ("", ".2", ".3")),
            ]
        )
    )
    name = draw(st.sampled_from(["a", "a\nb", "", "x/y.z", "manifest.json", "closing.json", "SHA256SUMS.sig"]))
    key = folder + name
    assume(key not in objects)
    like = draw(st.sampled_from(["", f"incidents/{INCIDENT}/record/002/closing.json"]))
    content = objects[like] if like else draw(st.sampled_from([b"", b"{}", b"[]"]))
    near = {
        key.replace("\n", "\\n"),
        f"incidents/{INCIDENT}/evidence.3/manifest.json",
        f"incidents/{INCIDENT}/record/003/closing.json",
    }
    return Tampering(objects | {key: content}, frozenset(near))


@st.composite
def exchanged(draw: st.DrawFn, objects: Objects) -> Tampering:
    first, second = draw(st.tuples(*[st.sampled_from(bound(objects))] * 2))
    assume(objects[first] != objects[second])
    changed = {first: objects[second], second: objects[first]}
    return Tampering(objects | changed, frozenset(changed))


@st.composite
def rewritten_log(draw: st.DrawFn, objects: Objects) -> Tampering:
    """A line dropped, swapped or edited; where it is chained anew every line after it is, to the segment's end."""
    key = draw(st.sampled_from(sorted(name for name in objects if name.endswith("/custody.jsonl"))))
    lines = objects[key].splitlines(keepends=True)
    at = draw(st.integers(0, len(lines) - 1))
    how = draw(st.sampled_from(["drop", "swap", "edit", "double"]))
    changed = [*lines]
    if how == "drop":
        del changed[at]
    elif how == "swap":
        other = draw(st.integers(0, len(lines) - 1))
        assume(other != at)
        changed[at], changed[other] = lines[other], lines[at]
    elif how == "double":
        changed.insert(at, lines[at])
    else:
        entry = json.loads(lines[at])
        entry[draw(st.sampled_from(["utc", "action", "object"]))] = draw(st.text(max_size=5))
        changed[at] = (json.dumps(entry) + "\n").encode()
    if draw(st.booleans()):
        changed = anew(lines, changed)
    assume(changed != lines)
    return Tampering(objects | {key: b"".join(changed)}, frozenset({key}))


def anew(lines: list[bytes], changed: list[bytes]) -> list[bytes]:
    """Chain the segment again, from the same head and number on, as a forger would."""
    first = json.loads(lines[0])
    previous, made = first["prev"], list[bytes]()
    for number, line in enumerate(changed, first["seq"]):
        made.append(
            chain_line(previous, number, {k: v for k, v in json.loads(line).items() if k not in {"seq", "prev"}})
        )
        previous = head(made[-1])
    return made


def bound(objects: Objects) -> list[str]:
    """latest/ follows newer incidents and people: it is no part of what is proven."""
    return sorted(key for key in objects if not key.startswith("latest/"))


def tamperings(objects: Objects) -> st.SearchStrategy[Tampering]:
    ways = (flipped, cut_or_grown, removed, added, exchanged, rewritten_log)
    return st.one_of([way(objects) for way in ways])


@pytest.fixture(scope="module")
def signers(allowed: str) -> tuple[AllowedSigner, ...]:
    return read_signers(allowed)


@pytest.mark.parametrize("deep", [False, True])
def test_an_incident_that_nobody_touched_is_proven(
    objects: Objects, holding: Holding, signers: tuple[AllowedSigner, ...], *, deep: bool
) -> None:
    audit = verify_incident(holding(objects), INCIDENT, signers, deep=deep)
    assert (audit.word, audit.findings) == (AuditWord.PROVEN, ()), audit.summary
    assert audit.objects == len(bound(objects))
    assert audit.size == sum(len(objects[key]) for key in bound(objects))
    assert audit.signed.startswith(f"signed by evacuation@{socket.gethostname()} (SHA256:")
    assert audit.verdict.startswith("VERIFIED (record/002)")


def search(how: settings, objects: Objects, check: Callable[[Tampering], None]) -> None:
    """Try tamperings until one is not found."""

    @how
    @given(tampering=tamperings(objects))
    def each(tampering: Tampering) -> None:
        check(tampering)

    each()


@pytest.mark.slow
@pytest.mark.parametrize("how", [sample, pytest.param(campaign, marks=pytest.mark.soak)])
def test_any_tampering_is_named(
    objects: Objects, holding: Holding, signers: tuple[AllowedSigner, ...], how: settings
) -> None:
    def check(tampering: Tampering) -> None:
        require_found(verify_incident(holding(tampering.objects), INCIDENT, signers, deep=False), tampering, objects)

    search(how, objects, check)


@pytest.mark.slow
@pytest.mark.parametrize("how", [sample, pytest.param(campaign, marks=pytest.mark.soak)])
def test_any_tampering_is_named_without_knowing_the_signers(objects: Objects, holding: Holding, how: settings) -> None:
    def check(tampering: Tampering) -> None:
        require_found(verify_incident(holding(tampering.objects), INCIDENT, None, deep=False), tampering, objects)

    search(how, objects, check)


@pytest.mark.slow
@pytest.mark.parametrize("how", [sample, pytest.param(campaign, marks=pytest.mark.soak)])
def test_a_store_that_tells_the_right_digest_of_wrong_bytes_is_found_out_by_reading_every_byte(
    objects: Objects, signers: tuple[AllowedSigner, ...], how: settings
) -> None:
    @how
    @given(tampering=st.one_of(flipped(objects), cut_or_grown(objects), exchanged(objects)))
    def each(tampering: Tampering) -> None:
        store = LyingStore(objects, tampering.objects)
        require_found(verify_incident(store, INCIDENT, signers, deep=True), tampering, objects)

    each()
