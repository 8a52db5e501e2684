"""What the host tells of its namespaces, groups, clock and journal."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.acquisition.collector import Incomplete, NothingThere, Target
from tasks.acquisition.procfs import tables
from tasks.collectors import cgroups, clock, journal, mounts, network, units
from tasks.custody.evidence.acquisition import Loss, Outcome, StoredFile
from tasks.host.process.table import start_of
from tests.support.workloads import wait_until
from tests.unit.acquisition.test_acquire import am_root


def target(root: Path, *pids: int, incident: str = "IR-20260102T030405Z", limit: int = 1 << 20) -> Target:
    frozen = [(pid, start_of(pid) or 0) for pid in pids]
    globs: dict[str, list[str]] = {"logs": [], "artifacts": [], "models": []}
    return Target(incident, str(root), "python", os.geteuid(), globs, frozen, limit=limit)


@pytest.fixture
def apart() -> Iterator[int]:
    """A process in a network and a mount namespace of its own."""
    with subprocess.Popen(["unshare", "--net", "--mount", "sleep", "600"]) as process:
        ours = Path("/proc/self/ns/net").readlink()
        wait_until(lambda: Path(f"/proc/{process.pid}/ns/net").readlink() != ours, what="the namespace")
        yield process.pid
        process.kill()


@am_root
def test_namespaces_of_the_frozen_processes_are_told_besides_ours_and_each_once(apart: int, tmp_path: Path) -> None:
    of = target(tmp_path, os.getpid(), apart)
    assert network.make(of).decode().count("==== net:[") == 2
    assert mounts.make(of).decode().count("==== mnt:[") == 2
    assert mounts.make(target(tmp_path, os.getpid())).decode().count("==== mnt:[") == 1


def test_a_pid_that_belongs_to_another_by_now_is_not_looked_at(tmp_path: Path) -> None:
    other = Target("IR-20260102T030405Z", str(tmp_path), "python", 0, {}, [(1, 5)])
    assert json.loads(cgroups.make(other))["groups"] == []


def test_a_password_in_the_options_of_a_mount_is_not_shown(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text("36 35 98:0 / /mnt rw - cifs //nas/x rw,username=u,password=canary\n")
    assert b"canary" not in tables([str(table)])


HYBRID = """31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""


def test_hierarchies_of_both_versions_are_found() -> None:
    assert cgroups.mounts(HYBRID) == {
        "memory": ("/", "/sys/fs/cgroup/memory"),
        "cpu,cpuacct": ("/", "/sys/fs/cgroup/cpu,cpuacct"),
        "name=systemd": ("/", "/sys/fs/cgroup/systemd"),
        "": ("/", "/sys/fs/cgroup/unified"),
    }
    assert cgroups.mounts("30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n") == {
        "": ("/docker/abc", "/sys/fs/cgroup")
    }


