"""How an API ran is read from a real process, kept out of sight, and given back to what takes its place alone."""

import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from blocks.workload import Workload
from tasks.custody.containment.identity import Identity
from tasks.evidence.process_start import differing, former, lacking, read_starts
from tasks.host.detached_process import start_program
from tasks.host.process.membership import Member
from tasks.host.process.table import start_of
from tasks.recovery.process_api import new_log
from tests.support.workloads import open_the_way, wait_until

SLEEP = ["sleep", "600"]
ME = os.geteuid()
NOBODY = 65534
am_root = pytest.mark.skipif(ME != 0, reason="needs root")


def read(pid: int) -> list[dict[str, Any]]:
    """What is read of a process, if it is the API."""
    return read_starts({Identity(pid, start_of(pid)): Member("api", "a test")})


@contextmanager
def running(folder: Path, command: list[str] = SLEEP, **how: Any) -> Iterator[dict[str, Any]]:
    """What is read of a program."""
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, **how) as process:
        try:
            wait_until(lambda: psutil.Process(process.pid).cmdline() == command, what="its command line")
            (found,) = read(process.pid)
            yield found
        finally:
            process.kill()


def seen(orders: dict[str, Any], log: Path) -> tuple[dict[str, Any], str]:
    """What is read of a program that these orders start, and where it is told to write."""
    orders = {"command": SLEEP, "root": "/", "user": ME, "environment": {}, **orders}
    who, place = start_program(orders, log)
    try:
        (found,) = read(who.pid)
    finally:
        os.kill(who.pid, signal.SIGKILL)
        os.waitpid(who.pid, 0)
    return found, place


def block(**fields: Any) -> Workload:
    return Workload(**{"root": "/srv/a", "api_command": SLEEP, **fields})


def test_what_takes_its_place_runs_as_it_ran(tmp_path: Path) -> None:
    (folder := tmp_path / "in").mkdir()
    path, environment = tmp_path / "out.log", {"PATH": "/opt/x:/usr/bin:/bin", "A": "é\n=b", "b.c%%": "", "B": "\udcff"}
    path.write_text("before\n")
    files, cores = resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CORE)
    few, nice = (min(files[0], 111), min(files[1], 222)), os.getpriority(os.PRIO_PROCESS, 0) + 3

    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, few)
        os.setpriority(os.PRIO_PROCESS, 0, nice)

    with (
        path.open("a") as output,
        running(folder, env=environment, umask=0o027, stdout=output, stderr=output, preexec_fn=prepare) as was,
    ):
        pass
    assert was["variables"] == environment
    assert (was["umask"], was["nice"], was["folder"]) == (0o027, nice, str(folder))
    assert was["outputs"] == [str(path), str(path)]
    again, place = seen({**was, "environment": was["variables"], "root": str(tmp_path)}, tmp_path / "own.log")
    same = {name: again[name] for name in was if name not in {"pid", "parent"}}
    assert same == {name: value for name, value in was.items() if name not in {"pid", "parent"}}
    assert place == str(path)
    assert not (tmp_path / "own.log").exists()
    assert (resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CORE)) == (files, cores)


def test_without_anything_before_it_has_the_orders_alone(tmp_path: Path) -> None:
    found, place = seen({"environment": {"ONLY": "one"}}, tmp_path / "own.log")
    assert (found["variables"], found["folder"]) == ({"ONLY": "one"}, "/")
    assert place == str(tmp_path / "own.log")


def test_an_environment_that_is_not_read_whole_is_not_taken_for_one(tmp_path: Path) -> None:
    large = {f"V{number}": "x" * 100_000 for number in range(3)}
    with subprocess.Popen(SLEEP, cwd=tmp_path, env=large) as process:
        wait_until(lambda: psutil.Process(process.pid).cmdline() == SLEEP, what="its command line")
        assert read(process.pid) == []
        process.kill()


