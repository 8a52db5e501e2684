"""The law, a row for each fact: what a process is to the workload once everything has been looked at, and why."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.containment.identity import Identity
from tasks.custody.containment.place import Place
from tasks.custody.incident.description import bystander
from tasks.host.judgement.case import Judgement, Kind, Look
from tasks.host.judgement.roster import Roster
from tasks.host.judgement.suspect import (
    advice,
    excuse,
    excuse_for,
    fold_alike,
    line_for,
    line_for_starter,
    select_suspects,
)
from tasks.host.process.handles import UNREAD, Handles, PipeEnd
from tasks.host.process.matcher import USUAL_INTERPRETERS, Matcher, WorkloadDescription
from tasks.host.process.membership import Exceptions, Members, find_excused
from tasks.host.process.process import Process
from tests.support.places import beside, placed

ROOT = "/srv/portfolio"
TRAIN = Matcher("training", r"python -u src/train\.py")
API = Matcher("api", r"uvicorn api\.app")
WORKER = Matcher("worker", r"spawn_main")
BYSTANDERS = (
    "^filebeat ",
    "^python -m jupyterlab",
    "exe=/opt/shipper",
    "cwd=/srv/portfolio/notes",
    "unit=backup.service",
)
WORKLOAD = WorkloadDescription(ROOT, (API, TRAIN, WORKER), ("named.service",), BYSTANDERS, USUAL_INTERPRETERS)
UNIT = "portfolio-api.service"
ACCOUNT = 1000
LOOK = Look(
    environment=PurePath("/opt/envs/portfolio"),
    accounts=frozenset({ACCOUNT}),
    containers=frozenset({"named"}),
)
NOBODY = Exceptions()


def one(*command: str, pid: int = 40, **fields: Any) -> Process:
    """One that pid 1 has, of the root's owner; it works elsewhere, by a program that is not root's own."""
    about: dict[str, Any] = {"executable": "/opt/x", "cwd": "/", "session": pid, "user": ACCOUNT}
    return Process(Identity(pid, pid * 10), 1, "S", command, **{**about, **fields})


def within(unit: str) -> str:
    return f"0::/system.slice/{unit}\n"


HERE: dict[str, Any] = {"cwd": ROOT}
PYTHON: dict[str, Any] = {"executable": "/usr/bin/python3.11"}
TRAINING = ("python", "-u", "src/train.py")
GUNICORN = ("gunicorn: worker [portfolio]",)
TRAINER = one(*TRAINING, pid=10, **PYTHON, **HERE)
SERVED = replace(TRAINER, cgroup=within(UNIT), served=True)
LEFT = replace(SERVED, served=False)
"""What a former job may have left in a service."""
OWN = Handles(trusted=True, resolved=True)
"""What a program of root's own has, that touches nothing."""


@dataclass(frozen=True)
class Case:
    """A process, among others, with what it holds, and what it is by that. No kind is nobody's business."""

    name: str
    process: Process
    kind: Kind | None
    why: str = ""
    handles: Handles = OWN
    others: tuple[Process, ...] = ()
    exceptions: Exceptions = NOBODY
    look: Look = LOOK


def roster_of(case: Case) -> Roster:
    everybody = (one("init", pid=1, user=0, executable="/sbin/init"), case.process, *case.others)
    snapshot = placed({each.pid: each for each in everybody}, ROOT)
    look = replace(case.look, handles={case.process.identity: case.handles})
    return Roster.judge(snapshot, WORKLOAD, case.exceptions, look)


def table(*cases: Case) -> pytest.MarkDecorator:
    assert len({case.name for case in cases}) == len(cases)
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in cases])


def check(case: Case) -> None:
    found = roster_of(case).judgements.get(case.process.identity)
    assert (found.kind if found else None) == case.kind, found
    if found and case.kind in {Kind.MEMBER, Kind.SUSPECT, Kind.UNKNOWN} | ({Kind.TOLD} if case.why else set()):
        assert case.why, found
        assert case.why in found.why


def shell(*words: str, **fields: Any) -> Process:
    return one(*(words or ("bash",)), **{"executable": "/usr/bin/bash", **HERE, **fields})


def host(name: str, *words: str, **fields: Any) -> Process:
    """A program of the host that works in the root."""
    return one(name, *words, **{"executable": f"/usr/bin/{name}", **HERE, **fields})


NODE = one("node", executable="/opt/node", **HERE)
TERMINAL = replace(OWN, stdin="/dev/pts/3")
WRITES = replace(OWN, written=frozenset({f"{ROOT}/m.joblib"}), below=frozenset({f"{ROOT}/m.joblib"}))
READS = replace(OWN, read=frozenset({f"{ROOT}/logs/api.log"}), below=frozenset({f"{ROOT}/logs/api.log"}))
MODEL = f"{ROOT}/models/m.joblib"
STARTED_US = replace(LOOK, ancestors=frozenset({40}))
OURS = Exceptions(frozenset({40}))
IN_ROOT = "nothing proves it harmless"


@table(
    Case("ours writes there", NODE, Kind.OURS, handles=WRITES, exceptions=OURS),
    Case("ours matches there", one(*TRAINING, **HERE), Kind.OURS, exceptions=OURS),
    Case("our helper writes there", NODE, Kind.OURS, handles=WRITES, look=replace(LOOK, helpers=frozenset({40}))),
    Case(
        "our helper that matches there",
        one(*TRAINING, **HERE),
        Kind.MEMBER,
        "it matches the training pattern",
        look=replace(LOOK, helpers=frozenset({40})),
    ),
    Case("not ours writes there", NODE, Kind.SUSPECT, "open for writing", WRITES),
)
def test_row_1_this_run_and_what_is_its_own(case: Case) -> None:
    check(case)


@table(
    *(
        Case(f"{name} in the root", host(name), Kind.OURS, look=STARTED_US, exceptions=OURS)
        for name in ("bash", "make", "sudo", "timeout", "sshd", "tmux", "script")
    ),
    Case("a shell with our command", shell("bash", "-c", "evacuation run x"), Kind.OURS, "", OWN, (), OURS, STARTED_US),
    Case(
        "called bash, and not root's own",
        shell(executable="/tmp/bash"),  # noqa: S108  nothing is written there
        Kind.SUSPECT,
        "has started this run",
        Handles(),
        look=STARTED_US,
        exceptions=OURS,
    ),
    Case("another program", NODE, Kind.SUSPECT, "so it gets no signal", look=STARTED_US, exceptions=OURS),
    Case("our own program", NODE, Kind.OURS, look=replace(STARTED_US, own_programs=frozenset({40})), exceptions=OURS),
    Case("another program elsewhere", replace(NODE, cwd="/"), Kind.OURS, look=STARTED_US, exceptions=OURS),
    Case("it matches elsewhere", one(*TRAINING), Kind.OURS, look=STARTED_US, exceptions=OURS),
    Case(
        "it matches in the root",
        one(*TRAINING, **HERE),
        Kind.SUSPECT,
        "it is protected, and matches",
        look=replace(STARTED_US, own_programs=frozenset({40})),
        exceptions=OURS,
    ),
    Case(
        "an editor that quotes the pattern",
        host("emacs", "python -u src/train.py"),
        Kind.OURS,
        look=STARTED_US,
        exceptions=OURS,
    ),
)
def test_row_2_who_started_this_run(case: Case) -> None:
    check(case)


def test_row_2_pid_1_may_work_in_the_root() -> None:
    init = one("init", pid=1, **HERE)
    look = replace(LOOK, ancestors=frozenset({1}))
    roster = Roster.judge(placed({1: init}, ROOT), WORKLOAD, Exceptions(frozenset({1})), look)
    assert roster.judgements == {init.identity: Judgement(Kind.OURS)}


