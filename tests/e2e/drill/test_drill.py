"""The README's first command, as a person runs it, and as a person interrupts it."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tasks.drill.sample_workload import every_process
from tests.support.workloads import wait_until

pytestmark = pytest.mark.soak  # five minutes of both processors; other scenes show what it is made of
PROJECT = Path(__file__).parents[3]
DRILL = [sys.executable, "-m", "flows.cli", "drill"]
LAST = re.compile(
    r"VERIFIED incident=(?P<incident>IR-\d{8}T\d{6}Z) contained_s=(?P<contained>[\d.]+) (?:stopped_s=[\d.]+ )?"
    r"total_s=[\d.]+ "
    r"files=(?P<files>\d+) bytes=\d+ evidence=(?P<evidence>/.*) store=s3://(?P<bucket>[^/]+)/(?P<prefix>.*)"
)


def family(folder: Path) -> list[psutil.Process]:
    """Processes of a drill: those whose command line or working directory lies in its folder."""
    return [process for process in every_process() if belongs(process, folder)]


def belongs(process: psutil.Process, folder: Path) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return str(folder) in " ".join(process.cmdline()) or Path(process.cwd()).is_relative_to(folder)
    except psutil.Error:
        return False


def folder_of(output: str) -> Path:
    """The drill's own folder, from its first line."""
    return Path(output.splitlines()[0].removeprefix("drill in "))


@pytest.fixture(scope="module")
def kept() -> Iterator[str]:
    """What `make drill KEEP=1` prints; what it left up is ended as it says."""
    done = subprocess.run(
        ["make", "--silent", "drill", "KEEP=1"], cwd=PROJECT, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    yield done.stdout
    (holder,) = re.findall(r"End both with: kill (\d+)", done.stdout)
    os.kill(int(holder), signal.SIGTERM)
    wait_until(lambda: not family(folder_of(done.stdout)), seconds=60, what="the end of what was left up")


def test_a_drill_ends_verified_with_a_line_that_a_script_can_read(kept: str) -> None:
    last = LAST.fullmatch(kept.splitlines()[-1])
    assert last, kept.splitlines()[-1]
    assert int(last["files"]) > 15
    assert float(last["contained"]) < 60
    evidence = Path(last["evidence"])
    sums = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(sums, cwd=evidence, check=False).returncode == 0
    tree = json.loads((evidence / "tree.json").read_bytes())
    assert sum("loky" in " ".join(process["command"]) for process in tree) >= 8
    assert all("open_files" in process for process in tree)


def test_a_drill_prints_each_step_once_under_a_heading_for_each_run(kept: str) -> None:
    runs = kept.split("$ prefect deployment run ")[1:]
    assert len(runs) == 2
    for run in runs:
        steps = [line.strip().split("  ")[0] for line in run.splitlines() if line.startswith("  §")]
        assert len(steps) == len(set(steps)) > 15
        assert run.count("  seconds  result\n") == 1


def test_a_drill_shows_who_signed_and_that_nobody_can_delete(kept: str) -> None:
    assert '  proven: ssh-keygen -Y verify: Good "evacuation" signature for evacuation@drill with ED25519 key' in kept
    assert "  proven: the store refuses to delete the manifest" in kept


def test_nothing_of_the_workload_is_left_after_a_drill(kept: str) -> None:
    folder = folder_of(kept)
    left = {" ".join(process.cmdline()) for process in family(folder / "workload")}
    assert left == set()
    assert not (folder / "evidence/cordon.json").exists()


def test_the_aws_cli_lists_and_downloads_what_the_manifest_names(kept: str, tmp_path: Path) -> None:
    last = LAST.fullmatch(kept.splitlines()[-1])
    assert last
    keys = dict(re.findall(r"(AWS_[A-Z_]+)=(\S+)", kept))
    (shown,) = [line for line in kept.splitlines() if " s3 ls " in line]
    aws, *options = shlex.split(shown)[:3]
    environment = {**os.environ, **keys}
    place = f"s3://{last['bucket']}/{last['prefix']}/evidence/"
    listed = subprocess.run(
        [aws, *options, "s3", "ls", "--recursive", place], env=environment, capture_output=True, text=True, check=True
    )
    subprocess.run(
        [aws, *options, "s3", "cp", "--recursive", "--only-show-errors", place, tmp_path], env=environment, check=True
    )
    manifest = json.loads((tmp_path / "manifest.json").read_bytes())
    names = {item["path"] for item in manifest["items"]} | {"manifest.json", "manifest.json.sig", "SHA256SUMS"}
    assert len(listed.stdout.splitlines()) == len(names)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == names
    sums = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(sums, cwd=tmp_path, check=False).returncode == 0


def test_ctrl_c_in_mid_evacuation_ends_everything_that_the_drill_started() -> None:
    with subprocess.Popen(DRILL, cwd=PROJECT, stdout=subprocess.PIPE, text=True, start_new_session=True) as drill:
        assert drill.stdout
        lines = [drill.stdout.readline()]
        while "freeze the workload" not in lines[-1]:
            lines.append(drill.stdout.readline())
            assert lines[-1], "".join(lines)
        os.killpg(drill.pid, signal.SIGINT)
        rest = drill.stdout.read()
        assert drill.wait(120) == 130, rest
    assert family(folder_of(lines[0])) == []
