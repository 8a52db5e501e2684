"""Have systemd act on units, keep them down by drop-ins, and read what it says of them."""

import os
import socket
import struct
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from tasks.custody.containment.unit import condition

_SECONDS: Final = 30.0
_SYSTEM: Final = Path("/etc/systemd/system")
_DROP_IN: Final = "zz-evacuation-cordon.conf"  # of all drop-ins the last by name counts
_ASKED: Final = ("Id", "LoadState", "ActiveState", "SubState", "MainPID", "TriggeredBy", "WatchdogUSec")
_NOTIFY: Final = "/run/systemd/notify"
_NO_WATCHDOG: Final = frozenset({"", "0", "infinity"})


def systemctl(verb: str, *words: str) -> str:
    """Run systemctl and wait until it has ended; empty, or why it failed."""
    try:
        done = _run(verb, *words)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (done.stderr.strip() or f"systemctl ended with {done.returncode}") if done.returncode else ""


def properties(unit: str) -> dict[str, str]:
    """Some properties of a unit as systemd shows them; empty where it cannot be asked."""
    with suppress(OSError, subprocess.TimeoutExpired):
        done = _run("show", f"--property={','.join(_ASKED)}", "--", unit)
        if done.returncode == 0:
            return {name: value for name, _, value in (line.partition("=") for line in done.stdout.splitlines())}
    return {}


def freeze(unit: str) -> str:
    """Have systemd freeze a unit; empty, or why that failed.

    Its watchdog is switched off before, in the name of its main process: systemd 252 aborts a frozen unit that does not
    report. A drop-in does not change the watchdog of a service that runs.
    """
    about = properties(unit)
    if about.get("WatchdogUSec", "") not in _NO_WATCHDOG:
        sender = struct.pack("3i", int(about["MainPID"]), os.geteuid(), os.getegid())
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
            door.sendmsg([b"WATCHDOG_USEC=0"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, sender)], 0, _NOTIFY)
    return systemctl("freeze", "--", unit)


def hold_down(marker: Path, drop_ins: Mapping[str, str]) -> str:
    """Write a drop-in for each unit and reload systemd; empty, or why that failed. Then none of them is left."""
    places = {_SYSTEM / f"{unit}.d" / _DROP_IN: text for unit, text in drop_ins.items()}
    if all(_text(place) == text for place, text in places.items()):
        return ""
    try:
        for place, text in places.items():
            place.parent.mkdir(mode=0o755, exist_ok=True)
            place.write_text(text)
            place.chmod(0o644)
        failed = systemctl("daemon-reload")
    except OSError as error:
        failed = str(error)
    if failed:
        release(marker)
    return failed


def release(marker: Path) -> tuple[str, ...]:
    """Remove every drop-in of the cordon with this marker, and let systemd forget how the units ended.

    A unit that was killed while it was frozen stays frozen for systemd, which starts it again only after that.
    """
    ours = [place for place in _SYSTEM.glob(f"*.d/{_DROP_IN}") if condition(marker) in _text(place).splitlines()]
    units: list[str] = []
    for place in ours:
        with suppress(OSError):
            place.unlink()
            units.append(place.parent.name.removesuffix(".d"))
            place.parent.rmdir()
    if units:
        systemctl("daemon-reload")
    for unit in units:
        systemctl("reset-failed", "--", unit)
    return tuple(units)


def _text(place: Path) -> str:
    try:
        return place.read_text()
    except OSError:
        return ""


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemctl", "--no-ask-password", *words],  # noqa: S607  found by PATH, as a person's shell would
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