@table(
    Case("works in the root", one(*TRAINING, **PYTHON, **HERE), Kind.MEMBER, "it matches the training pattern"),
    Case("works below the root", one(*TRAINING, cwd=f"{ROOT}/a/b"), Kind.MEMBER, "it matches the training pattern"),
    Case("runs from the root", one(*TRAINING, executable=f"{ROOT}/x"), Kind.MEMBER, "it matches the training pattern"),
    Case("may not be looked into", one(*TRAINING, **HERE), Kind.MEMBER, "it matches", UNREAD),
    Case(
        "matches, and nothing of it is readable",
        one(*TRAINING, user=33, cwd="", executable="", placeless=True),
        Kind.MEMBER,
        "it matches, is user 33's, and its working directory is not readable",
        UNREAD,
    ),
    Case("descends from a member", replace(one(*GUNICORN), parent=10), Kind.MEMBER, "child of 10", others=(TRAINER,)),
    Case(
        "its parent is gone, and a member leads its session",
        one(*GUNICORN, session=10),
        Kind.MEMBER,
        "its parent is gone, and process 10 leads its session",
        others=(TRAINER,),
    ),
    Case("its session is another's", one(*GUNICORN, session=9), None, others=(TRAINER,)),
    Case("a member leads no session", one(*GUNICORN, session=10), None, others=(replace(TRAINER, session=9),)),
    Case("in a service that the block names", one("/opt/x", cgroup=within("named.service")), Kind.MEMBER, "it sits in"),
    Case(
        "below a service that the block names",
        one("/opt/x", cgroup="0::/system.slice/named.service/payload\n"),
        Kind.MEMBER,
        "`units` names",
    ),
    Case(
        "a script in a service that the block names",
        shell("bash", "/opt/serve.sh", cwd="/", cgroup=within("named.service")),
        Kind.MEMBER,
        "it sits in named.service, which `units` names",
    ),
    Case(
        "in a service whose main process is one",
        one(*GUNICORN, cgroup=within(UNIT)),
        Kind.MEMBER,
        "main process is 10",
        others=(SERVED,),
    ),
    Case(
        "child of who sits in such a service",
        replace(one("sleep"), parent=41),
        Kind.MEMBER,
        "child of 41",
        others=(SERVED, one(*GUNICORN, pid=41, cgroup=within(UNIT))),
    ),
    Case(
        "all that pid 1 has in such a service is in a member's session",
        one(*GUNICORN, session=10, cgroup=within(UNIT)),
        Kind.MEMBER,
        "main process is 10",
        others=(LEFT,),
    ),
    Case("a younger one in the service of what was left", one("ci", cgroup=within(UNIT)), None, others=(LEFT,)),
    Case("the main process of such", one("ci", cgroup=within(UNIT), served=True), None, others=(LEFT,)),
    Case(
        "beside another that systemd has started", one("ci", cgroup=within(UNIT), served=True), None, others=(SERVED,)
    ),
    Case(
        "a child of the main process of such",
        replace(one("ci-job", cgroup=within(UNIT)), parent=41),
        None,
        others=(LEFT, one("ci", pid=41, cgroup=within(UNIT), served=True)),
    ),
    Case("excused, but matches by itself", one("filebeat python -u src/train.py", **HERE), Kind.MEMBER, "it matches"),
    Case(
        "excused by its program, but matches by itself",
        one(*TRAINING, **{**HERE, "executable": "/opt/shipper"}),
        Kind.MEMBER,
        "it matches",
    ),
    Case(
        "a person answered that it is to be ended",
        one("node"),
        Kind.MEMBER,
        "a person answered that it is to be ended",
        exceptions=Exceptions(ended=frozenset({Identity(40, 400)})),
    ),
    Case(
        "a shell that has started one",
        shell("bash", "-c", "python -u src/train.py", pid=9),
        Kind.MEMBER,
        "it matches",
        others=(replace(TRAINER, parent=9),),
    ),
    Case(
        "matches in a container that nobody named",
        one(*TRAINING, container="ab" * 32, **HERE),
        Kind.SUSPECT,
        "it matches, in container abababababab, which the workload block does not name; "
        "add it to `containers`: docker ps --filter id=abababababab tells its name",
    ),
    Case("matches elsewhere in a container", one(*TRAINING, container="ab" * 32), Kind.TOLD, "another workload"),
    Case("matches in a named container", one(*TRAINING, container="named", **HERE), None),
    Case("dead", replace(one(*TRAINING, **HERE), state="Z"), None),
    Case("a matching editor", host("vim", "python -u src/train.py"), Kind.EXCUSED, handles=TERMINAL),
    Case("a matching shell with a script", shell("bash", "x python -u src/train.py"), Kind.MEMBER, "it matches"),
    Case("a matching untrusted vim", host("vim", "python -u src/train.py"), Kind.UNKNOWN, "not root's own", Handles()),
)
def test_row_3_members(case: Case) -> None:
    check(case)


SHARED = [
    ("in a member's session scope", "/user.slice/user-0.slice/session-4.scope", ()),
    ("under a user's manager", "/user.slice/user-0.slice/user@0.service/app.slice/x.service", ()),
    ("in the manager itself", "/user.slice/user-0.slice/user@0.service", ()),
    ("in cron's service, an earlier cron's job", "/system.slice/cron.service", ("/usr/sbin/cron", "cron", "-f")),
    ("in sshd's service", "/system.slice/ssh.service", ("/usr/sbin/sshd", "sshd: x")),
    (
        "in a supervisor's service",
        "/system.slice/supervisord.service",
        ("/usr/bin/python3.11", "/usr/bin/python3", "/usr/bin/supervisord", "-n"),
    ),
    ("in our worker's service", "/system.slice/evacuation-worker.service", ("/usr/bin/python3", "ours")),
]


@pytest.mark.parametrize(("path", "keeper"), [row[1:] for row in SHARED], ids=[row[0] for row in SHARED])
def test_row_3_a_group_that_anybodys_programs_share_makes_nobody_a_member(path: str, keeper: tuple[str, ...]) -> None:
    group: dict[str, Any] = {"cgroup": f"0::{path}\n"}
    keepers = [one(*keeper[1:], pid=50, executable=keeper[0], **group)] if keeper else []
    ours = Exceptions(frozenset(each.pid for each in keepers if "ours" in each.command))
    check(Case("", one("/opt/x", **group), None, others=(replace(TRAINER, **group), *keepers), exceptions=ours))


def test_row_3_only_who_systemd_may_have_started_is_a_services_main_process() -> None:
    older = one("/opt/other", pid=3, cgroup=within(UNIT))
    for others in ((LEFT, older), (replace(LEFT, session=9),), (replace(LEFT, parent=3), older)):
        check(Case("", one("/opt/x", cgroup=within(UNIT)), None, others=others))


SHIPPER = ("filebeat", "-c", "x")
EXCUSED = one(*SHIPPER, pid=41)


