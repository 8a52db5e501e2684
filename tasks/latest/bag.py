"""Hand an incident over as a bag of BagIt (RFC 8493), by `evacuation pull --bag`."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from blocks.port import Store
from tasks.custody.audit.facts import read_facts
from tasks.custody.audit.finding import Audit, printable
from tasks.custody.audit.untrusted import read_closing
from tasks.custody.errors import Refused
from tasks.custody.evidence.keys import CLOSING, VERDICT
from tasks.custody.store.manifest import digest_bytes
from tasks.latest.pull import Pull, RestoreOutcome, pull
from tasks.system.installation import version

_METHOD: Final = "ISO/IEC 27037:2012, of a running system: frozen, copied in order of volatility (RFC 3227), sealed"
_LINE: Final = 2000


def bag(store: Store, folder: Path, organization: str, audit: Audit, unpromised: Path | None = None) -> Pull:
    """Pull an audited incident into a new folder of its name, and make that a bag if all that is promised came.

    What no proof promises goes to the folder `unpromised`, or nowhere. "=", which we never store, stands for "%" in
    names: RFC 8493 encodes "%" in manifests, and the common validator does not decode it. Raises Refused, StoreError.
    """
    whole = folder / audit.incident
    try:
        whole.mkdir()
    except OSError as error:
        cure = "Remove it, or give another folder, which exists, as INTO."
        raise Refused(f"no {whole} yet, where the bag goes", str(error), cure) from error
    result = pull(store, audit.incident, whole, unpromised=unpromised)
    if not result.is_complete:
        return result
    (whole / audit.incident).rename(whole / "data")
    digests, size = dict[str, str](), 0
    for each in (each for each in result.files if each.outcome is not RestoreOutcome.UNPROMISED):
        stored = each.name.replace(audit.incident, "data", 1)
        name = stored.replace("%", "=")
        if name != stored:
            os.renames(whole / stored, whole / name)
        digests[name], size = each.sha256, size + each.size
    payload = ("Payload-Oxum", f"{size}.{len(digests)}")
    info = [("Source-Organization", organization or "not stated"), payload, *_info(whole, audit)]
    tags = {
        "bagit.txt": "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n",
        "bag-info.txt": "".join(f"{label}: {printable(value, _LINE)}\n" for label, value in info),
        "manifest-sha256.txt": _lines(digests),
    }
    tags["tagmanifest-sha256.txt"] = _lines({name: digest_bytes(text.encode()) for name, text in tags.items()})
    for name, text in tags.items():
        (whole / name).write_bytes(text.encode())
    return result


def _lines(digests: dict[str, str]) -> str:
    return "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(digests.items()))


def _info(whole: Path, audit: Audit) -> list[tuple[str, object]]:
    """Return how, when and of whom it was acquired, as its last record says, and what the audit said."""
    record = max(whole.glob(f"data/record/[0-9]*/{CLOSING}"))
    closing, facts = read_closing(record.read_bytes()), read_facts(record.with_name(VERDICT).read_bytes())
    return [
        ("External-Identifier", audit.incident),
        ("External-Description", f"Evidence of workload {closing.workload} on host {closing.host}, {closing.place}"),
        ("Acquisition-Method", _METHOD),
        ("Incident-Detected", facts.incident.detected_at.isoformat()),
        ("Incident-Opened", facts.incident.opened_at.isoformat()),
        ("Record-Closed", closing.closed_utc.isoformat()),
        ("Bagging-Date", datetime.now(UTC).date()),
        ("Bag-Software-Agent", f"evacuation {version()}"),
        ("Verdict", closing.verdict),
        ("Audit", audit.summary),
        *(("Not-Proven", each) for each in audit.unproven),
    ]
