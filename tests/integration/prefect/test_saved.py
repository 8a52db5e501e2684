"""Saved blocks that are not there, and servers that are gone: a message that says what to do, and exit code 2."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from blocks.file import lacking, load, store
from blocks.workload import Workload
from tasks.custody.errors import Refused
from tasks.prefect_side.saved_blocks import unknown_block

PROJECT = Path(__file__).resolve().parents[3]
NOBODY = "http://127.0.0.1:9/api"
FILE = '[workload.w]\nroot = "{}"\n[store.w]\nbucket = "evidence"\n'
NAMED = f'{FILE}credentials = "aws-credentials/gone"\n'


def told(*command: str) -> str:
    """What a command that is refused says, with no Prefect server there."""
    environment = {**os.environ, "PREFECT_API_URL": NOBODY, "PREFECT_CLIENT_MAX_RETRIES": "0"}
    done = subprocess.run(
        [sys.executable, "-m", *command], env=environment, cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    return done.stderr


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "command",
    [
        ("blocks", "FILE"),
        pytest.param(("blocks", "NAMED"), marks=pytest.mark.soak),
        ("flows.cli", "deploy", "--name", "portfolio"),
        pytest.param(("flows.cli", "deploy", "FILE"), marks=pytest.mark.soak),
        pytest.param(("flows.cli", "deploy", "NAMED"), marks=pytest.mark.soak),
        ("flows.cli", "audit", "evidence"),
        pytest.param(("flows.cli", "audit", "NAMED"), marks=pytest.mark.soak),
        pytest.param(("flows.cli", "rollback", "evidence", "--newest-only"), marks=pytest.mark.soak),
        ("flows.cli", "pull", "NAMED", "/tmp"),  # noqa: S108  nothing is written there
    ],
)
def test_a_dead_server_is_told_in_one_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    for name, content in (("FILE", FILE), ("NAMED", NAMED)):
        (tmp_path / f"{name}.toml").write_text(content.format(tmp_path))
    given = [str(tmp_path / f"{word}.toml") if word in {"FILE", "NAMED"} else word for word in command]
    (line,) = told(*given).splitlines()
    assert line.startswith(f"expected a Prefect server that has the saved blocks at {NOBODY}; got ")
    assert "Nothing was touched. Start it" in line


@pytest.mark.usefixtures("prefect")
def test_what_a_workload_names_and_this_host_lacks_is_said(tmp_path: Path) -> None:
    (tmp_path / "serve.sh").touch()
    here = {"root": str(tmp_path), "api_command": ["bash", "serv/it.sh"], "api_headers": "secret/there-is-none"}
    told = list(lacking(Workload(**here)))
    assert [each.partition(":")[0] for each in told] == ["api_command", "api_headers"]
    assert "serv/it.sh is not there" in told[0]
    assert [each.partition(":")[0] for each in lacking(Workload(root=str(tmp_path / "gone")))] == ["root"]
    assert list(lacking(Workload(root=str(tmp_path / "gone"), host="another"))) == []
    file = {"root": str(tmp_path), "api_command": ["bash"], "api_headers": str(tmp_path / "headers.json")}
    (line,) = lacking(Workload(**file))
    assert line.startswith("api_headers: ")
    assert list(lacking(Workload(**file, host="another"))) == []
    (tmp_path / "headers.json").write_text('{"token": "a key"}')
    (tmp_path / "headers.json").chmod(0o600)
    assert list(lacking(Workload(**file))) == []


@pytest.mark.usefixtures("prefect")
@pytest.mark.parametrize(
    "reference", ["aws-credentials/gone", "no-such-type/gone", "gone", "a/b/c", "aws-credentials/"]
)
def test_credentials_that_nobody_has_saved_are_named(tmp_path: Path, reference: str) -> None:
    (tmp_path / "a.toml").write_text(f'{FILE.format(tmp_path)}credentials = "{reference}"\n')
    for read in (load, store):
        with pytest.raises(Refused, match=f"'{reference}': .*Save it"):
            read(tmp_path / "a.toml")


@pytest.mark.usefixtures("prefect")
def test_a_type_of_which_nothing_was_ever_saved_has_no_names() -> None:
    assert "none is saved yet" in str(unknown_block("no-such-type", "nobody"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["audit"], "expected S3_BUCKET in the form s3://BUCKET/PREFIX; got nothing."),
        (["rollback"], 'Command "rollback" parameter STORE requires an argument.'),
        (["pull"], "expected a TOML file, or a folder with src/train.py or api/app.py; got the folder "),
        (["pull", "store.toml"], "expected a TOML file, or a folder with src/train.py or api/app.py; got "),
    ],
)
def test_a_command_without_a_store_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.delenv("S3_BUCKET", raising=False)
    (tmp_path / "store.toml").write_text(f'[store.a]\nfolder = "{tmp_path}"\n')
    given = [word.replace("store.toml", str(tmp_path / "store.toml")) for word in arguments]
    command = [str(Path(sys.executable).with_name("evacuation")), *given]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert (done.stdout + done.stderr).count("Nothing was ") == 1
    assert done.stderr.startswith(words)
