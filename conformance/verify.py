#!/usr/bin/env python3
"""Prove an incident or a fleet from a copy of its store: a second verifier, written from docs/audit.md alone.

BUNDLE is a folder with the objects of a store by key. The first line begins with the word, the others are findings.
It needs Python's standard library, ssh-keygen, and for time stamps openssl. Rules are those of docs/audit.md.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

Document = dict[str, Any]
WORDS: Final = {"broken": ("BROKEN", 11), "open": ("INDETERMINATE", 12), "unsent": ("UNFINISHED", 23)}
RANKS: Final = ("VERIFIED", "PARTIAL", "UNANSWERED", "UNVERIFIED", "NOTCONTAINED", "THAWED")
EARLIEST, LATEST = timedelta(seconds=-30), timedelta(seconds=600)
UNSENT: Final = ("UNVERIFIED", "NOTCONTAINED")
MALFORMED: Final = (KeyError, TypeError, ValueError, AttributeError)
ATTEMPT: Final = ("collector", "volume", "outcome", "needed", "may_be_missing")
ED25519: Final = bytes.fromhex("302a300506032b6570032100")
MANIFEST: Final = {"folders", "generated_utc", "host", "incident", "items", "place", "volume", "workload"}


def run(program: str, *paths: str | Path, data: bytes = b"") -> str:
    """Return what a program prints if it ends well, else nothing."""
    done = subprocess.run([*program.split(), *paths], input=data, capture_output=True, check=False)
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


def written(document: Document) -> bytes:
    """Return a document as it is written: keys sorted, indented by 2, ASCII."""
    return (json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def digest(content: bytes) -> str:
    """Return the SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


