"""What root opens and runs of a workload that is not root's: no program of its folder, and no device it names."""

import ctypes
import os
import pwd
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tasks.containment.containment_check import check_containment
from tasks.evidence.collect import collect
from tasks.host.unit.systemd import Systemd
from tasks.system.programs import trusted_path
from tests.integration.host.test_suspects import apart
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload

DEVICE = "/dev/full"
"""Stands for one that acts when it is opened, as /dev/watchdog."""


@contextmanager
def watched() -> Iterator[list[int]]:
    """The kernel's events of its openings (inotify(7), IN_OPEN)."""
    libc, opened = ctypes.CDLL(None), list[int]()
    watch = libc.inotify_init()
    os.set_blocking(watch, False)
    assert libc.inotify_add_watch(watch, DEVICE.encode(), 0x20) > 0
    yield opened
    with suppress(BlockingIOError):
        opened.append(struct.unpack_from("iII", os.read(watch, 999))[1])
    os.close(watch)


def test_a_device_is_seen_to_be_opened() -> None:
    with watched() as opened, Path(DEVICE).open("rb"):
        pass
    assert opened


def test_a_link_of_the_interpreter_opens_no_device(small: SmallWorkload) -> None:
    (small.root / "venv/bin/python").unlink()
    (small.root / "venv/bin/python").symlink_to(DEVICE)
    with case_of(small.block()) as context, watched() as opened:
        made(collect.fn(context, "interpreter"))
    assert not opened


def test_a_word_of_a_shells_command_line_opens_no_device(small: SmallWorkload) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    by = ["setpriv", f"--reuid={nobody}", "--regid=65534", "--clear-groups"]
    with apart(["sh", "-c", "sleep 610 & wait", "x", DEVICE], Path("/"), by=by) as shell, watched() as opened:
        with case_of(small.block(), dry_run=True) as context:
            check_containment(context)
        for each in shell.children():
            each.kill()
    assert not opened


@pytest.mark.parametrize("before", ["", ".", "tools", "{root}/open"])
def test_no_program_runs_as_root_from_where_another_account_may_put_one(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """A `df` of the root's ran as root, where root's PATH had an empty word."""
    for folder in (small.root, small.root / "tools", small.root / "open"):
        folder.mkdir(exist_ok=True)
        for name in ("df", "who", "systemctl"):
            (folder / name).write_text(f"#!/bin/sh\nid > '{small.root}/owned'\n")
            (folder / name).chmod(0o755)
    (small.root / "open").chmod(0o777)
    monkeypatch.setenv("PATH", f"{before.format(root=small.root)}:{os.environ['PATH']}")
    monkeypatch.chdir(small.root)
    with case_of(small.block()) as context:
        for name in ("disk", "sessions"):
            made(collect.fn(context, name))
    Systemd().tell("daemon-reload")
    assert not (small.root / "owned").exists()
    assert os.environ["PATH"].endswith(trusted_path())
