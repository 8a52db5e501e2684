"""Judge every process of the host after the freeze: what is not known to be harmless is held against "contained".

See docs/adr/0039.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import PurePath
from typing import Final, Self

from tasks.custody.containment.identity import Identity
from tasks.custody.containment.place import Place
from tasks.custody.visible import visible
from tasks.host.process.handles import UNREAD, Handles, PipeEnd
from tasks.host.process.known_programs import (
    HARMLESS,
    PROGRAMMED,
    SHELLS,
    is_editor,
    program,
    quotes,
    runs_code,
    script_of,
)
from tasks.host.process.matcher import WorkloadDescription
from tasks.host.process.membership import Exceptions, Members, only_quotes, runs_from_root
from tasks.host.process.path_names import UNKNOWN_PATH, PathHistory
from tasks.host.process.process import Process, ancestry, descendants

_SWAP: Final = (".*.sw?", "#*#", ".#*", "*~")
"""What editors keep open for writing: swap, lock and backup files."""
_ERROR: Final = 2
"""The descriptor of standard error."""
_CODE_OPTIONS: Final = frozenset({"-c", "-lc", "-ic", "-ec", "-xc"})
_NO_SCRIPT: Final = ("/dev/", "/proc/", "/usr/", "/etc/")
_TERMINALS: Final = ("/dev/pts/", "/dev/tty", "/dev/console")
ELSEWHERE: Final = "; it is not in the root: it works in "
"""Stands in a reason before the folder and the account of a process that nothing ties to the root."""
_FIND_OUT: Final = "Find out first whose it is, before you stop it 止める前に持ち主を確認"


class Kind(StrEnum):
    """What a process is to the workload; the order is that of the law's rows."""

    OURS = "ours"
    MEMBER = "member"
    SUSPECT = "suspect"
    EXCUSED = "excused"
    UNKNOWN = "unknown"
    UNREAD = "unread"
    TOLD = "told"
    APART = "apart"


@dataclass(frozen=True)
class Judgement:
    """What a process is, and the fact that says so.

    `elsewhere` is that fact without the place, of a suspect that nothing ties to the root: many may be alike.
    """

    kind: Kind
    why: str = ""
    elsewhere: str = ""


@dataclass(frozen=True)
class Look:
    """What was read for one look at the host, beside the processes.

    `ancestors` are pids above this run, `own_programs` pids of processes that run our installation, `helpers` are pids
    that this run has started. `containers` are ids that the containers' check answers for, None if the engine did not
    tell them. `environment` is the folder of an environment that the workload has outside of its root. `account` is the
    uid of the root's owner. `born` is when the root folder was made, in clock ticks since boot; negative before the
    boot. `named` tells since when the block's path of the root leads there. `shared` are folders of
    the host, outside of the root, from which models and the like are collected by containers of the workload.
    """

    handles: Mapping[Identity, Handles] = field(default_factory=dict)
    ancestors: frozenset[int] = frozenset()
    helpers: frozenset[int] = frozenset()
    own_programs: frozenset[int] = frozenset()
    containers: frozenset[str] | None = frozenset()
    environment: PurePath | None = None
    account: int | None = None
    born: float = float("inf")
    named: PathHistory = UNKNOWN_PATH
    shared: tuple[PurePath, ...] = ()


