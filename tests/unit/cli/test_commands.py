"""The command line: what is understood at a glance, what is refused, what goes to which stream, what is imported."""

import inspect
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from blocks.directory import DirectoryStore
from flows.cli import RUN_OPTIONS, RUN_SWITCHES, run, to_freeze
from flows.command import commands, freeze_before_import
from tasks.cli.output import SCHEMA
from tasks.cli.store_argument import named_store
from tasks.custody.errors import Refused
from tasks.custody.incident.exit_codes import REFUSED
from tests.support.holdings import FIRST, snapshot, turn_for
from tests.support.workloads import SmallWorkload

COMMANDS = [
    "run",
    "plan",
    "recover",
    "status",
    "doctor",
    "thaw",
    "answer",
    "uncordon",
    "audit",
    "rotate",
    "pull",
    "rollback",
    "fleet",
    "deploy",
    "init",
    "install",
    "uninstall",
    "key",
    "worker",
    "drill",
    "version",
]


@pytest.fixture
def file(small: SmallWorkload, tmp_path: Path) -> Path:
    """A workload and a store with one promotion."""
    (folder := tmp_path / "store").mkdir()
    turn_for(DirectoryStore(folder), snapshot(DirectoryStore(folder), FIRST, model="1"))
    path = tmp_path / "evacuation.toml"
    path.write_text(f'[workload.small]\nroot = "{small.root}"\n[store.small]\nfolder = "{folder}"\n')
    return path


def typed(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows.cli", *words]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "frozen"),
    [
        (["run", "a.toml"], ("a.toml", "", None)),
        (["run", "--json", "--policy", "kill", "a.toml:b", "--recover"], ("a.toml:b", "", None)),
        (["run", "a.toml", "--incident", "IR-1"], ("a.toml", "", "IR-1")),
        (["run", "--incident=IR-1", "--reason=--help", "a.toml", "--store", "s.toml"], ("a.toml", "s.toml", "IR-1")),
        (["run", "a.toml", "--policy", "kil"], None),
        (["run", "a.toml", "--suspects=all"], None),
        (["run", "a.toml", "--unknown", "end"], ("a.toml", "", None)),
        (["run", "a.toml", "--unknown=bystander"], None),
        (["run", "a.toml", "--incident", "IR-20260102T030405Z", "--new"], ("a.toml", "", None)),
        (["run", "a.toml", "--incident", "IR-1", "--new"], None),
        (["run", "--new", "a.toml"], None),
        (["answer", "a.toml", "IR-1", "7", "end"], None),
        (["run", "a.toml", "--reason", "--dry-run"], None),
        (["run"], (".", "", None)),
        (["run", "a.toml", "b.toml"], None),
        (["run", "a.toml", "--dry-run"], None),
        (["run", "a.toml", "--help"], None),
        (["run", "a.toml", "-h"], None),
        (["run", "a.toml", "--recovr"], None),
        (["run", "a.toml", "--reason"], None),
        (["plan", "a.toml"], None),
        (["recover", "a.toml"], None),
    ],
)
def test_only_a_run_that_is_understood_freezes_before_it_is_parsed(words: list[str], frozen: object) -> None:
    assert to_freeze(words) == frozen


def test_the_early_look_knows_every_option_of_run() -> None:
    found = inspect.signature(commands.run).parameters.values()
    options = {f"--{each.name.replace('_', '-')}": each.default for each in found if each.kind is each.KEYWORD_ONLY}
    assert {name for name, default in options.items() if not isinstance(default, bool)} == RUN_OPTIONS
    assert {name for name, default in options.items() if isinstance(default, bool)} == RUN_SWITCHES | {"--dry-run"}


