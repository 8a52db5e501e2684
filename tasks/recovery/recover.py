"""§7: lift the cordon, restart the API, and prove that it serves the model of the manifest."""

import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from tasks.containment.containers import WorkloadContainers
from tasks.containment.containment_check import check_containment
from tasks.containment.cordon import IncidentCordon
from tasks.containment.pause_prefect import pause_named
from tasks.containment.uncordon import end_held, uncordon
from tasks.containment.units import Units
from tasks.custody.containment.receipt import Containment, Recovery
from tasks.custody.errors import Refused
from tasks.custody.evidence.acquisition import Seal
from tasks.custody.incident.description import leads_to
from tasks.custody.incident.log import CustodyLog
from tasks.custody.incident.verdict import Verdict, why_not_recover
from tasks.host.process.process import family
from tasks.prefect_side.saved_blocks import secret_headers
from tasks.recovery.api_client import Api, NotRecovered, Prediction, failure, predict, shown_address, wait_healthy
from tasks.recovery.choice import choose
from tasks.recovery.container_api import ContainerApi, restore_restart_policies
from tasks.recovery.image_api import ImageApi
from tasks.recovery.opened import Opened, watch_opens
from tasks.recovery.process_api import ProcessApi, Revival
from tasks.recovery.served_model import SealedModels, has_let_in, prove_served
from tasks.recovery.unit_api import UnitApi, unit_of_api
from tasks.runtime.context import RunContext
from tasks.runtime.step import step

if TYPE_CHECKING:
    from blocks.workload import Workload

StartAs = Literal["process", "container"]
"""How the API is started whatever it ran as: by `api_command`, or as a new container of `api_image`."""

_PROBE_SECONDS: Final = 10.0
_PATIENCE_SECONDS: Final = 12.0
"""Time that a cancelled recovery has to contain again, after up to 10 s for an answer of the API."""


@step("recover", "recover the API", section="§7", ja="復旧", retries=1, patience=_PATIENCE_SECONDS)
def recover(  # noqa: PLR0913, PLR0917
    context: RunContext,
    seals: Sequence[Seal],
    intact: Seal,
    verdict: Verdict,
    despite: str = "",
    model: str = "",
    start_as: StartAs | None = None,
) -> Recovery:
    """Uncordon, restart the API, wait for health, reload `model`, compare digests, predict (runbook §7).

    The API comes back as it ran, unless `start_as` says otherwise.
    After a failure the workload is contained again. Until everything is proven the API counts as new life, so that the
    next run does not take a broken-off recovery for a finished one.
    """
    del intact
    context.stop_listening()
    if why_not := why_not_recover(verdict.word, despite):
        raise failure("an incident whose evidence is safe", why_not)
    headers, keyless = _headers(context.workload)
    models = SealedModels.read(context, seals, again=True)
    way = _way_back(context, start_as)
    if way.again():
        models = choose(context, seals, models, way.folder, model, verdict)
        return _with(_prove_again(context, way, models, headers), keyless)
    _require_quiet(context, despite)
    try:
        way.prepare()
        models = choose(context, seals, models, way.folder, model, verdict)
        before = _require_unchanged(context, way, models)
        engine = context.adapters.engine if context.workload.containers else None
        context.end_joins()
        let_go = uncordon(context.adapters.host, context.adapters.scheduler, context.workload, context.log, engine)
        with _watch_models(context, way, {*before.names, models.chosen}) as opened:
            way.start()
            recovery = _prove(context, way, models, headers, before, opened)
        former = as_it_ran(context).container
        unrestored = restore_restart_policies(context, former if former != way.container else "")
        way.keep()
    except BaseException:
        _contain_again(context, way)
        raise
    return _with(recovery, keyless, *unrestored, "" if let_go.is_complete else let_go.summary)


def _headers(workload: "Workload") -> tuple[Mapping[str, str], str]:
    """Return the API's headers, or none and what is then not proven: a missing key does not prevent the recovery."""
    try:
        return secret_headers(workload.api_headers), ""
    except Refused as error:
        return {}, f"that it answers with its key: expected {error.expected}; got {error.got}. {error.remedy}"


def _with(recovery: Recovery, *unproven: str) -> Recovery:
    return replace(recovery, unproven=(*filter(None, unproven), *recovery.unproven))


@step("prove_contained_again", "check: contained again", section="§7", ja="再封じ込めの確認", retries=2, last=True)
def prove_contained_again(context: RunContext) -> Containment:
    """Check after a failed recovery: nothing runs, the lock is held, and Prefect's side is paused."""
    found = _check_again(context)
    context.state.unknown.write(list(found.unknown))
    return found


def _check_again(context: RunContext) -> Containment:
    containment = check_containment(context)
    return replace(containment, alive=(*containment.alive, *pause_named(context).open))


