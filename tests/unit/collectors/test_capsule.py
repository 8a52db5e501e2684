"""What the run was made of: packages against their RECORD, the interpreter, the data; all of it hostile here."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.acquisition.collector import Incomplete, NothingThere, Target, Unanswered
from tasks.acquisition.distribution import Distribution, find_unclaimed
from tasks.collectors import datasets, environment, installation, interpreter, packages
from tasks.custody.evidence.acquisition import Outcome
from tasks.host.process.table import start_of
from tests.support.workloads import SmallWorkload, wait_until
from tests.unit.acquisition.test_acquire import NOBODY, am_root, place

__all__ = ["place"]  # a fixture
SITE = "venv/lib/python3.11/site-packages"


def target(root: Path, *pids: int) -> Target:
    frozen = [(pid, start_of(pid) or 0) for pid in pids]
    globs: dict[str, list[str]] = {"logs": [], "artifacts": [], "models": []}
    return Target("IR-20260102T030405Z", str(root), "venv/bin/python", root.stat().st_uid, globs, frozen)


def install(site: Path, name: str, files: dict[str, bytes], **small: str) -> Distribution:
    """A package with a RECORD, as pip leaves it."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    rows = []
    for file, data in files.items():
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (site / file).write_bytes(data)
        rows.append(row(file, data))
    (info / "RECORD").write_text("".join([*rows, f"{info.name}/RECORD,,\n"]))
    for file, text in small.items():
        (info / file.replace("_json", ".json")).write_text(text)
    return Distribution(site, info.name)


def row(file: str, data: bytes) -> str:
    sha = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{file},sha256={sha},{len(data)}\n"


def later() -> float:
    return time.monotonic() + 60


def test_a_package_that_is_as_it_was_installed_has_nothing_to_tell(tmp_path: Path) -> None:
    told = install(tmp_path, "good", {"good/__init__.py": b"", "good/a.py": b"a = 1\n"}, INSTALLER="uv\n").summary(
        later()
    )
    assert (told["name"], told["version"], told["installer"], told["files"]) == ("good", "1.0", "uv", 2)
    assert told["differ"] == told["gone"] == []
    assert told["not_read"] == told["not_checked"] == 0
    record = (tmp_path / "good-1.0.dist-info/RECORD").read_bytes()
    assert told["record_sha256"] == hashlib.sha256(record).hexdigest()


def test_what_was_changed_removed_replaced_by_a_link_or_added_is_named(tmp_path: Path) -> None:
    package = install(tmp_path, "bad", {f"bad/{name}.py": b"x = 1\n" for name in "abcd"})
    (tmp_path / "bad/a.py").write_bytes(b"x = 2\n")
    (tmp_path / "bad/b.py").unlink()
    (tmp_path / "bad/c.py").unlink()
    (tmp_path / "bad/c.py").symlink_to("d.py")
    added = sorted(["evil.pth", *(f"{number}.py" for number in range(200))])
    for each in added:
        (tmp_path / each).write_text("import os")
    told = package.summary(later())
    assert (told["differ"], told["gone"], told["not_read"]) == (["bad/a.py"], ["bad/b.py"], 1)
    assert find_unclaimed(tmp_path, [package]) == added


