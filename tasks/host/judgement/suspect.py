"""Decide which suspects are ended with the workload on request, and how a block names a process."""

import json
import re
import tomllib
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import takewhile
from pathlib import PurePath
from typing import Final

from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Source
from tasks.custody.evidence.redact import redact_command
from tasks.custody.incident.commands import line_without_file
from tasks.custody.incident.description import pattern as as_pattern
from tasks.custody.incident.description import unit as as_unit
from tasks.host.cgroup.ownership import unit_of
from tasks.host.judgement.roster import Roster
from tasks.host.process.known_programs import SHELLS, program, quotes, runs_inline_code
from tasks.host.process.matcher import WorkloadDescription
from tasks.host.process.membership import Member, Members
from tasks.host.process.newcomer import find_origin
from tasks.host.process.process import Process, descendants, parents_first, process_line
from tasks.host.process.source import keeps_only, may_be_ended, may_restart, source_of

SUSPECT: Final = "suspect"
"""The role of a process that is ended because of a fact, and matches no pattern."""
_SHOWN: Final = 60
_NAMED: Final = 5
_TELLING: Final = re.compile(
    r"(?![-\d])(?!(?:\S*/)?(?:python|pypy|node|java|perl|ruby|env|nohup|nice|sudo|timeout|setsid|\w{0,2}sh)[\d.]*$)[\w./:-]{3,}"
)
"""A word that tells one program from another: not an option, a number, or what runs programs of any kind."""
_SERVED: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""module:attribute, by which a server is told what to serve."""


def select_suspects(
    snapshot: Mapping[int, Process],
    suspects: Mapping[Identity, str],
    members: Collection[int],
    protected_pids: Collection[int],
) -> dict[Identity, Member]:
    """Return the suspects to end, with the fact that ties each, and their descendants, parents first.

    Suspects that hold others' or a person's work are only reported: those in a container, a Prefect worker, one with a
    child that nothing ties to the workload, or one on the terminal of a person's session.
    """
    spared = {*members, *protected_pids}
    facts = {identity.pid: fact for identity, fact in suspects.items() if identity.pid not in spared}
    tied = {pid for pid, process in snapshot.items() if process.is_rooted and may_be_ended(process)} - {*protected_pids}
    tied |= facts.keys() | {*members}
    chosen = {
        pid
        for pid in facts
        if not snapshot[pid].container
        and may_be_ended(snapshot[pid])
        and keeps_only(snapshot, pid, tied)
        and not _of_a_person(snapshot, snapshot[pid])
    }
    everyone = chosen | descendants(snapshot, chosen)
    return {
        snapshot[pid].identity: Member(SUSPECT, facts.get(pid) or f"child of {snapshot[pid].parent}")
        for pid in parents_first(snapshot, everyone - spared)
        if snapshot[pid].alive and not snapshot[pid].container
    }


def _of_a_person(snapshot: Mapping[int, Process], process: Process) -> bool:
    """Return whether a process has the terminal of a person's session: an interactive shell leads it."""
    leader = snapshot.get(process.session)
    return process.terminal and leader is not None and quotes(leader) and not may_be_ended(leader)


def line_for(process: Process, field: str, current: str) -> str:
    """Return the block's line that makes a suspect a member: its unit, else `field`, widened from its `current` value.

    Empty for one in a container, whose name is not known here, and for one of whose command line too little is shown.
    """
    if process.container:
        return ""
    if unit := unit_of(process.cgroup):
        return f'units = ["{unit}"]'
    found = pattern_for(process)
    return _widen(field, current, found) if found else ""


def fold_alike(roster: Roster, rows: Iterable[tuple[Process, str]]) -> list[tuple[Process, str, str]]:
    """Return a roster's suspects with their reasons; of those that are alike the first, with the others' pids.

    Alike are, outside of the root, those of one command line and reason, in whichever folder: a pattern fits others'
    programs of its name.
    """
    alike: dict[tuple[str, ...] | Process, list[tuple[Process, str]]] = {}
    for process, why in rows:
        fact = roster.judgements[process.identity].elsewhere
        key = (process_line(process), process.container or "", fact)
        alike.setdefault(key if fact else process, []).append((process, why))
    return [(*each[0], count_more([str(process.pid) for process, _ in each[1:]])) for each in alike.values()]


def count_more(pids: Sequence[str]) -> str:
    """Return how many further processes a line is about, with their pids; empty if there are none."""
    listed = ", ".join(pids[:_NAMED]) + " …" * bool(pids[_NAMED:])
    return f"; and {len(pids)} more like it 同種のプロセス: {listed}" if pids else ""


