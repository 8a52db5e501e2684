"""How long it takes to list many incidents, and to audit a large fleet, in a store of S3 on this machine.

`python -m benchmarks.fleet_store FOLDER` lists a thousand copies of the incident in a host's store, and no more.
"""

import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from benchmarks.rows import RESULTS, Row, median, table, under
from blocks.port import Store
from blocks.signing_key import SigningKey
from blocks.store import EvidenceStore
from tasks.audit.fleet import verify_fleet
from tasks.audit.list_incidents import holdings
from tasks.custody.audit.finding import AuditWord
from tasks.custody.audit.signers import read_signers
from tasks.custody.evidence.keys import targets_key
from tasks.custody.fleet.host_end import HostEnd, closed_row
from tasks.custody.fleet.host_end import Row as Line
from tasks.custody.fleet.host_order import new_fleet_id
from tasks.custody.fleet.incident import FleetIncident, TargetHost
from tasks.custody.fleet.verdict import verdict_of
from tasks.custody.store.manifest import canonical, digest_bytes
from tasks.custody.store.signature import signer_line
from tasks.drill.screen import say
from tasks.drill.show_retention import credentials
from tasks.drill.store_and_worker import SeaweedFS
from tasks.fleet.closings import read_last
from tasks.fleet.postmortem import FleetReport, postmortem
from tasks.fleet.record import files_of, write_record
from tasks.system.parallel import side_by_side

LISTED: Final = 1000
_ROUNDS: Final = 3
_LIST_SECONDS: Final = 2.0
_AUDIT_SECONDS: Final = 10.0
_NOW: Final = datetime(2026, 11, 26, 15, tzinfo=UTC)
_OPENED: Final = datetime(2020, 1, 1, tzinfo=UTC)


def store_rows(folder: Path, key: SigningKey, evacuated: Path, sizes: tuple[int, int]) -> list[Row]:
    """List so many copies of the incident in a host's store, and audit a fleet of so many copies of the host."""
    incidents, hosts = sizes
    home, objects = _incident(evacuated)
    with SeaweedFS(folder / "s3") as server:
        block = _block(server)
        listed = _listed(block, objects, incidents)
        audited = _seconds(_fleet(block.model_copy(update={"signing": key}), home, objects, hosts))
    return [listed, under(f"a fleet of {hosts} audited by closings and signatures, s", audited, _AUDIT_SECONDS)]


def _block(server: SeaweedFS) -> EvidenceStore:
    return EvidenceStore(bucket=server.bucket, endpoint=server.endpoint, credentials=credentials(server))


def _incident(evacuated: Path) -> tuple[str, dict[str, bytes]]:
    (home,) = (evacuated / "incidents").iterdir()
    return home.name, {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}


def _listed(block: EvidenceStore, objects: dict[str, bytes], incidents: int) -> Row:
    many = block.model_copy(update={"prefix": "many"}).open()
    names = [f"IR-{_NOW + timedelta(seconds=number):%Y%m%dT%H%M%SZ}" for number in range(incidents)]
    _put(many, {f"incidents/{name}/{path}": data for name in names for path, data in objects.items()})
    listed = _seconds(lambda: len(holdings(many)) == incidents)
    return under(f"{incidents} incidents listed, {len(objects)} objects each, s", listed, _LIST_SECONDS)


def _put(store: Store, objects: dict[str, bytes]) -> None:
    list(side_by_side(lambda item: store.create(item[0], item[1], digest_bytes(item[1])), list(objects.items())))


def _seconds(act: Callable[[], bool]) -> float:
    """Return the median of three times. Raises AssertionError unless the act finds what it has to."""
    times = list[float]()
    for _ in range(_ROUNDS):
        began = time.monotonic()
        if not act():
            raise AssertionError("expected what was put there; got something else")
        times.append(time.monotonic() - began)
    return median(times)


def _fleet(block: EvidenceStore, incident: str, objects: dict[str, bytes], hosts: int) -> Callable[[], bool]:
    """Lay a fleet of copies of one host down, with a record as its flow writes it; return its audit."""
    store, key = block.open(), block.signing
    names = [f"gpu{number:03}" for number in range(hosts)]
    _put(store, {f"{name}/incidents/{incident}/{path}": data for name in names for path, data in objects.items()})
    told = FleetIncident(
        new_fleet_id(_NOW, "bench", "0000"),
        *("bench", _OPENED, "a bench", "a bench", "graceful", False, "bench"),
        *(3600.0, 900.0, None, 900.0, "stop", 16),
        tuple(map(TargetHost, names)),
    )
    _put(store, {targets_key(told.id): canonical(told.facts)})
    last = {name: read_last(store, name, incident) for name in names}
    rows = [Line(name, 1, last[name].run, HostEnd.VERIFIED, incident=incident, ordered=_OPENED) for name in names]
    rows = [closed_row(row, last[row.host], _NOW) for row in rows]
    report = FleetReport(told, rows, verdict_of(names, rows), "r", _NOW)
    write_record(block, store, report, files_of(report, postmortem(report), {name: name for name in names}))
    signers = read_signers(signer_line("evacuation@*", key.public_key) if key else "")
    return lambda: verify_fleet(block, told.id, signers, deep=False).word is AuditWord.PROVEN


def main(evacuated: str) -> int:
    """Exit 0 if the goal holds."""
    with SeaweedFS(RESULTS / f"store-{os.getpid()}") as server:
        row = _listed(_block(server), _incident(Path(evacuated))[1], LISTED)
    say(table([row]))
    return 0 if row.holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