class Audit:
    """One incident or fleet of a bundle, and what was found."""

    def __init__(self, bundle: Path, ident: str, signers: Path | None, roots: Path | None) -> None:
        """List the bundle. No link in it is followed, so no key leads out of it."""
        paths = (path for path in sorted(bundle.rglob("*")) if path.is_file() and not path.is_symlink())
        self.files = {str(path.relative_to(bundle)): path for path in paths}
        self.ident, self.signers, self.roots = ident, signers, roots
        self.home = f"{'fleets' if ident.startswith('FL-') else 'incidents'}/{ident}/"
        self.snapshot = f"snapshots/{ident.removeprefix('IR-')}"
        self.findings, self.named, self.at = list[tuple[str, str, str]](), set[str](), self.home
        self.last, self.receipts, self.sealed = Document(), dict[str, Document](), dict[str, dict[str, str]]()

    def check(self, holds: object, key: str, text: str, kind: str = "broken") -> None:
        """Keep a finding (broken, open, unsent or note) unless this holds."""
        if not holds:
            self.findings.append((kind, key, text))

    def load(self, key: str) -> Document:
        """Return a document, an empty one if it is not there or not written as a document is."""
        try:
            data = self.files[key].read_bytes()
            document = dict(json.loads(data))
            return document if written(document) == data else {}
        except MALFORMED:
            return {}

    def log(self, key: str) -> list[tuple[bytes, Document]]:
        """Return the lines of a segment of the custody log, and what they say."""
        self.at = key
        lines = self.files[key].read_bytes().splitlines(keepends=True) if key in self.files else []
        self.check(all(line.endswith(b"\n") for line in lines), key, "its last line is torn")
        return [(line, json.loads(line)) for line in lines]

    def sha256(self, key: str) -> str:
        """Return the digest of an object, nothing if it is not there."""
        if key not in self.files:
            return ""
        with self.files[key].open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def find(self, pattern: str) -> list[str]:
        """Return the keys of the incident that match, in the order of their numbers."""
        keys = [key for key in self.files if re.fullmatch(re.escape(self.home) + pattern, key)]
        return sorted(keys, key=lambda key: [int(each) for each in re.findall(r"\d+", key.removeprefix(self.home))])

    def expect(self, names: dict[str, str], by: str) -> None:
        """Compare objects with the digests by which a document names them (rules 9 and 10)."""
        self.named |= names.keys()
        for key, sha256 in names.items():
            got, receipt = self.sha256(key), self.receipts.get(key, {})
            if got != sha256 and receipt.get("beside") and receipt["sha256"] == sha256:
                self.check(False, key, "other content lies here, as the record says; what was sealed is beside", "note")
                self.expect({receipt["beside"]: sha256}, by)
                continue
            sent = receipt.get("proven") or "/record/" in key or self.last["verdict"] not in UNSENT
            kind = "broken" if got else "note" if receipt.get("lost") else "broken" if sent else "unsent"
            self.check(got == sha256, key, f"{by} names {sha256}; got {got or 'no object'}", kind)

    def signer(self, key: str, document: Document, when: datetime | None = None) -> str:
        """Return who has signed: host, people, nobody, stranger; unknown without --signers (rules 1 to 3).

        A key that was allowed at that time and is not any more, in the far future, is "host revoked".
        """
        self.at, signature = key, self.files.get(f"{key}.sig")
        if signature is None:
            return "nobody"
        data, time = self.files[key].read_bytes(), document.get("closed_utc") or document.get("generated_utc") or ""
        if not self.signers or not time:
            fits = not self.signers and run("ssh-keygen -Y check-novalidate -n evacuation -s", signature, data=data)
            return "unknown" if fits else "stranger"
        at = f"-Overify-time={when or datetime.fromisoformat(time).astimezone(UTC):%Y%m%d%H%M%SZ}"
        paths, who = ("-f", self.signers, "-s", signature), f"evacuation@{document['host']}"
        said = run("ssh-keygen -Y verify -n evacuation", at, "-I", who, *paths, data=data)
        if not said and "/closing.json" in key:
            for who in re.findall(r"people@[^,\n]*", run("ssh-keygen -Y find-principals", *paths)):
                said = said or run("ssh-keygen -Y verify -n evacuation", at, "-I", who, *paths, data=data)
        named = (document.get("signer") or {}).get("fingerprint", "")
        if not said or not said.strip().endswith(named):
            return "stranger"
        lasting = run("ssh-keygen -Y verify -n evacuation -Overify-time=99991231235959Z -I", who, *paths, data=data)
        return who.split("@")[0].replace("evacuation", "host") + ("" if lasting else " revoked")

    def older(self, key: str, document: Document, seen: list[datetime]) -> bool:
        """Return whether what a revoked key has signed was seen before that ("Revocation")."""
        return bool(seen) and self.signer(key, document, min(seen)) != "stranger"

    def rotate(self, allowed: Path, prefixes: set[str]) -> None:
        """Add to a copy of the auditor's file the keys that closings of keys name ("Rotation")."""
        text = self.signers.read_text() if self.signers else ""
        allowed.write_text(text)
        self.signers = allowed if self.signers else None
        keys = {
            k for k in self.files for p in prefixes if re.fullmatch(rf"{re.escape(p)}rotations/.+/closing\.json", k)
        }
        zoned, found = re.compile(r"T.*([+-]\d\d:\d\d|Z)$"), {key: self.load(key) for key in keys}
        found = {key: each for key, each in found.items() if zoned.search(each.get("closed_utc", ""))}
        for key in sorted(found, key=lambda each: (datetime.fromisoformat(found[each]["closed_utc"]), each)):
            host, following = found[key].get("host", ""), found[key].get("next_key", "")
            is_key = re.fullmatch(r"\S+ [\w+/=]+( .*)?", following, re.ASCII)
            whole = re.fullmatch(r"[\w.-]+", host, re.ASCII) and is_key
            who, seen = self.signer(key, found[key]), self.seen(f"{key}.sig") if whole else None
            old = who == "host revoked" and self.older(key, found[key], [seen] if seen else [])
            good = whole and following.split()[1] not in text and (who == "host" or old)
            since = datetime.fromisoformat(found[key]["closed_utc"]).astimezone(UTC)
            line = f'\nevacuation@{host} namespaces="evacuation",valid-after="{since:%Y%m%d%H%M%SZ}" {following}\n'
            allowed.write_text(allowed.read_text() + (line if good else ""))
            self.check(False, key, f"it {'names' if good else 'is not believed, and names'} {following}", "note")

    def origin(self, key: str) -> Document:
        """Return what a manifest or a closing has to say of itself (rule 4)."""
        number = int((re.findall(r"\d+", key.removeprefix(self.home)) or ["1"])[0])
        kind = {"record" if "/record/" in key else "volume": number}
        if self.home.startswith("fleets"):
            return {"fleet": self.ident, **kind}
        return {"incident": self.ident, "host": self.last.get("host"), "workload": self.last.get("workload"), **kind}

    def closings(self) -> dict[str, Document]:
        """Return all closings. A record without one, or a number that is missing, is open (rule 11)."""
        closings = {key: self.load(key) for key in self.find(r"record/\d+/closing\.json")}
        for number in range(1, max((int(key.split("/")[3]) for key in self.find(r"record/\d+/.*")), default=1) + 1):
            key = f"{self.home}record/{number:03}/closing.json"
            self.check(key in closings, key, "no closing: its run died, or somebody removed it", "open")
        self.last = list(closings.values())[-1] if closings else {}
        return closings

    def incident(self) -> None:  # noqa: C901  one part after the other
        """Prove an incident: load its documents, then try each rule (rules 4, 5, 11 and 16)."""
        closings, named = self.closings(), set[str]()
        if not closings:
            return
        who = {key: self.signer(key, closing) for key, closing in closings.items()}
        for key, closing in closings.items():
            self.at, named = key, named | {self.home + name for name in closing["manifests"]}
            verdict = self.load(key.replace("closing", "verdict"))
            self.receipts |= {receipt["key"]: receipt for receipt in verdict.get("objects", [])}
        manifests = {key: self.load(key) for key in self.find(r"evidence(\.\d+)?/manifest\.json")}
        for key, manifest in list(manifests.items()):
            ours = key in named or {**self.origin(key), "place": self.last.get("place")}.items() <= manifest.items()
            who[key] = self.signer(key, manifest) if ours else "stranger"
            host = who[key].startswith("host")
            self.check(key in named, key, "no closing names it", "open" if host else "note")
            if key not in named and not host:
                del manifests[key], who[key]
        for key, document in {**manifests, **closings}.items():
            self.at, same = key, self.origin(key).items() <= document.items()
            self.check(same, key, "another incident, host, workload or number than its own")
            self.check(document["place"] == self.last["place"], key, f"made for {document['place']}", "note")
            self.named |= {key, f"{key}.sig"}
        for key, manifest in manifests.items():
            self.manifest(key, manifest)
        for key, closing in closings.items():
            self.closing(key, closing)
        self.revoked(who, manifests, closings)
        before = Document(manifests=None, verdict="THAWED")
        for key, closing in closings.items():
            better = RANKS.index(closing["verdict"]) < RANKS.index(before["verdict"])
            more = closing["manifests"] != before["manifests"] or better
            self.check(who[key] != "people" or not more, key, "people have signed more than the host's last closing")
            before = before if who[key] == "people" else closing
        covered = self.covers([key for key in closings if who[key] == "host"], closings, {"unsigned"})
        for key in [key for key, signer in who.items() if signer not in {"host", "people"}]:
            kind = "note" if key in covered else "broken" if who[key] == "stranger" else "open"
            self.check(False, key, f"signed by: {who[key]}", kind)
        self.chain([key.replace("manifest.json", "custody.jsonl") for key in named | manifests.keys()])
        self.times(closings)
        for key in sorted(self.files.keys() - self.named):
            if key.startswith((self.home, f"{self.snapshot}/", f"{self.snapshot}.")):
                self.check(False, key, "no document names it", "note")
            if re.fullmatch(r"promotions/\d+/begun\.json", key):
                other = self.load(key).get("incident") != self.ident
                self.check(other, key, "no record tells of this turn of latest/", "open")

    def manifest(self, key: str, manifest: Document) -> None:
        """Compare what a manifest names: evidence, SHA256SUMS and the snapshot (rule 8)."""
        self.at, items = key, {item["path"]: item["sha256"] for item in manifest["items"]}
        folder, paths = key.removesuffix("manifest.json"), [item["path"] for item in manifest["items"]]
        self.check(paths == sorted(items) and manifest.keys() <= MANIFEST, key, "items not sorted, or another field")
        snapshot = self.snapshot + folder.removeprefix(f"{self.home}evidence")
        folders = ("models/", "artifacts/", "logs/", *(f"{each}/" for each in manifest.get("folders", [])))
        lines = [f"{sha256}  {path}\n" for path, sha256 in sorted({**items, "manifest.json": self.sha256(key)}.items())]
        names = {key: self.sha256(key), f"{folder}SHA256SUMS": digest("".join(lines).encode())}
        names |= {folder + path: sha256 for path, sha256 in items.items()}
        names |= {snapshot + path: sha256 for path, sha256 in items.items() if path.startswith(folders)}
        self.sealed[key] = names
        self.expect(names, key)

    def closing(self, key: str, closing: Document) -> None:
        """Compare what a closing names, and judge its verdict (rules 8 and 12)."""
        folder, records = key.removesuffix("closing.json"), f"{self.home}record/"
        self.expect({folder + name: sha256 for name, sha256 in closing["files"].items()}, key)
        self.expect({records + name: sha256 for name, sha256 in closing.get("postmortem", {}).items()}, key)
        self.expect({self.home + name: sha256 for name, sha256 in closing["manifests"].items()}, key)
        asked = closing.get("retention") or {"lock": "", "hold": False}
        self.check(not asked["lock"] and not asked["hold"], key, "a lock was asked for, which no copy shows", "open")
        words = [each["word"] for _, each in self.log(f"{folder}custody.jsonl") if each["action"] == "verdict"]
        named = words[-1:] == [closing["verdict"]] and {"custody.jsonl", "verdict.json"} <= closing["files"].keys()
        self.check(named, key, f"it does not name its log and verdict, or the log has another: {words}")
        self.judge(f"{folder}verdict.json", key, closing)

    def judge(self, key: str, by: str, closing: Document) -> None:
        """Judge a verdict again from its facts and compare its turn of latest/ (rules 8 and 12 to 15)."""
        self.at, verdict, word = key, self.load(key), closing["verdict"]
        about = verdict["incident"]
        origin = {"incident": about["id"], "place": verdict["place"], **{k: about[k] for k in ("host", "workload")}}
        same = {**origin, "run": verdict["run"], "verdict": verdict["verdict"]["word"]}.items() <= closing.items()
        self.check(same, by, "another incident, host, workload, place, run or verdict than its verdict.json")
        if (statement := key.replace("verdict.json", "verdict.intoto.json")) in self.named:
            self.statement(statement, closing, verdict["verdict"]["missing"])
        promotion = verdict["promotion"] or {"objects": [], "turn": None}
        if turn := promotion["turn"]:
            names = {f"promotions/{turn['number']:06}/{each}.json": turn[each] for each in ("begun", "done")}
            self.expect({**names, **turn["kept"]}, key)
        for each in promotion["objects"]:
            self.check(self.sha256(each["key"]) == each["sha256"], each["key"], "changed since it was promoted", "note")
        every = [*verdict["objects"], *promotion["objects"]]
        receipts = {each["key"]: each["sha256"] for each in every if each["proven"] or each["lost"] or each["beside"]}
        claim = {f"{self.home}claim.json": digest(written({**origin, **{k: about[k] for k in ("boot", "opened_at")}}))}
        wanted = dict(claim) if verdict["place"] == self.last["place"] else {}
        wanted |= {name: sha256 for name, sha256 in receipts.items() if name.endswith("/manifest.json.sig")}
        self.expect(wanted, key)
        wanted |= claim
        attempts, sealed = {each["collector"]: each for each in verdict["coverage"]}, list[Document]()
        for name in [self.home + name for name in closing["manifests"]]:
            wanted |= self.sealed.get(name, {})
            self.at = name.replace("manifest", "coverage")
            sealed += self.load(self.at)["attempts"] if self.at in self.files else []
        alike = [tuple(each[name] for name in ATTEMPT) for each in sealed]
        for each in sealed:
            mine = {"volume": 0, **attempts.get(each["collector"], {})}
            same = mine["volume"] > each["volume"] or tuple(mine.get(name) for name in ATTEMPT) in alike
            self.check(same, key, f"it leaves out or changes the sealed attempt of {each['collector']}")
        for each in attempts.values() if word not in UNSENT else ():
            folder = f"{self.home}evidence.{each['volume']}/".replace("evidence.1/", "evidence/")
            there = all(wanted.get(folder + file["stored"]) == file["sha256"] for file in each["files"])
            same = there and tuple(each[name] for name in ATTEMPT) in alike
            self.check(same, key, f"not sealed like that: the attempt of {each['collector']}")
        missing = [name for name, sha256 in wanted.items() if receipts.get(name) != sha256]
        contained, tried, pause = verdict["containment"], verdict["challenge"], verdict["pause"]
        quiet = contained and contained["cordoned"] and not contained["alive"]
        still = pause and all(each["paused"] for each in pause["states"])
        caught = not tried or tried["caught"] or tried["skipped"]
        lost = {(each["outcome"], each["may_be_missing"]) for each in attempts.values() if each["needed"]}
        lost = {pair for pair in lost if pair[0] not in {"collected", "empty", "withheld"}} - {("missing", True)}
        less = lost or any(each["lost"] or each["beside"] for each in every)
        facts = {
            "NOTCONTAINED": not (quiet and still and caught) or (verdict["watch"] or {}).get("standing"),
            "UNVERIFIED": missing or not all(each["key"] in receipts for each in every),
            "UNANSWERED": contained and contained["unknown"],
            "PARTIAL": less or verdict["verdict"]["missing"] or not attempts,
        }
        worst = next((each for each, holds in facts.items() if holds), "VERIFIED")
        self.check(RANKS.index(word) >= RANKS.index(worst), key, f"its facts give {worst}, not {word} {missing[:3]}")

    def statement(self, key: str, closing: Document, missing: list[str]) -> None:
        """Compare the in-toto statement beside a verdict, in a DSSE envelope (rule 18)."""
        self.at, names = key, ("incident", "host", "workload", "place", "record", "verdict")
        verdict = key.removeprefix(self.home).replace("intoto.", "")
        subjects = sorted({**closing["manifests"], verdict: closing["files"]["verdict.json"]}.items())
        body = written({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": name, "digest": {"sha256": sha256}} for name, sha256 in subjects],
            "predicateType": "urn:evacuation:verdict:v1",
            "predicate": {**{name: closing[name] for name in names}, "missing": missing},
        })  # fmt: skip
        envelope, kind = self.load(key), b"application/vnd.in-toto+json"
        (each,) = envelope["signatures"]
        same = (envelope["payload"], envelope["payloadType"]) == (b64encode(body).decode(), kind.decode())
        with TemporaryDirectory() as folder:
            public, signed, signature = Path(folder, "public"), Path(folder, "signed"), Path(folder, "signature")
            public.write_bytes(ED25519 + b64decode(closing["signer"]["public_key"].split()[1])[-32:])
            signed.write_bytes(b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(body), body))
            signature.write_bytes(b64decode(each["sig"]))
            check = "openssl pkeyutl -verify -pubin -keyform DER -rawin -inkey"
            good = run(check, public, "-in", signed, "-sigfile", signature)
        self.check(same and good, key, "it is not what follows from closing and verdict, signed by the closing's key")

    def covers(self, vouching: list[str], closings: dict[str, Document], actions: set[str]) -> set[str]:
        """Return what closings cover by such lines of the log, and what that covers (rule 6)."""
        covered = set(vouching)
        for key in vouching:
            names = {self.home + name: sha256 for name, sha256 in closings[key]["manifests"].items()}
            logs = {re.sub(r"[a-z]+\.json$", "custody.jsonl", each) for each in (key, *names)} & self.named
            left = [entry for log in logs for _, entry in self.log(log) if entry["action"] in actions]
            said = {self.home + entry["object"]: entry["digest"] for entry in left}
            said |= names if "signed" in actions else {}
            covered |= {name for name, sha256 in said.items() if self.sha256(name) == sha256}
            vouching += sorted((covered & closings.keys()) - set(vouching))
        return covered

    def revoked(self, who: dict[str, str], manifests: dict[str, Document], closings: dict[str, Document]) -> None:
        """Find when what a revoked key has signed was seen ("Revocation"). What was not vouches for nothing."""
        times = {key: time for key in closings if (time := self.seen(key))}
        covers = {key: self.covers([key], closings, {"signed", "unsigned"}) for key in times}
        for key in [key for key, signer in who.items() if signer.endswith(" revoked")]:
            seen = [time for closing, time in times.items() if key in covers[closing]]
            old = self.older(key, {**manifests, **closings}[key], seen)
            self.check(False, key, f"its key was revoked; seen: {min(seen, default=None)}", "note" if old else "open")
            who[key] = who[key].removesuffix(" revoked") if old else "revoked"

    def chain(self, volumes: list[str]) -> None:
        """Walk the custody log over all its segments (rule 7)."""
        logs = [*self.find(r"record/\d+/custody\.jsonl"), *volumes]
        segments = sorted((lines[0][1]["seq"], key, lines) for key in logs if (lines := self.log(key)))
        kind = "unsent" if set(logs) - self.files.keys() and self.last["verdict"] in UNSENT else "broken"
        number, head = 0, "0" * 64
        for _, key, lines in segments:
            for line, entry in lines:
                if (entry["seq"], entry["prev"]) != (number, head):
                    return self.check(False, key, f"the custody log is broken at line {number}", kind)
                number, head = number + 1, digest(line)
        return None

    def times(self, closings: dict[str, Document]) -> None:
        """Prove the time stamps of the closings, the last one first (rule 17)."""
        later = False
        for key, closing in reversed(closings.items()):
            if not closing.get("timestamp_url") and not self.roots:
                continue
            self.named |= {f"{key}.tsr", key.replace("closing", "unstamped")}
            at, stamp = datetime.fromisoformat(closing["closed_utc"]), self.files.get(f"{key}.tsr")
            seen = self.seen(key)
            good = seen and EARLIEST <= seen - at <= LATEST
            later |= bool(good)
            other = stamp and not (self.stamp(key) and bytes.fromhex(self.sha256(key)) in stamp.read_bytes())
            kind = "broken" if other else "note" if good or (later and not stamp) else "open"
            self.check(False, f"{key}.tsr", f"time vouched for: {seen}", kind)

    def stamp(self, key: str) -> datetime | None:
        """Return the time that the stamp of an object states."""
        text = run("openssl ts -reply -text -in", self.files.get(f"{key}.tsr", "/dev/null"))
        said = re.search(r"^Time stamp: (\w+ +\d+ [\d:]+)\S* (\d+) GMT$", text, re.MULTILINE)
        return datetime.strptime(f"{said[1]} {said[2]} Z", "%b %d %H:%M:%S %Y %z").replace(tzinfo=UTC) if said else None

    def seen(self, key: str) -> datetime | None:
        """Return the time that the stamp of an object proves, however late."""
        if not self.roots or not (at := self.stamp(key)):
            return None
        paths = (self.files[key], "-in", self.files[f"{key}.tsr"], "-CAfile", self.roots)
        return at if run("openssl ts -verify -data", *paths, "-attime", str(int(at.timestamp()))) else None

    def fleet(self) -> None:
        """Prove a fleet (the rules of a fleet)."""
        closings = self.closings()
        for key, closing in closings.items():
            self.vouched(key, closing)
            self.check(self.origin(key).items() <= closing.items(), key, "another fleet or number than its own")
            files = {key.replace("closing.json", name): sha256 for name, sha256 in closing["files"].items()}
            self.expect({**files, f"{self.home}targets.json": closing["targets"]}, key)
        self.times(closings)
        for key in self.find(".*") if closings else []:
            self.check(key in self.named, key, "no document names it", "note")
        if closings:
            self.at = list(closings)[-1].replace("closing", "hosts")
            self.lines(self.at, self.load(self.at)["hosts"])

    def vouched(self, key: str, document: Document) -> None:
        """Find who has signed a document of a fleet or of one of its hosts."""
        self.named |= {key, f"{key}.sig"}
        who, seen = self.signer(key, document), self.seen(key)
        who = "host" if who == "host revoked" and self.older(key, document, [seen] if seen else []) else who
        kind = "broken" if who == "stranger" or (who == "people" and key.startswith(self.home)) else "open"
        self.check(who == "host", key, f"signed by: {who}", kind)

    def lines(self, by: str, lines: list[Document]) -> None:
        """Compare the lines of a fleet's last record with its frozen list, its verdict and its hosts."""
        names = [each["name"] for each in self.load(f"{self.home}targets.json")["hosts"]]
        self.check(sorted(names) == sorted(line["host"] for line in lines), by, "not the hosts of the list")
        closed = [line for line in lines if line["closing"]]
        keys = {(line["beneath"], line["closing"]["key"]) for line in closed}
        self.check(len(keys) == len(closed), by, "two lines of one incident")
        green = [line for line in lines if line["end"] == "Verified"]
        good = all(line in closed and line["closing"]["verdict"] == "VERIFIED" for line in green)
        good = good and (self.last["verdict"] != "Verified" or len(green) == len(lines))
        self.check(good, by, "the verdict does not follow from the lines, or a line not from its closing")
        for line in closed:
            if line["beneath"] is None:
                self.check(False, line["closing"]["key"], f"{line['host']} lies in another bucket", "open")
                continue
            beneath = f"{line['beneath']}/".lstrip("/")
            key = beneath + line["closing"]["key"]
            wanted = {beneath + name: sha256 for name, sha256 in line["manifests"].items()}
            self.expect({key: line["closing"]["sha256"], **wanted}, by)
            for name in self.files.keys() & {key, *wanted}:
                self.vouched(name, self.load(name))
            closing, folder = self.load(key), key.rsplit("/", 2)[0]
            same = {"run": line["run"], "incident": line["incident"], "verdict": line["closing"]["verdict"]}
            self.check(not closing or same.items() <= closing.items(), key, f"not of the order of {line['host']}")
            later = [k for k in self.files if re.fullmatch(rf"{re.escape(folder)}/\d+/closing\.json", k) and k > key]
            self.check(not later, key, "the host was carried on later", "open")