@pytest.mark.parametrize("made", ["pipe", "deleted", "read only", "device", "closed"])
def test_an_output_that_is_no_file_any_more_is_a_new_log(tmp_path: Path, made: str) -> None:
    path, files = tmp_path / "out", ExitStack()
    path.write_text("")
    how: dict[str, Any] = {"stdout": subprocess.PIPE}
    if made in {"deleted", "read only"}:
        how = {"stdout": files.enter_context(path.open("r" if made == "read only" else "a"))}
    if made == "device":
        how = {"stdout": subprocess.DEVNULL}
    if made == "deleted":
        path.unlink()
    if made == "closed":
        how = {"preexec_fn": lambda: os.close(1)}
    with files, running(tmp_path, stderr=subprocess.DEVNULL, **how) as was:
        assert set(was["outputs"]) <= {"", os.devnull}
    new = str(tmp_path / "logs/new.log")
    found, place = seen({"outputs": was["outputs"], "log": new}, tmp_path / "own.log")
    assert (found["outputs"], place) == ([new, new], new)


def test_a_log_that_cannot_be_made_is_the_given_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for log in (tmp_path / "file/new.log", tmp_path / "link"):
        own = tmp_path / "own.log"
        found, place = seen({"outputs": ["", str(tmp_path / "gone")], "log": str(log)}, own)
        assert (found["outputs"], place) == ([str(own)] * 2, str(own))
    assert not (tmp_path / "elsewhere").exists()


@am_root
@pytest.mark.parametrize("ids", [(4, [4, 33, 34]), (33, []), (100, [4])])
def test_a_process_has_the_groups_again_that_it_ran_with_and_no_other(
    tmp_path: Path, ids: tuple[int, list[int]]
) -> None:
    open_the_way(tmp_path)
    group, groups = ids
    with running(tmp_path, user=NOBODY, group=group, extra_groups=groups) as was:
        pass
    again, _ = seen({**was, "environment": was["variables"], "user": NOBODY}, tmp_path / "own.log")
    assert again["conditions"] == was["conditions"]
    assert again["conditions"]["groups"] == groups
    assert again["conditions"]["group"][:3] == [group] * 3
    assert differing(was, again, block()) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"groups": [4, 27, 33]}, ["groups 4, 27, 33"]),
        ({"account": [4242] * 4}, ["account"]),
        ({"group": [4242] * 4}, ["group"]),
        ({"capabilities": "0000000000000400"}, ["capabilities"]),
        ({"no_new_privs": "7"}, ["no_new_privs"]),
        ({"processors": "63"}, ["processors"]),
        ({"oom_score_adj": "777"}, ["oom_score_adj"]),
        ({"namespaces": ["net"]}, ["namespaces"]),
        ({}, []),
    ],
)
def test_a_condition_that_is_another_after_the_start_is_named(change: dict[str, Any], told: list[str]) -> None:
    (now,) = read(os.getpid())
    conditions = {**now["conditions"], **({"groups": []} if "groups" in change else {})}
    now = {**now, "conditions": conditions}
    was = {**now, "conditions": {**conditions, **change}, "variables": {"TOKEN": "s3cret", **now["variables"]}}
    assert differing(was, now, block()) == ["TOKEN", *told]
    assert differing(was, now, block(api_environment={"TOKEN": "other"})) == told
    limits = [(name, soft, "77" if name == "Max open files" else hard) for name, soft, hard in now["limits"]]
    assert differing({**was, "variables": {"PATH": "/x"}}, now, block(), is_given=False) == ["PATH", *told]
    other = {**now, "umask": now["umask"] ^ 0o20, "nice": now["nice"] + 1, "limits": limits}
    assert differing(other, now, block()) == ["Max open files", "umask", "nice"]


def test_what_was_kept_without_its_conditions_is_no_word_for_them() -> None:
    (now,) = read(os.getpid())
    old = {name: value for name, value in now.items() if name != "conditions"}
    assert differing(old, now, block()) == ["conditions that were not kept, as its groups"]


