"""Show the state of a workload: incident, cordon, living processes. Reads files and /proc; imports no Prefect."""

import errno
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISDIR
from typing import Any, Final

from blocks.workload_fields import WorkloadFields
from tasks.cli.next_step import NAMELESS, Called, NextStep, next_step, while_at_work
from tasks.containment.answers import answered_bystanders, to_answer
from tasks.containment.containers.named import find_named
from tasks.containment.release.resume_prefect import read_prior
from tasks.containment.release.uncordon import doubtful, find_held, living
from tasks.containment.suspects import roster_now
from tasks.custody.containment.identity import Identity
from tasks.custody.errors import EngineError
from tasks.custody.incident.commands import by_hand
from tasks.custody.incident.stance import CANCELLED
from tasks.host.container.membership import Container
from tasks.host.file_lock import tell_holder
from tasks.host.host import Host, lives
from tasks.host.judgement.case import Kind
from tasks.host.judgement.roster import Roster
from tasks.host.judgement.suspect import excuse, fold_alike, who_started
from tasks.host.process.newcomer import again_and_again
from tasks.host.process.process import Process, process_line
from tasks.incident.current import last_opened
from tasks.incident.directory import base_of, bases, cordon_base, find_home, homes
from tasks.incident.last_word import FINISHED, NOT_CONTAINED, THAWED, WORKS, is_finished
from tasks.incident.layout import (
    CAUGHT,
    CORDON,
    CUSTODY_LOG,
    EARLY,
    ENDED,
    FROZEN,
    INCIDENT,
    RECOVERED,
    STOPPING,
    closings,
)
from tasks.incident.run_lock import has_ownership, owner
from tasks.incident.thaw_refusal import why_not_thaw
from tasks.people.open_question import open_question
from tasks.rendering.clock import here
from tasks.system.files.atomic_files import caught_lines, read_marker, read_ours, read_plain, read_private, rows_of

_SHOWN: Final = 100
_WRITTEN: Final = 3
_NOBODY_KNOWN: Final = "by whom no file tells"
_LET_GO: Final = (
    f"let it go on; {_NOBODY_KNOWN}, so that it may have stood before 停止元は不明、以前からの停止かもしれない:"
)


@dataclass(frozen=True)
class Status:
    """The state of a workload. `ended` is how the incident's last run ended, `verdict` the one on its evidence.

    `lost_root` says that its root is no folder; empty if it is one.
    `uncordon` ends what is held; empty while the incident is to be carried on, of which the cordon is a part.
    """

    lost_root: str
    incident: str
    verdict: str
    ended: str
    cordon: str
    paused: tuple[str, ...]
    held: tuple[str, ...]
    doubts: tuple[str, ...]
    again: tuple[str, ...]
    processes: tuple[dict[str, Any], ...]
    suspects: tuple[str, ...]
    writers: tuple[str, ...]
    unknown: tuple[str, ...]
    containers: tuple[str, ...]
    alone: str
    at_work: str
    next: NextStep
    alternative: NextStep | None
    uncordon: str

    @property
    def why_not_as_it_was(self) -> str:
        """Why a thaw or an uncordon has not let everything go; empty if nothing stands frozen or paused by us."""
        words = [f"{len(self.held)} caught under the cordon stay frozen"] if self.held else []
        words += ["whom a file names that is not ours is not known"] if self.doubts else []
        if self.alone:
            whose = f"what {self.incident} has frozen is that incident's" if self.incident else "no incident has them"
            words.append(f"{self.alone.partition(',')[0]}, and {whose}: type a line that stands here after next or or")
        words += [f"paused in Prefect: {', '.join(self.paused)}"] if self.paused else []
        return f"{'; '.join(words)} (未解除)" if words else ""

    def lines(self) -> Iterator[str]:
        """Yield a line for each fact, the most important first; the last ones say what to do next, a command a line."""
        end = f"{self.incident}  {_describe_end(self.verdict, self.ended)}" if self.incident else "none"
        if self.lost_root:
            yield f"root      {self.lost_root}"
        yield f"incident  {end}"
        yield f"cordon    {self.cordon}"
        yield from (f"paused    {each}" for each in self.paused)
        yield from (f"held      {each}" for each in self.held)
        if self.held:
            ends = f"this ends it 起動した人の画面は止まったまま: {self.uncordon}"
            yield f"{'':<9} whoever typed it waits; {ends if self.uncordon else 'carrying the incident on ends it'}"
        yield from (f"doubt     {each}" for each in self.doubts)
        yield from (f"again     {each}" for each in self.again)
        yield from (f"workload  process {each['pid']} {each['state']}: {each['command']}" for each in self.processes)
        yield from (f"suspect   {each}" for each in self.suspects)
        yield from (f"writes    {each}" for each in self.writers)
        yield from (f"unknown   {each}" for each in self.unknown)
        yield from (f"workload  {each}" for each in self.containers)
        if not self.processes and not self.containers and not self.lost_root:
            is_sure = not self.suspects and not self.unknown
            yield f"workload  nothing of it runs{'' if is_sure else ', of what is known to be its 上記は未確認'}"
        if self.alone:
            yield f"alone     {self.alone}"
        if self.at_work:
            yield f"at work   {self.at_work}"
        yield from self.next.lines("next")
        if self.alternative:
            yield from self.alternative.lines("or")


