"""Without a Prefect server: the same flow from files, the same incident, whoever has begun it."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
from prefect.blocks.system import Secret
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings
from prefect_aws import AwsCredentials

from blocks.file import store_given
from blocks.signing_key import SigningKey
from blocks.store import EvidenceStore, with_usable_key
from blocks.workload import Workload
from tasks.audit.verify import verify_incident
from tasks.cli.status import status
from tasks.custody.audit.signers import read_signers
from tasks.custody.containment.pause import UNKNOWN, Launcher, LauncherKind
from tasks.drill.store_and_worker import SeaweedFS
from tasks.host.host import LinuxHost
from tasks.incident.layout import EARLY
from tasks.prefect_side.local_config import LocalConfig, using_local_config
from tasks.prefect_side.scheduler import NO_SERVER, PrefectScheduler
from tasks.prestart.freeze import freeze_described
from tasks.prestart.journal import thaw_again
from tests.support.scenes import Scene
from tests.support.small_disks import without_room
from tests.support.workloads import wait_until

DIE = Path(__file__).with_name("die.py")
NOBODY = "http://127.0.0.1:9/api"


def toml(kind: str, name: str, fields: dict[str, Any]) -> str:
    """A table; what JSON says of texts, numbers and lists, TOML says too."""
    tables = {field: value for field, value in fields.items() if isinstance(value, dict) and value}
    plain = {field: value for field, value in fields.items() if value is not None and not isinstance(value, dict)}
    lines = [f"[{kind}.{name}]", *(f"{field} = {json.dumps(value)}" for field, value in plain.items())]
    return "\n".join([*lines, *(toml(f"{kind}.{name}", field, inner) for field, inner in tables.items()), ""])


@pytest.fixture
def file(scene: Scene, seaweed: SeaweedFS, signing_key: SigningKey, tmp_path: Path) -> Path:
    """The blocks of a scene as a file that stands alone, key and credentials included, under the same name."""
    signing_key.save(scene.name)
    scene.save(store=scene.store_block.model_copy(update={"signing": SigningKey.load(scene.name)}))
    keys = {"aws_access_key_id": seaweed.access_key, "aws_secret_access_key": seaweed.secret_key}
    place = {field: getattr(scene.store_block, field) for field in ("bucket", "prefix", "endpoint")}
    signing = {"private_key": signing_key.private_key.get_secret_value(), "identity": signing_key.identity}
    store = {**place, "region": "us-east-1", "credentials": keys, "signing": signing}
    told = json.loads(scene.block.model_dump_json(exclude_unset=True))
    workload = {field: value for field, value in told.items() if field in Workload.model_fields}
    path = tmp_path / "an evacuation.toml"
    path.write_text(toml("workload", scene.name, workload) + toml("store", scene.name, store))
    return path


def by_hand(
    file: Path, *more: str, within: Sequence[str] = (), server: str = NOBODY
) -> subprocess.CompletedProcess[str]:
    """As `evacuation run` does it, for somebody whose Prefect server is dead."""
    command = [*within, sys.executable, "-m", "flows.cli", "run", str(file), *more]
    environment = {**os.environ, "PREFECT_API_URL": server}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def died(scene: Scene, name: str, server: str) -> int:
    """Run until the evidence is sealed, and die; how many results are kept."""
    command = [sys.executable, str(DIE), "step done", "§4 seal", name]
    done = subprocess.run(command, env={**os.environ, "PREFECT_API_URL": server}, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    return len(list((scene.home / "results").glob("IR-*")))


@pytest.mark.soak
@pytest.mark.parametrize("count", [1, 3, 4])
def test_what_a_start_that_was_killed_in_its_freeze_has_stopped_is_named_and_taken_by_the_next(
    scene: Scene, file: Path, count: int
) -> None:
    scene.small.start_all()
    command = [sys.executable, str(DIE), "SIGSTOP", str(count), str(file)]
    killed = subprocess.run(command, env={**os.environ, "PREFECT_API_URL": NOBODY}, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    assert scene.incidents == []
    told = list(status(scene.block, LinuxHost(root=scene.block.root)))
    (alone,) = (line for line in told if line.startswith(f"alone     {count} stand frozen, the first since "))
    assert "no run is at work on it, no guard stands" in alone
    assert told[-2:-1] == ["or        let it go on as it was:"]
    assert told[-1].startswith("          evacuation uncordon ")
    assert by_hand(file).stdout.startswith("Verified: ")
    assert scene.small.living() == []
    assert len(json.loads((scene.home / "record/001/verdict.json").read_bytes())["stop"]["processes"]) == 4


def cached(scene: Scene) -> list[str]:
    entries = [json.loads(line) for line in (scene.home / "custody.jsonl").read_text().splitlines()]
    return [entry["object"] for entry in entries if entry["action"] == "step cached"]


@pytest.mark.whole
def test_what_a_worker_has_begun_is_carried_on_by_hand_while_its_server_is_dead(
    scene: Scene, file: Path, signing_key: SigningKey
) -> None:
    scene.small.start_all()
    kept = died(scene, scene.name, str(PREFECT_API_URL.value()))
    done = by_hand(file, "--reason", "the server is dead")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Verified: IR-")
    assert "  workload  nothing of it runs" in done.stdout
    figures = r"contained_s=[\d.]+  (stopped_s=[\d.]+  )?total_s=[\d.]+"
    assert re.search(rf"  took      {figures} since the incident's first request", done.stdout)
    assert "  next      " in done.stdout
    assert len(scene.incidents) == 1
    assert len(cached(scene)) == kept
    found = verify_incident(scene.store, scene.home.name, read_signers(signing_key.allowed_signers), deep=False)
    assert found.is_complete, found.findings


@pytest.mark.soak
def test_what_was_begun_by_hand_is_carried_on_by_a_worker(scene: Scene, file: Path) -> None:
    scene.small.start_all()
    kept = died(scene, str(file), NOBODY)
    opened = json.loads((scene.home / "custody.jsonl").read_text().splitlines()[0])
    frozen = [line for line in (scene.home / "custody.jsonl").read_text().splitlines() if '"frozen"' in line]
    assert opened["actor"]["trigger"] == "by hand"
    times = [datetime.fromisoformat(json.loads(line)["at"]) for line in frozen]
    assert datetime.fromisoformat(opened["triggered"]) < min(times)
    assert max(times) < datetime.fromisoformat(opened["utc"])
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    assert len(scene.incidents) == 1
    assert len(cached(scene)) == kept


@pytest.mark.soak
@pytest.mark.parametrize("saved", [True, False])
def test_suspects_are_ended_by_hand_and_the_key_of_the_api_comes_from_a_file_or_the_operators_own_server(
    scene: Scene, file: Path, *, saved: bool
) -> None:
    """A program in the root by the workload's own Python, of a name that no pattern knows."""
    table, key, headers = f"[workload.{scene.name}]", f"k{uuid4().hex}", file.with_name("headers.json")
    reference = f"secret/{key[:12]}" if saved else str(headers)
    file.write_text(file.read_text().replace(table, f'{table}\napi_headers = "{reference}"'))
    headers.touch(0o600)
    headers.write_text(json.dumps({"token": key}))
    if saved:
        Secret(value=headers.read_text()).save(key[:12])
    program = [str(scene.small.root / "venv/bin/python"), "-c", "import time; time.sleep(600)"]
    scene.small.start(["setsid", "--fork", *program])
    wait_until(lambda: [each for each in scene.small.living() if each.cmdline() == program], what="its start")
    done = by_hand(file, "--suspects", "include", "--recover", server=str(PREFECT_API_URL.value()) if saved else NOBODY)
    assert done.stdout.startswith("Verified: "), done.stdout + done.stderr
    kept = [each for each in scene.home.rglob("*") if each.is_file()]
    assert not [each for each in kept if key.encode() in each.read_bytes()]
    assert key not in done.stdout + done.stderr
    assert "and now the API at" in done.stdout
    assert "not proven" not in done.stdout
    (api,) = scene.small.living()
    assert api.cmdline() != program
    facts = json.loads(next(scene.home.glob("record/001/verdict.json")).read_text())
    assert [each["role"] for each in facts["stop"]["processes"]] == ["suspect"]


