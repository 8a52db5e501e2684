"""What systemd is taken to have said where it says nothing, and a drop-in that it does not go by."""

import os
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from tasks.host.unit import systemd
from tasks.host.unit.kept_down import UNANSWERED, drop_in


@pytest.mark.parametrize("program", ["", "exit 1", "kill -9 $$"], ids=["missing", "refusing", "killed"])
@pytest.mark.parametrize(("booted", "init"), [(True, "sh\n"), (False, "systemd\n"), (False, "sh\n")])
def test_a_booted_systemd_that_gives_no_answer_is_told_from_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, init: str, *, booted: bool
) -> None:
    monkeypatch.setattr(systemd, "BOOTED", tmp_path / ("" if booted else "none"))
    (tmp_path / "comm").write_text(init)
    monkeypatch.setattr(systemd, "_INIT", tmp_path / "comm")
    monkeypatch.setenv("PATH", str(tmp_path))
    if program:
        (tmp_path / "systemctl").write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / "systemctl").chmod(0o755)
    about = systemd.Systemd().show("t.service")
    assert about == (UNANSWERED if booted or init == "systemd\n" else {})


UNIT = "my\\x2dapi.service"
"""A name as systemd writes a dash in it."""
PLACE = f"{{etc}}/{UNIT}.d/zz-evacuation-cordon.conf"


@pytest.mark.parametrize(
    ("answer", "held"),
    [
        ((PLACE, "no"), True),
        ((f"/etc/systemd/system/service.d/a.conf {PLACE}".replace("\\", "\\\\"), "no"), True),
        (("", "no"), False),
        ((f"{PLACE}.old", "yes"), False),
        ((PLACE, "yes"), False),
        (None, False),
    ],
    ids=["loaded", "with its backslash twice", "not loaded", "another", "an older one", "no answer"],
)
@pytest.mark.parametrize("written", ["now", "before"])
def test_a_unit_is_kept_down_once_systemd_goes_by_the_drop_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: tuple[str, str] | None, written: str, *, held: bool
) -> None:
    """Of systemd only its command is played: one that was written and never loaded was told as kept down."""
    etc, marker = tmp_path / "etc", tmp_path / "cordon.json"
    etc.mkdir()
    monkeypatch.setattr(systemd, "_SYSTEM", etc)
    monkeypatch.setattr(systemd, "BOOTED", tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "shown").write_text("" if answer is None else "DropInPaths={}\nNeedDaemonReload={}\n".format(*answer))
    shown = (tmp_path / "shown").read_text().replace("{etc}", str(etc))
    (tmp_path / "shown").write_text(shown)
    program = f'#!/bin/sh\ncase "$*" in *" show "*) [ -s {tmp_path}/shown ] && cat {tmp_path}/shown;; esac\n'
    (tmp_path / "systemctl").write_text(program)
    (tmp_path / "systemctl").chmod(0o755)
    wanted = {UNIT: drop_in(UNIT, marker, "graceful")}
    if written == "before":
        (etc / f"{UNIT}.d").mkdir()
        (etc / f"{UNIT}.d/zz-evacuation-cordon.conf").write_text(wanted[UNIT])
    failed = systemd.Systemd().hold_down(marker, wanted)
    assert (failed == "") is held, failed
    assert (etc / f"{UNIT}.d").exists() is held
    assert held or "it has not loaded" in failed


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can name another process as the sender")
def test_systemd_is_told_the_watchdogs_time_in_the_name_of_the_services_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From anybody but the service it takes no such word (sd_notify(3))."""
    monkeypatch.setattr(systemd, "_NOTIFY", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear, subprocess.Popen(["sleep", "600"]) as service:
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        ear.bind(str(tmp_path / "notify"))
        systemd._set_watchdog(service.pid, b"1000000")
        service.kill()
        told, ancillary, *_ = ear.recvmsg(100, socket.CMSG_SPACE(12), socket.MSG_DONTWAIT)
    assert told == b"WATCHDOG_USEC=1000000"
    assert struct.unpack("3i", ancillary[0][2])[0] == service.pid