def test_a_record_leads_to_no_file_outside_of_the_folder(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    site = tmp_path / "site"
    package = install(site, "out", {})
    (site / "way").symlink_to(tmp_path)
    (site / "out-1.0.dist-info/RECORD").write_text(
        row("../secret", b"secret") + row(str(secret), b"other") + row("way/secret", b"other")
    )
    told = package.summary(later())
    assert told["differ"] == []
    assert (told["files"], told["not_read"]) == (1, 1)


@pytest.mark.parametrize(
    "record",
    [b"\0\0\0", b'"' * 10_000, b"a,sha256=!!!,1\n", b"a,md5=abc,1\n", b",,\n", b"a\n" * 1000, bytes(range(256)) * 40],
)
def test_a_rotten_record_costs_no_more_than_itself(tmp_path: Path, record: bytes) -> None:
    package = install(tmp_path, "rotten", {"a": b"a"})
    (tmp_path / "rotten-1.0.dist-info/RECORD").write_bytes(record)
    assert package.summary(later())["differ"] == []
    find_unclaimed(tmp_path, [package])


def test_where_it_came_from_is_told_without_the_token(tmp_path: Path) -> None:
    origin = json.dumps(
        {"url": "https://canarytoken@git.example/x.git", "vcs_info": {"vcs": "git", "commit_id": "0" * 40}}
    )
    told = install(tmp_path, "vcs", {}, direct_url_json=origin).summary(later())
    assert told["direct_url"]["vcs_info"]["commit_id"] == "0" * 40
    assert "canary" not in json.dumps(told)


def test_what_the_time_was_too_short_for_is_a_loss_and_not_called_sound(tmp_path: Path) -> None:
    install(tmp_path / SITE, "big", {f"big/{number}.py": b"" for number in range(3)})
    with pytest.raises(Incomplete) as part:
        installation.make(replace(target(tmp_path), seconds=0.0))
    assert part.value.outcome is Outcome.TIMED_OUT
    (folder,) = json.loads(part.value.data)
    assert folder["packages"][0]["not_checked"] == 3


def test_a_folder_of_packages_that_has_two_names_is_looked_at_once(tmp_path: Path) -> None:
    install(tmp_path / SITE, "one", {"one.py": b""})
    (tmp_path / "venv/lib64").symlink_to("lib")
    assert len(json.loads(installation.make(target(tmp_path)))) == 1


def test_the_interpreter_is_followed_to_its_bytes(tmp_path: Path) -> None:
    with pytest.raises(NothingThere):
        interpreter.make(target(tmp_path))
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/bin/python").symlink_to(sys.executable)
    told = json.loads(interpreter.make(target(tmp_path)))
    real = Path(sys.executable).resolve()
    assert told["leads_to"] == str(real)
    assert told["sha256"] == hashlib.sha256(real.read_bytes()).hexdigest()
    assert told["version"].startswith("3.")


def test_an_interpreter_that_is_a_pipe_or_a_device_does_not_hang(tmp_path: Path) -> None:
    (tmp_path / "venv/bin").mkdir(parents=True)
    os.mkfifo(tmp_path / "venv/bin/python")
    assert json.loads(interpreter.make(target(tmp_path)))["sha256"] == "not known"
    (tmp_path / "venv/bin/python").unlink()
    (tmp_path / "venv/bin/python").symlink_to("/dev/zero")
    assert json.loads(interpreter.make(target(tmp_path)))["sha256"] == "not known"


def test_nothing_outside_of_the_workload_is_read_over_a_link(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("Name: canary\nversion = canary\n")
    root = tmp_path / "root"
    (root / SITE / "x-1.dist-info").mkdir(parents=True)
    (root / "venv/bin").mkdir()
    (root / "venv/bin/python").symlink_to(sys.executable)
    (root / "venv/pyvenv.cfg").symlink_to(secret)
    (root / SITE / "x-1.dist-info/METADATA").symlink_to(secret)
    assert json.loads(interpreter.make(target(root)))["pyvenv_cfg"] == "not read: it leads out of the workload"
    assert packages.make(target(root)) == b"x==1\n"
    assert b"canary" not in interpreter.make(target(root)) + environment.make(target(root))


def test_packages_that_lie_elsewhere_are_denied_until_the_block_names_their_place(tmp_path: Path) -> None:
    install(tmp_path / "shared" / SITE, "one", {"one.py": b""})
    (tmp_path / "root").mkdir()
    (tmp_path / "root/venv").symlink_to(tmp_path / "shared/venv")
    there = target(tmp_path / "root")
    with pytest.raises(Unanswered, match="leads out of") as reason:
        packages.make(there)
    assert reason.value.outcome is Outcome.DENIED
    assert json.loads(environment.make(there))["sklearn"] is None
    named = replace(there, interpreter=str(tmp_path / "shared/venv/bin/python"))
    assert packages.make(named) == b"one==1.0\n"


def test_a_link_within_the_workload_is_followed(tmp_path: Path) -> None:
    (tmp_path / "venv-3.11").mkdir()
    (tmp_path / "venv").symlink_to("venv-3.11")
    (tmp_path / "venv/pyvenv.cfg").write_text("version = 3.11.9\n")
    assert environment.python_version(target(tmp_path)) == "3.11.9"


@pytest.mark.parametrize("trap", ["hole", "pipe", "device"])
def test_a_trap_in_place_of_metadata_costs_neither_memory_nor_time(tmp_path: Path, trap: str) -> None:
    (tmp_path / SITE / "x-1.dist-info").mkdir(parents=True)
    for path in (tmp_path / SITE / "x-1.dist-info/METADATA", tmp_path / "venv/pyvenv.cfg"):
        if trap == "pipe":
            os.mkfifo(path)
        elif trap == "device":
            path.symlink_to("/dev/zero")
        else:
            path.touch()
            os.truncate(path, 5 << 30)
    began = time.process_time()
    assert packages.make(target(tmp_path)) == b"x==1\n"
    environment.make(target(tmp_path))
    assert time.process_time() - began < 5


def test_arguments_that_speak_of_data_are_told_and_others_are_not() -> None:
    words = "python -u src/train.py --dataset mnist --mode full --train-csv=a.csv --seed 1"
    assert datasets.arguments(words.split()) == ["--dataset=mnist", "--train-csv=a.csv"]
    assert datasets.arguments(["x", "--dataset", "--mode"]) == ["--dataset="]
    assert datasets.arguments(["x", "--dataset"]) == ["--dataset="]
    (hidden,) = datasets.arguments(["x", "--data=https://u:canary@h/d"])
    assert re.fullmatch(r"--data=https://\[redacted:[0-9a-f]{8}\]@h/d", hidden)
    assert datasets.arguments([]) == []


def looked(told: dict[str, Any], by: str) -> Any:
    (one,) = [each for each in told["folders"] if each["named_by"].startswith(by)]
    return one["files"]


def test_the_data_home_is_found_as_scikit_learn_finds_it(small: SmallWorkload) -> None:
    (small.root / "here").mkdir()
    (small.root / "here/adult.arff.gz").write_bytes(b"data")
    process = small.start(WORKERS="0", SCIKIT_LEARN_DATA="here")
    wait_until(lambda: "train.py" in " ".join(psutil.Process(process.pid).cmdline()), what="the training")
    told = json.loads(datasets.make(target(small.root, process.pid)))
    (file,) = looked(told, "SCIKIT_LEARN_DATA of")
    assert (file["path"], file["bytes"], file["sha256"]) == ("adult.arff.gz", 4, hashlib.sha256(b"data").hexdigest())
    assert told["arguments"] == [{"pid": process.pid, "arguments": ["--dataset=builtin"]}]
    assert told["identity"] == "by the digests below"


def test_what_is_not_known_is_said_plainly(tmp_path: Path) -> None:
    told = json.loads(datasets.make(target(tmp_path)))
    assert looked(told, "data/ of the root").startswith("not known: ")
    assert told["arguments"] == "not known"


def test_no_link_below_the_data_is_followed_and_nothing_hangs(tmp_path: Path) -> None:
    (tmp_path / "data/inner").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "data/link.csv").symlink_to(tmp_path / "secret")
    (tmp_path / "data/inner/up").symlink_to("..")
    os.mkfifo(tmp_path / "data/pipe")
    (tmp_path / "data/a\nb.csv").write_text("x")
    files = looked(json.loads(datasets.make(target(tmp_path))), "data/ of the root")
    assert {file["path"]: file.get("kind") for file in files} == {
        "a%0Ab.csv": None,
        "inner/up": "a link to ..",
        "link.csv": f"a link to {tmp_path}/secret",
        "pipe": "no regular file",
    }


def test_the_time_for_digests_is_bounded_and_files_are_told_without(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.csv").write_text("x")
    told = json.loads(datasets.make(replace(target(tmp_path), seconds=0.0)))
    assert looked(told, "data/")[0]["sha256"] == "not known: the time was used up"


def test_very_many_files_are_told_of_in_part_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.Looking, "remaining", 3)
    (tmp_path / "data").mkdir()
    for number in range(5):
        (tmp_path / f"data/{number}").touch()
    look = datasets.Looking(later(), remaining=3)
    files = look.folder(datasets.DataFolder(tmp_path / "data", "a test", 0, 0))
    assert len(files) == 4
    assert files[-1]["path"] == "not known"


@am_root
def test_an_environment_opens_no_door_that_its_user_has_not(place: Path) -> None:
    """The workload says where its data lies; root must not look there with more rights than the workload has."""
    secrets, root = place / "secrets", place / "work"
    secrets.mkdir(mode=0o700)
    (secrets / "key").write_text("secret")
    root.mkdir()
    os.chown(root, NOBODY, NOBODY)
    with SmallWorkload(root) as workload:
        about = {"SCIKIT_LEARN_DATA": str(secrets), "PATH": os.environ["PATH"]}
        process = subprocess.Popen(["sleep", "600"], cwd=root, env=about, user=NOBODY, group=NOBODY, extra_groups=[])
        workload.started.append(process)
        told = json.loads(datasets.make(target(root, process.pid)))
        assert looked(told, "SCIKIT_LEARN_DATA of") == "not known: Permission denied"
        assert (os.geteuid(), os.getegid()) == (0, 0)
        process.kill()


@am_root
@pytest.mark.parametrize("mode", [0o700, 0o744])
def test_a_folder_that_may_not_be_read_is_told_with_the_reason(place: Path, mode: int) -> None:
    """It was left out, as if there were no data in it."""
    secret = place / "data/inner/secret"
    (secret / "folder").mkdir(parents=True)
    (secret / "a.csv").write_text("x")
    secret.chmod(mode)
    os.chown(place, NOBODY, NOBODY)
    told = json.loads(datasets.make(target(place)))
    files = {file["path"]: file for file in looked(told, "data/ of the root")}
    names = ["inner/secret"] if mode == 0o700 else ["inner/secret/a.csv", "inner/secret/folder"]
    assert files == {name: {"path": name, "reason": "Permission denied"} for name in names}
    assert told["identity"] == "not known: no file of data was found"


@pytest.mark.slow
def test_a_collector_cannot_eat_the_memory_of_the_host() -> None:
    program = (
        "from tasks.collectors.__main__ import limit_memory; limit_memory(); bytearray(1 << 30); bytearray(4 << 30)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.stderr.endswith("MemoryError\n")
