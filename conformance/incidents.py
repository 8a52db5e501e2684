"""Seal small incidents with the product's own steps, keys and times that are fixed, and objects in memory."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr

from blocks.port import Store
from blocks.signing_key import SigningKey
from blocks.store import EvidenceStore
from blocks.workload import Workload
from tasks.custody.containment.receipt import Containment
from tasks.custody.evidence.acquisition import Outcome
from tasks.custody.incident.incident import Incident
from tasks.custody.incident.log import CustodyLog
from tasks.evidence.collect import collect
from tasks.evidence.seal import check_seal, read_seals, seal, volumes_to_seal
from tasks.incident.current import read_incident
from tasks.incident.run_lock import take_ownership
from tasks.latest.promote import promote
from tasks.prefect_side.saved_blocks import SavedStore
from tasks.record.content import ReportData
from tasks.record.findings import content_of, verdict_of
from tasks.record.last_record import build_postmortem_content, last_record, note_written
from tasks.record.postmortem import postmortem
from tasks.record.render import MARKDOWN, Pages
from tasks.record.write import record
from tasks.runtime.context import RunContext, RunInfo, open_context
from tasks.storage.offload import claim_store, offload
from tasks.storage.verify import verify
from tests.support.memory_store import MemoryStore
from tests.support.sealed_runs import contained_findings
from tests.support.time_authority import TimeAuthority

Objects = dict[str, bytes]
"""All objects of a bucket, by key."""

ID: Final = "IR-20260102T030405Z"
STAMP: Final = ID.removeprefix("IR-")
HOME: Final = f"incidents/{ID}"
PLACE: Final = "s3://evidence/training"
OPENED: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LOG: Final = "logs/train-20260101_000000.log"
FLEET_HOST: Final = "control"
TSA_URL: Final = "https://tsa.example/tsr"


def key_of(identity: str, seed: str = "") -> SigningKey:
    """Return the key of this name, which is no secret: everybody can derive it, so it signs nothing but vectors."""
    private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"conformance {seed or identity}".encode()).digest())
    with patch("os.urandom", bytes):  # the format has a random number, which is to be the same each time
        text = private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    return SigningKey(private_key=SecretStr(text), identity=identity)


GPU1: Final = key_of("evacuation@gpu1")
GPU2: Final = key_of("evacuation@gpu2")
PERSON: Final = key_of("people@example.net")
MALLORY: Final = key_of("evacuation@gpu1", "mallory")
SECOND: Final = key_of("evacuation@gpu1", "second")


@dataclass(frozen=True)
class Run:
    """One run of an incident: who signs, what the log holds by then, what its steps found; or what people write."""

    key: SigningKey | None = field(default_factory=lambda: GPU1)
    log: str = "iteration 1\n"
    found: Mapping[str, object] = field(default_factory=dict)
    denied: str = ""
    stamped: bool = False
    promotes: bool = False
    text: str = ""


class Forgetful(MemoryStore):
    """A bucket that may keep nothing of coverage.json, and say that it has."""

    forgets = False

    def _keep(self, key: str, data: bytes, sha256: str) -> None:
        if not (self.forgets and key.endswith("/evidence/coverage.json")):
            super()._keep(key, data, sha256)


def incident(
    *runs: Run,
    host: str = "gpu1",
    place: str = PLACE,
    opened: datetime = OPENED,
    before: Mapping[str, bytes] | None = None,
    forgets: bool = False,
) -> Objects:
    """Make an incident of these runs, in a bucket that holds what was there `before` and may forget coverage.json."""
    store = Forgetful(place)
    store._objects.update(before or {})  # noqa: SLF001  as somebody else has put it there
    store.forgets = forgets
    with TemporaryDirectory() as folder, paper_time(opened):
        root = Path(folder).resolve() / "training"
        for number, run in enumerate(runs, 1):
            about = Incident(f"IR-{opened:%Y%m%dT%H%M%SZ}", "train", host, "boot", opened, opened, "drill", "a person")
            with _context(root, store, about, run, number) as context:
                (_written if run.text else _evacuated)(context, run)
    return {each.key: store.read(each.key) for each in store.list("")}


@contextmanager
def _context(root: Path, store: Store, about: Incident, run: Run, number: int) -> Iterator[RunContext]:
    (root / LOG).parent.mkdir(parents=True, exist_ok=True)
    (root / LOG).write_text(run.log)
    os.utime(root / LOG, ns=(0, int(OPENED.timestamp()) * 10**9))
    block = Workload(root=root, lock=root.parent / "lock", needed=["logs", "models"])
    block.evidence.mkdir(exist_ok=True)
    ownership = take_ownership(block.evidence)
    assert ownership is not None  # noqa: S101  it is in a folder of our own
    saved = SavedStore("store", {"folder": block.evidence})
    context = open_context(about, block, RunInfo(f"run-{number}"), saved, ownership)
    context.incident = read_incident(context.directory.path) or about
    context.store.evidence = store
    context.store.block = EvidenceStore(folder=root, signing=run.key, timestamp_url=TSA_URL if run.stamped else "")
    try:
        yield context
    finally:
        context.adapters.host.release(context.cordon_files.marker)
        context.close()


def _made(state: Any) -> Any:
    return state.data


def _evacuated(context: RunContext, run: Run) -> None:
    """Do what a run does after the stop, step by step."""
    evidence = [_made(collect.fn(context, "logs"))]
    if run.denied:
        evidence.append(replace(evidence[0], collector="models", outcome=Outcome.DENIED, reason=run.denied, files=()))
    claim_store.fn(context)
    volumes = volumes_to_seal(context.directory, context.run.volume, evidence)
    seals = [_made(seal.fn(context, each, evidence)) for each in volumes]
    intact = _made(check_seal.fn(context, seals))
    proven = _made(verify.fn(context, seals, _made(offload.fn(context, seals, intact))))
    stored = {"evidence": tuple(evidence), "seals": tuple(seals), "proven": proven}
    findings = contained_findings(OPENED, **{**stored, **run.found})
    judged = verdict_of(context, findings)
    promoted = _made(promote.fn(context, seals, judged, "guarded" if run.promotes else "never"))
    found = replace(findings, promoted=promoted)
    _made(record.fn(context, content_of(context.log, verdict_of(context, found), found)))


def _written(context: RunContext, run: Run) -> None:
    """Put on record what people have written."""
    home = context.directory.path
    fields = note_written(context.log, home, context.incident.id, "ana", {"cause": run.text})
    seals = read_seals(context.directory, context.run.volume)
    _made(record.fn(context, build_postmortem_content(last_record(home), seals, fields)))


class _Moments(type):
    """Lets every datetime count as one of the clock's."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, datetime)