def test_limits_and_kills_of_a_group_are_told_and_none_outside_of_what_is_mounted(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train/memory.max").write_text("1073741824\n")
    (tmp_path / "train/memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    told = cgroups._limits(("/top", str(tmp_path)), "/top/train")
    assert told == {"files": {"memory.max": "1073741824", "memory.events": "low 0\noom 3\noom_kill 2"}}
    for path in ("/", "/other", "/../../etc", "/top/../x"):
        assert "not read" in cgroups._limits(("/top", str(tmp_path)), path)
    assert "not read" in cgroups._limits(None, "/top")


def test_our_own_groups_are_told_up_to_the_top(tmp_path: Path) -> None:
    told = json.loads(cgroups.make(target(tmp_path, os.getpid())))
    assert any(os.getpid() in group["pids"] for group in told["groups"])
    hierarchies = {group["hierarchy"] for group in told["groups"]}
    assert {(group["hierarchy"], group["path"]) for group in told["groups"]} >= {(each, "/") for each in hierarchies}


def test_kills_for_want_of_memory_are_counted_or_not_known() -> None:
    assert cgroups.oom_kills("pgfault 1\noom_kill 4\n") == 4
    assert cgroups.oom_kills("pgfault 1\n") == "not known"


def test_the_clock_is_told_with_what_is_known_of_its_error(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    told = json.loads(clock.make(target(tmp_path)))
    assert before <= datetime.fromisoformat(told["utc"]) <= datetime.now(UTC)
    assert told["clocks"]["boottime_ns"] >= told["clocks"]["monotonic_ns"] - 10**9
    assert isinstance(told["kernel"].get("synchronised"), bool) or told["kernel"]["not known"]
    assert set(told["asked"]) == {"chrony", "timesyncd", "timedated"}
    assert clock.zone()


def fake(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def booted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with systemd, as far as the collector can see; the programs are to be put into the folder."""
    monkeypatch.setattr(journal, "BOOTED", tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path / "bin"


def test_a_host_without_systemd_has_no_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "BOOTED", tmp_path / "none")
    with pytest.raises(NothingThere, match="no systemd"):
        journal.make(target(tmp_path))


def test_the_journal_is_asked_for_the_window_the_kernel_systemd_and_the_processes(booted: Path, tmp_path: Path) -> None:
    fake(booted, "journalctl", 'for word; do echo "$word"; done')
    asked = journal.make(target(tmp_path, os.getpid())).decode().split("\n")
    opened = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()
    assert f"--since=@{int(opened) - 3600}" in asked
    assert {"_PID=1", f"_PID={os.getpid()}", "_TRANSPORT=kernel"} <= set(asked)
    assert asked.index("+") < asked.index("_TRANSPORT=kernel")


def test_the_end_of_a_long_journal_is_kept_without_secrets(booted: Path, tmp_path: Path) -> None:
    fake(booted, "journalctl", "seq 100000; echo token=canary; echo the end")
    with pytest.raises(Incomplete) as part:
        journal.make(target(tmp_path, limit=1000))
    assert part.value.outcome is Outcome.TRUNCATED
    assert part.value.data.endswith(b"]\nthe end\n")
    assert b"\ntoken=[redacted:" in part.value.data


def test_a_user_who_sees_his_own_messages_only_is_denied_the_rest(booted: Path, tmp_path: Path) -> None:
    fake(booted, "journalctl", "echo mine; echo 'Hint: You are currently not seeing messages from other users' >&2")
    with pytest.raises(Incomplete) as part:
        journal.make(target(tmp_path))
    assert (part.value.outcome, part.value.data) == (Outcome.DENIED, b"mine\n")


def test_an_incident_whose_name_tells_no_time_begins_now() -> None:
    assert abs(journal.since("odd") + 3600 - datetime.now(UTC).timestamp()) < 5


def test_what_the_journal_is_not_asked_for_is_told(booted: Path, tmp_path: Path) -> None:
    many = replace(target(tmp_path), frozen=[(pid, 1) for pid in range(2, 502)])
    fake(booted, "journalctl", 'for word; do echo "$word"; done')
    assert journal.make(many).count(b"_PID=") == 501
    with pytest.raises(Incomplete, match=r"^what 2 of 502 processes said was not asked for$") as part:
        journal.make(replace(many, frozen=[*many.frozen, (502, 1), (503, 1)]))
    assert (part.value.outcome, part.value.data.count(b"_PID=")) == (Outcome.TRUNCATED, 501)


def test_of_a_journal_that_lacks_much_all_is_told_and_the_worst_counts(booted: Path, tmp_path: Path) -> None:
    many = replace(target(tmp_path, limit=1000), frozen=[(pid, 1) for pid in range(2, 503)])
    fake(booted, "journalctl", "seq 100000; echo 'Hint: You are currently not seeing messages from other users' >&2")
    with pytest.raises(Incomplete) as part:
        journal.make(many)
    assert part.value.outcome is Outcome.DENIED
    for reason in ("what 1 of 501 processes said", "its last 1000 bytes", "not seeing messages"):
        assert reason in str(part.value)


@pytest.mark.slow
@pytest.mark.parametrize(("lines", "whole"), [(49_999, True), (50_000, False)])
def test_of_a_service_whose_journal_has_as_many_lines_as_asked_for_a_loss_is_told(
    booted: Path, tmp_path: Path, lines: int, *, whole: bool
) -> None:
    fake(booted, "systemctl", "echo shown")
    fake(booted, "journalctl", f"yes '{{}}' | head -n {lines}")
    items = list(units.gather(replace(target(tmp_path), units=("a.service",)), tmp_path))
    losses = [item for item in items if isinstance(item, Loss)]
    assert "units/a.service/journal.jsonl" in {item.stored for item in items if isinstance(item, StoredFile)}
    reason = "its last 50000 lines: the limit is reached"
    assert losses == ([] if whole else [Loss("units/a.service/journal.jsonl", Outcome.TRUNCATED, reason)])
