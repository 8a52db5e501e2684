"""Every case of membership by facts, a row each: who is a member, a suspect, excused, told, or nobody."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePath

import pytest

from tasks.custody.containment.membership import Matcher, Named, excused, members, protected
from tasks.custody.containment.process import Identity, Process
from tasks.custody.containment.survey import STARTED, survey
from tasks.custody.containment.suspect import advice, included, line_for
from tasks.custody.containment.traces import Facts, Traces
from tasks.custody.incident.description import pattern

ROOT = PurePath("/srv/portfolio")
HOME = str(ROOT)
PYTHON, OTHER = (8, 1), (8, 2)
TRAIN = Matcher("training", r"python -u src/train\.py")
API = Matcher("api", r"uvicorn api\.app", port=8000)
GUNICORN = ("gunicorn: worker [portfolio]",)
UNIT = "portfolio-api.service"
FROZEN_AT = 500
FACTS = Facts(PurePath("/opt/envs/portfolio"), PYTHON, 1000)


def one(*command: str, **fields: object) -> Process:
    """Process 40, which pid 1 has; it works elsewhere, and was started before the freeze."""
    about: dict[str, object] = {"executable": "/usr/bin/python3.11", "cwd": "/", "session": 40, "user": 1000}
    return Process(Identity(40, 400), 1, "S", command, **{**about, **fields})  # type: ignore[arg-type]


def within(unit: str) -> str:
    return f"0::/system.slice/{unit}\n"


def beside(pid: int, start: int, *command: str, **fields: object) -> Process:
    return replace(one(*command, **fields), identity=Identity(pid, start))


TRAINER = beside(10, 100, "python", "-u", "src/train.py", cwd=HOME, session=10)
SERVED = replace(TRAINER, cgroup=within(UNIT))
BLOCK = Named(units=("named.service",), bystanders=("^filebeat ", "^python -m jupyterlab"))


def judged(
    process: Process,
    traces: Traces | None = None,
    others: tuple[Process, ...] = (),
    spared: tuple[int, ...] = (),
    facts: Facts = FACTS,
) -> tuple[str, str]:
    """What process 40 is, and the fact."""
    snapshot = {each.pid: each for each in (Process(Identity(1, 1), 0, "S", ("init",), "/"), process, *others)}
    known = replace(facts, traces={process.identity: traces or Traces()})
    found = members(snapshot, (API, TRAIN), ROOT, spared, BLOCK)
    seen = survey(snapshot, (API, TRAIN), ROOT, spared, FROZEN_AT, ["named"], BLOCK, known)
    if process.identity in found:
        return "member", found[process.identity].why
    if process.identity in seen.suspects:
        return "suspect", seen.suspects[process.identity]
    if process.identity in seen.alive:
        return "alive", seen.alive[process.identity]
    told = {"told": seen.bystanders, "excused": seen.excused, "unread": seen.unread}
    return next((word for word, those in told.items() if process in those), "nobody"), ""


MEMBERS = [
    ("matches and works in the root", one(*TRAINER.command, cwd=HOME), (), "matches the training pattern"),
    (
        "matches, runs from the root",
        one(*TRAINER.command, executable=f"{HOME}/x"),
        (),
        "matches the training pattern",
    ),
    ("descends from a member", replace(one(*GUNICORN), parent=10), (TRAINER,), "child of 10"),
    ("in a service that the block names", one("/opt/x", cgroup=within("named.service")), (), "`units` names"),
    (
        "below a service that the block names",
        one("/opt/x", cgroup="0::/system.slice/named.service/payload\n"),
        (),
        "`units` names",
    ),
    (
        "in a service whose main process is one",
        one(*GUNICORN, cgroup=within(UNIT)),
        (SERVED,),
        "main process is 10",
    ),
    (
        "child of who sits in such a service",
        replace(one("sleep"), parent=41),
        (SERVED, beside(41, 401, *GUNICORN, cgroup=within(UNIT))),
        "child of 41",
    ),
    ("excused, but matches by itself", one("python -m jupyterlab; python -u src/train.py", cwd=HOME), (), "matches"),
]


@pytest.mark.parametrize(("process", "others", "why"), [row[1:] for row in MEMBERS], ids=[row[0] for row in MEMBERS])
def test_members(process: Process, others: tuple[Process, ...], why: str) -> None:
    what, fact = judged(process, others=others)
    assert what == "member"
    assert why in fact


def cgroup(path: str) -> Process:
    """A member in this control group, and the main process of what is there."""
    return replace(TRAINER, cgroup=f"0::{path}\n")


NOBODY = [
    ("in a member's session scope", "/user.slice/user-0.slice/session-4.scope", ()),
    ("under a user's manager", "/user.slice/user-0.slice/user@0.service/app.slice/x.service", ()),
    ("in the manager itself", "/user.slice/user-0.slice/user@0.service", ()),
    ("in cron's service, an earlier cron's job", "/system.slice/cron.service", (("/usr/sbin/cron", "cron", "-f"),)),
    ("in sshd's service", "/system.slice/ssh.service", (("/usr/sbin/sshd", "sshd: x"),)),
    (
        "in a supervisor's service",
        "/system.slice/supervisord.service",
        (("/usr/bin/python3.11", "/usr/bin/python3", "/usr/bin/supervisord", "-n"),),
    ),
    ("in our worker's service", "/system.slice/evacuation-worker.service", (("/usr/bin/python3", "spared"),)),
]


@pytest.mark.parametrize(("path", "keeper"), [row[1:] for row in NOBODY], ids=[row[0] for row in NOBODY])
def test_a_group_that_anybodys_programs_share_makes_nobody_a_member(
    path: str, keeper: tuple[tuple[str, ...], ...]
) -> None:
    keepers = tuple(
        beside(50, 450, *command, executable=program, cgroup=f"0::{path}\n", session=50) for program, *command in keeper
    )
    spared = tuple(each.pid for each in keepers if "spared" in each.command)
    assert judged(one("/opt/x", cgroup=f"0::{path}\n"), None, (cgroup(path), *keepers), spared) == ("nobody", "")


def test_only_who_systemd_started_first_is_a_services_main_process() -> None:
    path = f"/system.slice/{UNIT}"
    older = beside(30, 30, "/opt/other", cgroup=f"0::{path}\n", session=30)
    orphan = replace(cgroup(path), session=9)
    for others in ((cgroup(path), older), (orphan,), (replace(cgroup(path), parent=30), older)):
        assert judged(one("/opt/x", cgroup=f"0::{path}\n"), None, others) == ("nobody", "")


INSIDE = {"cwd": f"{HOME}/src"}
CODE = Traces(PYTHON, code=frozenset({"/opt/envs/portfolio/lib/numpy/core.so"}))
GPU = Traces(OTHER, written=frozenset({"/dev/nvidia0"}))
SUSPECTS = [
    ("maps the environment's shared objects", one(*GUNICORN), CODE, "code of the workload's environment"),
    ("runs the environment's own interpreter", one("x", executable="/opt/envs/portfolio/bin/python3"), None, "code of"),
    ("works in the root with the interpreter", one(*GUNICORN, **INSIDE), Traces(PYTHON), "workload's interpreter"),
    (
        "writes below the root",
        one("/opt/x"),
        Traces(OTHER, written=frozenset({f"{HOME}/m.joblib"})),
        "open for writing",
    ),
    ("a GPU in hand, and works in the root", one("/opt/x", **INSIDE), GPU, "holds a GPU"),
    ("a GPU in hand, and runs from the root", one("x", executable=f"{HOME}/x"), GPU, "holds a GPU"),
    (
        "a GPU in hand, and maps code of the root",
        one("/opt/x"),
        replace(GPU, code=frozenset({f"{HOME}/kernel.so"})),
        "holds a GPU",
    ),
    ("AMD's GPU", one("x", **INSIDE), Traces(OTHER, read=frozenset({"/dev/kfd"})), "holds a GPU"),
    ("another GPU", one("x", **INSIDE), Traces(OTHER, read=frozenset({"/dev/dri/renderD128"})), "holds a GPU"),
    (
        "started there after the freeze",
        replace(one("make", executable="/usr/bin/make", **INSIDE), identity=Identity(40, FROZEN_AT)),
        Traces(OTHER),
        "started in the root after the freeze",
    ),
    ("in a container that nobody named", one(*GUNICORN, container="c" * 64), CODE, "add it to `containers`"),
]


@pytest.mark.parametrize(
    ("process", "traces", "why"), [row[1:] for row in SUSPECTS], ids=[str(row[0]) for row in SUSPECTS]
)
def test_suspects(process: Process, traces: Traces | None, why: str) -> None:
    what, fact = judged(process, traces)
    assert what == "suspect"
    assert why in fact


SHELL = {"executable": "/usr/bin/bash", **INSIDE}
READS = Traces(OTHER, read=frozenset({f"{HOME}/logs/api.log"}))
WRITES = Traces(OTHER, written=frozenset({f"{HOME}/.notes.swp"}))
OTHERS = [
    ("a log shipper that writes there", one("filebeat -c x", **INSIDE), WRITES, "excused"),
    ("a notebook with the workload's Python", one("python", "-m", "jupyterlab", **INSIDE), CODE, "excused"),
    ("an excused one in a member's family", replace(one("filebeat -c x", **INSIDE), parent=10), None, "excused"),
    ("an excused one elsewhere", one("filebeat -c x"), READS, "nobody"),
    ("a person's shell", one("bash", **SHELL), Traces(OTHER), "excused"),
    ("an editor with a file open", one("vim", executable="/usr/bin/vim.basic", **INSIDE), WRITES, "excused"),
    ("a multiplexer", one("tmux: server", executable="/usr/bin/tmux", **INSIDE), Traces(OTHER), "excused"),
    ("a shell elsewhere", one("bash", executable="/usr/bin/bash"), READS, "nobody"),
    ("a working directory alone", one("node", executable="/opt/node", **INSIDE), READS, "told"),
    ("a match elsewhere", one(*TRAINER.command), Traces(PYTHON), "told"),
    ("the interpreter elsewhere", one("python", "x.py"), Traces(PYTHON), "nobody"),
    ("a log reader", one("/opt/reader"), READS, "nobody"),
    ("a GPU elsewhere", one("/opt/other"), GPU, "nobody"),
    ("no GPU", one("node", executable="/opt/node", **INSIDE), Traces(OTHER, read=frozenset({"/dev/null"})), "told"),
    ("told apart by its port", one("python", "uvicorn api.app", **INSIDE), Traces(PYTHON), "told"),
    ("works in the root and may not be read", one("x", **INSIDE), Traces(denied=True), "told"),
    ("the workload's user's, and may not be seen", one("x", cwd="", placeless=True), Traces(denied=True), "unread"),
    ("another user's that may not be seen", one("x", cwd="", placeless=True, user=0), Traces(denied=True), "nobody"),
    ("a named container", one(*GUNICORN, container="named"), CODE, "nobody"),
    ("dead", replace(one(*GUNICORN, **INSIDE), state="Z"), CODE, "nobody"),
]


@pytest.mark.parametrize(
    ("process", "traces", "what"), [row[1:] for row in OTHERS], ids=[str(row[0]) for row in OTHERS]
)
def test_who_contradicts_nothing(process: Process, traces: Traces | None, what: str) -> None:
    assert judged(process, traces, (TRAINER,)) == (what, "")


@pytest.mark.parametrize("traces", [CODE, Traces(PYTHON), WRITES, GPU])
def test_ourselves_and_what_is_ours_are_no_suspects(traces: Traces) -> None:
    assert judged(one(*GUNICORN, **INSIDE), traces, spared=(40,)) == ("nobody", "")


def test_our_worker_is_ours_by_how_it_is_started_and_another_installations_is_not() -> None:
    ours, theirs = "/opt/evacuation/bin/python", f"{HOME}/venv/bin/python"
    worker = ("-m", "flows.worker", "--pool", "evacuation")
    snapshot = {
        20: beside(20, 1, ours, "-m", "flows.cli", "run", "evacuation.toml"),
        21: beside(21, 1, ours, *worker),
        22: beside(22, 1, theirs, *worker),
        23: beside(23, 1, ours, "-m", "flows.training"),
        24: beside(24, 1, ours, "/opt/evacuation/bin/evacuation", "run", "evacuation.toml"),
        25: beside(25, 1, theirs, "/opt/evacuation/bin/evacuation", "run", "evacuation.toml"),
        26: beside(26, 1, ours, "train.py", "/srv/evacuation"),
    }
    assert protected(snapshot, 20) == {1, 20, 21, 24}


def test_what_has_no_environment_of_its_own_ties_nobody_by_it() -> None:
    system = Facts(None, None, 1000)
    assert judged(one(*GUNICORN, **INSIDE), CODE, facts=system) == ("told", "")


def test_descent_ends_at_who_is_excused() -> None:
    shipper = replace(beside(41, 401, "filebeat -c x"), parent=10)
    assert judged(replace(one("/opt/x"), parent=41), None, (TRAINER, shipper)) == ("nobody", "")


def test_a_living_process_of_a_named_service_contradicts() -> None:
    process = one("/opt/x", cgroup=within("named.service"))
    seen = survey({40: process}, (TRAIN,), ROOT, (), FROZEN_AT, (), BLOCK)
    assert seen.alive == {process.identity: "it sits in named.service, which `units` names"}
    assert survey({40: process}, (TRAIN,), ROOT, (40,), FROZEN_AT, (), BLOCK).alive == {}
    shell = replace(process, command=("bash", "/opt/serve.sh"), executable="/usr/bin/bash")
    assert survey({40: shell}, (TRAIN,), ROOT, (), FROZEN_AT, (), BLOCK).alive.keys() == {process.identity}


FACT = "it works in the root with the workload's interpreter"


def chosen(snapshot: Mapping[int, Process], *spared: int) -> dict[int, str]:
    suspects = {each.identity: FACT for each in snapshot.values() if each.command == GUNICORN}
    return {who.pid: member.why for who, member in included(snapshot, suspects, {10}, ROOT, spared).items()}


def below(*processes: Process) -> dict[int, Process]:
    """A renamed process 40, and what it has started."""
    started = [replace(each, parent=40) for each in processes]
    return {each.pid: each for each in (one(*GUNICORN, **INSIDE), *started)}


def test_an_included_suspect_comes_with_what_descends_from_it() -> None:
    assert chosen(below()) == {40: FACT}
    assert chosen(below(beside(41, 401, "sleep", **INSIDE))) == {40: FACT, 41: "child of 40"}
    assert chosen(below(beside(41, 401, *GUNICORN, **INSIDE))) == {40: FACT, 41: FACT}
    assert chosen(below(beside(10, 401, *GUNICORN, **INSIDE))) == {40: FACT}


@pytest.mark.parametrize(
    "child",
    [beside(41, 401, "/opt/other"), beside(41, 401, "bash", **SHELL), beside(50, 401, "spared", **INSIDE)],
    ids=["others' work", "a person's shell", "ours"],
)
def test_a_suspect_that_keeps_others_work_is_only_named(child: Process) -> None:
    assert chosen(below(child), 50) == {}


def test_suspects_in_containers_and_prefects_are_only_named() -> None:
    assert chosen({40: one(*GUNICORN, container="c" * 64)}) == {}
    worker = one("python", "-m", "prefect", "worker", **INSIDE)
    assert included({40: worker}, {worker.identity: FACT}, (), ROOT, ()) == {}
    assert chosen(below(beside(41, 401, "sleep", **INSIDE)), 40) == {}


@pytest.mark.parametrize("words", [("-bash",), ("bash", "loop.sh")], ids=["by hand", "by a script"])
def test_what_a_person_starts_by_hand_after_the_freeze_is_only_named(words: tuple[str, ...]) -> None:
    shell = beside(30, 450, *words, executable="/usr/bin/bash")
    made = replace(beside(40, 600, "make", "data", **INSIDE), parent=30)
    kept = included({30: shell, 40: made}, {made.identity: STARTED}, (), ROOT, ())
    assert [who.pid for who in kept] == ([] if words == ("-bash",) else [40])


@pytest.mark.parametrize(
    "command",
    [GUNICORN, ("it's (a) worker", "--token=hunter22", "x" * 99), ("node", "x" * 99), ("celery: [main] 'a' $b",)],
)
def test_the_block_is_told_how_to_name_each_either_way(command: tuple[str, ...]) -> None:
    process = one(*command, **INSIDE)
    line = line_for(process, "api_pattern", "o'ld" if "'" in process.line else "old")
    told = advice(process, line)
    assert told.startswith(f"40 is a suspect. If it belongs to the workload: {line}, or suspects=include; ")
    assert {process.pid} == {pid for pid in (40,) if re.search(tomllib.loads(line)["api_pattern"], process.line)}
    assert "hunter22" not in told
    fitting = told.partition("bystanders = ['")[2].partition("']")[0]
    assert excused({40: process}, (TRAIN,), ROOT, Named(bystanders=(pattern(fitting),))) == {40}
    assert line_for(replace(process, cgroup=within(UNIT)), "", "") == 'units = ["portfolio-api.service"]'
    assert "`containers`" in advice(process, line_for(replace(process, container="c" * 64), "", ""))
