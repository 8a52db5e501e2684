"""Define how a run ends: each state that a person meets in Prefect, what it means and what to do then."""

from dataclasses import dataclass
from typing import Final

from tasks.custody.containment.receipt import Recovery
from tasks.custody.incident.verdict import Word


@dataclass(frozen=True)
class Ending:
    """The name of a run's last state; `completed` says of which type it is, Completed or Failed."""

    name: str
    completed: bool
    means: str
    then: str


VERIFIED: Final = Ending(
    "Verified",
    completed=True,
    means="Contained, everything needed collected, every object proven by the store's own digest, the record stored",
    then="Write the postmortem; recover if wanted",
)
PARTIAL: Final = Ending(
    "Partial",
    completed=False,
    means="Contained and every object proven, but something needed was lost; the message names it",
    then="Mend the cause, carry the incident on",
)
UNVERIFIED: Final = Ending(
    "Unverified",
    completed=False,
    means="At least one object, or the record, is not proven to be in the store. It is on this host",
    then="Mend the store or the network, carry the incident on",
)
NOT_CONTAINED: Final = Ending(
    "NotContained",
    completed=False,
    means="Something of the workload lives or comes back, somebody else holds the lock, a launch was not caught, or "
    "something that starts training is not paused; whatever the storage says",
    then="Stop by hand what the message names (a supervisor?), carry the incident on",
)
THAWED: Final = Ending(
    "Thawed",
    completed=True,
    means="The evacuation was called off before anything was stopped: the workload goes on as it was, the incident "
    "is over",
    then="Write the postmortem; the next evacuation is an incident of its own",
)
PARTLY_THAWED: Final = Ending(
    "PartlyThawed",
    completed=False,
    means="The workload goes on and the incident is over, but something of Prefect's is still paused, or the store has "
    "no record of it; the message names it",
    then="Resume by hand what is named, or `evacuation uncordon`",
)
DRY_RUN: Final = Ending(
    "DryRun", completed=True, means="Nothing was touched", then="Read the artifacts `verdict-ID` and `plan-ID`"
)
JOINED: Final = Ending(
    "Joined",
    completed=True,
    means="Another run works on this workload right now, or an incident has contained already what the alarm tells of; "
    "this run did nothing",
    then="Look at the incident that the message names",
)
RECOVERED: Final = Ending(
    "Recovered",
    completed=True,
    means="The API is back and proven, the record stored",
    then="Write the postmortem",
)
PARTLY_RECOVERED: Final = Ending(
    "PartlyRecovered",
    completed=False,
    means="The API is back and stays up, but the message names what was not proven: it wants a key, gave no "
    "prediction, refused our made-up row or to reload, does not name its model, there is no sound model, something is "
    "still paused",
    then="Mend the contract in the workload's block and run `recover` again, or prove that by hand",
)
NOT_RECOVERED: Final = Ending(
    "NotRecovered",
    completed=False,
    means="The evidence is as safe as the message says, but the API did not come back; the workload is contained again",
    then="Read the message and `api-restart.log` in the incident's folder, mend, run `recover` again",
)
PROVEN: Final = Ending(
    "Proven",
    completed=True,
    means="An audit: nothing contradicts the incident's own documents, all are signed by who may sign, everything that "
    "they name is there",
    then="Keep its report",
)
BROKEN: Final = Ending(
    "Broken",
    completed=False,
    means="An audit: something was changed, removed or added",
    then="Read its findings (audit.md)",
)
INDETERMINATE: Final = Ending(
    "Indeterminate",
    completed=False,
    means="An audit: nothing is contradicted, but something could not be proven",
    then="Read its findings (audit.md), give what was lacking, audit again",
)
LISTED: Final = Ending(
    "Listed",
    completed=True,
    means="An audit without an incident id: what the store holds is listed",
    then="Read the artifact `incidents`; audit one of them",
)
REFUSED: Final = Ending(
    "Refused",
    completed=True,
    means="A training was not started: a cordon stands, or somebody else holds the lock",
    then="Train again when the cordon is lifted",
)
REHEARSED: Final = Ending(
    "Rehearsed",
    completed=True,
    means="A drill: the sample workload was evacuated and all of it proven, and the dry run of the workload was done",
    then="Read the artifacts `verdict-ID` and `plan-ID`",
)
NOT_REHEARSED: Final = Ending(
    "NotRehearsed",
    completed=False,
    means="A drill did not prove what it should, or the dry run was refused; the message says which",
    then="Read the run's log, mend it, and run the drill again: an evacuation would fail in the same way",
)
MIRRORED: Final = Ending(
    "Mirrored",
    completed=True,
    means="What the workload no longer has was deleted from `latest/`, as a person approved; it is held elsewhere",
    then="`evacuation rollback` takes it back",
)
DECLINED: Final = Ending(
    "Declined",
    completed=True,
    means="A person was asked and said no; nothing was done",
    then="Run it again when the answer would be another one",
)
OF_WORD: Final = {
    Word.VERIFIED: VERIFIED,
    Word.PARTIAL: PARTIAL,
    Word.UNVERIFIED: UNVERIFIED,
    Word.NOT_CONTAINED: NOT_CONTAINED,
    Word.THAWED: THAWED,
}


def ending_of(
    word: Word,
    recovery: Recovery | str | None,
    *,
    recovering: bool = False,
    dry_run: bool = False,
    stored: bool = True,
) -> Ending:
    """Decide how a run ends: by its verdict, by its recovery, and by whether the store has its record.

    `recovery` is None where none was wanted, and the reason where it failed. `recovering` says that the run only
    recovers: the verdict on the evidence is then an earlier run's, and only NOTCONTAINED outranks the recovery.
    """
    if dry_run:
        return DRY_RUN
    if word in {Word.NOT_CONTAINED, Word.THAWED} or not (recovering or word is Word.VERIFIED):
        return PARTLY_THAWED if word is Word.THAWED and not stored else OF_WORD[word]
    if isinstance(recovery, str):
        return NOT_RECOVERED
    if not stored:
        return UNVERIFIED
    if recovery and not recovery.is_complete:
        return PARTLY_RECOVERED
    return RECOVERED if recovering else VERIFIED


OF_PREFECT: Final = (
    Ending("Completed", completed=True, means="A training has ended with exit code 0", then="Use its model"),
    Ending(
        "Failed",
        completed=False,
        means="Refused before anything was touched (a wrong name, host or id), or a training that failed by itself",
        then="Give what the message asks for; for a training, watch the evacuation that its alarm starts",
    ),
    Ending(
        "Cancelled",
        completed=False,
        means="A training that an evacuation has stopped, which raises no alarm; or a run that a person cancelled: its "
        "log and the artifact `verdict-ID` say how far it came, as in `contained, not stored`",
        then="Train again when the cordon is lifted; carry a cancelled incident on",
    ),
    Ending(
        "Crashed",
        completed=False,
        means="The process of the run was killed, or no sign of life of it has come for 90 s",
        then="Run the deployment again: the incident carries on where it stood",
    ),
)
"""States under Prefect's own names."""

ENDINGS: Final = (
    *OF_WORD.values(),
    PARTLY_THAWED,
    DRY_RUN,
    JOINED,
    RECOVERED,
    PARTLY_RECOVERED,
    NOT_RECOVERED,
    PROVEN,
    BROKEN,
    INDETERMINATE,
    LISTED,
    REFUSED,
    REHEARSED,
    NOT_REHEARSED,
    MIRRORED,
    DECLINED,
    *OF_PREFECT,
)
"""All of them, in the order in which the reference has them."""
