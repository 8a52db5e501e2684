"""The runbook: freeze one workload, look at it, stop it, seal its evidence, store it and prove it there."""

from datetime import datetime
from typing import Any

from prefect import allow_failure, flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from flows.fields import BlockName, HandedOver, IncidentId, Sentence
from flows.incident import AT_ONCE, run_steps
from flows.thaw import thawed_instead
from tasks.collectors import discover
from tasks.containment.containment_check import prove_contained, prove_still_contained
from tasks.containment.cordon import cordon
from tasks.containment.cordon_trial import challenge
from tasks.containment.freeze import freeze
from tasks.containment.pause_prefect import pause
from tasks.containment.silence import rehearse_silence
from tasks.containment.stop import stop
from tasks.containment.watch import watch
from tasks.custody.containment.receipt import Freeze, Recovery, Stop
from tasks.custody.evidence.keys import FOLDERS
from tasks.custody.fleet.host_end import CONTAINED_LABEL, FROZEN_LABEL
from tasks.custody.fleet.host_order import run_name
from tasks.custody.incident.alarm import Alarm
from tasks.custody.incident.ending import EXPIRED
from tasks.custody.store.latest import LatestPolicy
from tasks.evidence.collect import collect
from tasks.evidence.seal import check_seal, seal, volumes_to_seal
from tasks.evidence.written_since import note_between_runs
from tasks.latest.promote import promote
from tasks.models.inspect import judge_models
from tasks.people.announce import announce_containment
from tasks.prefect_side.clock import find_server_time
from tasks.preflight.open_incident import Request, open_incident
from tasks.record.final_state import final_state
from tasks.record.findings import content_of, every_collector, findings_of, last_findings, note_end, verdict_of
from tasks.record.publish import publish
from tasks.record.write import record
from tasks.recovery.recover import prove_contained_again
from tasks.recovery.recover import recover as recover_api
from tasks.recovery.rehearsal import rehearse_recovery
from tasks.runtime.context import Policy, Suspects, Unknowns
from tasks.runtime.flow_run import make_state, this_run
from tasks.runtime.freeze_budget import FreezeBudget
from tasks.runtime.ordered import FleetLabels, expired_message, given_order
from tasks.runtime.step import StepRunner, after, result_of
from tasks.storage.offload import claim_store, offload
from tasks.storage.verify import verify


def _name() -> str:
    parameters = flow_run.parameters
    return run_name(str(parameters["workload"]), str((parameters.get("order") or {}).get("fleet", "")))


@flow(name="evacuate", flow_run_name=_name, task_runner=AT_ONCE, persist_result=False)
def evacuate(  # noqa: PLR0913, PLR0917  each is a field of the form that a person fills in
    workload: BlockName,
    store: BlockName,
    dry_run: bool = False,  # noqa: FBT001, FBT002  the form has a switch for it
    reason: Sentence = "",
    detected_at: datetime | None = None,
    incident_id: IncidentId | None = None,
    policy: Policy = "graceful",
    latest: LatestPolicy | None = None,
    recover: bool = False,  # noqa: FBT001, FBT002
    read_back: bool = False,  # noqa: FBT001, FBT002
    suspects: Suspects | None = None,
    alarm: HandedOver = None,
    order: HandedOver = None,
    unknown: Unknowns | None = None,
    model: Sentence = "",
    new_incident: bool = False,  # noqa: FBT001, FBT002
) -> State[Any]:
    """Evacuate a machine-learning workload: contain it, save the evidence, prove that the store has it.

    ワークロードを封じ込め、証跡を採取・封印し、S3 へ退避して検証します。

    Args:
        workload: Name of the Workload block: what to evacuate. 対象の Workload ブロック名。
        store: Name of the Evidence Store block: where the evidence goes. 保全先の Evidence Store ブロック名。
        dry_run: Rehearse: show what would be done; stop nothing, send no evidence. 予行(何も止めず、証跡を送らない)。
        reason: Why, in a sentence; it goes into the postmortem. 理由。
        detected_at: When the trouble was noticed, with a time zone; when this run was asked for if left out. 検知時刻。
        incident_id: IR-YYYYmmddTHHMMSSZ to carry that one on, with its finished steps; else a new one. 継続する ID。
        policy: graceful asks each process to end first; kill, for a compromised host, thaws nothing. 停止の方針。
        latest: Whether latest/ follows once everything is proven; as the store block says if left out. latest/ の方針。
        recover: Afterwards uncordon, restart the API and prove the model that it serves. 復旧まで行う。
        read_back: Verify by reading every byte back, not by the store's own digests alone. 全バイトを読み戻して検証。
        suspects: name only names processes that a fact ties to the workload and no pattern matches; include freezes
            and ends them too; left out, policy kill includes them. 不審プロセスの扱い(報告のみ/停止に含める)。
        alarm: What an automation saw and hands over; in no form. 自動通知の内容(フォームには非表示)。
        order: What a fleet's run hands over; in no form. フリートからの指示(フォームには非表示)。
        unknown: name only names processes in the root that nobody knows, and a person answers them; end freezes and
            ends them too; left out, name. root にある正体不明のプロセスの扱い(報告のみ/終了)。
        model: With recover, the model to bring back, as of the flow recover. 復旧するモデル。
        new_incident: incident_id was issued before, as by a ticket, and is the id of a new incident.
            incident_id は発行済みで、新しいインシデントに使う。
    """
    heard, ordered = Alarm.of(alarm), given_order(order)
    if ordered and (now := find_server_time()) and ordered.is_expired(now):
        return make_state(EXPIRED, expired_message(ordered))
    run, created = this_run()
    request = Request(
        workload=workload,
        store=store,
        reason=reason,
        detected_at=detected_at,
        incident_id=incident_id,
        dry_run=dry_run,
        policy=policy,
        run=run,
        created=created,
        alarm=heard,
        suspects=suspects,
        unknown=unknown,
        order=ordered,
        new_incident=new_incident,
    )
    wanted = {"recover": recover and not dry_run, "read_back": read_back and not dry_run}
    may_ask, opened = bool(heard or ordered), open_incident(request)
    return run_steps(opened, lambda steps: carry_out(steps, latest=latest, may_ask=may_ask, model=model, **wanted))


