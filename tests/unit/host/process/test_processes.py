"""Reading a process while it ends, and again when it has changed; whom nobody touches."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from signal import SIGSTOP
from typing import Any

import pytest

from tasks.custody.containment.place import Place
from tasks.host.process import table as processes
from tasks.host.process.places import Places
from tasks.host.process.process import Process, ancestry
from tests.support.workloads import open_the_way, wait_until

NOBODY = 65534


def test_one_that_ends_while_it_is_read_is_not_taken_for_one_that_may_not_be_looked_into(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = processes._bytes
    with subprocess.Popen(["sleep", "600"]) as child:
        # in the middle of its exec it has none yet
        wait_until(lambda: Path(f"/proc/{child.pid}/cmdline").read_bytes(), what="its command line")

        def ends_then(where: int | str, name: str, *limit: int) -> bytes:
            data = read(where, name, *limit)
            if name == "cmdline":
                child.kill()
                child.wait()
            return data

        monkeypatch.setattr(processes, "_bytes", ends_then)
        process = processes.read_process(child.pid)
    assert process
    assert process.command == ("sleep", "600")
    assert not process.placeless


HEADLESS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.fixture
def headless() -> Iterator[int]:
    """A process whose main thread has exited, and which another thread keeps alive."""
    with subprocess.Popen([sys.executable, "-c", HEADLESS]) as child:
        stat = Path(f"/proc/{child.pid}/stat")
        try:
            wait_until(lambda: stat.read_text().rpartition(") ")[2][0] == "Z", what="the main thread's end")
            yield child.pid
        finally:
            child.kill()


@pytest.mark.parametrize("name", ["stat", "status", "cmdline"])
@pytest.mark.parametrize("relays", [2, 10**9], ids=["twice", "always"])
def test_one_whose_threads_end_as_they_are_read_is_alive(
    headless: int, monkeypatch: pytest.MonkeyPatch, name: str, relays: int
) -> None:
    """One thread at a time that starts the next and exits was no process to each look, or a zombie."""
    read, met = processes._bytes, 0

    def ends_before(where: int | str, what: str, *limit: int) -> bytes:
        nonlocal met
        if "/task/" in str(where) and what == name and met < relays:
            met += 1
            raise FileNotFoundError
        return read(where, what, *limit)

    monkeypatch.setattr(processes, "_bytes", ends_before)
    process = processes.read_process(headless)
    assert process
    assert process.alive
    assert (process.command[-1:] == (HEADLESS,)) is (relays == 2)


def test_no_name_spares_a_process_and_who_listens_for_our_api_is_spared() -> None:
    """Any program can call itself Prefect, or listen anywhere."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        ours = {1, *ancestry(processes.read_processes(frozenset()), [os.getpid()])}
        prefect, other = ("prefect", "server", "start"), ("python", "-m", "http.server")
        with holding(server) as peer, holding() as named, holding(server) as stranger:
            snapshot = processes.read_processes(frozenset())
            for pid, command in ((peer, prefect), (named, prefect), (stranger, other)):
                snapshot[pid] = replace(snapshot[pid], command=command, executable=f"/usr/bin/{command[0]}")
            assert processes.untouchable(snapshot, {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}) == {*ours, peer}
            assert processes.untouchable(snapshot, {"PREFECT_API_URL": "http://127.0.0.1:1/api"}) == ours
            snapshot[peer] = replace(snapshot[peer], foreign=True)  # it may listen at another address
            assert processes.untouchable(snapshot, {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}) == ours
            assert processes.untouchable(snapshot, {"PREFECT_API_URL": "http://127.0.0.1:x/api"}) == ours
            assert processes.untouchable(snapshot, {}) == ours


@contextmanager
def holding(*sockets: socket.socket) -> Iterator[int]:
    """A child that has these sockets open."""
    with subprocess.Popen(["sleep", "600"], pass_fds=[each.fileno() for each in sockets]) as child:
        try:
            yield child.pid
        finally:
            child.kill()


def test_who_listens_is_told_where_no_folder_is_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with holding(server) as child, holding() as other:
            snapshot = processes.read_processes(frozenset({port}))
    assert snapshot[child].ports == snapshot[os.getpid()].ports == {port}
    assert snapshot[other].ports == frozenset()