def answered(scene: Scene, file: Path, pid: int) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PREFECT_API_URL": NOBODY, "SUDO_USER": "ana", "SUDO_UID": "1000"}
    words = ["answer", str(file), scene.home.name, str(pid), "end", "--reason", "a miner"]
    command = [sys.executable, "-m", "flows.cli", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.soak
def test_by_hand_only_who_is_unknown_is_answered(scene: Scene, file: Path, stranger: psutil.Process) -> None:
    scene.small.start_all()
    assert scene.evacuate().name == "Unanswered"
    refused = answered(scene, file, os.getpid())
    assert (refused.returncode, f"did not know: {stranger.pid}; got {os.getpid()}" in refused.stderr) == (2, True)


@pytest.mark.soak
def test_what_nobody_knows_is_ended_by_hand_and_then_all_is_verified(
    scene: Scene, file: Path, stranger: psutil.Process, signing_key: SigningKey
) -> None:
    scene.small.start_all()
    assert scene.evacuate().name == "Unanswered"
    done = answered(scene, file, stranger.pid)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"Verified: {scene.home.name}: ")
    assert f"{stranger.pid} (sleep 611) was answered by ana (1000): end" in done.stdout
    facts = json.loads((scene.home / "record/002/verdict.json").read_bytes())
    (receipt,) = [each for each in facts["stop"]["processes"] if each["identity"]["pid"] == stranger.pid]
    assert receipt["end"] == "stopped"
    assert len(facts["stop"]["processes"]) == 5
    assert (scene.home / "evidence.2").exists(), "it was looked at before it was ended"
    found = verify_incident(scene.store, scene.home.name, read_signers(signing_key.allowed_signers), deep=False)
    assert found.is_complete, found.findings


