"""Print how a workload stands: its incident, its cordon, what of it runs. Reads files and /proc alone."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from shlex import quote
from typing import Any, Final

from blocks.workload import Workload
from tasks.adapters.container_engine import DockerEngine
from tasks.adapters.host import Host
from tasks.containment.pause_prefect import read_prior
from tasks.containment.suspects import suspects_now
from tasks.containment.thaw import why_not_thaw
from tasks.containment.uncordon import held, living
from tasks.custody.containment.container import workload_containers
from tasks.custody.containment.process import Identity
from tasks.custody.errors import EngineError
from tasks.custody.evidence.redact import command_line
from tasks.custody.incident.verdict import deployment_run
from tasks.incident.current import last_opened
from tasks.incident.directory import base_of, bases, cordon_base, find_home, homes
from tasks.incident.layout import CAUGHT, CORDON, EARLY, ENDED, FROZEN, INCIDENT, closings
from tasks.incident.run_lock import owner
from tasks.system.atomic_files import caught_lines, read_marker, read_ours, read_plain, read_private, rows_of
from tasks.system.processes import standpoint

_SHOWN: Final = 100
_FINISHED: Final = frozenset({"VERIFIED", "PARTIAL", "THAWED"})


@dataclass(frozen=True)
class Called:
    """What an operator calls a workload: the name of its block, and the file that describes it, FILE or FILE:NAME.

    `store` is the file of the store where that is another one.
    """

    name: str = "NAME"
    file: str = "evacuation.toml"
    store: str = ""

    def run(self, flow: str, incident: str) -> str:
        """The command for a worker's run of an incident."""
        return deployment_run(flow, self.name, incident)

    def make(self, target: str, *more: str) -> str:
        """The command that needs no server."""
        store = [f"STORE={quote(self.store)}"] * bool(self.store and target == "evacuate")
        return " ".join(["make", target, f"WORKLOAD={quote(self.file)}", *store, *more])


NAMELESS: Final = Called()


def status(workload: Workload, host: Host, called: Called = NAMELESS) -> Iterator[str]:
    """A line for each thing that an operator asks first; the last say what to do next, a command a line."""
    incident, verdict, end = _incident(workload)
    yield f"incident  {incident or 'none'}" + (f"  {_told(verdict, end)}" if incident else "")
    yield f"cordon    {_cordon(workload, host)}"
    for launcher, before in read_prior(cordon_base(workload) / CORDON).items():
        yield f"paused    {launcher}{', before us already' if before else ''}"
    caught = [f"{told}: caught under the cordon, frozen" for told in held(host, workload).values()]
    yield from (f"held      {told}" for told in caught)
    if caught:
        yield f"{'':<9} whoever typed it waits; this ends it 起動した人の画面は止まったまま: {called.make('uncordon')}"
    since = _frozen_since(workload)
    members = living(host, workload)
    alive_now = members | {who: process for who in since if (process := host.get_process(who)) and process.stopped}
    for process in alive_now.values():
        state = "frozen" if process.stopped else "runs"
        yield f"workload  process {process.pid} {state}: {command_line(process.command, _SHOWN)}"
    for process, why in suspects_now(host, workload, members):
        yield f"suspect   process {process.pid}: {command_line(process.command, _SHOWN)}: {why}"
    containers = _containers(workload)
    yield from (f"workload  {told}" for told in containers)
    if not alive_now and not containers:
        yield "workload  nothing of it runs"
    alive = bool(alive_now or containers)
    frozen = {who.pid: since.get(who, "") for who, process in alive_now.items() if process.stopped}
    alone = bool(frozen or _paused(containers)) and not owner(base_of(workload))
    if alone:
        yield f"alone     {_alone(workload, host, list(frozen.values()), _paused(containers))}"
    after = next_step(incident, verdict, called, cordoned=_stands(workload), alive=alive)
    evacuate = ("evacuate it:", called.make("evacuate"))
    yield from _step("next", *(after if incident or not alone else evacuate))
    if alive and incident and verdict not in _FINISHED and not why_not_thaw(find_home(workload, incident)):
        yield from _step("or", "nothing was stopped yet, so call it off, everything as it was:", called.make("thaw"))
    elif alone and not incident:
        by_hand = f"kill -CONT {' '.join(map(str, frozen))}"
        let_go = called.make("uncordon") if all(frozen.values()) else by_hand
        yield from _step("or", "let it go on as it was:", let_go)


def _step(label: str, words: str, *commands: str) -> Iterator[str]:
    yield f"{label:<9} {words}"
    yield from (f"{'':<9} {command}" for command in commands)