@table(
    Case("a log shipper that writes there", one(*SHIPPER, **HERE), Kind.EXCUSED, handles=WRITES),
    Case(
        "a notebook with the workload's Python",
        one("python", "-m", "jupyterlab", **HERE),
        Kind.EXCUSED,
        handles=replace(OWN, code=frozenset({"/opt/envs/portfolio/lib/numpy/core.so"})),
    ),
    Case("one that reads there", one(*SHIPPER), Kind.EXCUSED, handles=READS),
    Case("one elsewhere", one(*SHIPPER), Kind.APART),
    Case("one in a member's family", replace(one(*SHIPPER, **HERE), parent=10), Kind.EXCUSED, others=(TRAINER,)),
    Case(
        "a child of that one",
        replace(one("/opt/y"), parent=41),
        None,
        others=(TRAINER, replace(EXCUSED, parent=10)),
    ),
    Case("by its program", one("x", **{**HERE, "executable": "/opt/shipper"}), Kind.EXCUSED),
    Case("by no beginning of its program", one("x", **{**HERE, "executable": "/opt/shipper2"}), Kind.UNKNOWN, IN_ROOT),
    Case("by its folder", one("x", cwd=f"{ROOT}/notes"), Kind.EXCUSED),
    Case("below its folder", one("x", cwd=f"{ROOT}/notes/a"), Kind.EXCUSED),
    Case("beside its folder", one("x", cwd=f"{ROOT}/notes2"), Kind.UNKNOWN, IN_ROOT),
    Case("by its service", one("x", cgroup=within("backup.service"), **HERE), Kind.EXCUSED),
    Case("by no other service", one("x", cgroup=within("xbackup.service"), **HERE), Kind.UNKNOWN, IN_ROOT),
    Case("a line that names its service", one("node", "--unit=backup.service", **HERE), Kind.UNKNOWN, IN_ROOT),
    Case(
        "by a person, and it has become the training",
        one(*TRAINING, **HERE),
        Kind.MEMBER,
        "matches",
        exceptions=Exceptions(excused=frozenset({Identity(40, 400)})),
    ),
    Case(
        "by a person, but its pid was given out again",
        one(*TRAINING, **HERE),
        Kind.MEMBER,
        "it matches",
        exceptions=Exceptions(excused=frozenset({Identity(40, 399)})),
    ),
    Case(
        "matches, and nothing of it is readable",
        one("filebeat python -u src/train.py", cwd="", executable="", placeless=True),
        Kind.MEMBER,
        "is not readable",
        UNREAD,
    ),
    Case("a child in the root", replace(NODE, parent=41), Kind.EXCUSED, others=(EXCUSED,)),
    Case(
        "a grandchild in the root",
        replace(NODE, parent=42),
        Kind.EXCUSED,
        "",
        OWN,
        (EXCUSED, replace(one("y", pid=42), parent=41)),
    ),
    Case("a child that writes there", replace(NODE, parent=41), Kind.EXCUSED, "", WRITES, (EXCUSED,)),
    Case(
        "a child that has a model mapped",
        replace(NODE, parent=41),
        Kind.SUSPECT,
        "mapped",
        replace(WRITES, model="models/m", mapped_model=True),
        (EXCUSED,),
    ),
    Case(
        "a child that runs the root's",
        replace(one(f"{ROOT}/run"), parent=41),
        Kind.SUSPECT,
        "started by",
        OWN,
        (EXCUSED,),
    ),
    Case("its parent in the root", NODE, Kind.UNKNOWN, IN_ROOT, others=(replace(EXCUSED, parent=40),)),
)
def test_who_is_excused(case: Case) -> None:
    check(case)


ELSEWHERE = one(*TRAINING, **PYTHON, cwd="/srv/other")
SPAWNED = one("python", "-c", "spawn_main()", **PYTHON, cwd="/srv/other")
WORKS = one("python", "x.py", pid=12)


@table(
    Case("program and script lie elsewhere", ELSEWHERE, Kind.TOLD, "another workload", OWN),
    Case("in a folder of a similar name", replace(ELSEWHERE, cwd=f"{ROOT}2"), Kind.TOLD, "another workload"),
    Case(
        "another user's",
        one("python", "x.py"),
        None,
    ),
    Case("a shell that quotes the pattern", shell("bash", "loop", "python -u src/train.py", cwd="/"), None),
    Case("a shell that has it as code", shell("bash", "-c", "python -u src/train.py", cwd="/"), Kind.TOLD, "another"),
    Case("a pager that quotes the pattern", host("less", "python -u src/train.py", cwd="/"), None),
)
def test_row_4_another_workload(case: Case) -> None:
    check(case)


WHOSE = "it is not in the root: it works in /srv/other as user 33. Find out first whose it is, before you stop it"
STRANGER = replace(ELSEWHERE, cwd="/srv/other", user=33)


@table(
    Case("nothing resolves", STRANGER, Kind.SUSPECT, f"is found nowhere; {WHOSE}", replace(OWN, resolved=False)),
    Case("nothing may be read", STRANGER, Kind.SUSPECT, f"may not be looked into; {WHOSE}", UNREAD),
    Case("its folder is gone", STRANGER, Kind.SUSPECT, f"leads to; {WHOSE}", replace(OWN, lost="/srv/other")),
)
def test_a_match_that_nothing_ties_to_the_root_counts_and_is_told_with_its_folder_and_account(case: Case) -> None:
    """Somebody else's training is not to be killed because its command line matches."""
    check(case)


def test_a_match_elsewhere_is_excused_by_its_folder_and_not_by_a_line_that_is_the_workloads_too() -> None:
    """Pasted, the line on the command excused a training of the release before, which was called the same."""
    rosters = [roster_of(Case("", replace(STRANGER, cwd=cwd), Kind.SUSPECT, handles=UNREAD)) for cwd in ("/srv/x", "/")]
    elsewhere, daemon = (tomllib.loads(excuse(each, each.snapshot[40]))["bystanders"] for each in rosters)
    assert elsewhere == [*BYSTANDERS, "cwd=/srv/x"]
    assert "cwd=/" not in daemon


def test_matches_elsewhere_are_one_line_if_the_same_is_known_of_them() -> None:
    alike = tuple(replace(STRANGER, identity=Identity(pid, pid * 10), cwd=f"/srv/{pid}") for pid in (50, 51))
    roster = roster_of(Case("", STRANGER, Kind.SUSPECT, handles=UNREAD, others=alike))
    ((first, why, more),) = fold_alike(roster, roster.of(Kind.SUSPECT))
    assert (first.pid, WHOSE in why, more) == (40, True, "; and 2 more like it 同種のプロセス: 50, 51")
    roster = roster_of(Case("", STRANGER, Kind.SUSPECT, handles=replace(OWN, lost="/srv/other"), others=alike))
    lines = fold_alike(roster, roster.of(Kind.SUSPECT))
    assert [(each.pid, more[-2:]) for each, _, more in lines] == [(40, ""), (50, "51")]


@pytest.mark.parametrize("handles", [replace(OWN, names_root=f"PWD={ROOT}"), replace(OWN, lost=f"{ROOT}/old")])
def test_of_a_match_that_names_the_root_nothing_says_that_it_may_be_anothers(handles: Handles) -> None:
    found = roster_of(Case("", STRANGER, Kind.SUSPECT, handles=handles)).suspects
    assert [why for why in found.values() if "whose it is" in why] == []
    assert len(found) == 1


SHARED_DATA = replace(LOOK, shared=(PurePath("/srv/data/models"),))
IN_SHARED = replace(ELSEWHERE, cwd="/srv/data/models/x")
COVERED = replace(ELSEWHERE, cwd=f"{ROOT}/app", places=frozenset())
BOXED = replace(ELSEWHERE, container="ab" * 32)
STARTED_THERE = replace(OWN, began_there=f"PWD={ROOT}")


