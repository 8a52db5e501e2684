"""Nothing but the bucket: a folder of the runbook's kind is the workload, and S3_BUCKET its store."""

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from blocks.file import store_given, workload_given
from blocks.workload import Workload
from flows.cli import run, to_freeze
from flows.command import by_hand, freeze_before_import
from tasks.cli.store_argument import named_store
from tasks.cli.workloads import chosen
from tasks.custody.errors import Refused
from tasks.custody.incident.description import read_description
from tasks.custody.incident.exit_codes import REFUSED
from tasks.prestart import freeze
from tasks.prestart.freeze import members_described
from tasks.system.files import file_here
from tests.support.workloads import SmallWorkload

URL = "s3://evidence/mlops-sklearn-portfolio"
AWS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION")


@pytest.fixture(autouse=True)
def bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the runbook wants exported, and nothing else."""
    for name in AWS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("S3_BUCKET", URL)


@pytest.fixture
def folder(small: SmallWorkload) -> Iterator[Path]:
    """A workload without a file, in which one stands; not at the end, when all that works there is ended."""
    with chdir(small.root):
        yield small.root


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What would have been frozen at the front."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(freeze_before_import, "freeze_described", lambda fields, _: found.append(fields))
    return found


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What a flow would have been run with."""
    found: list[tuple[Any, ...]] = []

    def run_by_hand(*given: Any, **_: Any) -> int:
        found.append(given)
        return 0

    monkeypatch.setattr(by_hand, "run_by_hand", run_by_hand)
    return found


@pytest.mark.parametrize("mark", ["src/train.py", "api/app.py"])
def test_a_folder_with_a_training_or_an_api_is_the_runbooks_workload(tmp_path: Path, mark: str) -> None:
    root = tmp_path / "My MLOps_Repo"
    (root / mark).parent.mkdir(parents=True)
    (root / mark).touch()
    name, block = workload_given(root)
    assert (name, block) == ("my-mlops-repo", Workload(root=root))
    assert store_given(root) == (name, {"bucket": URL})
    assert [(called.name, called.file, called.store) for called in chosen(str(root))] == [(name, str(root), "")]


@pytest.mark.parametrize("there", ["", "train.py", "src/train.py/x", "models/model_builtin.joblib"])
def test_any_other_folder_is_refused_and_says_what_it_lacks(tmp_path: Path, there: str) -> None:
    (tmp_path / there / "x").mkdir(parents=True)
    with pytest.raises(Refused, match=r"expected a TOML file, or a folder with src/train\.py or api/app\.py; got the"):
        workload_given(tmp_path)


def test_what_may_not_be_looked_into_is_no_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system of that account's own refuses even root."""

    def refuse(_: Path) -> bool:
        raise PermissionError

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(Refused, match="expected a TOML file, or a folder"):
        read_description(tmp_path, "workload")


@pytest.mark.parametrize("given", ["", "s3://", "s3:///", "evidence/portfolio", "https://evidence.s3.amazonaws.com"])
def test_without_a_bucket_it_says_what_to_export(
    given: str, folder: Path, frozen: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("S3_BUCKET", given)
    for words in (["run"], ["doctor"], ["audit"], ["pull"]):
        os.chdir(folder)
        assert run(words) == REFUSED
        assert "export S3_BUCKET=s3://BUCKET/PREFIX" in capsys.readouterr().err
    with pytest.raises(Refused, match="export S3_BUCKET"):
        by_hand._load_blocks(str(folder), "")  # plan and recover, which begin with a server
    assert frozen == [], "nothing is frozen that could not be saved"
    os.chdir(folder)
    assert run(["status"]) == 0, "it needs no store"


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("model_at", "JSON pointer into that answer, as in /data/model/file"),
        ("prediction_at", "JSON pointer to the prediction in its answer, as in /outputs/0/data"),
        ("health_path", "Path that a recovery asks by GET; 2xx is healthy"),
    ],
)
def test_a_mistake_in_a_file_is_told_in_words_and_blames_no_variable(field: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "w.toml").write_text(f'[workload.a]\nroot = "/srv/a"\n{field} = "data"\n')
    with pytest.raises(Refused, match=rf"{field}: String should match pattern .*{re.escape(words)}") as error:
        workload_given(tmp_path / "w.toml")
    assert "S3_BUCKET" not in str(error.value)
    assert str(error.value).endswith("Correct the file.")