def main(arguments: list[str] | None = None) -> int:
    """Print the word and the findings, and return the exit code of `evacuation audit`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, kind in {"bundle": Path, "id": str, "--signers": Path, "--tsa-roots": Path}.items():
        parser.add_argument(name, type=kind)
    given = parser.parse_args(arguments)
    audit = Audit(given.bundle, given.id, given.signers, given.tsa_roots)
    if not audit.find(".*"):
        parser.error(f"expected objects below {audit.home} in {given.bundle}; got none")
    with TemporaryDirectory() as folder:
        try:
            beneath = {key.partition("rotations/")[0] for key in audit.files if given.id.startswith("FL-")}
            audit.rotate(Path(folder, "allowed_signers"), beneath | {""})
            audit.fleet() if given.id.startswith("FL-") else audit.incident()
        except MALFORMED as error:
            audit.check(False, audit.at, f"not what docs/audit.md says: {error!r}")
    kinds = {kind for kind, _, _ in audit.findings}
    word, code = next((WORDS[kind] for kind in WORDS if kind in kinds), ("PROVEN", 0))
    copy = f", a copy of {audit.last['place']}" if "place" in audit.last else ""
    print(f"{word}{copy}  {given.id}, host {audit.last.get('host')}, workload {audit.last.get('workload')}")
    for finding in audit.findings:
        print("  " + ": ".join(finding).encode("unicode_escape").decode())
    return code


if __name__ == "__main__":
    sys.exit(main())