@am_root
@pytest.mark.parametrize("how", [{}, {"user": NOBODY, "group": 4, "extra_groups": [4, 33]}])
def test_a_forecast_names_no_condition_that_is_given_back(tmp_path: Path, how: dict[str, Any]) -> None:
    open_the_way(tmp_path)
    with running(tmp_path, **how) as was:
        user = how.get("user", ME)
        assert lacking([was], user, block()) == []
        told = lacking([{**was, "conditions": {**was["conditions"], "no_new_privs": "1"}}], user, block())
        assert told == ["no_new_privs"]


@pytest.mark.slow
@am_root
def test_its_place_in_the_choice_of_the_oom_killer_is_given_back(tmp_path: Path) -> None:
    with running(tmp_path, preexec_fn=lambda: Path("/proc/self/oom_score_adj").write_text("123")) as was:
        assert lacking([was], ME, block()) == []
    again, _ = seen({**was, "environment": was["variables"]}, tmp_path / "own.log")
    assert again["conditions"]["oom_score_adj"] == "123"
    assert differing(was, again, block()) == []


@am_root
def test_a_forecast_without_the_right_to_give_groups_back_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_the_way(tmp_path)
    with running(tmp_path, user=NOBODY, group=NOBODY, extra_groups=[4, 33]) as was:
        monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
        assert "groups 4, 33" in lacking([was], NOBODY, block())


@pytest.mark.slow
@am_root
def test_root_opens_no_log_that_another_account_could_replace(tmp_path: Path) -> None:
    open_the_way(tmp_path)
    (theirs := tmp_path / "theirs").mkdir()
    os.chown(theirs, NOBODY, NOBODY)
    (root := tmp_path / "root").write_text("root's\n")
    (theirs / "api.log").symlink_to(root)
    (theirs / "real.log").write_text("")
    for path in ("api.log", "real.log"):
        for orders in ({"outputs": [str(theirs / path)] * 2}, {"log": str(theirs / path)}):
            _, place = seen(orders, tmp_path / "own.log")
            assert place == str(tmp_path / "own.log")
    assert root.read_text() == "root's\n"


@pytest.mark.slow
@am_root
def test_another_account_writes_with_its_own_rights_and_nothing_of_its_variables_runs_as_root(tmp_path: Path) -> None:
    open_the_way(tmp_path)
    (theirs := tmp_path / "theirs").mkdir()
    os.chown(theirs, NOBODY, NOBODY)
    (root := tmp_path / "root").write_text("root's\n")
    (theirs / "api.log").symlink_to(root)
    hook = theirs / "sitecustomize.py"
    hook.write_text(f"import os; open({str(theirs / 'ran')!r} + str(os.geteuid()), 'w')")
    environment = {"PYTHONPATH": str(theirs), "LD_PRELOAD": str(theirs / "x.so"), "PYTHONSTARTUP": str(hook)}
    limits = [["Max core file size", "0", "0"]] * 5
    more = {"user": NOBODY, "environment": environment, "log": str(theirs / "logs/new.log"), "limits": limits}
    _, place = seen({**more, "outputs": [str(theirs / "api.log"), str(root)], "limits": []}, tmp_path / "own.log")
    assert place == str(theirs / "logs/new.log")
    assert root.read_text() == "root's\n"
    assert Path(place).stat().st_uid == NOBODY
    code = "import os, time; print(os.getresuid(), os.getresgid(), os.getgroups(), flush=True); time.sleep(600)"
    who, place = start_program(
        {**more, "command": ["/usr/bin/env", "python3", "-c", code], "root": "/", "limits": []}, tmp_path / "own.log"
    )
    try:
        wait_until(lambda: "(65534, 65534, 65534)" in Path(place).read_text(), what="its account")
    finally:
        os.kill(who.pid, signal.SIGKILL)
        os.waitpid(who.pid, 0)
    assert {path.name for path in theirs.glob("ran*")} <= {f"ran{NOBODY}"}


