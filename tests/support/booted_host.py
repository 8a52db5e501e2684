"""A host that a real systemd has booted, as pid 1 of namespaces of its own on this machine. Needs root.

It sees this checkout, read-only, and the interpreter of its .venv at their own paths: our code runs in it as it does
here. Its disk is an overlay that stays in the caller's folder, so that it can be booted again; everything else ends
with it, and it ends with us, however we go.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psutil

from tasks.system.managed_process import ManagedProcess, ManagedProcessError
from tests.support.debian_root import debian_folder

PROJECT: Final = Path(__file__).resolve().parents[2]
PROGRAMS: Final = ("debootstrap", "unshare", "nsenter", "setpriv")
_PACKAGES: Final = ("systemd", "systemd-sysv", "dbus", "python3", "procps", "iproute2", "ca-certificates")
_NEEDLESS: Final = (  # what fails in namespaces, hides the checkout behind an empty /tmp, or asks the network
    *("console-getty.service", "getty.target", "systemd-modules-load.service", "systemd-firstboot.service"),
    *("tmp.mount", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer"),
)
_DEAD_SECONDS: Final = 30.0
_PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"
_UP: Final = ("running", "degraded")
_JOIN: Final = 'echo 0 >"$0/cgroup.procs" && exec unshare --cgroup sh -euc "$@"'
_ENTER: Final = 'echo 0 >"$0/init.scope/cgroup.procs" && exec nsenter "$@"'
_BOOT: Final = """
cd "$1"; lower=$2 boot_id=$3 path=$4; shift 4
mount --make-rprivate /
mount -t overlay -o "lowerdir=$lower,upperdir=upper,workdir=work" overlay root
mount -t proc proc root/proc
mount --bind root/proc/sys root/proc/sys
mount -o remount,bind,ro root/proc/sys
mount -t sysfs -o ro sysfs root/sys
mount -t cgroup2 cgroup2 root/sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs root/run
mount -t tmpfs -o mode=755 tmpfs root/dev
for node in null zero full random urandom tty; do
    touch root/dev/$node
    mount --bind /dev/$node root/dev/$node
