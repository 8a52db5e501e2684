"""§7: lift the cordon, restart the API, and prove that it serves the model of the manifest."""

import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Final, Literal, TypeAlias

from blocks.workload import Workload
from tasks.containment.containers.pause import WorkloadContainers
from tasks.containment.containment_check import check_containment
from tasks.containment.cordon import IncidentCordon
from tasks.containment.pause_prefect import pause_named
from tasks.containment.release.uncordon import end_held, uncordon
from tasks.containment.units import Units
from tasks.custody.containment.receipt import Containment, Recovery
from tasks.custody.errors import Refused
from tasks.custody.evidence.acquisition import Seal
from tasks.custody.incident.description import leads_to
from tasks.custody.incident.verdict import Verdict, why_not_recover
from tasks.custody.models.inspection import ModelFinding, forbids_start
from tasks.evidence.model_served import Began, tell_change
from tasks.host.mounted import find_own_mounts, find_point
from tasks.host.process.process import family
from tasks.host.process.table import began_at
from tasks.models.inspect import judge_again, read_model, reading_seconds
from tasks.prefect_side.saved_blocks import secret_headers
from tasks.recovery.api_client import Api, NotRecovered, failure, shown_address
from tasks.recovery.choice import choose, with_former
from tasks.recovery.container_api import ContainerApi, restore_restart_policies
from tasks.recovery.health import wait_healthy
from tasks.recovery.image_api import ImageApi
from tasks.recovery.models_folder import HostFolder
from tasks.recovery.newer import find_newer, find_touched, pick_read, watch_newer, with_newer
from tasks.recovery.opened import Opened, watch_opens
from tasks.recovery.prediction import try_prediction
from tasks.recovery.process_api import ProcessApi
from tasks.recovery.served_model import SealedModels, prove_served
from tasks.recovery.unit_api import UnitApi, unit_of_api
from tasks.runtime.context import RunContext
from tasks.runtime.step import step

StartAs = Literal["process", "container"]
"""How the API is started whatever it ran as: by `api_command`, or as a new container of `api_image`."""

Revival: TypeAlias = ProcessApi | ContainerApi
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
    models = SealedModels.read(context.directory, context.workload, seals, partial(judge_again, context, {}))
    models = with_former(context, seals, models)
    way = _way_back(context, start_as)
    restart = _Restart(context, way, models, headers)
    if way.again():
        models = choose(context, models, way.folder, model, verdict)
        return _with(replace(restart, models=models).prove_again(), keyless)
    _require_quiet(context, despite)
    try:
        way.prepare()
        restart = replace(restart, models=choose(context, models, way.folder, model, verdict))
        before = restart.require_unchanged()
        engine = context.adapters.engine if context.workload.containers else None
        context.end_joins()
        touched = find_touched(context, restart.models)
        let_go = uncordon(context.adapters.host, context.adapters.scheduler, context.workload, context.log, engine)
        newer = find_newer(context, restart.models, seals, way.find_outside())
        root, began = context.workload.root, datetime.now(UTC)
        with (
            restart.watch(before) as opened,
            watch_newer(context.adapters.host, context.workload, newer, lambda: way.identity) as read,
        ):
            way.start()
            recovery = restart.prove(before, opened)
            changes = pick_read(root, newer, read(), began) | touched
            context.state.newer.write(sorted({*changes.values()}))
            recovery = with_newer(recovery, context.state.newer.read(), restart.models)
        former = as_it_ran(context).container
        unrestored = restore_restart_policies(WorkloadContainers(context), former if former != way.container else "")
        way.keep()
    except BaseException:
        restart.contain_again()
        raise
    return _with(recovery, keyless, *unrestored, "" if let_go.is_complete else let_go.summary)


def _headers(workload: Workload) -> tuple[Mapping[str, str], str]:
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
    context.state.unknown.write([*found.unknown, *found.suspects])
    return found


def _check_again(context: RunContext) -> Containment:
    containment = check_containment(context)
    return replace(containment, alive=(*containment.alive, *pause_named(context).open))


