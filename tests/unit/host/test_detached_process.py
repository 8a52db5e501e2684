"""What outlives us: in a scope of its own where there is systemd, else in a session of its own."""

import os
import sys
from pathlib import Path

import psutil
import pytest

from tasks.host import detached_process as launch
from tasks.host.detached_process import place_of_scope, session_of, wrap_in_scope
from tasks.host.host import LinuxHost
from tasks.system.accounts import clean_environment
from tests.support.workloads import wait_until

COMMAND = ["venv/bin/python", "-m", "uvicorn"]


def test_without_systemd_the_command_stays_as_it_is() -> None:
    assert wrap_in_scope(COMMAND, "guard", systemd=False, root=True) == COMMAND


def test_with_systemd_it_gets_a_scope_in_which_it_becomes_the_user_itself() -> None:
    made = wrap_in_scope(COMMAND, "evacuated", systemd=True, root=True)
    assert made[:4] == ["systemd-run", "--scope", "--quiet", "--collect"]
    assert made[4].startswith("--unit=evacuated-")
    assert made[5:] == ["--", *COMMAND]
    assert wrap_in_scope(COMMAND, "x", systemd=True, root=False)[1] == "--user"


def test_two_scopes_never_share_a_name() -> None:
    assert wrap_in_scope(COMMAND, "x", systemd=True, root=True) != wrap_in_scope(COMMAND, "x", systemd=True, root=True)


def test_a_users_own_systemd_is_found_and_root_is_given_nobodys() -> None:
    told = {"XDG_RUNTIME_DIR": "/run/user/7", "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/user/7/bus"}
    assert session_of({**told, "AWS_SECRET_ACCESS_KEY": "s"}, root=False) == told
    assert session_of(told, root=True) == {}


@pytest.mark.parametrize(("session", "scope"), [({}, False), ({"XDG_RUNTIME_DIR": "/run/user/7"}, True)])
def test_who_cannot_reach_systemd_starts_it_without(
    session: dict[str, str], *, scope: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cron job or `su` has no session of systemd: `systemd-run --user` ended with 1 there, and no guard stood."""
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    for name, value in session.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(launch, "BOOTED", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 7)
    assert (launch.outliving(["guard"], "guard") != ["guard"]) == scope


@pytest.mark.slow
def test_how_a_child_ended_can_be_asked_again_and_again(tmp_path: Path) -> None:
    host = LinuxHost()
    log = tmp_path / "log"
    for code, program in ((3, "raise SystemExit(3)"), (-9, "import os; os.kill(os.getpid(), 9)"), (0, "")):
        started = host.start([sys.executable, "-c", program], tmp_path, log, 0, clean_environment(0))
        wait_until(lambda who=started: host.exit_code(who) is not None, what="its end")  # type: ignore[misc]
        assert [host.exit_code(started), host.exit_code(started)] == [code, code]


@pytest.mark.slow
def test_a_start_that_says_nothing_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The account may stop the process that becomes its program."""
    monkeypatch.setattr(launch, "_PATIENCE", 0.2)
    monkeypatch.setattr(launch, "outliving", lambda *_: ["sleep", "600"])
    orders = {"command": ["serve"], "root": tmp_path, "user": os.geteuid(), "environment": {}}
    with (tmp_path / "log").open("wb") as log, pytest.raises(OSError, match=r"serve did not run within 0.2 s"):
        launch.start_as(orders, "test", log.fileno())
    assert "sleep" not in {each.name() for each in psutil.Process().children()}


def test_a_start_that_ends_before_it_is_told_what_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "outliving", lambda *_: ["sh", "-c", "exec <&-; echo no bus >&2; exit 3"])
    orders = {"command": ["x" * (1 << 18)], "root": tmp_path, "user": os.geteuid(), "environment": {}}
    with (tmp_path / "log").open("wb") as log, pytest.raises(OSError, match=r"no bus|ended with 3"):
        launch.start_as(orders, "test", log.fileno())


@pytest.mark.parametrize(
    ("user", "systemd", "places"),
    [
        (0, False, ["/a", "/b"]),
        (7, False, ["/a", "/b"]),
        (0, True, ["/system.slice", "/system.slice"]),
        (7, True, ["/user.slice/user-7.slice/user@7.service/app.slice", "/b"]),
    ],
)
def test_a_scope_is_below_systemds_own_groups_and_a_users_has_none_of_version_1(
    monkeypatch: pytest.MonkeyPatch, user: int, places: list[str], *, systemd: bool
) -> None:
    monkeypatch.setattr("tasks.host.detached_process.os.geteuid", lambda: user)
    monkeypatch.setattr("tasks.host.detached_process._has_systemd", lambda: systemd)
    assert place_of_scope([("", "/a"), ("memory", "/b")]) == [("", places[0]), ("memory", places[1])]