def advice(process: Process, line: str, other: str, excused: str) -> str:
    """Return how to name a suspect in the workload block: by `line` if it belongs to the workload, and if it does not.

    `line` is that of `suggest_line`, `other` that of `tell_other_end`, `excused` that of `excuse`; lines may be empty.
    """
    if process.container:
        return f"{process.pid}: add its container to `containers`. コンテナを containers に追加してください。"
    ways = ", or ".join(filter(None, (line, other)))
    unless, others = (f"; if not: {excused}", "、無関係なら後者") if excused else ("", "")
    first = f"{process.pid} is a suspect. If it belongs to the workload: {ways}{unless}."
    return f"{first} ワークロードの一部なら前者{others}に従ってください。"


def excuse_for(process: Process) -> str:
    """Return the block's line that names a process as a bystander, or how a person can if too little is shown.

    Without a file it is what a person answers.
    """
    if way := line_without_file(process.pid, "bystander"):
        return way
    whole = _find_shown(process)[1] or program(process) in SHELLS
    hidden = runs_inline_code(process.command) and not whole  # what is shown is every script's
    if not hidden and (found := _exact_words(process)):
        return f"bystanders = ['{found}']"
    with suppress(ValueError):  # for none, and for one that everybody's processes run in
        if unit := as_unit(unit_of(process.cgroup)):
            return f"bystanders = ['unit={unit}']"
    shown = _TELLING.fullmatch(process.executable) and redact_command([process.executable]) == [process.executable]
    if shown and not hidden:
        each = f"each of that program, as process {process.pid} 同じプログラムすべて"
        return f"bystanders = ['exe={process.executable}'] # {each}"
    return f"bystanders: exe=, cwd= or unit= of process {process.pid}, whose command line is hidden 非表示のため"


def describe_with(roster: Roster, line: str) -> WorkloadDescription:
    """Return a roster's description with a line of the block in place of what the block has. Raises ValueError."""
    fields, given = tomllib.loads(line), roster.description
    matchers = tuple(
        replace(each, pattern=as_pattern(fields.get(f"{each.role}_pattern", each.pattern))) for each in given.matchers
    )
    units, bystanders = (tuple(fields.get(name, getattr(given, name))) for name in ("units", "bystanders"))
    return replace(given, matchers=matchers, units=units, bystanders=bystanders)


def excuse(roster: Roster, process: Process) -> str:
    """Return the block's line that excuses a process, as `excuse_for`; where a pattern matches it, how to come to one.

    Empty if no line of the block excuses it. Without a file it is what a person answers.
    """
    if way := line_without_file(process.pid, "bystander"):
        return way
    judgement = roster.judgements.get(process.identity)
    if judgement and judgement.elsewhere and process.cwd not in {"", "/"}:
        line = f"bystanders = [{_quote(f'cwd={process.cwd}')}]"  # one on the command would excuse the workload's own
    else:
        line = excuse_for(process)
    if (process.is_rooted or process.placeless) and (roles := roster.description.roles(process)):
        fields = ", ".join(f"{role}_pattern" for role in sorted(roles))
        return f"take what matches process {process.pid} out of {fields}, then ask for its line 一致を除き再実行"
    if " = " not in line:
        return line
    line = keep_entries(line, roster.description.bystanders)
    return line if roster.would_be_excused(process, describe_with(roster, line)) else ""


def keep_entries(line: str, entries: Iterable[str]) -> str:
    """Return the line of a list with what the block has there already: pasted, it takes the other's place."""
    kept = "".join(f"{_quote(each)}, " for each in entries if " = [" in line)
    return line.replace("[", f"[{kept}", 1)


def tell_other_end(roster: Roster, process: Process) -> str:
    """Return how a process that no line of the block makes a member is ended, if it is the workload's."""
    if process.container:
        unknown = "have Docker answer, then look again Docker の応答後に再確認"
        return unknown if roster.look.containers is None else "name its container in `containers`"
    pid, ours = process.pid, roster.exceptions.ours
    if pid in ours or pid in roster.look.ancestors:
        return f"start the evacuation from elsewhere: process {pid} is above it 別の端末で実行"
    members = {identity.pid for identity in Members.of(roster.snapshot, roster.description, roster.exceptions)}
    reason = {process.identity: roster.judgements[process.identity].why}
    ends = process.identity in select_suspects(roster.snapshot, reason, members, ours)
    return "suspects=include" if ends else f"end process {pid} yourself 手動で停止"


def line_for_starter(process: Process, field: str, current: str) -> str:
    """Return the block's line, as `line_for`, that makes what started a member one too; empty if none is safe to give.

    The beginning of a command line is enough for a program that may only quote it, as make: such a one counts above
    another match, or where it runs a file of the root's.
    """
    beginning, _ = _find_shown(process)
    found = f"^{_escape(beginning)} " if beginning and quotes(process) else ""
    return line_for(process, field, current) or (_widen(field, current, found) if found else "")


