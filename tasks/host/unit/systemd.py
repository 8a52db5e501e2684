"""Make systemd act on units and keep them down by drop-ins, and read their properties; with a twin for a dry run.

See docs/adr/0026.
"""

import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from tasks.host.unit.kept_down import UNANSWERED, condition
from tasks.system.kernel_tables import ENVIRONMENT, read_kernel
from tasks.system.programs import trusted_path
from tasks.system.unit_files import BOOTED

_SECONDS: Final = 10.0
_ATTACH_SECONDS: Final = 2.0
_LONGER: Final = {"start": 60.0, "stop": 30.0}
_SYSTEMCTL: Final = ("systemctl", "--no-ask-password")
_MANAGER: Final = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
_ATTACH: Final = ("busctl", "call", *_MANAGER, "AttachProcessesToUnit", "ssau")
_SYSTEM: Final = Path("/etc/systemd/system")
_INIT: Final = Path("/proc/1/comm")  # the host's, also in a container with its pid namespace
_DROP_IN: Final = "zz-evacuation-cordon.conf"  # of all drop-ins the last by name wins
_ASKED: Final = (
    *("Id", "LoadState", "ActiveState", "SubState", "MainPID", "TriggeredBy", "WatchdogUSec", "Environment", "Restart"),
    *("DropInPaths", "NeedDaemonReload"),
)
_RUNS: Final = "Id,ActiveState,SubState,MainPID,ExecStart,WorkingDirectory,Restart"
_NOTIFY: Final = "/run/systemd/notify"
_ENTERED: Final = "ActiveEnterTimestampMonotonic"
_MICROSECONDS: Final = 1e6


class Systemd:
    """This host's systemd, by systemctl. Commands return an empty text, or why they failed."""

    def tell(self, verb: str, *words: str) -> str:
        """Run systemctl and wait until it has ended."""
        return _failure([*_SYSTEMCTL, verb, *words], _LONGER.get(verb, _SECONDS))

    def attach(self, unit: str, below: str, pids: Sequence[int]) -> str:
        """Move processes of our user, from any group, into a group below one that is delegated to us."""
        return _failure([*_ATTACH, unit, below, str(len(pids)), *map(str, pids)], _ATTACH_SECONDS)

    def show(self, unit: str) -> Mapping[str, str]:
        """Return some properties of a unit by name; UNANSWERED if systemd gives none, empty if it has not booted."""
        with suppress(OSError, subprocess.TimeoutExpired):
            done = _run([*_SYSTEMCTL, "show", f"--property={','.join(_ASKED)}", "--", unit])
            if done.returncode == 0:
                return {name: value for name, _, value in (line.partition("=") for line in done.stdout.splitlines())}
        return UNANSWERED if BOOTED.is_dir() or _text(_INIT) == "systemd\n" else {}

    def services(self) -> list[dict[str, str]]:
        """Return what each loaded service is and runs; none if systemd does not answer within two seconds."""
        with suppress(OSError, subprocess.TimeoutExpired):
            done = _run([*_SYSTEMCTL, "show", f"--property={_RUNS}", "*.service"], _ATTACH_SECONDS)
            units = done.stdout.split("\n\n") if done.returncode == 0 else []
            return [dict(line.partition("=")[::2] for line in unit.splitlines()) for unit in units]
        return []

    def mounted_at(self, point: str) -> datetime | None:
        """Return since when a file system is mounted there; None if systemd does not tell."""
        with suppress(OSError, subprocess.TimeoutExpired, ValueError):
            done = _run([*_SYSTEMCTL, "show", f"--property={_ENTERED}", "--value", "--", point], _ATTACH_SECONDS)
            if entered := int(done.stdout):
                return datetime.now(UTC) - timedelta(seconds=time.monotonic() - entered / _MICROSECONDS)
        return None

    def freeze(self, unit: str) -> str:
        """Freeze a unit, with its watchdog off.

        systemd 252 aborts a frozen unit that does not report. No drop-in changes the watchdog of a running service, so
        systemd gets a message in the name of the main process.
        """
        properties = self.show(unit)
        if properties == UNANSWERED:
            return UNANSWERED["SubState"]
        if properties.get("WatchdogUSec", "") not in {"", "0", "infinity"}:
            _set_watchdog(int(properties["MainPID"]), b"0")
        return self.tell("freeze", "--", unit)

    def watch(self, pid: int, *, on: bool) -> None:
        """Switch the watchdog of a service off, or on as its environment says; `pid` is its main process.

        Does nothing for other processes, and without CAP_SYS_ADMIN.
        """
        with suppress(OSError):
            rows = read_kernel(f"/proc/{pid}/environ", ENVIRONMENT).split(b"\0")
            variables = dict(row.partition(b"=")[::2] for row in rows if row.startswith(b"WATCHDOG_"))
            usual = variables.get(b"WATCHDOG_USEC", b"")
            if variables.get(b"WATCHDOG_PID") == b"%d" % pid and usual.isdigit():
                _set_watchdog(pid, usual if on else b"0")

    def hold_down(self, marker: Path, drop_ins: Mapping[str, str]) -> str:
        """Keep units from starting while the marker exists. If that fails no drop-in is left."""
        places = {_SYSTEM / f"{unit}.d" / _DROP_IN: text for unit, text in drop_ins.items()}
        if all(_text(place) == text for place, text in places.items()) and not self._not_loaded(places):
            return ""
        try:
            for place, text in places.items():
                place.parent.mkdir(mode=0o755, exist_ok=True)
                place.write_text(text)
                place.chmod(0o644)
            failed = self.tell("daemon-reload") or self._not_loaded(places)
        except OSError as error:
            failed = str(error)
        if failed:
            self.release(marker)
        return failed

    def _not_loaded(self, drop_ins: Iterable[Path]) -> str:
        """Return which drop-ins systemd does not go by, as far as it tells; empty if it goes by all."""
        missing = [place for place in drop_ins if not _goes_by(self.show(place.parent.name.removesuffix(".d")), place)]
        return f"it has not loaded {', '.join(map(str, missing))}" if missing else ""

    def release(self, marker: Path) -> tuple[str, ...]:
        """Let the units that this marker keeps down start again, and reset their failed state; return their names."""
        units: list[str] = []
        for place in _SYSTEM.glob(f"*.d/{_DROP_IN}"):
            with suppress(OSError):
                if condition(marker) in _text(place).splitlines():
                    place.unlink()
                    units.append(place.parent.name.removesuffix(".d"))
                    place.parent.rmdir()
        if units:
            self.tell("daemon-reload")
        for unit in units:
            self.tell("reset-failed", "--", unit)
        return tuple(units)