@table(
    Case(
        "it names the root",
        ELSEWHERE,
        Kind.SUSPECT,
        f"it matches, and names the root: PWD={ROOT}",
        replace(OWN, names_root=f"PWD={ROOT}"),
    ),
    Case(
        "its folder is deleted",
        ELSEWHERE,
        Kind.SUSPECT,
        "its working directory is deleted",
        replace(OWN, lost="/srv/portfolio"),
    ),
    Case("nothing resolves", ELSEWHERE, Kind.SUSPECT, "is found nowhere", replace(OWN, resolved=False)),
    Case("it may not be looked into", ELSEWHERE, Kind.SUSPECT, "may not be looked into", UNREAD),
    Case(
        "a worker that names nothing, whose parent lives",
        replace(SPAWNED, parent=12),
        Kind.TOLD,
        "another workload",
        replace(OWN, resolved=False),
        (WORKS,),
    ),
    Case(
        "a worker that names nothing, whose parent is gone",
        SPAWNED,
        Kind.SUSPECT,
        "is found nowhere",
        replace(OWN, resolved=False),
        (WORKS,),
    ),
    Case("its folder is not readable", replace(ELSEWHERE, cwd=""), Kind.SUSPECT, "may not be looked into"),
    Case("an orphaned worker", SPAWNED, Kind.TOLD, "another workload"),
    Case("below a mount over the root", COVERED, Kind.SUSPECT, f"is not the root: {ROOT}/app"),
    Case(
        "below a mount, and matches nothing", one("x", cwd=ROOT, places=frozenset()), Kind.UNKNOWN, "as below a mount"
    ),
    Case(
        "its program is below a mount, and it matches nothing",
        one("x", executable=f"{ROOT}/bin/x", places=frozenset()),
        Kind.UNKNOWN,
        "as below a mount",
    ),
    Case("in a container that has such a name", replace(COVERED, command=("x",), container="ab" * 32), None),
    Case("one that matches in such a container", replace(COVERED, container="ab" * 32), Kind.TOLD, "another workload"),
    Case("it matches in what a container has", IN_SHARED, Kind.SUSPECT, "is in what is collected", look=SHARED_DATA),
    Case(
        "its script is in what a container has",
        one("python", "/srv/data/models/x", "python -u src/train.py"),
        Kind.SUSPECT,
        "is in what is collected from a container: /srv/data/models/x",
        look=SHARED_DATA,
    ),
    Case("beside what a container has", replace(IN_SHARED, cwd="/srv/data"), Kind.TOLD, look=SHARED_DATA),
    Case(
        "works there, and matches nothing", one("x", cwd="/srv/data/models"), Kind.UNKNOWN, "works in", look=SHARED_DATA
    ),
    Case("a shell there", shell(cwd="/srv/data/models"), None, handles=TERMINAL, look=SHARED_DATA),
    Case(
        "writes there",
        one("x"),
        Kind.SUSPECT,
        "open for writing what is collected from a container: /srv/data/models/a",
        replace(OWN, written=frozenset({"/srv/data/models/a", "/tmp/x"})),  # noqa: S108  nothing is written there
        look=SHARED_DATA,
    ),
    Case("reads there", one("x"), None, "", replace(OWN, read=frozenset({"/srv/data/models/a"})), look=SHARED_DATA),
    Case(
        "writes there in a container, which is judged by its mounts",
        one("x", container="ab" * 32),
        None,
        handles=replace(OWN, written=frozenset({"/srv/data/models/a"})),
        look=SHARED_DATA,
    ),
    Case("a worker that names the root", SPAWNED, Kind.SUSPECT, "names the root", replace(OWN, names_root=ROOT)),
    Case("a worker without its folder", SPAWNED, Kind.SUSPECT, "is deleted", replace(OWN, lost="/srv/portfolio")),
    Case(
        "it names the root, and matches nothing",
        one("x"),
        Kind.UNKNOWN,
        "it names the root",
        replace(OWN, names_root=ROOT),
    ),
    Case(
        "it worked in what is deleted, and matches nothing", one("x"), Kind.UNKNOWN, "deleted", replace(OWN, lost=ROOT)
    ),
    Case("it worked in another folder that is deleted", one("x"), None, handles=replace(OWN, lost="/srv/other")),
    Case("it was started there, and matches nothing", one("x"), Kind.UNKNOWN, "PWD=", STARTED_THERE),
    Case("it was started there, in a container", one("x", container="c" * 64), None, handles=STARTED_THERE),
    Case("a shell that was started there", one("bash", executable="/bin/bash"), Kind.UNKNOWN, "PWD", STARTED_THERE),
    Case("an editor that was started there", one("vim", executable="/usr/bin/vim"), None, handles=STARTED_THERE),
    Case(
        "a shell that names it",
        one("bash", executable="/bin/bash"),
        Kind.UNKNOWN,
        "names",
        replace(OWN, names_root=ROOT),
    ),
    Case("an editor that names it", one("vim", executable="/usr/bin/vim"), None, handles=replace(OWN, names_root=ROOT)),
)
def test_row_5_a_match_elsewhere_that_may_lead_here(case: Case) -> None:
    check(case)


VENV = ".venv/bin/python"
BY_NAME = replace(OWN, called=VENV)
RENAMED = one("x", **PYTHON, cwd="/home/u")
ENVIRONMENT = replace(OWN, code=frozenset({"/opt/envs/portfolio/lib/numpy/core.so"}))


@table(
    Case("its program", one("x", executable=f"{ROOT}/bin/x"), Kind.SUSPECT, "its program lies below the root"),
    Case("its script", one("python", "src/other.py", **HERE), Kind.SUSPECT, "its script lies below the root"),
    Case(
        "its script, from elsewhere", one("python", f"{ROOT}/src/x.py"), Kind.SUSPECT, "its script lies below the root"
    ),
    Case("its script, beside the root", one("python", f"{ROOT}2/src/x.py"), None),
    Case("a shell's script", shell("bash", "loop.sh"), Kind.SUSPECT, "its script lies below the root"),
    Case(
        "a shell's script, from elsewhere", shell("bash", f"{ROOT}/x", cwd="/"), Kind.SUSPECT, "its script lies below"
    ),
    Case("what a pager reads", host("less", f"{ROOT}/src/x.py", cwd="/"), Kind.EXCUSED),
    Case("what called it", one("./run", **PYTHON, **HERE), Kind.SUSPECT, "the file that it was started by lies below"),
    Case(
        "what called it, and the command line is overwritten",
        one("x", **PYTHON),
        Kind.SUSPECT,
        f"the file that it was started by lies below the root: {VENV}",
        replace(BY_NAME, called_below=True, called_found=True),
    ),
    Case(
        "what called it, and it is called vim, and not root's own",
        one("x", executable="/srv/other/vim"),
        Kind.SUSPECT,
        "the file that it was started by lies below the root",
        Handles(called=VENV, called_below=True, called_found=True),
    ),
    Case(
        "the interpreter's relative name, found nowhere",
        RENAMED,
        Kind.SUSPECT,
        f"it was started by {VENV}, as the workload is",
        BY_NAME,
    ),
    Case("that name, found where it works", RENAMED, None, handles=replace(BY_NAME, called_found=True)),
    Case(
        "that name, of another's environment",
        RENAMED,
        None,
        handles=replace(BY_NAME, code=frozenset({"/home/u/app/.venv/lib/numpy/core.so"})),
    ),
    Case(
        "that name, and code of an environment of a similar name",
        RENAMED,
        Kind.SUSPECT,
        "as the workload is",
        replace(BY_NAME, code=frozenset({"/home/u/app/my.venv/lib/core.so"})),
    ),
    Case("a name that is not the workload's", RENAMED, None, handles=replace(BY_NAME, called="tools/bin/python")),
    Case("the environment's code", one(*GUNICORN), Kind.SUSPECT, "code of the workload's environment", ENVIRONMENT),
    Case("the environment's program", one("x", executable="/opt/envs/portfolio/bin/python3"), Kind.SUSPECT, "code of"),
    Case(
        "an environment of a similar name",
        one(*GUNICORN),
        None,
        handles=replace(OWN, code=frozenset({"/opt/envs/portfolio2/lib/numpy/core.so"})),
    ),
    Case("no environment", one(*GUNICORN), None, handles=ENVIRONMENT, look=replace(LOOK, environment=None)),
    Case(
        "code below the root",
        one("x"),
        Kind.SUSPECT,
        f"it runs code that lies below the root: {ROOT}/kernel.so",
        replace(OWN, code=frozenset({f"{ROOT}/kernel.so"}), below=frozenset({f"{ROOT}/kernel.so"})),
    ),
    Case(
        "code by the root's name in another namespace",
        one("x"),
        None,
        handles=replace(OWN, code=frozenset({f"{ROOT}/kernel.so"})),
    ),
    Case(
        "in a container that nobody named",
        one(*GUNICORN, container="c" * 64),
        Kind.SUSPECT,
        "code of the workload's environment: /opt/envs/portfolio/lib/numpy/core.so, in container cccccccccccc",
        ENVIRONMENT,
    ),
    Case("in a named container", one(*GUNICORN, container="named"), None, handles=ENVIRONMENT),
    Case("dead", replace(one("./run", **HERE), state="Z"), None),
)
def test_row_6_what_runs_something_of_the_roots(case: Case) -> None:
    check(case)


def swap(*names: str) -> Handles:
    files = frozenset(f"{ROOT}/src/{name}" for name in names)
    return replace(OWN, written=files, below=files)


SCRIPTED = "it is a shell that runs a script, or commands from a pipe or file"
LANGUAGE = "it runs code of its own language, and nobody's terminal is its input"


def typed(handles: Handles) -> Handles:
    """The same with a person at its terminal."""
    return replace(handles, stdin=TERMINAL.stdin)


