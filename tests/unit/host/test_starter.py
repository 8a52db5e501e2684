"""What may start a stopped workload again: by table, who is named and who is harmless."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Unknown
from tasks.custody.incident.description import API, TRAINING
from tasks.host.process.process import Process
from tasks.host.starter import Names, Starter, StarterFacts, StarterKind, entry, living, units

ROOT, ELSEWHERE = "/srv/app", "/srv/other"
TRAIN = "venv/bin/python -u src/train.py --dataset builtin --mode full"
LOOP = f"while true; do {TRAIN}; sleep 15; done"
NAMES = Names((ROOT, "/data/app"), (API, TRAINING))
ONE = Identity(50, 500)


def process(pid: int, parent: int, command: Sequence[str], **about: Any) -> Process:
    program = command[0].lstrip("-")
    path = program if program.startswith("/") else f"/usr/bin/{program}"
    return replace(Process(Identity(pid, pid * 10), parent, "S", tuple(command), executable=path), **about)


def judged(
    command: Sequence[str], *children: Sequence[str], facts: StarterFacts | None = None, state: str = "S", **about: Any
) -> Starter | Unknown | None:
    """Judge a process with its children, in the root unless it says otherwise."""
    one = process(ONE.pid, 1, command, **({"cwd": ROOT} | about))
    below = [process(60 + at, ONE.pid, each, cwd=ROOT, state=state) for at, each in enumerate(children)]
    snapshot: Mapping[int, Process] = {each.pid: each for each in (one, *below)}
    starters, unknown = living(snapshot, [ONE.pid], facts or StarterFacts(NAMES))
    return next((each for kind in (starters, unknown) for each in kind), None)


SLEEP, WAITS = ["sleep", "15"], ["inotifywait", "-m", "data"]
TEXT = StarterFacts(NAMES, texts={ONE: LOOP})
FAR = StarterFacts(NAMES, texts={ONE: f'cd "{ROOT}"\n{LOOP}'})
STARTED = StarterFacts(NAMES, started={ONE}, since=100)
PM2 = "PM2 v5.3.0: God Daemon (/root/.pm2)"


@pytest.mark.parametrize(
    ("kind", "command", "children", "facts", "about"),
    [
        (StarterKind.LOOP, ["bash", "-c", LOOP], [SLEEP], None, {}),
        (StarterKind.LOOP, ["bash", "-c", LOOP], [], None, {}),
        (StarterKind.LOOP, ["bash", "-c", f"sleep 3600; {TRAIN}"], [SLEEP], None, {}),
        (StarterKind.LOOP, ["bash", "-c", f"dvc pull && {TRAIN}"], [["/usr/bin/dvc", "pull"]], None, {}),
        (StarterKind.LOOP, ["sh", "loop.sh"], [SLEEP], None, {}),
        (StarterKind.LOOP, ["sh", "loop.sh"], [], TEXT, {}),
        (StarterKind.LOOP, ["bash", "/usr/local/bin/loop.sh"], [], FAR, {"cwd": "/"}),
        (StarterKind.LOOP, ["bash", "-c", f"cd {ROOT} && {LOOP}"], [SLEEP], None, {"cwd": "/"}),
        (StarterKind.LOOP, ["bash", "-c", f"cd /data/app; {LOOP}"], [SLEEP], None, {"cwd": "/root"}),
        (StarterKind.LOOP, ["bash", "-c", "while :; do make train; sleep 15; done"], [SLEEP], None, {}),
        (StarterKind.LOOP, ["bash", "-c", f"until {TRAIN}; do :; done"], [], None, {}),
        (StarterKind.LOOP, ["bash", "-c", f"inotifywait -m data | while read f; do {TRAIN}; done"], [WAITS], None, {}),
        (StarterKind.LOOP, ["bash", "-c", LOOP], [SLEEP], None, {"cwd": "", "placeless": True}),
        (StarterKind.LOOP, ["sh"], [SLEEP], None, {}),
        (StarterKind.LOOP, ["bash", "-c", f"while :; do {ROOT}/run.sh; sleep 15; done"], [SLEEP], None, {"cwd": "/"}),
        (
            StarterKind.LOOP,
            ["bash", "-c", f'while :; do cd "{ROOT}"; make; sleep 15; done'],
            [SLEEP],
            None,
            {"cwd": "/"},
        ),
        (StarterKind.LOOP, ["bash"], [SLEEP], StarterFacts(NAMES, typed={ONE}), {"forked": True}),
        (StarterKind.LOOP, ["-bash"], [SLEEP], replace(STARTED, typed={ONE}), {}),
        (StarterKind.LOOP, ["bash", "loop.sh"], [SLEEP], STARTED, {"cwd": "/"}),
        (StarterKind.LOOP, ["busybox", "sh", "loop.sh"], [["busybox", "sleep", "15"]], TEXT, {}),
        (StarterKind.LAUNCHER, ["watch", "-n", "5", TRAIN], [], None, {}),
        (StarterKind.LAUNCHER, ["watch", "-n", "5", f"cd {ROOT}; {TRAIN}"], [], None, {"cwd": "/"}),
        (StarterKind.LAUNCHER, ["entr", "-r", "./train.sh"], [], TEXT, {}),
        (StarterKind.LAUNCHER, ["flock", "/run/lock/x", "sh", "-c", f"cd {ROOT}; {TRAIN}"], [], None, {"cwd": "/"}),
        (StarterKind.SUPERVISOR, ["python3", "/usr/bin/supervisord", "-n"], [], STARTED, {"cwd": "/"}),
        (StarterKind.SUPERVISOR, ["python3", "/usr/bin/supervisord", "-c", f"{ROOT}/s.conf"], [], None, {"cwd": "/"}),
        (StarterKind.SUPERVISOR, ["python3", "-m", "honcho", "start"], [], None, {}),
        (StarterKind.SUPERVISOR, [PM2], [], STARTED, {"cwd": "/", "executable": "/usr/bin/node"}),
        (
            StarterKind.SUPERVISOR,
            ["runsv", "train"],
            [],
            replace(TEXT, texts={ONE: f"cd {ROOT}"}),
            {"cwd": "/etc/service"},
        ),
    ],
)
def test_what_lives_and_may_start_it_again_is_named_also_while_it_waits(
    kind: StarterKind,
    command: Sequence[str],
    children: Sequence[Sequence[str]],
    facts: StarterFacts | None,
    about: dict[str, Any],
) -> None:
    found = judged(command, *children, facts=facts, **about)
    assert isinstance(found, Starter)
    assert (found.kind, found.identity) == (kind, ONE)
    assert found.how_to_stop in str(found)


@pytest.mark.parametrize(
    ("command", "children", "about"),
    [
        (["-bash"], [], {}),
        (["-bash"], [["vim", "src/train.py"]], {}),
        (["bash", "--init-file", "/opt/shell.sh"], [["tail", "-f", "logs/x"]], {}),
        (["bash", "-c", LOOP], [SLEEP], {"cwd": ELSEWHERE}),
        (["bash", "-c", f"cd {ROOT}-2; {LOOP}"], [SLEEP], {"cwd": "/"}),
        (["bash", "-c", "while :; do date; sleep 1; done"], [SLEEP], {"cwd": "/root"}),
        (["bash", "-c", f"while :; do rsync {ROOT}/logs backup:; sleep 9; done"], [SLEEP], {"cwd": "/"}),
        (["bash", "-c", f"while :; do df '{ROOT}'; sleep 9; done"], [SLEEP], {"cwd": "/"}),
        (["sh", "-c", f"{TRAIN}; read -r"], [], {}),
        (["sh", "-c", f"{TRAIN}; bash"], [["bash"]], {}),
        (["vim", "src/train.py"], [SLEEP], {}),
        (["tmux", "new-session", LOOP], [["-bash"]], {}),
        (["tail", "-f", "logs/x"], [], {}),
        (["watch", "nvidia-smi"], [], {}),
        (["grep", "-r", TRAIN], [], {}),
        (["python3", "/usr/bin/supervisord", "-n"], [], {"cwd": "/"}),
        (["bash", "-c", LOOP], [SLEEP], {"container": "a" * 64}),
        (["bash", "-c", LOOP], [], {"state": "Z"}),
    ],
)
def test_what_only_resembles_a_starter_is_harmless(
    command: Sequence[str], children: Sequence[Sequence[str]], about: dict[str, Any]
) -> None:
    state = about.pop("state", "S")
    one = replace(process(ONE.pid, 1, command, **({"cwd": ROOT} | about)), state=state)
    below = [process(60 + at, ONE.pid, each, cwd=ROOT) for at, each in enumerate(children)]
    facts = StarterFacts(NAMES, typed={ONE} if command[0] in {"-bash", "bash"} and "-c" not in command else ())
    assert living({each.pid: each for each in (one, *below)}, [ONE.pid], facts) == ((), ())


def test_a_stopped_job_is_nobody_who_waits() -> None:
    assert judged(["bash", "-c", "read -r line"], SLEEP, state="T") is None


def test_a_persons_shell_that_waits_is_a_question() -> None:
    found = judged(["-bash"], SLEEP, facts=StarterFacts(NAMES, typed={ONE}))
    assert isinstance(found, Unknown)
    assert (found.identity, found.line) == (ONE, "bystanders = ['^\\-bash$']")
    assert "sleep 15" in found.why
    assert judged(["-bash"], SLEEP, facts=StarterFacts(NAMES, typed={ONE}), cwd="/root") is None


def test_a_persons_shell_that_waited_before_the_freeze_is_a_question_too() -> None:
    assert isinstance(judged(["-bash"], SLEEP, facts=StarterFacts(NAMES, {ONE}, 10**9, typed={ONE})), Unknown)


def test_the_way_to_stop_a_supervisor_names_what_it_keeps() -> None:
    facts = StarterFacts(NAMES, configured={"supervisord": "train"})
    found = judged(["python3", "/usr/bin/supervisord"], facts=facts, cwd="/")
    assert isinstance(found, Starter)
    assert found.how_to_stop == "supervisorctl stop train"
    kept = judged(["runsv", "train"], facts=STARTED, cwd="/etc/service/train")
    assert isinstance(kept, Starter)
    assert kept.how_to_stop == "sv down train"


def test_a_secret_of_a_loop_is_not_shown() -> None:
    found = judged(["bash", "-c", f"export PASSWORD=hunter2; {LOOP}"], SLEEP)
    assert found
    assert "hunter2" not in str(found)


RUN = {"Id": "loop.service", "ActiveState": "active", "SubState": "running", "MainPID": "7"}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ExecStart": f"{{ path=/bin/sh ; argv[]=/bin/sh -c {TRAIN} ; }}", "WorkingDirectory": ROOT}, True),
        ({"ActiveState": "activating", "SubState": "auto-restart", "WorkingDirectory": ROOT}, True),
        ({"ActiveState": "activating", "SubState": "auto-restart", "WorkingDirectory": ELSEWHERE}, False),
        ({"Id": "nightly.service", "ActiveState": "activating", "SubState": "auto-restart-queued"}, True),
        ({"Id": "nightly.service", "ExecStart": "/opt/bin/start-all"}, False),
        ({"Id": "nightly.service", "ActiveState": "failed", "SubState": "failed"}, False),
        ({"ExecStart": f"tensorboard --logdir {ROOT}/logs"}, False),
        ({"ActiveState": "inactive", "SubState": "dead", "WorkingDirectory": ROOT, "ExecStart": TRAIN}, False),
        ({"SubState": "exited", "WorkingDirectory": ROOT, "ExecStart": TRAIN}, False),
        ({"Id": "api.service", "WorkingDirectory": ROOT, "ExecStart": TRAIN}, False),
        ({"MainPID": "8", "WorkingDirectory": ROOT, "ExecStart": TRAIN}, False),
    ],
)
def test_a_unit_that_systemd_will_start_is_named(changes: dict[str, str], *, named: bool) -> None:
    about = RUN | changes
    found = [*units([about], NAMES, {"api.service", "8"}, {"nightly.service", "generations that are not listed"})]
    assert [each.how_to_stop for each in found] == ([f"systemctl stop {about['Id']}"] if named else [])


@pytest.mark.parametrize(
    ("kind", "text", "lines"),
    [
        (StarterKind.CRON, f"# {ROOT}\nMAILTO=x\n0 3 * * * app cd {ROOT} && ./run.sh\n", [3]),
        (StarterKind.CRON, f"0 3 * * * cd $APP && {TRAIN}\n1 1 * * * {ROOT}/nightly.sh\n", [1, 2]),
        (StarterKind.CRON, f"0 3 * * * cd {ELSEWHERE} && {TRAIN}\n", []),
        (StarterKind.CRON, f"0 3 * * * app tar c {ROOT}-old\n", []),
        (StarterKind.AT, f"#!/bin/sh\nHOME=/root\ncd {ROOT} || exit\n./run.sh\n", [3]),
        (StarterKind.ENABLED, f"[Service]\nWorkingDirectory={ROOT}\nExecStart={TRAIN}\n", [2]),
        (StarterKind.ENABLED, f"[Service]\nWorkingDirectory={ELSEWHERE}\nExecStart={TRAIN}\n", []),
        (
            StarterKind.CONFIGURED,
            f"[program:a]\ncommand=x\n[program:b]\ndirectory={ROOT}\n[program:c]\ncommand=y\n",
            [4],
        ),
    ],
)
def test_entries_that_name_the_workload_are_told_by_their_line(kind: StarterKind, text: str, lines: list[int]) -> None:
    found = [*entry(kind, "/etc/x", text, NAMES, "stop {name}")]
    assert [each.name.partition(":")[0] for each in found] == [f"in /etc/x, line {line}" for line in lines]
    assert kind is not StarterKind.CONFIGURED or found[0].how_to_stop == "stop b"


def test_of_an_entry_only_the_word_that_names_it_is_shown() -> None:
    (found,) = entry(
        StarterKind.CRON, "/etc/x", f"0 3 * * * app KEY=hunter2 {ROOT}/run.sh --token hunter3\n", NAMES, "edit"
    )
    assert str(found) == (
        f"cron entry in /etc/x, line 1: {ROOT}/run.sh (may start the workload again 再起動の可能性; "
        "to stop it 停止方法: edit)"
    )


@pytest.mark.parametrize(
    "text", ["python" * 3000, "\n" * 16_000, "cd " * 5000, f"{ROOT}/" * 1500, "python -u src/train.py " * 700]
)
def test_a_hostile_script_costs_little(text: str) -> None:
    began = time.monotonic()
    judged(["bash", "x.sh"], facts=StarterFacts(NAMES, texts={ONE: text}))
    assert time.monotonic() - began < 10