def test_what_turns_out_to_be_wrong_after_the_freeze_is_let_go_again(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[Any] = []

    def freeze(_: object, incident: str | None) -> str:
        told.append(("frozen", incident))
        return "early"

    monkeypatch.setattr(freeze_before_import, "freeze_described", freeze)

    def thaw(early: str) -> tuple[str, ...]:
        told.append(("thawed", early))
        return ()

    monkeypatch.setattr(freeze_before_import, "thaw_again", thaw)
    assert run(["run", str(file), "--incident", "IR-1"]) == REFUSED
    assert told == [("frozen", "IR-1"), ("thawed", "early")]
    assert "expected an incident id" in capsys.readouterr().err
    told.clear()
    file.write_text(file.read_text().partition("[store")[0])
    assert run(["run", str(file)]) == REFUSED
    assert told == [], "without a store nothing is frozen"


@pytest.mark.parametrize("words", [["--as", "process"], ["--as", "container"], []])
def test_a_recovery_is_told_how_to_start_the_api(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str]
) -> None:
    told: list[Any] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flows.command.by_hand.run_by_hand", lambda *asked, as_json: told.append((*asked, as_json)))
    assert commands.invoke(["recover", "a.toml", *words]) == 0
    ((verb, *_, asked, _),) = told
    assert (verb, asked["start_as"]) == ("recover", words[1] if words else None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["recover", "none.toml", "--as", "docker"], "docker"),
        (["nope"], 'Unknown command "nope"'),
        (["statsu"], 'Did you mean "status"?'),
        (["evacuate", "none.toml"], 'Did you mean "run"?'),
        (["verify"], 'Did you mean "audit"?'),
        (["unfreeze"], 'Did you mean "thaw"?'),
        (["run", "none.toml", "--dryrun"], "Did you mean --dry-run?"),
        (["plan", "none.toml", "--policy", "kil"], 'Did you mean "kill"?'),
        (["status"], "expected a TOML file, or a folder with src/train.py or api/app.py; got the folder"),
        (["status", "a.toml", "b.toml"], "b.toml"),
        (["status", "none.toml"], "expected a TOML file; got none.toml"),
        (["run", "none.toml"], "expected a TOML file; got none.toml"),
        (["rollback", "none.toml", "x"], "x"),
        (["deploy"], "either FILE or --name; got neither"),
    ],
)
def test_bad_input_is_refused_on_stderr_and_says_what_to_do(
    words: Sequence[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == REFUSED
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert "Nothing was touched." in told.err


@pytest.mark.slow
def test_help_names_every_command_and_each_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    told = capsys.readouterr().out
    for name in COMMANDS:
        assert f"│ {name} " in told
        assert run([name, "-h"]) == 0
        assert f"  evacuation {name}" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "keys"),
    [
        (["version"], {"version", "python", "prefect"}),
        (["status", "FILE"], {"workloads", "credentials"}),
        (["audit", "FILE"], {"place", "incidents", "fleets"}),
        (["pull", "FILE", "INTO"], {"place", "into", "complete", "summary", "held", "files"}),
        (["rollback", "FILE", "--dry-run"], {"place", "dry_run", "changes", "summary"}),
    ],
)
def test_json_is_one_object_with_a_schema_and_needs_no_prefect(
    file: Path, tmp_path: Path, command: list[str], keys: set[str]
) -> None:
    words = [{"FILE": str(file), "INTO": str(tmp_path)}.get(word, word) for word in command]
    program = "import sys; from flows.cli import run; code = run(sys.argv[1:])\nassert 'prefect' not in sys.modules\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}sys.exit(code)", *words, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "a pipe gets no progress"
    told = json.loads(done.stdout)
    assert (told["schema"], told["command"]) == (SCHEMA, command[0])
    assert told.keys() == {"schema", "command"} | keys


@pytest.mark.slow
def test_status_needs_neither_docker_nor_a_store(file: Path) -> None:
    heavy = "('prefect', 'docker', 'boto3', 'httpx', 'asyncio', 'tasks.runtime.context')"
    program = f"import sys; from flows.cli import run; run(sys.argv[1:]); sys.exit(any(map(sys.modules.get, {heavy})))"
    command = [sys.executable, "-c", program, "status", str(file)]
    assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0


@pytest.mark.slow
def test_before_the_freeze_nothing_of_others_is_imported() -> None:
    loaded = "print(*({name.split('.')[0] for name in sys.modules}))"
    program = f"import sys; import flows.cli, flows.command.freeze_before_import; {loaded}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    own = {"flows", "tasks", "blocks", "_distutils_hack", "sitecustomize"}
    imported = {name for name in done.stdout.split() if not name.startswith("__editable___evacuation")}
    assert imported - set(sys.stdlib_module_names) - own == {"__main__"}
    assert imported.isdisjoint({"asyncio", "concurrent", "email", "http", "secrets", "ssl", "tempfile"}), (
        "each takes ms"
    )


@pytest.mark.slow
def test_a_reader_that_has_gone_gets_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "flows.cli", "version"]
    with os.fdopen(write, "w") as gone:
        done = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.slow
def test_colour_is_left_out_where_nobody_wants_it() -> None:
    assert "\x1b" not in typed("--help", NO_COLOR="1", FORCE_COLOR="").stdout


@pytest.mark.slow
def test_completion_is_written_for_a_shell(tmp_path: Path) -> None:
    done = typed("--install-completion", "--shell", "bash", "--output", str(tmp_path / "evacuation"))
    assert done.returncode == 0, done.stderr
    assert "uncordon" in (tmp_path / "evacuation").read_text()


KEYS = """
import sys
from tasks.cli.store_argument import named_store
credentials = named_store(sys.argv[1]).credentials
found = credentials.get_boto3_session().get_credentials()
print(found.access_key, found.secret_key, credentials.aws_client_parameters.verify_cert_path, "prefect" in sys.modules)
"""


@pytest.mark.slow
@pytest.mark.parametrize("names", ["aws_access_key_id aws_secret_access_key", "minio_root_user minio_root_password"])
def test_credentials_that_stand_in_the_file_need_no_prefect(tmp_path: Path, names: str) -> None:
    user, password = names.split()
    file = tmp_path / "store.toml"
    table = f'{{ {user} = "me", {password} = "word", aws_client_parameters = {{ verify_cert_path = "/ca.pem" }} }}'
    file.write_text(f'[store.a]\nbucket = "evidence"\nendpoint = "http://s3"\ncredentials = {table}\n')
    done = subprocess.run([sys.executable, "-c", KEYS, str(file)], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["me", "word", "/ca.pem", "False"], done.stderr


def test_minio_credentials_without_an_endpoint_are_refused(tmp_path: Path) -> None:
    (tmp_path / "store.toml").write_text('[store.a]\nbucket = "evidence"\ncredentials = { minio_root_user = "me" }\n')
    with pytest.raises(Refused, match="expected an endpoint with MinIO credentials"):
        named_store(str(tmp_path / "store.toml"))


@pytest.mark.whole
@pytest.mark.slow
def test_a_doctor_without_the_auditors_file_that_was_named_looks_at_nothing(file: Path) -> None:
    done = typed("doctor", str(file), "--signers", "/nowhere/allowed_signers")
    assert done.returncode == REFUSED
    assert "expected an allowed_signers file" in done.stderr
    assert done.stdout == ""
