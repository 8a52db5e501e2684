"""An API of several processes: each that does not come with the one that is compared is looked for by itself."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from blocks.workload import Workload
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Frozen
from tasks.evidence.collect import collect
from tasks.evidence.other_starts import find_beside, pair
from tasks.host.process.table import start_of
from tasks.recovery.process_api import ProcessApi
from tests.support.run_context import case_of
from tests.support.workloads import wait_until

FRONT, HUB = ["sleep", "600.25"], ["sleep", "601.25"]
NICER = "by: nice" if os.geteuid() else ""  # root gives that back
USUAL = "nice -n 3 sleep 601.25 >>hub.log 2>&1 &"


def living(*commands: Sequence[str]) -> list[psutil.Process]:
    """The processes that run one of these."""
    found = psutil.process_iter(["cmdline"])
    return [each for each in found if each.info["cmdline"] in [list(command) for command in commands]]


@contextmanager
def evacuated(root: Path, script: str, *, hub: bool = True, above: Sequence[str] = ()) -> Iterator[ProcessApi]:
    """The API by what an incident has kept of its processes, which are gone; the script is its start.

    The hub writes into a file of its own, and is nicer. `above` is what had started the front.
    """
    root.mkdir()
    (root / "up.sh").write_text(script)
    environment = {"PATH": "/usr/bin:/bin", "MODE": "prod"}
    block = Workload(root=root, lock=root.parent / "lock", api_command=["sh", "up.sh"], api_pattern=r"sleep 60\d\.25")
    with ExitStack() as files, case_of(block) as context:

        def start(command: Sequence[str], log: str) -> int:
            output = files.enter_context((root / log).open("a"))
            how: dict[str, Any] = {"stdout": output, "stderr": output, "env": environment, "cwd": root}
            return files.enter_context(subprocess.Popen(command, **how)).pid

        start([*(above or FRONT)], "front.log")
        wait_until(lambda: living(FRONT), what="the front")
        if hub:
            start(["nice", "-n", "3", *HUB], "hub.log")
            wait_until(lambda: living(HUB), what="the hub")
        now, rows = datetime.now(UTC), living(FRONT, HUB, above)
        found = [Identity(each.pid, start_of(each.pid)) for each in rows]
        context.state.frozen.write([Frozen(each, "api", "x", os.geteuid(), now, now) for each in found])
        collect.fn(context, "tree")
        for each in rows:  # first all stand: one that repeats another starts none
            each.suspend()
        for each in rows:
            each.kill()
        wait_until(lambda: not living(FRONT, HUB), what="their end")
        api = ProcessApi(context)
        try:
            yield api
        finally:
            api.end()
            os.waitpid(api.identity.pid, 0)


@pytest.mark.sample(4)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "told"),
    [
        (f"{USUAL}\nexec sleep 600.25", ""),
        (f"{USUAL}\nsleep 600.25", ""),
        ("sleep 600.25 &\nsetsid nice -n 3 sleep 601.25 >>hub.log 2>&1 &\nwait", ""),
        ("sleep 601.25 >>hub.log 2>&1 &\nexec sleep 600.25", f"sleep 601.25 beside it, {NICER}" if NICER else ""),
        ("nice -n 3 sleep 601.25 &\nexec sleep 600.25", "sleep 601.25 beside it, by: output HUB"),
        (
            "cd /\nMODE=test nice -n 3 sleep 601.25 >>$OLDPWD/hub.log 2>&1 &\nexec sleep 600.25",
            "sleep 601.25 beside it, by: MODE, folder",
        ),
        ("exec sleep 600.25", "sleep 601.25 beside it is missing"),
        (f"{USUAL}\nexec nice -n 4 sleep 600.25", NICER),
        (f"{USUAL}\nnice -n 4 sleep 600.25", NICER),
    ],
)
def test_the_second_process_is_compared_too_and_one_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, told: str
) -> None:
    monkeypatch.setattr("tasks.recovery.process_api._COMING_SECONDS", 0.5 if "missing" in told else 20)
    with evacuated(tmp_path / "root", script) as api:
        api.start()
        doubt = api.find_doubt()
        told = told.replace("HUB", str(tmp_path / "root/hub.log"))
        assert doubt.partition(" 元の実行条件と異なる")[0].removesuffix(" 復旧後に不在") == (
            told and f"that it runs as it ran, {told}"
        )
        api.keep()
        again = ProcessApi(api.context)
        assert again.again()
        assert again.find_doubt() == doubt


@pytest.mark.slow
@pytest.mark.parametrize(
    ("above", "told"),
    [
        (["sh", "-c", "sleep 600.25; true"], ""),
        (["flock", "lock", *FRONT], ""),
        (["sh", "loop.sh"], "sh loop.sh beside it is missing"),
    ],
)
def test_what_only_carried_the_command_is_not_missed_and_what_repeated_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, above: list[str], told: str
) -> None:
    monkeypatch.setattr("tasks.recovery.process_api._COMING_SECONDS", 0.5)
    (tmp_path / "loop.sh").write_text("while :; do sleep 600.25; done\n")
    above = [str(tmp_path / word) if word == "loop.sh" else word for word in above]
    with evacuated(tmp_path / "root", "exec sleep 600.25", hub=False, above=above) as api:
        api.context.workload = api.context.workload.model_copy(update={"api_command": FRONT})
        api.start()
        assert told.replace("loop.sh", str(tmp_path / "loop.sh")) in api.find_doubt()
        assert bool(told) is bool(api.find_doubt())


@pytest.mark.slow
def test_a_living_api_is_judged_by_the_start_that_it_had_whatever_the_block_says_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its block was given the start that had been missed, nothing was started anew, and the word was Recovered."""
    monkeypatch.setattr("tasks.recovery.process_api._COMING_SECONDS", 0.5)
    (tmp_path / "run.sh").write_text("sleep 600.25\ntrue\n")
    whole = ["sh", str(tmp_path / "run.sh")]
    with evacuated(tmp_path / "root", "exec sleep 600.25", hub=False, above=whole) as api:
        block, context = api.context.workload, api.context
        other = {"api_environment": {"MODE": "prod"}}
        context.workload = block.model_copy(update={"api_command": FRONT})
        api.start()
        doubt = api.find_doubt()
        assert "run.sh beside it is missing" in doubt
        api.keep()
        for change in ({"api_command": whole}, {"api_command": FRONT} | other, {"api_command": FRONT}):
            context.workload = block.model_copy(update=change)
            again = ProcessApi(context)
            assert again.again()
            told = again.find_doubt()
            is_same = change == {"api_command": FRONT}
            assert (told == doubt) is is_same
            assert (f"kill {api.identity.pid}, then recover again" in told) is not is_same
        context.workload = block.model_copy(update={"api_command": whole})
        api.end()
        os.waitpid(api.identity.pid, 0)
        assert not ProcessApi(context).again()
        api.start()
        assert api.find_doubt() == ""
        api.keep()
        again = ProcessApi(context)
        assert again.again()
        assert again.find_doubt() == ""


