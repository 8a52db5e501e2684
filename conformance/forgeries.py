"""What is forged by somebody who has a key as well, so that every digest is right, and what keys may not do."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from blocks.signing_key import SigningKey
from conformance.attacks import CLAIM, LONGER, covered, finished, one, partial, two
from conformance.forging import (
    COVERAGE_KEY,
    MANIFEST_KEY,
    Change,
    Lines,
    appended,
    chain,
    changed,
    closed,
    closing_key,
    edited,
    judged,
    logged,
    resealed,
    respelled,
    sealed,
    segment_key,
    signed,
    verdict_key,
    without,
)
from conformance.incidents import (
    GPU1,
    GPU2,
    HOME,
    ID,
    MALLORY,
    OPENED,
    PERSON,
    PLACE,
    SECOND,
    Objects,
    Run,
    alive,
    authority,
    incident,
    key_of,
)
from conformance.vector import ALLOWED, Vector, broken, indeterminate, proven
from tasks.custody.evidence.keys import STATEMENT
from tasks.custody.incident.incident import Origin
from tasks.custody.incident.log import START
from tasks.custody.incident.verdict import Verdict, Word
from tasks.custody.store.manifest import canonical, digest_bytes
from tasks.custody.store.signature import sign
from tasks.custody.store.statement import statement

FIRST, LAST = closing_key(1), closing_key(2)
BOTH = f"{ALLOWED}{GPU2.allowed_signers}\n"


def by_keys() -> Iterator[Vector]:
    """Yield the vectors of this file."""
    first = (_signers, _others, _people, _replayed, _claiming, _contradicting)
    for part in (*first, _log, _times, _spelled, _statements, _rotated, _revoked):
        yield from part()


def _line(who: str, options: str = 'namespaces="evacuation"') -> str:
    return f"{who} {options} {GPU1.public_key}\n"


def _signers() -> Iterator[Vector]:
    """Yield one incident with auditor's files that do and do not name its signer for it."""
    told = {
        "pattern-for-every-host": (_line("evacuation@*"), "The key counts for every host."),
        "several-principals": (_line("evacuation@gpu2,evacuation@gpu1"), "One of the line's principals is the host."),
        "second-line": (_line("evacuation@gpu2") + _line("evacuation@gpu1"), "The key counts by its second line."),
        "valid-then": (
            _line("evacuation@gpu1", 'namespaces="evacuation",valid-after="20260101Z"'),
            "The documents are of a time at which the key was valid.",
        ),
    }
    for name, (text, why) in told.items():
        yield proven(f"signers-{name}", one(), why, signers=text)
    wrong = {
        "of-another-host": (_line("evacuation@gpu2"), "The file names the key for another host."),
        "of-a-person": (_line("people@gpu1"), "The file names the key for a person, who makes no evidence."),
        "of-another-namespace": (_line("evacuation@gpu1", 'namespaces="git"'), "The key may sign other things only."),
        "valid-later": (
            _line("evacuation@gpu1", 'valid-after="20260103Z"'),
            "The documents state a time before the key was valid.",
        ),
        "valid-before": (
            _line("evacuation@gpu1", 'valid-before="20260101Z"'),
            "The documents state a time after the key was valid.",
        ),
        "of-another-key": (f"{GPU2.allowed_signers}\n".replace("gpu2", "gpu1"), "The file has another key for it."),
    }
    for name, (text, why) in wrong.items():
        yield broken(f"signers-{name}", one(), why, MANIFEST_KEY, signers=text)
    why = "No allowed signers are given: who signed it anybody can be."
    yield indeterminate("signers-none", one(), why, f"{HOME}/", signers=None)


