"""What is read of processes and of the root's age, where a file system or a command line is not as expected."""

import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tasks.host.process import contents
from tasks.host.process import open_files as process_handles
from tasks.host.process.handles import Handles
from tasks.host.process.open_files import birth_of, read_handles
from tasks.host.process.places import Places
from tasks.host.process.process import Process
from tasks.host.process.table import read_process
from tests.support.workloads import wait_until


@pytest.mark.parametrize("path", ["/", "/proc", "/sys", "/dev"])
def test_of_every_file_system_a_time_of_birth_is_known_or_not(path: str) -> None:
    """A kernel that fills in all that it was not asked for ended the look with an error."""
    assert 0 < birth_of(path) <= float("inf")


def test_a_folder_was_made_when_it_was_made(tmp_path: Path) -> None:
    began = time.time()
    made = tmp_path / "made"
    made.mkdir()
    assert birth_of(str(made)) == float("inf") or abs(birth_of(str(made)) - began) < 5
    assert birth_of(str(tmp_path / "missing")) == float("inf")


def test_a_time_of_birth_is_the_one_that_stat_tells(tmp_path: Path) -> None:
    told = subprocess.run(["stat", "--format=%.6W", tmp_path], check=True, capture_output=True, text=True).stdout
    assert birth_of(str(tmp_path)) == pytest.approx(float(told) or float("inf"), rel=0, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("--app-dir={}", True),
        ("{}/src/train.py", True),
        ("import sys; sys.path.append('{}')", True),
        ("{}2:{}", True),
        ("{}2/src/train.py", False),
        ("{}-old", False),
        ("src/train.py", False),
    ],
)
@pytest.mark.parametrize("variable", ["PYTHONPATH", "HOME", ""])
def test_a_process_names_the_root_by_an_argument_or_by_a_variable_that_leads_there(
    tmp_path: Path, text: str, variable: str, *, names: bool
) -> None:
    word = text.replace("{}", str(tmp_path))
    words, environment = ([], {variable: word}) if variable else ([word], {})
    command = ["sh", "-c", "read line", "sh", *words]
    with subprocess.Popen(
        command, cwd="/", env={"PATH": "/usr/bin:/bin", **environment}, stdin=subprocess.PIPE
    ) as child:
        try:
            wait_until(lambda: Path(f"/proc/{child.pid}/cmdline").read_bytes().startswith(b"sh"), what="its exec")
            places = Places(tmp_path)
            process = read_process(child.pid, None, places)
            assert process
            (handles,) = read_handles([process], places).values()
        finally:
            child.kill()
    assert bool(handles.names_root) is (names and variable != "HOME")


SEPARATORS = ["\r", "\v", "\f", "\x1c", "\x85", "\u2028", "\n", "\\012", "\\", " ", "\t", "\udcff", ""]
HOLDER = """
import ctypes, mmap, os, sys, threading
root, libc = sys.argv[1], ctypes.CDLL(None, use_errno=True)
kept, done = [], threading.Event()
{}
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def holding(root: Path, code: str) -> Iterator[Handles]:
    """What is read of a process that has done this, and works elsewhere."""
    with doing(root, code) as (_, handles):
        yield handles


@contextmanager
def doing(root: Path, code: str) -> Iterator[tuple[Process, Handles]]:
    """A process that has done this, and its handles."""
    command = [sys.executable, "-I", "-c", HOLDER.format(code), os.fspath(root)]
    with subprocess.Popen(command, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        try:
            assert child.stdout.readline() == b"ready\n"
            places = Places(root)
            process = read_process(child.pid, None, places)
            assert process
            (handles,) = read_handles([process], places).values()
            yield process, handles
        finally:
            child.kill()


@pytest.mark.parametrize("breaks", SEPARATORS, ids=ascii)
def test_a_mapped_file_of_any_name_is_one_file_and_ends_no_look(tmp_path: Path, breaks: str) -> None:
    path = tmp_path / f"x{breaks}a rw-s 0 zz:zz 5 p"
    path.write_bytes(bytes(mmap.PAGESIZE))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        process = read_process(os.getpid(), None, Places(tmp_path))
        assert process
        (handles,) = read_handles([process], Places(tmp_path)).values()
    assert not handles.denied
    assert not handles.unread
    assert str(path) in handles.written & handles.below


def test_an_open_file_deeper_than_the_kernel_can_spell_makes_its_process_unread_alone(tmp_path: Path) -> None:
    deep = """