done
mkdir root/dev/pts root/dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts root/dev/pts
ln -s pts/ptmx root/dev/ptmx
mount -t tmpfs tmpfs root/dev/shm
while [ $# -gt 0 ]; do
    mkdir -p "root$1"
    mount --bind -o ro "$2" "root$1"
    shift 2
done
echo "$boot_id" >root/run/boot_id
mount --bind root/run/boot_id root/proc/sys/kernel/random/boot_id
cd root
mkdir -p old
pivot_root . old
umount -l /old
exec setpriv --bounding-set=-sys_module,-sys_time env -i container=systemd-nspawn PATH="$path" /lib/systemd/systemd
"""


class BootedHost(ManagedProcess):
    """A host with a disk in the folder, `binds` names what else it sees: a place in it, and what lies there."""

    name = "systemd"
    ready_seconds = 90.0
    grace_seconds = 0.0

    def __init__(self, folder: Path, binds: Mapping[str, Path] = {}) -> None:
        """Lay out the disk, and choose a name for host and control group."""
        super().__init__(folder)
        self.hostname = f"host-{secrets.token_hex(4)}"
        self.boot_id = str(uuid4())
        shared = {str(place): place for place in (PROJECT, Path(sys.base_prefix)) if place != Path("/usr")}
        self.binds = {**shared, **binds}
        self.cgroup = _unified() / self.hostname
        self._pid = 0

    @property
    def systemd(self) -> int:
        """Pid of its systemd, as this machine counts."""
        return self._pid

    def command(self) -> Sequence[str]:
        """Its pid 1: it enters the control group, makes that the root of all it sees of them, and becomes systemd."""
        alone = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--net", "--fork", "--kill-child=KILL"]
        binds = [word for place, source in self.binds.items() for word in (place, str(source))]
        told = [str(self.folder), str(base_root()), self.boot_id, _PATH, *binds]
        return [*alone, "sh", "-euc", _JOIN, str(self.cgroup), _BOOT, "boot", *told]

    def start(self) -> None:
        """Boot it, from its disk as it is."""
        for name in ("upper/etc/systemd/system", "work", "root"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "upper").chmod(0o755)
        etc = self.folder / "upper/etc"
        if not (etc / "hostname").exists():
            (etc / "hostname").write_text(f"{self.hostname}\n")
            (etc / "machine-id").touch()
            for unit in _NEEDLESS:
                (etc / "systemd/system" / unit).symlink_to("/dev/null")
        self.cgroup.mkdir()
        try:
            super().start()
        except BaseException:
            self.stop()
            raise

    def ready(self) -> bool:
        """Whether it has come up."""
        with suppress(psutil.Error, IndexError, subprocess.TimeoutExpired):
            self._pid = psutil.Process(self.pid).children()[0].children()[0].pid
            if Path(f"/proc/{self._pid}/comm").read_text() == "systemd\n":
                asked = self.run(["systemctl", "is-system-running", "--wait"], timeout=self.ready_seconds)
                return asked.stdout.strip() in _UP
        return False

    def stop(self) -> None:
        """Take its power away: SIGKILL to its pid 1, with which all of it dies."""
        if self._keeper and self._pid:
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.kill(self._pid, signal.SIGKILL)
                self._keeper.wait(_DEAD_SECONDS)
        self._pid = 0
        super().stop()
        _remove(self.cgroup)

    def reboot(self, *, new_boot_id: bool = True) -> None:
        """Take its power away, and boot it again from the same disk."""
        self.stop()
        self.boot_id = str(uuid4()) if new_boot_id else self.boot_id
        self.start()

    def run(self, command: Sequence[str], *, check: bool = False, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as root and in no unit; with check, an exit other than 0 is an error that tells why."""
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(self.inside(command), capture_output=True, text=True, check=False, **options)
        if check and done.returncode:
            raise AssertionError(f"{list(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command of this machine that runs one in it."""
        spaces = ["--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--root", "--wd"]
        entered = ["sh", "-c", _ENTER, str(self.cgroup), f"--target={self._pid}", *spaces]
        return [*entered, "--", "env", "-i", f"PATH={_PATH}", *command]

    def write(self, path: str, text: str) -> None:
        """Write a file on it, and the folders above it."""
        self.run(["sh", "-euc", 'mkdir -p "$(dirname "$1")"; cat >"$1"', "sh", path], check=True, input=text)

    def read(self, path: str) -> str:
        """Read a file on it."""
        return self.run(["cat", "--", path], check=True).stdout

    def shown(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run(["systemctl", "show", f"--property={name}", "--value", "--", unit]).stdout.strip()

    def wait_for_unit(self, unit: str, state: str = "active", seconds: float = 60.0) -> None:
        """Wait until the unit is in that state; the error tells what it says of itself."""
        deadline = time.monotonic() + seconds
        while self.shown(unit, "ActiveState") != state:
            if time.monotonic() > deadline:
                told = self.run(["systemctl", "status", "--no-pager", "--full", "--lines=30", "--", unit]).stdout
                raise AssertionError(f"expected {unit} to be {state} within {seconds:g} s; got:\n{told}")
            time.sleep(0.05)


def base_root() -> Path:
    """What lies below the disk of each host, made once a checkout."""
    return debian_folder(_PACKAGES)


def missing() -> str:
    """Why no host can be booted here; empty if one can."""
    lacking = [program for program in PROGRAMS if not shutil.which(program)]
    if os.geteuid():
        lacking.append("root")
    return f"a booted host needs {', '.join(lacking)}" if lacking else ""


def _unified() -> Path:
    """Where control groups of version 2 are mounted."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    raise ManagedProcessError("expected a mount of control groups of version 2; got none. Mount one.")


def _remove(cgroup: Path) -> None:
    """Remove it and all below, as soon as the last of the dead is reaped."""
    deadline = time.monotonic() + _DEAD_SECONDS
    while cgroup.exists():
        with suppress(OSError):
            for folder in (*sorted(cgroup.glob("**/"), reverse=True), cgroup):
                folder.rmdir()
        if time.monotonic() > deadline:
            raise ManagedProcessError(f"expected {cgroup} to be empty; got processes {_pids(cgroup)}.")
        time.sleep(0.02)


def _pids(cgroup: Path) -> str:
    return " ".join(" ".join(place.read_text().split()) for place in cgroup.glob("**/cgroup.procs"))
