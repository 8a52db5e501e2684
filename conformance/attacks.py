"""What is done to the objects of a bucket by somebody who may write to it and has no key."""

from collections.abc import Iterator
from functools import cache

from conformance.forging import (
    COVERAGE_KEY,
    MANIFEST_KEY,
    SUMS_KEY,
    changed,
    closing_key,
    moved,
    segment_key,
    signed,
    verdict_key,
    without,
)
from conformance.incidents import HOME, ID, LOG, MALLORY, PERSON, STAMP, Run, incident
from conformance.vector import Vector, broken, indeterminate, proven, unfinished
from tasks.custody.store.manifest import canonical, digest_bytes

LONGER = "iteration 1\niteration 2\n"
EVIDENCE = f"{HOME}/evidence/{LOG}"
SNAPSHOT = f"snapshots/{STAMP}/{LOG}"
CLAIM = f"{HOME}/claim.json"
TURN = "promotions/000001/begun.json"
PAGE = f"{HOME}/record/postmortem/002.md"
FOREIGN = b"of somebody else\n"


one = cache(lambda: incident(Run()))
"""An incident of one run, VERIFIED."""
promoted = cache(lambda: incident(Run(promotes=True), Run(log=LONGER, promotes=True)))
"""An incident of two runs, which have both changed latest/."""
two = cache(lambda: incident(Run(), Run(log=LONGER)))
"""An incident of two runs, of which the second found a longer log: evidence.2/."""
three = cache(lambda: incident(Run(), Run(), Run()))
"""An incident of three runs, of which the later ones found nothing new."""
finished = cache(lambda: incident(Run(), Run(key=PERSON, text="a quota that nobody had set")))
"""An incident whose postmortem people have finished and signed."""
covered = cache(lambda: incident(Run(key=None), Run()))
"""An incident whose first run had no key, and whose second vouches for it."""
partial = cache(lambda: incident(Run(denied="not permitted")))
"""An incident that could not read the needed models."""
displaced = cache(lambda: incident(Run(), before={EVIDENCE: FOREIGN}))
"""An incident at one of whose keys somebody else's content lay already."""
failed = cache(lambda: incident(Run(), forgets=True))
"""An incident whose store has kept nothing of coverage.json."""


def on_objects() -> Iterator[Vector]:
    """Yield the vectors of this file."""
    for part in (_honest, _changed, _removed, _moved, _planted):
        yield from part()


def _honest() -> Iterator[Vector]:
    yield proven("one-run", one(), "Nobody has touched it.")
    yield proven("two-runs", two(), "A second run has found more, in evidence.2/, and closed a record of its own.")
    yield proven("three-records", three(), "Three runs have closed a record each; the later ones add no evidence.")
    why = "Needed models could not be read; the record says so, and claims no more than PARTIAL."
    yield proven("partial", partial(), why)
    why = "A person has signed the last closing, which adds a postmortem only."
    yield proven("finished-postmortem", finished(), why)
    why = "The first run had no key; the custody log that the second's signed closing vouches for names what it left."
    yield proven("unsigned-covered", covered(), why, MANIFEST_KEY)
    why = "Foreign bytes lay at one key before; the record says so, and what was sealed lies beside, in conflicts/."
    yield proven("conflict", displaced(), why, EVIDENCE)
    why = "The store has kept nothing of coverage.json; the record says so, UNVERIFIED, and its host has the rest."
    yield unfinished("store-forgot", failed(), why, COVERAGE_KEY)