os.chdir(root)
for name in ["d" * 250] * 20:
    os.mkdir(name)
    os.chdir(name)
kept += [open("f", "w"), open(root + "/seen", "w")]
os.chdir("/")
"""
    with holding(tmp_path, deep) as handles:
        assert "File name too long" in handles.unread
        assert str(tmp_path / "seen") in handles.written & handles.below
    subprocess.run(["rm", "-rf", str(tmp_path / ("d" * 250))], check=True)


@pytest.mark.parametrize("error", [ValueError("no number"), OSError(5, "Input/output error"), RecursionError()])
def test_any_error_of_one_process_is_that_processs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    maps = process_handles.mapped_files

    def fails(*about: Any) -> Any:
        if not met:
            met.append(about)
            raise error
        return maps(*about)

    met = list[Any]()
    monkeypatch.setattr(process_handles, "mapped_files", fails)
    processes = [each for pid in (os.getpid(), os.getppid()) if (each := read_process(pid, None, Places(tmp_path)))]
    first, second = read_handles(processes, Places(tmp_path)).values()
    assert first.denied
    assert first.unread.startswith(type(error).__name__)
    assert not second.unread


THREAD = """
def work():
    if act and libc.unshare(0x400):  # CLONE_FILES
        raise SystemExit(1)
    kept.append(os.open(root + "/log", os.O_WRONLY | os.O_CREAT))
    done.set()
    threading.Event().wait()
for act in ACTS:
    done.clear()
    threading.Thread(target=work, daemon=True).start()
    done.wait()
"""
HEADLESS = "print('ready', flush=True)\nlibc.pthread_exit(None)\n"


@pytest.mark.parametrize("acts", [(0,), (1,), (0, 0, 1)], ids=["shared", "own", "own among shared"])
@pytest.mark.parametrize("kcmp", [True, False])
@pytest.mark.parametrize("end", ["", HEADLESS], ids=["", "headless"])
def test_a_file_that_a_thread_alone_has_open_is_its_processs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, acts: tuple[int, ...], end: str, *, kcmp: bool
) -> None:
    if not kcmp:
        monkeypatch.setattr(process_handles, "_KCMP", -1)
    with holding(tmp_path, THREAD.replace("ACTS", repr(acts)) + end) as handles:
        assert str(tmp_path / "log") in handles.written & handles.below


@pytest.mark.parametrize("modes", ["wr", "rw", "rwr"])
def test_a_file_that_is_open_for_writing_and_for_reading_is_written(tmp_path: Path, modes: str) -> None:
    (tmp_path / "log").touch()
    with holding(tmp_path, f"kept += [open(root + '/log', mode) for mode in {[*modes]!r}]") as handles:
        assert str(tmp_path / "log") in handles.written & handles.below


MAPS = """
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
folder = os.path.join(root, NAME)
os.makedirs(folder, exist_ok=True)
with open(folder + "/weights.bin", "wb+") as file:
    file.truncate(4096)
with open(folder + "/weights.bin", OPENED) as file:
    at = libc.mmap(None, 4096, PROTECTED, FLAGS, file.fileno(), 0)