def status(workload: WorkloadFields, host: Host, called: Called = NAMELESS) -> Iterator[str]:
    """Yield the state of a workload, line by line."""
    return look(workload, host, called).lines()


def look(workload: WorkloadFields, host: Host, called: Called = NAMELESS, *, has_ended: bool = False) -> Status:
    """Read the state of a workload. With `has_ended`, the run of this process is over, though it may still own it."""
    incident, verdict, end, model = _incident(workload)
    thawed = verdict == THAWED and not _stands(workload)
    since = _frozen_since(workload, thawed=thawed)
    home = find_home(workload, incident) if incident else base_of(workload)
    containers, known = _containers(workload)
    members, roster = living(host, workload), _judge(host, workload, known, home)
    standing = ((identity, host.get_process(identity)) for identity in since)
    alive_now = members | {identity: process for identity, process in standing if process and process.is_stopped}
    alive = bool(alive_now or containers)
    stopped = (identity for identity, process in alive_now.items() if process.is_stopped)
    ours = {identity for identity in stopped if identity in since or not thawed}
    frozen = {identity.pid: since.get(identity, "") for identity in ours}
    base = base_of(workload)
    at_work = "" if has_ended and has_ownership(base) else owner(base)
    alone = bool(frozen or _count_paused(containers)) and not at_work
    unclaimed = alone and (not incident or (verdict in FINISHED and not _stands(workload)))
    word = verdict if verdict not in FINISHED or is_finished(home) else ""
    open_ones = to_answer(home, host) if incident else ()
    unknown = [each for each in open_ones if each.identity not in roster.suspects]
    pids = [each.identity.pid for each in unknown]
    strangers = [(each, f"{why}; {who_started(roster.snapshot, each.pid)}") for each, why in roster.of(Kind.UNKNOWN)]
    shown = {each.identity for each, _ in strangers}
    launchers = ((host.get_process(each.identity), each.why) for each in unknown if each.identity not in shown)
    strangers += [(process, why) for process, why in launchers if process]  # as who has started the workload
    again = tuple(_again(workload, host))
    suspects = [(each, why) for each, why in roster.of(Kind.SUSPECT) if each.identity not in alive_now]
    stands, runs = _stands(workload), len(containers) > _count_paused(containers)
    writers = tuple(_find_writers(home, host)) if verdict == NOT_CONTAINED or at_work else ()
    is_named = bool(again or suspects or strangers or writers)
    if not end.startswith(CANCELLED):  # the run that goes on ends what the cancelled one had not come to
        is_named = is_named or len(ours) < len(alive_now) or runs or bool(find_held(host, workload))
    after = next_step(
        incident,
        word,
        called,
        cordoned=stands,
        alive=alive,
        unknown=pids,
        ended=end,
        model=model,
        has_names=is_named,
        strangers=bool(suspects or strangers),
        lacks_api=verdict in WORKS and not alive and not rows_of(home / RECOVERED, read_private),
        is_frozen=bool(frozen or containers) and len(ours) == len(alive_now) and not runs,
    )
    alternative = None
    if at_work:
        question = open_question(home) if incident else None
        at_work, after, alternative = while_at_work(at_work, question, called)
    elif alive and incident and verdict not in FINISHED and not why_not_thaw(home):
        words = "nothing was stopped yet, so call it off, everything as it was:"
        alternative = NextStep(words, (called.command("thaw"),))
    elif unclaimed:
        alternative = NextStep("let it go on as it was:", (called.command("uncordon"),))
        if not all(frozen.values()):
            alternative = NextStep(_LET_GO, (f"kill -CONT {' '.join(map(str, frozen))}",))
    prior = read_prior(cordon_base(workload) / CORDON)
    return Status(
        lost_root=_lost_root(workload),
        incident=incident,
        verdict=verdict,
        ended=end,
        cordon=_cordon(workload, host),
        paused=tuple(f"{launcher}{', before us already' if before else ''}" for launcher, before in prior.items()),
        held=() if thawed else tuple(_held_lines(host, workload)),
        doubts=tuple(doubt for base in bases(workload) for name in (CAUGHT, EARLY) for doubt in doubtful(base / name)),
        again=again,
        processes=tuple(
            {
                "pid": process.pid,
                "state": "frozen" if since.get(identity) else "stopped" if process.is_stopped else "runs",
                "command": process_line(process, _SHOWN),
            }
            for identity, process in alive_now.items()
        ),
        suspects=_tell_suspects(roster, suspects, called, incident),
        writers=writers,
        unknown=tuple(f"process {process.pid}: {process_line(process, _SHOWN)}: {why}" for process, why in strangers),
        containers=tuple(containers),
        alone=_alone(workload, host, list(frozen.values()), _count_paused(containers)) if alone else "",
        at_work=at_work,
        next=NextStep("evacuate it:", (called.command("run"),)) if unclaimed else after,
        alternative=alternative,
        uncordon=called.command("uncordon") if word in FINISHED or not incident else "",
    )


