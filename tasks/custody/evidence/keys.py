"""Name each object in the store and each file of evidence and record; encode hostile names (runbook §5)."""

import hashlib
import re
import string
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

_SAFE: Final = "".join(sorted(set(string.ascii_letters + string.digits + "._-")))
SEGMENT_LIMIT: Final = 180
NAME_LIMIT: Final = 700
_KEPT: Final = 100
_DIGEST: Final = len("/~") + 64
_ATTEMPT: Final = re.compile(rb"attempt-[0-9]+")
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
MODELS: Final = "models.json"
"""In sealed evidence: what each model was found to be."""
VERDICT: Final = "verdict.json"
"""In a record: the verdict, and all the facts that it rests on."""
CLOSING: Final = "closing.json"
"""In a record, written last: the digests of its other files and of the manifests. With `.sig` its signature."""
SNAPSHOTS: Final = "snapshots/"
LATEST: Final = "latest/"
TURNS: Final = "promotions/"
CONTAINERS: Final = "containers"
UNITS: Final = "units"
SNAPSHOT_FOLDERS: Final = ("models", "artifacts", "logs")


def _segment(raw: bytes) -> str:
    quoted = quote_from_bytes(raw, safe=_SAFE).replace("~", "%7E")
    if set(quoted) == {"."}:
        quoted = quoted.replace(".", "%2E")
    if len(quoted) <= SEGMENT_LIMIT:
        return quoted
    return f"{quoted[:_KEPT]}~{hashlib.sha256(raw).hexdigest()}"


def quote(raw: bytes) -> str:
    """Percent-encode a source path so that text can carry it. Law: unquote(quote(x)) == x."""
    return quote_from_bytes(raw, safe=_SAFE + "/")


def unquote(text: str) -> bytes:
    """Give back the source path's bytes."""
    return unquote_to_bytes(text)


def stored_name(raw: bytes) -> str:
    """Turn a relative source path into its stored name.

    Laws: different sources get different names; each segment is printable ASCII of at most
    SEGMENT_LIMIT letters and is neither empty, "." nor ".."; all of it has at most NAME_LIMIT letters, for a key of
    S3 has 1024 bytes; plain names stay as they are.
    """
    parts = [part for part in raw.split(b"/") if part]
    name = "/".join(map(_segment, parts))
    if len(name) <= NAME_LIMIT:
        return name
    # a segment that is nothing but "~" and a digest is no other's: of a long one a beginning always stays
    kept, _, _ = name[: NAME_LIMIT - _DIGEST].rpartition("/")
    return f"{kept}/~{hashlib.sha256(b'/'.join(parts)).hexdigest()}"


def placed_name(raw: bytes) -> str:
    """Turn a workload's source path into its place in the evidence folder, beside the files that we make ourselves.

    Law: its first part is never the name of one of ours, which all lie at the top and have a dot, but for SHA256SUMS,
    the folders of what we make of containers and units, and attempt-N/ for what an earlier attempt got.
    """
    first, slash, _ = raw.partition(b"/")
    ours = first in {SUMS.encode(), CONTAINERS.encode(), UNITS.encode()} or _ATTEMPT.fullmatch(first)
    apart = slash and b"." not in first and not ours
    return stored_name(raw if apart else b"./" + raw)


def volume_folder(volume: int) -> str:
    """Name the evidence folder: evidence/ first, then a supplement for each later finding."""
    return "evidence" if volume == 1 else f"evidence.{volume}"


def claim_key(incident: str) -> str:
    """Key of the claim: the first object of an incident, which says whose it is."""
    return f"incidents/{incident}/claim.json"


def evidence_key(incident: str, volume: int, stored: str) -> str:
    """Key of one sealed file."""
    return f"incidents/{incident}/{volume_folder(volume)}/{stored}"


def record_key(incident: str, number: int, name: str) -> str:
    """Key of one file of a run's record."""
    return f"incidents/{incident}/record/{number:03d}/{name}"


def snapshot_key(snapshot: str, stored: str) -> str:
    """Key of a workload file in the incident's snapshot."""
    return f"{SNAPSHOTS}{snapshot}/{stored}"


def latest_key(stored: str) -> str:
    """Key that `make s3-pull` and the API's reload read."""
    return f"{LATEST}{stored}"


def latest_name(key: str) -> str:
    """The stored name of a key of latest/; empty if it is none."""
    return key.removeprefix(LATEST) if key.startswith(LATEST) else ""


def begun_key(turn: int) -> str:
    """Key of what a turn of latest/ is about to do: whoever creates it has the turn."""
    return f"{TURNS}{turn:06d}/begun.json"


def done_key(turn: int) -> str:
    """Key of the word that a turn of latest/ is done."""
    return f"{TURNS}{turn:06d}/done.json"


def kept_key(turn: int, stored: str) -> str:
    """Key of what a turn replaces in latest/, kept there if nobody else is known to have it."""
    return f"{TURNS}{turn:06d}/kept/{stored}"


def turn_of(key: str) -> int:
    """The number of the turn that a key belongs to; 0 if to none."""
    match = _TURN.match(key)
    return int(match[1]) if match else 0


def in_snapshot(stored: str) -> bool:
    """Tell whether a stored file belongs to the three folders of the runbook's s3-push."""
    return "/" in stored and stored.split("/", 1)[0] in SNAPSHOT_FOLDERS