"""


def mapping(name: str, opened: str = "rb+", protected: int = 3, flags: int = 1) -> str:
    about = {"NAME": name, "OPENED": opened, "PROTECTED": protected, "FLAGS": flags}
    text = MAPS
    for word, value in about.items():
        text = text.replace(word, ascii(value))
    return text


@pytest.mark.parametrize(
    "name", ["a\nb", "a\\012b", "\n", "\\", "a\\134012b", "a\n\\012", "a (deleted)", "plain"], ids=ascii
)
@pytest.mark.parametrize("other", [True, False])
def test_a_mapped_file_is_found_in_a_folder_of_any_name(tmp_path: Path, name: str, *, other: bool) -> None:
    if other:  # a folder that has the name by which the kernel spells the first
        (tmp_path / name.replace("\n", "\\012")).mkdir()
    with holding(tmp_path, mapping(name)) as handles:
        assert str(tmp_path / name / "weights.bin") in handles.written & handles.below
        assert not handles.unread


def test_a_name_that_cannot_be_spelled_makes_its_process_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(link: str) -> str:
        raise FileNotFoundError(link)

    monkeypatch.setattr(os, "readlink", lambda link: gone(link) if "map_files" in str(link) else "")
    maps = [*process_handles.mapped_files(1, "1000-2000 rw-s 0 fe:00 5   /a\n")]
    assert [path for _, path, *_ in maps] == ["/a"]
    with pytest.raises(FileNotFoundError):
        [*process_handles.mapped_files(1, "1000-2000 rw-s 0 fe:00 5   /a\\012\n")]


@pytest.mark.skipif(os.geteuid() != 0, reason="to mount needs root")
@pytest.mark.parametrize("hidden", ["detached", "covered", ""])
def test_a_file_that_is_not_where_its_name_leads_is_not_known(tmp_path: Path, hidden: str) -> None:
    """A mount that was taken away leaves names that begin at its own top."""
    act = {
        "detached": "libc.mount(os.fsencode(root) + b'/own', b'/mnt', None, 4096, None); open_at('/mnt'); "
        "libc.umount2(b'/mnt', 2)",
        "covered": "open_at(root + '/own'); libc.mount(b'x', os.fsencode(root), b'tmpfs', 0, None)",
        "": "open_at(root + '/own')",
    }[hidden]
    code = f"""
libc.unshare(0x20000)
libc.mount(None, b"/", None, 0x44000, None)
os.mkdir(root + "/own")
def open_at(place):
    kept.append(open(place + "/log", "w"))
{act}
"""
    with holding(tmp_path, code) as handles:
        found = str(tmp_path / "own/log") in handles.written & handles.below
        assert found or "lies at another place" in handles.unread
        assert bool(handles.unread) is (hidden == "detached")


CHANGING = """
import os
print(flush=True)
while True:
    for name in ("a", "b"):
        with open(name + ".new", "w") as file: os.replace(file.name, name)
