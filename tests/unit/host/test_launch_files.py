"""What is read of cron, at, units and supervisors, and what is not: hostile files stand in a folder for `/`."""

import errno
import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.custody.containment.identity import Identity
from tasks.host import launch_files
from tasks.host.launch_files import LaunchPlaces, Reading, is_kept_down, named_texts, on_terminal, places_of
from tasks.host.process.process import Process
from tasks.host.starter import Names, StarterKind
from tests.support.workloads import open_the_way

ROOT = "/srv/app"
NAMES = Names((ROOT,), (r"python\S* -u src/train\.py",))
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")


def read(base: Path, *units: str, homes: dict[int, Path] | None = None) -> Reading:
    reading = Reading(NAMES, units)
    reading.look(LaunchPlaces(base, homes or {}))
    return reading


def write(base: Path, name: str, text: str) -> Path:
    path = base / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


LINE = f"0 3 * * * app cd {ROOT} && ./run.sh\n"
UNIT = f"[Service]\nWorkingDirectory={ROOT}\nExecStart=/bin/x\n"


@pytest.mark.parametrize(
    ("name", "text", "kind", "cure"),
    [
        ("etc/crontab", LINE, StarterKind.CRON, "sudoedit {base}/etc/crontab"),
        ("etc/cron.d/train", LINE, StarterKind.CRON, "sudoedit {base}/etc/cron.d/train"),
        (
            "etc/cron.daily/train",
            f"#!/bin/sh\n{ROOT}/run.sh\n",
            StarterKind.CRON,
            "chmod -x {base}/etc/cron.daily/train",
        ),
        ("var/spool/cron/crontabs/root", LINE, StarterKind.CRON, "crontab -u root -e"),
        ("var/spool/cron/root", LINE, StarterKind.CRON, "crontab -u root -e"),
        ("var/spool/cron/atjobs/a0001f01c2d3e4", f"cd {ROOT} || exit\n", StarterKind.AT, "atrm 31"),
        (
            "etc/supervisor/conf.d/x.conf",
            f"[program:t]\ndirectory={ROOT}\n",
            StarterKind.CONFIGURED,
            "supervisorctl stop t",
        ),
        ("etc/circus/x.ini", f"[watcher:t]\nworking_dir = {ROOT}\n", StarterKind.CONFIGURED, "circusctl stop t"),
        ("etc/service/train/run", f"#!/bin/sh\ncd {ROOT}; exec ./x\n", StarterKind.CONFIGURED, "sv down train"),
    ],
)
@needs_root
def test_each_kind_of_entry_is_found_with_the_way_to_stop_it(
    tmp_path: Path, name: str, text: str, kind: StarterKind, cure: str
) -> None:
    write(tmp_path, name, text)
    write(tmp_path, f"{Path(name).parent}/.hidden", text)
    reading = read(tmp_path)
    (found,) = reading.entries
    assert (found.kind, found.how_to_stop, found.identity) == (kind, cure.format(base=tmp_path), None)
    assert not reading.unread
    write(tmp_path, name, text.replace(ROOT, "/srv/other"))
    assert read(tmp_path).entries == []


@pytest.mark.parametrize(
    ("links", "timer", "stop"),
    [
        ({"multi-user.target.wants/train.service"}, "", "train.service"),
        ({"timers.target.wants/train.timer"}, "[Timer]\n", "train.timer"),
        ({"timers.target.wants/nightly.timer"}, "[Timer]\nUnit=train.service\n", "nightly.timer"),
        ({"timers.target.wants/nightly.timer"}, "[Timer]\n", ""),
        (set(), "[Timer]\n", ""),
    ],
)
@needs_root
def test_a_unit_is_told_if_it_or_its_timer_is_enabled(tmp_path: Path, links: set[str], timer: str, stop: str) -> None:
    for place, call in (("etc/systemd/system", "systemctl"), ("home/.config/systemd/user", "systemctl --user")):
        folder = tmp_path / place
        write(folder, "train.service", UNIT)
        write(folder, "evacuation-worker.service", UNIT)
        for link in links | {"multi-user.target.wants/evacuation-worker.service"}:
            (folder / link).parent.mkdir(exist_ok=True)
            (folder / link).symlink_to(folder / Path(link).name)
            if timer and link.endswith(".timer"):
                write(folder, Path(link).name, timer)
        homes = {0: tmp_path / "home"} if "home" in place else {}
        found = [each.how_to_stop for each in read(tmp_path, homes=homes).entries]
        assert found[-1:] == ([f"{call} disable --now {stop}"] if stop else [])
    assert all("train.service" not in each.how_to_stop for each in read(tmp_path, "train.service").entries)


@needs_root
def test_a_unit_that_is_a_link_into_the_root_is_told_and_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "etc/systemd/system"
    (folder / "x.target.wants").mkdir(parents=True)
    for link in (folder / "train.service", folder / "x.target.wants/train.service"):
        link.symlink_to(f"{ROOT}/deploy/train.service")
    (found,) = read(tmp_path).entries
    assert found.name.endswith(f"{ROOT}/deploy/train.service")


