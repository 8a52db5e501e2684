"""The kernel's tables where names hold every character that a name may hold, and processes that cannot be read."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import psutil
import pytest

from tasks.acquisition.procfs import fields, text
from tasks.host.cgroup.group import Hierarchy
from tasks.host.cgroup.ownership import path_of, unit_of
from tasks.host.container.mounts import spot_of
from tasks.host.process import table as processes
from tasks.host.process.matcher import Matcher
from tasks.host.process.open_files import mapped_files
from tasks.host.process.places import Places, mounts_of
from tasks.host.rights import hidden_by
from tasks.system.files import uncover
from tasks.system.kernel_tables import read_table
from tests.support.workloads import wait_until

BREAKS = ["\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\x01", "\udcff", ""]
"""What Python takes for an end of line, or for space, and the kernel does not escape."""


def table(name: str) -> str:
    """A mountinfo in which another account has mounted something at a folder of that name."""
    return (
        "22 27 0:21 / /proc rw - proc proc rw,hidepid=2\n27 1 254:0 / / rw - ext4 /dev/vda rw\n"
        f"40 27 0:50 / /mnt/{name}y/a\\040b rw,nosuid - fuse.x me rw\n"
        "41 27 0:32 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n50 27 254:16 /apps /srv ro - ext4 /dev/vdb rw\n"
    )


@pytest.fixture(params=BREAKS, ids=ascii)
def name(request: pytest.FixtureRequest) -> str:
    return f"x{request.param}"


def test_mounts_are_read_to_the_last_whatever_their_folders_are_called(tmp_path: Path, name: str) -> None:
    (tmp_path / "mountinfo").write_bytes(os.fsencode(table(name)))
    found = mounts_of(f"..{tmp_path}")
    assert list(found) == [22, 27, 40, 41, 50]
    assert (found[40].point, found[40].of_network) == (f"/mnt/{name}y/a b", True)
    assert (found[50].point, found[50].folder, found[50].read_only) == ("/srv", PurePosixPath("/apps"), True)


def test_a_line_that_is_not_understood_hides_no_other(tmp_path: Path) -> None:
    lines = table("").split("\n")
    (tmp_path / "mountinfo").write_text("\n".join(["", "rw", *lines[:3], "x y z", "9 9 9", *lines[3:]]))
    assert list(mounts_of(f"..{tmp_path}")) == [22, 27, 40, 41, 50]


def test_who_reads_a_table_by_its_text_reads_it_to_the_last_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / "table"
    path.write_bytes(os.fsencode(table(name)))
    text = read_table(path)
    assert text == table(name)
    assert spot_of(PurePath("/srv/one"), text).path == PurePath("/apps/one")
    assert hidden_by(text, 0, {1000}) == "hidepid=2"
    assert Hierarchy.find(text) == Hierarchy(Path("/sys/fs/cgroup"), "/")


def test_a_control_group_is_read_whatever_it_is_called(name: str) -> None:
    told = f"3:x:/{name}0::/no/a.service\n0::/own/{name}y/b.service\n"
    assert path_of(told) == f"/own/{name}y/b.service"
    assert unit_of(f"0::/a.service/{name}y\n") == "a.service"


CALLED = """import ctypes, mmap, os, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
libc, name = ctypes.CDLL(None), os.fsencode(sys.argv[1])
assert not libc.prctl(15, name)
file = open("row\\n00400000-00401000 rw-s 00000000 00:01 7 passwd", "w+b")
file.truncate(4096)
memory = mmap.mmap(file.fileno(), 4096)
print(flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root acts as another account")
@pytest.mark.parametrize("comm", ["\nUid:\t0\t0\t0", ") Z 1 1 1 1 1", "a\nTgid:\t1", "x\\nUid:\t0", "))) T 0"])
def test_no_name_of_a_process_or_of_what_it_maps_is_taken_for_a_field(tmp_path: Path, comm: str) -> None:
    """A name may hold all that separates the fields of stat, of status and of maps."""
    tmp_path.chmod(0o777)
    words = [sys.executable, "-c", CALLED, comm]
    with subprocess.Popen(words, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == b"\n"
        wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_SLEEPING, what="that it reads")
        seen = processes.read_process(process.pid)
        rows = fields(text(process.pid, "status"))
        mapped = {each[1] for each in mapped_files(process.pid, read_table(f"/proc/{process.pid}/maps"))}
        process.stdin.close()
    assert seen
    assert (seen.user, seen.parent, seen.state, seen.name) == (65534, os.getpid(), "S", comm)
    assert (rows["Uid"].split(), rows["Tgid"]) == (["65534"] * 4, str(process.pid))
    assert [each for each in mapped if "passwd" in each] == [f"{tmp_path}/{each.name}" for each in tmp_path.iterdir()]


def test_what_a_driver_adds_to_fdinfo_changes_nothing_of_the_kernels_own() -> None:
    """The name of a dma-buf, which its owner sets, is printed there with its newlines."""
    told = fields("pos:\t0\nflags:\t012100000\nmnt_id:\t5\nino:\t7\nname:\tx\nflags:\t02\nino:\t9\n")
    assert (told["flags"], told["ino"], told["name"]) == ("012100000", "7", "x")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_no_source_or_folder_of_a_mount_is_taken_for_a_field(tmp_path: Path) -> None:
    source = "x - overlay y rw,upperdir=/\n9999 1 0:1 / / rw - ext4 z rw,user_id=7"
    (point := tmp_path / source.replace("/", "|")).mkdir()
    words = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs "$0" "$1" && echo && exec cat', source, str(point)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == b"\n"
        found = mounts_of(process.pid)
        process.stdin.close()
    assert 9999 not in found
    assert [(each.kind, each.upper) for each in found.values() if each.point == str(point)] == [("tmpfs", "")]


def test_whose_a_fuse_file_system_is_tell_its_options_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kind and source are texts of who mounted: root's own was detached as another account's."""
    row = f"40 27 0:50 / {tmp_path} rw - fuse.user_id=8 user_id=7 rw,user_id={{}},group_id=0\n"
    for owner, expected in (("0", None), ("9", (str(tmp_path), "9"))):
        monkeypatch.setattr(uncover, "read_table", lambda _, owner=owner: row.format(owner))
        assert uncover._cover(tmp_path) == expected


FAILURES = [ValueError("no number"), OSError(36, "File name too long"), KeyError(4), MemoryError(), RecursionError()]


@pytest.fixture(params=FAILURES, ids=lambda each: type(each).__name__)
def failing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Whoever looks where this process lies fails; it can be read otherwise."""
    of = Places.of

    def fails(self: Places, where: int | str, *about: Any) -> Any:
        if where == os.getpid():
            raise request.param
        return of(self, where, *about)

    monkeypatch.setattr(Places, "of", fails)
    return os.getpid()


def test_one_that_cannot_be_read_is_named_and_all_others_are_read(tmp_path: Path, failing: int) -> None:
    places = Places(tmp_path)
    sound = {pid: each for pid, each in processes.read_processes(frozenset(), places).items() if pid != failing}
    assert os.getppid() in sound
    assert not any(each.unread for each in sound.values())
    tabled = processes.ProcessTable(frozenset(), places).look(lambda _: False)
    _, new = processes.arrivals(failing - 1, places) if failing > 1 else (0, [])
    single = processes.read_process(failing, None, places)
    for each in filter(None, [tabled[failing], single, *(one for one in new if one.pid == failing)]):
        assert (each.placeless, each.places) == (True, frozenset())
        assert each.unread
        assert each.command
        assert each.identity.start == processes.start_of(failing)


@pytest.mark.parametrize("name", ["stat", "status", "cmdline"])
def test_one_of_which_nothing_can_be_read_is_still_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    read, us = processes._bytes, os.getpid()

    def fails(where: int | str, what: str, *more: Any) -> bytes:
        if where == us and what == name:
            raise OSError(5, "Input/output error")
        return read(where, what, *more)

    monkeypatch.setattr(processes, "_bytes", fails)
    seen = processes.read_processes(frozenset(), Places(tmp_path))
    assert seen[us].unread
    assert seen[us].alive
    assert not seen[os.getppid()].unread


HUGE = """
import ctypes, mmap, struct, sys
which, head = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
size = 1 << 29
at = libc.mmap(None, ctypes.c_size_t(size), 3, 0x4022, -1, ctypes.c_long(0))
head = head.replace(chr(44), chr(0))
ctypes.memmove(at, head.encode(), len(head))
words = [0, *map(int, open("/proc/self/stat").read().rpartition(") ")[2].split()[1:])]
arguments, environment = words[45:47], words[47:49]
if which == "cmdline":
    arguments = [at, at + size]
else:
    environment = [at, at + size]
libc.sbrk.restype = ctypes.c_void_p
layout = [words[23], words[24], words[42], words[43], words[44], libc.sbrk(0), words[25], *arguments, *environment, 0]
about = ctypes.create_string_buffer(struct.pack("12QII", *layout, 0, 2**32 - 1))
failed = libc.prctl(35, 14, about, len(about) - 1, 0)
print(ctypes.get_errno() if failed else 0, flush=True)
sys.stdin.read()
"""


@contextmanager
def huge(which: str, head: str) -> Iterator[int]:
    """A process that has 512 MiB of this, and no memory for it."""
    command = [sys.executable, "-I", "-c", HUGE, which, head]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/") as child:
        assert child.stdout
        try:
            if (number := int(child.stdout.readline())) != 0:
                pytest.skip(f"this kernel lets no process choose: {os.strerror(number)}")
            yield child.pid
        finally:
            child.kill()


def test_of_a_command_line_without_an_end_the_head_is_read_and_counts(tmp_path: Path) -> None:
    with huge("cmdline", "python,src/train.py,x") as pid:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seen = processes.read_process(pid, None, Places(tmp_path))
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000
    assert seen
    assert (seen.command, seen.unread) == (("python", "src/train.py", "x"), "")
    assert Matcher("training", r"src/train\.py").names(seen)


@pytest.mark.parametrize(("name", "value"), [("FIRST", "one"), ("OTHER", None)])
def test_of_an_environment_without_an_end_what_is_not_in_its_head_is_not_known(name: str, value: str | None) -> None:
    with huge("environ", "FIRST=one,") as pid:
        assert processes.variable_of(pid, name) == value


@pytest.mark.slow
def test_a_table_that_is_too_large_is_not_taken_for_a_part_of_it(tmp_path: Path) -> None:
    with (tmp_path / "mountinfo").open("wb") as file:
        file.write(os.fsencode(table("")))
        file.truncate(1 << 26)
    with pytest.raises(OSError, match="too large"):
        read_table(tmp_path / "mountinfo")
    assert mounts_of(f"..{tmp_path}") == {}


@contextmanager
def standing(folder: Path, levels: int) -> Iterator[int]:
    """A process so many levels below a folder."""
    deep = folder.joinpath(*["d"] * levels)
    deep.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(["sleep", "600"], cwd=deep) as child:
        try:
            yield child.pid
        finally:
            child.kill()


@pytest.mark.parametrize(("levels", "is_known"), [(5, True), (30, True), (150, False)])
def test_a_folder_that_lies_too_deep_is_not_taken_for_one_outside_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, levels: int, *, is_known: bool
) -> None:
    monkeypatch.setattr("tasks.host.process.places._LEVELS", 100)
    (tmp_path / "root").mkdir()
    with standing(tmp_path / "root", levels) as pid:
        seen = processes.read_process(pid, None, Places(tmp_path / "root"))
    assert seen
    assert seen.is_rooted is is_known
    assert bool(seen.unread) is not is_known


def test_deep_folders_of_an_account_cost_a_look_so_much_and_what_is_shallow_is_known_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.host.process.places._SHALLOW", 20)
    monkeypatch.setattr("tasks.host.process.places._DEEP", 60)
    (tmp_path / "root").mkdir()
    with ExitStack() as stack:
        deep = [stack.enter_context(standing(tmp_path / str(number), 70)) for number in range(5)]
        inside = stack.enter_context(standing(tmp_path / "root", 3))
        places = Places(tmp_path / "root")
        for _ in range(2):
            seen = [processes.read_process(pid, None, places) for pid in (*deep, inside)]
            assert [bool(each and each.unread) for each in seen] == [False, True, True, True, True, False]
            assert seen[-1]
            assert seen[-1].is_rooted
            places.forget()
