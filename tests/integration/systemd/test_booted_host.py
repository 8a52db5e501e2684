"""The tests' own hosts: up by themselves, apart from each other, booted again from the same disk, gone with us."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.support.booted_host import PROJECT, BootedHost
from tests.support.workloads import wait_until

BOOT_ID = "/proc/sys/kernel/random/boot_id"
SECONDS = 60
OWNER = """
import sys, time
from pathlib import Path
from tests.support.booted_host import BootedHost
with BootedHost(Path(sys.argv[1])) as host:
    print(host.systemd, flush=True)
    time.sleep(600)
"""


def inhabitants(host: BootedHost) -> list[int]:
    """Who lives in its control group, by the kernel's word."""
    return [int(pid) for place in host.cgroup.glob("**/cgroup.procs") for pid in place.read_text().split()]


def group_of(pid: int) -> str:
    """Its control group of version 2, as this machine names it."""
    (line,) = [line for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::")]
    return line


def namespaces(pid: int) -> set[int]:
    return {(Path(f"/proc/{pid}/ns") / name).stat().st_ino for name in ("mnt", "pid", "uts", "ipc", "net", "cgroup")}


def test_it_is_up_with_all_its_units_and_sees_this_checkout(host: BootedHost) -> None:
    assert host.run(["systemctl", "is-system-running"]).stdout == "running\n", host.run(
        ["systemctl", "--failed"]
    ).stdout
    assert host.run(["hostname"]).stdout.strip() == host.hostname
    assert host.read("/proc/1/comm") == "systemd\n"
    done = host.run([sys.executable, "-c", "import tasks.guard; print(tasks.guard.__file__)"], check=True)
    assert done.stdout.strip() == str(PROJECT / "tasks/guard/__init__.py")
    assert host.run(["touch", str(PROJECT / "touched")]).returncode
    assert host.run(["sh", "-c", "echo 1 >/proc/sys/vm/overcommit_memory"]).returncode


def test_what_it_starts_is_in_units_and_scopes_of_its_own(host: BootedHost) -> None:
    told = {}
    for name, how in {"service": ["--wait", "--pipe"], "scope": ["--scope"]}.items():
        started = ["systemd-run", "--quiet", "--collect", f"--unit=told.{name}", *how]
        told[name] = host.run([*started, "grep", "^0::", "/proc/self/cgroup"], check=True).stdout
    assert told == {"service": "0::/system.slice/told.service\n", "scope": "0::/system.slice/told.scope\n"}
    assert host.run(["grep", "^0::", "/proc/self/cgroup"]).stdout == "0::/init.scope\n"


def test_a_unit_that_does_not_come_up_is_told_with_what_it_said(host: BootedHost) -> None:
    host.run(["systemd-run", "--unit=lame", "sh", "-c", "echo ouch; exit 3"])
    host.wait_for_unit("lame.service", "failed")
    with pytest.raises(AssertionError, match="ouch"):
        host.wait_for_unit("lame.service", "active", seconds=0)
    host.run(["systemctl", "reset-failed"], check=True)


def test_two_hosts_at_once_are_apart_and_one_that_ends_leaves_nothing(host: BootedHost, tmp_path: Path) -> None:
    began = time.monotonic()
    with BootedHost(tmp_path / "another one") as another:
        assert time.monotonic() - began < SECONDS
        assert not namespaces(another.systemd) & (namespaces(host.systemd) | namespaces(os.getpid()))
        assert another.run(["cat", BOOT_ID]).stdout != host.run(["cat", BOOT_ID]).stdout
        assert another.hostname != host.hostname
        another.write("/srv/deep/file", "its own\n")
        assert another.read("/srv/deep/file") == "its own\n"
        assert host.run(["test", "-e", "/srv/deep"]).returncode == 1
        another.run(["systemd-run", "--unit=sleeper", "sh", "-c", "setsid sleep 600 & exec sleep 600"], check=True)
        another.wait_for_unit("sleeper.service")
        processes = [psutil.Process(pid) for pid in inhabitants(another)]
        assert len(processes) > 3
    assert not [process for process in processes if process.is_running()]
    assert not another.cgroup.exists()
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert host.run(["systemctl", "is-system-running"]).stdout == "running\n"


def test_a_reboot_keeps_what_lies_on_disk_and_changes_the_boot(tmp_path: Path) -> None:
    with BootedHost(tmp_path) as host:
        host.write("/srv/file", "on disk\n")
        host.write("/run/file", "in memory\n")
        host.write(
            "/etc/systemd/system/each.service", "[Service]\nExecStart=sleep 600\n[Install]\nWantedBy=multi-user.target"
        )
        host.run(["systemctl", "enable", "each.service"], check=True)
        host.run(["systemd-run", "--unit=once", "sleep", "600"], check=True)
        first = host.read(BOOT_ID)
        host.reboot()
        second = host.read(BOOT_ID)
        assert second not in {first, Path(BOOT_ID).read_text()}
        assert host.read("/srv/file") == "on disk\n"
        assert host.run(["test", "-e", "/run/file"]).returncode == 1
        host.wait_for_unit("each.service")
        assert host.shown("once.service", "LoadState") == "not-found"
        boots = host.run(["journalctl", "--list-boots", "--quiet"], check=True).stdout
        assert [boot.replace("-", "").strip() in boots for boot in (first, second)] == [True, True]


def test_a_host_whose_owner_is_killed_dies_with_it(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], cwd=PROJECT, stdout=subprocess.PIPE)
    assert owner.stdout
    systemd = psutil.Process(int(owner.stdout.readline()))
    processes = [systemd, *systemd.children(recursive=True)]
    ghost = BootedHost(tmp_path)
    ghost.cgroup = ghost.cgroup.with_name(group_of(systemd.pid).split("/")[-2])
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    wait_until(lambda: not any(process.is_running() for process in processes), what="the end of the host")
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    ghost.stop()
    assert not ghost.cgroup.exists()
