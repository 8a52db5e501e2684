"""Choose the next step for an operator, with the commands to paste."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tasks.cli.output import command
from tasks.custody.incident.commands import (
    FIX_THE_LOSS,
    FIX_THE_RECOVERY,
    NAME_THE_MODEL,
    STOP_BY_HAND,
    WRITE,
    Typed,
    deployment_run,
)
from tasks.custody.incident.ending import NOT_RECOVERED
from tasks.incident.last_word import FINISHED, UNANSWERED
from tasks.people.open_question import OpenQuestion
from tasks.rendering.clock import here


@dataclass(frozen=True)
class Called:
    """The names of a workload for an operator: its block, and its file as FILE or FILE:NAME.

    `store` is the store's file, if that is another one.
    """

    name: str = "NAME"
    file: str = "evacuation.toml"
    store: str = ""

    def run(self, flow: str, incident: str, model: str = "") -> str:
        """Return the command that has a worker run a flow for an incident; a recovery takes a model."""
        return deployment_run(flow, self.name, incident, model)

    def command(self, verb: str, *more: str) -> str:
        """Return the command that needs no server."""
        return command(verb, *Typed(self.file, self.store).arguments(verb, *more))


NAMELESS: Final = Called()


@dataclass(frozen=True)
class NextStep:
    """The next step: a sentence, and alternative commands, each ready to be pasted."""

    words: str
    commands: tuple[str, ...] = ()

    def lines(self, label: str) -> Iterator[str]:
        """Yield the lines for a terminal."""
        yield f"{label:<9} {self.words}"
        yield from (f"{'':<9} {each}" for each in self.commands)


_FIRST: Final = {
    "NOTCONTAINED": f"{STOP_BY_HAND}, then ",
    "UNVERIFIED": "do what its message says of what is missing 不足への対処, then ",
    "PARTIAL": f"{FIX_THE_LOSS}, then ",
}
_CARRY_ON: Final = "carry the incident on, by a worker or without a server"


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
) -> NextStep:
    """Return the next step for an incident on which no run is at work, as its message has it (`Verdict.next`)."""
    again = (called.run("evacuate", incident), called.command("run", "--incident", incident))
    if not incident:
        return NextStep("nothing: no incident was ever opened here")
    if verdict == UNANSWERED and unknown:
        words = (
            "say of each unknown process what it is: bystander leaves it alone, end ends it 正体不明のプロセスへの回答:"
        )
        lines = (called.command("answer", incident, str(pid), word) for pid in unknown for word in ("bystander", "end"))
        return NextStep(words, tuple(lines))
    if verdict not in FINISHED:
        return NextStep(f"{_FIRST.get(verdict, '')}{_CARRY_ON}:", again)
    if cordoned and alive:
        return NextStep("something of the workload lives under the cordon: carry the incident on:", again)
    if cordoned:
        return _under_the_cordon(incident, verdict, called, again, ended)
    return _step_when_over(incident, called, model if alive else "")


def _step_when_over(incident: str, called: Called, model: str) -> NextStep:
    """Return what is left once no cordon stands; `model` lacks only a person's word that it is the right one."""
    if model:
        named = (called.run("recover", incident, model), called.command("recover", "--model", model))
        words = f"{NAME_THE_MODEL}, by a worker or without a server; then, the last line, {WRITE}:"
        return NextStep(words, (*named, called.command("postmortem", incident)))
    words = f"{WRITE}, if that is not done yet; the line shows its fields ポストモーテムを記入:"
    return NextStep(words, (called.command("postmortem", incident),))


def _under_the_cordon(incident: str, verdict: str, called: Called, again: tuple[str, ...], ended: str) -> NextStep:
    back = "bring the API back, by a worker or without a server; or, the last line, only let training in:"
    recover = (called.run("recover", incident), called.command("recover"), called.command("uncordon"))
    if ended == NOT_RECOVERED.name:
        return NextStep(f"{FIX_THE_RECOVERY}, then {back}", recover)
    if verdict in _FIRST:
        return NextStep(f"{_FIRST[verdict]}{_CARRY_ON}; or {back}", (*again, *recover))
    return NextStep(f"{WRITE} ポストモーテムを記入; or {back}", (called.command("postmortem", incident), *recover))


def while_at_work(purpose: str, question: OpenQuestion | None, called: Called) -> tuple[str, NextStep, NextStep | None]:
    """What the run at work does, and how to wait for it, answer it or end it."""
    if question is None:
        return (
            purpose,
            NextStep("wait for the run at work; or cancel it in Prefect, or by Ctrl-C where it was typed"),
            None,
        )
    until = here(question.until.isoformat())
    description = (
        f"{purpose}, run {question.run}: it waits for a person until {until}, then: {question.unanswered} (回答待ち)"
    )
    answer = NextStep(
        "answer it, stop or thaw: in Prefect's UI open that run and press Resume 画面で Resume を押して回答"
    )
    return (
        description,
        answer,
        NextStep("call it off from here, both lines:", (question.cancel, called.command("thaw"))),
    )