def test_what_is_refused_is_let_go_again_and_says_what_to_do(scene: Scene, file: Path) -> None:
    scene.small.start_all()
    file.write_text(file.read_text() + "[store.other]\nfolder = '/x'\n")
    done = by_hand(file)
    assert done.returncode == 2
    assert "expected one store in" in done.stderr
    assert ":NAME" in done.stderr
    assert psutil.STATUS_STOPPED not in {process.status() for process in scene.small.living()}
    assert not (scene.block.evidence / EARLY).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may raise its priority")
def test_the_shell_that_it_was_typed_in_computes_as_before_afterwards(tmp_path: Path) -> None:
    """The kernel gives priority to a whole session: a training started from that shell would have had ours."""
    if not Path("/proc/self/autogroup").exists():
        return
    line = '"$0" -m flows.cli run "$1"; cat /proc/self/autogroup'
    shell = ["sh", "-c", line, sys.executable, str(tmp_path / "none.toml")]
    done = subprocess.run(shell, start_new_session=True, capture_output=True, text=True, check=True)
    assert "expected a TOML file" in done.stderr
    assert done.stdout.split()[-1] == "0"


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "change", [{"root": "/"}, {"training_pattern": ".*"}, {"host": "elsewhere"}, {"api_port": "x"}]
)
def test_a_file_that_describes_the_whole_host_freezes_nothing(scene: Scene, change: dict[str, Any]) -> None:
    scene.small.start_all()
    fields = {"root": str(scene.small.root), "evidence_dir": str(scene.block.evidence), **change}
    early = freeze_described(fields)
    frozen = {process.pid for process in scene.small.living() if process.status() == psutil.STATUS_STOPPED}
    if early:
        thaw_again(early)
    assert not frozen or change == {"api_port": "x"}