def _others() -> Iterator[Vector]:
    """Yield incidents that keys have signed which may not, or that nobody has signed."""
    mallory = incident(Run(key=MALLORY))
    yield broken("signed-by-nobody-known", mallory, "A key has signed all of it that the file does not name.", FIRST)
    why = "Another host has signed the last closing in this one's name; the file allows its key for itself alone."
    yield broken("signed-by-another-host", closed(two(), 2, GPU2), why, LAST, signers=BOTH)
    why = "Another host has signed the last closing in its own name: the documents are of two hosts."
    own = judged(two(), _of_host("gpu2"), 2)
    own = closed(own, 2, GPU2, lambda said: said.update(host="gpu2"))
    yield broken("signed-by-another-host-for-itself", own, why, FIRST, signers=BOTH)
    why = "The closing names another workload than the manifest."
    other = closed(judged(one(), lambda facts: facts["incident"].update(workload="serve")), 1, GPU1)
    other = closed(other, 1, GPU1, lambda said: said.update(workload="serve"))
    yield broken("of-another-workload", other, why, MANIFEST_KEY)
    why = "The manifest was made for another place than the last closing: a note, as where a store has moved."
    elsewhere = sealed(one(), lambda said: said.update(place="s3://evidence/before"))
    yield proven("made-for-two-places", elsewhere, why, MANIFEST_KEY)
    why = "The signature is by a key that may sign it, but not the one that the closing names."
    again = signed(one(), FIRST, SECOND)
    yield broken("signed-by-another-key-than-named", again, why, FIRST, signers=f"{ALLOWED}{SECOND.allowed_signers}\n")
    why = "The signature is of another namespace: a statement for another program is none for this one."
    forged = one() | {f"{FIRST}.sig": sign(GPU1.open(), one()[FIRST], namespace="git")}
    yield broken("signed-for-another-program", forged, why, FIRST)
    yield indeterminate("unsigned", incident(Run(key=None)), "Nobody has signed it: anybody could have made it.", FIRST)
    why = "The last run had no key, and nothing that is signed came after it."
    yield indeterminate("unsigned-at-last", incident(Run(), Run(key=None)), why, LAST)
    why = "The log that a signed closing vouches for names another digest of what was left unsigned."
    yield broken("unsigned-then-changed", edited(covered(), FIRST, lambda said: said.update(run="run-9")), why, FIRST)


def _of_host(host: str) -> Change:
    return lambda facts: facts["incident"].update(host=host)


def _people() -> Iterator[Vector]:
    """Yield incidents that persons have signed: they finish a postmortem, and add nothing to what a host says."""
    forged = closed(edited(finished(), verdict_key(2), _worse), 2, PERSON)
    why = "The person's closing says less than the host's, and so adds nothing; but its segment of the log says more."
    yield broken("people-say-less-than-their-log", forged, why, LAST)
    at_once = logged(forged, lambda lines: _told(lines, "UNVERIFIED"), 2, PERSON)
    yield proven("people-say-less", at_once, "The person's closing says less than the host's, and so adds nothing.")
    why = "A person has signed a closing with a better verdict than the host's last one."
    run = incident(Run(denied="not permitted"), Run(key=PERSON, text="a quota that nobody had set"))
    better = edited(run, verdict_key(2), _better)
    better = logged(closed(better, 2, PERSON), lambda lines: _told(lines, "VERIFIED"), 2, PERSON)
    yield broken("people-better-the-verdict", better, why, LAST)
    why = "A person has signed a closing that names a manifest which no closing of the host does."
    yield broken("people-add-evidence", incident(Run(), Run(key=PERSON, log=LONGER)), why, LAST)
    resigned = closed(sealed(one(), by=PERSON), 1, GPU1)
    yield broken("people-sign-a-manifest", resigned, "A manifest is its host's to sign.", MANIFEST_KEY)
    why = "A person has signed the first closing: there is none of the host to which it adds nothing."
    yield broken("people-close-first", closed(one(), 1, PERSON), why, FIRST)
    why = "A person's closing covers nothing that was left unsigned: people could make a whole incident in this way."
    alone = incident(Run(key=None), Run(key=PERSON, text="a quota that nobody had set"))
    yield indeterminate("people-cover-an-unsigned-incident", alone, why, FIRST)
    why = "A record without a signature adds evidence, and a person's closing after it covers it; the host's does not."
    between = incident(Run(), Run(key=None, log=LONGER), Run(key=PERSON, text="a quota that nobody had set"))
    yield indeterminate("people-cover-unsigned-evidence", between, why, LAST)


def _worse(facts: dict[str, Any]) -> None:
    facts["verdict"].update(word="UNVERIFIED", missing=["a person doubts it"])


def _better(facts: dict[str, Any]) -> None:
    facts["verdict"].update(word="VERIFIED", missing=[])
    for item in facts["coverage"]:
        item["outcome"] = "collected"


