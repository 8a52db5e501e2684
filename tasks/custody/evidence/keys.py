"""Name each object in the store and each file of evidence and record; encode hostile file names (runbook §5)."""

import hashlib
import re
import string
from collections.abc import Collection
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

_SAFE: Final = "".join(sorted(set(string.ascii_letters + string.digits + "._-")))
SEGMENT_LIMIT: Final = 180
NAME_LIMIT: Final = 700
_KEPT: Final = 100
_DIGEST: Final = len("/~") + 64
_ATTEMPT: Final = re.compile(rb"attempt-([0-9]+|IR-.*)", re.DOTALL)
_TURN: Final = re.compile(r"promotions/([0-9]{6,9})/.", re.ASCII)

MANIFEST: Final = "manifest.json"
"""In sealed evidence, sent last: name, source, size and digest of each file."""
SIGNATURE: Final = f"{MANIFEST}.sig"
"""In sealed evidence: the signature of the manifest, as `ssh-keygen -Y sign` makes it."""
SUMS: Final = "SHA256SUMS"
"""In sealed evidence: the same digests for `sha256sum --check`."""
SEGMENT: Final = "custody.jsonl"
"""The chained custody log: whole in an incident's folder, a segment in sealed evidence and in each record."""
COVERAGE: Final = "coverage.json"
"""In sealed evidence: what each collector was to get, what it got, and what is missing and why."""
NOT_TAKEN: Final = "not_taken.json"
"""In sealed evidence: what of the root, and of what containers changed, no collector took, and why."""
MODELS: Final = "models.json"
"""In sealed evidence: the judgement of each model."""
TREE: Final = "tree.json"
"""In sealed evidence: what each process of the workload did and held when it was looked at."""
OWN_MOUNTS: Final = "own_mounts"
"""In it, of a process: the folders of the root at which it alone saw another place."""
VERDICT: Final = "verdict.json"
"""In a record: the verdict and all facts that it is based on."""
STATEMENT: Final = "verdict.intoto.json"
"""In a record, signed with an Ed25519 key: the verdict for other tools, an in-toto statement in a DSSE envelope."""
CLOSING: Final = "closing.json"
"""In a record, written last: the digests of its other files and of the manifests. With `.sig` its signature,
with `.tsr` an authority's time stamp."""
STAMP: Final = ".tsr"
TIME_STAMP: Final = f"{CLOSING}{STAMP}"
UNSTAMPED: Final = "unstamped.json"
"""Beside a closing in place of a time stamp: why there is none, as the run says."""
POSTMORTEM: Final = "postmortem"
"""Beside the records: the finished postmortem, `NNN.md` and `NNN.html`, that the closing of `record/NNN/` names."""
SNAPSHOTS: Final = "snapshots/"
LATEST: Final = "latest/"
TURNS: Final = "promotions/"
ROTATIONS: Final = "rotations/"
CONTAINERS: Final = "containers"
IN_CONTAINER: Final = "in container "
"""Begins the note of a file that was taken in a container, before the container's name."""
CHANGED: Final = "changed"
"""Below a container's name: the files that it has changed in its own layer and no pattern names, by their full path."""
FROM_ROOT: Final = "from~root"
"""Below a container's name: the files that a pattern names from its root, by their full path. No name that is encoded
has such a part."""
UNITS: Final = "units"
OPEN: Final = "open.files"
"""The files that processes had open for writing out of the root, by their full path, or deleted."""
SNAPSHOT_FOLDERS: Final = ("models", "artifacts", "logs")
FOLDERS: Final = "folders"  # the block's field, and the collector of what no pattern names in them
CONTAINER_FILES: Final = "container_files"  # the collector of files in containers
LOCKFILES: Final = "lockfiles"  # the collector of that from which the environment was made
LAST_WRITES: Final = "last_writes"  # the collector of what was written during the stop
CODE: Final = "code"  # the collector of what no pattern or folder names in the root


def _segment(raw: bytes) -> str:
    quoted = quote_from_bytes(raw, safe=_SAFE).replace("~", "%7E")
    if set(quoted) == {"."}:
        quoted = quoted.replace(".", "%2E")
    return quoted if len(quoted) <= SEGMENT_LIMIT else f"{quoted[:_KEPT]}~{hashlib.sha256(raw).hexdigest()}"


def quote(raw: bytes) -> str:
    """Percent-encode a source path as text. unquote(quote(x)) == x."""
    return quote_from_bytes(raw, safe=_SAFE + "/")


def unquote(text: str) -> bytes:
    """Decode a source path from text."""
    return unquote_to_bytes(text)


