"""Choose the next step for an operator, with the commands to paste."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tasks.cli.output import command
from tasks.custody.incident.commands import deployment_run
from tasks.incident.last_run import LastRun
from tasks.rendering.clock import both_times

FINISHED: Final = frozenset({"VERIFIED", "PARTIAL", "THAWED"})
"""Verdicts after which an incident need not be carried on."""


@dataclass(frozen=True)
class Called:
    """The names of a workload for an operator: its block, and its file as FILE or FILE:NAME.

    `store` is the store's file, if that is another one.
    """

    name: str = "NAME"
    file: str = "evacuation.toml"
    store: str = ""

    def run(self, flow: str, incident: str) -> str:
        """Return the command that has a worker run a flow for an incident."""
        return deployment_run(flow, self.name, incident)

    def command(self, verb: str, *more: str) -> str:
        """Return the command that needs no server."""
        store = ["--store", self.store] if self.store and verb in {"run", "recover"} else []
        return command(verb, self.file, *store, *more)


NAMELESS: Final = Called()


@dataclass(frozen=True)
class Step:
    """The next step: a sentence, and alternative commands, each ready to be pasted."""

    words: str
    commands: tuple[str, ...] = ()

    def lines(self, label: str) -> Iterator[str]:
        """Yield the lines for a terminal."""
        yield f"{label:<9} {self.words}"
        yield from (f"{'':<9} {each}" for each in self.commands)


def next_step(incident: str, verdict: str, called: Called, *, cordoned: bool, alive: bool) -> Step:
    """Return the next step for an incident on which no run is at work."""
    again = (called.run("evacuate", incident), called.command("run", "--incident", incident))
    if not incident:
        return Step("nothing: no incident was ever opened here")
    if verdict not in FINISHED:
        return Step("carry the incident on, by a worker or without a server:", again)
    if cordoned and alive:
        return Step("something of the workload lives under the cordon: carry the incident on:", again)
    if cordoned:
        return Step(
            "bring the API back, by a worker or without a server; or, the last line, only let training in:",
            (called.run("recover", incident), called.command("recover"), called.command("uncordon")),
        )
    return Step("write the postmortem, if that is not done yet")


def while_at_work(purpose: str, run: LastRun, called: Called) -> tuple[str, Step, Step | None]:
    """Return what the run at work does, how to wait for it or end it, and how to answer it if it asks."""
    told = f"{purpose}{f', run {run.id}' if run.id else ''} (実行中)"
    cancel = (run.end_it,) if run.id else ()
    if run.until is None:
        return told, Step("wait for the run at work, or cancel it (Ctrl-C where it was typed):", cancel), None
    until = " / ".join(both_times(run.until))
    question = f"{told}; it waits for a person until {until}, then: {run.unanswered} (回答待ち)"
    answer = Step("answer it, stop or thaw: in Prefect's UI open that run and press Resume 画面で Resume を押して回答")
    return question, answer, Step("call it off from here, both lines:", (*cancel, called.command("thaw")))