def _told(lines: list[bytes], word: str) -> list[bytes]:
    """Return the lines of a segment, of which the entry of the verdict says this word, chained as they have to be."""
    first, said = json.loads(lines[0]), [json.loads(line) for line in lines]
    told = [{**each, "word": word} if each["action"] == "verdict" else each for each in said]
    return chain([json.dumps(each).encode() for each in told], first["prev"], first["seq"])


_neighbour = cache(lambda: incident(Run(key=GPU2), host="gpu2", before={}))
"""The incident of gpu2, of the same id, VERIFIED; both signers are allowed."""
_not_contained = cache(lambda: incident(Run(found=alive())))
"""An incident whose training still ran, and that says so: NOTCONTAINED."""


def _replayed() -> Iterator[Vector]:
    """Yield incidents into which documents of others were copied, which are signed and true elsewhere."""
    why = "The training still ran, and the record says NOTCONTAINED: the record is proven, not the evacuation."
    yield proven("not-contained", _not_contained(), why)
    why = "The record of gpu2, VERIFIED and signed by gpu2, was added to gpu1's incident, which is NOTCONTAINED."
    record = {key.replace("/001/", "/002/"): data for key, data in _neighbour().items() if "/record/" in key}
    yield broken("replayed-record-of-another-host", _not_contained() | record, why, FIRST, signers=BOTH)
    why = "The record of gpu2, VERIFIED and signed by gpu2, was put in the place of gpu1's, which is NOTCONTAINED."
    record = {key: data for key, data in _neighbour().items() if "/record/" in key}
    yield broken("replayed-record-in-the-place-of-ours", _not_contained() | record, why, MANIFEST_KEY, signers=BOTH)
    why = "The whole incident of gpu2 lies where gpu1's was: it is proven, as gpu2's, which the first line says."
    yield proven("whole-incident-of-another-host", _neighbour(), why, signers=BOTH)
    earlier = incident(Run(), opened=OPENED - timedelta(days=1))
    there = next(iter(earlier)).split("/")[1]
    why = "The closing of an earlier incident of the same host was added as the last record."
    record = {
        key.replace(there, ID).replace("/001/", "/002/"): data for key, data in earlier.items() if "/record/" in key
    }
    yield broken("replayed-record-of-an-earlier-incident", _not_contained() | record, why, LAST)
    why = "The incident's own first record, VERIFIED, was copied behind a second, which is NOTCONTAINED."
    again = incident(Run(), Run(found=alive()))
    record = {key.replace("/001/", "/003/"): data for key, data in again.items() if "/record/001/" in key}
    yield broken("replayed-record-of-its-own", again | record, why, closing_key(3))
    why = "The claim is that of another host."
    yield broken("replayed-claim", one() | {CLAIM: _neighbour()[CLAIM]}, why, CLAIM)


def _claiming() -> Iterator[Vector]:
    """Yield records that their host has signed and that claim more than their own facts show."""
    told: dict[str, tuple[Change, str]] = {
        "lost-evidence": (_lose, "needed logs were denied"),
        "something-alive": (lambda facts: facts["containment"].update(alive=["training 7"]), "something still runs"),
        "nothing-paused": (lambda facts: facts.update(pause=None), "Prefect's launchers were not paused"),
        "no-receipts": (lambda facts: facts.update(objects=[]), "no object was proven to be in the store"),
        "one-receipt-less": (lambda facts: facts["objects"].pop(0), "one object has no receipt"),
        "unproven-object": (lambda facts: facts["objects"][0].update(proven=False), "one object was not proven"),
        "something-missing": (lambda facts: facts["verdict"].update(missing=["logs"]), "it names what is missing"),
        "attempt-left-out": (lambda facts: facts["coverage"].pop(0), "it leaves out an attempt that was sealed"),
        "attempt-not-needed": (
            lambda facts: facts["coverage"][0].update(needed=False),
            "it tells an attempt otherwise than the sealed coverage.json",
        ),
        "ghost-file": (_ghost, "it counts a file that no manifest names"),
    }
    for name, (change, what) in told.items():
        why = f"The host has signed VERIFIED over facts that do not show it: {what}."
        yield broken(f"claims-over-{name}", judged(one(), change), why, verdict_key())
    why = (
        "The sealed coverage says that models were denied; the host says that a later attempt, never sealed, got them."
    )
    yield broken("claims-over-unsealed-attempt", _unsealed(), why, verdict_key())
    why = "The closing says VERIFIED and the verdict beside it PARTIAL."
    better = closed(partial(), change=lambda said: said.update(verdict="VERIFIED"))
    yield broken("closing-better-than-its-verdict", better, why, FIRST)
    why = "The verdict is worse than its facts: a step may have failed without a receipt."
    worse = logged(edited(one(), verdict_key(), _worse), lambda lines: _told(lines, "UNVERIFIED"))
    yield proven("claims-less-than-its-facts", worse, why)