@needs_root
def test_what_pm2_would_bring_back_is_told_of_its_owner(tmp_path: Path) -> None:
    dump = write(tmp_path, "home/.pm2/dump.pm2", f'[{{\n "name": "t",\n "pm_cwd": "{ROOT}"}}]')
    os.chown(dump, 12345, -1)
    (found,) = read(tmp_path, homes={12345: tmp_path / "home"}).entries
    assert found.name == f'in {dump}, line 3: {ROOT}"}}]'
    assert list(read(tmp_path, homes={0: tmp_path / "home"}).unread) == [str(dump)], "another's file is not read"


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path) -> None:
    there = path.rename(path.with_name(".there"))
    path.symlink_to(there)


def _anothers(path: Path) -> None:
    os.chown(path, 12345, -1)


@pytest.mark.parametrize("spoil", [_fifo, _anothers])
@needs_root
def test_what_is_no_file_of_the_accounts_is_not_read_and_told(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    spoil(place := write(tmp_path, "etc/cron.d/train", LINE))
    reading = read(tmp_path)
    assert (reading.entries, list(reading.unread)) == ([], [str(place)])


@needs_root
def test_a_link_is_not_followed(tmp_path: Path) -> None:
    _link(write(tmp_path, "etc/cron.d/train", LINE))
    assert read(tmp_path).entries == []


@needs_root
def test_a_crontab_of_an_account_is_read_if_it_is_the_accounts(tmp_path: Path) -> None:
    account = next(each for each in pwd.getpwall() if each.pw_uid not in {0, 12345})
    place = write(tmp_path, f"var/spool/cron/crontabs/{account.pw_name}", LINE)
    os.chown(place, account.pw_uid, -1)
    assert len(read(tmp_path).entries) == 1
    _anothers(place)
    assert read(tmp_path).entries == []


@needs_root
def test_reading_has_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch_files, "_FILES", 5)
    for number in range(9):
        write(tmp_path, f"etc/cron.d/{number}", LINE)
    assert len(read(tmp_path).entries) == 5
    monkeypatch.setattr(launch_files, "_MOST", 10)
    assert read(tmp_path).entries == []


def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path, "var/spool/cron/crontabs/root", LINE).parent
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != folder and allowed(path, mode))
    assert str(folder) in read(tmp_path).unread


@contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Look with the rights of an account that owns nothing here."""
    us = os.geteuid()
    if us == 0:
        os.seteuid(65534)
    yield
    os.seteuid(us)


def test_a_home_that_may_not_be_entered_is_named_and_the_next_one_is_read(tmp_path: Path) -> None:
    """It alone sees a look that ends at the first folder of another account."""
    open_the_way(tmp_path)
    write(tmp_path, "first/.config/systemd/user/a.service", UNIT)
    second = write(tmp_path, "second/.pm2/dump.pm2", f'{{"cwd": "{ROOT}"}}')
    os.chown(second, os.geteuid() or 65534, -1)
    (tmp_path / "first").chmod(0)
    homes = {0: tmp_path / "first", os.geteuid() or 65534: tmp_path / "second"}
    with as_ordinary_user():
        reading = read(tmp_path, homes=homes)
    (tmp_path / "first").chmod(0o700)
    assert [str(second) in str(each) for each in reading.entries] == [True]
    assert {*reading.unread} == {f"{tmp_path}/first/{each}" for each in (".pm2/dump.pm2", ".config/systemd/user")}


def test_a_home_on_a_dead_mount_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It alone sees an error of a file system that is not one of rights."""
    dead, status = tmp_path / "dead", Path.stat

    def answer(path: Path, **how: bool) -> os.stat_result:
        if path.is_relative_to(dead):
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected", str(path))
        return status(path, **how)

    monkeypatch.setattr(Path, "stat", answer)
    assert f"{dead}/.config/systemd/user" in read(tmp_path, homes={0: dead}).unread


def ourselves(*command: str) -> Process:
    return Process(Identity(os.getpid(), 1), 1, "S", ("sh", *command), user=os.geteuid())


def test_a_process_shows_the_texts_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop.sh").write_text("while")
    (tmp_path / "closed").write_text("secret")
    (tmp_path / "closed").chmod(0o600)
    os.mkfifo(tmp_path / "fifo")
    process = ourselves("loop.sh", str(tmp_path / "loop.sh"), "fifo", "gone", "a\0b", "/")
    assert named_texts(process) == "while\nwhile"
    assert named_texts(Process(process.identity, 1, "S", ("sh", "closed"), user=12345)) == ""
    assert not on_terminal(Process(Identity(1 << 30, 1), 1, "S"))


@pytest.mark.parametrize(("stat", "down"), [("down", True), ("run", False), (None, False)])
def test_what_runsv_was_told_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stat: str | None, *, down: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    if stat:
        write(tmp_path, "supervise/stat", stat)
    assert is_kept_down(ourselves()) is down


def test_homes_are_those_of_accounts_that_exist() -> None:
    places = places_of({0, (1 << 31) - 7})
    assert (places.base, places.homes) == (Path("/"), {0: Path(pwd.getpwuid(0).pw_dir)})
