"""§7: lift the cordon, bring the API back, and prove that it serves the model that is in the manifest."""

import socket
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from posixpath import basename
from typing import Final
from urllib.parse import urlsplit

from tasks.containment.containment_check import check_containment
from tasks.containment.cordon import hold
from tasks.containment.pause_prefect import pause_named
from tasks.containment.uncordon import uncordon
from tasks.custody.containment.receipt import Containment, Recovery
from tasks.custody.evidence.acquisition import Seal, StoredFile
from tasks.custody.incident.verdict import Verdict, why_not_recover
from tasks.evidence.model_inspection import sound_models
from tasks.evidence.seal import read_manifest
from tasks.recovery.api_client import Api, Prediction, failure, predict, wait_healthy
from tasks.recovery.container_api import ContainerApi, api_container, restore_restart_policies
from tasks.recovery.process_api import ProcessApi, Revival, path_of
from tasks.recovery.unit_api import UnitApi, unit_of_api
from tasks.runtime.context import RunContext
from tasks.runtime.step import step

_PROBE_SECONDS: Final = 10.0
_PATIENCE_SECONDS: Final = 12.0
"""What a cancelled recovery has to contain again: an answer of the API that is waited for takes 10 s at most."""
_NO_MODEL: Final = "no model: the manifest names none that is sound"


@step("§7", "recover", "recover the API", "復旧", patience=_PATIENCE_SECONDS)
def recover(context: RunContext, seals: Sequence[Seal], intact: Seal, verdict: Verdict, despite: str = "") -> Recovery:
    """Uncordon, restart, wait for health, reload, compare digests, predict (runbook §7).

    A failure leaves the workload contained. Until everything is proven, what was started counts as new life: a run that
    dies here leaves nothing half done that the next one would take for recovered.
    """
    del intact
    if why_not := why_not_recover(verdict.word, despite):
        raise failure("an incident whose evidence is safe", why_not)
    model = _newest_model(context, seals)
    way = _way_back(context)
    if way.again():
        return _prove(context, way, seals, model)
    _require_quiet(context)
    try:
        engine = context.engine if context.workload.containers else None
        let_go = uncordon(context.host, context.scheduler, context.workload, context.log, engine)
        way.start()
        recovery = _prove(context, way, seals, model)
        way.keep()
        restore_restart_policies(context)
    except BaseException:
        _contain_again(context, way)
        raise
    return recovery if let_go.is_complete else replace(recovery, unproven=(*recovery.unproven, let_go.summary))


@step("§7", "prove_contained_again", "check: contained again", "再封じ込めの確認", last=True)
def prove_contained_again(context: RunContext) -> Containment:
    """After a recovery that failed: nothing runs, the lock refuses, and Prefect's side is paused."""
    return _contained_again(context)


def _contained_again(context: RunContext) -> Containment:
    made = check_containment(context)
    return replace(made, alive=(*made.alive, *pause_named(context).open))


def _require_quiet(context: RunContext) -> None:
    """Nothing of the workload runs before its recovery, and no stranger would answer in the API's place.

    After an earlier recovery other life is the workload's own business.
    """
    if not context.recovered() and (alive := check_containment(context).alive):
        raise failure("nothing of the workload to run before its recovery", "; ".join(alive[:3]))
    with socket.socket() as probe:
        probe.settimeout(_PROBE_SECONDS)
        if probe.connect_ex(_address(context)) == 0:
            raise failure(f"nobody to listen on {context.workload.api_address} before the restart", "somebody who does")


def _way_back(context: RunContext) -> Revival:
    """As it ran: an API that was a container, or a service that the block names, comes back as one."""
    if was := api_container(context, _address(context)[1]):
        return ContainerApi(context, was)
    unit = unit_of_api(context)
    return UnitApi(context, unit) if unit else ProcessApi(context)


def _newest_model(context: RunContext, seals: Sequence[Seal]) -> StoredFile | None:
    models = [
        file
        for sealed in seals
        for file in sound_models(context, sealed.volume, read_manifest(context, sealed.volume).files)
        if file.stored.startswith("models/")
    ]
    return max(models, key=lambda file: file.mtime_ns or 0, default=None)


def _undecided(context: RunContext, seals: Sequence[Seal], model: StoredFile, said: str) -> str:
    """What a base name in /health leaves open: files of the manifests that have the same one, and another content."""
    path = path_of(model)
    files = (file for sealed in seals for file in read_manifest(context, sealed.volume).files if file.source)
    others = sorted({path_of(file) for file in files if file.sha256 != model.sha256} - {path})
    namesakes = [other for other in others if basename(other) == said]
    return f"which model it serves: {said!r} is {path}, or {' or '.join(namesakes)}" if namesakes else ""


def _address(context: RunContext) -> tuple[str, int]:
    url = urlsplit(context.workload.api_address)
    return url.hostname or "127.0.0.1", url.port or (443 if url.scheme == "https" else 80)


def _prove(context: RunContext, way: Revival, seals: Sequence[Seal], model: StoredFile | None) -> Recovery:
    block = context.workload
    _, port = _address(context)
    with Api(block.api_address) as api:
        health = wait_healthy(api, partial(_lives, context, way), block.recovery_seconds, way.log)
        if not way.listens(port):
            raise failure(f"what was started to listen on port {port}", "somebody else's answers")
        context.log.write("healthy", block.api_address, result=health)
        made = Recovery(datetime.now(UTC), way.identity, _NO_MODEL, "", health, container=way.container)
        if model is None:
            return replace(made, unproven=("which model it serves",))
        path, sha256, said = way.load(api, model)
        if sha256 != model.sha256:
            raise failure(f"the API to serve sha256 {model.sha256}, as in the manifest", f"{path}: sha256 {sha256}")
        if undecided := _undecided(context, seals, model, said):
            sha256 = ""
        else:
            context.log.write("model proven", path, sha256=sha256)
        prediction = prove_prediction(context, api)
    unproven = tuple(filter(None, (undecided, prediction.unproven)))
    return replace(made, model=path_of(model), sha256=sha256, prediction=prediction.answer, unproven=unproven)


def _lives(context: RunContext, way: Revival) -> bool:
    context.cancelled.check()
    return way.lives()


def prove_prediction(context: RunContext, api: Api) -> Prediction:
    """One canary prediction, told in the custody log."""
    made = predict(api)
    context.log.write("predicted", context.workload.api_address, result=made.answer or f"not proven: {made.unproven}")
    return made


def _contain_again(context: RunContext, way: Revival) -> None:
    """End what was started with all that belongs to it, cordon again, look; what an earlier recovery let go stays."""
    way.end()
    if not context.recovered():
        hold(context, "recovery failed")
        context.log.write("contained again", context.incident.id, result=_contained_again(context).summary)