def _lose(facts: dict[str, Any]) -> None:
    facts["coverage"][0].update(outcome="denied", reason="not permitted")


def _ghost(facts: dict[str, Any]) -> None:
    file = {"stored": "logs/ghost.log", "source": "", "size": 0, "sha256": "0" * 64}
    facts["coverage"][0]["files"].append(file)


def _unsealed() -> Objects:
    """Say of what was lost that a later attempt, in a folder that nobody has sealed, has collected it."""

    def change(facts: dict[str, Any]) -> None:
        facts["verdict"].update(word="VERIFIED", missing=[])
        file = {"stored": "models/model_a.joblib", "source": "", "size": 8, "sha256": "0" * 64}
        facts["coverage"][1].update(outcome="collected", reason="", volume=2, files=[file])

    return logged(edited(partial(), verdict_key(), change), lambda lines: _told(lines, "VERIFIED"))


def _contradicting() -> Iterator[Vector]:
    """Yield documents that their host has signed and that contradict each other, or are of another form."""
    why = "Two closings name different digests of one manifest."
    other = closed(two(), 2, change=lambda said: said["manifests"].update({"evidence/manifest.json": "0" * 64}))
    yield broken("two-closings-of-one-manifest", other, why, MANIFEST_KEY)
    told: dict[str, tuple[Change, str]] = {
        "of-another-incident": (lambda said: said.update(incident="IR-20260101T000000Z"), "It is of another incident."),
        "of-another-record": (lambda said: said.update(record=2), "It says that it is another record."),
        "of-another-run": (lambda said: said.update(run="run-2"), "It is of another run than its verdict."),
        "without-verdict": (lambda said: said["files"].pop("verdict.json"), "It does not vouch for its verdict."),
        "without-log": (lambda said: said["files"].pop("custody.jsonl"), "It does not vouch for its log."),
        "of-no-manifest": (
            lambda said: said["manifests"].update({"x/manifest.json": "0" * 64}),
            "It vouches for what is no manifest.",
        ),
        "of-a-path-outside": (lambda said: said["files"].update({"../x": "0" * 64}), "It names a path outside."),
        "of-no-digest": (lambda said: said["files"].update({"verdict.json": "abc"}), "A digest is none."),
    }
    for name, (change, why) in told.items():
        yield broken(f"closing-{name}", closed(one(), change=change), why, FIRST)
    of_manifest: dict[str, tuple[Change, str]] = {
        "of-another-incident": (lambda said: said.update(incident="IR-20260101T000000Z"), "It is of another incident."),
        "of-another-folder": (lambda said: said.update(volume=2), "It is that of another evidence folder."),
        "of-another-host": (lambda said: said.update(host="gpu2"), "It is of another host than the closing."),
        "of-unsorted-items": (lambda said: said["items"].reverse(), "Its items are not sorted by their paths."),
        "of-a-file-twice": (lambda said: said["items"].insert(0, said["items"][0]), "It names a file twice."),
        "with-another-field": (lambda said: said.update(zone="UTC"), "It has a field that no manifest has."),
    }
    for name, (change, why) in of_manifest.items():
        other = resealed(edited(one(), MANIFEST_KEY, change), GPU2 if name == "of-another-host" else GPU1)
        yield broken(f"manifest-{name}", other, why, MANIFEST_KEY, signers=BOTH)
    why = "A lock was asked for, and the objects have none."
    lock = {"lock": "governance", "days": 30, "hold": False}
    unlocked = closed(one(), change=lambda said: said.update(retention=lock))
    yield indeterminate("retention-not-there", unlocked, why, CLAIM)
    why = "The verdict says that the incident is of another host than the closing does, and so would be the claim."
    yield broken("verdict-of-another-host", judged(one(), _of_host("gpu2")), why, FIRST)


