"""What holds for a process by its control groups is the tightest on the way up, wherever an incident has moved it."""

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tasks.collectors.cgroups import mounts
from tasks.custody.containment.identity import Held, Identity
from tasks.evidence import group_limits
from tasks.evidence.group_limits import Limits, limits_of, places_of, tell_changes
from tasks.evidence.process_start import read_starts
from tasks.host.cgroup.ownership import name_of
from tasks.host.process.membership import Member
from tasks.host.process.table import start_of

MOST = min(int(Path(f"/proc/sys/kernel/{name}").read_text()) for name in ("threads-max", "pid_max"))
SESSION = "user.slice/user-7.slice/session-3.scope"


def tree(top: Path, files: Mapping[str, str]) -> None:
    """Make the files of groups, as the kernel shows them."""
    for name, text in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, {}),
        ({"a/memory.max": "max\n", "a/pids.max": "max\n", "a/cpu.max": "max 100000\n", "a/b/io.max": ""}, {}),
        ({"a/memory.max": "900\n", "a/b/memory.max": "1000\n"}, {"memory limit": 900}),
        ({"a/memory.max": "900\n", "a/b/memory.max": "0\n"}, {"memory limit": 0}),
        ({"a/memory.high": "5\n", "a/b/memory.swap.max": "0\n"}, {"memory throttle": 5, "swap limit": 0}),
        ({"a/cpu.max": "150000 100000", "a/b/cpu.max": "20000 40000"}, {"processor limit": 0.5}),
        (
            {"a/b/io.max": "8:0 rbps=9 wbps=max riops=max wiops=7\n"},
            {"rbps limit for device 8:0": 9, "wiops limit for device 8:0": 7},
        ),
        ({"other/memory.max": "900\n", "a/b/c/memory.max": "800\n"}, {}),
    ],
)
def test_the_tightest_limit_on_the_way_up_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], found: Limits
) -> None:
    tree(tmp_path, files)
    monkeypatch.setattr(group_limits, "mounts", lambda _: {"": ("/", str(tmp_path))})
    assert limits_of(places_of("0::/a/b\n1:name=systemd:/c\n")) == found


def test_groups_of_version_1_have_their_limits_each_in_its_hierarchy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(tmp_path, {"m/x/memory.limit_in_bytes": "700\n", "m/memory.limit_in_bytes": "9223372036854771712\n"})
    tree(tmp_path, {"c/y/cpu.cfs_quota_us": "25000\n", "c/y/cpu.cfs_period_us": "100000\n"})
    tree(tmp_path, {"c/cpu.cfs_quota_us": "-1\n", "c/cpu.cfs_period_us": "100000\n"})
    tree(tmp_path, {"b/blkio.throttle.read_bps_device": "8:0 1024\n"})
    mounted = {"memory": ("/", f"{tmp_path}/m"), "cpu,cpuacct": ("/", f"{tmp_path}/c"), "blkio": ("/", f"{tmp_path}/b")}
    monkeypatch.setattr(group_limits, "mounts", lambda _: mounted)
    text = "5:memory:/x\n4:cpu,cpuacct:/y\n3:blkio:/\n2:pids:/z\n1:freezer:/z\n0::/../w\n"
    known = {"memory limit": 700, "processor limit": 0.25, "rbps limit for device 8:0": 1024}
    unread = {"limits in the group of pids": "/z", "limits in the group of v2": "/../w"}
    assert limits_of(places_of(text)) == {**known, **unread}


@pytest.mark.parametrize(
    ("group", "most", "counts"),
    [
        (SESSION, MOST * 15 // 100, False),
        ("user.slice/user-7.slice", MOST * 33 // 100, False),
        ("system.slice/run-u1.service", MOST * 15 // 100, False),
        ("mine", MOST * 15 // 100, True),
        (SESSION, MOST * 20 // 100, True),
        (SESSION, 500, True),
    ],
)
def test_what_systemd_allows_each_unit_by_itself_is_no_limit_of_the_api(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str, most: int, *, counts: bool
) -> None:
    tree(tmp_path, {f"{group}/pids.max": f"{most}\n"})
    monkeypatch.setattr(group_limits, "mounts", lambda _: {"": ("/", str(tmp_path))})
    assert limits_of([("", f"/{group}")]) == ({"limit of processes": most} if counts else {})


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ({}, {}, []),
        ({"memory limit": 5}, {"memory limit": 5}, []),
        ({"memory limit": 5}, {}, ["memory limit of its control group, 5 bytes"]),
        ({"memory limit": 5}, {"memory limit": 4}, ["memory limit of its control group, 5 -> 4 bytes"]),
        ({}, {"processor limit": 0.5}, ["processor limit of its control group, none -> 0.5 processors"]),
        ({"riops limit for device 8:0": 1}, {}, ["riops limit for device 8:0 of its control group, 1 per second"]),
        ({"limits in the group of v2": "/../a"}, {"limits in the group of v2": "/../a"}, []),
        (
            {"limits in the group of v2": "/../a"},
            {"limits in the group of v2": "/../b"},
            ["limits in the group of v2, which cannot be read"],
        ),
    ],
)
def test_a_limit_that_is_another_is_told_with_its_value(was: Limits, now: Limits, told: list[str]) -> None:
    assert tell_changes(was, now) == told


@pytest.mark.parametrize("known", ["itself", "its parent", "any", "none"])
def test_a_process_that_an_incident_has_moved_has_the_limits_from_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: str
) -> None:
    version2 = Path(mounts(Path("/proc/self/mountinfo").read_text()).get("", ("", "/gone"))[1])
    if not os.access(version2 / "cgroup.procs", os.W_OK):
        pytest.skip("no group of version 2 can be made here")
    tree(tmp_path, {"job/memory.max": "734003200\n", "other/memory.max": "1\n"})
    monkeypatch.setattr(group_limits, "mounts", lambda _: {"": ("/", str(tmp_path))})
    place = version2 / name_of(f"IR-{os.getpid()}", tmp_path)
    place.mkdir()
    with subprocess.Popen(["sleep", "600"]) as api:
        try:
            (place / "cgroup.procs").write_text(str(api.pid))
            who = Identity(api.pid, start_of(api.pid))
            ids = {"itself": who, "its parent": Identity(os.getpid(), 1), "any": Identity(1, 1)}
            moved = [Held(f"/{place.name}"), Held("/job", ids[known])] if known != "none" else []
            moved += [Held("/other", Identity(2, 2))] if known in {"itself", "its parent"} else []
            (start,) = read_starts({who: Member("api", "a test")}, moved)
        finally:
            api.send_signal(signal.SIGKILL)
            api.wait()
            place.rmdir()
    limits = start["conditions"]["limits of its control group"]
    assert limits.get("memory limit") == (None if known == "none" else 734003200)
    assert ("limits in the group of v2" in limits) is (known == "none")
