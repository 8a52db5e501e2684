"""§7 rehearsed: send the running API the requests that a recovery would send to a restarted one."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from blocks.file import no_program
from blocks.workload import Workload
from tasks.custody.errors import EvacuationError
from tasks.custody.evidence.acquisition import Seal
from tasks.custody.models.canary import row_of
from tasks.custody.models.inspection import NONE_JUDGED, NONE_SOUND, why_none
from tasks.custody.step_result import StepResult
from tasks.evidence.process_start import lacking, read_starts
from tasks.host.host import LinuxHost
from tasks.prefect_side.saved_blocks import secret_headers
from tasks.recovery.api_client import Api, failure, shown_address
from tasks.recovery.choice import select, with_doubt, with_former
from tasks.recovery.image_api import ImageApi
from tasks.recovery.prediction import predict
from tasks.recovery.process_api import UNSEEN, ProcessApi, api_user, find_kept_before
from tasks.recovery.recover import Revival, address_of, as_it_ran
from tasks.recovery.served_model import SealedModels, parse_model_name
from tasks.runtime.context import RunContext
from tasks.runtime.frozen import load_frozen
from tasks.runtime.state import IncidentState
from tasks.runtime.step import step

_OR_NOW: Final = (
    "or name it now where the API's own start reads it, in api_environment or api_command of the block ブロックで指定"
)


@dataclass(frozen=True, repr=False)
class RehearsedRecovery(StepResult):
    """What a recovery would prove of the API, and what it would not, with reasons."""

    proven: tuple[str, ...]
    unproven: tuple[str, ...]

    @property
    def summary(self) -> str:
        """Proven and not proven items in one line."""
        return "; ".join([*self.proven, *(f"not proven: {each}" for each in self.unproven)])


@step("rehearse_recovery", "what the API says now", section="§7", ja="API の応答", retries=1)
def rehearse_recovery(context: RunContext, seals: Sequence[Seal]) -> RehearsedRecovery:
    """Query the API by GET, and predict only with the block's canary_request. Reloads nothing.

    A key is sent only if a process of the workload listens at the address.
    """
    block = context.workload
    models = SealedModels.read(context.directory, block, seals)
    try:
        headers = secret_headers(block.api_headers)
        if headers and not _is_the_workloads(block, context.state):
            raise failure("a process of the workload to listen there", "none that is seen, so the key was not sent")
        with Api(block, headers) as api:
            rows = answers_of(api, "" if models.sound else why_none(models.findings) or NONE_SOUND)
    except EvacuationError as error:
        rows = {"the API": (False, f"expected {error.expected}; got {error.got}")}
    way = as_it_ran(context)
    rows |= {**starts_of(context, way), **served_before(context, seals, models, way)}
    for name, (good, why) in rows.items():
        act = "prove" if good else "not prove"
        context.log.write("would", f"{name} of {shown_address(block)}", act=act, why=why)
    lines = [(good, f"{name}: {why}") for name, (good, why) in rows.items()]
    return RehearsedRecovery(
        tuple(text for good, text in lines if good), tuple(text for good, text in lines if not good)
    )


def starts_of(context: RunContext, way: Revival) -> dict[str, tuple[bool, str]]:
    """Return how the API would be started as it ran, and whether it could be as a new container of the block's.

    `way` is that of `as_it_ran`.
    """
    block, state = context.workload, context.state
    start = "its service or api_command"
    if way.container:
        brought = "; ".join(way.find_brought()[:3])
        also = f", as now beside the API: {brought}" if brought else ""
        start = f"container {way.container}, with whatever its image and command start コンテナの起動内容すべて{also}"
    rows = {"the start as it ran": (True, start)}
    if type(way) is ProcessApi:
        frozen = load_frozen(state)
        starts = read_starts(frozen, state.groups.read())
        if why := _why_not(block, state, starts):
            rows["the start as it ran"] = False, why
        with suppress(EvacuationError):
            lacks = lacking(starts, api_user(block, state, starts), block)
            conditions = "as it is" if starts else "not known: it may not be read"
            conditions = f"without {', '.join(lacks)}" if lacks else conditions
            if any(each.role == "api" for each in frozen.values()):
                rows["what it runs with"] = bool(starts) and not lacks, conditions
            else:
                before = find_kept_before(context.workload, context.directory.path)[0]
                why = f"no API runs; {before} has kept how it ran" if before else f"{UNSEEN}: start it, or --as process"
                rows["what it runs with"] = False, f"not known: {why}"
    if block.api_image:
        try:
            rows["the start as a new container"] = True, f"{block.api_image}, {ImageApi(context).config['Image']}"
        except EvacuationError as error:
            rows["the start as a new container"] = False, f"expected {error.expected}; got {error.got}"
    return rows


def served_before(
    context: RunContext, seals: Sequence[Seal], models: SealedModels, way: Revival
) -> dict[str, tuple[bool, str]]:
    """Return whether a recovery would know which model was served at the freeze; if not, the field that answers it.

    A model that was loaded and closed leaves no trace in its process. Empty if one was judged, and none is sound.
    """
    try:
        models = with_former(context, seals, models)
        if not models.last:
            why, offered = why_none(models.findings), models.offer_formats(context.workload, models.files)
            what = models.served_at_freeze or why
            return {"the model as it was": (False, f"{what}{offered}")} if offered or why == NONE_JUDGED else {}
        models = with_doubt(context, select(models, way.folder))
    except (EvacuationError, OSError, KeyError) as error:  # as of a container whose configuration was not kept
        return {"the model as it was": (False, f"it cannot be told: {error}")}
    digests = [file.sha256 for path, file in models.last.items() if path == models.chosen or not models.chosen]
    if doubt := models.explain_other_model(digests[:1]):
        return {
            "the model as it was": (False, f"{doubt}{models.offer_formats(context.workload, ()) or f'; {_OR_NOW}'}")
        }
    return {"the model as it was": (True, models.served_at_freeze or "no other is sound")}


def _why_not(block: Workload, state: IncidentState, starts: Sequence[Mapping[str, Any]]) -> str:
    """Return why a recovery would refuse to start the API as a process; empty if it would not."""
    try:
        api_user(block, state, starts)
    except EvacuationError as error:
        return f"expected {error.expected}; got {error.got}"
    return ", ".join(f"api_command: {word} is no program here" for word in no_program(block, block.api_command))


def answers_of(api: Api, unsound: str = "") -> dict[str, tuple[bool, str]]:
    """Return whether health, model and prediction would be proven, each with the API's answer.

    `unsound` says why no model is sound: then none would be proven.
    """
    block = api.block
    health = api.ask("GET", block.health_path)
    rows = {"the health": (health.good, health.summary)}
    if health.good and block.model_at:
        name, silent = parse_model_name(health, block.model_at)
        message = f"it says {health.redact(name)!r}{f', and {unsound}' if unsound else ''}"
        rows["the model"] = (False, silent) if silent else (not unsound, message)
    if health.good and block.canary_request is not None:
        try:
            prediction = predict(api)
            rows["a prediction"] = bool(prediction.answer), prediction.answer or prediction.unproven
        except EvacuationError as error:
            rows["a prediction"] = False, error.got
    elif health.good:
        schema = api.ask("GET", "/schema")
        row = row_of(schema.content) if schema.good else {}
        lacking = f"/schema names no columns, so give a canary_request: {schema.summary}"
        shown = f"not tried; with a row made from /schema: {json.dumps(row)[:200]}"
        rows["a prediction"] = (True, shown) if row else (False, lacking)
    return rows


def _is_the_workloads(block: Workload, state: IncidentState) -> bool:
    """Return whether the workload owns all listeners, by the real host: in the rehearsed one it no longer runs."""
    owners, members = LinuxHost().owners(address_of(block)[1]), load_frozen(state)
    return bool(owners) and all(each.process and each.process.identity in members for each in owners)