@dataclass(frozen=True)
class Roster:
    """Every process that is something to the workload, with its judgement, and by what that was judged."""

    snapshot: Mapping[int, Process]
    judgements: Mapping[Identity, Judgement]
    description: WorkloadDescription
    exceptions: Exceptions
    look: Look

    @classmethod
    def judge(
        cls, snapshot: Mapping[int, Process], description: WorkloadDescription, exceptions: Exceptions, look: Look
    ) -> Self:
        """Judge each living process by the first row that fits."""
        members = Members.of(snapshot, description, exceptions)
        families = members.excused_pids | descendants(snapshot, members.excused_pids)
        found = {}
        for process in snapshot.values():
            if not process.alive or process.container in (look.containers or ()):
                continue
            handles = look.handles.get(process.identity, UNREAD)
            member = members.get(process.identity)
            case = _Case(
                process=process,
                handles=handles,
                description=description,
                look=look,
                ours=process.pid in exceptions.ours,
                member=member.why if member else "",
                excused=process.pid in members.excused_pids,
                in_excused_family=process.pid in families,
                fits=description.fits(process) and not _is_text(process, handles),
                has_parent=process.parent > 1 and process.parent in snapshot,
            )
            if judgement := next((each for row in _ROWS if (each := row(case))), None):
                found[process.identity] = judgement
        return cls(snapshot, {**found, **_find_connected(snapshot, found, look)}, description, exceptions, look)

    def would_belong(self, process: Process, description: WorkloadDescription) -> bool:
        """Return whether a process would be a member if the workload were described so."""
        return process.identity in Members.of(self._kin(process), description, self.exceptions)

    def would_be_excused(self, process: Process, description: WorkloadDescription) -> bool:
        """Return whether a process would be held against nothing if the workload were described so."""
        judged = Roster.judge(self._kin(process), description, self.exceptions, self.look)
        found = judged.judgements.get(process.identity)
        return found is None or found.kind in {Kind.EXCUSED, Kind.APART}

    def _kin(self, process: Process) -> dict[int, Process]:
        pids = ancestry(self.snapshot, [process.pid]) | descendants(self.snapshot, [process.pid])
        return {pid: self.snapshot[pid] for pid in pids}

    def _of(self, *kinds: Kind) -> dict[Identity, str]:
        return {identity: each.why for identity, each in self.judgements.items() if each.kind in kinds}

    @property
    def alive(self) -> dict[Identity, str]:
        """What contradicts "nothing of the workload runs", with the reason."""
        return self._of(Kind.MEMBER, Kind.SUSPECT)

    @property
    def suspects(self) -> dict[Identity, str]:
        """What matches no pattern, or not here, with the fact that ties it to the workload."""
        return self._of(Kind.SUSPECT)

    @property
    def unknown(self) -> dict[Identity, str]:
        """What nothing ties to the workload and nothing proves harmless."""
        return self._of(Kind.UNKNOWN)

    def of(self, kind: Kind) -> list[tuple[Process, str]]:
        """Return the processes of a kind with their reasons, by pid."""
        return [(self.snapshot[identity.pid], why) for identity, why in sorted(self._of(kind).items())]

    def processes(self, kind: Kind) -> tuple[Process, ...]:
        """Return the processes of a kind, by pid."""
        return tuple(process for process, _ in self.of(kind))


@dataclass(frozen=True)
class _Case:
    """A process before the law, with what the rows need. `member` is the reason why it is one, empty if it is none."""

    process: Process
    handles: Handles
    description: WorkloadDescription
    look: Look
    ours: bool
    member: str
    excused: bool
    in_excused_family: bool
    fits: bool
    has_parent: bool


def _find_connected(
    snapshot: Mapping[int, Process], found: Mapping[Identity, Judgement], look: Look
) -> dict[Identity, Judgement]:
    """Return what is tied only to one that was judged: the other end of its pipe, and what an unknown one has started.

    A `tee` that writes below the root writes for somebody.
    """
    more = dict[Identity, Judgement]()
    rest = [each for each in snapshot.values() if each.alive and each.identity not in found and not each.container]
    for identity in sorted(identity for identity, each in found.items() if each.kind is Kind.SUSPECT):
        suspect = snapshot[identity.pid]
        pipes = look.handles.get(identity, UNREAD).pipes if program(suspect) in HARMLESS else frozenset()
        for each in rest if pipes else ():
            if way := _find_pipe(suspect, pipes, each, look.handles.get(each.identity, UNREAD).pipes):
                why = f"it shares a pipe with process {identity.pid}, which is one: {way}"
                more.setdefault(each.identity, Judgement(Kind.SUSPECT, why))
    unknown = {identity.pid for identity, each in found.items() if each.kind is Kind.UNKNOWN}
    sessions = {snapshot[pid].session for pid in unknown} - {0}
    below = descendants(snapshot, unknown)
    for each in rest:
        orphan = each.session in sessions and each.parent == 1 and each.session != each.pid
        if (each.pid in below or orphan) and (each.strange or program(each) not in HARMLESS):
            why = f"child of {each.parent}" if each.pid in below else "its parent is gone"
            more.setdefault(each.identity, Judgement(Kind.UNKNOWN, f"{why}, in the session of one that is not known"))
    return more


