"""Where control groups are mounted, and groups that are not there. The real ones are in tests/integration/host."""

import select
from pathlib import Path

import pytest

from tasks.host.cgroup import group
from tasks.host.cgroup.group import ControlGroup, Hierarchy

HYBRID = """31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:7 - cgroup2 cgroup2 rw
"""
UNIFIED = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
IN_A_CONTAINER = "700 690 0:26 /docker/ab\\040c /mnt/control\\134groups\\040x rw - cgroup2 cgroup rw\n"


@pytest.mark.parametrize(
    ("mountinfo", "place", "root"),
    [
        (UNIFIED, "/sys/fs/cgroup", "/"),
        (HYBRID, "/sys/fs/cgroup/unified", "/"),
        (IN_A_CONTAINER, "/mnt/control\\groups x", "/docker/ab c"),
        (UNIFIED.replace("rw,nosuid", "ro,nosuid") + HYBRID, "/sys/fs/cgroup/unified", "/"),
    ],
)
def test_the_first_writable_mount_of_version_2_is_found(mountinfo: str, place: str, root: str) -> None:
    assert Hierarchy.find(mountinfo) == Hierarchy(Path(place), root)


@pytest.mark.parametrize(
    "mountinfo",
    ["", HYBRID.splitlines()[0], UNIFIED.replace("rw,nosuid", "ro,nosuid"), UNIFIED.replace("rw,nsd", "ro,nsd")],
)
def test_where_none_may_be_written_to_there_is_none(mountinfo: str) -> None:
    assert Hierarchy.find(mountinfo) is None


@pytest.mark.parametrize(
    ("root", "path", "place"),
    [
        ("/", "/a/b", "/mounted/a/b"),
        ("/", "/", "/mounted"),
        ("/docker/x", "/docker/x/a", "/mounted/a"),
        ("/docker/x", "/docker/x", "/mounted"),
        ("/docker/x", "/docker/xy", None),
        ("/docker/x", "/system.slice", None),
        ("/", "/../docker", None),
        ("/", "", None),
    ],
)
def test_a_group_is_found_below_what_is_mounted(root: str, path: str, place: str | None) -> None:
    group = Hierarchy(Path("/mounted"), root).group(path)
    assert (str(group.place) if group else None) == place


def test_a_group_that_is_gone_is_told_and_holds_nobody(tmp_path: Path) -> None:
    gone = ControlGroup(tmp_path / "gone" / "below")
    assert "may not move processes out of it" in gone.obstacle
    assert "No such file or directory" in gone.make()
    assert "No such file or directory" in gone.freeze()
    assert "No such file or directory" in gone.add(1)
    assert "No such file or directory" in gone.kill()
    assert not gone.is_frozen
    assert not gone.thaw()
    assert not gone.remove()


def test_nobody_is_moved_by_a_number_that_stands_for_ourselves(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text("")
    assert not ControlGroup(tmp_path).add(0)
    assert not ControlGroup(tmp_path).add(-1)
    assert not (tmp_path / "cgroup.procs").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("comes", [True, False])
def test_a_freeze_is_waited_for_until_the_kernel_says_so_or_the_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, comes: bool
) -> None:
    """The kernel is a folder of files here, which says what was asked for as it is waited for, or never."""
    monkeypatch.setattr(group, "_SECONDS", 0.2)
    (tmp_path / "cgroup.freeze").touch()
    (tmp_path / "cgroup.type").write_text("domain")
    (tmp_path / "cgroup.events").write_text("populated 1\nfrozen 0\n")

    class Poll:
        def register(self, *_: object) -> None:
            """Of a file of the kernel's."""

        def poll(self, milliseconds: float) -> None:
            assert milliseconds > 0
            if comes:
                (tmp_path / "cgroup.events").write_text("populated 1\nfrozen 1\n")

    monkeypatch.setattr(select, "poll", Poll)
    reason = ControlGroup(tmp_path).freeze()
    assert reason == ("" if comes else f"{tmp_path}: not `frozen 1` after 0.2 s")
    assert (tmp_path / "cgroup.freeze").read_text() == "1"