"""


@pytest.mark.slow
def test_a_file_that_its_process_renames_or_closes_meanwhile_does_not_make_it_unknown(tmp_path: Path) -> None:
    """A stranger's programs do so all the time, and a healthy evacuation ended Unanswered."""
    (tmp_path / "root").mkdir()
    with subprocess.Popen([sys.executable, "-c", CHANGING], cwd=tmp_path, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout
            child.stdout.readline()
            process = read_process(child.pid)
            assert process
            places = Places(tmp_path / "root")
            looks = [read_handles([process], places)[process.identity].unread for _ in range(300)]
        finally:
            child.kill()
    assert set(looks) == {""}


@pytest.mark.parametrize("protected", [0, 1, 3])
@pytest.mark.parametrize(
    ("opened", "flags", "written"), [("rb+", 1, True), ("rb", 1, False), ("rb+", 2, False)], ids=["rw", "ro", "private"]
)
def test_a_shared_mapping_that_may_be_made_writable_again_is_written(
    tmp_path: Path, opened: str, protected: int, flags: int, *, written: bool
) -> None:
    allowed = protected if opened == "rb+" or flags == 2 else min(protected, 1)
    code = mapping("logs", opened, max(allowed, 1), flags) + f"libc.mprotect(at, 4096, {allowed})\n"
    with holding(tmp_path, code) as handles:
        assert handles.below == {str(tmp_path / "logs/weights.bin")}
        assert bool(handles.written & handles.below) is written


@pytest.mark.skipif(os.geteuid() != 0, reason="to mount needs root")
@pytest.mark.parametrize("place", ["root", "logs", "elsewhere"])
@pytest.mark.parametrize("held", ["cwd", "thread", "file", "map", "nothing"])
def test_a_dead_mount_of_its_own_hides_nothing_and_is_not_touched(tmp_path: Path, place: str, held: str) -> None:
    """FUSE, whose server never answers, at the path of the root: who looks there waits for ever."""
    acts = {
        "cwd": "os.chdir(folder)",
        "thread": "threading.Thread(target=lambda: (libc.unshare(0x200), os.chdir(folder), done.set(), "
        "threading.Event().wait()), daemon=True).start(); done.wait()",
        "file": "kept.append(open(folder + '/log', 'w'))",
        "map": mapping("logs/in"),
        "nothing": "",
    }
    root, spot = tmp_path / "root", {"root": "root", "logs": "root/logs"}.get(place, "elsewhere")
    for folder in (root / "logs/in", tmp_path / "elsewhere"):
        folder.mkdir(parents=True)
    code = f"""
folder, fuse = root + "/logs/in", root + "/../fuse"
libc.unshare(0x20000)
libc.mount(None, b"/", None, 0x44000, None)
{acts[held]}
os.mknod(fuse, 0o20600, os.makedev(10, 229))
number = os.open(fuse, os.O_RDWR)
options = b"fd=%d,rootmode=40000,user_id=0,group_id=0" % number
if libc.mount(b"x", os.fsencode(root + "/../{spot}"), b"fuse", 0, options):
    raise SystemExit(1)
"""
    with doing(root, code) as (process, handles):
        known = bool(handles.below if held in {"file", "map"} else process.places)
        unread = bool(process.unread or handles.unread)
    assert (known, unread) == (held != "nothing" and place == "elsewhere", held != "nothing" and place != "elsewhere")


@pytest.mark.skipif(os.geteuid() != 0, reason="to mount needs root")
def test_what_lies_on_a_file_system_of_its_own_below_a_dead_mount_is_far_from_the_root(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "elsewhere").mkdir()
    code = """
folder, fuse = root + "/../elsewhere", root + "/../fuse"
libc.unshare(0x20000)
libc.mount(None, b"/", None, 0x44000, None)
libc.mount(b"x", os.fsencode(folder), b"tmpfs", 0, None)
os.chdir(folder)
kept.append(open("log", "w"))
os.mknod(fuse, 0o20600, os.makedev(10, 229))
number = os.open(fuse, os.O_RDWR)
if libc.mount(b"x", os.fsencode(folder), b"fuse", 0, b"fd=%d,rootmode=40000,user_id=0,group_id=0" % number):
    raise SystemExit(1)
"""
    with doing(tmp_path / "root", code) as (process, handles):
        assert (process.places, process.unread) == (frozenset(), "")
        assert (handles.below, handles.unread) == (frozenset(), "")


@pytest.mark.parametrize(
    ("folder", "told"),
    [
        ("root", "it watches what happens in the root (inotify)"),
        ("root + '/models'", "it may watch what happens in the root (inotify), which has too many files to tell"),
        ("'/proc'", ""),
    ],
)
def test_who_may_watch_a_root_of_too_many_files_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, told: str
) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.setattr(contents, "_SECONDS", -1.0)
    code = f"assert libc.inotify_add_watch(libc.inotify_init(), os.fsencode({folder}), 0x100) > 0"
    with holding(tmp_path, code) as handles:
        assert (handles.waits, handles.unread) == (told, "")


MOUNTS = """
libc.unshare(0x20000)
libc.mount(None, b"/", None, 0x44000, None)
there = os.fsencode(os.path.dirname(root) + "/there")
assert not libc.mount(os.fsencode(os.path.dirname(root) + "/{what}"), there, None, 4096, None)
{more}
"""
READ_ONLY = "assert not libc.mount(None, there, None, 4096 | 32 | 1, None)"


