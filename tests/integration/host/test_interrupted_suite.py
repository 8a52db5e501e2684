"""What the tests start ends with them, whatever ends them: Ctrl-C, SIGTERM or SIGKILL, with and without namespaces."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.workloads import wait_until

_PROJECT = Path(__file__).parents[3]
_INNER = """
import time
from pathlib import Path

from tasks.containment.cordon import cordon
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload


def test_that_never_ends(tmp_path):
    with SmallWorkload(tmp_path / "work") as small, case_of(small.block()) as context:
        small.start_all()
        cordon.fn(context)
        {server}
        Path({there!r}).write_text("")
        time.sleep(600)
"""
_SERVER = """
        from prefect.testing.utilities import prefect_test_harness
        prefect_test_harness(server_startup_timeout=120).__enter__()
"""
_SHOWN = 200


def living(token: str) -> Iterator[str]:
    """Processes that name this folder in their command line or environment."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                words = (entry / "cmdline").read_bytes()
                if token.encode() in words + (entry / "environ").read_bytes():
                    yield f"{entry.name}: {words.replace(bytes(1), b' ').decode(errors='replace')[:_SHOWN]}"


@pytest.mark.soak
@pytest.mark.parametrize("namespaces", [True, False], ids=["namespaces", "no namespaces"])
@pytest.mark.parametrize("workers", [True, False], ids=["workers", "one process"])
@pytest.mark.parametrize("end", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_nothing_is_left_of_a_suite_that_is_interrupted(
    tmp_path: Path, end: str, *, workers: bool, namespaces: bool
) -> None:
    there = tmp_path / "there"
    (tmp_path / "test_inner.py").write_text(_INNER.format(server=_SERVER.strip(), there=str(there)))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "bin").mkdir()
    if not namespaces:
        (tmp_path / "bin/unshare").write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "bin/unshare").chmod(0o755)
    options = ["-p", "no:cacheprovider", f"--basetemp={tmp_path}/base", f"--rootdir={tmp_path}", str(tmp_path)]
    pytest_line = ["-m", "pytest", *options]
    spread = [sys.executable, *pytest_line, "--tx", "2*popen//python=tests/alone", "--dist", "load"]
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    with (tmp_path / "output").open("wb") as output:
        suite = subprocess.Popen(
            spread if workers else ["tests/alone", *pytest_line],
            cwd=_PROJECT,
            env={**os.environ, "PATH": path, "TMPDIR": f"{tmp_path}/", "PYTHONPATH": str(_PROJECT)},
            start_new_session=True,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: there.exists() or suite.poll() is not None, what="the inner test")
        assert suite.poll() is None, (tmp_path / "output").read_text()
        assert any("tasks.guard" in each for each in living(f"{tmp_path}/"))
        if end == "SIGINT":
            os.killpg(suite.pid, signal.SIGINT)
        else:
            suite.send_signal(signal.Signals[end])
        suite.wait(60)
        with suppress(AssertionError):
            wait_until(lambda: not [*living(f"{tmp_path}/")], 30)
        assert not [*living(f"{tmp_path}/")]
    finally:
        for each in living(f"{tmp_path}/"):
            with suppress(ProcessLookupError):
                os.kill(int(each.partition(":")[0]), signal.SIGKILL)