def _changed() -> Iterator[Vector]:
    """Yield an incident with one byte changed at each kind of key."""
    told = {
        "evidence": (one(), EVIDENCE, "The manifest names another digest of it."),
        "snapshot": (one(), SNAPSHOT, "The manifest names another digest of it: a snapshot holds the same files."),
        "claim": (one(), CLAIM, "The verdict says whose the claim is, from which its bytes follow."),
        "coverage": (one(), COVERAGE_KEY, "The manifest names another digest of it."),
        "sums": (one(), SUMS_KEY, "SHA256SUMS follows from the manifest, byte by byte."),
        "manifest": (one(), MANIFEST_KEY, "The signature is over other bytes, and the closing names another digest."),
        "verdict": (one(), verdict_key(), "The closing names another digest of it."),
        "closing": (one(), closing_key(), "The signature is over other bytes."),
        "custody-log": (one(), segment_key(), "The closing names another digest of it."),
        "promotion": (promoted(), TURN, "The verdict names another digest of this turn of latest/."),
        "postmortem": (finished(), PAGE, "The closing that a person has signed names another digest of the page."),
        "beside": (displaced(), _beside(), "What was sealed has to lie in conflicts/ as the record says."),
        "supplement": (two(), f"{HOME}/evidence.2/{LOG}", "The second manifest names another digest of it."),
        "unfinished": (failed(), EVIDENCE, "An unfinished incident may lack objects; what is there has to be right."),
    }
    for name, (objects, key, why) in told.items():
        yield broken(f"{name}-changed", changed(objects, key), f"One byte of it was changed. {why}", key)
    for name, key in (("manifest", MANIFEST_KEY), ("closing", closing_key())):
        why = "The signature beside it is one of the same key, over another document."
        other = closing_key() if key == MANIFEST_KEY else MANIFEST_KEY
        yield broken(f"{name}-signature-exchanged", one() | {f"{key}.sig": one()[f"{other}.sig"]}, why, key)
    why = "Later incidents and people may change latest/: a note."
    yield proven("latest-changed", promoted() | {f"latest/{LOG}": FOREIGN}, why, f"latest/{LOG}")


def _beside() -> str:
    return next(key for key in displaced() if "/conflicts/" in key)


def _removed() -> Iterator[Vector]:
    """Yield an incident without one object of each kind."""
    told = {
        "evidence": (one(), EVIDENCE),
        "snapshot": (one(), SNAPSHOT),
        "claim": (one(), CLAIM),
        "manifest": (one(), MANIFEST_KEY),
        "manifest-signature": (one(), f"{MANIFEST_KEY}.sig"),
        "verdict": (one(), verdict_key()),
        "custody-log": (one(), segment_key()),
        "promotion": (promoted(), TURN),
        "postmortem": (finished(), PAGE),
        "beside": (displaced(), _beside()),
        "evidence-folder": (two(), f"{HOME}/evidence.2/"),
        "unfinished-verdict": (failed(), verdict_key()),
    }
    for name, (objects, key) in told.items():
        at = MANIFEST_KEY.replace("evidence/", key.split("/")[-2] + "/") if key.endswith("/") else key
        why = "A signed document names it, or follows from one that is, and it is gone."
        yield broken(f"{name}-removed", without(objects, key), why, at)
    why = "Without the closing nobody vouches for the record: its run died, or somebody removed it."
    yield indeterminate("closing-removed", without(one(), closing_key()), why, closing_key())
    why = "The closing names its signer, and the signature is gone: it may be the host's or not."
    key = f"{closing_key()}.sig"
    yield indeterminate("closing-signature-removed", without(one(), key), why, closing_key())
    why = "A number is missing: the second of three records was removed, and with it a segment of the log's chain."
    gone = without(three(), f"{HOME}/record/002/")
    yield broken("middle-record-removed", gone, why, segment_key(3))
    why = "The second manifest is signed by the host, and no closing names it: its record was removed, or its run died."
    gone = without(two(), f"{HOME}/record/002/")
    yield indeterminate("last-record-removed", gone, why, f"{HOME}/evidence.2/manifest.json")
    why = "A turn of latest/ names the incident and is in no record: a whole last run was removed, but for that."
    gone = without(promoted(), f"{HOME}/record/002/", f"{HOME}/evidence.2/", f"snapshots/{STAMP}.2/")
    yield indeterminate("last-run-removed-but-for-its-promotion", gone, why, "promotions/000002/begun.json")
    why = "The whole last run was removed, which no audit sees: the page says so. The first run is proven as it is."
    yield proven("last-run-removed", without(gone, "promotions/000002/"), why, f"latest/{LOG}")