def _widen(field: str, current: str, found: str) -> str:
    return f"{field} = {_quote(f'{current}|{found}')}"


def _quote(text: str) -> str:
    return json.dumps(text) if "'" in text else f"'{text}'"


def who_started(snapshot: Mapping[int, Process], pid: int, newcomers: Collection[int] = ()) -> str:
    """Return what has started a process, for a person who has to judge it; and how to end that if it may start more."""
    top, by = find_origin(snapshot, pid, newcomers)
    if by is None:
        above = snapshot.get(top.parent)
        if top.parent <= 1 or (above and program(above) == "systemd"):
            return "what started it is gone 起動元は終了済み"
        source = source_of(above) if above else f"process {top.parent}"  # a wrapper; the run's own are in no look
        return f"started by {source} 起動元"
    parent = _restarting(snapshot, by)
    cure = f"; if that is the workload's, end it first 先に終了: kill {parent.pid}" if parent else ""
    return f"started by {by} 起動元{cure}"


def with_restarting_source(
    snapshot: Mapping[int, Process], process: Process, why: str, known: Container[Identity]
) -> str:
    """Return a reason with what has started the process, if that may start more and is none of those `known`."""
    parent = _restarting(snapshot, find_origin(snapshot, process.pid, ()).by)
    return f"{why}; {who_started(snapshot, process.pid)}" if parent and parent.identity not in known else why


def excuse_with_source(
    snapshot: Mapping[int, Process], process: Process, line_of: Callable[[Process], str] = excuse_for
) -> str:
    """Return the block's line that names a process as a bystander; of one that a script or supervisor started, of that.

    An excused child says nothing of what starts it, which may start the workload too. `line_of` returns the line of a
    process.
    """
    parent = _restarting(snapshot, find_origin(snapshot, process.pid, ()).by)
    if parent is None:
        return line_of(process)
    first = f"process {parent.pid} started it; if it starts the workload ワークロードの起動元なら: kill {parent.pid}"
    return f"{first}; if not: {line}" if (line := line_of(parent)) else first


def _restarting(snapshot: Mapping[int, Process], source: Source | None) -> Process | None:
    """Return the process that a source is, if it may start more."""
    process = snapshot[source.identity.pid] if source and source.identity else None
    return process if process and may_restart(snapshot, process) else None


def pattern_for(process: Process) -> str:
    """Return a regular expression of the whole words that tell a process's program, as a person would write it.

    They are the module that it runs, or else the first file that it names, and a server's module:attribute. Without
    such a word that may be shown it is that of its exact line, or empty.
    """
    command, below = process.command[:200], f"{process.cwd}/"
    shown = redact_command(command, process.cwd)
    words = [
        (before, part.strip("[](){}\"',;:"))
        for before, word, seen in zip(("", *command), command, shown, strict=False)
        for part, same in zip(word.split(), seen.split(), strict=False)
        if part == same
    ]
    telling = [each for each in words if _TELLING.fullmatch(each[1]) and ("-m" in each or re.search("[./:]", each[1]))]
    every = [word for _, word in sorted(telling, key=lambda each: each[0] != "-m")]
    chosen = dict.fromkeys(every[:1] + [word for word in every if _SERVED.fullmatch(word)][:1])
    pattern = ".*".join(_whole_word(word, below) for word in chosen)
    # the search may take the square of the line's length
    fits = pattern and not runs_inline_code(command) and re.search(pattern, process.line[:4_000])
    return pattern if fits else _exact_words(process)


def _whole_word(word: str, below: str) -> str:
    """Return the pattern of a word, whatever folder stands before it; of a program in bin/ by its name alone."""
    name = word.removeprefix(below).removeprefix("./")
    name = PurePath(name).name if "/bin/" in f"/{name}" else name
    return rf"(?<![\w.-]){re.escape(name)}(?![\w./-])".replace("\\-", "-")


def _exact_words(process: Process) -> str:
    """Return a regular expression for a command line, made of shown words only: of all of it, or of how it begins.

    Empty if that would match other programs too: a beginning has to name more than a program and options.
    """
    beginning, whole = _find_shown(process)
    enough = whole or any(map(_TELLING.match, beginning.split()[1:]))
    return f"^{_escape(beginning)}{'$' if whole else ' '}" if beginning and enough else ""


def _find_shown(process: Process) -> tuple[str, bool]:
    """Return the words that a command line begins with and that are shown, and whether they are all of it."""
    line, shown = process.line[: _SHOWN + 1], process_line(process)
    same = "".join(letter for letter, _ in takewhile(lambda pair: pair[0] == pair[1], zip(line, shown, strict=False)))
    whole = same == line and len(line) <= _SHOWN
    return (same if whole else same.rpartition(" ")[0]), whole


def _escape(text: str) -> str:
    return re.escape(text).replace("\\ ", " ").replace("'", ".")