def carry_out(  # noqa: PLR0913  what the flow asks for
    steps: StepRunner,
    *,
    latest: LatestPolicy | None = None,
    may_ask: bool = False,
    recover: bool = False,
    read_back: bool = False,
    model: str = "",
) -> State[Any]:
    """Run the steps of an evacuation whose incident is open; what earlier runs of it have done is not repeated."""
    context = steps.context
    first = [name for name, collector in discover().items() if collector.while_frozen]
    later = [name for name, each in discover().items() if not (each.while_frozen or each.early or name == FOLDERS)]

    # §1 cordon, §2 freeze, and claim the incident in the store
    cordoned = cordon.submit()
    paused = pause.submit(wait_for=[allow_failure(cordoned)])
    frozen = freeze.submit(wait_for=[allow_failure(cordoned)])
    budget = FreezeBudget.of(result_of(frozen, Freeze))
    claimed = claim_store.submit(wait_for=[allow_failure(frozen)])
    labels = FleetLabels(context.run)
    labels.when_done(frozen, FROZEN_LABEL)

    # §0 environment, §4 look while it is frozen; ask a person where an alarm's run or a fleet's has to; then §3 stop
    known = [collect.submit(name, wait_for=[allow_failure(frozen)]) for name, each in discover().items() if each.early]
    looked = [collect.submit(name, budget, wait_for=[allow_failure(frozen)]) for name in first]
    rehearsed = [rehearse_silence.submit(wait_for=[allow_failure(looked)])] if context.run.dry_run else []
    if may_ask and (thawed := thawed_instead(steps)):
        return thawed
    stopped = stop.submit(wait_for=[allow_failure(looked)])
    contained = prove_contained.submit(wait_for=[allow_failure([stopped, cordoned, paused])])
    labels.when_done(contained, CONTAINED_LABEL)
    announce_containment(context.incident, context.run, _name(), stopped, contained)

    # §4 collect in parallel, the rest of the folders after the evidence; judge the models, then seal
    note_between_runs(context, stopped)
    collected = known + looked + [collect.submit(name, wait_for=[allow_failure(stopped)]) for name in later]
    rest = collect.submit(FOLDERS, wait_for=[allow_failure(collected)])
    evidence = every_collector(steps)
    judged = judge_models.submit(evidence, wait_for=[allow_failure([*collected, rest])])
    volumes = volumes_to_seal(context.directory, context.run.volume, evidence)
    seals = [seal.submit(volume, evidence, wait_for=[allow_failure(judged)]) for volume in volumes]
    intact = check_seal.submit(seals)

    # §5 offload, §6 verify
    sent = offload.submit(seals, intact, wait_for=[allow_failure(claimed)])
    proven = verify.submit(seals, sent, read_back)

    # §1, §3 again: has anything come back, could anything? Then judge
    challenged = challenge.submit(wait_for=[allow_failure([contained, *seals])])
    watched = watch.submit(result_of(stopped, Stop), wait_for=[allow_failure([stopped, challenged, proven])])
    still = prove_still_contained.submit(wait_for=[allow_failure([watched, contained])])
    verdict = verdict_of(context, findings_of(steps, evidence))

    # §5 let latest/ follow, §7 recover
    policy = latest or context.store.latest_policy
    promoted = promote.submit(seals, verdict, policy, wait_for=[allow_failure(still)])
    ends: list[Any] = [*rehearsed, promoted]
    if recover:
        recovered = recover_api.submit(seals, intact, verdict, model=model, wait_for=[allow_failure([still, promoted])])
        back = result_of(recovered, Recovery)
        ends += [recovered] if back else [recovered, prove_contained_again.submit(wait_for=after(recovered))]
    if context.run.dry_run:
        ends.append(rehearse_recovery.submit(seals))

    # §8 record
    found = last_findings(steps, evidence)
    note_end(steps, found)
    content = content_of(context.log, verdict_of(context, found), found)
    recorded = publish(record.submit(content, wait_for=after(*ends)))
    return final_state(context, content.verdict, recorded, found.recovery, found.cordon)
