"""Define how a run ends: each final state in Prefect, its meaning, and what to do next.

See docs/adr/0004.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

from tasks.custody.containment.receipt import Recovery
from tasks.custody.incident.verdict import Word

ALREADY_THAWED: Final = "was thawed already"
"""What the message of a run says that found nothing to thaw."""


@dataclass(frozen=True)
class Ending:
    """A final state of a run. `completed` says whether its type is Completed or Failed."""

    name: str
    completed: bool
    means: str
    then: str


_completed, _failed = partial(Ending, completed=True), partial(Ending, completed=False)

VERIFIED: Final = _completed(
    "Verified",
    means="Contained, everything needed collected, every object proven by the store's own digest, the record stored",
    then="Write the postmortem (`evacuation postmortem`); recover if wanted",
)
PARTIAL: Final = _failed(
    "Partial",
    means="Contained and every object proven, but something needed was lost; the message names it",
    then="Fix the cause, carry the incident on",
)
UNANSWERED: Final = _failed(
    "Unanswered",
    means="Everything that is known of the workload is stopped and every object proven, but processes live that "
    "are neither known to belong to it nor known to be harmless: in its root, not proven to be outside of it, or what "
    "has started it and may do so again; the message names them. `latest/` waits",
    then="Answer each by the line that the message gives: bystander or end; the incident is carried on by it",
)
UNVERIFIED: Final = _failed(
    "Unverified",
    means="At least one object, or the record, is not proven to be in the store, or that is a folder which another "
    "account can change. It is on this host",
    then="Do what the message says of it, carry the incident on",
)
NOT_CONTAINED: Final = _failed(
    "NotContained",
    means="Something of the workload runs or comes back, another process holds the lock, a launch was not caught, or "
    "something that starts training is not paused. The storage may still be verified",
    then="Stop by hand what the message names (such as a supervisor; first find out whose it is, where it says so), "
    "carry the incident on",
)
THAWED: Final = _completed(
    "Thawed",
    means="The evacuation was called off before anything was stopped: the workload goes on as it was, the incident "
    "is over",
    then="Write the postmortem (`evacuation postmortem`); the next evacuation is an incident of its own",
)
PARTLY_THAWED: Final = _failed(
    "PartlyThawed",
    means="The workload goes on and the incident is over, but something in Prefect is still paused, or the store has "
    "no record of it; the message names it",
    then="Resume by hand what is named, or `evacuation uncordon`",
)
DRY_RUN: Final = _completed("DryRun", means="Nothing was touched", then="Read the artifacts `verdict-ID` and `plan-ID`")
JOINED: Final = _completed(
    "Joined",
    means="Another run is working on this workload, or an incident has already contained what the alarm reports; "
    "this run did nothing",
    then="Look at the incident that the message names",
)
RECOVERED: Final = _completed(
    "Recovered",
    means="The API is back and proven, the record stored",
    then="Write the postmortem (`evacuation postmortem`)",
)
PARTLY_RECOVERED: Final = _failed(
    "PartlyRecovered",
    means="The API is back and stays up, but the message names what was not proven: it needs a key, gave no "
    "prediction, refused the made-up row or to reload, does not name its model, there is no sound model, it runs under "
    "other conditions than before, something is still paused",
    then="If the message has a line that names the model, and it is the right one, type that; else correct the API's "
    "fields in the workload block and run `recover` again, or prove it by hand",
)
NOT_RECOVERED: Final = _failed(
    "NotRecovered",
    means="The evidence is as safe as the message says, but the API did not come back; the workload is contained again"
    ", or an API of an earlier recovery stays as it was, and the message says so",
    then="Read the message and the API's log that it names, fix the cause, run `recover` again",
)
PROVEN: Final = _completed(
    "Proven",
    means="An audit: nothing contradicts the incident's documents, each is signed by an allowed signer, or covered by "
    "a later closing that is, and all that they name is there",
    then="Keep what the audit has printed; `--json` is for a file",
)
BROKEN: Final = _failed(
    "Broken", means="An audit: something was changed or removed", then="Read its findings (audit.md)"
)
INDETERMINATE: Final = _failed(
    "Indeterminate",
    means="An audit: nothing is contradicted, but something could not be proven",
    then="Read its findings (audit.md), supply what was missing, audit again",
)
UNFINISHED: Final = _failed(
    "Unfinished",
    means="An audit: nothing is contradicted, and the incident itself says that not all of it was proven to be in the "
    "store; its findings name what the host still has to send",
    then="Carry the incident on from its host (`evacuate` with its id), audit again",
)
LISTED: Final = _completed(
    "Listed",
    means="An audit without an incident id: what the store holds is listed",
    then="Read the artifact `incidents`; audit one of them",
)
REFUSED: Final = _completed(
    "Refused",
    means="A training was not started: a cordon stands, another process holds the lock, training_command takes the "
    "lock that the flow holds, or the block, its host or training_command is wrong",
    then="Train again when the cordon is lifted; leave the lock to the flow or to training_command; else give what the "
    "message asks for",
)
REHEARSED: Final = _completed(
    "Rehearsed",
    means="A drill: the sample workload was evacuated and all of it proven, and the dry run of the workload was done",
    then="Read the artifacts `verdict-ID` and `plan-ID`",
)
NOT_REHEARSED: Final = _failed(
    "NotRehearsed",
    means="A drill did not prove what it should, or the dry run was refused; the message says which",
    then="Read the run's log, fix the cause, and run the drill again: an evacuation would fail in the same way",
)
MIRRORED: Final = _completed(
    "Mirrored",
    means="What the workload no longer has was deleted from `latest/`, as a person approved; it is held elsewhere",
    then="`evacuation rollback` takes it back",
)
DECLINED: Final = _completed(
    "Declined",
    means="A person was asked and said no; nothing was done",
    then="Run it again if the answer changes",
)
EXPIRED: Final = _failed(
    "Expired",
    means="A fleet's order was not begun in time: the host did not answer, or came back too late; its run did nothing. "
    "Of a fleet: its worst host ended so",
    then="Look at the host by hand; `evacuation fleet retry NAME` orders it again",
)
FINISHED: Final = _failed(
    "Finished",
    means="A retry of a run whose incident is finished: nothing was done. It has the type that the run had before",
    then="Run the deployment, not the old run, to evacuate again",
)
WRITTEN: Final = _completed(
    "Written",
    means="The postmortem is on record: signed where there is a key, chained and stored; the message names the fields "
    "that are still open",
    then="Read the artifact `postmortem-ID`; write again what is still open",
)
STALE: Final = _failed(
    "Stale",
    means="An alarm was older than `alarm_max_age` when its run could begin: nothing was frozen, no incident opened",
    then="Look at the workload; if it still has to be evacuated, run the line that the message gives",
)
SILENT: Final = _failed(
    "Silent",
    means="A fleet: at least one host gives no sign of life, and what runs on it is not known",
    then="Cut it off from the network or look at it by hand; `evacuation fleet retry NAME` orders it again",
)
READY: Final = _completed(
    "Ready",
    means="A doctor's look: an evacuation that began now would work, and everything that it needs was looked at",
    then="Nothing",
)
DEGRADED: Final = _failed(
    "Degraded",
    means="A doctor's look: an evacuation would work, but lose what the message names, or something could not be "
    "looked at",
    then="Read the artifact `ready-NAME`: each loss has the line that cures it",
)
NOT_READY: Final = _failed(
    "NotReady",
    means="A doctor's look: an evacuation would not begin, not contain the workload, or not prove its evidence",
    then="Cure what the message names now, before it is needed, and run `evacuation doctor` again",
)
OF_WORD: Final = {
    Word.VERIFIED: VERIFIED,
    Word.PARTIAL: PARTIAL,
    Word.UNANSWERED: UNANSWERED,
    Word.UNVERIFIED: UNVERIFIED,
    Word.NOT_CONTAINED: NOT_CONTAINED,
    Word.THAWED: THAWED,
}

_NOT_STORED: Final = {Word.PARTIAL: UNVERIFIED, Word.UNANSWERED: UNVERIFIED, Word.THAWED: PARTLY_THAWED}


def ending_of(
    word: Word, recovery: Recovery | str | None, *, recovering: bool = False, dry_run: bool = False, stored: bool = True
) -> Ending:
    """Return how a run ends: by its verdict, its recovery, and whether the store has its record.

    `recovery` is None if none was requested, and the reason if it failed. `recovering` says that the run only recovers:
    the verdict on the evidence is then an earlier run's, and only NOTCONTAINED outranks the recovery.
    """
    if dry_run:
        return DRY_RUN
    if word in {Word.NOT_CONTAINED, Word.THAWED} or not (recovering or word is Word.VERIFIED):
        return OF_WORD[word] if stored else {**OF_WORD, **_NOT_STORED}[word]
    if isinstance(recovery, str):
        return NOT_RECOVERED
    if not stored:
        return UNVERIFIED
    if recovery and not recovery.is_complete:
        return PARTLY_RECOVERED
    return RECOVERED if recovering else VERIFIED


OF_PREFECT: Final = (
    _completed(
        "Completed",
        means="A training has ended with exit code 0, or a doctor's canary has run",
        then="Use its model",
    ),
    _failed(
        "Failed",
        means="Refused before anything was touched (a wrong name, host or id), or a training that failed by itself",
        then="Give what the message asks for; for a training, watch the evacuation that its alarm starts",
    ),
    _failed(
        "Cancelled",
        means="A training that an evacuation has stopped, which raises no alarm; or a run that a person cancelled: its "
        "log and the artifact `verdict-ID` say how far it got, as in `contained, not stored`",
        then="Train again when the cordon is lifted; carry a cancelled incident on",
    ),
    _failed(
        "Crashed",
        means="The process of the run was killed, or sent no heartbeat for 90 s",
        then="Run the deployment again: the incident continues where it stopped",
    ),
)
"""States with Prefect's own names."""

ENDINGS: Final = (*(each for each in [*globals().values()] if isinstance(each, Ending)), *OF_PREFECT)
"""All endings, in the order of the reference, which is the one in which they stand above."""
