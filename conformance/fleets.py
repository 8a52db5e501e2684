"""Fleets: the record of one with two hosts, whose incidents lie in the same bucket, and what is done to it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Final

from blocks.signing_key import SigningKey
from blocks.store import EvidenceStore
from conformance.forging import beside, changed, closing_key, edited, signed, without
from conformance.incidents import (
    FLEET_HOST,
    GPU1,
    GPU2,
    HOME,
    ID,
    MALLORY,
    OPENED,
    PERSON,
    PLACE,
    Objects,
    Run,
    alive,
    incident,
    key_of,
    paper_time,
)
from conformance.vector import Vector, broken, indeterminate, proven
from tasks.custody.evidence.keys import targets_key
from tasks.custody.fleet.host_end import HostEnd, Row, closed_row
from tasks.custody.fleet.incident import FleetIncident, TargetHost
from tasks.custody.fleet.places import HOSTS
from tasks.custody.fleet.verdict import verdict_of
from tasks.custody.store.manifest import canonical
from tasks.fleet.closings import read_last
from tasks.fleet.postmortem import FleetReport, postmortem
from tasks.fleet.record import files_of, write_record
from tests.support.memory_store import MemoryStore

FLEET: Final = "FL-20260102T030400Z-lab-1f3a"
RECORD: Final = f"fleets/{FLEET}/record/001"
CLOSING: Final = f"{RECORD}/closing.json"
LINES: Final = f"{RECORD}/{HOSTS}"
TARGETS: Final = targets_key(FLEET)
CONTROL: Final = key_of(f"evacuation@{FLEET_HOST}")
NAMES: Final = ("gpu1", "gpu2")
SIGNERS: Final = "".join(f"{each.allowed_signers}\n" for each in (CONTROL, GPU1, GPU2, PERSON))
Change = Callable[[list[Row]], list[Row]]


@cache
def hosts() -> Objects:
    """Make the incidents of both hosts, each below its own prefix."""
    first = incident(Run(), place=f"{PLACE}/gpu1")
    second = incident(Run(key=GPU2), host="gpu2", place=f"{PLACE}/gpu2")
    return beside(first, "gpu1") | beside(second, "gpu2")


def _listed() -> FleetIncident:
    return FleetIncident(
        id=FLEET,
        name="lab",
        opened_at=OPENED - timedelta(seconds=5),
        opened_by="a person",
        reason="drill",
        policy="kill",
        recover=False,
        store="fleet",
        order_seconds=3600,
        ask_after_seconds=900,
        ask_above=2,
        ask_seconds=600,
        unanswered="thaw",
        senders=16,
        hosts=tuple(map(TargetHost, NAMES)),
    )


def fleet(
    change: Change = list,
    *,
    objects: Objects | None = None,
    by: SigningKey = CONTROL,
    end: HostEnd | None = None,
    places: Sequence[str | None] = NAMES,
) -> Objects:
    """Close a record of the fleet over these objects, with lines that are changed before; `end` is another verdict."""
    store = MemoryStore()
    store._objects.update(objects or hosts())  # noqa: SLF001  as the hosts have left it
    listed, later = _listed(), OPENED + timedelta(minutes=1)
    with paper_time(later):
        told = [Row(name, 1, "run-1", HostEnd.VERIFIED, incident=ID, ordered=listed.opened_at) for name in NAMES]
        rows = change([closed_row(row, read_last(store, row.host, ID, row.run), later) for row in told])
        verdict = verdict_of(NAMES, rows)
        report = FleetReport(listed, rows, replace(verdict, end=end or verdict.end), "fleet-run", later)
        named = files_of(report, postmortem(report), dict(zip(NAMES, places, strict=True)))
        store._objects[TARGETS] = canonical(listed.facts)  # noqa: SLF001  as its first step writes it
        block = EvidenceStore(bucket="evidence", signing=by)
        write_record(block, store, report, {HOSTS: named[HOSTS], "postmortem.md": b"# Postmortem of a fleet\n"})
    return {each.key: store.read(each.key) for each in store.list("")}


def of_fleets() -> Iterator[Vector]:
    """Yield the vectors of this file."""
    for vector in (*_fleets(), *_hosts(), *_records()):
        yield replace(vector, id=FLEET, copy_of="", signers=vector.signers and (vector.signers.strip() and SIGNERS))


def _fleets() -> Iterator[Vector]:
    """Yield fleets of which the record was changed, or says too much."""
    good = fleet()
    yield proven("fleet", good, "Both hosts are Verified, and their closings are what the record says.")
    silent = fleet(lambda rows: [rows[0], Row("gpu2", 1, "run-1", HostEnd.SILENT)])
    yield proven("fleet-silent-host", silent, "A host was silent, and the record says so: it is not green.")
    why = "The record has no line of a host of the frozen list."
    yield broken("fleet-host-missing", fleet(lambda rows: rows[:1], end=HostEnd.VERIFIED), why, LINES)
    why = "A host was silent, and the verdict is Verified."
    green = fleet(lambda rows: [rows[0], Row("gpu2", 1, "run-1", HostEnd.SILENT)], end=HostEnd.VERIFIED)
    yield broken("fleet-green-over-a-silent-host", green, why, LINES)
    why = "A host is Verified without a closing."
    unclosed = fleet(lambda rows: [rows[0], replace(rows[1], closing=None)])
    yield broken("fleet-verified-without-closing", unclosed, why, LINES)
    why = "The record has two lines of one host, and none of the other."
    yield broken("fleet-host-twice", fleet(lambda rows: [rows[0], rows[0]], end=HostEnd.VERIFIED), why, LINES)
    why = "One line was changed: the closing names another digest of them."
    one_line = edited(good, LINES, lambda said: said["hosts"][1].update(message="all is well"))
    yield broken("fleet-line-changed", one_line, why, LINES)
    shorter = edited(good, TARGETS, lambda said: said["hosts"].pop())
    why = "The frozen list has lost a host; the closing names its digest."
    yield broken("fleet-list-changed", shorter, why, TARGETS)
    yield broken("fleet-closing-changed", changed(good, CLOSING), "The signature is over other bytes.", CLOSING)
    why = "The signature is gone: anybody could have made the record."
    yield indeterminate("fleet-signature-removed", without(good, f"{CLOSING}.sig"), why, CLOSING)
    why = "The file does not name this key for the host."
    yield broken("fleet-signed-by-nobody-known", fleet(by=MALLORY), why, CLOSING)
    why = "A host's key has signed the record in the name of the host that has written it."
    yield broken("fleet-signed-by-another-host", fleet(by=GPU1), why, CLOSING)
    why = "A person has signed the record, which is for the host that has written it."
    yield broken("fleet-signed-by-a-person", fleet(by=PERSON), why, CLOSING)
    why = "A name stands twice in the closing, signed."
    twice = good[CLOSING].replace(b'  "verdict": "Verified"', b'  "verdict": "Silent",\n  "verdict": "Verified"')
    yield broken("fleet-closing-with-name-twice", signed(good | {CLOSING: twice}, CLOSING, CONTROL), why, CLOSING)
    added = f"{RECORD}/added.txt"
    yield proven("fleet-planted", good | {added: b"x\n"}, "No document names it.", added)


def _hosts() -> Iterator[Vector]:
    """Yield fleets of which a host's incident is not what the record says."""
    good, second = fleet(), f"gpu2/{closing_key()}"
    yield broken("fleet-host-closing-changed", changed(good, second), "The line names another digest of it.", second)
    manifest = f"gpu2/{HOME}/evidence/manifest.json"
    yield broken("fleet-host-manifest-removed", without(good, manifest), "The line names it, and it is gone.", manifest)
    why = "The closing of gpu2 is of another run than the order of the fleet."
    stray = fleet(lambda rows: [rows[0], replace(rows[1], run="run-2")])
    yield broken("fleet-host-of-another-run", stray, why, second)
    why = "Both lines name the incident of gpu1: one host has two lines under two names."
    yield broken("fleet-two-names-of-one-host", fleet(places=("gpu1", "gpu1")), why, LINES)
    why = "A host lies in another bucket, and is not proven here."
    yield indeterminate("fleet-host-elsewhere", fleet(places=("gpu1", None)), why, closing_key())
    why = "The line says that a host lies outside of what a key may be."
    yield broken("fleet-host-outside", fleet(places=("gpu1", "../gpu2")), why, LINES)
    why = "A person has signed a host's closing, which betters its verdict; the record has it in the host's line."
    person = Run(key=PERSON, text="a quota that nobody had set")
    better = incident(Run(key=GPU2, found=alive()), person, host="gpu2", place=f"{PLACE}/gpu2")
    better = edited(better, closing_key(2), lambda said: said.update(verdict="VERIFIED", run="run-1"))
    bettered = fleet(objects=hosts() | beside(signed(better, closing_key(2), PERSON), "gpu2"))
    yield indeterminate("fleet-host-closed-by-a-person", bettered, why, f"gpu2/{closing_key(2)}")
    why = "A host was carried on later and ended otherwise: it is no longer what the record says."
    later = beside(incident(Run(key=GPU2), Run(key=GPU2, found=alive()), host="gpu2", place=f"{PLACE}/gpu2"), "gpu2")
    yield indeterminate("fleet-host-carried-on", good | later, why, second)
    why = "The host's closing has a signer that the file does not name."
    strange = hosts() | beside(incident(Run(key=MALLORY), host="gpu2", place=f"{PLACE}/gpu2"), "gpu2")
    yield broken("fleet-host-signed-by-nobody-known", fleet(objects=strange), why, second)


def _records() -> Iterator[Vector]:
    """Yield fleets with a record too many or too few."""
    good, second = fleet(), CLOSING.replace("001", "002")
    again = {key.replace("/001/", "/002/"): data for key, data in good.items() if key.startswith(f"{RECORD}/")}
    yield broken("fleet-record-replayed", good | again, "The second record is a copy of the first.", second)
    why = "The first record is missing."
    gone = {key.replace("/001/", "/002/") if key.startswith(RECORD) else key: data for key, data in good.items()}
    gone = edited(gone, second, lambda said: said.update(record=2))
    yield indeterminate("fleet-record-missing", signed(gone, second, CONTROL), why, CLOSING)
    why = "No allowed signers are given."
    yield indeterminate("fleet-without-signers", good, why, f"fleets/{FLEET}/", signers=None)