def _lost_root(workload: WorkloadFields) -> str:
    """Return that the root is no folder, as while it is not mounted; empty if it is one, or may not be looked at."""
    with suppress(PermissionError):
        with suppress(FileNotFoundError, NotADirectoryError):
            if S_ISDIR(workload.root.stat().st_mode):
                return ""
        return (
            f"{workload.root} is no folder here: not mounted, or mistyped? What runs of it is not known "
            "ルートが存在しない: 未マウントか誤記。稼働状況は不明"
        )
    return ""


def _frozen_since(workload: WorkloadFields, *, thawed: bool) -> dict[Identity, str]:
    """Return the processes that our files name as frozen in this boot, and since when; each by its last freeze.

    Once it was `thawed` only the start of a run counts: what stands then, others than we have stopped.
    """
    rows = [row for base in bases(workload) for row in rows_of(base / EARLY, read_ours)]
    if not thawed:
        journals = (home / name for home in homes(workload) for name in (FROZEN, STOPPING))
        rows += [row for journal in journals for row in rows_of(journal, read_private)]
        rows += [row for base in bases(workload) for row in caught_lines(base / CAUGHT)]
    since = dict[Identity, str]()
    for row in rows:
        if identity := Identity.of(row):
            last = [at for _, at in row.get("signals") or ()][-1:]
            since[identity] = max(since.get(identity, ""), str(row.get("frozen_at") or row.get("at") or "".join(last)))
    return since


def _held_lines(host: Host, workload: WorkloadFields) -> Iterator[str]:
    """Yield what the guard has caught and stands frozen, each with what has started it."""
    if found := find_held(host, workload):
        snapshot, pids = host.snapshot(), {identity.pid for identity in found}
        for identity, description in found.items():
            if identity.pid in snapshot:
                yield f"{description}: caught under the cordon, frozen; {who_started(snapshot, identity.pid, pids)}"


def _find_writers(home: Path, host: Host) -> list[str]:
    """Return what was changed after the stop, the last by each process that lives, or whose source does.

    And what somebody who is not known has changed in the last run.
    """
    last, unknown = dict[Identity, str](), dict[str, str]()
    for row in caught_lines(home / CUSTODY_LOG):
        if "triggered" in row:  # another run begins
            unknown.clear()
        if row.get("action") != "changed":
            continue
        if not row.get("pid"):
            unknown[str(row.get("object"))] = str(row.get("result", ""))
        for each in row.get("source", ()):
            if identity := Identity.of(each):
                last[identity] = str(row.get("result", ""))
    first, more = [*unknown.values()][:_WRITTEN], len(unknown) - _WRITTEN
    rest = [f"{more} more files, by a process that is not known; the log names each"] if more > 0 else []
    return [*(result for identity, result in last.items() if lives(host, identity)), *first, *rest]


def _again(workload: WorkloadFields, host: Host) -> list[str]:
    """Return what the guard of the cordon that stands has found to start newcomers again and again."""
    since = str(read_marker(cordon_base(workload) / CORDON).get("since", "")) if _stands(workload) else ""
    rows = (row for base in bases(workload) for row in caught_lines(base / CAUGHT) if since)
    return again_and_again(host.snapshot(), (row for row in rows if str(row.get("at")) >= since))


def _count_paused(containers: list[str]) -> int:
    return sum(container.endswith(" paused") for container in containers)


def _alone(workload: WorkloadFields, host: Host, since: list[str], paused: int) -> str:
    """Return that processes are frozen and no run is at work, since when, and whether a guard stands."""
    guarded = host.guard(cordon_base(workload) / CORDON) is not None
    guard = "the guard alone is there" if guarded else "no guard stands: what is thawed runs on"
    first = min(filter(None, since), default="")
    age = f", the first since {here(first)}{_age(first)}" if first else ""
    stand = f"frozen{age}" if first or paused else f"stopped, {_NOBODY_KNOWN}"
    return f"{len(since) + paused} stand {stand}, no run is at work on it, {guard} (作業中の実行なし)"


