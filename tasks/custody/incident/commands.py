"""Spell the commands that messages tell a person to type."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Final

from tasks.custody.incident.deployment_names import full_name
from tasks.custody.incident.description import FILE, place

WRITE: Final = "write the postmortem"
FIX_THE_LOSS: Final = "mend what still can be mended of the loss 直せる欠落だけを直す"
NAME_THE_MODEL: Final = "if this is the right model, name it そのモデルで正しければ指定する"
FIX_THE_RECOVERY: Final = "fix why the API did not come back 復旧失敗の原因を直す"
STOP_BY_HAND: Final = (
    "stop what is named here by hand, of what may be another's only once you know whose it is "
    "挙げたものを手で止める（他人のものかもしれないものは持ち主を確認してから）"
)
"""What a person does before the command of the next step, in a run's message and in `status`."""
STANDS_FROZEN: Final = "nothing of what stands frozen is lost 凍結中のものは失われていない"
"""What a cancelled run, and `status` after it, says of what it has frozen and not stopped."""
REST_STANDS_FROZEN: Final = "the rest stands frozen 残りは凍結中"
"""The same where something of it was stopped before."""
_SHOWN: Final = 5
_VERBS: Final = {"evacuate": "run", "recover": "recover", "thaw": "thaw"}


@dataclass(frozen=True)
class Typed:
    """What describes workload and store on a command line: a folder, or FILE:NAME; the store's, if that is another.

    And the incident that is open, as soon as it is known.
    """

    workload: str
    store: str = ""
    incident: str = ""

    def arguments(self, verb: str, *words: str) -> list[str]:
        """Return the arguments of a verb, with these after them."""
        store = ["--store", self.store] if self.store and verb in {"run", "recover", "answer", "postmortem"} else []
        return [self.workload, *store, *words]

    def line(self, verb: str, *words: str) -> str:
        """Return the command of this verb, ready to be pasted into a shell."""
        return " ".join(["evacuation", verb, *map(quote, self.arguments(verb, *words))])


_by_hand = list[Typed]()


@contextmanager
def by_hand(workload: str, store: str, incident: str = "") -> Iterator[None]:
    """Spell commands within as for a run that was typed with these arguments: no server has its deployments.

    They name whole paths: another folder may hold another file of that name, which its owner has put there.
    """
    _by_hand.append(Typed(_whole(workload), _whole(store) if store else "", incident))
    try:
        yield
    finally:
        _by_hand.pop()


def name_incident(incident: str) -> None:
    """Name the incident that a run by hand has opened in the commands that it spells from now on."""
    if _by_hand:
        _by_hand[-1] = replace(_by_hand[-1], incident=incident)


def line_without_file(pid: int, decision: str) -> str:
    """Return how a person says what this process is where no file has a block that could name it; empty if one has.

    Before there is an incident to answer in, that is by a file: `evacuation init`.
    """
    if not _by_hand or place(_by_hand[-1].workload)[0].endswith(FILE):
        return ""
    typed = _by_hand[-1]
    return typed.line("answer", typed.incident, str(pid), decision) if typed.incident else typed.line("init")


def _whole(text: str) -> str:
    file, name = place(text)
    return f"{Path(file).absolute()}:{name}" if name else str(Path(file).absolute())


def _parse_words(workload: str) -> Typed:
    return _by_hand[-1] if _by_hand else Typed(f"evacuation.toml:{workload}")


def run_line(flow: str, workload: str, incident: str = "", model: str = "") -> str:
    """Return the command that runs this flow (for this incident and model, if given): by a worker, or as this run was.

    A recovery takes a model.
    """
    if not _by_hand:
        return deployment_run(flow, workload, incident, model)
    option = ["--incident", incident] if incident and flow != "thaw" else []
    return _by_hand[-1].line(_VERBS[flow], *option, *(["--model", model] if model else []))


def deployment_run(flow: str, workload: str, incident: str = "", model: str = "") -> str:
    """Return the command that has a worker run this flow (as `run_line`), to be pasted as it stands."""
    option = f" --param incident_id={incident}" if incident else ""
    option += f" --param {quote(f'model={model}')}" if model else ""
    return f"prefect deployment run {full_name(flow, workload)}{option} --watch"


def postmortem_line(workload: str, incident: str) -> str:
    """Return the command that shows and writes what people have to say in the postmortem."""
    return _parse_words(workload).line("postmortem", incident)


def audit_line(block: str, there: str, incident: str, *words: str) -> str:
    """Return the command that proves an incident from its store: a block, or at s3://… if no file was typed."""
    if _by_hand:
        typed = _by_hand[-1]
        block = typed.store or (typed.workload if place(typed.workload)[0].endswith(FILE) else there)
    return " ".join(["evacuation", "audit", *map(quote, [block, incident, *words])])


def answer_lines(workload: str, incident: str, pids: Sequence[int]) -> str:
    """Return the command that answers each process, five at most, and where a server has the form for it.

    The other choice stands in parentheses: a shell refuses the line as a whole, and would take `bystander|end` for an
    answer and a program.
    """
    typed = _parse_words(workload)
    lines = [f"{typed.line('answer', incident, str(pid), 'bystander')} (or: end)" for pid in pids[:_SHOWN]]
    rest = [f"{len(pids) - _SHOWN} more in the same way"] if len(pids) > _SHOWN else []
    form = "" if _by_hand else f"; or the deployment {full_name('answer', workload)} in Prefect's UI"
    return f"{'; '.join([*lines, *rest])}{form}"
