"""Evacuate a fleet: one order a host, one table, one signed record.

A host of a fleet is a workload, known by the name of its block. What is where, for those who watch or simulate it:

- On the server: the artifact `targets-ID` with the frozen list; the variable `fleet_NAME` while the incident is open,
  which a second trigger joins; a run of `evacuate/HOST` for each host, with the tag `fleet:ID`, the idempotency key
  `ID:HOST:ATTEMPT` and the parameter `order`; the concurrency limit `fleet-send-NAME`; the artifact `fleet-NAME` with
  the table; the artifact `thawed-ID` once the incident is called off, and `lost-ID` for orders that a run which joined
  could not give, and hands to the run at work.
- A host tells when it is frozen and contained by the labels `evacuation.frozen` and `evacuation.contained` of its run.
- In the store below `fleets/ID/`: `targets.json`, and `record/NNN/` with `hosts.json`, the postmortem, `closing.json`
  and its signature.
"""

from collections.abc import Mapping
from contextlib import closing, nullcontext, suppress
from typing import Any

from httpx import HTTPError
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.fields import BlockName, FleetId, Sentence
from tasks.custody.containment.pause import Launcher
from tasks.custody.fleet.host_end import HostEnd
from tasks.custody.fleet.verdict import FleetVerdict, verdict_of
from tasks.custody.incident.ending import JOINED
from tasks.custody.visible import LINE_LIMIT, visible
from tasks.fleet.approval import FleetQuestion
from tasks.fleet.follow import FleetWatch, follow
from tasks.fleet.handover import hand_over
from tasks.fleet.opening import JoinedFleet, Trigger, open_fleet
from tasks.fleet.orders import Lost, order_again, order_all, order_missing
from tasks.fleet.postmortem import FleetReport
from tasks.fleet.record import FleetRecord, record, write_targets
from tasks.fleet.thaw import outcome_lines, thaw_all
from tasks.runtime.context import Policy
from tasks.runtime.flow_run import make_state, origin, own_launchers, this_run
from tasks.system.cancellation import run_in_thread


@flow(name="fleet", flow_run_name="fleet {fleet}", persist_result=False)
def fleet(  # noqa: PLR0913, PLR0917  each is a field of the form that a person fills in
    fleet: BlockName,
    reason: Sentence = "",
    policy: Policy = "graceful",
    recover: bool = False,  # noqa: FBT001, FBT002  the form has a switch for it
    retry: bool = False,  # noqa: FBT001, FBT002
    fleet_id: FleetId | None = None,
) -> State[Any]:
    """Evacuate all hosts of a fleet at once, each by its own run; Completed only if every one of them is Verified.

    フリートの全ホストを一斉に撤収します。全ホストが検証済みの場合だけ成功します。

    Args:
        fleet: Name of the Fleet block: which hosts, on what terms. 対象の Fleet ブロック名。
        reason: Why, in a sentence; it goes into every postmortem. 理由。
        policy: graceful asks each process to end first; kill, for compromised hosts, thaws nothing. 停止の方針。
        recover: Afterwards bring each host's API back. 復旧まで行う。
        retry: Order the hosts that have failed or are silent again, in the fleet's last incident. 失敗分の再試行。
        fleet_id: FL-… of the incident to carry on; the open one, else a new one, if left out. 継続する ID。
    """
    run, created = this_run()
    trigger = Trigger(fleet, reason, policy, recover, fleet_id, retry, run, created, origin(_own()))
    opened = open_fleet(trigger)
    incident = opened.incident if isinstance(opened, JoinedFleet) else opened
    lost = order_again(incident) if retry else {}
    if isinstance(opened, JoinedFleet):
        return joined_state(opened, order_missing(incident) | lost)

    watch = FleetWatch(incident, run)
    run_in_thread(watch.name_silent)
    watch.problems = (order_missing if retry else order_all)(incident) | lost
    run_in_thread(lambda: write_targets(incident))
    verdict, recorded = verdict_of([host.name for host in incident.hosts], ()), FleetRecord("", "not written")
    with closing(FleetQuestion(incident, run)) if incident.asks_all else nullcontext() as question:
        for rows in follow(watch, question):
            verdict = verdict_of([host.name for host in incident.hosts], rows)
            recorded = record(FleetReport(incident, rows, verdict, run, watch.contained_at), watch.closings)
    return fleet_state(incident.id, verdict, recorded)


def joined_state(joined: JoinedFleet, lost: Mapping[str, Lost]) -> State[Any]:
    """Return the state of a run that joined another run's incident: Joined; Refused if orders were lost."""
    if not lost:
        return make_state(JOINED, joined.summary)
    hand_over(joined.incident, lost)
    reasons = "; ".join(f"{host}: {order.why}" for host, order in lost.items())
    message = f"{joined.summary} Orders that the server did not take, which that run repeats: {reasons}"
    return Failed(name=str(HostEnd.REFUSED), message=visible(message, LINE_LIMIT))


def _own() -> frozenset[Launcher]:
    with suppress(HTTPError):
        return own_launchers()
    return frozenset()


def fleet_state(fleet_id: str, verdict: FleetVerdict, recorded: FleetRecord) -> State[Any]:
    """Return the state that a fleet's run ends in: named for its worst end, and Completed only if that is Verified."""
    end = HostEnd.UNVERIFIED if verdict.end is HostEnd.VERIFIED and recorded.trouble else verdict.end
    lost = f"But the record is not in the store: {recorded.trouble}"
    record = lost if recorded.trouble else f"Record: {recorded.place}"
    summary = ". ".join(filter(None, [verdict.message, record, recorded.unproven]))
    message = visible(f"{fleet_id}: {summary}", LINE_LIMIT)
    return (Completed if end is HostEnd.VERIFIED else Failed)(name=str(end), message=message)


@flow(name="fleet-thaw", flow_run_name="fleet-thaw {fleet}", persist_result=False)
def fleet_thaw(fleet: BlockName, fleet_id: FleetId | None = None, reason: Sentence = "") -> State[Any]:
    """Call the evacuation of a fleet off: each host that is frozen and not yet stopped goes on as it was.

    フリートの撤収を取り消し、凍結済みで未停止のホストを元の状態に戻します。

    Args:
        fleet: Name of the Fleet block. 対象の Fleet ブロック名。
        fleet_id: FL-… of the incident; the last one if left out. 対象のインシデント ID。
        reason: Why, in a sentence; it goes on record. 理由。
    """
    thawed, remaining = thaw_all(fleet, fleet_id, reason, this_run()[0])
    message = visible("; ".join(outcome_lines(thawed, remaining)), LINE_LIMIT)
    return (Failed if remaining else Completed)(name="PartlyThawed" if remaining else "Thawed", message=message)
