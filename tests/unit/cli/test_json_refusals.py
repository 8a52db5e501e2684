"""What a command refuses under `--json` is one object on stdout, whatever the command and the reason."""

import inspect
import io
import json
import os
import socket
from pathlib import Path
from typing import Any, cast

import pytest

from flows import cli
from flows.cli import run
from flows.command import commands
from tasks.custody.errors import Denied, StoreError
from tasks.custody.incident.exit_codes import INTERRUPTED, REFUSED
from tests.support.workloads import SmallWorkload

ID = "IR-20260102T030405Z"
TYPED = {
    "run": ["FILE"],
    "plan": ["FILE"],
    "recover": ["FILE"],
    "answer": ["FILE", ID, "7", "end"],
    "postmortem": ["FILE", ID],
    "status": ["FILE"],
    "doctor": ["FILE"],
    "audit": ["FILE", ID],
    "pull": ["FILE", "INTO"],
    "rollback": ["FILE"],
}
"""Each command that has `--json` and takes a file, with what has to be typed."""
BAD_FILES = {
    "missing": None,
    "not TOML": b"[workload",
    "no table": b"",
    "no text": b"\xff\xfe",
    "unknown field": b'[workload.a]\nroot = "/nowhere"\nrot = 1\n[store.a]\nfoldr = "/nowhere"\n',
    "wrong type": b"[workload.a]\nroot = 1\n[store.a]\nfolder = 1\n",
    "a folder": b"/",
}


@pytest.fixture(autouse=True)
def serverless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Prefect server for a run by hand: what is wrong with its file shows before it asks that anything."""
    monkeypatch.setattr("flows.command.by_hand.without_server", lambda given, _: given())


def refused(words: list[str], capsys: pytest.CaptureFixture[str], code: int = REFUSED) -> dict[str, object]:
    assert run(words) == code
    told = capsys.readouterr()
    found: dict[str, object] = json.loads(told.out)
    assert {"schema", "command", "state", "exit_code", "message", "next"} == {*found}
    assert (found["command"], found["exit_code"]) == (words[0], code)
    assert found["message"]
    assert found["next"]
    return found


def words_of(verb: str, file: Path, into: Path) -> list[str]:
    return [verb, *({"FILE": str(file), "INTO": str(into)}.get(word, word) for word in TYPED[verb]), "--json"]


def test_every_command_that_has_json_is_here() -> None:
    acts = {name: commands.app[name].default_command for name in commands.app if not name.startswith("-")}
    having = {name for name, act in acts.items() if act and "json" in inspect.signature(act).parameters}
    assert having == {*TYPED, "fleet", "version"}


@pytest.mark.parametrize("verb", TYPED)
@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file(verb: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "evacuation.toml"
    if (content := BAD_FILES[kind]) == b"/":
        file.mkdir()
    elif content is not None:
        file.write_bytes(content)
    found = refused(words_of(verb, file, tmp_path), capsys)
    assert found["state"] == "Refused"
    assert "expected" in str(found["message"])


@pytest.mark.parametrize("verb", [*TYPED, "fleet", "version"])
def test_an_option_that_there_is_not(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [verb, *TYPED.get(verb, []), "--nope", "--json"]
    assert "--help" in str(refused(words, capsys)["next"])


@pytest.mark.parametrize("verb", TYPED)
def test_no_rights(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a user who may not read the file; root may."""
    (file := tmp_path / "evacuation.toml").write_text('[workload.a]\nroot = "/"\n')
    plain, plainly = os.open, cast("Any", open)

    def denied(path: Any, *more: Any, **how: Any) -> int:
        if str(path).endswith(file.name):
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path, *more, **how)

    def opened(path: Any, *more: Any, **how: Any) -> Any:
        return plainly(path, *more, opener=denied, **how)

    monkeypatch.setattr(os, "open", denied)
    monkeypatch.setattr(io, "open", opened)
    assert "ermission" in str(refused(words_of(verb, file, tmp_path), capsys)["message"])


@pytest.mark.parametrize("verb", ["run", "recover", "answer", "postmortem"])
def test_an_incident_that_is_not_known(
    verb: str, small: SmallWorkload, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "evacuation.toml"
    file.write_text(f'[workload.a]\nroot = "{small.root}"\n[store.a]\nfolder = "{tmp_path}"\n')
    named = {"answer": [str(file), "IR-1", "7", "end"], "postmortem": [str(file), "IR-1", "--title", "a"]}
    words = [verb, *named.get(verb, [str(file), "--incident", "IR-1"]), "--json"]
    assert "IR-1" in str(refused(words, capsys)["message"])


@pytest.mark.parametrize("verb", ["audit", "pull", "rollback"])
@pytest.mark.parametrize("error", [StoreError, Denied])
def test_a_store_that_does_not_answer_or_refuses(
    verb: str,
    error: type[StoreError],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise error("an answer of the store", "none", "Nothing was read.", "Look whether it runs.")

    for act in ("tasks.cli.audit.audit_by_hand", "tasks.cli.latest.pull_by_hand", "tasks.cli.latest.rollback_by_hand"):
        monkeypatch.setattr(act, fail)
    assert refused(words_of(verb, tmp_path / "a.toml", tmp_path), capsys)["next"] == "Look whether it runs."


def test_a_fleet_whose_server_does_not_answer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}/api")
        refused(["fleet", "status", "lab", "--json"], capsys)


def test_who_presses_ctrl_c(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "invoke", interrupted)
    assert refused(["status", "a.toml", "b.toml", "--json"], capsys, INTERRUPTED)["state"] == "Cancelled"


def test_without_json_it_is_a_sentence_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["status", "none.toml"]) == REFUSED
    told = capsys.readouterr()
    assert (told.out, told.err[:8]) == ("", "expected")
