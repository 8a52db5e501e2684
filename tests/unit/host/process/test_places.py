"""What lies below a folder: an answer that is only a guess about one process decides about no other."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.custody.containment.place import Place
from tasks.host.process import places
from tasks.host.process.places import Places
from tasks.host.process.table import read_process
from tests.support.workloads import wait_until

WAITS = "print(flush=True)\nimport signal\nsignal.pause()"
APART = ["unshare", "--mount"]
MOUNTED = [*APART, "sh", "-c", 'mount --bind . . && cd "$PWD" && exec "$@"', "sh"]
"""In a mount of its own of the folder where it works."""
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a process mounts of its own")


@contextmanager
def waiting(folder: Path, *before: str, script: str = "") -> Iterator[int]:
    words = [script] if script else ["-c", WAITS]
    with subprocess.Popen([*before, sys.executable, *words], cwd=folder, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield process.pid
        process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("script", ["", "./train.py"])
def test_a_process_whose_mounts_are_not_known_makes_no_other_one_the_workloads(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that ends while it is looked at shows no mounts any more. Seen as a stranger that was stopped."""
    (tmp_path / "root").mkdir()
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside/train.py").write_text(WAITS)
    looked = Places(tmp_path / "root")
    mounts_of = places.mounts_of
    with ExitStack() as stack:
        gone = stack.enter_context(waiting(tmp_path / "beside", *MOUNTED, script=script))
        stranger = stack.enter_context(waiting(tmp_path / "beside", script=script))
        inside = stack.enter_context(waiting(tmp_path / "root"))
        monkeypatch.setattr(places, "mounts_of", lambda pid, *_: {} if str(pid) == str(gone) else mounts_of(pid))
        found = {pid: read_process(pid, None, looked) for pid in (gone, stranger, inside)}
    seen = {pid: process.places for pid, process in found.items() if process}
    assert Place.CWD in (seen[gone] or ()), "what is not known is held against it"
    assert seen[stranger] == frozenset()
    assert seen[inside] == frozenset({Place.CWD})


CHROOTED = """
mount --bind "$1" "$1" && cd "$1" || exit
for folder in usr lib lib64; do
    [ ! -e /$folder ] || { mkdir -p $folder && mount --rbind /$folder $folder; }
done
mkdir -p proc && mount -t proc proc proc && exec chroot . "$2" -c "$3"
"""


@pytest.mark.parametrize(("image", "is_inside"), [("image", False), ("root/image", True)])
def test_what_is_in_a_chroot_with_mounts_of_its_own_is_in_the_root_only_if_its_image_is(
    tmp_path: Path, image: str, *, is_inside: bool
) -> None:
    """Of the mounts above its root no table tells, and they are of the disk that has the workload."""
    (tmp_path / image / "app").mkdir(parents=True)
    (tmp_path / "root").mkdir(exist_ok=True)
    python = os.path.realpath("/usr/bin/python3")
    command = [
        *APART,
        "sh",
        "-c",
        CHROOTED,
        "sh",
        str(tmp_path / image),
        python,
        f"import os; os.chdir('/app')\n{WAITS}",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline()
        seen = read_process(process.pid, None, Places(tmp_path / "root"))
        process.kill()
    assert seen
    assert bool(seen.places) is is_inside, seen.places


def test_who_works_in_the_upper_folder_of_the_roots_overlay_works_in_the_root(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "layers", tmp_path], check=True)
    try:
        for name in ("root", "lower", "upper/app", "work", "other"):
            (tmp_path / name).mkdir(parents=True)
        layers = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, tmp_path / "root"], check=True)
        with waiting(tmp_path / "upper/app") as inside, waiting(tmp_path / "other") as stranger:
            seen = [read_process(pid, None, Places(tmp_path / "root")) for pid in (inside, stranger)]
        assert [each and each.places for each in seen] == [frozenset({Place.CWD}), frozenset()]
    finally:
        subprocess.run(["umount", "--recursive", tmp_path], check=True)


@pytest.mark.parametrize("is_absolute", [True, False])
def test_a_word_leads_below_by_a_file_there_or_by_what_it_links_to(tmp_path: Path, *, is_absolute: bool) -> None:
    (tmp_path / "root").mkdir()
    for name in ("root/train.py", "other.py"):
        (tmp_path / name).touch()
    for name, to in {"link.py": "root/train.py", "away.py": "other.py", "root/out.py": "../other.py"}.items():
        (tmp_path / name).symlink_to(tmp_path / "root" / to if to.startswith("..") else tmp_path / to)
    looked = Places(tmp_path / "root")
    names = ("root/train.py", "root/none.py", "root/out.py", "other.py", "link.py", "away.py", "none.py", "none/x.py")
    with waiting(tmp_path) as pid:
        words = {name: str(tmp_path / name) if is_absolute else name for name in names}
        found = {name for name, word in words.items() if looked.leads_below(looked.view(pid), str(tmp_path), word)}
    assert found == {"root/train.py", "root/out.py", "link.py"}


def test_what_one_tells_that_has_ended_meanwhile_is_kept_for_no_other(tmp_path: Path) -> None:
    """A training of short-lived threads was of no script in the root, for a whole look, by one of them."""
    (tmp_path / "train.py").touch()
    looked = Places(tmp_path)
    with waiting(tmp_path) as gone, waiting(tmp_path) as inside:
        view, word = looked.view(gone), "train.py"
        leads = looked._leads_below

        def ended(*arguments: Any) -> bool:
            os.kill(gone, signal.SIGKILL)
            wait_until(lambda: psutil.Process(gone).status() == psutil.STATUS_ZOMBIE, what="its end")
            return leads(*arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(looked, "_leads_below", ended)
            assert not looked.leads_below(view, str(tmp_path), word)
        assert looked.leads_below(looked.view(inside), str(tmp_path), word)


def test_a_word_without_a_known_folder_is_not_looked_for_in_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.py").touch()
    monkeypatch.chdir(tmp_path)
    looked = Places(tmp_path)
    with subprocess.Popen(["true"]) as ended:
        wait_until(lambda: psutil.Process(ended.pid).status() == psutil.STATUS_ZOMBIE, what="its end")
        assert not looked.leads_below(looked.view(ended.pid), "", "train.py")


def test_a_socket_that_has_gone_within_a_look_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    looked = Places(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("api.sock")
        number = Path("api.sock").stat().st_ino & 0xFFFFFFFF
        assert looked.contents.find_socket(number) == str(tmp_path / "api.sock")
    (tmp_path / "api.sock").unlink()
    assert looked.contents.find_socket(number) == ""
