"""Judge a process after the freeze: what is not known to be harmless is held against "contained".

See docs/adr/0039.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePath
from typing import Final

from tasks.custody.containment.place import Place
from tasks.custody.visible import visible
from tasks.host.judgement.case import Case, Judgement, Kind
from tasks.host.judgement.harmless import describe_unproven, is_harmless, runs_script
from tasks.host.judgement.match_elsewhere import describe_owner, find_covered, find_doubt, find_shared
from tasks.host.judgement.ties import find_code, find_held
from tasks.host.process.known_programs import HARMLESS, program
from tasks.host.process.matcher import is_below


def judge_process(case: Case) -> Judgement | None:
    """Judge a living process by the first row of the law that fits; None if nothing ties it to the workload."""
    return next((judgement for row in _LAW if (judgement := row(case))), None)


def _started_us(case: Case) -> Judgement | None:
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


def _is_ours(case: Case) -> Judgement | None:
    """Row 1: this run, its guard, what it has started, and what keeps us alive."""
    ours = case.ours or (case.process.pid in case.look.helpers and not case.member)
    return Judgement(Kind.OURS) if ours else None


def _is_member(case: Case) -> Judgement | None:
    """Row 3: it matches and is in the root, or belongs to one that does."""
    if case.member:
        subject = "it " if case.member.startswith(("matches", "sits")) else ""
        return Judgement(Kind.MEMBER, f"{subject}{case.member}")
    if case.excused:
        seen = case.fits or case.process.is_rooted or case.handles.below
        return Judgement(Kind.EXCUSED if seen else Kind.APART)
    if case.fits and case.process.container and case.process.is_rooted:
        return case.suspect("it matches")
    if case.fits and case.process.placeless:
        why = f"it matches, is user {case.process.user}'s, and its working directory is not readable"
        return Judgement(Kind.MEMBER, why)
    return None


def _matches_elsewhere(case: Case) -> Judgement | None:
    """Rows 4 and 5: another workload's, unless something may still lead to this one."""
    apart = case.description.tells_apart(case.process)
    if case.process.is_rooted or not (case.fits or apart) or find_code(case) or find_held(case, case.handles):
        return None
    near = apart and (case.unread or _tell_near(case))
    if apart and not near:
        return Judgement(Kind.TOLD, "the block's user or port says that it is another's")
    if doubt := find_doubt(case):
        owner = describe_owner(case)
        return replace(case.suspect(f"{doubt}{owner}"), elsewhere=doubt if owner else "")
    return None if near else Judgement(Kind.TOLD, "another workload: program and script lie elsewhere")


def _runs_the_roots(case: Case) -> Judgement | None:
    """Row 6: it runs a program, a script or code of the root's."""
    fact = find_code(case)
    return case.suspect(fact) if fact else None


def _only_reads(case: Case) -> Judgement | None:
    """Row 7: a program of root's own that reads, copies or edits."""
    return Judgement(Kind.EXCUSED) if not case.unread and is_harmless(case.process, case.handles) else None


def _holds(case: Case) -> Judgement | None:
    """Row 8: it writes below the root, or holds a model, a GPU or a socket. A bystander's child may write for that."""
    handles = replace(case.handles, written=frozenset()) if case.in_excused_family else case.handles
    fact = find_held(case, handles)
    if not fact and (file := find_shared(case, sorted(handles.written))):
        fact = f"it has open for writing what is collected from a container: {visible(file)}"
    return case.suspect(fact) if fact else None


def _is_unknown(case: Case) -> Judgement | None:
    """Row 9: anything else in the root."""
    process, handles = case.process, case.handles
    if not process.is_rooted or (process.places == frozenset({Place.CWD}) and handles.read_only):
        return None
    if case.in_excused_family:
        return Judgement(Kind.EXCUSED)
    why = case.unread or describe_unproven(process, handles)
    return case.suspect(why) if process.container else Judgement(Kind.UNKNOWN, why)


def _may_be_near(case: Case) -> Judgement | None:
    """Row 9, of what is not in the root as far as is known, and names it, worked in it, or may not be looked into."""
    process, handles = case.process, case.handles
    by_roots_own = program(process) in HARMLESS and not (process.strange or process.container)
    only_reads, unread = by_roots_own and not runs_script(process, handles), case.unread
    if case.in_excused_family or (only_reads and not unread) or process.pid in case.look.own_programs:
        return None
    if unread:
        return Judgement(Kind.UNKNOWN, f"{unread}; whether it is in the root is not known ルート内かは不明")
    if near := _tell_near(case):
        return Judgement(Kind.UNKNOWN, near)
    if handles.denied and process.placeless and process.user in case.look.accounts:
        return Judgement(Kind.UNREAD) if process.user == 0 else Judgement(Kind.UNKNOWN, "it may not be looked into")
    return None


def _tell_near(case: Case) -> str:
    """Return what leads a process to the root though it is not there; empty if nothing does."""
    return next(_facts_near(case), "")


def _facts_near(case: Case) -> Iterator[str]:
    process, handles = case.process, case.handles
    if handles.lost and is_below(handles.lost, PurePath(case.description.root)):
        yield f"its working directory was of the root's name, and is deleted or covered: {visible(handles.lost)}"
    if covered := find_covered(case):
        yield f"it is in what has the root's name and is not the root, as below a mount: {visible(covered)}"
    if place := find_shared(case, [process.cwd]):
        yield f"it works in what is collected from a container: {visible(place)}"
    if handles.names_root and not process.container:
        yield f"it names the root, and nothing proves it harmless: {visible(handles.names_root)}"
    if handles.began_there and not process.container:
        yield f"it was started in what was the root then, or with its environment: {visible(handles.began_there)}"
    held = handles.waits or (handles.mapped if process.user in case.look.accounts else "")
    if held and not case.is_listed:
        unlisted = (
            f", and no engine that was asked has its container {(process.container or '')[:12]} 所属不明のコンテナ"
        )
        yield f"{visible(held)}{unlisted if process.container else ''}; nothing proves it harmless"


def _reads_from_outside(case: Case) -> Judgement | None:
    """Row 10: it reads there, or its mount lets it do no more."""
    if case.handles.below or case.process.is_rooted:
        return Judgement(Kind.TOLD, "it only reads there")
    return None


_LAW: Final = (
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