def _log() -> Iterator[Vector]:
    """Yield segments of the custody log that their host has signed, and that are no chain."""
    told: dict[str, tuple[Lines, str]] = {
        "line-dropped": (lambda lines: [*lines[:2], *lines[3:]], "A line is missing."),
        "lines-swapped": (lambda lines: [lines[1], lines[0], *lines[2:]], "Two lines are exchanged."),
        "line-edited": (lambda lines: [lines[0].replace(b"root", b"toor"), *lines[1:]], "A line was changed."),
        "line-torn": (lambda lines: [*lines[:-1], lines[-1].rstrip()], "The last line has no end."),
        "begun-anew": (lambda lines: chain(lines, START, 0), "The segment begins a chain of its own."),
        "renumbered": (
            lambda lines: chain(lines, json.loads(lines[0])["prev"], 100),
            "The lines follow each other, and a number is missing.",
        ),
        "no-json": (lambda lines: [*lines, b"a line\n"], "A line is no JSON."),
        "another-verdict": (lambda lines: _told(lines, "PARTIAL"), "It tells of another verdict than the closing."),
    }
    for name, (change, why) in told.items():
        at = FIRST if name == "another-verdict" else segment_key()
        yield broken(f"log-{name}", logged(one(), change), why, at)
    why = "The clock of the host was set back between two lines: a note."
    back = logged(one(), lambda lines: appended(lines, action="note", object="", utc="2026-01-01T00:00:00+00:00"))
    yield proven("log-clock-set-back", back, why, segment_key())


_stamped = cache(lambda: incident(Run(stamped=True), Run(stamped=True)))
"""An incident of two runs, whose closings an authority has stamped."""


def _times() -> Iterator[Vector]:
    """Yield time stamps, good and bad."""
    roots, stamp = authority().roots, f"{LAST}.tsr"
    closing = _stamped()[LAST]
    at = datetime.fromisoformat(json.loads(closing)["closed_utc"])

    def later(seconds: int) -> Objects:
        return _stamped() | {stamp: authority().stamp(closing, at.replace(microsecond=0) + timedelta(seconds=seconds))}

    yield proven("stamped", _stamped(), "An authority that the auditor trusts has stamped both closings.", roots=roots)
    why = "Clocks may differ a little: the stamp is from 29 s before the closing's own time."
    yield proven("stamped-29-s-before", later(-29), why, roots=roots)
    yield proven("stamped-599-s-after", later(599), "A slow store may delay it: the stamp is 599 s late.", roots=roots)
    why = "The first stamp is missing, and that of a later closing is proven."
    yield proven("stamped-but-for-the-first", without(_stamped(), f"{FIRST}.tsr"), why, FIRST, roots=roots)
    yield indeterminate("stamped-60-s-before", later(-60), "The closing is later than its stamp.", LAST, roots=roots)
    yield indeterminate("stamped-700-s-after", later(700), "The closing was seen too late.", LAST, roots=roots)
    why = "A thief of the key has backdated a closing by a year, and had it stamped today."
    old = closed(_stamped(), 2, change=lambda said: said.update(closed_utc="2025-01-02T03:04:05+00:00"))
    old |= {stamp: authority().stamp(old[LAST], at)}
    yield indeterminate("stamped-backdated", old, why, LAST, roots=roots)
    why = "The closing names an authority, and there is no stamp."
    yield indeterminate("stamp-removed", without(_stamped(), stamp), why, LAST, roots=roots)
    yield indeterminate("stamp-without-roots", _stamped(), "No roots were given: the stamp proves nothing.", stamp)
    why = "No closing names an authority, and the auditor asks for its time: a thief of the key would name none."
    yield indeterminate("stamp-never-asked-for", one(), why, FIRST, roots=roots)
    why = "It is a stamp over the other closing."
    yield broken("stamp-of-another", _stamped() | {stamp: _stamped()[f"{FIRST}.tsr"]}, why, stamp, roots=roots)
    yield broken("stamp-of-rubbish", _stamped() | {stamp: b"rubbish\n"}, "It is no time stamp.", stamp, roots=roots)
    signers = {
        "stranger": "The signer's certificate leads to a root that the auditor does not trust.",
        "expired": "The signer's certificate had expired at the stated time.",
        "web": "The signer's certificate is for a web server, and may stamp nothing.",
    }
    for name, why in signers.items():
        by = _stamped() | {stamp: authority().stamp(closing, at, signer=name)}
        yield indeterminate(f"stamp-by-{name}", by, why, stamp, roots=roots)


