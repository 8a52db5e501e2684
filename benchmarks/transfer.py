"""`python -m benchmarks.transfer JOB`: our copy, seal, offload and proof in a process of its own, stage by stage.

It runs the pipeline's own steps as plain functions, without a Prefect server, and prints what each stage took. What
it imports has been imported before the clock runs, as in a flow that has come so far.
"""

import json
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from prefect.client.schemas.objects import State
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from benchmarks.machine import spent_by
from blocks import EvidenceStore, Workload
from tasks.custody.evidence.acquisition import Evidence, Seal
from tasks.custody.incident.incident import Incident
from tasks.custody.incident.verdict import Verdict, Word
from tasks.custody.store.manifest import Manifest
from tasks.custody.store.objects import Expected, evidence_objects
from tasks.custody.store.sent import Sent
from tasks.evidence.collect import collect
from tasks.evidence.seal import check_seal, read_manifest, read_seals, seal
from tasks.host.process.table import boot_id
from tasks.incident.current import read_incident
from tasks.incident.run_lock import take_ownership
from tasks.latest.promote import promote
from tasks.prefect_side.saved_blocks import SavedStore
from tasks.runtime.context import RunContext, RunInfo, open_context
from tasks.runtime.progress import Progress
from tasks.storage.offload import claim_store, offload
from tasks.storage.upload_ledger import Ledger
from tasks.storage.uploader import Delivery
from tasks.storage.verify import verify
from tasks.storage.verify_object import prove
from tasks.system.parallel import QUESTIONS, side_by_side

EVERYTHING: Final = ("claim", "copy", "seal", "check", "offload", "verify", "latest")
ONE_PREFIX: Final = ("claim", "one prefix", "proven")
RESUMED: Final = ("check", "offload", "verify")


@dataclass(frozen=True)
class Job:
    """What is to be done, and where; keys come by the usual variables of AWS."""

    root: str
    evidence: str
    incident: str
    endpoint: str
    bucket: str
    server: int
    stages: tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """Seconds of one stage by the clock, and of processor time: ours with our collectors, and the server's."""

    seconds: float
    ours: float
    server: float


@dataclass(frozen=True)
class Done:
    """What a job took; `peak` are bytes of memory, the most that the process ever had."""

    stages: dict[str, Stage] = field(default_factory=dict)
    peak: int = 0

    @classmethod
    def from_json(cls, text: str) -> "Done":
        """As the process printed it."""
        return cls.from_dict(json.loads(text))

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "Done":
        """Parsed."""
        return cls({name: Stage(**stage) for name, stage in told["stages"].items()}, told["peak"])

    def seconds(self, *names: str) -> float:
        """Of these stages, or of all."""
        return sum(self.stages[name].seconds for name in names or self.stages)


@contextmanager
def opened(job: Job) -> Iterator[RunContext]:
    """A run of an incident; it belongs to nobody's flow."""
    workload = Workload(root=job.root, evidence_dir=job.evidence)
    workload.evidence.mkdir(parents=True, exist_ok=True)
    ownership, now = take_ownership(workload.evidence), datetime.now(UTC)
    if ownership is None:
        raise SystemExit(f"expected an evidence folder of its own; got {job.evidence}, which another run has.")
    secret = SecretStr(os.environ["AWS_SECRET_ACCESS_KEY"])
    keys = AwsCredentials(aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"], aws_secret_access_key=secret)
    about = Incident(job.incident, "bench", socket.gethostname(), boot_id(), now, now, "a bench", "nobody")
    context = open_context(about, workload, RunInfo("bench"), SavedStore("bench", {}), ownership)
    context.store.evidence = EvidenceStore(
        bucket=job.bucket, prefix="ours", endpoint=job.endpoint, region="us-east-1", credentials=keys
    ).open()
    context.incident = read_incident(context.directory.path) or context.incident
    try:
        yield context
    finally:
        context.close()


def made(state: State[Any]) -> Any:
    """What a step made, called without a server."""
    return state.data


def _latest(context: RunContext, seals: Sequence[Seal]) -> None:
    """All of it may go: that it is sound is for other steps to say."""
    verdict = Verdict(Word.VERIFIED, (), (), (), "")
    promoted = made(promote.fn(context, seals, verdict, "guarded"))
    named = sum(1 for file in read_manifest(context.directory, 1).files if file.source)
    _require(len(promoted.objects) == named and promoted.is_complete, "every file of latest/")


def _one_prefix(context: RunContext, manifest: Manifest | None, wanted: Sequence[Expected]) -> None:
    if manifest is None:
        raise SystemExit("expected evidence that is sealed; got none.")
    progress = Progress(len(wanted), sum(item.size for item in wanted))
    ledger = Ledger(context.directory.path, context.store.evidence.place)
    _require(not Delivery(context, ledger, manifest.volume, {}, progress).deliver(wanted), "every file")


def _proven(context: RunContext, wanted: Sequence[Expected]) -> None:
    receipts = list(side_by_side(partial(prove, context.store, context.incident), wanted, QUESTIONS))
    _require(all(each.proven for each in receipts), "every object")


def _require(holds: bool, what: str) -> None:  # noqa: FBT001
    if not holds:
        raise SystemExit(f"expected {what} to be proven in the store; it is not. The figures would be worth nothing.")


def _acts(context: RunContext) -> dict[str, Callable[[], Any]]:
    copied, seals = list[Evidence](), list(read_seals(context.directory, context.run.volume))
    manifest = read_manifest(context.directory, 1) if seals else None
    wanted = evidence_objects(manifest) if manifest else []
    return {
        "claim": lambda: claim_store.fn(context),
        "copy": lambda: copied.append(made(collect.fn(context, "artifacts"))),
        "seal": lambda: seals.append(made(seal.fn(context, 1, copied))),
        "check": lambda: check_seal.fn(context, seals),
        "offload": lambda: offload.fn(context, seals, seals[-1]),
        "verify": lambda: _require(
            made(verify.fn(context, seals, Sent(0, 0, context.store.label))).is_complete, "every object"
        ),
        "latest": lambda: _latest(context, seals),
        "one prefix": lambda: _one_prefix(context, manifest, wanted),
        "proven": lambda: _proven(context, wanted),
    }


def _processor(server: int) -> tuple[float, float]:
    """Seconds of processor time so far: ours with the collectors that have ended, and the server's."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    ours = sum(each.ru_utime + each.ru_stime for each in used)
    return ours, spent_by(server)


def main() -> None:
    """Do the job that the only argument describes."""
    job, done = Job(**json.loads(sys.argv[1])), dict[str, Stage]()
    with opened(job) as context:
        acts = _acts(context)
        for name in job.stages:
            (ours, server), began = _processor(job.server), time.monotonic()
            acts[name]()
            seconds, (ours_then, server_then) = time.monotonic() - began, _processor(job.server)
            done[name] = Stage(seconds, ours_then - ours, server_then - server)
    memory = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) << 10 for line in memory if line.startswith("VmHWM"))
    print(json.dumps(asdict(Done(done, peak))))


if __name__ == "__main__":
    main()
