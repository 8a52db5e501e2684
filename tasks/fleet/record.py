"""Write the record of a fleet to its store: the frozen list first, then each run's hosts, postmortem and closing."""

import logging
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from prefect.artifacts import create_markdown_artifact

from blocks.port import Store
from blocks.store import EvidenceStore
from tasks.custody.audit.layout import SIGNATURE
from tasks.custody.evidence.keys import CLOSING, fleet_record_key, targets_key
from tasks.custody.fleet.examine import fleet_layout
from tasks.custody.fleet.host_end import Row
from tasks.custody.fleet.incident import FleetIncident
from tasks.custody.fleet.places import HOSTS
from tasks.custody.store.manifest import canonical, digest_bytes
from tasks.evidence.signing import Signer
from tasks.evidence.time_stamp import stamp
from tasks.fleet.closings import Closings
from tasks.fleet.postmortem import PICTURE, FleetReport, postmortem
from tasks.fleet.show import contained_picture
from tasks.prefect_side.saved_blocks import require_store
from tasks.record.render import HTML, MARKDOWN, with_pictures
from tasks.rendering.document import Document
from tasks.rendering.markdown import markdown
from tasks.rendering.webpage import html
from tasks.runtime.progress import artifact_key
from tasks.runtime.step import step_without_incident
from tasks.storage.verify_object import create_kept

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FleetRecord:
    """The record of one run of a fleet; `trouble` says why the store has none, or what of it is missing.

    `unproven` says what an audit will not find proven in it: who signed it, when it was closed.
    """

    place: str
    trouble: str
    unproven: str = ""


def write_targets(incident: FleetIncident) -> str:
    """Create the frozen list in the fleet's store; return why it could not be. Again with the same list: nothing."""
    try:
        store = require_store(incident.store).build()[0].open()
        content = canonical(incident.facts)
        create_kept(store, targets_key(incident.id), content)
    except Exception as error:  # noqa: BLE001  no host waits for the store
        logger.error("The list of hosts is on the server only: %s", error)  # noqa: TRY400  the message says it all
        return str(error)
    return ""


@step_without_incident("record_fleet", "write the fleet's record", retries=1)
def record(report: FleetReport, closings: Closings) -> FleetRecord:
    """Write record/NNN/ to the fleet's store, closing.json last, and show the postmortem in the UI."""
    document = postmortem(report)
    place, trouble, unproven = "", write_targets(report.incident), list[str]()
    try:
        block, no_key = require_store(report.incident.store).build()
        beneath = {row.host: closings.beneath(row.host) for row in report.rows if row.closing}
        if not block.signing:
            unproven.append(f"The record is unsigned 署名なし: {no_key or 'no signing key in the store block'}")
            logger.warning("%s", unproven[0])
        place, untimed = write_record(block, block.open(), report, files_of(report, document, beneath))
        unproven += [f"No time vouched for 時刻の証明なし: {untimed}"] if untimed else []
    except Exception as error:  # noqa: BLE001  the run ends with its verdict whatever the store does
        logger.error("The record is not in the store: %s", error)  # noqa: TRY400  the message says it all
        trouble = str(error)
    title = f"{report.incident.id}: postmortem ポストモーテム"
    key = artifact_key("fleet-postmortem", report.incident.id)
    with suppress(Exception):
        create_markdown_artifact(with_pictures(document), key=key, description=title)
    return FleetRecord(place, trouble, ". ".join(unproven))


def files_of(report: FleetReport, document: Document, beneath: Mapping[str, str | None]) -> dict[str, bytes]:
    """Return the files of a record but for its closing. `beneath` is where each host's store lies in the fleet's."""
    hosts = [_host(row, beneath.get(row.host)) for row in report.rows]
    return {
        HOSTS: canonical({"fleet": report.incident.id, "hosts": hosts}),
        MARKDOWN: markdown(document).encode(),
        HTML: html(document).encode(),
        PICTURE: contained_picture(report.incident, report.rows).encode(),
    }


def _host(row: Row, beneath: str | None) -> dict[str, Any]:
    times = ("ordered", "began", "ended", "seen", "not_after")
    facts = asdict(row)
    closing = row.closing and {
        "key": row.closing.key,
        "sha256": row.closing.sha256,
        "verdict": row.closing.word,
        "closed_utc": row.closing.closed.isoformat(),
    }
    return {
        **{name: facts[name] for name in ("host", "attempt", "run", "message", "incident", "frozen", "contained")},
        **{name: facts[name] and facts[name].isoformat() for name in times},
        "end": str(row.end or ""),
        "stands": row.stands,
        "joined": row.joined,
        "beneath": beneath,
        "closing": closing,
        "manifests": dict(row.closing.manifests) if row.closing else {},
    }


def write_record(
    block: EvidenceStore, store: Store, report: FleetReport, files: Mapping[str, bytes]
) -> tuple[str, str]:
    """Write the files under the next number, then the closing that vouches for them, signed if there is a key.

    Once that is stored, the block's time-stamp authority is asked. Returns where it is, and why no time is vouched for;
    empty if one is, or none was asked for. Raises StoreError.
    """
    incident, key = report.incident, block.signing
    listed = fleet_layout(incident.id, (each.key for each in store.list(f"fleets/{incident.id}/record/")))
    number = max(listed.records, default=0) + 1
    closing = canonical(
        {
            "fleet": incident.id,
            "host": socket.gethostname(),
            "record": number,
            "run": report.run,
            "verdict": str(report.verdict.end),
            "closed_utc": datetime.now(UTC).isoformat(),
            "targets": digest_bytes(canonical(incident.facts)),
            "files": {name: digest_bytes(content) for name, content in files.items()},
            "signer": asdict(Signer(key.identity, key.fingerprint, key.public_key)) if key else None,
            **({"timestamp_url": block.timestamp_url} if block.timestamp_url else {}),
        }
    )

    def put(name: str, content: bytes) -> None:
        create_kept(store, fleet_record_key(incident.id, number, name), content)

    signature = {f"{CLOSING}{SIGNATURE}": key.sign(closing)} if key else {}
    for name, content in {**files, **signature, CLOSING: closing}.items():
        put(name, content)
    untimed = stamp(block, closing, put) if block.timestamp_url else ""
    return f"{store.place}/{fleet_record_key(incident.id, number, '')}", untimed
