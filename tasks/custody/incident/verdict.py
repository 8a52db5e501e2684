"""Compute the verdict, one word, from receipts (runbook §8)."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from tasks.custody.containment.cordon import Challenge
from tasks.custody.containment.pause import Pause
from tasks.custody.containment.receipt import KNOWN_STOPPED, Containment, Unknown, Watch, describe_stopped
from tasks.custody.containment.thaw import Thawed
from tasks.custody.evidence.acquisition import Evidence, Outcome
from tasks.custody.evidence.keys import FOLDERS
from tasks.custody.incident.commands import (
    FIX_THE_LOSS,
    FIX_THE_RECOVERY,
    NAME_THE_MODEL,
    REST_STANDS_FROZEN,
    STANDS_FROZEN,
    STOP_BY_HAND,
    WRITE,
    answer_lines,
    postmortem_line,
    run_line,
)
from tasks.custody.incident.timeline import RAN_ON
from tasks.custody.store.receipts import NOT_THERE, ObjectReceipt, displaced_objects, lost_once, unproven
from tasks.custody.visible import visible

_SHOWN: Final = 5
_REASON: Final = 500


class Word(StrEnum):
    """The verdicts, best first; THAWED stands apart, for an incident that was called off."""

    VERIFIED = "VERIFIED"
    PARTIAL = "PARTIAL"
    UNANSWERED = "UNANSWERED"
    UNVERIFIED = "UNVERIFIED"
    NOT_CONTAINED = "NOTCONTAINED"
    THAWED = "THAWED"


@dataclass(frozen=True)
class Verdict:
    """The word, and sentences on what is safe, what is missing and what to do next; `first` precedes them all."""

    word: Word
    safe: tuple[str, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    next: str
    first: str = ""

    @property
    def partly_thawed(self) -> bool:
        """Whether a thaw has left something paused, which `missing` names."""
        return self.word is Word.THAWED and bool(self.missing)

    @property
    def message(self) -> str:
        """One line for the state message and the log."""
        return self.line()

    def line(self, *more: str) -> str:
        """Return the message, which begins with the reason of the word, with `more` sentences.

        They come before the command that ends it: what follows that is copied with it. The reason is cut short: what is
        safe always stands in the line, as a fleet reads it there.
        """
        parts = [f"{self.word}.", *([f"First: {self.first}."] if self.first else [])]
        reason, others = self.missing[:1], self.missing[1:]
        if reason:
            parts.append(f"Missing: {visible(_list_sentences(reason), _REASON)}.")
        if self.safe:
            parts.append(f"Safe: {_list_sentences(self.safe)}.")
        if others:
            parts.append(f"Also missing: {_list_sentences(others)}.")
        ran_on = [each[:1].upper() + each[1:] for each in self.notes if each.startswith(RAN_ON)]
        parts += [f"{each.rstrip('. ')}." for each in (*ran_on, *more) if each]
        return " ".join([*parts, f"Next: {self.next}"])

    def after_recovery(self, summary: str, named: str = "") -> "Verdict":
        """Return the verdict after a recovery: the API runs, and only losses are left to fix.

        `named` is the command of a recovery that names the model, if that alone is not proven.
        """
        last = "write the postmortem (`evacuation postmortem`)."
        last = f"{NAME_THE_MODEL}: {named}; then {last}" if named else last
        last = last if self.word in _RECOVERABLE else f"{_STOPS_AGAIN}; {self.next}"
        safe = (*self._safe_whatever_runs, f"{_RECOVERED} {summary}")
        return replace(self, safe=safe, next=last, first="")

    def after_failed_recovery(
        self, incident: str, alive: Sequence[str] | None, unknown: Sequence[Unknown] = (), *, workload: str = "NAME"
    ) -> "Verdict":
        """Return the verdict after a failed recovery: NOTCONTAINED if something of it is still alive.

        None says that nobody looked: an earlier recovery has let in what runs, so nothing is said of containment.
        """
        safe = self._safe_whatever_runs
        if alive is None:
            return replace(self, safe=safe)
        missing = (*alive, *(each.summary for each in unknown if each.summary not in self.missing), *self.missing)
        if alive:
            word = Word.NOT_CONTAINED
        else:
            safe = (_stopped_sentence(unknown), *safe)
            word = Word.UNANSWERED if unknown and self.word in _RECOVERABLE else self.word
        then = self.next if word is self.word else _next(word, incident, workload, unknown)
        if word in _RECOVERABLE:
            then = f"{FIX_THE_RECOVERY}, then: {run_line('recover', workload, incident)}"
        return replace(self, word=word, safe=safe, missing=missing, next=then)

    def without_record(self, why: str, incident: str, workload: str) -> "Verdict":
        """Return the verdict if its own record is lost, or not proven to be in the store: nobody else can check it."""
        then = _next(Word.UNVERIFIED, incident, workload)
        return replace(self, word=Word.UNVERIFIED, missing=(why, *self.missing), next=then)

    def under_another_id(self, workload: str) -> "Verdict":
        """Return the verdict if another host or workload has claimed the id: under it, nothing can be carried on."""
        first = "stop what is named here by hand; " if self.word is Word.NOT_CONTAINED else ""
        then = f"{first}set incident_suffix as is said there, then, without an id: {run_line('evacuate', workload)}"
        return replace(self, next=then)

    def while_frozen(
        self, pids: Collection[int], incident: str, workload: str, *, may_thaw: bool, stopped: str = ""
    ) -> "Verdict":
        """Return the verdict of a run that was cancelled while all that is known stood frozen: nobody has to stop it.

        `pids` were frozen. Other things that are missing stay; a thaw is named where it would not be refused.
        `stopped` says how many had ended by then, empty for none.
        """
        frozen = {str(pid) for pid in pids}
        others = (each for each in self.missing if each != _NOT_LOOKED and each.partition(":")[0] not in frozen)
        missing = tuple(each for each in others if not _PAUSED.search(each))
        then = _carry_on(incident, workload)
        if may_thaw:
            then += f"; or let everything go on as it was 元どおり再開: {run_line('thaw', workload, incident)}"
        return replace(
            self,
            safe=(f"{stopped} and {REST_STANDS_FROZEN}" if stopped else STANDS_FROZEN, *self.safe),
            missing=missing,
            next=then,
        )

    def when_cancelled(self, pids: Collection[int], incident: str, workload: str) -> "Verdict":
        """Return the verdict of a run that was cancelled while something ran: carrying on ends it if it has these pids.

        What else was said to start or tie to the workload a person has to end, by the command that stands beside it.
        """
        own = {str(pid) for pid in pids}
        alive = [each for each in self.missing if _HAS_PID.match(each) or _HAS_COMMAND.search(each)]
        others = [each for each in alive if each.partition(":")[0] not in own]
        first = f"{STOP_BY_HAND}, then " * bool(others)
        return replace(self, next=f"{first}{_carry_on(incident, workload)}")

    def when_cut_short(self, incident: str, workload: str) -> "Verdict":
        """Return the verdict of a run that was cancelled before all was proven, and to which nothing else came."""
        then = f"to carry on 続行 (finished steps are not repeated): {run_line('evacuate', workload, incident)}"
        return replace(self, next=then)

    def of_what_was_not_kept(self) -> "Verdict":
        """Return the verdict if no folder took a file: only containment is safe, and the incident cannot be resumed."""
        safe = tuple(each for each in self.safe if _says_stopped(each))
        return replace(self, safe=safe, next="free some room, or give fallback_dir; then run the evacuation again.")

    @property
    def _safe_whatever_runs(self) -> tuple[str, ...]:
        return tuple(each for each in self.safe if not _says_stopped(each) and not each.startswith(_RECOVERED))


_COMPARE: Final = (
    "nothing has to be sent again 再送は不要: compare what lies at the named keys with what was sealed, beside them, "
    "and find out who wrote it 指定のキーの内容と隣の封印済みの内容を比べ、誰が書いたかを調べる"
)
_AS_SAID: Final = "see to what is missing, as is said there 欠けている物を、その指示のとおりに直す"
_NOT_LOOKED: Final = "whether the workload still runs was not established"
_HAS_PID: Final = re.compile("[0-9]+: ")
_HAS_COMMAND: Final = re.compile("停止方法|end it with|systemctl stop")
_PAUSED: Final = re.compile(r" is paused(?: \(|$)")
"""In the line of a container."""
_CONTAINED: Final = "the workload is contained"
_RECOVERED: Final = "it was contained, and now"
_STOPS_AGAIN: Final = "what follows stops the API again 次の操作で API も再び停止する"
_RECOVERABLE: Final = frozenset({Word.VERIFIED, Word.PARTIAL})
_WHY_NOT: Final = {
    Word.UNVERIFIED: "its evidence is not proven to be in the store, and a recovery may overwrite what is left of it",
    Word.UNANSWERED: "processes live that are not known to be harmless, and nobody has answered what they are",
}
"""What a reason can override."""


def _carry_on(incident: str, workload: str) -> str:
    return f"to carry on, run it again, which ends what is its own 続行: {run_line('evacuate', workload, incident)}"


def _stopped_sentence(unknown: Sequence[Unknown]) -> str:
    return describe_stopped(unknown) if unknown else _CONTAINED


def _says_stopped(sentence: str) -> bool:
    return sentence == _CONTAINED or sentence.startswith(KNOWN_STOPPED)


def why_not_recover(word: Word | None, override_reason: str) -> str:
    """Return why a recovery is refused after this verdict; empty if allowed, or if a reason may override it."""
    if word in _RECOVERABLE or (word in _WHY_NOT and override_reason):
        return ""
    if word is Word.THAWED:
        return "it was thawed, and nothing of it was stopped"
    return _WHY_NOT.get(word, "it is not contained") if word else "none of its runs has closed a record"


def _list_sentences(sentences: Sequence[str]) -> str:
    return "; ".join(sentence.rstrip(". ") for sentence in sentences)


def judge(  # noqa: PLR0913  everything that a verdict is made of
    incident: str,
    containment: Containment | None,
    evidence: Sequence[Evidence],
    receipts: Sequence[ObjectReceipt],
    trouble: Sequence[str] = (),
    *,
    workload: str = "NAME",
    ways_in: Sequence[str] = (),
    notes: Sequence[str] = (),
    first: str = "",
    losses: Sequence[str] = (),
) -> Verdict:
    """Judge an incident of this workload.

    Not contained outranks everything. No receipts, or an unproven object, is UNVERIFIED. A process that
    is not known to be harmless is UNANSWERED. A lost needed collector, or a lost file, is PARTIAL, as is what `losses`
    names.
    `trouble` names steps that failed without a receipt, `ways_in` what may still start the workload despite the cordon,
    `notes` what else a person should know, `first` what precedes everything.
    """
    alive = (*not_contained(containment), *ways_in)
    bad, gone, moved = unproven(receipts), lost_once(receipts), displaced_objects(receipts)
    lost = [item for item in evidence if item.lost]
    unknown = containment.unknown if containment else ()
    notes = (
        *notes,
        *(_describe(item) for item in evidence if not (item.outcome.is_complete or item.lost or item.is_unasked)),
        *_others(containment.left_alone if containment else ()),
        *(containment.notes if containment else ()),
    )
    missing = (
        *alive,
        *(each.summary for each in unknown),
        *(f"{item.key}: {item.reason}" for item in bad[:_SHOWN]),
        *((f"{len(bad) - _SHOWN} more objects",) if len(bad) > _SHOWN else ()),
        *trouble,
        *losses,
        *(_describe(item) for item in lost),
        *(f"{item.key}: {item.reason}" for item in gone),
        *(f"{item.key}: {item.reason}" for item in moved[:_SHOWN]),
        *((f"{len(moved) - _SHOWN} more objects beside their keys",) if len(moved) > _SHOWN else ()),
    )
    if alive:
        word = Word.NOT_CONTAINED
    elif bad or not receipts or trouble:
        word = Word.UNVERIFIED
    elif unknown:
        word = Word.UNANSWERED
    else:
        word = Word.PARTIAL if lost or gone or losses or moved or not evidence else Word.VERIFIED
    stopped = (_stopped_sentence(unknown),) if containment and containment.is_contained and not alive else ()
    safe = (*stopped, *_safe_copies(evidence, receipts))
    then = _next(word, incident, workload, unknown, _cure(bad, trouble))
    if word is Word.PARTIAL and moved and not (lost or gone or losses):
        then = f"{_COMPARE}; then write the postmortem: {postmortem_line(workload, incident)}"
    return Verdict(word, safe, missing, notes, then, first)


def _others(left_alone: Sequence[str]) -> tuple[str, ...]:
    """Return one note on all processes that only resemble the workload; verdict.json names each."""
    if not left_alone:
        return ()
    more = f", and {len(left_alone) - 1} more in verdict.json" if left_alone[1:] else ""
    return (f"left alone, since it matches only in part, or only reads in the root: {left_alone[0]}{more}",)


def judge_thaw(
    incident: str, thawed: Thawed | None, notes: Sequence[str], trouble: Sequence[str], *, workload: str = "NAME"
) -> Verdict:
    """Judge a thawed incident. If something stays frozen it is not over: NOTCONTAINED."""
    if thawed is None or thawed.left:
        then = f"again, as root where it was denied: {run_line('thaw', workload, incident)}"
        missing = (*(thawed.left if thawed else ()), *trouble)
        return Verdict(Word.NOT_CONTAINED, (), missing, tuple(notes), then)
    missing = () if thawed.resumed.is_complete else (thawed.resumed.summary,)
    written = f"write the postmortem: {postmortem_line(workload, incident)}"
    then = "resume by hand what is named, or `evacuation uncordon`." if missing else written
    return Verdict(Word.THAWED, (thawed.summary,), missing, tuple(notes), then)


def not_contained(containment: Containment | None) -> tuple[str, ...]:
    """Return what contradicts containment; empty if nothing does."""
    if containment is None:
        return (_NOT_LOOKED,)
    if not containment.cordoned:
        return (*containment.alive, containment.reason or "the training lock is not ours")
    return containment.alive


def ways_in(pause: Pause | None, challenge: Challenge | None, watch: Watch | None) -> tuple[str, ...]:
    """Return what may still start the workload despite the cordon."""
    found = list(pause.open) if pause else ["whether Prefect's launchers are paused was not established"]
    if challenge and not challenge.is_complete:
        found.append(challenge.summary)
    for name in watch.standing if watch else ():
        found.append(f"{name} brought the workload back and still stands: stop it, then run again")
    return tuple(found)


def _safe_copies(evidence: Sequence[Evidence], receipts: Sequence[ObjectReceipt]) -> Iterator[str]:
    if files := sum(len(item.files) for item in evidence) - len(lost_once(receipts)):
        yield f"{files} files collected on this host"
    if proven := [receipt for receipt in receipts if receipt.proven]:
        read = sum(receipt.read for receipt in proven)
        details = f", {read} of them by reading every byte back" if read else ""
        if looked := sum(not receipt.exclusive for receipt in proven):
            details += f"; {looked} of them written after a check, as the store has no conditional write"
        yield f"{len(proven)} objects proven by the store's own digests{details}"


def _describe(item: Evidence) -> str:
    sentence = f"{item.collector} {item.outcome}: {item.reason or 'no reason given'}"
    may_lack = item.needed and item.may_be_missing and item.outcome is Outcome.MISSING and item.collector != FOLDERS
    why = "nothing of it was collected, and it was not needed: may_be_missing names it 採取なし、欠落可の指定"
    return f"{sentence}; {why}" if may_lack else sentence


def _cure(bad: Sequence[ObjectReceipt], trouble: Sequence[str]) -> str:
    """Return what has to be done before an unverified incident is carried on."""
    if trouble or not bad:
        return _AS_SAID
    if all(each.reason == NOT_THERE for each in bad):
        return "fix the store or the network 保全先か回線を直す"
    return "ask who runs the store, or may write there, why it is not as it was sealed 封印どおりでない理由を調べる"


def _next(word: Word, incident: str, workload: str, unknown: Sequence[Unknown] = (), cure: str = _AS_SAID) -> str:
    """Return what to do next, ending with the command that does it."""
    pids, again = [each.identity.pid for each in unknown], run_line("evacuate", workload, incident)
    done = f"{WRITE}: {postmortem_line(workload, incident)}; "
    done += f"to bring the API back: {run_line('recover', workload, incident)}"
    return {
        Word.VERIFIED: done,
        Word.PARTIAL: f"{FIX_THE_LOSS}, then: {again}; if nothing can be, {done}",
        Word.UNANSWERED: f"say what each of them is, a line each: {answer_lines(workload, incident, pids)}",
        Word.UNVERIFIED: f"{cure}, then (finished steps are not repeated): {again}",
        Word.NOT_CONTAINED: f"{STOP_BY_HAND}, then: {again}",
    }[word]
