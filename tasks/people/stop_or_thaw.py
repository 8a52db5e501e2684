"""Between look and stop: ask a person whether an evacuation started by an alarm stops the workload or thaws it.

See docs/adr/0025.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from tasks.custody.evidence.acquisition import Evidence
from tasks.custody.fleet.host_order import Order
from tasks.custody.incident.incident import Incident
from tasks.custody.incident.question import Decision, question_of, seconds_left
from tasks.custody.visible import LINE_LIMIT, visible
from tasks.host.detached_process import start_keeper
from tasks.incident.layout import DEADLINE_LOG
from tasks.incident.thaw_refusal import why_not_thaw
from tasks.people.form import JAPANESE, await_decision
from tasks.prefect_side.clock import find_server_time
from tasks.rendering.clock import both_times
from tasks.rendering.markdown import prose
from tasks.runtime.context import RunContext
from tasks.runtime.frozen import frozen_containers, load_frozen
from tasks.runtime.state import IncidentState

_QUESTION: Final = """\
**{workload} is frozen for {incident}. Stop it, or thaw it?** 凍結済みです。停止するか解凍するかを選んでください。

- Reason 理由: {reason}
- Frozen 凍結: {processes}{denied}
- Looked at 採取: {looked}

What each answer does 選択肢:

- `stop` 停止: what is frozen is ended, the evidence is collected, sealed and stored. It cannot be taken back.
  凍結したものをすべて終了し、証跡を保全します。取り消せません。
- `thaw` 解凍: everything goes on as it was, the cordon is lifted, the incident is over.
  すべてを元の状態に戻し、インシデントを終えます。

Without an answer until **{until}**: `{act}`. 期限までに回答がなければ{ja}します。
"""


def thaw_decided(context: RunContext, looked: Sequence[Evidence]) -> bool:
    """Ask a person, if block or order says so, and wait; True if the workload is to be thawed, False if stopped.

    Does not ask once something was stopped. Answer and deadline are kept for later runs of the incident. Without an
    answer in time block or order decides. A run cancelled meanwhile decides nothing.
    """
    now, terms = datetime.now(UTC), context.run.order or context.workload
    if context.run.dry_run or why_not_thaw(context.directory.path):
        return False
    if not (terms.asks(find_server_time() or now) if isinstance(terms, Order) else terms.on_alarm == "ask"):
        return False
    earlier = question_of(context.log.entries())
    if earlier.decision:
        return earlier.decision == "thaw"
    remaining = seconds_left(earlier, now, terms.ask_seconds)
    until = " / ".join(both_times(now + timedelta(seconds=remaining)))
    if earlier.until is None:
        start_keeper(context.directory.path / DEADLINE_LOG, _orders(context, remaining, terms.unanswered))
        details = {"until": (now + timedelta(seconds=remaining)).isoformat(), "unanswered": terms.unanswered}
        context.log.write("asked", context.incident.id, **details, result=f"until {until}, else {terms.unanswered}")
    text = question(context.incident, context.state, looked, terms.unanswered, until)
    answer = await_decision(context.run.id, text, remaining, context.cancelled)
    if context.cancelled and not answer:
        return False
    decision = answer.decision if answer else terms.unanswered
    message = f"{decision}: {visible(answer.summary, LINE_LIMIT) if answer else f'nobody answered until {until}'}"
    person = {"by": answer.by, "why": answer.why} if answer else {}
    context.log.write("answered", context.incident.id, decision=decision, result=message, **person)
    return decision == "thaw"


def question(incident: Incident, state: IncidentState, looked: Sequence[Evidence], act: Decision, until: str) -> str:
    """Return the text of the form: what was found, what each answer does, the deadline and what happens then."""
    frozen, paused = load_frozen(state).values(), frozen_containers(state).values()
    roles = ", ".join(f"{count} {role}" for role, count in sorted(Counter(each.role for each in frozen).items()))
    denied = sum(bool(each.denied) for each in frozen) + sum(bool(each.denied) for each in paused)
    whole = sum(each.outcome.is_complete for each in looked)
    lacking = "".join(f"; {each.collector} {each.outcome}" for each in looked if not each.outcome.is_complete)
    return _QUESTION.format(
        workload=prose(incident.workload),
        incident=incident.id,
        reason=prose(incident.reason),
        processes=f"{len(frozen)} processes ({roles or 'none'}), {len(paused)} containers",
        denied=f"; **{denied} could not be frozen 凍結できず**" if denied else "",
        looked=f"{whole} of {len(looked)} complete{lacking}",
        until=until,
        act=act,
        ja=JAPANESE[act],
    )


def _orders(context: RunContext, seconds: float, unanswered: str) -> dict[str, object]:
    """Return the input of the process that keeps the deadline if this run dies. It may lack the server."""
    fields = set(type(context.workload).model_fields)
    block = context.workload.model_dump(mode="json", include=fields)
    return {
        "home": str(context.directory.path),
        "evidence": str(context.directory.base),
        "number": context.run.number,
        "seconds": seconds,
        "incident": context.incident.id,
        "policy": context.run.policy,
        "workload": [context.incident.workload, {**block, "on_alarm": "ask", "unanswered": unanswered}],
        "store": [context.store.saved.name, context.store.saved.fields],
    }