@table(
    Case("a shell on a terminal", shell(), Kind.EXCUSED, handles=TERMINAL),
    Case("a login shell on a console", shell("-bash"), Kind.EXCUSED, handles=replace(OWN, stdin="/dev/tty1")),
    Case("an interactive shell", shell("bash", "-i", "-x"), Kind.EXCUSED, handles=TERMINAL),
    Case("a shell without input", shell(), Kind.UNKNOWN, SCRIPTED, replace(OWN, stdin="/dev/null")),
    Case("a shell that reads a pipe", shell(), Kind.UNKNOWN, SCRIPTED, replace(OWN, stdin="pipe:[7]")),
    Case("a shell that reads a file", shell("bash", "-s"), Kind.UNKNOWN, SCRIPTED, replace(OWN, stdin=f"{ROOT}/x")),
    Case("a shell of which no input is known", shell(), Kind.UNKNOWN, SCRIPTED, OWN),
    Case("a shell with a script of another's", shell("bash", "/opt/loop.sh"), Kind.UNKNOWN, SCRIPTED, TERMINAL),
    Case("a shell's code on a terminal", shell("bash", "-c", "x; y", terminal=True), Kind.EXCUSED, handles=TERMINAL),
    Case("a shell's code without a terminal", shell("bash", "-c", "x; y"), Kind.UNKNOWN, SCRIPTED, TERMINAL),
    Case("a login shell's code", shell("bash", "-lc", "x; y"), Kind.UNKNOWN, SCRIPTED, TERMINAL),
    Case(
        "a shell's code with other options",
        shell("bash", "-exc", "x; y", places=frozenset({Place.CWD})),
        Kind.UNKNOWN,
        SCRIPTED,
        TERMINAL,
    ),
    Case("called bash, and not root's own", shell(), Kind.UNKNOWN, "not root's own", replace(TERMINAL, trusted=False)),
    Case("a shell that may not be looked into", shell(), Kind.UNKNOWN, "not root's own", UNREAD),
    Case("an editor with a swap file", host("vim", "src/x.py"), Kind.EXCUSED, handles=typed(swap(".x.py.swp"))),
    Case("an editor with a lock and a backup", host("emacs"), Kind.EXCUSED, handles=typed(swap("#x.py#", "x.py~"))),
    Case("an editor with another file", host("vim"), Kind.SUSPECT, "open for writing", swap(".x.py.swp", "x.py")),
    Case("a swap file that no editor has", host("tail"), Kind.SUSPECT, "open for writing", swap(".x.py.swp")),
    Case("an editor's file elsewhere", host("vim"), Kind.EXCUSED, handles=replace(TERMINAL, written=frozenset({"/x"}))),
    Case("an editor that runs a loop", host("vim", "-es", "-c", "while 1"), Kind.UNKNOWN, LANGUAGE, OWN),
    Case("an editor's server", host("emacs", "--daemon"), Kind.UNKNOWN, LANGUAGE, replace(OWN, stdin="/dev/null")),
    Case("a debugger with a script", host("gdb", "-x", "a.py"), Kind.UNKNOWN, LANGUAGE, replace(OWN, stdin="pipe:[7]")),
    Case("a debugger at a terminal", host("gdb", "-p", "7"), Kind.EXCUSED, handles=TERMINAL),
    Case("a client that reads statements", host("psql"), Kind.UNKNOWN, LANGUAGE, replace(OWN, stdin=f"{ROOT}/a.sql")),
    Case("a client at a terminal", host("psql"), Kind.EXCUSED, handles=TERMINAL),
    Case(
        "another's, and it could not be read",
        one("./run", user=4, placeless=True, unread="File name too long"),
        Kind.UNKNOWN,
        "could not be looked into: File name too long; whether it is in the root is not known",
        Handles(),
    ),
    Case(
        "called like a program of the host, and its files could not be read",
        host("tail", cwd="/"),
        Kind.UNKNOWN,
        "could not be looked into: invalid; whether it is in the root is not known",
        Handles(denied=True, unread="invalid"),
    ),
    Case(
        "an editor of the host in the root, of which one file is not known",
        host("vim"),
        Kind.UNKNOWN,
        "could not be looked into: its open file 7",
        replace(TERMINAL, unread="its open file 7: File name too long"),
    ),
    Case("the same editor, of which all is known", host("vim"), Kind.EXCUSED, handles=TERMINAL),
    Case(
        "it matches elsewhere, and its files could not be read",
        one(*TRAINING, **PYTHON),
        Kind.SUSPECT,
        "may not be looked into",
        Handles(denied=True, unread="invalid"),
    ),
    Case("called vim, and not root's own", host("vim"), Kind.UNKNOWN, "not root's own", Handles()),
    Case(
        "called vim, with a swap file", host("vim"), Kind.SUSPECT, "for writing", replace(swap(".x.swp"), trusted=False)
    ),
    Case("vim of the root's", host("vim", executable=f"{ROOT}/vim"), Kind.SUSPECT, "its program lies below the root"),
    *(
        Case(name, host(name), Kind.EXCUSED)
        for name in ("tail", "rsync", "git", "htop", "tmux", "ssh", "sudo", "less", "grep", "tar")
    ),
    *(Case(name, host(name), Kind.UNKNOWN, IN_ROOT) for name in ("sleep", "python3", "node", "perl", "make", "watch")),
    Case("cp as it writes there", host("cp"), Kind.SUSPECT, "open for writing", swap("x.py")),
    Case("a reader's files from elsewhere", host("tail", cwd="/"), Kind.EXCUSED, handles=READS),
    Case("tail elsewhere", host("tail", cwd="/"), None),
    Case(
        "a shell whose root folder it is",
        replace(shell(), places=frozenset({Place.ROOT})),
        Kind.UNKNOWN,
        "it is a shell",
        TERMINAL,
    ),
    Case(
        "a monitor with the GPU's device",
        host("nvidia-smi"),
        Kind.EXCUSED,
        handles=replace(OWN, written=frozenset({"/dev/nvidiactl"})),
    ),
)
def test_row_7_programs_of_the_host_that_read_or_edit(case: Case) -> None:
    check(case)


def reads(path: str) -> Handles:
    return replace(OWN, read=frozenset({path}), below=frozenset({path} if path.startswith(ROOT) else ()))


IN_HAND = replace(reads(MODEL), model=MODEL)


GIVEN = replace(OWN, sockets=frozenset({"socket:[7]", "socket:[8]"}))
LISTENED = replace(LOOK, sockets=frozenset({"socket:[8]"}))


@table(
    Case("has a socket of the workload", one("x"), Kind.SUSPECT, "listened: socket:[8]", GIVEN, look=LISTENED),
    Case("matches elsewhere, and has one", ELSEWHERE, Kind.SUSPECT, "listened: socket:[8]", GIVEN, look=LISTENED),
    Case("has sockets of its own", one("x"), None, handles=GIVEN),
    Case(
        "above this run, with such a socket",
        one("x", pid=1),
        Kind.OURS,
        handles=GIVEN,
        look=replace(LISTENED, ancestors=frozenset({1})),
    ),
    Case("writes below the root", one("x"), Kind.SUSPECT, f"open for writing: {ROOT}/m.joblib", WRITES),
    Case("writes elsewhere", one("x"), None, handles=replace(OWN, written=frozenset({f"{ROOT}2/m"}))),
    Case("a model mapped", one("x"), Kind.SUSPECT, f"has a model mapped: {MODEL}", replace(IN_HAND, mapped_model=True)),
    Case("a model read", one("x"), Kind.TOLD, "it only reads there", IN_HAND),
    Case("a model read by a program in memory", one("x"), Kind.SUSPECT, "in memory", replace(IN_HAND, volatile=True)),
    Case("a program in memory that reads a log", one("x"), Kind.TOLD, "only reads", replace(READS, volatile=True)),
    Case("a program in memory elsewhere", one("x"), None, handles=replace(OWN, volatile=True)),
    Case(
        "a GPU, from the root",
        NODE,
        Kind.SUSPECT,
        "holds a GPU from inside the root: /dev/nvidia0",
        reads("/dev/nvidia0"),
    ),
    Case("AMD's GPU, from the root", NODE, Kind.SUSPECT, "holds a GPU", reads("/dev/kfd")),
    Case("another GPU, from the root", NODE, Kind.SUSPECT, "holds a GPU", reads("/dev/dri/renderD128")),
    Case("no GPU", NODE, Kind.UNKNOWN, IN_ROOT, reads("/dev/null")),
    Case("a GPU elsewhere", one("x"), None, handles=reads("/dev/nvidia0")),
    Case("writes, in a container", one("x", container="c" * 64), Kind.SUSPECT, "add it to `containers`", WRITES),
    Case("writes, in a named container", one("x", container="named"), None, handles=WRITES),
)
def test_row_8_what_holds_something_of_the_workloads(case: Case) -> None:
    check(case)