@pytest.mark.slow
def test_a_program_that_does_not_run_is_told_and_leaves_no_process(tmp_path: Path) -> None:
    before = psutil.Process().children()
    for command, why in ((["venv/bin/gone"], "No such file"), ([str(tmp_path)], "Permission denied")):
        orders = {"command": command, "root": str(tmp_path), "user": ME, "environment": {"PATH": "/bin"}}
        with pytest.raises(OSError, match=f"{command[0]}: .*{why}"):
            start_program(orders, tmp_path / "own.log")
    orders["root"] = str(tmp_path / "gone")
    with pytest.raises(OSError, match="No such file"):
        start_program(orders, tmp_path / "own.log")
    assert psutil.Process().children() == before


def test_a_program_is_found_on_the_path_that_it_gets(tmp_path: Path) -> None:
    (tmp_path / "wrapper").write_text("#!/bin/sh\nexec sleep 600\n")
    (tmp_path / "wrapper").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    who, _ = start_program(
        {"command": ["wrapper"], "root": "/", "user": ME, "environment": environment}, tmp_path / "l"
    )
    try:
        wait_until(lambda: psutil.Process(who.pid).cmdline() == SLEEP, what="the wrapped program")
        assert psutil.Process(who.pid).environ()["PATH"] == environment["PATH"]
    finally:
        os.kill(who.pid, signal.SIGKILL)
        os.waitpid(who.pid, 0)


def start(pid: int, **about: Any) -> dict[str, Any]:
    usual = {"pid": pid, "parent": 1, "command": ["x"], "variables": {"A": "1"}, "accounts": [ME] * 3, "setuid": 0}
    return {**usual, "serves": False, "limits": [], **about}


@pytest.mark.parametrize(
    ("starts", "pid"),
    [
        ([], None),
        ([start(5), start(6, parent=5)], 5),
        ([start(5), start(6, parent=5, serves=True)], 6),
        ([start(5, serves=True), start(6, parent=5, command=SLEEP)], 6),
        ([start(5, accounts=[ME + 1] * 3, serves=True), start(6)], 6),
        ([start(5, accounts=[ME + 1, ME, ME])], None),
        ([start(5, setuid=1), start(6, setuid=1, command=SLEEP)], None),
    ],
)
def test_the_place_is_that_of_the_command_of_what_serves_or_of_the_first(
    starts: list[dict[str, Any]], pid: int | None
) -> None:
    assert former(starts, ME, block()).get("pid") == pid


def test_what_a_start_lacks_is_told_by_name_alone() -> None:
    ours = [[name, soft, hard] for name, soft, hard in read(os.getpid())[0]["limits"]]
    more = [[name, soft, "-1"] for name, soft, _ in ours]
    theirs = start(5, accounts=[ME + 1] * 3, variables={"TOKEN": "s3cret", "KNOWN": "v"}, limits=ours)
    assert lacking([theirs], ME, block(api_environment={"KNOWN": "other"})) == ["TOKEN"]
    assert lacking([start(5, limits=ours)], ME, block()) == []
    told = lacking([{**theirs, "limits": more}], ME, block())
    assert told[:2] == ["KNOWN", "TOKEN"]
    assert set(told[2:]) == {name for name, _, hard in ours if hard != "-1"}
    assert lacking([], ME, block()) == []


@pytest.mark.parametrize(
    ("logs", "start", "end"),
    [
        (["logs/*.log"], "/srv/a/logs/api-restart-", ".log"),
        (["logs/train-*.log", "logs/api-*.log"], "/srv/a/logs/api-restart-", ".log"),
        (["logs/train-*.txt"], "/srv/a/logs/train-api-restart-", ".txt"),
        (["var/**/*.out"], "/srv/a/var/api-restart-", ".out"),
        (["*.log"], "/srv/a/api-restart-", ".log"),
        (["bin"], "/usr/bin/api-restart-", ".log"),
        (["logs/api.txt"], "/srv/a/logs/api.txt", ".txt"),
        ([], "/srv/a/api-restart-", ".log"),
    ],
)
def test_a_new_log_is_one_that_the_next_evacuation_collects(logs: list[str], start: str, end: str) -> None:
    path = new_log(block(logs=logs, **({"root": "/usr"} if logs == ["bin"] else {})))
    assert path.startswith(start)
    assert path.endswith(end)
