"""Whatever lies where one stands, nothing of it is imported: root's commands and their children run ours alone."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from tasks.collectors.zygote import Zygote
from tasks.deployment.deployments import render
from tasks.drill.apart import run_drill
from tasks.system.sandbox import Limits, run_confined

PROJECT = Path(__file__).parents[3]
EVACUATION = Path(sys.executable).with_name("evacuation")
NAMES = ("selectors", "json", "tasks", "flows", "prefect", "blocks", "evacuation", "asyncio", "subprocess")
LEAVE = (
    "import os\nos.close(os.open({mark!r}, os.O_CREAT | os.O_WRONLY))\nraise SystemExit('a stranger was imported')\n"
)
SECONDS = 180.0

COMMANDS = [
    "answer",
    "audit",
    "deploy",
    "doctor",
    "drill",
    "fleet",
    "init",
    "install",
    "key",
    "plan",
    "pull",
    "recover",
    "rollback",
    "run",
    "status",
    "thaw",
    "uncordon",
    "uninstall",
    "version",
]
MODULES = [
    "flows.cli",
    "flows.deadline",
    "flows.engine",
    "tasks.collectors",
    "tasks.collectors.zygote",
    "tasks.models.scanner",
    "tasks.models.zip_scanner",
    "tasks.guard",
    "tasks.silence",
    "tasks.system.start_as",
    "tasks.system.priority",
    "prefect",
]
"""What our own processes start as `python -P -m MODULE`."""
ISOLATED = ("tasks/system/managed_process.py", "tasks/system/sandbox.py")
"""Files that our own processes start as scripts, by `python -I`."""
NO_CHILD = (
    "Path(sys.executable)",  # what lies beside it
    "sys.executable, Path",
    "realpath(sys.executable)",
    "{sys.executable} -P",  # what an error says
    '"--python", sys.executable',  # uv's
    "str(interpreter) if own else sys.executable",  # -I, on the next words
    "POOL, sys.executable",  # the interpreter of deployments
    "engine or sys.executable",
    "python or sys.executable",
    "os.execve(sys.executable, [",
)
"""Other uses of our interpreter's path."""


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What a stranger's module makes when it is imported."""
    return tmp_path / "imported"


@pytest.fixture
def hostile(tmp_path: Path, mark: Path) -> Path:
    """A folder, as a workload's account would prepare it for root to stand in."""
    (folder := tmp_path / "here").mkdir()
    for name in NAMES:
        (folder / name).mkdir()
        for module in ("__init__", "__main__", "cli", "engine", "worker"):
            (folder / name / f"{module}.py").write_text(LEAVE.format(mark=str(mark)))
    return folder


@pytest.fixture
def settings(hostile: Path, mark: Path) -> Path:
    """The same, with settings of Prefect's: they name what is called when it sets up its log."""
    (hostile / "prefect.toml").write_text('[logging]\nconfig_path = "logging.yml"\n')
    opens = {"x": {"()": "builtins.open", "file": str(mark), "mode": "w"}}
    (hostile / "logging.yml").write_text(json.dumps({"version": 1, "filters": opens}))
    return hostile