def _frozen_since(workload: Workload) -> dict[Identity, str]:
    """Whom our files name as frozen by us in this boot: by runs, by starts that died, by the guard; and since when."""
    rows = [row for home in homes(workload) for row in rows_of(home / FROZEN, read_private)]
    for base in bases(workload):
        rows += [*rows_of(base / EARLY, read_ours), *caught_lines(base / CAUGHT)]
    return {who: str(row.get("frozen_at") or row.get("at") or "") for row in rows if (who := Identity.of(row))}


def _paused(containers: list[str]) -> int:
    return sum(told.endswith(" paused") for told in containers)


def _alone(workload: Workload, host: Host, since: list[str], paused: int) -> str:
    """That something stands with nobody at work on it, since when, and whether a guard is there."""
    guarded = host.guard(cordon_base(workload) / CORDON) is not None
    guard = "the guard alone is there" if guarded else "no guard stands: what is thawed runs on"
    first = min(filter(None, since), default="")
    age = f", the first since {first}{_age(first)}" if first else ""
    return f"{len(since) + paused} stand frozen{age}, no run is at work on it, {guard} (作業中の実行なし)"


def _age(since: str) -> str:
    try:
        return f" ({str(datetime.now(UTC) - datetime.fromisoformat(since)).partition('.')[0]})"
    except (TypeError, ValueError):
        return ""


def _containers(workload: Workload) -> list[str]:
    """Its living containers, paused ones too, or that they are not known; without any in the block nothing is asked."""
    asked = workload.containers
    if not asked:
        return []
    try:
        with closing(DockerEngine(workload.docker_host)) as engine:
            found = workload_containers(engine.containers(asked), asked, standpoint().own)
    except EngineError as error:
        return [f"whether its containers run is not known: {error}"]
    return [f"{container.summary} {container.state}" for container in found]


def next_step(incident: str, verdict: str, called: Called, *, cordoned: bool, alive: bool) -> tuple[str, ...]:
    """What to do now: a sentence, and the commands of which one does it, each to be pasted as it stands."""
    again = (called.run("evacuate", incident), called.make("evacuate", f"INCIDENT={incident}"))
    if not incident:
        return ("nothing: no incident was ever opened here",)
    if verdict not in _FINISHED:
        return ("carry the incident on, by a worker or without a server:", *again)
    if cordoned and alive:
        return ("something of the workload lives under the cordon: carry the incident on:", *again)
    if cordoned:
        back = (called.run("recover", incident), called.make("evacuate", f"INCIDENT={incident}", "RECOVER=1"))
        return (
            "bring the API back, by a worker or without a server; or, the last line, only let training in:",
            *back,
            called.make("uncordon"),
        )
    return ("write the postmortem, if that is not done yet",)


def _told(verdict: str, end: str) -> str:
    """How its last run ended; then what its evidence is, if that is something else."""
    if not verdict or end.upper() in {"", verdict}:
        return verdict or end or "not finished"
    return f"{end}; its evidence is {verdict}"


def _incident(workload: Workload) -> tuple[str, str, str]:
    """The incident that was opened last, the word of its last record, and how its last run ended; empty where unknown.

    A run that has closed a record and was killed before its end left nothing but the record.
    """
    incident = last(workload)
    home = find_home(workload, incident) if incident else None
    if home is None or not (home / INCIDENT).exists():
        return incident, "", ""
    closed = closings(home)
    closing = _json(lambda: read_plain(closed[-1])) if closed else {}
    said = _json(lambda: read_plain(home / ENDED))
    newest = not closed or str(said.get("record", "")).zfill(3) >= closed[-1].parent.name
    return incident, str(closing.get("verdict", "")), str(said.get("end", "")) if newest else ""


def last(workload: Workload) -> str:
    """Id of the incident that was opened last; empty where there is none."""
    return str(_json(lambda: last_opened(workload)).get("id", ""))


def _json(read: Callable[[], bytes]) -> dict[str, Any]:
    try:
        content = json.loads(read())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _stands(workload: Workload) -> bool:
    return (cordon_base(workload) / CORDON).exists()


def _cordon(workload: Workload, host: Host) -> str:
    marker = cordon_base(workload) / CORDON
    about = read_marker(marker)
    if not _stands(workload):
        holder = host.holder(workload.lock)
        return f"none; {workload.lock} is held by process {holder.pid}" if holder else f"none; {workload.lock} is free"
    told = f"since {about.get('since', '?')} for {about.get('incident', '?')}: {about.get('reason', '')}"
    guard = host.guard(marker)
    if guard is None:
        return f"marker without a guard (a reboot?) {told}; {workload.lock} is not held by us"
    lock = "holds" if host.has_lock(guard, workload.lock) else "waits for"
    return f"guard {guard.pid} {lock} {workload.lock} {told}"