def _find_pipe(suspect: Process, pipes: frozenset[PipeEnd], other: Process, others: frozenset[PipeEnd]) -> str:
    """Return by which descriptors a process writes what a suspect reads, or reads what it writes; empty if by none.

    Descriptors of the same number that neither uses, both have from the shell that launched them.
    """
    both = pipes & others
    for own in sorted(pipes):
        for end in sorted(others):
            is_used = _uses(suspect, own) or _uses(other, end)
            is_handed_down = own in both or end in both
            if own.pipe == end.pipe and (is_used or not is_handed_down):
                if own.reads and end.writes:
                    return f"it may write by descriptor {end.descriptor} what that reads by descriptor {own.descriptor}"
                if own.writes and end.reads:
                    return f"it may read by descriptor {end.descriptor} what that writes by descriptor {own.descriptor}"
    return ""


def _uses(process: Process, end: PipeEnd) -> bool:
    """Return whether an end is a process's standard input, output or error, or one that its command line names."""
    named = re.compile(rf"/(?:dev|proc/self)/fd/{end.descriptor}(?!\d)")
    return end.descriptor <= _ERROR or any(map(named.search, process.command))


def _started_us(case: _Case) -> Judgement | None:
    """Row 2: who started this run is never signalled, and may be the workload itself."""
    process = case.process
    if process.pid not in case.look.ancestors:
        return None
    if case.fits and process.is_rooted:
        return Judgement(Kind.SUSPECT, "it is protected, and matches")
    by_a_person = program(process) in HARMLESS | {"make", "gmake"} and case.handles.trusted
    if not process.is_rooted or process.pid == 1 or process.pid in case.look.own_programs or by_a_person:
        return Judgement(Kind.OURS)
    return Judgement(Kind.SUSPECT, "it works in the root and has started this run, so it gets no signal")


def _is_ours(case: _Case) -> Judgement | None:
    """Row 1: this run, its guard, what it has started, and what keeps us alive."""
    ours = case.ours or (case.process.pid in case.look.helpers and not case.member)
    return Judgement(Kind.OURS) if ours else None


def _is_member(case: _Case) -> Judgement | None:
    """Row 3: it matches and is in the root, or belongs to one that does."""
    if case.member:
        subject = "it " if case.member.startswith(("matches", "sits")) else ""
        return Judgement(Kind.MEMBER, f"{subject}{case.member}")
    if case.excused:
        seen = case.fits or case.process.is_rooted or case.handles.below
        return Judgement(Kind.EXCUSED if seen else Kind.APART)
    if case.fits and case.process.container and case.process.is_rooted:
        return _suspect(case, "it matches")
    if case.fits and case.process.placeless:
        why = f"it matches, is user {case.process.user}'s, and its working directory is not readable"
        return Judgement(Kind.MEMBER, why)
    return None


def _matches_elsewhere(case: _Case) -> Judgement | None:
    """Rows 4 and 5: another workload's, unless something may still lead to this one."""
    apart = case.description.tells_apart(case.process)
    if case.process.is_rooted or not (case.fits or apart) or _code(case) or _hold(case.process, case.handles):
        return None
    if apart and not _unread(case):
        return Judgement(Kind.TOLD, "the block's user or port says that it is another's")
    if doubt := _doubt(case):
        owner = _describe_owner(case)
        return replace(_suspect(case, f"{doubt}{owner}"), elsewhere=doubt if owner else "")
    return Judgement(Kind.TOLD, "another workload: program and script lie elsewhere")


def _runs_the_roots(case: _Case) -> Judgement | None:
    """Row 6: it runs a program, a script or code of the root's."""
    fact = _code(case)
    return _suspect(case, fact) if fact else None


