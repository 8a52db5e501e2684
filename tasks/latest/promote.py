"""§5: update latest/ from a proven incident. Runs last, because the API reads latest/."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from tasks.containment.containers.pause import WorkloadContainers
from tasks.custody.audit.facts import read_coverage
from tasks.custody.evidence.acquisition import Seal, StoredFile
from tasks.custody.evidence.artifact import unsteady
from tasks.custody.evidence.keys import CONTAINERS, COVERAGE, IN_CONTAINER, LATEST, claim_key, latest_key
from tasks.custody.incident.description import leads_to
from tasks.custody.incident.incident import is_ahead
from tasks.custody.incident.verdict import Verdict, Word
from tasks.custody.store.latest import Act, LatestPolicy, ObjectRef, Promotion
from tasks.custody.store.latest_plan import surplus_of, unsure_of
from tasks.custody.store.objects import latest_held
from tasks.evidence.being_written import BEING_WRITTEN, find_being_written
from tasks.evidence.seal import read_manifest
from tasks.latest.history import History, history
from tasks.latest.transaction import ChangeRequest, LatestBusy, NotOurs, change_latest
from tasks.models.findings import (
    EMPTY,
    held_back,
    is_model,
    is_result,
    latest_place,
    sealed_findings,
    sound_models,
)
from tasks.runtime.context import RunContext
from tasks.runtime.step import step
from tasks.runtime.store_access import StoreAccess
from tasks.runtime.wait_for_store import waits_for_store

_SHOWN: Final = 10
_CHANGED: Final = "it was changed after everything was stopped, by nobody known 停止後に変更"
_WAITS: Final = "what would be deleted waits for an approval: run the deployment mirror/NAME"
"""An evacuation does not await it."""
_NOTHING: Final = "it sealed nothing in models/, artifacts/ or logs/, and no model by the block's patterns (models)"


def _once(_: Any, parameters: Mapping[str, Any]) -> str:
    """The store, sealed manifests, verdict, and policy of latest/: no later run brings old content back."""
    context, verdict, policy = (parameters[name] for name in ("context", "verdict", "policy"))
    sealed = ",".join(each.manifest_sha256 for each in parameters["seals"])
    by = "promoter" if context.store.has_promoter else ""
    return f"{context.store.identity}:{sealed}:{verdict.word}:{policy}:{by}"


@step(
    "promote",
    "promote latest/",
    section="§5",
    ja="latest/ の更新",
    retries=2,
    retry_delay_seconds=2.0,
    cache_key_fn=_once,
)
@waits_for_store
def promote(context: RunContext, seals: Sequence[Seal], verdict: Verdict, policy: LatestPolicy) -> Promotion:
    """Promote sound files to latest/, in one transaction, if the incident is VERIFIED and none later has promoted."""
    if policy == "never":
        return _build_unchanged("the policy is never")
    if verdict.word is not Word.VERIFIED:
        return _build_unchanged(f"the incident is {verdict.word}")
    store = context.store.latest
    try:
        if unchanged := _out_of_turn(context.store, context.incident.id, history(store)):
            return unchanged
        objects, held, spared = _select_objects(context, seals)
        files = [context.directory.evidence_dir(sealed.volume) / COVERAGE for sealed in seals]
        unsure = unsure_of([item for file in files for item in read_coverage(file.read_bytes())])
        surplus = partial(surplus_of, wanted=objects, spared=spared, unsure=unsure)
        request = ChangeRequest(objects, f"run {context.run.id}", context.incident.id, policy, surplus=surplus)
        promotion = change_latest(store, request, context.log, now=datetime.now(UTC))
    except LatestBusy as busy:
        return _build_unchanged(str(busy), again=True)
    except NotOurs as error:
        return _build_unchanged(f"skipped, {error}", again=True)
    if promotion.turn:  # a later run that asks for another retention gives it to what this one wrote to latest/ as well
        context.state.turned.write({**context.state.turned.read(), **promotion.turn.digests})
    why = _describe_held(held) or ("" if objects else _NOTHING)
    if not objects:
        context.log.write("not promoted", LATEST, act="add nothing to", why=why)
    waits = _WAITS if policy == "mirror" and Act.WOULD_DELETE in promotion.counts else ""
    return replace(promotion, reason="; ".join(filter(None, (why, waits))))


def _out_of_turn(access: StoreAccess, incident: str, past: History) -> Promotion | None:
    """Return none made, if the incident must not promote: a later one has, or its own id lies in the future."""
    claim = claim_key(incident)
    if past.last and past.last.newest > incident:
        future = is_ahead(past.last.newest, datetime.now(UTC))
        remedy = "; it is from the future: evacuation rollback --newest-only" if future else ""
        return _build_unchanged(f"{past.last.newest} is later and has promoted{remedy}", again=future)
    times = (each.modified for each in access.evidence.list(claim) if each.key == claim and each.modified)
    ahead = (f"{at:%Y-%m-%d %H:%M:%S} UTC" for at in times if is_ahead(incident, at))
    why = (f"{incident} is from the future: the store got its claim at {at}" for at in ahead)
    return next(map(_build_unchanged, why), None)


def _build_unchanged(why: str, *, again: bool = False) -> Promotion:
    """Return a promotion that changed nothing. With `again` it is not cached: the next run of the incident may."""
    return Promotion(reason=f"latest/ was left as it is: {why}", again=again)


def _select_objects(
    context: RunContext, seals: Sequence[Seal]
) -> tuple[dict[str, ObjectRef], dict[str, str], frozenset[str]]:
    """Return the objects for latest/ by key, reasons by stored name for those held back, and the workload's keys.

    Where everything stood since the first of the seals, a model that has changed since was changed by nobody known.
    """
    directory, block, store = context.directory, context.workload, context.store.latest
    stood, is_half = not context.state.has_let_in, find_being_written(directory, context.log, context.run.volume)
    api = WorkloadContainers(context).find_api(leads_to(block.api_address)[1])
    objects, held, has, taken = dict[str, ObjectRef](), dict[str, str](), set[str](), dict[str, str]()
    for sealed in seals:
        manifest = read_manifest(directory, sealed.volume)
        back = held_back(directory, sealed.volume, manifest.files, block)
        places = {file.stored: place for file in manifest.files if (place := latest_place(file, block))}
        sound = {file.stored for file in sound_models(manifest.files, sealed_findings(directory, sealed.volume))}
        going = (file for file in manifest.files if file.stored in places.keys() - sound - back.keys())
        back |= {file.stored: BEING_WRITTEN for file in going if is_half(file)}
        rivals = _find_rivals(api.name if api else "", manifest.files)
        back |= {stored: why for stored, why in rivals.items() if stored in places}
        for file in manifest.files:
            free = back.get(file.stored) == EMPTY and not is_result(file, block)
            if free and not ((there := store.head(latest_key(places[file.stored]))) and there.size):
                del back[file.stored]
        for file in (file for file in manifest.files if stood and file.stored in places):
            if taken.get(file.source, file.sha256) != file.sha256 and is_model(directory, sealed.volume, file, block):
                back[file.stored] = _CHANGED
            elif not unsteady(file.stored, file.note):
                taken.setdefault(file.source, file.sha256)
        passed = {stored: place for stored, place in places.items() if stored not in back}
        held = {stored: why for stored, why in held.items() if stored not in passed} | back
        objects |= latest_held(manifest, context.incident.snapshot, passed)
        has |= {latest_key(places.get(file.stored, file.stored)) for file in manifest.files}
    return objects, held, frozenset(has)


def _find_rivals(api: str, files: Sequence[StoredFile]) -> dict[str, str]:
    """Return which files of a container another container has otherwise, each with why it is held back.

    The name in latest/ is that of whose turn came first. What the API's container has, `api`, is what was served.
    """
    ours = {file.stored: file for file in files if file.note.startswith(IN_CONTAINER)}
    ours = {stored: file for stored, file in ours.items() if file.note != f"{IN_CONTAINER}{api}"}
    rivals = [(each.stored.split("/", 2), each) for each in files if each.stored.startswith(f"{CONTAINERS}/")]
    return {
        stored: f"{IN_CONTAINER}{container} it is another コンテナごとに異なる"
        for (_, container, stored), rival in rivals
        if (file := ours.get(stored)) and file.sha256 != rival.sha256
    }


def _describe_held(held: dict[str, str]) -> str:
    shown = [f"{stored} ({why})" for stored, why in list(held.items())[:_SHOWN]]
    more = [f"{len(held) - _SHOWN} more"] if len(held) > _SHOWN else []
    return f"not promoted: {'; '.join([*shown, *more])}" if held else ""