def test_a_table_reads_again_who_has_changed_and_everybody_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = processes.ProcessTable(frozenset(), Places(tmp_path))
    read, met = processes.read_process, list[int]()

    def counted(pid: int, *about: Any) -> Process | None:
        met.append(pid)
        return read(pid, *about)

    monkeypatch.setattr(processes, "read_process", counted)

    def looks(*, changing: bool = False) -> int:
        """How often the child is read in a look at which it is there."""
        met.clear()
        assert child.pid in table.look(lambda process: changing and process.pid == child.pid)
        return met.count(child.pid)

    with subprocess.Popen(["sh", "-c", "read line; exec sleep 600"], stdin=subprocess.PIPE) as child:
        assert child.stdin
        try:
            wait_until(lambda: b"read line" in Path(f"/proc/{child.pid}/cmdline").read_bytes(), what="the shell")
            looks()
            assert sum(looks() for _ in range(32)) == 1
            assert [looks(changing=True) for _ in range(3)] == [1, 1, 1]
            child.stdin.write(b"\n")
            child.stdin.flush()
            wait_until(lambda: b"600" in Path(f"/proc/{child.pid}/cmdline").read_bytes().split(b"\0"), what="the exec")
            assert table.look(lambda _: False)[child.pid].command == ("sleep", "600")
            child.send_signal(SIGSTOP)
            wait_until(lambda: processes.read_process(child.pid).is_stopped, what="the stop")  # type: ignore[union-attr]
            assert table.look(lambda _: False)[child.pid].is_stopped
        finally:
            child.kill()
    assert child.pid not in table.look(lambda _: False)


@pytest.mark.skipif(os.geteuid() != 0, reason="to be several accounts needs root")
@pytest.mark.parametrize(
    ("account", "program", "strange", "foreign"),
    [
        (NOBODY, "a copy of its own", True, True),
        (NOBODY, "root's own", False, True),
        (NOBODY, "a copy that may be written", True, True),
        (0, "a copy of its own", False, False),
    ],
)
def test_a_programs_name_counts_only_where_root_has_put_it(
    tmp_path: Path, account: int, program: str, *, strange: bool, foreign: bool
) -> None:
    """A copy of Python called `tail` may carry the pattern as text, nobody thought."""
    open_the_way(tmp_path)
    real, copy = Path(shutil.which("tail") or ""), tmp_path / "tail"
    if program != "root's own":
        shutil.copy(real, copy)
        os.chown(copy, *((0, 0) if "written" in program else (account, account)))
        copy.chmod(0o777 if "written" in program else 0o755)
    command = [str(copy if copy.exists() else real), "-f", "/dev/null"]
    with subprocess.Popen(command, cwd="/", user=account, group=account, extra_groups=[]) as child:
        try:
            seen = processes.read_process(child.pid, None, Places(tmp_path))
        finally:
            child.kill()
    assert seen
    assert (seen.strange, seen.foreign) == (strange, foreign)


def test_a_script_by_the_number_of_a_descriptor_is_the_processs_own_and_not_ours(tmp_path: Path) -> None:
    """Every run has its lock open, often below the root: who ran a script by that number was taken for the workload."""
    script, commands = os.pipe()
    with subprocess.Popen(["sh", f"/dev/fd/{script}"], pass_fds=[script], cwd="/") as child:
        try:
            file = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
            os.dup2(file, script)
            seen = processes.read_process(child.pid, None, Places(tmp_path))
        finally:
            child.kill()
    for each in (script, commands, file):
        os.close(each)
    assert seen
    assert seen.places == frozenset()


def test_a_script_by_the_number_of_its_own_descriptor_lies_where_that_leads(tmp_path: Path) -> None:
    (path := tmp_path / "script").write_text("read line")
    with (
        path.open() as script,
        subprocess.Popen(
            ["sh", f"/dev/fd/{script.fileno()}"], pass_fds=[script.fileno()], cwd="/", stdin=subprocess.PIPE
        ) as child,
    ):
        try:
            seen = processes.read_process(child.pid, None, Places(tmp_path))
        finally:
            child.kill()
    assert seen
    assert seen.places == frozenset({Place.SCRIPT})


def test_a_look_leaves_no_file_open(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        before = len([*Path("/proc/self/fd").iterdir()])
        for _ in range(3):
            processes.read_processes(frozenset({port}), Places(tmp_path))
        assert len([*Path("/proc/self/fd").iterdir()]) == before


@pytest.mark.parametrize(
    ("flags", "faults", "forked"), [(0x40, 0, b"f"), (0x400040, 0x40, b"f"), (0x400000, 0x40, b"")]
)
def test_whether_it_has_become_another_program_since_its_fork_is_part_of_what_tells_it(
    monkeypatch: pytest.MonkeyPatch, flags: int, faults: int, forked: bytes
) -> None:
    """By the flags of proc(5), not by the number of page faults beside them."""
    line = f"7 (a b) c) S 1 2 3 0 -1 {flags} {faults} 0 0 0 0 0 0 0 20 0 1 0 4711 0 0".encode()
    monkeypatch.setattr(processes, "_bytes", lambda *_: line)
    assert processes._sign_of(7) == (b"7 (a b) c", b"", b"1", b"2", b"3", b"4711", forked)


def test_a_process_whose_main_thread_has_exited_is_read_at_another(headless: int) -> None:
    """The kernel calls it a zombie, and shows no command line of it."""
    found = processes.read_process(headless)
    assert found
    assert found.command[:2] == (sys.executable, "-c")
    assert found.alive
