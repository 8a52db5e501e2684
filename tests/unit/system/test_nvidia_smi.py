"""nvidia-smi as it answers, hangs, fails, prints rubbish or without end; a stand-in in a folder of the test."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tasks.system.gpu import compute_apps
from tests.support.workloads import wait_until


def stand_in(folder: Path, script: str, mode: int = 0o755) -> str:
    path = folder / "nvidia-smi"
    path.write_text(script)
    path.chmod(mode)
    return str(folder)


def test_without_the_program_nothing_is_said(tmp_path: Path) -> None:
    assert compute_apps(str(tmp_path)) is None
    assert compute_apps(stand_in(tmp_path, "#!/bin/sh\n", mode=0o644)) is None


def test_it_is_asked_for_processes_in_a_clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD_OF_THE_WORKLOAD", "1")
    monkeypatch.setenv("PATH", f"{tmp_path}/elsewhere")
    folder = stand_in(tmp_path, '#!/bin/sh\nprintf "%s\\n" "$@"; pwd; /usr/bin/env; /bin/cat\n')
    answer = compute_apps(folder)
    assert answer
    text, trouble = answer
    first, second, where, *environment = text.splitlines()
    assert trouble == ""
    assert (first, second) == (
        "--query-compute-apps=pid,used_memory,process_name",
        "--format=csv,noheader,nounits",
    )
    assert where == "/"
    assert {each.partition("=")[0] for each in environment} == {"PATH", "LC_ALL", "PWD"}


@pytest.mark.parametrize(
    ("script", "answer"),
    [
        ("#!/bin/sh\necho '4711, 8123, python'\n", ("4711, 8123, python\n", "")),
        ("#!/bin/sh\nprintf '\\377\\n'\n", ("\ufffd\n", "")),
        ("#!/bin/sh\n", ("", "")),
        ("#!/bin/sh\necho '4711, 1, x'; exit 9\n", ("", "nvidia-smi failed with 9")),
        ("#!/bin/sh\nkill -SEGV $$\n", ("", "nvidia-smi failed with -11")),
        ("#!/bin/sh\nexec /usr/bin/yes '4711, 8123, python'\n", ("", "nvidia-smi failed with -9")),
        ("#!/nowhere\n", ("", "nvidia-smi did not start: No such file or directory")),
        ("\x7fELF", ("", "nvidia-smi did not start: Exec format error")),
    ],
)
def test_what_it_says_or_why_it_does_not(tmp_path: Path, script: str, answer: tuple[str, str]) -> None:
    assert compute_apps(stand_in(tmp_path, script)) == answer


@pytest.mark.slow
def test_one_that_hangs_is_killed_and_not_waited_for(tmp_path: Path) -> None:
    folder = stand_in(tmp_path, f"#!/bin/sh\necho $$ >{tmp_path}/pid\necho '4711, 1, x'\nwhile :; do :; done\n")
    began = time.monotonic()
    assert compute_apps(folder, seconds=0.5) == ("", "nvidia-smi gave no answer within 0.5 s")
    assert time.monotonic() - began < 5
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), what="its end")


@pytest.mark.slow
def test_one_that_cannot_end_is_left_behind(tmp_path: Path) -> None:
    """What an uninterruptible wait looks like from here: the pipe stays open whatever is killed."""
    folder = stand_in(tmp_path, f"#!/bin/sh\n/usr/bin/setsid /bin/sleep 600 &\necho $! >{tmp_path}/pid\n")
    began = time.monotonic()
    try:
        assert compute_apps(folder, seconds=0.5) == ("", "nvidia-smi gave no answer within 0.5 s")
        assert time.monotonic() - began < 5
    finally:
        with suppress(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
