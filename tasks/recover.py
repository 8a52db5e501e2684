"""§7: let training start again, bring the API back, and prove that it serves the model that is in the manifest."""

import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from signal import SIGKILL
from typing import Final
from urllib.parse import urlsplit

import psutil
from pydantic import TypeAdapter, ValidationError

from tasks.account import clean_environment
from tasks.api import Api, Prediction, failure, predict, reload, served, wait_healthy
from tasks.case import RECOVERED, Case
from tasks.contain import contained
from tasks.cordon import hold
from tasks.custody.evidence import Seal, StoredFile
from tasks.custody.keys import unquote
from tasks.custody.manifest import digest
from tasks.custody.model import sound
from tasks.custody.process import Identity, descendants
from tasks.custody.receipt import Containment, Frozen, Recovery
from tasks.custody.redact import redact_command
from tasks.custody.verdict import Verdict, why_not_recover
from tasks.pause import pause_named
from tasks.seal import read_manifest
from tasks.step import step
from tasks.uncordon import uncordon

_PROBE_SECONDS: Final = 10.0
_GONE_SECONDS: Final = 10.0
_KILL_ROUNDS: Final = 10
_NO_MODEL: Final = "no model: the manifest names none that is sound"


@step("§7 recover the API")
def recover(case: Case, seals: Sequence[Seal], intact: Seal, verdict: Verdict, despite: str = "") -> Recovery:
    """Uncordon, restart, wait for health, reload, compare digests, predict (runbook §7).

    A failure leaves the workload contained. Until everything is proven, what was started counts as new life: a run that
    dies here leaves nothing half done that the next one would take for recovered.
    """
    del intact
    if why_not := why_not_recover(verdict.word, despite):
        raise failure("an incident whose evidence is safe", why_not)
    model = _newest_model(case, seals)
    if living := next((who for who in case.recovered() if _lives(case, who)), None):
        return _prove(case, living, model)
    _require_quiet(case)
    started: Identity | None = None
    try:
        let_go = uncordon(case.host, case.scheduler, case.workload.evidence, case.log)
        started = start_api(case)
        recovery = _prove(case, started, model)
        case.journal(RECOVERED, list[Identity], [*case.recovered(), started])
    except BaseException:
        _contain_again(case, started)
        raise
    return recovery if let_go.complete else replace(recovery, unproven=(*recovery.unproven, let_go.told))


@step("§7 check: contained again")
def prove_contained_again(case: Case) -> Containment:
    """After a recovery that failed: nothing runs, the lock refuses, and Prefect's side is paused."""
    return _contained_again(case)


def _contained_again(case: Case) -> Containment:
    made = contained(case)
    return replace(made, alive=(*made.alive, *pause_named(case).open))


def _require_quiet(case: Case) -> None:
    """Nothing of the workload runs before its recovery, and no stranger would answer in the API's place.

    After an earlier recovery other life is the workload's own business.
    """
    if not case.recovered() and (alive := contained(case).alive):
        raise failure("nothing of the workload to run before its recovery", "; ".join(alive[:3]))
    with socket.socket() as probe:
        probe.settimeout(_PROBE_SECONDS)
        if probe.connect_ex(_address(case)) == 0:
            raise failure(f"nobody to listen on {case.workload.api_url} before the restart", "somebody who does")


def start_api(case: Case) -> Identity:
    """Start it as the user of its receipt, in a scope or session of its own."""
    block = case.workload
    user = _api_user(case)
    log = case.home / "api-restart.log"
    environment = clean_environment(user) | block.api_environment
    identity = case.host.start(block.api_command, block.root, log, user, environment)
    case.log.write("restarted", str(identity.pid), command=redact_command(block.api_command), user=user)
    return identity


def _api_user(case: Case) -> int:
    """As the freeze found it, before a reboot too; the owner of the root where no API was frozen."""
    for journal in sorted(case.home.glob("frozen-????????.json"), key=lambda path: path.stat().st_mtime, reverse=True):
        with suppress(ValidationError):
            frozen = TypeAdapter(list[Frozen]).validate_json(journal.read_bytes())
            if users := [process.user for process in frozen if process.role == "api"]:
                return users[0]
    return case.workload.root.stat().st_uid


def _lives(case: Case, identity: Identity) -> bool:
    process = case.host.look(identity)
    return process is not None and process.alive


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


def _prove(case: Case, started: Identity, model: StoredFile | None) -> Recovery:
    block = case.workload
    with Api(block.api_url) as api:
        health = wait_healthy(api, lambda: _lives(case, started), block.recovery_seconds, case.home / "api-restart.log")
        _require_our_listener(case, started)
        case.log.write("healthy", block.api_url, result=health)
        if model is None:
            return Recovery(datetime.now(UTC), started, _NO_MODEL, "", health, unproven=("which model it serves",))
        prove_model(case, api, model)
        prediction = prove_prediction(case, api)
    return Recovery(
        at=datetime.now(UTC),
        process=started,
        model=_path_of(model),
        sha256=model.sha256,
        health=health,
        prediction=prediction.answer,
        unproven=(prediction.unproven,) if prediction.unproven else (),
    )


def _path_of(model: StoredFile) -> str:
    return unquote(model.source).decode(errors="backslashreplace")


def prove_model(case: Case, api: Api, model: StoredFile) -> None:
    """Have it load the manifest's model; the file that it then says it serves must have the manifest's digest."""
    models = case.workload.root / "models"
    reload(api, _path_of(model), models)
    path = served(api, models)
    if (sha256 := digest(path)) != model.sha256:
        raise failure(f"the API to serve sha256 {model.sha256}, as in the manifest", f"{path}: sha256 {sha256}")
    case.log.write("model proven", str(path), sha256=sha256)


def prove_prediction(case: Case, api: Api) -> Prediction:
    """One canary prediction, told in the custody log."""
    made = predict(api)
    case.log.write("predicted", case.workload.api_url, result=made.answer or f"not proven: {made.unproven}")
    return made


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
    raise failure(f"process {started.pid} or a child of it to listen on port {port}", "somebody else's answers")


def _contain_again(case: Case, started: Identity | None) -> None:
    """End what was started with all its children, cordon again, look; what an earlier recovery let go stays free."""
    for _ in range(_KILL_ROUNDS):
        snapshot = case.host.snapshot()
        if not started or started.pid not in snapshot:
            break
        family = [snapshot[pid].identity for pid in {started.pid} | descendants(snapshot, [started.pid])]
        for identity in family:
            with suppress(ProcessLookupError):
                case.host.signal(identity, SIGKILL)
        if not case.host.wait_gone(family, _GONE_SECONDS):
            break
    if not case.recovered():
        hold(case, "recovery failed")
        case.log.write("contained again", case.incident.id, result=_contained_again(case).told)