def _moved() -> Iterator[Vector]:
    why = "Two files of the evidence were exchanged: each has the bytes of the other."
    exchanged = one() | {EVIDENCE: one()[COVERAGE_KEY], COVERAGE_KEY: one()[EVIDENCE]}
    yield broken("evidence-exchanged", exchanged, why, EVIDENCE)
    why = "A file of the evidence was renamed: it is gone from the key that the manifest names."
    yield broken("evidence-renamed", moved(one(), EVIDENCE, f"{EVIDENCE}.1"), why, EVIDENCE)
    why = "A record was renumbered: its closing says itself which number it has."
    yield broken("record-renumbered", moved(one(), f"{HOME}/record/001/", f"{HOME}/record/002/"), why, closing_key(2))
    why = "What was sealed lies in conflicts/ and other bytes at its key, but no record says so."
    data = one()[EVIDENCE]
    aside = one() | {EVIDENCE: FOREIGN, f"{HOME}/conflicts/{digest_bytes(data)}": data}
    yield broken("evidence-moved-beside", aside, why, EVIDENCE)


def _planted() -> Iterator[Vector]:
    """Yield proven incidents to which somebody has added what no record names: it is told, and breaks nothing."""
    why = "Somebody has added an object that no document names: nobody vouches for it, and nothing rests on it."
    told = {
        "evidence": f"{HOME}/evidence/logs/added.log",
        "record": f"{HOME}/record/001/added.txt",
        "postmortem": f"{HOME}/record/postmortem/001.md",
        "conflict": f"{HOME}/conflicts/{digest_bytes(FOREIGN)}",
        "snapshot": f"snapshots/{STAMP}/logs/added.log",
        "time-stamp": f"{closing_key()}.tsr",
    }
    for name, key in told.items():
        yield proven(f"planted-in-{name}", one() | {key: FOREIGN}, why, key)
    why = "Its name has a line break, and would write a line of its own into a careless report."
    key = f"{HOME}/evidence/added\nPROVEN"
    yield proven("planted-line-break", one() | {key: FOREIGN}, why, key.replace("\n", "\\n"))
    ninth = f"{HOME}/evidence.9/manifest.json"
    why = "An evidence folder without a manifest, which no closing names: nobody vouches for it."
    yield proven("planted-folder", one() | {f"{HOME}/evidence.9/logs/added.log": FOREIGN}, why, ninth)
    told_of = {
        "unreadable": {ninth: b"{}\n"},
        "copied": {f"{ninth}{end}": one()[f"{MANIFEST_KEY}{end}"] for end in ("", ".sig")},
        "signed-by-nobody-known": signed({ninth: one()[MANIFEST_KEY]}, ninth, MALLORY),
        "unsigned": {
            f"{HOME}/evidence.2/{key.removeprefix(f'{HOME}/evidence/')}": data
            for key, data in one().items()
            if key.startswith(f"{HOME}/evidence/") and not key.endswith(".sig")
        },
    }
    why = "No closing names this manifest, and its host has not signed it for this place: anybody can put it there."
    for name, objects in told_of.items():
        at = next(iter(objects)).rpartition("/evidence")[2].partition("/")[0]
        yield proven(f"planted-manifest-{name}", one() | objects, why, f"{HOME}/evidence{at}/manifest.json")
    why = "Signed by nobody known, what a signed closing covers as left unsigned: the planted signature says nothing."
    for name, key in (("manifest", MANIFEST_KEY), ("closing", closing_key(1))):
        yield proven(f"planted-signature-of-{name}", signed(covered(), key, MALLORY), why, key)
    why = "A record without a closing: its run died, or somebody put it there; no document tells which."
    yield indeterminate("planted-record", one() | {f"{HOME}/record/002/added.txt": FOREIGN}, why, closing_key(2))
    why = "Somebody without an allowed key has signed and added a closing."
    forged = signed(one() | {closing_key(2): one()[closing_key()]}, closing_key(2), MALLORY)
    yield broken("planted-closing", forged, why, closing_key(2))
    why = "An incident whose id begins in the same way lies in the same bucket; it is another one, whatever is in it."
    neighbour = {f"incidents/{ID}-gpu/claim.json": FOREIGN, f"snapshots/{STAMP}-gpu/{LOG}": FOREIGN}
    yield proven("neighbour", one() | neighbour, why)
    why = "A turn of latest/ names this incident, and no record does: its run died, or somebody put it there."
    turn = {TURN: promoted()[TURN]}
    yield indeterminate("planted-promotion", one() | turn, why, TURN)
    why = "Why there is no time stamp is said beside a closing that names no authority: nobody vouches for that."
    key = f"{HOME}/record/001/unstamped.json"
    yield proven("planted-reason", one() | {key: canonical({"reason": "it was shut"})}, why, key)
