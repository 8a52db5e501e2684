"""§7: let training start again, bring the API back, and prove that it serves the model that is in the manifest."""

import os
import pwd
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGKILL
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import psutil

from tasks.case import RECOVERED, Case
from tasks.contain import contained, frozen
from tasks.cordon import hold
from tasks.custody.errors import EvacuationError
from tasks.custody.evidence import Seal, StoredFile
from tasks.custody.keys import unquote
from tasks.custody.manifest import digest
from tasks.custody.model import sound
from tasks.custody.process import Identity, descendants
from tasks.custody.receipt import Recovery
from tasks.custody.redact import redact_command
from tasks.custody.verdict import Verdict, Word
from tasks.seal import read_manifest
from tasks.step import step

_POLL_SECONDS: Final = 0.2
_ANSWER_SECONDS: Final = 10.0
_KILL_ROUNDS: Final = 10


class NotRecovered(EvacuationError):
    """The API did not come back as it should; the workload is contained again."""


@step("§7 recover the API")
def recover(case: Case, seals: Sequence[Seal], verdict: Verdict) -> Recovery:
    """Uncordon, restart, poll health, reload, compare digests (runbook §7). A failure leaves the workload contained.

    Until everything is proven, what was started counts as new life: a run that dies here leaves nothing half done
    that the next one would take for recovered.
    """
    if verdict.word not in {Word.VERIFIED, Word.PARTIAL}:
        raise _failure("an evacuation that is VERIFIED, or PARTIAL at the least", verdict.message)
    if living := next((who for who in case.recovered() if _lives(case, who)), None):
        return _prove(case, living, _newest_model(case, seals))
    _require_free_port(case)
    started: Identity | None = None
    try:
        started = _start(case)
        recovery = _prove(case, started, _newest_model(case, seals))
        case.journal(RECOVERED, list[Identity], [started])
    except BaseException:
        _contain_again(case, started)
        raise
    return recovery


def _lives(case: Case, identity: Identity) -> bool:
    process = case.host.look(identity)
    return process is not None and process.alive


def _start(case: Case) -> Identity:
    block = case.workload
    case.host.release(case.marker)
    case.log.write("uncordoned", str(block.lock))
    user = next((process.user for process in frozen(case).values() if process.role == "api"), block.root.stat().st_uid)
    account = pwd.getpwuid(user)
    environment = {"PATH": os.defpath, "HOME": account.pw_dir, "USER": account.pw_name, "LANG": "C.UTF-8"}
    log = case.home / "api-restart.log"
    identity = case.host.start(block.api_command, block.root, log, user, environment | block.api_environment)
    case.log.write("restarted", str(identity.pid), command=redact_command(block.api_command), user=user)
    return identity


def _contain_again(case: Case, started: Identity | None) -> None:
    """End what was started with all its children, take the lock again, and look."""
    for _ in range(_KILL_ROUNDS):
        snapshot = case.host.snapshot()
        if not started or started.pid not in snapshot:
            break
        family = [snapshot[pid].identity for pid in {started.pid} | descendants(snapshot, [started.pid])]
        for identity in family:
            with suppress(ProcessLookupError):
                case.host.signal(identity, SIGKILL)
        if not case.host.wait_gone(family, _ANSWER_SECONDS):
            break
    hold(case, "recovery failed")
    case.log.write("contained again", case.incident.id, result=contained(case).told)


def _newest_model(case: Case, seals: Sequence[Seal]) -> StoredFile | None:
    models = [
        file
        for sealed in seals
        for file in read_manifest(case, sealed.volume).files
        if file.stored.startswith("models/") and sound(case.folder(sealed.volume) / file.stored)
    ]
    return max(models, key=lambda file: file.mtime_ns or 0, default=None)


def _address(case: Case) -> tuple[str, int]:
    url = urlsplit(case.workload.api_url)
    return url.hostname or "127.0.0.1", url.port or (443 if url.scheme == "https" else 80)


def _require_free_port(case: Case) -> None:
    """A stranger on the API's port would answer in its place."""
    with socket.socket() as probe:
        probe.settimeout(_ANSWER_SECONDS)
        if probe.connect_ex(_address(case)) == 0:
            raise _failure(f"nobody to listen on {case.workload.api_url} before the restart", "somebody who does")


def _require_our_listener(case: Case, started: Identity) -> None:
    """The answers came from what we started: it, or a child of it, owns the listening socket."""
    snapshot = case.host.snapshot()
    family = {started.pid} | descendants(snapshot, [started.pid])
    _, port = _address(case)
    for pid in family:
        with suppress(psutil.Error):
            for connection in psutil.Process(pid).net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                    return
    raise _failure(f"process {started.pid} or a child of it to listen on port {port}", "somebody else's answers")


def _prove(case: Case, started: Identity, model: StoredFile | None) -> Recovery:
    with httpx.Client(base_url=case.workload.api_url, timeout=_ANSWER_SECONDS, trust_env=False) as api:
        _wait_healthy(case, started, api)
        _require_our_listener(case, started)
        if model is None:
            return Recovery(datetime.now(UTC), started, "no model: the manifest names none", "")
        path = unquote(model.source).decode()
        answer = api.post("/reload", params={"path": path})
        if answer.is_error:
            raise _failure(f"the API to reload {path}", f"HTTP {answer.status_code}: {answer.text[:200]}")
        served = _served(case, api.get("/health").raise_for_status().json())
    sha256 = digest(served)
    if sha256 != model.sha256:
        raise _failure(f"the API to serve sha256 {model.sha256}, as in the manifest", f"{served}: sha256 {sha256}")
    return Recovery(datetime.now(UTC), started, path, sha256)


def _wait_healthy(case: Case, started: Identity, api: httpx.Client) -> None:
    """Poll until it answers, and only as long as the process that we started lives."""
    deadline = time.monotonic() + case.workload.recovery_seconds
    last = "no answer"
    while time.monotonic() < deadline:
        if not _lives(case, started):
            raise _failure("the API to keep running", f"process {started.pid} ended; see {case.home}/api-restart.log")
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
        "The workload is contained, and the evidence is as safe as the verdict says.",
        "Mend the cause and run again with the same incident id and recover=true.",
    )
