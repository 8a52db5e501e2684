"""A run without root on a booted host: systemd moves for it what its user may not move itself."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.custody.containment.identity import Way
from tests.support.booted_host import PROJECT, BootedHost
from tests.support.cases import CHAIN
from tests.support.workloads import wait_until

USER, OTHER = 1000, 1001
MANAGER = f"/user.slice/user-{USER}.slice/user@{USER}.service"
ROOT = "/srv/own/root"
BEATS = """
import os, time
os.umask(0)
sign, end = os.open("sign", os.O_WRONLY | os.O_APPEND | os.O_CREAT), time.monotonic() + 120
def beat(): os.write(sign, b".") if time.monotonic() < end else os._exit(0)
"""
BESIDE = 'python3 -c "$1" & cd /; exec sleep 300'
"""Start a program, and be a bystander in its control group."""
BECOME = f"""
user = {OTHER} if os.fork() == 0 else {USER}
os.setgid(user); os.setuid(user)
os.execvp("python3", ["python3", "-c", {BEATS + "while True: beat(); time.sleep(0.005)"!r}])
"""
"""Root's program becomes one of each user; by its exec it may be looked into again."""
MIXED = "/system.slice/mixed.service"
PLACES = {
    MIXED: [],
    "/user.slice/user-1000.slice/session-7.scope": [f"--uid={USER}", "--slice=user-1000.slice", "--scope"],
    "/system.slice/own.service": [f"--uid={USER}"],
    f"{MANAGER}/app.slice/own.service": ["--user"],
}


def as_user(command: list[str], user: int = USER) -> list[str]:
    """The command of that user, who may reach the user's manager."""
    launch = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "env", f"HOME=/home/{user}"]
    return [*launch, "PATH=/usr/bin:/bin", f"XDG_RUNTIME_DIR=/run/user/{user}", f"PYTHONPATH={PROJECT}", *command]


@pytest.fixture(scope="module")
def shared(host: BootedHost) -> Iterator[BootedHost]:
    """The host with two users, one of whom has a manager of services and may reach our interpreter."""
    for user in (USER, OTHER):
        host.run(["useradd", "--create-home", f"--home=/home/{user}", f"--uid={user}", f"user-{user}"], check=True)
    for closed in Path(sys.base_prefix).parents:
        host.run(["chmod", "a+x", str(closed)], check=True)
    told = "[Service]\nEnvironment=XDG_RUNTIME_DIR=/run/user/%i\n"  # pam_systemd.so, which is not there, would say so
    host.write("/etc/systemd/system/user@.service.d/runtime.conf", told)
    host.run(["sh", "-c", f"systemctl daemon-reload; systemctl start user@{USER}.service"], check=True)
    yield host
    host.run(["systemctl", "stop", f"user@{USER}.service"], check=True)


@pytest.fixture(autouse=True)
def root(shared: BootedHost) -> Iterator[None]:
    """Make the user's folder; all of both users ends with the test but the manager."""
    shared.run(["install", "-d", "-m", "755", f"--owner={USER}", "/srv/own", ROOT], check=True)
    yield
    for _ in range(3):
        shared.run(["pkill", "-KILL", "-u", f"{USER},{OTHER}", "sleep|python3"])
    shared.run(["sh", "-c", "systemctl stop mixed; systemctl reset-failed; rm -r /srv/own"], check=True)


def away(host: BootedHost, command: list[str]) -> None:
    """Run a command that nobody waits for."""
    host.run(["sh", "-c", 'exec setsid --fork "$@" >/dev/null 2>&1', "sh", *command], check=True)


def start(host: BootedHost, place: str, code: str) -> None:
    """Start a program that beats, in that control group, and wait for its sign of life."""
    words = ["systemd-run", "--quiet", f"--unit={place.rpartition('/')[2]}", f"--working-directory={ROOT}"]
    command = [*words, *PLACES[place], "sh", "-c", BESIDE, "sh", BEATS + code]
    away(host, as_user(command) if "--user" in command else command)
    wait_until(lambda: not host.run(["test", "-s", f"{ROOT}/sign"]).returncode, what="a sign of life")


def groups_of(host: BootedHost, pattern: str) -> set[str]:
    """Where processes are whose command lines match."""
    found = host.run(["sh", "-c", 'cat $(pgrep -f "$1" | sed "s,.*,/proc/&/cgroup,") /dev/null', "sh", pattern]).stdout
    return {line.removeprefix("0::") for line in found.splitlines() if line.startswith("0::")}


def evacuated(host: BootedHost) -> dict[str, Any]:
    """What a run of the user saw that contains it."""
    script = str(Path(__file__).with_name("unprivileged_run.py"))
    done = host.run(as_user([sys.executable, script, ROOT]))
    assert done.returncode == 0, done.stdout + done.stderr
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen


@pytest.mark.sample(1)
@pytest.mark.parametrize("place", [place for place in PLACES if place != MIXED], ids=["session", "service", "manager"])
def test_a_fork_chain_is_held_and_ended_wherever_it_is(shared: BootedHost, place: str) -> None:
    start(shared, place, CHAIN)
    seen = evacuated(shared)
    assert (seen["settled"], seen["stands"], seen["alive"], seen["runs"]) == (True, True, [], False), seen
    assert {way for end, way, _ in seen["held"] if end in {"stopped", "killed"}} == {Way.INCIDENT}
    assert not shared.run(["find", "/sys/fs/cgroup", "-name", "evacuation-*"]).stdout
    assert groups_of(shared, "^sleep 300") == {place}, "who is beside it is not touched"


@pytest.mark.soak  # a stop tries for 40 s to end whom it may not signal
def test_a_child_that_became_another_user_is_told_and_keeps_nobody_else_from_being_held(shared: BootedHost) -> None:
    start(shared, MIXED, BECOME)
    wait_until(lambda: "def beat" in shared.run(["pgrep", "-a", "-u", str(USER), "python3"]).stdout, what="its exec")
    seen = evacuated(shared)
    held = {end: (way, reason) for end, way, reason in seen["held"]}
    assert held["stopped"] == (Way.INCIDENT, "")
    assert held["survived"][0] == Way.SIGNALS
    assert held.keys() == {"stopped", "survived"}
    assert len(seen["alive"]) == 1
    assert seen["runs"]
