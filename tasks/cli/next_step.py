"""Choose the next step for an operator, with the commands to paste."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tasks.cli.output import command
from tasks.custody.incident.commands import (
    FIX_THE_LOSS,
    FIX_THE_RECOVERY,
    NAME_THE_MODEL,
    REST_STANDS_FROZEN,
    STANDS_FROZEN,
    STOP_BY_HAND,
    WRITE,
    Typed,
    deployment_run,
)
from tasks.custody.incident.ending import NOT_RECOVERED
from tasks.custody.incident.stance import ALL_FROZEN, CANCELLED, REST_FROZEN, cancelled_end
from tasks.incident.last_word import FINISHED, NOT_CONTAINED, UNANSWERED
from tasks.people.open_question import OpenQuestion
from tasks.prefect_side.named_server import names_server
from tasks.rendering.clock import here


@dataclass(frozen=True)
class Called:
    """The names of a workload for an operator: its block, and its file as FILE or FILE:NAME.

    `store` is the store's file, if that is another one.
    """

    name: str = "NAME"
    file: str = "evacuation.toml"
    store: str = ""

    def by_worker(self, flow: str, incident: str, model: str = "") -> tuple["NextStep", ...]:
        """Return the step that has a worker run a flow for an incident, where a Prefect server is named."""
        words = f"{_BY_WORKER[flow]}, by a worker ワーカーで:"
        return (NextStep(words, (deployment_run(flow, self.name, incident, model),)),) if names_server() else ()

    def command(self, verb: str, *more: str) -> str:
        """Return the command that needs no server."""
        return command(verb, *Typed(self.file, self.store).arguments(verb, *more))


NAMELESS: Final = Called()


@dataclass(frozen=True)
class NextStep:
    """The next step: a sentence and the line to paste; of a question, a line for each answer. `others` would do too."""

    words: str
    commands: tuple[str, ...] = ()
    others: tuple["NextStep", ...] = ()

    def lines(self, label: str) -> Iterator[str]:
        """Yield the lines for a terminal."""
        yield f"{label:<9} {self.words}"
        yield from (f"{'':<9} {each}" for each in self.commands)
        yield from (line for other in self.others for line in other.lines("or"))


_FIRST: Final = {
    NOT_CONTAINED: f"{STOP_BY_HAND}, then ",
    "UNVERIFIED": "do what its message says of what is missing 不足への対処, then ",
    "PARTIAL": f"{FIX_THE_LOSS}, then ",
}
_MAY_BE_ITS: Final = "what is named above may be the workload's 上記は未確認"
_CARRY_ON: Final = "carry the incident on"
_IF_IT_LIVES: Final = (
    "end what the last message names if it still lives, such as a loop まだ動いていれば先に終了, then "
)
"""What has started the workload may lie outside all that is looked at here."""
_CANCELLED_FROZEN: Final = frozenset(map(cancelled_end, ALL_FROZEN))
_BACK: Final = "bring the API back"
_BY_WORKER: Final = {"evacuate": _CARRY_ON, "recover": _BACK}


def next_step(  # noqa: PLR0913  all that it depends on
    incident: str,
    verdict: str,
    called: Called,
    *,
    cordoned: bool,
    alive: bool,
    unknown: Sequence[int] = (),
    ended: str = "",
    model: str = "",
    has_names: bool = True,
    lacks_api: bool = False,
    is_frozen: bool = False,
    strangers: bool = False,
) -> NextStep:
    """Return the next step for an incident on which no run is at work, as its message has it (`Verdict.next`).

    `model` is the one that a recovery has brought back and that lacks only a person's word. `has_names` says whether
    anything is seen now that a person has to stop first, `lacks_api` whether the incident has ended an API that no
    recovery has brought back, `is_frozen` that all of the workload stands frozen, `strangers` that something lives that
    may be the workload's.
    """
    if not incident:
        return NextStep("nothing: no incident was ever opened here")
    if verdict == UNANSWERED and unknown:
        words = (
            "say of each unknown process what it is: bystander leaves it alone, end ends it 正体不明のプロセスへの回答:"
        )
        lines = (called.command("answer", incident, str(pid), word) for pid in unknown for word in ("bystander", "end"))
        return NextStep(words, tuple(lines))
    again, by_worker = (called.command("run", "--incident", incident),), called.by_worker("evacuate", incident)
    if verdict not in FINISHED:
        first = _FIRST.get(verdict, "") if has_names or verdict != NOT_CONTAINED else _IF_IT_LIVES
        if ended.startswith(CANCELLED) and not has_names:
            first = ""
        if is_frozen and ended in _CANCELLED_FROZEN:
            first = f"{STANDS_FROZEN}; "
        if is_frozen and ended.startswith(CANCELLED) and ended.endswith(tuple(REST_FROZEN)):
            first = f"{REST_STANDS_FROZEN}; "
        return NextStep(f"{first}{_CARRY_ON}:", again, by_worker)
    if cordoned and (alive or strangers):
        words = "something of the workload lives under the cordon" if alive else _MAY_BE_ITS
        return NextStep(f"{words}: {_CARRY_ON}:", again, by_worker)
    back = NextStep(f"{_BACK} API を戻す:", (called.command("recover"),), called.by_worker("recover", incident))
    if cordoned:
        return _under_the_cordon(incident, called, back, NextStep(_FIRST.get(verdict, ""), again, by_worker), ended)
    return _step_when_over(incident, called, (back,) if lacks_api else (), model if alive else "")


def _step_when_over(incident: str, called: Called, others: tuple[NextStep, ...], model: str) -> NextStep:
    """Return what is left once no cordon stands; `model` lacks only a person's word that it is the right one."""
    if model:
        words = f"{NAME_THE_MODEL}; then, the last line, {WRITE}:"
        lines = called.command("recover", "--model", model), called.command("postmortem", incident)
        return NextStep(words, lines, called.by_worker("recover", incident, model))
    words = f"{WRITE}, if that is not done yet; the line shows its fields ポストモーテムを記入:"
    return NextStep(words, (called.command("postmortem", incident),), others)


def _under_the_cordon(incident: str, called: Called, back: NextStep, again: NextStep, ended: str) -> NextStep:
    """Return the step after an evacuation that has done its work; `again` has words if it is to be carried on first."""
    release = NextStep("only let training in 学習だけを許可:", (called.command("uncordon"),))
    if ended == NOT_RECOVERED.name:
        return NextStep(f"{FIX_THE_RECOVERY}, then {back.words}", back.commands, (release, *back.others))
    alone = replace(back, others=())  # a worker's way comes last
    if again.words:
        return NextStep(f"{again.words}{_CARRY_ON}:", again.commands, (alone, release, *again.others, *back.others))
    words = f"{WRITE}; the line shows its fields ポストモーテムを記入:"
    return NextStep(words, (called.command("postmortem", incident),), (alone, release, *back.others))


def while_at_work(purpose: str, question: OpenQuestion | None, called: Called) -> tuple[str, NextStep, NextStep | None]:
    """What the run at work does, and how to wait for it, answer it or end it."""
    if question is None:
        words = "wait for the run at work; or cancel it in Prefect, or by Ctrl-C where it was typed"
        return purpose, NextStep(words), None
    until, then = here(question.until.isoformat()), f"then: {question.unanswered} (回答待ち)"
    description = f"{purpose}, run {question.run}: it waits for a person until {until}, {then}"
    answer = "answer it, stop or thaw: in Prefect's UI open that run and press Resume 画面で Resume を押して回答"
    call_off = NextStep("call it off from here, both lines:", (question.cancel, called.command("thaw")))
    return description, NextStep(answer), call_off
