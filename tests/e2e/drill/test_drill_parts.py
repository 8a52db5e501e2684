"""The drill's parts: on loopback only, side by side, and gone with us however we go."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import psutil
import pytest
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks.s3.store import S3Store
from tasks.custody.store.manifest import digest_bytes
from tasks.drill.store_and_worker import SeaweedFS, Worker
from tasks.prefect_side.own_server import PrefectServer
from tasks.system.free_ports import answers, ask
from tasks.system.managed_process import ManagedProcess, ManagedProcessError
from tests.support.workloads import wait_until

PROJECT = Path(__file__).resolve().parents[3]


def family(pid: int) -> list[psutil.Process]:
    """A keeper and all below it."""
    keeper = psutil.Process(pid)
    return [keeper, *keeper.children(recursive=True)]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; a zombie computes nothing and holds nothing."""

    def runs(process: psutil.Process) -> bool:
        try:
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return [process for process in processes if runs(process)]


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)


def listening(part: ManagedProcess) -> set[str]:
    return {
        connection.laddr.ip
        for process in family(part.pid)
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }


def contents(server: SeaweedFS) -> S3Store:
    keys = AwsCredentials(aws_access_key_id=server.access_key, aws_secret_access_key=SecretStr(server.secret_key))
    return S3Store(server.bucket, "", credentials=keys, endpoint=server.endpoint)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    with PrefectServer(tmp_path_factory.mktemp("prefect server")) as running:
        yield running


@pytest.mark.soak
def test_two_stores_side_by_side_on_loopback_only(tmp_path: Path) -> None:
    with SeaweedFS(tmp_path / "one") as one, SeaweedFS(tmp_path / "another one") as other:
        assert listening(one) == listening(other) == {"127.0.0.1"}
        contents(one).create("key", b"x", digest_bytes(b"x"))
        assert contents(other).head("key") is None
        processes = family(one.pid) + family(other.pid)
        assert len(alive(processes)) == len(processes) == 4
    assert alive(processes) == []


@pytest.mark.whole
def test_its_secret_is_in_a_private_file_and_not_in_its_command_line(tmp_path: Path) -> None:
    with SeaweedFS(tmp_path / "store") as store:
        assert (tmp_path / "store" / "s3.json").stat().st_mode & 0o777 == 0o600
        lines = " ".join(word for process in family(store.pid) for word in process.cmdline())
        assert store.secret_key not in lines + store.log.read_text()


@pytest.mark.soak
def test_a_restart_keeps_data_and_address(tmp_path: Path) -> None:
    with SeaweedFS(tmp_path / "store") as store:
        endpoint = store.endpoint
        contents(store).create("key", b"x", digest_bytes(b"x"))
        store.restart()
        assert store.endpoint == endpoint
        assert contents(store).read("key") == b"x"


@pytest.mark.whole
def test_a_port_that_was_taken_in_between_is_replaced(tmp_path: Path) -> None:
    with socket.socket() as thief:
        store = SeaweedFS(tmp_path / "store")
        taken = store.ports["volume"]
        thief.bind(("127.0.0.1", taken))
        thief.listen()
        with store:
            assert store.ports["volume"] != taken
            assert contents(store).head("key") is None


def test_a_part_that_does_not_come_up_says_why_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SeaweedFS, "tries", 1)
    monkeypatch.setattr(SeaweedFS, "command", lambda _: [sys.executable, "-c", "print('no luck today')"])
    store = SeaweedFS(tmp_path / "store")
    with pytest.raises(ManagedProcessError, match="no luck today"):
        store.start()
    with pytest.raises(ManagedProcessError, match="not started"):
        _ = store.pid


def test_a_part_that_is_never_ready_is_ended_at_its_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SeaweedFS, "tries", 1)
    monkeypatch.setattr(SeaweedFS, "ready_seconds", 0.5)
    monkeypatch.setattr(SeaweedFS, "command", lambda _: ["sleep", "41.5"])
    with pytest.raises(ManagedProcessError, match=r"none within 0\.5 s"):
        SeaweedFS(tmp_path / "store").start()
    assert not [process for process in psutil.process_iter(["cmdline"]) if "41.5" in (process.info["cmdline"] or [])]


