"""What the kernel tells of sockets is its own word, whatever an account has called one of them."""

import os
import socket
import struct
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.system import unix_sockets
from tasks.system.unix_sockets import LISTENS, UnixSocket, UnixSockets

BINDS = (
    "import os, socket; s = socket.socket(socket.AF_UNIX); s.bind({!r}); s.listen(); print(os.fstat(s.fileno()).st_ino)"
)


@pytest.fixture(autouse=True)
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket's name has 107 bytes at most."""
    monkeypatch.chdir(tmp_path)


def found_of(each: socket.socket) -> UnixSocket | None:
    asked = UnixSockets()
    assert not asked.ask("self")
    return asked.found.get(os.fstat(each.fileno()).st_ino)


def test_a_socket_has_the_file_that_it_was_bound_to_and_no_other_has_one() -> None:
    """The file is told by device and inode, also of one that was accepted there, and once it has lost its name."""
    with ExitStack() as stack:
        bound, own, near = (stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(3))
        bound.bind("a b\n.sock")
        file = Path("a b\n.sock").stat()
        bound.listen()
        near.connect("a b\n.sock")
        accepted = stack.enter_context(bound.accept()[0])
        Path("a b\n.sock").unlink()
        expected = file.st_dev, file.st_ino & 0xFFFFFFFF
        assert found_of(bound) == UnixSocket(LISTENS, "a b\n.sock", expected)
        assert found_of(accepted) == UnixSocket(1, "a b\n.sock", expected)
        assert found_of(own) == UnixSocket(7, "", None)
        assert found_of(near) == UnixSocket(1, "", None)
        assert found_of(stack.enter_context(socket.create_server(("127.0.0.1", 0)))) is None


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=100))
def test_no_abstract_name_adds_a_socket_or_changes_one(name: bytes) -> None:
    """A parser of text takes what follows a newline for a row; one of messages may take a name's bytes for more."""
    with socket.socket(socket.AF_UNIX) as true, socket.socket(socket.AF_UNIX) as forger:
        Path("true").unlink(missing_ok=True)
        true.bind("true")
        (before := UnixSockets()).ask("self")
        row = b"\n0: 2 0 00010000 1 1 %d /x" % os.fstat(true.fileno()).st_ino
        forger.bind(b"\0" + (name + row if len(name + row) < 107 else name))
        (after := UnixSockets()).ask("self")
        number = os.fstat(forger.fileno()).st_ino
        assert after.found[number].file is None
        assert os.fsencode(after.found[number].name)[1:].startswith(name)
        assert (
            after.found[os.fstat(true.fileno()).st_ino]
            == found_of(true)
            == before.found[os.fstat(true.fileno()).st_ino]
        )


def test_of_more_sockets_than_one_message_holds_none_is_left_out() -> None:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(1000)]
        for number, each in enumerate(sockets):
            each.bind(f"\0{number} of {os.getpid()} and a name that is quite long, as long as names of sockets may be")
        (asked := UnixSockets()).ask("self")
        assert {os.fstat(each.fileno()).st_ino for each in sockets} <= asked.found.keys()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root enters a network namespace")
def test_another_network_is_asked_in_and_ours_is_not_left() -> None:
    """A thread that stayed there would open what this process opens later in that network."""
    ours = Path("/proc/self/ns/net").readlink()
    words = [
        "unshare",
        "--net",
        sys.executable,
        "-c",
        f"{BINDS.format('away')}; import sys; sys.stdout.flush(); input()",
    ]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        number = int(process.stdout.readline())
        there, here = UnixSockets(), UnixSockets()
        assert (there.ask(process.pid), here.ask("self")) == ("", "")
        process.stdin.close()
    assert there.found[number].name == "away"
    assert number not in here.found
    assert {(each / "ns/net").readlink() for each in Path("/proc/self/task").iterdir()} == {ours}


def test_a_kernel_that_does_not_tell_is_no_kernel_without_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one without unix_diag: it has no handler for the family that is asked for."""
    family = unix_sockets._REQUEST[:16] + struct.pack("=B", 45) + unix_sockets._REQUEST[17:]
    monkeypatch.setattr(unix_sockets, "_REQUEST", family)
    asked = UnixSockets()
    assert asked.ask("self").startswith("unix_diag: ")
    assert asked.ask("self").startswith("unix_diag: ")
    assert not asked.found