@pytest.mark.skipif(os.geteuid() != 0, reason="to mount needs root")
@pytest.mark.parametrize(
    ("what", "more", "is_told"), [("root/models", "", True), ("root/models", READ_ONLY, False), ("other", "", False)]
)
def test_who_has_a_folder_of_the_root_in_a_mount_of_its_own_may_write_there(
    tmp_path: Path, what: str, more: str, *, is_told: bool
) -> None:
    for folder in ("root/models", "other", "there"):
        (tmp_path / folder).mkdir(parents=True)
    with holding(tmp_path / "root", MOUNTS.format(what=what, more=more)) as handles:
        assert handles.waits == (
            f"in its mounts a folder of the root is at {tmp_path}/there, where it may write" * is_told
        )


UNPACKING = """
layer, work = os.path.dirname(root) + "/layer", threading.Event()
def unpack():
    libc.unshare(0x20200)
    libc.mount(None, b"/", None, 0x44000, None)
    libc.mount(os.fsencode(layer), os.fsencode(layer), None, 4096, None)
    {leave}
    os.chdir("{name}")
    kept.append(open("log", "w"))
    work.set()
    threading.Event().wait()
threading.Thread(target=unpack, daemon=True).start()
work.wait()
"""
LEAVES = {
    "pivot": "os.chdir(layer); libc.syscall(155, b'.', b'.'); libc.umount2(b'.', 2)",
    "chroot": "os.chroot(layer)",
}


@pytest.mark.skipif(os.geteuid() != 0 or os.uname().machine != "x86_64", reason="to mount needs root")
@pytest.mark.parametrize("leave", LEAVES)
@pytest.mark.parametrize("named", ["as the root", "otherwise"])
def test_a_thread_that_unpacks_an_image_far_from_the_root_is_not_in_the_root(
    tmp_path: Path, leave: str, named: str
) -> None:
    """An engine does so with mounts of its own, which no other thread sees. Seen as one that nobody knew."""
    root = tmp_path / "root"
    inner = f"{root}/own" if named == "as the root" else "/usr/share/own"
    for folder in (root / "own", tmp_path / f"layer{inner}"):
        folder.mkdir(parents=True)
    with doing(root, UNPACKING.format(leave=LEAVES[leave], name=inner)) as (process, handles):
        assert (process.places, process.unread) == (frozenset(), "")
        assert (handles.below, handles.unread) == (frozenset(), "")


@pytest.mark.skipif(os.geteuid() != 0 or os.uname().machine != "x86_64", reason="to mount needs root")
@pytest.mark.parametrize("leave", LEAVES)
def test_a_thread_with_mounts_of_its_own_that_works_in_the_root_is_in_the_root(tmp_path: Path, leave: str) -> None:
    layer = tmp_path / "layer"
    (layer / "own").mkdir(parents=True)
    code = "root = os.path.dirname(root) + '/any'\n" + UNPACKING.format(leave=LEAVES[leave], name="/own")
    with doing(layer, code) as (process, _):
        assert process.is_rooted


MAPPED = """
for name, how in (("code.so", mmap.PROT_READ | mmap.PROT_EXEC), ("data.bin", mmap.PROT_READ)):
    with open(root + "/" + name, "r+b") as file:
        kept.append(mmap.mmap(file.fileno(), 0, prot=how))
"""


def test_what_is_mapped_to_be_run_is_code_and_what_is_mapped_to_be_read_is_not(tmp_path: Path) -> None:
    for name in ("code.so", "data.bin"):
        (tmp_path / name).write_bytes(bytes(mmap.PAGESIZE))
    with holding(tmp_path, MAPPED) as handles:
        assert str(tmp_path / "code.so") in handles.code
        assert str(tmp_path / "data.bin") not in handles.code


def test_of_what_was_not_read_nothing_is_taken_to_be_known() -> None:
    assert {name for name, value in asdict(Handles()).items() if value is True} == set()
