"""Mounts on the way to a file, in mount namespaces: which may be late, and which one process alone sees."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.host.mounted import find_own_mounts, find_point, find_unseen
from tests.support.workloads import wait_until

NAME = "models/r1/a.bin"
SCRIPT = """
import json, subprocess, sys
from datetime import UTC, datetime, timedelta
from tasks.host import mounted

root, name, binds, seconds = json.loads(sys.argv[1])
mounted._HOST = "self"
began = datetime(2026, 1, 2, tzinfo=UTC)
at = None if seconds is None else began + timedelta(seconds=seconds)
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
for source, point in binds:
    subprocess.run(["mount", "--bind", f"{root}/{source}", f"{root}/{point}"], check=True)
print(mounted.find_late_mount(f"{root}/srv", name, began, lambda point: at if point.startswith(root) else None))
"""
AGAIN = [["ready/models", "srv/models"], ["ready/models", "srv/models"]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A root with a model, another folder of models that lies ready, and a folder outside that a link leads to."""
    for place in ("srv/models/r1", "srv/logs", "ready/models/r1", "ready/r1", "out/r1"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "a.bin").write_text(place)
    (tmp_path / "srv/now").symlink_to(tmp_path / "out")
    return tmp_path


@pytest.mark.parametrize(
    ("binds", "name", "seconds", "words"),
    [
        ([], NAME, None, ""),
        ([["ready/models", "srv/models"]], NAME, None, "srv/models is a mount, and nothing tells"),
        ([["ready/models", "srv/models"]], NAME, 60, "srv/models was mounted at 00:01:00Z, after the API had started"),
        ([["ready/models", "srv/models"]], NAME, -60, ""),
        ([["ready/r1", "srv/models/r1"]], NAME, 60, "srv/models/r1 was mounted"),
        ([["ready/r1/a.bin", f"srv/{NAME}"]], NAME, None, f"srv/{NAME} is a mount"),
        ([["ready/models", "srv/logs"]], NAME, 60, ""),
        (AGAIN, NAME, -60, "srv/models is a mount, and nothing tells"),  # systemd tells of the first
        ([["ready/r1", "out/r1"]], "now/r1/a.bin", 60, "out/r1 was mounted"),
        ([["ready/r1", "out/r1"]], "now/r1/a.bin", -60, ""),
        ([["srv", "srv"]], NAME, None, ""),  # a disk of its own, and nothing more is known of it
        ([["srv", "srv"]], NAME, 60, "srv was mounted"),
    ],
)
def test_a_mount_on_the_way_is_late_unless_it_is_known_to_have_been_there(
    folder: Path, binds: list[list[str]], name: str, seconds: float | None, words: str
) -> None:
    given = json.dumps([str(folder), name, binds, seconds])
    command = ["unshare", "--mount", sys.executable, "-c", SCRIPT, given]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert words in said
    assert bool(words) == bool(said)


@contextmanager
def process(folder: Path, *commands: str) -> Iterator[int]:
    """One in a mount namespace of its own, once it has run these commands there."""
    script = "; ".join(["set -e", "mount --make-rprivate /", *commands, "touch ready.flag", "exec sleep 600"])
    started = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], cwd=folder)
    try:
        wait_until((folder / "ready.flag").exists, what="its mounts")
        yield started.pid
    finally:
        started.kill()
        started.wait()


@pytest.mark.parametrize(
    ("command", "points"),
    [
        ("true", []),
        ("mount -t tmpfs none ready", []),
        ("mount --bind ready/models srv/models", ["srv/models"]),
        ("mount --bind ready/r1 srv/models/r1", ["srv/models/r1"]),
        ("mount --bind srv/models srv/models", []),  # the same place, as ReadOnlyPaths= makes it
        ("mount --bind ready srv", ["srv"]),
        ("mount -t tmpfs none srv/logs", ["srv/logs"]),
    ],
)
def test_what_a_process_alone_has_mounted_in_the_root_is_found(folder: Path, command: str, points: list[str]) -> None:
    root = str(folder / "srv")
    with process(folder, command) as pid:
        found = find_own_mounts(pid, root)
        assert found == [str(folder / each) for each in points]
        covered = points not in ([], ["srv/logs"])
        assert bool(find_point(found, root, NAME)) is covered


@pytest.mark.parametrize(
    ("command", "unseen"),
    [
        ("true", []),
        ("mount -t tmpfs none ready", []),
        ("mount -t tmpfs none srv/logs", ["srv/logs"]),
        ("mount -t tmpfs none srv", ["srv"]),
        ("mount --bind ready/models srv/models", ["srv/models"]),
        ("mount --bind srv/models srv/logs", []),  # what lies there lies in the root
        ("mount --bind srv srv", []),
        ("mkdir aside; mount --bind srv aside; mount -t tmpfs none srv; mount --bind aside srv", []),
    ],
)
def test_what_a_process_has_from_nowhere_in_the_root_is_found(folder: Path, command: str, unseen: list[str]) -> None:
    with process(folder, command) as pid:
        found = find_unseen(pid, str(folder / "srv"))
    assert [*found] == [str(folder / each) for each in unseen]
    assert "tmpfs" not in command or set(found.values()) <= {"tmpfs"}


@pytest.mark.parametrize("source", ["srv", "out", ""])
def test_a_root_of_its_own_counts_if_it_has_ours(folder: Path, source: str) -> None:
    at = f"new{folder}/srv"
    makes = f"mkdir new; mount -t tmpfs none new; mkdir -p {at} new/old"
    binds = "for each in usr bin lib lib64 proc; do mkdir -p new/$each; mount --rbind /$each new/$each; done"
    shows = f"mount --bind {source} {at}; mkdir -p {at}/logs; mount -t tmpfs none {at}/logs" if source else "true"
    turns = "touch ready.flag; cd new; pivot_root . old; exec chroot . sleep 600"
    with process(folder, makes, binds, shows, turns) as pid:
        wait_until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n", what="its root")
        expected = [str(folder / "srv/logs")] if source == "srv" else []
        assert [*find_unseen(pid, str(folder / "srv"))] == expected


def test_what_the_host_alone_has_mounted_covers_the_files_of_the_process(folder: Path) -> None:
    with process(folder, "true") as pid:
        subprocess.run(["mount", "-t", "tmpfs", "none", folder / "srv/logs"], check=True)
        try:
            assert [*find_unseen(pid, str(folder / "srv"))] == [str(folder / "srv/logs")]
        finally:
            subprocess.run(["umount", folder / "srv/logs"], check=True)


def test_more_mounts_than_are_compared_count_as_a_root_of_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with process(folder, "true") as pid:
        monkeypatch.setattr("tasks.host.mounted._LARGEST", 10)
        assert find_own_mounts(pid, str(folder / "srv")) == [str(folder / "srv")]