def _spelled() -> Iterator[Vector]:
    """Yield documents that two readers could read differently; their host has signed them."""
    verdict = '  "verdict": "VERIFIED",'
    told = {
        "name-twice": ('  "verdict": "PARTIAL",\n' + verdict, "It has a name twice: two readers may see two verdicts."),
        "no-number": (f'{verdict}\n  "weight": NaN,', "It has a number that is none in JSON."),
        "other-spaces": (f" {verdict}", "It is spelled otherwise than canonical JSON."),
    }
    for name, (text, why) in told.items():
        forged = signed(respelled(one(), FIRST, verdict, text), FIRST)
        yield broken(f"closing-with-{name}", forged, why, FIRST)
    why = "A name stands twice in the verdict, of which the closing names the digest."
    twice = respelled(one(), verdict_key(), '  "watch": null', '  "watch": null,\n  "watch": null')
    sums = digest_bytes(twice[verdict_key()])
    twice = edited(twice, FIRST, lambda said: said["files"].update({"verdict.json": sums}))
    yield broken("verdict-with-name-twice", signed(twice, FIRST), why, verdict_key())
    why = "A name stands twice in an item of the manifest."
    twice = respelled(one(), MANIFEST_KEY, '      "bytes"', '      "bytes": 1,\n      "bytes"')
    yield broken("manifest-with-name-twice", resealed(twice), why, MANIFEST_KEY)
    why = "The sealed coverage is no JSON, whatever its digest is."
    yield broken("coverage-of-rubbish", sealed(one(), contents={"coverage.json": b"rubbish\n"}), why, COVERAGE_KEY)
    why = "Nothing but what is written is read: the closing is an empty list, signed."
    yield broken("closing-of-a-list", signed(one() | {FIRST: canonical([])}, FIRST), why, FIRST)


def _statements() -> Iterator[Vector]:
    """Yield the statement beside a verdict, which other tools read, with other words."""
    key, verdict = f"{HOME}/record/001/{STATEMENT}", json.loads(partial()[verdict_key()])["verdict"]
    said = json.loads(partial()[FIRST])
    better = Verdict(Word.VERIFIED, (), tuple(verdict["missing"]), (), "")
    about = (ID, Origin("gpu1", "train", PLACE), 1)
    green = statement(*about, better, said["files"]["verdict.json"], said["manifests"])
    why = "The statement says VERIFIED, signed by the host and named by the closing; the verdict says PARTIAL."
    yield broken("statement-better-than-the-verdict", _stating(partial(), GPU1.envelop(green)), why, key)
    why = "The statement is signed by another key than the closing names."
    right = statement(*about, replace(better, word=Word.PARTIAL), said["files"]["verdict.json"], said["manifests"])
    yield broken("statement-by-another-key", _stating(partial(), MALLORY.envelop(right)), why, key)
    yield broken("statement-changed", changed(one(), key), "The closing names another digest of it.", key)
    yield broken("statement-removed", without(one(), key), "The closing names it, and it is gone.", key)
    why = "A record of a release that made no statements: the closing names none."
    older = without(closed(one(), change=lambda told: told["files"].pop(STATEMENT)), key)
    yield proven("statement-never-made", older, why)
    why = "The closing names no statement, and somebody has put one there: nobody vouches for it."
    yield proven("planted-statement", older | {key: MALLORY.envelop(green)}, why, key)


def _stating(objects: Objects, envelope: bytes) -> Objects:
    """Put a statement in the place of the one that the closing names, and sign that again."""
    objects = edited(objects, FIRST, lambda said: said["files"].update({STATEMENT: digest_bytes(envelope)}))
    return signed(objects | {f"{HOME}/record/001/{STATEMENT}": envelope}, FIRST)


_of_two_keys = cache(lambda: incident(Run(), Run(key=SECOND)))
"""An incident whose second run another key of the same host has signed, which no file names."""


def _rotation(by: SigningKey, following: SigningKey, at: datetime, name: str = "1", host: str = "gpu1") -> Objects:
    """Close a key that names the next one of a host."""
    key = f"rotations/{host}/{name}/closing.json"
    said = {"closed_utc": at.isoformat(), "host": host, "next_key": following.public_key}
    return signed({key: canonical(said)}, key, by)