READ_ONLY = replace(OWN, read_only=True)
HIDDEN = one("x", cwd="", executable="", placeless=True)


FOREIGN = one("x", user=33)
FOLDER_OPEN = replace(OWN, waits="it has a folder of the root open: /x")


@table(
    Case(
        "works in the root", NODE, Kind.UNKNOWN, "its working directory is in the root, and nothing proves it harmless"
    ),
    Case("works below the root", replace(NODE, cwd=f"{ROOT}/a"), Kind.UNKNOWN, IN_ROOT),
    Case("works beside the root", replace(NODE, cwd=f"{ROOT}2"), None),
    Case("reads there, and works there", NODE, Kind.UNKNOWN, IN_ROOT, READS),
    Case("may not be looked into", NODE, Kind.UNKNOWN, IN_ROOT, UNREAD),
    Case("its root folder", replace(one("x"), places=frozenset({Place.ROOT})), Kind.UNKNOWN, "its root folder is in"),
    Case("another account's, with a folder of it open", FOREIGN, Kind.UNKNOWN, "open: /x; nothing", FOLDER_OPEN),
    Case("a folder open, by root's own that reads", replace(host("tail"), cwd="/"), None, handles=FOLDER_OPEN),
    Case("a folder open, in a container", replace(FOREIGN, container="c" * 64), None, handles=FOLDER_OPEN),
    Case("another account's, with data mapped", FOREIGN, None, handles=replace(OWN, mapped="it has a file mapped")),
    Case("the account's, with data mapped", one("x"), Kind.UNKNOWN, "mapped", replace(OWN, mapped="a file mapped")),
    Case("on a read-only mount", NODE, Kind.TOLD, "it only reads there", READ_ONLY),
    Case("its root folder on one", replace(one("x"), places=frozenset({Place.ROOT})), Kind.UNKNOWN, IN_ROOT, READ_ONLY),
    Case("its script on one", one("python", "x.py", **HERE), Kind.SUSPECT, "its script lies below the root", READ_ONLY),
    Case("on one, and writes", NODE, Kind.SUSPECT, "open for writing", replace(WRITES, read_only=True)),
    Case("in a container", replace(NODE, container="c" * 64), Kind.SUSPECT, "in container cccccccccccc"),
    Case("in a named container", replace(NODE, container="named"), None),
    Case("dead", replace(NODE, state="Z"), None),
    Case("the owner's, and hidden", HIDDEN, Kind.UNKNOWN, "it may not be looked into", UNREAD),
    Case("another user's, and hidden", replace(HIDDEN, user=33), None, handles=UNREAD),
    Case("root's, and hidden", replace(HIDDEN, user=0), None, handles=UNREAD),
    Case(
        "root's, who owns the root",
        replace(HIDDEN, user=0),
        Kind.UNREAD,
        "",
        UNREAD,
        look=replace(LOOK, accounts=frozenset({0})),
    ),
)
def test_row_9_the_unknown(case: Case) -> None:
    check(case)


def test_what_one_that_is_not_known_has_started_is_not_known_either_unless_root_calls_it_harmless() -> None:
    unknown = replace(NODE, identity=Identity(41, 410), session=41)
    child, tool = replace(one("/opt/child", pid=42), parent=41), replace(host("tail", pid=43, cwd="/"), parent=41)
    orphan, stranger = one("/opt/orphan", pid=44, session=41), one("/opt/stranger", pid=45)
    init = one("init", pid=1, user=0, executable="/sbin/init")
    everybody = placed({each.pid: each for each in (init, unknown, child, tool, orphan, stranger)}, ROOT)
    looked = replace(LOOK, handles={each.identity: OWN for each in everybody.values()})
    found = Roster.judge(everybody, WORKLOAD, NOBODY, looked)
    whys = {identity.pid: why for identity, why in found.unknown.items()}
    assert whys.keys() == {41, 42, 44}
    assert whys[42] == "child of 41, in the session of one that is not known"
    assert whys[44] == "its parent is gone, in the session of one that is not known"


@table(
    Case("reads a log", one("/opt/reader"), Kind.TOLD, "it only reads there", READS),
    Case("reads elsewhere", one("/opt/reader"), None, handles=replace(OWN, read=frozenset({"/var/log/syslog"}))),
    Case(
        "a script elsewhere reads a log", shell("bash", "/opt/x.sh", cwd="/"), Kind.TOLD, "it only reads there", READS
    ),
)
def test_row_10_who_only_reads(case: Case) -> None:
    check(case)


NARROW = replace(WORKLOAD, matchers=(replace(API, port=8000), replace(TRAIN, user=ACCOUNT)))


def narrowed(process: Process, handles: Handles = OWN) -> Judgement:
    snapshot = {40: beside(process, ROOT)}
    return Roster.judge(snapshot, NARROW, NOBODY, replace(LOOK, handles={process.identity: handles})).judgements[
        process.identity
    ]


def test_a_match_that_the_blocks_user_or_port_excludes_is_anothers_elsewhere() -> None:
    for other in (replace(ELSEWHERE, user=33), one("python", "uvicorn api.app")):
        assert narrowed(other) == Judgement(Kind.TOLD, "the block's user or port says that it is another's")
    assert narrowed(one("uvicorn api.app", ports=frozenset({8000}), **HERE)).kind is Kind.MEMBER


@pytest.mark.parametrize(
    "handles", [OWN, WRITES, replace(IN_HAND, mapped_model=True)], ids=["nothing", "writes", "model"]
)
def test_what_the_blocks_user_or_port_excludes_is_not_apart_in_the_root(handles: Handles) -> None:
    """A worker chooses its command line: with that of an API that listens nowhere it was told as another's."""
    assert narrowed(one("uvicorn api.app", **HERE), handles).kind in {Kind.UNKNOWN, Kind.SUSPECT}
    assert narrowed(one("./uvicorn api.app", **HERE), handles).kind is Kind.SUSPECT
    assert narrowed(one(*TRAINING, user=33, **HERE), handles).kind is Kind.SUSPECT


@pytest.mark.parametrize(
    ("handles", "kind"),
    [
        (replace(OWN, lost=ROOT), Kind.SUSPECT),
        (replace(OWN, began_there=f"PWD={ROOT}"), Kind.SUSPECT),
        (replace(OWN, names_root=ROOT), Kind.SUSPECT),
        (replace(OWN, waits="it has a folder of the root open"), Kind.UNKNOWN),
        (replace(OWN, lost="/srv/other"), Kind.TOLD),
    ],
)
def test_what_the_blocks_user_or_port_excludes_is_not_apart_where_it_leads_here(handles: Handles, kind: Kind) -> None:
    """An API that drains listens no more."""
    assert narrowed(one("python", "uvicorn api.app"), handles).kind is kind


def test_a_roster_says_who_contradicts_who_is_suspected_and_who_is_unknown() -> None:
    trainer, writer, unknown, reader = (
        replace(each, identity=Identity(pid, pid * 10))
        for pid, each in ((10, TRAINER), (41, one("x")), (42, NODE), (43, one("x")))
    )
    snapshot = placed({each.pid: each for each in (reader, unknown, writer, trainer)}, ROOT)
    handles = {writer.identity: WRITES, unknown.identity: OWN, reader.identity: READS}
    roster = Roster.judge(snapshot, WORKLOAD, NOBODY, replace(LOOK, handles=handles))
    assert roster.alive.keys() == {trainer.identity, writer.identity}
    assert roster.suspects.keys() == {writer.identity}
    assert roster.unknown.keys() == {unknown.identity}
    assert roster.processes(Kind.TOLD) == (snapshot[43],)


