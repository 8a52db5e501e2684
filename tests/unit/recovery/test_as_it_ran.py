"""What an evacuation keeps of the API's process, and a recovery gives back, without a server or a store."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from blocks.workload import Workload
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Frozen
from tasks.custody.models.contract import find_named_elsewhere
from tasks.evidence.collect import collect
from tasks.host.process.table import start_of
from tasks.recovery.api_client import NotRecovered
from tasks.recovery.process_api import ProcessApi
from tasks.recovery.recover import as_it_ran
from tasks.recovery.rehearsal import starts_of
from tasks.runtime.context import RunContext
from tasks.system.declarations import VARIABLE
from tests.support.limited_groups import join, limited_group
from tests.support.run_context import case_of
from tests.support.workloads import open_the_way, wait_until

SECRET = "cAnArY of the environment 7f1d"
COMMAND = ["sleep", "600"]


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[tuple[RunContext, Path]]:
    """An incident whose API is frozen, and the file to which its output goes."""
    (root := tmp_path / "root").mkdir()
    (log := tmp_path / "api.log").write_text("before\n")
    environment = {"PATH": "/opt/x:/usr/bin:/bin", "TOKEN": SECRET, "MODEL_PATH": "models/a.joblib"}
    with (
        log.open("a") as output,
        subprocess.Popen(COMMAND, cwd=root, env=environment, stdout=output, stderr=output, umask=0o027) as api,
        case_of(Workload(root=root, lock=tmp_path / "lock", api_command=COMMAND)) as context,
    ):
        wait_until(lambda: psutil.Process(api.pid).cmdline() == COMMAND, what="its command line")
        who, now = Identity(api.pid, start_of(api.pid)), datetime.now(UTC)
        context.state.frozen.write([Frozen(who, "api", "sleep 600", os.geteuid(), now, now)])
        try:
            yield context, log
        finally:
            api.kill()


def started(context: RunContext) -> psutil.Process:
    """The API as a recovery starts it; it is ended after the test by its context."""
    api = ProcessApi(context)
    api.start()
    return psutil.Process(api.identity.pid)


def end(process: psutil.Process) -> None:
    process.kill()
    os.waitpid(process.pid, 0)


@pytest.mark.slow
def test_it_is_kept_out_of_all_evidence_and_given_back(frozen: tuple[RunContext, Path]) -> None:
    context, log = frozen
    collect.fn(context, "tree")
    home = context.directory.path
    holding = [path for path in home.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert holding == [home / "starts.json"]
    assert holding[0].stat().st_mode & 0o777 == 0o600
    assert "models/a.joblib" not in ProcessApi(context).words  # its account may have chosen that
    api = started(context)
    try:
        assert api.environ() == {"PATH": "/opt/x:/usr/bin:/bin", "TOKEN": SECRET, "MODEL_PATH": "models/a.joblib"}
        assert Path(f"/proc/{api.pid}/fd/2").readlink() == log
        assert log.read_text() == "before\n"
    finally:
        end(api)
    (row,) = [each for each in context.log.entries() if each["action"] == "restarted"]
    assert row["output"] == str(log)
    assert SECRET not in json.dumps(row)


@pytest.mark.slow
def test_the_block_wins_over_what_was_and_another_command_runs_in_the_root(frozen: tuple[RunContext, Path]) -> None:
    context, _ = frozen
    (folder := context.workload.root / "in").mkdir()
    collect.fn(context, "tree")
    path = context.directory.path / "starts.json"
    (kept,) = json.loads(path.read_bytes())
    path.write_text(json.dumps([{**kept, "folder": str(folder)}]))
    block = context.workload
    for command, place in ((COMMAND, folder), (["sleep", "601"], block.root)):
        fields = {"api_command": command, "api_environment": {"TOKEN": "the block's"}}
        context.workload = block.model_copy(update=fields)
        api = started(context)
        try:
            assert (api.environ()["TOKEN"], api.cwd()) == ("the block's", str(place))
            assert api.environ()["PATH"] == "/opt/x:/usr/bin:/bin"
        finally:
            end(api)


def test_a_rehearsal_keeps_nothing_and_names_what_a_start_would_lack(
    frozen: tuple[RunContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, _ = frozen
    assert starts_of(context, as_it_ran(context))["what it runs with"] == (True, "as it is")
    monkeypatch.setattr("tasks.recovery.rehearsal.api_user", lambda *_: os.geteuid() + 1)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    good, told = starts_of(context, as_it_ran(context))["what it runs with"]
    assert (good, SECRET in told) == (False, False)
    assert told.startswith("without MODEL_PATH, PATH, TOKEN")
    context.run = replace(context.run, dry_run=True)
    monkeypatch.undo()
    collect.fn(context, "tree")
    assert not (context.directory.path / "starts.json").exists()


@pytest.mark.slow
def test_what_was_started_is_compared_with_what_was_kept(frozen: tuple[RunContext, Path]) -> None:
    context, _ = frozen
    collect.fn(context, "tree")
    path = context.directory.path / "starts.json"
    (kept,) = json.loads(path.read_bytes())
    api = ProcessApi(context)
    api.start()
    try:
        assert api.find_doubt() == ""
        others = {"groups": [4, 33], "no_new_privs": "7"}
        path.write_text(json.dumps([{**kept, "umask": 0o077, "conditions": {**kept["conditions"], **others}}]))
        context.state.recovered.write([api.identity])
        told = ProcessApi(context)
        assert told.again()
        words = told.find_doubt()
        assert "umask, groups 4, 33, no_new_privs" in words
        path.write_text(json.dumps([{**kept, "accounts": [os.geteuid() + 1] * 3}]))
        told = ProcessApi(context)
        assert told.again()
        assert told.find_doubt() == "", "it has all that was kept, whoever had it"
        path.unlink()
        told = ProcessApi(context)
        assert told.again()
        assert "was not read" in told.find_doubt()
        assert SECRET not in words
    finally:
        end(psutil.Process(api.identity.pid))


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("command", [COMMAND, ["sh", "-c", "sleep 601 & exec sleep 600"]])
def test_an_api_of_another_account_comes_back_with_the_groups_it_had(tmp_path: Path, command: list[str]) -> None:
    open_the_way(tmp_path)
    (root := tmp_path / "root").mkdir()
    os.chown(root, 65534, 65534)
    account: dict[str, Any] = {"user": 65534, "group": 4, "extra_groups": [4, 33, 34], "umask": 0o027}
    block = Workload(root=root, lock=tmp_path / "lock", api_command=command)
    with (
        subprocess.Popen(command, cwd=root, env={"PATH": "/usr/bin:/bin"}, start_new_session=True, **account) as was,
        case_of(block) as context,
    ):
        try:
            wait_until(lambda: psutil.Process(was.pid).cmdline() == COMMAND, what="its command line")
            who, now = Identity(was.pid, start_of(was.pid)), datetime.now(UTC)
            context.state.frozen.write([Frozen(who, "api", "sleep 600", 65534, now, now)])
            assert starts_of(context, as_it_ran(context))["what it runs with"] == (True, "as it is")
            collect.fn(context, "tree")
        finally:
            os.killpg(was.pid, signal.SIGKILL)
        api = ProcessApi(context)
        api.start()
        try:
            wait_until(lambda: psutil.Process(api.identity.pid).cmdline() == COMMAND, what="its command line")
            assert "\nGroups:\t4 33 34 \n" in Path(f"/proc/{api.identity.pid}/status").read_text()
            assert api.find_doubt() == ""
        finally:
            api.end()
            os.waitpid(api.identity.pid, 0)


@pytest.mark.slow
def test_an_incident_that_froze_no_api_names_the_earlier_one_that_has_kept_how_it_ran(
    frozen: tuple[RunContext, Path],
) -> None:
    earlier, _ = frozen
    collect.fn(earlier, "tree")
    first, home = earlier.incident.id, earlier.directory.path
    earlier.state.container_files.write(["/app/a.log"])
    earlier.close()
    for has_starts, verdict in ((True, "VERIFIED"), (True, "THAWED"), (False, "VERIFIED")):
        (home / "record/001").mkdir(parents=True, exist_ok=True)
        (home / "record/001/closing.json").write_text(json.dumps({"verdict": verdict}))
        if not has_starts:
            (home / "starts.json").unlink()
        cure = has_starts and verdict == "VERIFIED"
        with case_of(earlier.workload, incident="IR-20260102T040405Z") as context:
            good, why = starts_of(context, as_it_ran(context))["what it runs with"]
            assert (good, first in why) == (False, has_starts)
            api = ProcessApi(context)
            api.start()
            try:
                words = api.find_doubt()
                assert (f"`recover --incident {first}`" in words) is cure
                assert (f"kill {api.identity.pid}" in words) is cure
                assert (first in words) is has_starts
                assert ("it was thawed" in words) is (has_starts and not cure)
            finally:
                end(psutil.Process(api.identity.pid))


@pytest.mark.parametrize("is_asked", [True, False])
def test_an_api_that_nobody_has_seen_comes_back_by_the_block_and_counts_if_a_person_asks_for_that(
    tmp_path: Path, *, is_asked: bool
) -> None:
    (tmp_path / "root").mkdir()
    with case_of(Workload(root=tmp_path / "root", lock=tmp_path / "lock", api_command=COMMAND)) as context:
        good, why = starts_of(context, as_it_ran(context))["what it runs with"]
        assert (good, "no API ran at the freeze" in why) == (False, True)
        api = ProcessApi(context, is_asked=is_asked)
        api.start()
        try:
            assert ("`recover --as process`" in api.find_doubt()) is not is_asked
        finally:
            end(psutil.Process(api.identity.pid))


def test_without_anything_known_it_has_a_clean_environment_and_a_log_that_is_collected(
    frozen: tuple[RunContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    context, _ = frozen
    api = started(context)
    try:
        assert {"PATH", "HOME"} <= api.environ().keys()
        assert SECRET not in api.environ().values()
        assert Path(f"/proc/{api.pid}/fd/2").readlink().match(f"{context.workload.root}/logs/api-restart-*.log")
    finally:
        end(api)


def test_a_command_that_cannot_run_is_no_recovery(frozen: tuple[RunContext, Path]) -> None:
    context, _ = frozen
    context.workload = context.workload.model_copy(update={"api_command": ["venv/bin/gone"]})
    with pytest.raises(NotRecovered, match=r"venv/bin/gone: .*No such file"):
        ProcessApi(context).start()


def test_a_relative_name_in_the_blocks_environment_is_one_file_of_its_models(
    frozen: tuple[RunContext, Path],
) -> None:
    context, _ = frozen
    (models := context.workload.root / "models").mkdir()
    (models / "a.joblib").touch()
    given = {"models": ["models/**/*.joblib"], "api_environment": {"MODEL_FILE": "a.joblib", "LANG": "C"}}
    block = context.workload = context.workload.model_copy(update=given)
    way = ProcessApi(context)
    assert [*way.words] == [*COMMAND, str(models / "a.joblib"), "C"]
    assert find_named_elsewhere(way.words, str(block.root), "a.joblib", ["models/a.joblib"]) == []
    (block.root / "a.joblib").touch()
    assert [*way.words] == [*COMMAND, "a.joblib", "C"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_rehearsal_promises_no_start_as_root_that_a_recovery_refuses(
    frozen: tuple[RunContext, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, _ = frozen
    (hosts := tmp_path / "hosts").mkdir()
    monkeypatch.setenv(VARIABLE, str(hosts))
    collect.fn(context, "tree")
    assert starts_of(context, as_it_ran(context))["the start as it ran"] == (True, "its service or api_command")
    ProcessApi(context).prepare()
    context.workload.root.chmod(0o777)
    good, told = starts_of(context, as_it_ran(context))["the start as it ran"]
    assert (good, told.partition(";")[0]) == (
        False,
        "expected an account other than root for a command of the workload",
    )
    with pytest.raises(NotRecovered) as refused:
        ProcessApi(context).prepare()
    assert told in str(refused.value)
    assert ".." not in str(refused.value)
    (hosts / "house.toml").write_text(f'root = "{context.workload.root}"\nuser = "root"\n')
    assert starts_of(context, as_it_ran(context))["the start as it ran"] == (True, "its service or api_command")
    context.workload = context.workload.model_copy(update={"api_command": ["venv/bin/gone"]})
    assert starts_of(context, as_it_ran(context))["the start as it ran"] == (
        False,
        "api_command: venv/bin/gone is no program here",
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "value", "told"),
    [
        ("memory.max", "734003200", "memory limit of its control group, 734003200 bytes"),
        ("pids.max", "321", "limit of processes of its control group, 321 processes"),
        ("pids.max", "max", ""),
    ],
)
@pytest.mark.parametrize("below", [(), ("user.slice", "user-7.slice", "session-3.scope")])
def test_a_limit_of_its_control_group_that_no_start_gives_back_is_foretold_and_named(
    frozen: tuple[RunContext, Path], file: str, value: str, told: str, below: tuple[str, ...]
) -> None:
    context, _ = frozen
    (who,) = (each.identity for each in context.state.frozen.read())
    with limited_group(file, value, *below) as place:
        join(place, who.pid)
        good, foretold = starts_of(context, as_it_ran(context))["what it runs with"]
        collect.fn(context, "tree")
        os.kill(who.pid, signal.SIGKILL)
        os.waitid(os.P_PID, who.pid, os.WEXITED | os.WNOWAIT)
        api = ProcessApi(context)
        api.start()
        try:
            words = api.find_doubt()
        finally:
            end(psutil.Process(api.identity.pid))
    assert (good, foretold) == ((False, f"without {told}") if told else (True, "as it is"))
    assert words.partition(" 元の実行条件と異なる")[0] == (f"that it runs as it ran, by: {told}" if told else "")


@pytest.mark.slow
@pytest.mark.parametrize(
    "left",
    [
        "setsid sleep 601 &",
        "nohup sleep 601 >/dev/null &",
        "(setsid sh -c 'setsid sleep 601 & exit' &)",
        "perl -MPOSIX -e 'fork and exit; setsid; chdir \"/\"; fork and exit; exec qw(sleep 601)'",
        "",
    ],
)
@pytest.mark.parametrize("stays", [True, False])
def test_what_a_start_has_left_ends_with_it_and_no_other_process_does(
    frozen: tuple[RunContext, Path], left: str, *, stays: bool
) -> None:
    context, _ = frozen
    context.workload = context.workload.model_copy(
        update={"api_command": ["sh", "-c", f"{left}\n{'sleep 602' * stays}"]}
    )

    def begotten() -> list[psutil.Process]:
        found = psutil.process_iter(["cmdline", "cwd", "status"])
        return [each for each in found if each.info["cmdline"] in (["sleep", "601"], ["sleep", "602"])]

    def dead() -> list[psutil.Process]:
        return [each for each in psutil.Process().children() if each.status() == psutil.STATUS_ZOMBIE]

    with subprocess.Popen(["sh", "-c", "sleep 603 & sleep 603"], start_new_session=True) as other:
        api = ProcessApi(context)
        api.start()
        try:
            wait_until(lambda: len(begotten()) == bool(left) + stays, what="all that it starts")
            wait_until(lambda: api.lives() is stays, what="its end")
            if not stays:
                assert api.why_ended().startswith("it ended with 0; api_command has to stay in the foreground")
            api.end()
            assert begotten() == []
            assert {each.pid for each in dead()} <= {api.identity.pid}
            assert len(psutil.Process(other.pid).children()) == 2
        finally:
            os.killpg(other.pid, signal.SIGKILL)
            for each in begotten():
                each.kill()
            os.waitpid(api.identity.pid, 0)


def test_a_start_that_fails_by_itself_is_told_with_how_it_ended(frozen: tuple[RunContext, Path]) -> None:
    context, _ = frozen
    context.workload = context.workload.model_copy(update={"api_command": ["sh", "-c", "exit 3"]})
    api = ProcessApi(context)
    api.start()
    wait_until(lambda: not api.lives(), what="its end")
    assert api.why_ended() == "it ended with 3"
    api.end()
    os.waitpid(api.identity.pid, 0)