def _only_reads(case: _Case) -> Judgement | None:
    """Row 7: a program of root's own that reads, copies or edits."""
    return Judgement(Kind.EXCUSED) if not _unread(case) and _is_harmless(case.process, case.handles) else None


def _holds(case: _Case) -> Judgement | None:
    """Row 8: it writes below the root, or holds a model or a GPU. What a bystander has started may write for that."""
    handles = replace(case.handles, written=frozenset()) if case.in_excused_family else case.handles
    fact = _hold(case.process, handles)
    if not fact and (file := _find_shared(case, sorted(handles.written))):
        fact = f"it has open for writing what is collected from a container: {visible(file)}"
    return _suspect(case, fact) if fact else None


def _is_unknown(case: _Case) -> Judgement | None:
    """Row 9: anything else in the root."""
    process, handles = case.process, case.handles
    if not process.is_rooted or (process.places == frozenset({Place.CWD}) and handles.read_only):
        return None
    if case.in_excused_family:
        return Judgement(Kind.EXCUSED)
    why = _unread(case) or _describe(process, handles)
    return _suspect(case, why) if process.container else Judgement(Kind.UNKNOWN, why)


def _may_be_near(case: _Case) -> Judgement | None:
    """Row 9, of what is not in the root as far as is known, and names it, worked in it, or may not be looked into."""
    process, handles = case.process, case.handles
    by_roots_own = program(process) in HARMLESS and not process.strange
    unread = _unread(case)
    if case.in_excused_family or (by_roots_own and not unread) or process.pid in case.look.own_programs:
        return None
    if unread:
        return Judgement(Kind.UNKNOWN, f"{unread}; whether it is in the root is not known ルート内かは不明")
    if near := _tell_near(case):
        return Judgement(Kind.UNKNOWN, near)
    if handles.denied and process.placeless and process.user == case.look.account:
        return Judgement(Kind.UNREAD) if process.user == 0 else Judgement(Kind.UNKNOWN, "it may not be looked into")
    return None


def _tell_near(case: _Case) -> str:
    """Return what leads a process to the root though it is not there; empty if nothing does."""
    process, handles = case.process, case.handles
    if handles.lost and _is_below(handles.lost, PurePath(case.description.root)):
        return f"its working directory was of the root's name and is deleted: {handles.lost}"
    if (covered := _find_covered(case)) and not process.container:
        return f"it is in what has the root's name and is not the root, as below a mount: {visible(covered)}"
    if place := _find_shared(case, [process.cwd]):
        return f"it works in what is collected from a container: {visible(place)}"
    if handles.names_root and not process.container:
        return f"it names the root, and nothing proves it harmless: {visible(handles.names_root)}"
    if handles.waits and process.user == case.look.account and not process.container:
        return f"{visible(handles.waits)}; nothing proves it harmless"
    return ""


def _reads_from_outside(case: _Case) -> Judgement | None:
    """Row 10: it reads there, or its mount lets it do no more."""
    if case.handles.below or case.process.is_rooted:
        return Judgement(Kind.TOLD, "it only reads there")
    return None


_ROWS: Final = (
    _started_us,
    _is_ours,
    _is_member,
    _matches_elsewhere,
    _runs_the_roots,
    _only_reads,
    _holds,
    _is_unknown,
    _may_be_near,
    _reads_from_outside,
)


def _is_text(process: Process, handles: Handles) -> bool:
    """Return whether a program only carries the pattern as text: an editor of the host, or a shell without code."""
    if not only_quotes(process) or not (handles.trusted or handles.denied):
        return False
    return not runs_code(process) or not _runs_command(process)


def _runs_command(process: Process) -> bool:
    """Return whether a shell was given its commands on the command line."""
    return program(process) in SHELLS and not _CODE_OPTIONS.isdisjoint(process.command[1:])


def _doubt(case: _Case) -> str:
    """Return why a match outside of the root may still be the workload; empty if it is another's."""
    return next(_doubts(case), "")