@pytest.mark.slow
def test_what_was_frozen_and_could_not_be_read_is_named(tmp_path: Path) -> None:
    with evacuated(tmp_path / "root", f"{USUAL}\nexec sleep 600.25") as api:
        now, state = datetime.now(UTC), api.context.state
        state.frozen.write([*state.frozen.read(), Frozen(Identity(1, 1), "api", "python w.py", 0, now, now)])
        api.start()
        assert "python w.py beside it, which could not be read" in api.find_doubt()


def row(pid: int, command: str, parent: int = 0) -> dict[str, Any]:
    return {"pid": pid, "parent": parent, "command": command.split(), "folder": "/"}


@pytest.mark.parametrize(
    ("starts", "beside"),
    [
        ([row(5, "a"), row(6, "b", 5), row(7, "c", 6)], []),
        ([row(5, "a"), row(6, "b"), row(7, "c", 6)], [6]),
        ([row(4, "sh -c a"), row(5, "a", 4), row(6, "b", 4)], [6]),
        ([row(4, "uv run gunicorn app:app"), row(5, "/v/python /v/bin/gunicorn app:app", 4), row(6, "w", 5)], []),
        ([row(4, "sh loop"), row(5, "python api.py", 4), row(6, "b", 4)], [4]),
        ([{"command": ["a"]}, {"command": ["b"]}], []),
    ],
)
def test_children_come_with_their_parent(starts: list[dict[str, Any]], beside: list[int]) -> None:
    compared = next((each for each in starts if each.get("pid") == 5), starts[0])
    assert [each["pid"] for each in find_beside(starts, compared)] == beside


def test_a_command_line_is_found_once_for_each_that_had_it_also_by_a_whole_path(tmp_path: Path) -> None:
    (tmp_path / "hub.py").touch()
    was = [{**row(1, f"python {tmp_path}/hub.py"), "folder": "/"}] * 2
    now = [{**row(8, "python hub.py"), "folder": str(tmp_path)}, row(9, "other")]
    assert [there.get("pid") for _, there in pair(was, now)] == [8, None]


@pytest.mark.parametrize(("folder", "same"), [("bin", True), ("other", False), ("none", False)])
def test_a_bare_name_is_the_program_that_its_start_has_found(tmp_path: Path, folder: str, *, same: bool) -> None:
    """It was started as `bash start.sh`, came back by `/usr/bin/bash start.sh`, and was missed for ever."""
    for name in ("bin", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "serve").write_text("#!/bin/sh\n")
        (tmp_path / name / "serve").chmod(0o755)
    was = {"command": ["serve", "it"], "folder": "/", "variables": {"PATH": str(tmp_path / folder)}}
    now = {"command": [str(tmp_path / "bin/serve"), "it"], "folder": "/", "variables": {}}
    ((_, there),) = pair([was], [now])
    assert there == (now if same else {})