@pytest.mark.skipif(os.geteuid() != 0, reason="in a user namespace of its own a run may not look at the workload")
@pytest.mark.soak
@pytest.mark.parametrize("tmpfs", ["size=4k", "nr_inodes=1"])
def test_where_no_folder_takes_a_file_it_is_contained_all_the_same_and_says_what_was_not_kept(
    scene: Scene, file: Path, tmpfs: str
) -> None:
    scene.small.start_all()
    scene.block.evidence.mkdir()
    no_room = without_room(scene.small.root.parent, scene.block.evidence, tmpfs)
    done = by_hand(file, within=[*no_room, "env", "HOME=/run"])
    try:
        assert scene.small.living() == [], done.stderr
        assert done.returncode == 4
        assert LinuxHost().refuses(scene.block.lock)
        assert done.stdout.startswith("Unverified: ")
        assert "the workload is contained" in done.stdout
        assert "nothing of this incident was kept" in done.stdout
        assert "evidence on this host" not in done.stdout
        assert "incident_id=" not in done.stdout
    finally:
        for pid in re.findall(r"the guard, process (\d+), holds the lock", done.stdout):
            guard = psutil.Process(int(pid))
            guard.terminate()
            guard.wait(10)
    assert list(scene.block.evidence.iterdir()) == []


@pytest.mark.whole
def test_a_dead_server_s_credentials_and_key_delay_no_containment(
    scene: Scene, tmp_path: Path, credentials: AwsCredentials, signing_key: SigningKey
) -> None:
    credentials.save(scene.name)
    signing_key.save(scene.name)
    path = tmp_path / "store.toml"
    names = {"credentials": f"aws-credentials/{scene.name}", "signing": f"signing-key/{scene.name}"}
    path.write_text(toml("store", "s", {"bucket": "evidence", **names}))
    block, keyless = with_usable_key(store_given(path)[1])
    assert isinstance(block.credentials, AwsCredentials)
    assert (block.credentials.aws_access_key_id, keyless) == (credentials.aws_access_key_id, "")
    with temporary_settings({PREFECT_API_URL: NOBODY}):
        _, fields = store_given(path)
    assert fields == {"bucket": "evidence", **names}
    with pytest.raises(ValueError, match="no Prefect server was there to give"):
        EvidenceStore.model_validate(fields)


@pytest.mark.parametrize(("mode", "told"), [(0o600, ""), (0o640, "chmod 600")])
def test_secrets_in_a_file_that_others_may_read_are_told(
    tmp_path: Path,
    mode: int,
    told: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "store.toml"
    keys = {"aws_access_key_id": "AKIA", "aws_secret_access_key": "secret-of-the-file"}
    path.write_text(toml("store", "s", {"bucket": "evidence", "credentials": keys}))
    path.chmod(mode)
    assert store_given(path)[0] == "s"
    assert bool(told) == bool(caplog.text)
    assert told in caplog.text
    assert "secret-of-the-file" not in caplog.text


def test_by_hand_the_launchers_are_those_of_the_operators_own_server(scene: Scene) -> None:
    store, launcher = {"folder": "/"}, Launcher(LauncherKind.POOL, "there-is-none")
    theirs = LocalConfig(scene.block, store, get_current_settings())
    with temporary_settings({PREFECT_API_URL: NOBODY}), using_local_config(theirs):
        assert [state.reason for state in PrefectScheduler().list_states([launcher], 10)] == [UNKNOWN]
    with temporary_settings({PREFECT_API_URL: None}):
        nobodys = LocalConfig(scene.block, store, get_current_settings())
    with using_local_config(nobodys):
        assert [state.reason for state in PrefectScheduler().list_states([launcher], 10)] == [NO_SERVER]