@pytest.mark.parametrize("bad", ["s3://UPPER/x", "s3://ab", "s3://evidence/a//b", "s3://evidence/../x"])
def test_a_bucket_that_cannot_be_one_is_refused_by_its_rule(bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_BUCKET", bad)
    with pytest.raises(Refused, match=r"Correct the file, or S3_BUCKET\."):
        named_store("")


def test_what_the_aws_command_line_takes_from_the_environment_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://all")
    monkeypatch.setenv("AWS_REGION", "ap-northeast-1")
    store = named_store("")
    assert (store.place, store.endpoint, store.region, store.credentials) == (URL, "http://all", "ap-northeast-1", None)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3")
    assert named_store("s3://other").endpoint == "http://s3"
    assert named_store("s3://other").place == "s3://other"


def test_a_file_is_read_as_before_whatever_is_exported(small: SmallWorkload, tmp_path: Path) -> None:
    file = tmp_path / "evacuation.toml"
    file.write_text(f'[workload.a]\nroot = "{small.root}"\n[store.b]\nfolder = "/srv/b"\n')
    assert store_given(file) == ("b", {"folder": "/srv/b"})
    assert read_description(file, "store") == read_description(file, "workload")


def test_a_file_that_others_may_write_is_told_and_ours_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = tmp_path / "ours.toml", tmp_path / "theirs.toml"
    for file, mode in ((ours, 0o644), (theirs, 0o664)):
        file.write_text("")
        file.chmod(mode)
    by_hand.warn_of_others([ours, tmp_path])
    assert not caplog.messages
    by_hand.warn_of_others([theirs])
    (told,) = caplog.messages
    assert str(theirs) in told
    assert "may have written it" in told


def test_every_command_means_the_folder_in_which_it_is_typed(folder: Path, ran: list[tuple[Any, ...]]) -> None:
    for words in (["plan"], ["recover", "--despite", "x"], ["run", "--dry-run"], ["plan", "."]):
        os.chdir(folder)
        assert run(words) == 0
    assert [given[1:3] for given in ran] == [(str(folder), "")] * 4


def test_status_names_the_folder_in_the_commands_to_paste(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status"]) == 0
    assert str(folder) in capsys.readouterr().out.splitlines()[0]


def test_a_pull_without_a_folder_goes_into_a_workload_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with chdir(tmp_path):
        assert run(["pull"]) == REFUSED
    assert "src/train.py or api/app.py" in capsys.readouterr().err


def test_what_would_be_frozen_is_shown_before_the_freeze(
    small: SmallWorkload,
    folder: Path,
    ran: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    training, api = small.start(WORKERS="0"), small.start(small.api_command)
    bystander = small.start(["sleep", "600"])
    seen: list[str] = []
    monkeypatch.setattr(freeze_before_import, "freeze_described", lambda *_: seen.append(capfd.readouterr().err))
    assert run(["run", "--reason", "x"]) == 0
    (shown,) = seen
    assert f"{folder}, to {URL}, by the runbook's defaults" in shown
    assert "2 processes" in shown
    for process in (training, api):
        assert f"  {process.pid}  venv/bin/python" in shown
    assert f"  {bystander.pid}  " not in shown
    assert ran[0][1:3] == (str(folder), "")


@pytest.fixture
def lying(folder: Path) -> Path:
    """What `evacuation init` has written there; its own folder counts, as those above may be anybody's."""
    file = folder / "evacuation.toml"
    file.write_text(f'[workload.x]\nroot = "{folder}"\n[store.x]\nfolder = "/srv/x"\n')
    return file


@pytest.fixture
def theirs(lying: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same where another account may have put it."""
    monkeypatch.setattr(file_here, "find_exposure", lambda path: f"{path.parent} of user 33")
    return lying


def test_a_file_of_ours_that_lies_there_is_taken_and_said_before_the_freeze(
    folder: Path, lying: Path, frozen: list[dict[str, Any]], ran: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["run"]) == 0
    assert frozen == [{"root": str(folder)}]
    assert ran[0][1] == str(lying)
    told = capfd.readouterr().err.splitlines()
    assert told[0] == f"no file named ファイル指定なし: {lying} is taken 使用; for the runbook's defaults name {folder}"
    assert told[1].endswith("0 processes")
    assert len(told) == 2, "it is said once"


@pytest.mark.parametrize("verb", ["status", "plan", "recover", "run --dry-run", "doctor", "thaw", "uncordon"])
def test_every_command_takes_the_file_that_lies_there_and_says_so_first(
    verb: str,
    lying: Path,
    ran: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("S3_BUCKET")
    seen = list[str]()

    def noted(file: str) -> int:
        seen.append(file)
        return 0

    for name in ("workloads.show_status", "workloads.uncordon_by_hand", "thaw.thaw_by_hand", "doctor.doctor_by_hand"):
        monkeypatch.setattr(f"tasks.cli.{name}", lambda file, *_, **__: noted(file))
    os.chdir(lying.parent)
    assert run(verb.split()) == 0
    assert [*seen, *(given[1] for given in ran)] == [str(lying)]
    assert f"{lying} is taken" in capfd.readouterr().err.splitlines()[0]


@pytest.mark.parametrize("verb", ["run", "status", "plan"])
def test_a_file_that_another_account_may_have_put_there_is_named_and_not_read(
    verb: str,
    theirs: Path,
    frozen: list[dict[str, Any]],
    ran: list[Any],
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = theirs.parent
    assert run([verb]) == 0
    assert frozen == [{"root": str(folder)}] * (verb == "run")
    assert [given[1] for given in ran] == [str(folder)] * (verb != "status")
    told = capfd.readouterr().err.splitlines()
    assert told[0].startswith(f"not read 読み込まない: {theirs}, for {folder} of user 33")
    assert "name it" in told[0]


def test_a_run_by_a_file_shows_nothing_more(
    small: SmallWorkload, tmp_path: Path, frozen: list[Any], ran: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "evacuation.toml"
    file.write_text(f'[workload.a]\nroot = "{small.root}"\n[store.a]\nfolder = "/srv/a"\n')
    assert run(["run", str(file)]) == 0
    assert capfd.readouterr().err == ""
    assert len(frozen) == len(ran) == 1


def test_secrets_of_a_command_line_are_not_shown(small: SmallWorkload, folder: Path) -> None:
    small.start([*small.training_command, "--api-key", "Zq8xW2kLp0"], WORKERS="0")
    shown = "\n".join(freeze_before_import._taken_for({"root": str(folder)}, {"bucket": URL}))
    assert "--api-key" in shown
    assert "Zq8xW2kLp0" not in shown


def test_roots_that_root_has_not_declared_are_refused_as_with_a_file(
    small: SmallWorkload, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    small.start(WORKERS="0")

    def refuse(root: str) -> None:
        raise Refused("a root folder that root has declared on this host", root, "")

    monkeypatch.setattr(freeze, "require_declared", refuse)
    assert members_described({"root": str(folder)}) == []
    with freeze_before_import.freeze_before_import((".", "", None)):
        assert not (folder / "evidence").exists()
    assert "not frozen before the start of the run: Refused" in capfd.readouterr().err


@contextmanager
def standing_terminal() -> Iterator[int]:
    """A terminal whose other side reads nothing, and that is full."""
    master, slave = pty.openpty()
    os.set_blocking(slave, False)
    try:
        while os.write(slave, b"x" * 4096):
            pass
    except BlockingIOError:
        os.set_blocking(slave, True)
    yield slave
    os.close(slave)
    os.close(master)


SHOW = "from flows.command.freeze_before_import import _show; _show(iter(['x' * 100] * 100)); open({!r}, 'w').close()"


@pytest.mark.slow
@pytest.mark.parametrize("lines", ["full", "closed"])
def test_a_terminal_that_stands_delays_no_freeze(tmp_path: Path, lines: str) -> None:
    """Its other side may be the workload's, as where root's shell was begun in a terminal of that account."""
    done = tmp_path / "done"
    with standing_terminal() as terminal:
        command = [sys.executable, "-c", SHOW.format(str(done))]
        if lines == "full":
            subprocess.run(command, stderr=terminal, timeout=60, check=True)
        else:
            subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", *command], timeout=60, check=True)
    assert done.exists()


def test_units_need_a_file(folder: Path) -> None:
    from tasks.cli.install import _of_this_host

    with pytest.raises(Refused, match="expected a TOML file"):
        _of_this_host(str(folder))


def test_a_folder_is_understood_at_a_glance() -> None:
    assert to_freeze(["run"]) == (".", "", None)
    assert to_freeze(["run", "--recover", "--reason", "x"]) == (".", "", None)
    assert to_freeze(["run", "--dry-run"]) is None
    assert json.dumps(to_freeze(["run", "/srv/x"])) == '["/srv/x", "", null]'


@pytest.mark.parametrize(
    ("signing", "holds"),
    [("key_file = '/etc/evacuation/signing.key'", False), ("private_key = 'x'", True), ("passphrase = 'x'", True)],
)
def test_a_file_is_said_to_hold_secrets_only_if_it_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, signing: str, *, holds: bool
) -> None:
    file = tmp_path / "evacuation.toml"
    file.write_text(f"[store.b]\nfolder = '/srv/b'\n[store.b.signing]\nidentity = 'evacuation@gpu1'\n{signing}\n")
    file.chmod(0o644)
    with suppress(Refused):
        store_given(file)
    assert ("holds secrets" in caplog.text) is holds