@st.composite
def anybody(draw: st.DrawFn, pid: int) -> tuple[Process, Handles]:
    """Any process that the patterns alone decide about, with anything in its hands."""
    path = st.sampled_from([ROOT, f"{ROOT}/src", "/", "/srv/other", ""])
    flag = st.booleans()
    files = st.frozensets(
        st.sampled_from([f"{ROOT}/m", f"{ROOT}/.x.swp", "/dev/nvidia0", "/opt/envs/portfolio/x.so", "/usr/lib/x.so"])
    )
    command = draw(
        st.sampled_from(
            [
                *(TRAINING, ("uvicorn api.app",), ("python", "-c", "spawn_main()"), SHIPPER, ("./run",), ("x",), ()),
                *(("bash",), ("bash", "-c", "python -u src/train.py"), ("vim", "src/x.py"), ("less", f"{ROOT}/x")),
            ]
        )
    )
    program = command[0] if command and command[0].isalpha() else "x"
    process = Process(
        Identity(pid, draw(st.integers(1, 60)) * 100 + pid),
        draw(st.integers(0, 12)),
        draw(st.sampled_from("SSSTDZ")),
        command,
        draw(path),
        draw(st.sampled_from([f"/usr/bin/{program}", f"{ROOT}/{program}", "/opt/shipper", ""])),
        user=draw(st.sampled_from([0, 33, ACCOUNT])),
        placeless=draw(flag),
        cgroup=draw(st.sampled_from(["", within("named.service"), within(UNIT), within("backup.service")])),
        container=draw(st.sampled_from([None, None, None, "c" * 64])),
        session=draw(st.integers(1, 12)),
        terminal=draw(flag),
    )
    below = draw(files)
    handles = Handles(
        trusted=draw(flag),
        volatile=draw(flag),
        called=draw(st.sampled_from(["", VENV, "/usr/bin/x"])),
        called_below=draw(flag),
        called_found=draw(flag),
        code=draw(files),
        read=draw(files),
        written=draw(files),
        below=frozenset(file for file in below if file.startswith(ROOT)),
        model=draw(st.sampled_from(["", MODEL])),
        mapped_model=draw(flag),
        names_root=draw(st.sampled_from(["", ROOT])),
        lost=draw(st.sampled_from(["", ROOT])),
        resolved=draw(flag),
        read_only=draw(flag),
        stdin=draw(st.sampled_from(["", "/dev/pts/1", "pipe:[1]"])),
        pipes=draw(st.frozensets(st.builds(PipeEnd, st.just("pipe:[1]"), st.integers(0, 4), flag, flag), max_size=3)),
    )
    return process, draw(st.sampled_from([handles, handles, handles, UNREAD]))


@st.composite
def hosts(draw: st.DrawFn) -> tuple[dict[int, Process], Exceptions, Look]:
    rows = [draw(anybody(pid)) for pid in range(1, draw(st.integers(2, 12)))]
    pids = st.frozensets(st.integers(1, 12), max_size=2)
    ours, above = draw(pids), draw(pids)
    who = st.frozensets(st.sampled_from([process.identity for process, _ in rows]), max_size=2)
    look = replace(LOOK, handles={each.identity: held for each, held in rows}, ancestors=above, helpers=draw(pids))
    everybody = draw(st.permutations([process for process, _ in rows]))
    exceptions = Exceptions(ours | above, excused=draw(who), ended=draw(who))
    return placed({each.pid: each for each in everybody}, ROOT), exceptions, look


P = "pipe:[7]"
LOG = frozenset({f"{ROOT}/logs/x.log"})
TEE = one("tee", "-a", f"{ROOT}/logs/x.log", pid=50, executable="/usr/bin/tee", user=0)
NAMED_END = one("cat", "/dev/fd/63", pid=50, executable="/usr/bin/cat", user=0)


def read_end(number: int) -> PipeEnd:
    return PipeEnd(P, number, reads=True, writes=False)


def write_end(number: int) -> PipeEnd:
    return PipeEnd(P, number, reads=False, writes=True)


@pytest.mark.parametrize(
    ("tool", "ends", "others", "way"),
    [
        (TEE, {read_end(0)}, {write_end(1)}, "write by descriptor 1 what that reads by descriptor 0"),
        (TEE, {read_end(0)}, {write_end(63)}, "write by descriptor 63 what that reads by descriptor 0"),
        (TEE, {read_end(0)}, {write_end(1), read_end(0)}, "write by descriptor 1 what that reads by descriptor 0"),
        (TEE, {write_end(1)}, {read_end(0)}, "read by descriptor 0 what that writes by descriptor 1"),
        (TEE, {read_end(63)}, {write_end(2)}, "write by descriptor 2 what that reads by descriptor 63"),
        (TEE, {read_end(5)}, {write_end(6)}, "write by descriptor 6 what that reads by descriptor 5"),
        (TEE, {read_end(63)}, {write_end(63)}, "write by descriptor 63 what that reads by descriptor 63"),
        (
            NAMED_END,
            {read_end(63), write_end(9)},
            {write_end(9)},
            "write by descriptor 9 what that reads by descriptor 63",
        ),
        (TEE, {read_end(251)}, {read_end(251)}, ""),  # each has it from the shell that launched both
        (TEE, {write_end(251)}, {write_end(251)}, ""),
        (TEE, {PipeEnd(P, 251, reads=True, writes=True)}, {PipeEnd(P, 251, reads=True, writes=True)}, ""),
        (TEE, {read_end(250), write_end(251)}, {read_end(250), write_end(251)}, ""),
        (TEE, {read_end(0)}, {read_end(0)}, ""),  # the input that both have from there
        (TEE, {write_end(1), write_end(2)}, {write_end(1), write_end(2)}, ""),
        (TEE, {read_end(0)}, {PipeEnd("pipe:[8]", 1, reads=False, writes=True)}, ""),
    ],
)
def test_a_pipe_ties_its_two_ends_and_not_those_who_have_it_from_one_shell(
    tool: Process, ends: set[PipeEnd], others: set[PipeEnd], way: str
) -> None:
    """A stranger's process was held against the run, with a kill: a tool's shell had left both a descriptor."""
    other = one("python3", "-c", "import socket", pid=60)
    holds = replace(OWN, written=LOG, below=LOG, pipes=frozenset(ends))
    handles = {tool.identity: holds, other.identity: replace(OWN, pipes=frozenset(others))}
    roster = Roster.judge(placed({50: tool, 60: other}, ROOT), WORKLOAD, NOBODY, replace(LOOK, handles=handles))
    assert roster.judgements[tool.identity].kind is Kind.SUSPECT
    why = f"it shares a pipe with process 50, which is one: it may {way}"
    assert roster.judgements.get(other.identity) == (Judgement(Kind.SUSPECT, why) if way else None)


@pytest.mark.slow
@given(hosts(), st.randoms(use_true_random=False))
def test_laws_of_the_roster(host: tuple[dict[int, Process], Exceptions, Look], chance: Random) -> None:
    snapshot, exceptions, look = host
    roster = Roster.judge(snapshot, WORKLOAD, exceptions, look)
    for process in snapshot.values():
        judgement = roster.judgements.get(process.identity)
        if not process.alive:
            assert judgement is None
        elif process.is_rooted:
            assert judgement is not None
            apart = judgement.kind in {Kind.APART, Kind.TOLD}
            assert not apart or (judgement.kind is Kind.TOLD and look.handles[process.identity].read_only)
    members = Members.of(snapshot, WORKLOAD, exceptions)
    assert members.keys() <= {who for who, each in roster.judgements.items() if each.kind is Kind.MEMBER}
    pids = [*snapshot]
    chance.shuffle(pids)
    again = {pid: snapshot[pid] for pid in pids}
    assert Roster.judge(again, WORKLOAD, exceptions, look).judgements == roster.judgements
    assert Members.of(again, WORKLOAD, exceptions) == members


FACT = "it holds a file below the root open for writing"