def _doubts(case: _Case) -> Iterator[str]:
    process, handles = case.process, case.handles
    if named := handles.names_root or handles.began_there:
        yield f"it matches, and names the root: {visible(named)}"
    if handles.lost:
        yield "it matches, and its working directory is deleted"
    if covered := _find_covered(case):
        yield f"it matches, and is in what has the root's name and is not the root: {visible(covered)}"
    if place := _find_shared(case, [process.cwd, script_of(process.command)]):
        yield f"it matches, and is in what is collected from a container: {visible(place)}"
    if handles.denied or _unread(case):
        yield "it matches, and may not be looked into"
    # A worker process has no script of its own: it is its parent's, as long as that lives.
    if case.has_parent and case.description.roles(process) == {"worker"}:
        return
    if not handles.resolved:
        yield "it matches, and its program or script is found nowhere"
    if path := _find_beside(case):
        yield f"it matches, and lies beside the folder to which a link of the root's path leads: {visible(path)}"
    if not _was_elsewhere(case):
        yield "it matches, and is older than the root as it is named now, which may have been another's name"


def _find_shared(case: _Case, paths: Iterable[str]) -> str:
    """Return the first of these paths that lies in a folder which a container of the workload has too.

    What runs in a container has paths of its own, and is judged by its mounts.
    """
    shared = () if case.process.container else case.look.shared
    return next((path for path in paths if any(_is_below(path, each) for each in shared)), "")


def _find_covered(case: _Case) -> str:
    """Return the folder or program of a process that lies below the root's name but not below the root.

    A mount came over it: the kernel goes on calling by that name what it covers.
    """
    root, process = PurePath(case.description.root), case.process
    texts = () if process.is_rooted else (process.cwd, process.executable)
    return next((text for text in texts if text and _is_below(text, root)), "")


def _find_beside(case: _Case) -> str:
    """Return what of a process lies where an earlier release may: the root may have been that folder's name."""
    process = case.process
    words = (process.cwd, process.executable, case.handles.called, script_of(process.command))
    targets = case.look.named.targets
    return next((word for word in words if any(target.is_beside(word) for target in targets)), "")


def _was_elsewhere(case: _Case) -> bool:
    """Return whether a process that works elsewhere now was not in the root when it was started.

    The root's path has led to the root since before; or its own folder has had its name since before, and no link of
    the root's path was moved since; or it was called at its start by a name that leads there now. To one in a container
    only mounts lead, which are judged with that, if the engine tells.
    """
    start, named, handles = case.process.identity.start, case.look.named, case.handles
    if case.process.container and case.look.containers is not None:
        return start > case.look.born
    since = max(case.look.born, named.folders, named.links)
    return start > since or handles.named_apart or start > max(named.links, handles.placed)


def _describe_owner(case: _Case) -> str:
    """Return where a process of which nothing ties it to the root works, and as whom; empty of one that names the root.

    It counts as alive all the same; but nobody is to end another's process because its command line matches.
    """
    process, handles = case.process, case.handles
    if handles.names_root or handles.began_there or _is_below(handles.lost, PurePath(case.description.root)):
        return ""
    where = visible(process.cwd) if process.cwd else "a folder that is not readable"
    return f"{ELSEWHERE}{where} as user {process.user}. {_FIND_OUT}"


def _code(case: _Case) -> str:
    """Return what of the workload's own a process runs; empty if nothing."""
    return next(_facts_of_code(case.process, case.handles, case), "")


def _facts_of_code(process: Process, handles: Handles, case: _Case) -> Iterator[str]:
    if place := runs_from_root(process):
        yield f"{place} lies below the root"
    if handles.called_below and not (quotes(process) and handles.trusted):
        yield f"{Place.CALLED} lies below the root: {visible(handles.called)}"
    if _is_from_nowhere(process, handles, case.description):
        yield f"it was started by {visible(handles.called)}, as the workload is, and that is not where it works now"
    if handles.stdin in handles.below and program(process) not in HARMLESS:
        yield f"it reads its commands or data from a file below the root: {visible(handles.stdin)}"
    environment, code = case.look.environment, (process.executable, *sorted(handles.code))
    if environment and (file := next((each for each in code if _is_below(each, environment)), "")):
        yield f"it runs code of the workload's environment: {visible(file)}"
    if below := sorted(handles.code & handles.below):
        yield f"it runs code that lies below the root: {visible(below[0])}"