def _rotated() -> Iterator[Vector]:
    """Yield incidents whose second closing is signed by a key that a closing of a key names, or does not."""
    objects, key = _of_two_keys(), "rotations/gpu1/1/closing.json"
    at = datetime.fromisoformat(json.loads(objects[FIRST])["closed_utc"])
    why = "The host's old key has named the new one, before that signed."
    yield proven("rotated", objects | _rotation(GPU1, SECOND, at), why, key)
    third = key_of("evacuation@gpu1", "third")
    why = "The old key has named another, and that one the new one: both closings are believed, in their order."
    chained = _rotation(GPU1, third, at) | _rotation(third, SECOND, at + timedelta(milliseconds=1), "0")
    yield proven("rotated-twice", objects | chained, why, key)
    why = "The key of the second closing is one that nothing names."
    yield broken("rotated-by-nothing", objects, why, LAST)
    told = {
        "nobody-known": (_rotation(MALLORY, SECOND, at), "A key that the file does not name has named the new one."),
        "another-host": (_rotation(GPU2, SECOND, at), "Another host's key has named the new one."),
        "a-person": (_rotation(PERSON, SECOND, at), "A person's key has named the new one."),
        "itself": (_rotation(SECOND, SECOND, at), "The new key has named itself."),
        "another-host-for-itself": (_rotation(GPU2, SECOND, at, host="gpu2"), "It is the next key of another host."),
        "an-unsigned-closing": (
            without(_rotation(GPU1, SECOND, at), f"{key}.sig"),
            "The closing of the key is unsigned.",
        ),
        "a-later-closing": (
            _rotation(GPU1, SECOND, at + timedelta(hours=1)),
            "The key has signed before it was named.",
        ),
    }
    for name, (rotation, why) in told.items():
        yield broken(f"rotated-by-{name}", objects | rotation, why, LAST, signers=BOTH)
    why = "Somebody has added a closing of a key that is none: a note, and nothing rests on it."
    yield proven("planted-rotation", one() | {key: b"rubbish\n"}, why, key)


def _revoked() -> Iterator[Vector]:
    """Yield incidents whose key was stolen, by the auditor's file, from a time on."""
    roots, person = authority().roots, f"{PERSON.allowed_signers}\n"
    closing = _stamped()[LAST]
    at = datetime.fromisoformat(json.loads(closing)["closed_utc"]).replace(microsecond=0)

    def until(seconds: int) -> str:
        date = f"{at + timedelta(seconds=seconds):%Y%m%d%H%M%SZ}"
        return _line("evacuation@gpu1", f'namespaces="evacuation",valid-before="{date}"') + person

    why = "The key was revoked a day later; an authority's stamps are older, and cover the manifest: it stays."
    yield proven("revoked-later", _stamped(), why, MANIFEST_KEY, signers=until(86_400), roots=roots)
    why = "The key was revoked a day later, and no stamp proves that the documents are older."
    yield indeterminate("revoked-and-never-stamped", one(), why, FIRST, signers=until(86_400))
    why = "The key was revoked a day later, and no roots are given, so no stamp is proven."
    yield indeterminate("revoked-without-roots", _stamped(), why, LAST, signers=until(86_400))
    why = "The key was revoked before an authority saw the closing: a thief may have dated it back."
    late = _stamped() | {f"{LAST}.tsr": authority().stamp(closing, at + timedelta(seconds=500))}
    yield indeterminate("revoked-before-it-was-seen", late, why, LAST, signers=until(60), roots=roots)
    why = "The key was revoked before the documents' own time."
    yield broken("revoked-before", _stamped(), why, LAST, signers=until(-3600), roots=roots)
    why = "The key was revoked in one line, and another allows it for the same host."
    yield proven("revoked-but-for-another-line", one(), why, signers=until(86_400) + _line("evacuation@*"))
    why = "The old key was revoked, and nothing proves that it named the new one before: that one is nobody's."
    named_at = datetime.fromisoformat(json.loads(_of_two_keys()[FIRST])["closed_utc"])
    objects = _of_two_keys() | _rotation(GPU1, SECOND, named_at)
    yield broken("revoked-and-rotated-unseen", objects, why, LAST, signers=until(86_400), roots=roots)