def chosen(snapshot: Mapping[int, Process], *spared: int) -> dict[int, str]:
    there = placed(snapshot, ROOT)
    suspects = {each.identity: FACT for each in there.values() if each.command == GUNICORN}
    return {who.pid: member.why for who, member in select_suspects(there, suspects, {10}, spared).items()}


INSIDE: dict[str, Any] = {"cwd": f"{ROOT}/src"}


def below(*processes: Process) -> dict[int, Process]:
    """A renamed process 40, and what it has started."""
    started = [replace(each, parent=40) for each in processes]
    return {each.pid: each for each in (one(*GUNICORN, **INSIDE), *started)}


def test_an_included_suspect_comes_with_what_descends_from_it() -> None:
    assert chosen(below()) == {40: FACT}
    assert chosen(below(one("sleep", pid=41, **INSIDE))) == {40: FACT, 41: "child of 40"}
    assert chosen(below(one(*GUNICORN, pid=41, **INSIDE))) == {40: FACT, 41: FACT}
    assert chosen(below(one(*GUNICORN, pid=10, **INSIDE))) == {40: FACT}


@pytest.mark.parametrize(
    "child",
    [one("/opt/other", pid=41), shell("bash", pid=41), one("spared", pid=50, **INSIDE)],
    ids=["others' work", "a person's shell", "ours"],
)
def test_a_suspect_that_keeps_others_work_is_only_named(child: Process) -> None:
    assert chosen(below(child), 50) == {}


def test_suspects_in_containers_and_prefects_are_only_named() -> None:
    assert chosen({40: one(*GUNICORN, container="c" * 64)}) == {}
    worker = beside(one("python", "-m", "prefect", "worker", **PYTHON, **INSIDE), ROOT)
    assert select_suspects({40: worker}, {worker.identity: FACT}, (), ()) == {}
    theirs = replace(worker, foreign=True)
    assert [who.pid for who in select_suspects({40: theirs}, {theirs.identity: FACT}, (), ())] == [40]
    assert chosen(below(one("sleep", pid=41, **INSIDE)), 40) == {}


@pytest.mark.parametrize(
    ("words", "terminal", "ended"),
    [(("-bash",), True, False), (("-bash",), False, True), (("bash", "loop.sh"), True, True), ((), True, True)],
    ids=["on a person's terminal", "without a terminal", "on a script's terminal", "its session's leader is gone"],
)
def test_a_suspect_on_a_persons_terminal_is_only_named(words: tuple[str, ...], *, terminal: bool, ended: bool) -> None:
    """It ended a person's interpreter in tmux."""
    above = {30: shell(*words, pid=30)} if words else {}
    suspect = one(*GUNICORN, session=30, terminal=terminal, **INSIDE)
    assert chosen({**above, 40: replace(suspect, parent=30)}) == ({40: FACT} if ended else {})


@pytest.mark.parametrize(
    "command",
    [
        GUNICORN,
        ("python", "-m", "http.server", "--token=hunter22", "x" * 99),
        ("node", "server.js", "x" * 99),
        ("celery", "worker", "--loglevel", "info's"),
    ],
)
def test_the_block_is_told_how_to_name_each_either_way(command: tuple[str, ...]) -> None:
    process = beside(one(*command, **INSIDE), ROOT)
    line = line_for(process, "api_pattern", "o'ld" if "'" in process.line else "old")
    told = advice(process, line, "suspects=include", excuse_for(process))
    assert told.startswith(f"40 is a suspect. If it belongs to the workload: {line}, or suspects=include; ")
    assert re.search(tomllib.loads(line)["api_pattern"], process.line)
    assert "hunter22" not in told
    (fitting,) = tomllib.loads(excuse_for(process))["bystanders"]
    assert excuse_for(process) in told
    assert find_excused({40: process}, replace(WORKLOAD, bystanders=(bystander(fitting),)), NOBODY) == {40}
    assert line_for(replace(process, cgroup=within(UNIT)), "", "") == 'units = ["portfolio-api.service"]'
    contained = replace(process, container="c" * 64)
    assert "`containers`" in advice(contained, line_for(contained, "", ""), "", "")


@pytest.mark.parametrize("target", ["forever", "Zq7canary", "quux zorkmid"])
@pytest.mark.parametrize("more", [("-s",), ()])
def test_of_a_program_whose_words_are_hidden_a_line_is_told_all_the_same(target: str, more: tuple[str, ...]) -> None:
    """There was none to paste for `make -s TARGET`."""
    make = beside(one("make", *more, target, executable="/usr/bin/make", **INSIDE), ROOT)
    told = excuse_for(make)
    (fitting,) = tomllib.loads(told)["bystanders"]
    assert fitting == "exe=/usr/bin/make"
    assert target not in told
    assert find_excused({40: make}, replace(WORKLOAD, bystanders=(bystander(fitting),)), NOBODY) == {40}
    named = replace(make, cgroup=within("build.service"))
    assert tomllib.loads(excuse_for(named)) == {"bystanders": ["unit=build.service"]}


@pytest.mark.parametrize("executable", ["/usr/bin/python3.11", "/usr/bin/bash", "", "/srv/Zq7cxk9Wq/x4Q9zk"])
def test_a_program_that_runs_anything_or_is_hidden_is_no_line_to_paste(executable: str) -> None:
    assert excuse_for(one("x", "-c", "zorkmid", executable=executable)).startswith("bystanders: exe=, cwd= or unit=")


@pytest.mark.parametrize("program", ["/usr/bin/python3.11", "/usr/bin/perl"])
def test_of_an_inline_script_only_all_of_it_makes_a_line_to_paste(program: str) -> None:
    """`^/usr/bin/python3 -c import ` excused nearly every inline script for good."""
    option = "-c" if "python" in program else "-e"
    whole = one(program, option, "import train", executable=program)
    (line,) = tomllib.loads(excuse_for(whole))["bystanders"]
    assert line.endswith("$")
    hidden = one(program, option, "import os; serve('/srv/x', 'Zq7cxk9WqX4Q9zk')", executable=program)
    assert excuse_for(hidden).startswith("bystanders: exe=, cwd= or unit=")


def test_what_has_started_a_training_can_be_named_as_the_workloads_and_a_build_beside_it_is_not() -> None:
    make = beside(one("make", "-s", "zorkmid", pid=30, executable="/usr/bin/make", **INSIDE), ROOT)
    make = replace(make, places=(make.places or frozenset()) - {Place.SCRIPT})  # no file has the name of the target
    train = beside(one("python", "-u", "src/train.py", **INSIDE), ROOT)
    line = line_for_starter(make, "training_pattern", TRAIN.pattern)
    assert "zorkmid" not in line
    wider = replace(WORKLOAD, matchers=(API, replace(TRAIN, pattern=tomllib.loads(line)["training_pattern"])))
    below = {30: make, 40: replace(train, parent=30), 50: replace(make, identity=Identity(50, 500), session=50)}
    assert {each.pid for each in Members.of(below, wider, NOBODY)} == {30, 40}
    assert not line_for_starter(one("own", "zorkmid"), "training_pattern", "train")


@pytest.mark.parametrize(
    "command",
    [
        ("it's (a) worker", "--token=hunter22"),
        ("node", "hunter22"),
        ("sudo", "/usr/bin/python3", "-u", "hunter22"),
        ("-hunter22!",),
    ],
)
def test_no_line_is_told_that_would_match_another_program_too(command: tuple[str, ...]) -> None:
    process = beside(one(*command, **INSIDE), ROOT)
    line = line_for(process, "api_pattern", "old")
    assert line == ""
    for told in (advice(process, line, "suspects=include", excuse_for(process)), excuse_for(process)):
        assert "^" not in told
        assert "hunter22" not in told
        assert "40" in told


@pytest.mark.parametrize("program", ["tmux", "sshd", "cron", "vim", "bash"])
def test_a_suspect_is_spared_for_what_root_calls_a_program_and_not_for_its_own_word(program: str) -> None:
    named = one(*GUNICORN, executable=f"/usr/bin/{program}", **INSIDE)
    assert chosen({40: named}) == {}
    assert chosen({40: replace(named, strange=True)}) == {40: FACT}