def ended(command: Sequence[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command there to its end."""
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PREFECT_API_URL": "http://127.0.0.1:9/api", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_what_is_planted_there_would_be_imported(hostile: Path, mark: Path) -> None:
    ended([sys.executable, "-m", "tasks.silence"], hostile)
    assert mark.exists()


@pytest.mark.whole
def test_the_settings_that_lie_there_would_be_taken(settings: Path, mark: Path) -> None:
    ended([sys.executable, "-P", "-c", "from prefect.logging.configuration import setup_logging as s; s()"], settings)
    assert mark.exists()


@pytest.mark.whole
def test_no_settings_are_taken_by_a_run(settings: Path, mark: Path, tmp_path: Path) -> None:
    tables = (
        f'[workload.w]\nroot = "{tmp_path}"\nevidence_dir = "{tmp_path}/evidence"\n[store.w]\nfolder = "{tmp_path}/s"\n'
    )
    (settings / "w.toml").write_text(tables)
    told = ended([str(EVACUATION), "plan", "w.toml"], settings)
    assert "DryRun" in told.stdout, told
    assert not mark.exists()


def test_each_command_is_tried() -> None:
    told = ended([str(EVACUATION), "--help"], Path("/")).stdout
    found = {words[1] for line in told.splitlines() if (words := line.split()) and words[0] == "│" and words[1:]}
    listed = {word for word in found if re.fullmatch(r"[a-z]+", word)}
    assert {*COMMANDS, "worker"} <= listed


@pytest.mark.short(1)
@pytest.mark.sample(4)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_imports_nothing_from_where_one_stands(command: str, hostile: Path, mark: Path) -> None:
    words = {"drill": ["--help"], "install": ["none.toml", "--dry-run"], "uninstall": ["--help"], "version": []}
    words |= {"key": ["/dev/null/signing.key"], "init": ["."]}
    ended([str(EVACUATION), command, *words.get(command, ["none.toml"])], hostile)
    assert not mark.exists()


def test_the_worker_and_the_command_of_its_runs_import_nothing_from_there(hostile: Path, mark: Path) -> None:
    told = ended([str(EVACUATION), "worker", "--no-such-option"], hostile, PREFECT_API_URL="http://name.invalid/api")
    assert "Unknown option" in told.stderr + told.stdout, told
    assert not mark.exists()


@pytest.mark.parametrize("file", ["prefect.yaml", "examples/fleet/fleet.yaml"])
def test_the_command_of_every_deployment_is_safe(file: str) -> None:
    import yaml

    names = re.findall(r"(?:EVACUATION_|evacuation\.)(\w+)", (PROJECT / file).read_text())
    values = {name.lower(): "x" for name in names}
    for deployment in yaml.safe_load((PROJECT / file).read_text())["deployments"]:
        command = render(deployment, values)["work_pool"]["job_variables"]["command"]
        assert re.fullmatch(r"'x' -P -m (flows|prefect)\.engine", command), deployment["entrypoint"]


@pytest.mark.sample(3)
@pytest.mark.parametrize("module", MODULES)
def test_a_child_imports_nothing_from_where_it_is_started(module: str, hostile: Path, mark: Path) -> None:
    words = {"flows.cli": ["version"], "prefect": ["version"], "tasks.system.priority": ["true"]}
    ended([sys.executable, "-P", "-m", module, *words.get(module, [])], hostile)
    assert not mark.exists()


@pytest.mark.parametrize("file", ISOLATED)
def test_a_script_imports_nothing_from_where_it_is_started(file: str, hostile: Path, mark: Path) -> None:
    ended([sys.executable, "-I", "-S", str(PROJECT / file)], hostile)
    assert not mark.exists()


def test_every_child_is_among_those_that_are_tried() -> None:
    """A new one has to start by -P or -I, and to be named above."""
    modules = set[str]()
    for path in (path for package in ("blocks", "flows", "tasks") for path in (PROJECT / package).rglob("*.py")):
        text = path.read_text()
        for found in re.finditer(r"sys\.executable", text):
            near = text[max(0, found.start() - 40) : found.end() + 60].replace("\n", " ")
            if any(word in near for word in NO_CHILD):
                continue
            assert re.match(r'sys\.executable, "-(u?P|I|S", "-P)"', text[found.start() : found.end() + 20]), (
                path,
                near,
            )
        modules |= {*re.findall(r'"-m",\s*"([\w.]+)"', text)}
        modules |= {*re.findall(r'^(?:GUARD|KEEPER): Final = "([\w.]+)"', text, re.MULTILINE)}
    assert modules - {"uvicorn", "blocks"} | {"flows.engine"} == {*MODULES}  # its deployments start that one


@pytest.mark.whole
def test_a_collector_stands_in_the_root_and_imports_nothing(hostile: Path, mark: Path) -> None:
    """A repository with a package `tasks` broke each of them."""
    code = (
        "import os, sys; from tasks.collectors.zygote import INTERPRETER, start\n"
        "import tempfile\n"
        "for program in ((), INTERPRETER):\n"
        "    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as told:\n"
        "        ended = start(['none', '/'], [given.fileno(), told.fileno(), told.fileno()], program).wait(50)\n"
        "        told.seek(0); print(ended, told.read().decode())\n"
    )
    told = ended([sys.executable, "-P", "-c", code], hostile)
    assert told.stdout.count("json.decoder.JSONDecodeError") == 2, told
    assert not mark.exists()


def test_the_zygote_stands_in_the_root(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hostile)
    zygote = Zygote()
    with open(os.devnull, "r+b") as nothing:  # noqa: PTH123  a device
        zygote.fork(["none", "/"], [nothing.fileno()] * 3).wait(SECONDS)
        assert zygote.pid
        assert psutil.Process(zygote.pid).cwd() == "/"
    zygote.end()


def test_a_confined_program_is_started_from_the_root(
    hostile: Path, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(hostile)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123  a device
        program = [sys.executable, "-P", "-m", "tasks.models.scanner", "[]", "[]", "[]", '""']
        answer = run_confined(program, nothing, Limits(SECONDS, 2 << 30))
    assert b'"outcome"' in answer.output, answer
    assert not mark.exists()


def test_a_drill_apart_is_started_from_the_root(hostile: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hostile)
    assert run_drill(lambda _: None, [sys.executable, "-P", "-c", "import os; print(os.getcwd())"]) == (True, "/")
    assert not mark.exists()