def _require_quiet(context: RunContext, despite: str) -> None:
    """Raise NotRecovered if the workload runs before its recovery, or if anything listens at the API's address.

    So does a process that is not known to be harmless and that nobody has answered, unless there is a reason to go on
    despite it. After an earlier recovery, running processes of the workload are allowed.
    """
    if not context.state.recovered.read():
        for each in end_held(context.adapters.host, context.workload):
            context.log.write("newcomer ended", context.incident.id, result=each)
        containment = check_containment(context)
        if containment.alive:
            raise failure("nothing of the workload to run before its recovery", "; ".join(containment.alive[:3]))
        if containment.unknown and not despite:
            strange = "; ".join(f"{each.identity.pid}: {each.command}" for each in containment.unknown[:3])
            raise failure("nobody whom a person has yet to answer before its recovery, or a reason in despite", strange)
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
        return ImageApi(context) if start_as == "container" else ProcessApi(context, is_asked=True)
    before = as_it_ran(context)
    return next((way for way in (before, ImageApi(context), ProcessApi(context)) if way.again()), before)


def as_it_ran(context: RunContext) -> Revival:
    """Return how to restart the API: as the container or systemd service that it was, else as a process."""
    if container := WorkloadContainers(context).find_api(address_of(context.workload)[1]):
        return ContainerApi(context, container.name, container.image, container.identity)
    unit = unit_of_api(context.workload, context.state)
    return UnitApi(context, unit) if unit else ProcessApi(context)


@dataclass(frozen=True)
class _Before:
    """State before the proof: the models that the API may have loaded, all that were listed, those not as sealed."""

    names: tuple[str, ...]
    listed: frozenset[str]
    changed: frozenset[str]