def _age(since: str) -> str:
    with suppress(TypeError, ValueError):
        return f" ({str(datetime.now(UTC) - datetime.fromisoformat(since)).partition('.')[0]})"
    return ""


def _judge(host: Host, workload: WorkloadFields, containers: Sequence[Container] | None, home: Path) -> Roster:
    """Judge the host beside these containers, and those that the incident of this folder has paused."""
    shared = list[str]()
    if workload.containers:
        from tasks.containment.containers.collected import collected_now  # for them alone: each import counts

        shared = collected_now(workload, containers or (), home)
    ids = None if containers is None else [each.id for each in containers]
    return roster_now(host, workload, ids, answered_bystanders(home), shared=shared)


def _containers(workload: WorkloadFields) -> tuple[list[str], list[Container] | None]:
    """Return the workload's live containers, paused ones too, in words and as they are, or that these are unknown."""
    try:
        found = find_named(workload)
    except EngineError as error:
        return [f"whether its containers run is not known: {error}"], None
    return [f"{container.summary} {container.state}" for container in found], found


def _tell_suspects(
    roster: Roster, suspects: Sequence[tuple[Process, str]], called: Called, incident: str
) -> tuple[str, ...]:
    """Return the suspects, each with its end, and the block's line that excuses it, if there is one, or the answer.

    Without an end where it may be the end of a container of the block.
    """
    lines = list[str]()
    for process, why, more in fold_alike(roster, suspects):
        end = "" if process.container and roster.look.containers is None else f"; to end it 停止: {_kill(process)}"
        with by_hand(called.file, called.store, incident):
            line = excuse(roster, process)
        other = f"; if it is another's 無関係なら: {line}" if line else ""
        lines.append(f"process {process.pid}: {process_line(process, _SHOWN)}: {why}{more}{end}{other}")
    return tuple(lines)


def _kill(process: Process) -> str:
    """Return the command that ends a process: one that stands still heeds no other signal."""
    return f"kill {'-9 ' if process.is_stopped else ''}{process.pid}"


def _describe_end(verdict: str, end: str) -> str:
    """Return how the last run ended, and the verdict on the evidence if that differs."""
    if not verdict or end.upper() in {"", verdict}:
        return verdict or end or "not finished"
    if verdict == "UNVERIFIED" and end.endswith(", stored"):
        return f"{end}; the run was not judged to its end, so its evidence is {verdict}: carry it on"
    return f"{end}; its evidence is {verdict}"


def _incident(workload: WorkloadFields) -> tuple[str, str, str, str]:
    """Return the last opened incident, its last verdict, how its last run ended, and the model that it left to name.

    Each is empty if unknown.

    A run that was killed after closing its record leaves only the record.
    """
    incident = last(workload)
    home = find_home(workload, incident) if incident else None
    if home is None or not (home / INCIDENT).exists():
        return incident, "", "", ""
    closed = closings(home)
    closing = _json(lambda: read_plain(closed[-1])) if closed else {}
    ending = _json(lambda: read_plain(home / ENDED))
    newest = not closed or str(ending.get("record", "")).zfill(3) >= closed[-1].parent.name
    end, model = (str(ending.get(each, "")) if newest else "" for each in ("end", "model"))
    return incident, str(closing.get("verdict", "")), end, model


def last(workload: WorkloadFields) -> str:
    """Return the id of the incident opened last; empty if there is none."""
    return str(_json(lambda: last_opened(workload)).get("id", ""))


def _json(read: Callable[[], bytes]) -> dict[str, Any]:
    try:
        content = json.loads(read())
    except (OSError, ValueError) as error:
        if isinstance(error, PermissionError) and error.errno == errno.EACCES:  # not one that others may have written
            raise
        return {}
    return content if isinstance(content, dict) else {}


def _stands(workload: WorkloadFields) -> bool:
    return (cordon_base(workload) / CORDON).exists()


def _cordon(workload: WorkloadFields, host: Host) -> str:
    marker = cordon_base(workload) / CORDON
    fields = read_marker(marker)
    if not _stands(workload):
        return f"none; {_tell_lock(workload.lock, host)}"
    since, incident = here(str(fields.get("since", "?"))), fields.get("incident", "?")
    description = f"since {since} for {incident}: {fields.get('reason', '')}"
    guard = host.guard(marker)
    if guard is None:
        return f"marker without a guard (a reboot?) {description}; {workload.lock} is not held by us"
    if host.has_lock(guard, workload.lock):
        return f"guard {guard.pid} holds {workload.lock} {description}"
    return f"guard {guard.pid} waits {description}; {_tell_lock(workload.lock, host)}"


def _tell_lock(lock: Path, host: Host) -> str:
    if holder := host.holder(lock):
        return f"{lock}: {tell_holder(holder, lock)}"
    return f"{lock} is {'held by what is not seen from here' if host.refuses(lock) else 'free'}"