@contextmanager
def paper_time(opened: datetime) -> Iterator[None]:
    """Let each look at the clock be a hundredth of a second later than the one before, and leave the host unnamed."""
    looks = count(1)

    class Clock(datetime, metaclass=_Moments):
        @classmethod
        def now(cls, _: object = None) -> datetime:  # type: ignore[override]  # never local time
            return opened + timedelta(seconds=next(looks) / 100)

    def _stamped(_: str, data: bytes) -> bytes:
        return authority().stamp(data, Clock.now())

    ours = [each for name, each in [*sys.modules.items()] if name.startswith(("tasks.", "blocks."))]
    with ExitStack() as patched:
        for module in (each for each in ours if getattr(each, "datetime", None) is datetime):
            patched.enter_context(patch.object(module, "datetime", Clock))
        patched.enter_context(patch("tasks.runtime.context.actor", lambda run, _: {"run": run, "user": "root (0)"}))
        patched.enter_context(patch("tasks.record.write.pages", _pages))
        patched.enter_context(patch("tasks.fleet.record.socket.gethostname", lambda: FLEET_HOST))
        clock = SimpleNamespace(monotonic=lambda: next(looks) / 100)
        patched.enter_context(patch("tasks.custody.incident.log.time", clock))
        patched.enter_context(patch.object(CustodyLog, "write", _plainly(CustodyLog.write)))
        patched.enter_context(patch("tasks.evidence.time_stamp.time_stamp", _stamped))
        yield


def _plainly(write: Callable[..., None]) -> Callable[..., None]:
    """Keep the log small and the same on each machine: without steps, their times, the room on disks and our folder."""

    def written(log: CustodyLog, action: str, about: str = "", **facts: object) -> None:
        if not action.startswith("step "):
            write(log, action, about, **{name: fact for name, fact in facts.items() if name != "free"})

    return written


def _pages(data: ReportData) -> Pages:
    """Return a page of a line in place of the postmortem's two and its pictures: no audit reads them."""
    return Pages(postmortem(data), {MARKDOWN: f"# Postmortem of {data.incident.id}\n".encode()}, ())


def alive() -> dict[str, object]:
    """Return what the steps of a run find whose training still runs."""
    return {"containment": Containment(OPENED, ("training 4711",), cordoned=True, reason="held")}


@cache
def authority() -> TimeAuthority:
    """Return an authority whose certificates were good when the incidents were closed. Its keys are new each time."""
    return TimeAuthority(Path(mkdtemp(prefix="conformance-")), OPENED)