def _is_from_nowhere(process: Process, handles: Handles, description: WorkloadDescription) -> bool:
    """Return whether it was started by a relative name of the workload's interpreter, and nothing tells whose that is.

    What it has mapped of an environment of that name tells.
    """
    if process.is_rooted or handles.called_found or handles.called not in description.interpreters:
        return False
    environment = f"/{PurePath(handles.called).parent.parent}/"
    return handles.called[0] != "/" and not any(environment in path for path in handles.code)


def _is_harmless(process: Process, handles: Handles) -> bool:
    """Return whether it is a program of root's own that reads, copies or edits, and runs nothing of the root's."""
    if not (process.is_rooted or handles.below) or program(process) not in HARMLESS or not handles.trusted:
        return False
    if process.places and not process.places <= {Place.CWD, Place.SCRIPT}:
        return False
    if program(process) in SHELLS and not _is_at_rest(process, handles):
        return False
    if _may_run_code(process, handles):
        return False
    written = handles.written & handles.below
    return all(is_editor(process) and any(map(PurePath(file).match, _SWAP)) for file in written)


def _may_run_code(process: Process, handles: Handles) -> bool:
    """Return whether a program that has a language of its own is not a person's, with commands from a terminal."""
    return program(process) in PROGRAMMED and not handles.stdin.startswith(_TERMINALS)


def _is_at_rest(process: Process, handles: Handles) -> bool:
    """Return whether a shell runs no script: a person's, with commands from a terminal.

    A script is held open while it runs, whatever the command line says.
    """
    if _runs_command(process):
        return process.terminal and handles.stdin.startswith(_TERMINALS)
    if any(not word.startswith(("-", "+")) for word in process.command[1:]):
        return False
    return handles.stdin.startswith(_TERMINALS) and all(file.startswith(_NO_SCRIPT) for file in handles.read)


def _hold(process: Process, handles: Handles) -> str:
    """Return what of the workload's a process holds; empty if nothing that ties it."""
    if written := sorted(handles.written & handles.below):
        return f"it holds a file below the root open for writing: {visible(written[0])}"
    if handles.listens:
        return f"it answers at a socket below the root: {visible(handles.listens)}"
    if handles.model and handles.mapped_model:
        return f"it has a model mapped: {visible(handles.model)}"
    if handles.model and handles.volatile:
        return f"it reads a model, and its program lies in memory or is deleted: {visible(handles.model)}"
    if handles.gpu and (process.is_rooted or handles.code & handles.below):
        return f"it holds a GPU from inside the root: {visible(handles.gpu)}"
    return ""


def _unread(case: _Case) -> str:
    """Return why not all of a process could be read; empty if it was, or for a lack of rights."""
    why = case.process.unread or case.handles.unread
    return why and f"it could not be looked into: {visible(why)}"


def _describe(process: Process, handles: Handles) -> str:
    if program(process) in SHELLS and handles.trusted:
        return "it is a shell that runs a script, or commands from a pipe or file"
    if program(process) in HARMLESS and not handles.trusted:
        return "it is called like a program of the host, and is not root's own"
    if _may_run_code(process, handles):
        return "it runs code of its own language, and nobody's terminal is its input"
    place = next(iter(sorted(process.places or ())), Place.CWD)
    return f"{place} is in the root, and nothing proves it harmless"


def _suspect(case: _Case, fact: str) -> Judgement:
    if not case.process.container:
        return Judgement(Kind.SUSPECT, fact)
    short = case.process.container[:12]
    if case.look.containers is None:
        unknown = "whether the workload block names that is not known, the engine does not tell コンテナの所属は不明"
        return Judgement(Kind.SUSPECT, f"{fact}, in container {short}; {unknown}")
    cure = f"add it to `containers`: docker ps --filter id={short} tells its name"
    return Judgement(Kind.SUSPECT, f"{fact}, in container {short}, which the workload block does not name; {cure}")


def _is_below(path: str, folder: PurePath) -> bool:
    return f"{path}/".startswith(f"{folder}/")