@pytest.mark.whole
def test_a_part_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    store = SeaweedFS(tmp_path / "store")
    thread = Thread(target=store.start)
    thread.start()
    thread.join()
    time.sleep(0.5)
    assert store.ready()
    store.stop()


STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"])
time.sleep(600)
"""


def test_a_part_that_ignores_its_end_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SeaweedFS, "grace_seconds", 0.5)
    monkeypatch.setattr(SeaweedFS, "command", lambda _: [sys.executable, "-c", STUBBORN])
    monkeypatch.setattr(SeaweedFS, "ready", lambda part: len(family(part.pid)) == 3)
    store = SeaweedFS(tmp_path / "store")
    store.start()
    processes = family(store.pid)
    time.sleep(0.3)
    store.stop()
    until(lambda: not alive(processes), 5)


ORPHANS = """
import sys, time
from pathlib import Path
from tasks.drill.store_and_worker import SeaweedFS
from tasks.system.managed_process import outlive

store = SeaweedFS(Path(sys.argv[1]))
store.start()
print(store.pid, flush=True)
if sys.argv[2] == "outlive":
    print(outlive([store]), store.endpoint, flush=True)
else:
    time.sleep(600)
"""


def start_in_another_process(folder: Path, mode: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", ORPHANS, str(folder), mode]
    return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)


@pytest.mark.sample(1)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_parent_that_is_killed_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    with start_in_another_process(tmp_path / "store", "stay") as parent:
        assert parent.stdout is not None
        processes = family(int(parent.stdout.readline()))
        assert len(alive(processes)) == 2
        parent.send_signal(number)
        parent.wait()
        until(lambda: not alive(processes))


def test_a_server_that_ends_by_itself_leaves_its_log_to_whoever_started_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(PrefectServer, "command", lambda _: ["sh", "-c", "echo no room; exit 3"])
    with pytest.raises(ManagedProcessError, match=r"(?s)one that ended at once.*no room"):
        PrefectServer(tmp_path).start()


@pytest.mark.whole
def test_parts_can_be_left_up_until_their_holder_ends(tmp_path: Path) -> None:
    with start_in_another_process(tmp_path / "store", "outlive") as parent:
        output = parent.communicate()[0]
    assert parent.returncode == 0
    keeper, holder, endpoint = output.split()
    processes = family(int(keeper))
    assert answers(f"{endpoint}/healthz")
    psutil.Process(int(holder)).terminate()
    until(lambda: not alive(processes))


@pytest.mark.whole
def test_the_prefect_server_listens_on_loopback_only_and_knows_its_own_address(server: PrefectServer) -> None:
    assert listening(server) == {"127.0.0.1"}
    assert server.api.encode() in (ask(f"{server.ui}/ui-settings") or b"")
    assert (server.folder / "prefect.db").exists()


@pytest.mark.soak
def test_a_second_prefect_server_and_its_end(server: PrefectServer, tmp_path: Path) -> None:
    with PrefectServer(tmp_path / "second") as second:
        assert second.api != server.api
        processes = family(second.pid)
    assert alive(processes) == []
    assert server.ready()


def test_the_servers_environment_is_whole_and_of_nobody_else(
    server: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_KEY", "somebody-else's")
    monkeypatch.setenv("PREFECT_API_URL", "https://elsewhere")
    env = server.env
    assert env["PREFECT_API_URL"] == server.api
    assert "PREFECT_API_KEY" not in env
    assert env["PATH"]


@pytest.mark.whole
def test_a_worker_is_online_when_it_is_ready_and_gone_when_it_is_stopped(server: PrefectServer, tmp_path: Path) -> None:
    with Worker(tmp_path / "worker", server, "pool-one") as worker:
        first = family(worker.pid)
        worker.restart()
        assert alive(first) == []
        wait_until(lambda: worker.log.read_text().count("started!") == 2, what="the second start in the log")
        second = family(worker.pid)
    assert alive(second) == []
