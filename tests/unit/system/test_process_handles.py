"""What is read of processes and of the root's age, where a file system or a command line is not as expected."""

import subprocess
import time
from pathlib import Path

import pytest

from tasks.system.places import Places
from tasks.system.process_handles import birth_of, read_handles
from tasks.system.processes import read_process
from tests.support.workloads import wait_until


@pytest.mark.parametrize("path", ["/", "/proc", "/sys", "/dev"])
def test_of_every_file_system_a_time_of_birth_is_known_or_not(path: str) -> None:
    """A kernel that fills in all that it was not asked for ended the look with an error."""
    assert 0 < birth_of(path) <= float("inf")


def test_a_folder_was_made_when_it_was_made(tmp_path: Path) -> None:
    began = time.time()
    made = tmp_path / "made"
    made.mkdir()
    assert birth_of(str(made)) == float("inf") or abs(birth_of(str(made)) - began) < 5
    assert birth_of(str(tmp_path / "missing")) == float("inf")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("--app-dir={}", True),
        ("{}/src/train.py", True),
        ("import sys; sys.path.append('{}')", True),
        ("{}2:{}", True),
        ("{}2/src/train.py", False),
        ("{}-old", False),
        ("src/train.py", False),
    ],
)
@pytest.mark.parametrize("variable", ["PYTHONPATH", "HOME", ""])
def test_a_process_names_the_root_by_an_argument_or_by_a_variable_that_leads_there(
    tmp_path: Path, text: str, variable: str, *, names: bool
) -> None:
    word = text.replace("{}", str(tmp_path))
    words, environment = ([], {variable: word}) if variable else ([word], {})
    command = ["sh", "-c", "read line", "sh", *words]
    with subprocess.Popen(
        command, cwd="/", env={"PATH": "/usr/bin:/bin", **environment}, stdin=subprocess.PIPE
    ) as child:
        try:
            wait_until(lambda: Path(f"/proc/{child.pid}/cmdline").read_bytes().startswith(b"sh"), what="its exec")
            places = Places(tmp_path)
            process = read_process(child.pid, None, places)
            assert process
            (handles,) = read_handles([process], places).values()
        finally:
            child.kill()
    assert bool(handles.names_root) is (names and variable != "HOME")