def stored_name(raw: bytes) -> str:
    """Return the stored name of a relative source path.

    Different sources get different names. Each segment is printable ASCII of at most SEGMENT_LIMIT characters, and none
    is empty, "." or "..". The name has at most NAME_LIMIT characters, as an S3 key has 1024 bytes. Plain names are
    unchanged.
    """
    parts = [part for part in raw.split(b"/") if part]
    name = "/".join(map(_segment, parts))
    if len(name) <= NAME_LIMIT:
        return name
    # unique: a long segment keeps its beginning before the "~"
    kept, _, _ = name[: NAME_LIMIT - _DIGEST].rpartition("/")
    return f"{kept}/~{hashlib.sha256(b'/'.join(parts)).hexdigest()}"


def placed_name(raw: bytes) -> str:
    """Return the place of a workload's source path in the evidence folder, distinct from files that we generate.

    Its first part is never the name of a generated file. These are at the top and have a dot in their name, except
    SHA256SUMS, the folders of containers and units, and attempt-N/ and attempt-IR-…/ for earlier attempts.
    """
    first, slash, _ = raw.partition(b"/")
    ours = first in {SUMS.encode(), CONTAINERS.encode(), UNITS.encode()} or _ATTEMPT.fullmatch(first)
    apart = slash and b"." not in first and not ours
    return stored_name(raw if apart else b"./" + raw)


def source_path(stored: str) -> bytes:
    """Return the path that stored_name was given; the stored name itself if that does not tell, or is no path."""
    raw = unquote(stored)
    is_path = b"\0" not in raw and not {b"", b".", b".."} & {*raw.split(b"/")}
    return raw if is_path and stored_name(raw) == stored else stored.encode()


def volume_folder(volume: int) -> str:
    """Return the name of an evidence folder: evidence, then evidence.2 and so on for supplements."""
    return "evidence" if volume == 1 else f"evidence.{volume}"


def volume_order(folder: str) -> tuple[int, str]:
    """Return what evidence folders are sorted by, the newest last: evidence.10 comes after evidence.9."""
    return len(folder), folder


def claim_key(incident: str) -> str:
    """Return the key of the claim: the first object of an incident, which names its owner."""
    return f"incidents/{incident}/claim.json"


def beside_key(incident: str, sha256: str) -> str:
    """Return the key of sealed content at whose own key other content lies; nothing is ever overwritten."""
    return f"incidents/{incident}/conflicts/{sha256}"


def evidence_key(incident: str, volume: int, stored: str) -> str:
    """Return the key of one sealed file."""
    return f"incidents/{incident}/{volume_folder(volume)}/{stored}"


def record_key(incident: str, number: int, name: str) -> str:
    """Return the key of one file of a run's record."""
    return f"incidents/{incident}/record/{number:03d}/{name}"


def postmortem_key(incident: str, name: str) -> str:
    """Return the key of a page of a finished postmortem, as in 003.md."""
    return f"incidents/{incident}/record/{POSTMORTEM}/{name}"


def targets_key(fleet: str) -> str:
    """Return the key of the frozen list of a fleet's hosts: the first object of its incident."""
    return f"fleets/{fleet}/targets.json"


def fleet_record_key(fleet: str, number: int, name: str) -> str:
    """Return the key of one file of a fleet's record."""
    return f"fleets/{fleet}/record/{number:03d}/{name}"


def snapshot_folder(snapshot: str, volume: int = 1) -> str:
    """Return the prefix of the workload's files in the incident's snapshot; a supplement has its own."""
    return f"{SNAPSHOTS}{snapshot}/" if volume == 1 else f"{SNAPSHOTS}{snapshot}.{volume}/"


def latest_key(stored: str) -> str:
    """Return the key that `make s3-pull` and the API's reload read."""
    return f"{LATEST}{stored}"


def latest_name(key: str) -> str:
    """Return the stored name of a key of latest/; empty for other keys."""
    return key.removeprefix(LATEST) if key.startswith(LATEST) else ""


def begun_key(turn: int) -> str:
    """Return the key of the intent of a transaction of latest/. Creating it reserves the number."""
    return f"{TURNS}{turn:06d}/begun.json"


def done_key(turn: int) -> str:
    """Return the key that marks a transaction of latest/ as committed."""
    return f"{TURNS}{turn:06d}/done.json"


def kept_key(turn: int, stored: str) -> str:
    """Return the key for content that a transaction replaces in latest/, if no other object is known to have it."""
    return f"{TURNS}{turn:06d}/kept/{stored}"


def turn_of(key: str) -> int:
    """Return the number of the transaction that a key belongs to; 0 if none."""
    match = _TURN.match(key)
    return int(match[1]) if match else 0


def in_snapshot(stored: str, folders: Collection[str] = ()) -> bool:
    """Return whether a stored file lies in the three folders of the runbook's s3-push, or in one of these."""
    return "/" in stored and ((folder := stored.split("/", 1)[0]) in SNAPSHOT_FOLDERS or folder in folders)