@dataclass(frozen=True)
class _Restart:
    """A restart of the API, in one way and with one model, and the proof of what it serves then."""

    context: RunContext
    way: Revival
    models: SealedModels
    headers: Mapping[str, str]

    def require_unchanged(self, *, lives: bool = False) -> _Before:
        """Raise NotRecovered unless each model that the API may load at its start is as sealed, and none is suspect.

        If it is known which one is to be served, and so can be proven, another one need only be harmless.
        """
        workload, folder = self.context.workload, self.way.folder
        names_now = folder.list_names(self.models.files)
        names = self.models.starting(workload, self.context.state, folder, names_now, lives=lives)
        self.models.require_chosen(workload, names)
        changed = self.models.find_changed(folder, names)
        for name, sha256 in changed.items():
            self.context.log.write("model not as sealed", name, sha256=sha256 or "no such file")
            if isinstance(folder, HostFolder) and (path := folder.real(name)):
                with path.open("rb") as file:
                    fields = read_model(name, file, reading_seconds(path.stat().st_size), workload)
                finding = ModelFinding(name, sha256, **fields)
                if why := forbids_start(finding) or ("" if folder.digest(name) == sha256 else "it changes meanwhile"):
                    got = f"{name}, which is not as sealed: {why} (take the file away; このファイルを移動してください)"
                    raise failure(f"the API at {shown_address(workload)} to start on no suspect model", got)
        same = [name for name in names if name not in changed]
        self.models.require_unchanged(workload, folder, same)
        return _Before(tuple(same), frozenset(names_now), frozenset(changed))

    def watch(self, before: _Before) -> AbstractContextManager[Opened]:
        """Watch which of the models below the root the API opens, also from a container that mounts them."""
        real, host = ProcessApi(self.context).folder.real, self.context.adapters.host
        names = {*before.names, *before.changed, self.models.chosen}
        files = {name: file for name in names if (file := real(name))}
        return watch_opens(files, lambda: family(host.snapshot(), {self.way.identity}))

    def require_named(self) -> None:
        """Raise NotRecovered if the API can neither have started with what a person names nor reload it.

        Nothing is touched.
        """
        models, folder, block = self.models, self.way.folder, self.context.workload
        if models.named and models.reloads(block):
            models.require_unchanged(block, folder, [models.chosen])
        elif models.named:
            names = models.starting(block, self.context.state, folder, folder.list_names(models.files), lives=True)
            models.require_chosen(block, names)

    def prove_again(self) -> Recovery:
        """Prove an API that an earlier recovery started. If that fails, end it and contain again.

        What a person names and it cannot serve is refused before: the API stays.
        """
        self.require_named()
        try:
            before = self.require_unchanged(lives=True)
            earlier = [] if self.models.reloads(self.context.workload) else self.context.state.opened.read()
            with self.watch(before) as opened:
                recovery = self.prove(before, lambda: {*earlier, *opened()})
                return with_newer(recovery, self.context.state.newer.read(), self.models)
        except NotRecovered:
            self.contain_again()
            raise

    def prove(self, before: _Before, opened: Opened) -> Recovery:
        """Wait until the API is healthy, prove its model, and have it predict."""
        context, way, models, block = self.context, self.way, self.models, self.context.workload

        def lives() -> bool:
            context.cancelled.check()
            return way.lives()

        with Api(block, self.headers) as api:
            listens = partial(way.listens, address_of(block)[1])
            why = [way.why_ended] if type(way) is ProcessApi else []
            health, unhealthy = wait_healthy(api, lives, listens, block.recovery_seconds, way.log, *why)
            context.log.write("healthy", api.url, result=f"not proven: {unhealthy}" if unhealthy else health)
            proof = prove_served(context, api, way.folder, models, before.names, opened, before.changed)
            prediction = try_prediction(api, is_known=bool(models.find_expected(block, before.names)))
            result = prediction.answer or f"not proven: {prediction.unproven}"
            context.log.write("predicted", api.url, result=result)
            changed = models.find_changed(way.folder, before.names) if models.find_wanted(block) else {}
            models.require_unchanged(block, way.folder, [name for name in before.names if name not in changed])
        other = way.find_doubt() if isinstance(way, ProcessApi) else ""
        stale = "" if models.reloads(block) else self._find_stale([*before.names, models.chosen], proof.model)
        stale = stale or self._find_hidden(proof.model)
        folder = None if context.state.has_let_in else way.folder  # in a container only sealed files are visible
        new = folder.find_new(before.listed) if isinstance(folder, HostFolder) else []
        appeared = f"that it serves no model that is new since its start: {', '.join(new)}" if new else ""
        return Recovery(
            at=datetime.now(UTC),
            process=way.identity,
            model=proof.model,
            sha256="" if stale else proof.sha256,
            health=health,
            prediction=prediction.answer,
            unproven=tuple(filter(None, (unhealthy, *proof.unproven, stale, prediction.unproven, other, appeared))),
            container=way.container,
            url=api.url,
            before=models.served_at_freeze,
            changed=tuple(sorted({*before.changed, *changed})),
            brought=way.find_brought(),
        )

    def _find_stale(self, names: Iterable[str], served: str) -> str:
        """Return that a file of these that is `served` was changed after the process had started; empty if none was.

        An API that lives, and is not asked to reload, serves what it has read.
        """
        identity, root = self.way.identity, self.context.workload.root
        own = [each for each in names if each in served.split(" or ") and identity.start]
        changes = (tell_change(root, each, Began(began_at(identity.start))) for each in own)
        if not (change := next(filter(None, changes), "")):
            return ""
        cure = f"stop it (pid {identity.pid}), then type the same line again 停止後に同じ行を再実行"
        return f"that it serves the file as it is now: {change}; {cure}"

    def _find_hidden(self, served: str) -> str:
        """Return that the process does not read the file at a `served` path that was proven; empty if it does."""
        identity, root = self.way.identity, str(self.context.workload.root)
        with suppress(OSError):  # it has ended, which is told elsewhere
            own = find_own_mounts(identity.pid, root) if identity.start and served and not self.way.container else []
            if point := next(filter(None, (find_point(own, root, name) for name in served.split(" or "))), ""):
                return f"that it reads the proven file: it alone has a mount at {point} (BindPaths=?) 独自マウント"
        return ""

    def contain_again(self) -> None:
        """End what was started. Restore the whole cordon, and check it.

        The lock stays free if an earlier recovery has let in what of the workload runs now: the guard would freeze it.
        """
        context = self.context
        self.way.end()
        if context.state.recovered.read() and check_containment(context).alive:
            return
        context.state.end_recovery()
        IncidentCordon(context).hold("recovery failed")
        Units(context).keep_down()
        context.log.write("contained again", context.incident.id, result=_check_again(context).summary)


def address_of(workload: Workload) -> tuple[str, int]:
    """Return host and port of the API."""
    host, port = leads_to(workload.api_address)
    return host or "127.0.0.1", port
