"""A cordon whose guard is gone, by a reboot or a kill: `tasks.guard again MARKER` starts another from the marker."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import psutil
import pytest

from tasks.containment.cordon import cordon
from tasks.custody.containment.identity import Identity
from tasks.guard.__main__ import AGAIN, kept_orders
from tasks.host.host import LinuxHost
from tasks.incident.layout import CAUGHT, FROZEN
from tasks.runtime.context import RunContext
from tasks.system.files.atomic_files import caught_lines
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload, wait_until

PROJECT = Path(__file__).parents[3]
OTHER_BOOT = "0badb007"


@contextmanager
def unguarded(small: SmallWorkload) -> Iterator[RunContext]:
    """A cordon that stands, and whose guard was killed."""
    with case_of(small.block()) as context:
        cordon.fn(context)
        wait_until(lambda: context.adapters.host.guard(context.cordon_files.marker), what="the guard's start")
        guard = context.adapters.host.guard(context.cordon_files.marker)
        assert guard
        psutil.Process(guard.pid).kill()
        cast("LinuxHost", context.adapters.host).started_guard = None
        wait_until(lambda: context.adapters.host.guard(context.cordon_files.marker) is None, what="the guard's end")
        yield context


@contextmanager
def started_again(marker: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A guard as the unit of examples/systemd starts it."""
    command = [sys.executable, "-P", "-m", "tasks.guard", AGAIN, str(marker)]
    told = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), **environment}
    with subprocess.Popen(command, env=told, cwd="/", stderr=subprocess.PIPE, text=True) as guard:
        try:
            yield guard
        finally:
            guard.kill()


def as_of_another_boot(marker: Path) -> None:
    """What the marker would say after a reboot: journals of another boot, pids that are others' by now."""
    about = json.loads(marker.read_bytes())
    boot = CAUGHT.partition("-")[2].partition(".")[0]
    orders = {name: json.loads(json.dumps(value).replace(boot, OTHER_BOOT)) for name, value in about["orders"].items()}
    marker.write_text(json.dumps({**about, "orders": orders}))


def test_a_guard_is_started_again_as_the_one_that_the_run_had_started(small: SmallWorkload) -> None:
    with unguarded(small) as context, started_again(context.cordon_files.marker) as guard:
        wait_until(
            lambda: (
                context.adapters.host.guard(context.cordon_files.marker)
                == Identity.of(told(context.cordon_files.marker))
            ),
            what="the guard",
        )
        assert told(context.cordon_files.marker)["pid"] == guard.pid
        small.start(WORKERS="0")
        wait_until(lambda: {each.status() for each in small.living()} == {psutil.STATUS_STOPPED}, what="its catch")
        assert context.adapters.host.refuses(context.workload.lock)
        cordon.fn(context)
        assert (
            told(context.cordon_files.marker)["pid"] == guard.pid
        )  # a run that carries the incident on needs no other
        with started_again(context.cordon_files.marker) as another:
            assert another.wait(60) == 0
        context.adapters.host.release(context.cordon_files.marker)
        assert guard.wait(60) == 0


def told(marker: Path) -> dict[str, object]:
    about = json.loads(marker.read_bytes())
    assert isinstance(about, dict)
    return about


def test_after_a_reboot_it_writes_to_journals_of_this_boot_and_spares_nobody_by_a_pid_of_the_last(
    small: SmallWorkload,
) -> None:
    with unguarded(small) as context:
        as_of_another_boot(context.cordon_files.marker)
        orders = kept_orders(context.cordon_files.marker)
        assert orders.known == (str(context.directory.path / FROZEN),)
        assert orders.spared == ()
        with started_again(context.cordon_files.marker):
            small.start(WORKERS="0")
            wait_until(lambda: list(caught_lines(context.cordon_files.caught)), what="a line in this boot's journal")
            wait_until(lambda: {each.status() for each in small.living()} == {psutil.STATUS_STOPPED})


def test_systemd_hears_of_it_after_its_first_look(small: SmallWorkload, tmp_path: Path) -> None:
    with unguarded(small) as context, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(60)
        small.start(WORKERS="0")
        with started_again(context.cordon_files.marker, NOTIFY_SOCKET=str(tmp_path / "notify")):
            assert systemd.recv(64) == b"READY=1"
            assert len(list(caught_lines(context.cordon_files.caught))) == 1


@pytest.mark.parametrize("forged", ["of another account", "open to others", "without orders", "moved", "torn", "gone"])
def test_a_marker_that_is_not_ours_or_holds_no_orders_starts_nothing(small: SmallWorkload, forged: str) -> None:
    with unguarded(small) as context:
        marker = context.cordon_files.marker
        about = json.loads(marker.read_bytes())
        if forged == "of another account":
            os.chown(marker, 1234, -1)
        elif forged == "open to others":
            marker.chmod(0o666)
        elif forged == "without orders":
            marker.write_text(json.dumps({name: value for name, value in about.items() if name != "orders"}))
        elif forged == "moved":
            marker = marker.rename(marker.with_name("other.json"))
        elif forged == "torn":
            marker.write_text(marker.read_text()[:100])
        else:
            marker.unlink()
        with started_again(marker) as guard:
            _, said = guard.communicate(timeout=60)
            assert guard.returncode == 2
            assert said.startswith("no guard was started: ")
        assert LinuxHost().guard(context.cordon_files.marker) is None
