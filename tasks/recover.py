"""§7: let training start again, bring the API back, and prove that it serves the model that is in the manifest."""

import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGKILL
from typing import Any, Final

import httpx

from tasks.case import RECOVERED, Case
from tasks.contain import frozen
from tasks.cordon import hold
from tasks.custody.errors import EvacuationError
from tasks.custody.evidence import Seal, StoredFile
from tasks.custody.keys import unquote
from tasks.custody.manifest import digest
from tasks.custody.model import sound
from tasks.custody.process import Identity
from tasks.custody.receipt import Receipts, Recovery
from tasks.custody.redact import redact_command
from tasks.seal import read_manifest
from tasks.step import step

_POLL_SECONDS: Final = 0.2
_ANSWER_SECONDS: Final = 10.0


class NotRecovered(EvacuationError):
    """The API did not come back as it should; the workload is contained again."""


@step("§7 recover the API")
def recover(case: Case, seals: Sequence[Seal], proven: Receipts) -> Recovery:
    """Uncordon, restart, poll health, reload, compare digests (runbook §7). A failure leaves the workload contained."""
    if not proven.complete:
        raise _failure("every object proven", proven.told)
    identity = _living(case) or _start(case)
    try:
        model = _newest_model(case, seals)
        return _prove(case, identity, model)
    except Exception:
        _contain_again(case, identity)
        raise


def _living(case: Case) -> Identity | None:
    return next((who for who in case.recovered() if (now := case.host.look(who)) and now.alive), None)


def _start(case: Case) -> Identity:
    block = case.workload
    case.host.release(case.marker)
    case.log.write("uncordoned", str(block.lock))
    user = next((process.user for process in frozen(case).values() if process.role == "api"), block.root.stat().st_uid)
    identity = case.host.start(block.api_command, block.root, case.home / "api-restart.log", user)
    case.journal(RECOVERED, list[Identity], [identity])
    case.log.write("restarted", str(identity.pid), command=redact_command(block.api_command), user=user)
    return identity


def _contain_again(case: Case, identity: Identity) -> None:
    with suppress(ProcessLookupError):
        case.host.signal(identity, SIGKILL)
    case.host.wait_gone([identity], _ANSWER_SECONDS)
    (case.home / RECOVERED).unlink(missing_ok=True)
    hold(case, "recovery failed")
    case.log.write("contained again", str(identity.pid))


def _newest_model(case: Case, seals: Sequence[Seal]) -> StoredFile | None:
    models = [
        file
        for sealed in seals
        for file in read_manifest(case, sealed.volume).files
        if file.stored.startswith("models/") and sound(case.folder(sealed.volume) / file.stored)
    ]
    return max(models, key=lambda file: file.mtime_ns or 0, default=None)


def _prove(case: Case, identity: Identity, model: StoredFile | None) -> Recovery:
    with httpx.Client(base_url=case.workload.api_url, timeout=_ANSWER_SECONDS, trust_env=False) as api:
        _wait_healthy(case, identity, api)
        if model is None:
            return Recovery(datetime.now(UTC), identity, "no model: the manifest names none", "")
        path = unquote(model.source).decode()
        answer = api.post("/reload", params={"path": path})
        if answer.is_error:
            raise _failure(f"the API to reload {path}", f"HTTP {answer.status_code}: {answer.text[:200]}")
        served = _served(case, api.get("/health").raise_for_status().json())
    sha256 = digest(served)
    if sha256 != model.sha256:
        raise _failure(f"the API to serve sha256 {model.sha256}, as in the manifest", f"{served}: sha256 {sha256}")
    return Recovery(datetime.now(UTC), identity, path, sha256)


def _wait_healthy(case: Case, identity: Identity, api: httpx.Client) -> None:
    """Poll until it answers, and only as long as the process that we started lives."""
    deadline = time.monotonic() + case.workload.recovery_seconds
    last = "no answer"
    while time.monotonic() < deadline:
        now = case.host.look(identity)
        if not now or not now.alive:
            raise _failure("the API to keep running", f"process {identity.pid} ended; see {case.home}/api-restart.log")
        try:
            answer = api.get("/health")
        except httpx.TransportError as error:
            last = str(error)
        else:
            if answer.is_success:
                return
            last = f"HTTP {answer.status_code}"
        time.sleep(_POLL_SECONDS)
    raise _failure(f"an answer from {case.workload.api_url}/health in {case.workload.recovery_seconds:g} s", last)


def _served(case: Case, health: dict[str, Any]) -> Path:
    """The file that the API says it serves; it must lie in the models folder, whatever it says."""
    said = health.get("model")
    models = (case.workload.root / "models").resolve()
    served = (case.workload.root / str(said)).resolve()
    if not said or not served.is_relative_to(models) or not served.is_file():
        raise _failure(f"the API to serve a file in {models}", repr(said))
    return served


def _failure(expected: str, got: str) -> NotRecovered:
    return NotRecovered(
        expected,
        got,
        "The workload is contained and the evidence is as safe as the verdict says.",
        "Mend the cause and run again with the same incident id and recover=true.",
    )