class RehearsalSystemd(Systemd):
    """Record what systemd would be told, and tell it nothing."""

    def __init__(self, would: Callable[[str, str], None]) -> None:
        """Take the function that records an act on a unit."""
        self._would = would
        self._down: set[str] = set()

    def tell(self, verb: str, *words: str) -> str:
        """Record it."""
        self._would(f"systemctl {verb}", words[-1])
        self._down |= {words[-1]} if verb in {"stop", "kill"} else set()
        return ""

    def watch(self, pid: int, *, on: bool) -> None:
        """Do nothing: no process is frozen."""

    def show(self, unit: str) -> Mapping[str, str]:
        """Return the unit's properties as they would be."""
        return {**super().show(unit), **({"ActiveState": "inactive"} if unit in self._down else {})}

    def services(self) -> list[dict[str, str]]:
        """Return those that would still be up."""
        return [each for each in super().services() if each.get("Id") not in self._down]

    def freeze(self, unit: str) -> str:
        """Record it."""
        return self.tell("freeze", unit)

    def hold_down(self, marker: Path, drop_ins: Mapping[str, str]) -> str:
        """Record it."""
        for unit in drop_ins:
            self._would(f"keep down while {marker} is there", unit)
        return ""

    def release(self, marker: Path) -> tuple[str, ...]:
        """Return none: no unit was kept down."""
        del marker
        return ()


def _text(place: Path) -> str:
    with suppress(OSError):
        return place.read_text()
    return ""


def _goes_by(properties: Mapping[str, str], drop_in: Path) -> bool:
    loaded = properties.get("DropInPaths", "").replace("\\\\", "\\")  # it may show a backslash of a unit's name twice
    return str(drop_in) in loaded and properties.get("NeedDaemonReload") == "no"


def _set_watchdog(pid: int, microseconds: bytes) -> None:
    sender = struct.pack("3i", pid, os.geteuid(), os.getegid())
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        message = [b"WATCHDOG_USEC=" + microseconds]
        door.sendmsg(message, [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, sender)], socket.MSG_DONTWAIT, _NOTIFY)


def _failure(command: Sequence[str], seconds: float) -> str:
    """Return why a command failed; empty if it did not."""
    try:
        done = _run(command, seconds)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (done.stderr.strip() or f"{command[0]} ended with {done.returncode}") if done.returncode else ""


def _run(command: Sequence[str], seconds: float = _SECONDS) -> subprocess.CompletedProcess[str]:
    around = {**os.environ, "PATH": trusted_path()}
    return subprocess.run(
        command,
        cwd="/",
        env=around,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