def _require_quiet(context: RunContext, despite: str) -> None:
    """Raise NotRecovered if the workload runs before its recovery, or if anything listens at the API's address.

    So does a process in its root that nobody knows and nobody has answered, unless there is a reason to go on despite
    it. After an earlier recovery, running processes of the workload are allowed.
    """
    if not context.state.recovered.read():
        for each in end_held(context.adapters.host, context.workload):
            context.log.write("newcomer ended", context.incident.id, result=each)
        containment = check_containment(context)
        if containment.alive:
            raise failure("nothing of the workload to run before its recovery", "; ".join(containment.alive[:3]))
        if containment.unknown and not despite:
            strange = "; ".join(f"{each.identity.pid}: {each.command}" for each in containment.unknown[:3])
            raise failure("nobody unknown in its root before its recovery, or a reason in despite", strange)
    with socket.socket() as probe:
        probe.settimeout(_PROBE_SECONDS)
        if probe.connect_ex(address_of(context.workload)) == 0:
            way = _way_back(context, None)
            earlier = f"{way.container or 'a process'} of an earlier recovery: stop it, or leave start_as out"
            listener = earlier if way.again() else "somebody who does"
            raise failure(f"nobody to listen on {shown_address(context.workload)} before the restart", listener)


def _way_back(context: RunContext, start_as: StartAs | None) -> Revival:
    """Return how to bring the API back: as asked, else as an earlier recovery did if it lives, else as it ran."""
    if start_as:
        return ImageApi(context) if start_as == "container" else ProcessApi(context)
    before = as_it_ran(context)
    return next((way for way in (before, ImageApi(context), ProcessApi(context)) if way.again()), before)


def as_it_ran(context: RunContext) -> Revival:
    """Return how to restart the API: as the container or systemd service that it was, else as a process."""
    if container := WorkloadContainers(context).find_api(address_of(context.workload)[1]):
        return ContainerApi(context, container.name, container.image, container.identity)
    unit = unit_of_api(context)
    return UnitApi(context, unit) if unit else ProcessApi(context)


@dataclass(frozen=True)
class _Before:
    """State before the proof: the models that the API may have loaded, and all that were listed."""

    names: tuple[str, ...]
    listed: frozenset[str]


def _require_unchanged(context: RunContext, way: Revival, models: SealedModels, *, lives: bool = False) -> _Before:
    """Raise NotRecovered unless each model that the API may load at its start is as sealed, and none is suspect."""
    names_now = way.folder.list_names(models.files)
    names = models.starting(context, way.folder.root, names_now, way.words, lives=lives)
    models.require_chosen(context.workload, names)
    models.require_unchanged(context.workload, way.folder, names)
    return _Before(tuple(names), frozenset(names_now))


def _watch_models(context: RunContext, way: Revival, names: Iterable[str]) -> AbstractContextManager[Opened]:
    """Watch which of the models below the root the API opens, also from a container that mounts them."""
    real = ProcessApi(context).folder.real
    files = {name: file for name in names if (file := real(name))}
    return watch_opens(files, lambda: family(context.adapters.host.snapshot(), {way.identity}))


def _prove_again(context: RunContext, way: Revival, models: SealedModels, headers: Mapping[str, str]) -> Recovery:
    """Prove an API that an earlier recovery started. If that fails, end it and contain again."""
    try:
        before = _require_unchanged(context, way, models, lives=True)
        earlier = [] if models.reloads(context.workload) else context.state.opened.read()
        with _watch_models(context, way, {*before.names, models.chosen}) as opened:
            return _prove(context, way, models, headers, before, lambda: {*earlier, *opened()})
    except NotRecovered:
        _contain_again(context, way)
        raise


def address_of(workload: "Workload") -> tuple[str, int]:
    """Return host and port of the API."""
    host, port = leads_to(workload.api_address)
    return host or "127.0.0.1", port


def _prove(  # noqa: PLR0913, PLR0917
    context: RunContext, way: Revival, models: SealedModels, headers: Mapping[str, str], before: _Before, opened: Opened
) -> Recovery:
    block = context.workload
    listens = partial(way.listens, address_of(context.workload)[1])
    with Api(block, headers) as api:
        health, unhealthy = wait_healthy(api, partial(_lives, context, way), listens, block.recovery_seconds, way.log)
        context.log.write("healthy", api.url, result=f"not proven: {unhealthy}" if unhealthy else health)
        proof = prove_served(context, api, way.folder, models, before.names, opened)
        expected = models.find_expected(context.workload, before.names)
        prediction = prove_prediction(context.log, api) if expected else Prediction()
        models.require_unchanged(context.workload, way.folder, before.names)
    new = [] if has_let_in(context.state) else way.folder.find_new(before.listed)
    appeared = f"that it serves no model that is new since its start: {', '.join(new)}" if new else ""
    unproven = tuple(filter(None, (unhealthy, *proof.unproven, prediction.unproven, appeared)))
    fields = {"health": health, "prediction": prediction.answer, "container": way.container, "url": api.url}
    model, former = (proof.model, proof.sha256), models.served_at_freeze
    return Recovery(datetime.now(UTC), way.identity, *model, unproven=unproven, before=former, **fields)


def _lives(context: RunContext, way: Revival) -> bool:
    context.cancelled.check()
    return way.lives()


def prove_prediction(log: CustodyLog, api: Api) -> Prediction:
    """Make one canary prediction, and log it."""
    prediction = predict(api)
    log.write("predicted", api.url, result=prediction.answer or f"not proven: {prediction.unproven}")
    return prediction


def _contain_again(context: RunContext, way: Revival) -> None:
    """End what was started. Restore the whole cordon, and check it.

    The lock stays free if an earlier recovery has let in what of the workload runs now: the guard would freeze that.
    """
    way.end()
    if context.state.recovered.read() and check_containment(context).alive:
        return
    context.state.end_recovery()
    IncidentCordon(context).hold("recovery failed")
    Units(context).keep_down()
    context.log.write("contained again", context.incident.id, result=_check_again(context).summary)
