"""Where an incident lives: a full disk keeps nobody from opening one, and what was opened is found again."""

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import pytest

from blocks.workload import Workload
from tasks.cli.status import status
from tasks.containment.cordon import IncidentCordon, cordon
from tasks.custody.errors import Refused
from tasks.custody.incident.incident import Incident
from tasks.host.host import LinuxHost
from tasks.host.process.table import boot_id
from tasks.incident.current import last_incident, last_opened, note_opened, opening, unfinished_incident
from tasks.incident.directory import (
    _memory,
    base_of,
    bases,
    cordon_dir,
    fallback_home,
    find_home,
    find_own_places,
    home_in,
    homes,
    make_base,
    open_directory,
)
from tasks.incident.layout import BASE_FILES, CORDON, INCIDENT, OPEN, OWNER
from tasks.incident.run_lock import take_ownership
from tasks.prefect_side.saved_blocks import SavedStore
from tasks.preflight import open_incident as preflight
from tasks.preflight.open_incident import Request
from tasks.runtime.context import RunContext, open_context
from tests.support.run_context import case_of, made
from tests.support.small_disks import MIB, fill, make_read_only, small_disk
from tests.support.workloads import SmallWorkload

ID = "IR-20260102T030405Z"
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def incident(id_: str = ID) -> Incident:
    return Incident(id_, "test", "here", "boot", NOW, NOW, "why", "the tests")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "evidence disk", 8) as mounted:
        yield mounted


@pytest.fixture
def block(small: SmallWorkload, disk: Path, memory: Path) -> Workload:
    assert memory.is_dir()
    return small.block(evidence_dir=disk / "incidents", reserve_mb=4)


def with_fallback(block: Workload, tmp_path: Path) -> Workload:
    (tmp_path / "other disk").mkdir(exist_ok=True)
    return block.model_copy(update={"fallback_dir": tmp_path / "other disk"})


def test_with_room_it_lies_in_the_evidence_folder_with_its_reserve(block: Workload) -> None:
    assert make_base(block) == block.evidence
    home = open_directory(block, incident(), dry_run=False)
    assert (home.path, home.reserved, home.volatile) == (block.evidence / ID, 4 * MIB, False)
    assert home.path.stat().st_mode & 0o777 == 0o700
    assert open_directory(block, incident(), dry_run=False) == home


def test_a_full_disk_sends_it_to_the_fallback_disk_where_it_is_found_again(
    block: Workload, disk: Path, tmp_path: Path
) -> None:
    block = with_fallback(block, tmp_path)
    make_base(block)
    ballast = fill(disk, leave=MIB)
    home = open_directory(block, incident(), dry_run=False)
    assert home.path.is_relative_to(tmp_path / "other disk")
    assert home.reserved == 4 * MIB
    assert not (block.evidence / ID).exists(), "nothing half made is left"
    assert note_opened(block, incident())
    ballast.unlink()
    assert find_home(block, ID) == home.path
    assert open_directory(block, incident(), dry_run=False) == home
    assert homes(block) == [home.path]
    assert last_incident(block) == unfinished_incident(block) == ID
    assert fallback_home(block, home.path, dry_run=False) is None, "it is there already"


def test_without_a_fallback_disk_it_lies_in_memory_and_says_so(block: Workload, disk: Path, memory: Path) -> None:
    make_base(block)
    fill(disk)
    home = open_directory(block, incident(), dry_run=False)
    assert home.path.is_relative_to(memory)
    assert home.volatile
    assert "a reboot clears it" in home.summary
    assert find_home(block, ID) == home.path


def test_a_little_room_is_enough_for_the_evidence_folder_without_the_whole_reserve(block: Workload, disk: Path) -> None:
    make_base(block)
    fill(disk, leave=2 * MIB)
    home = open_directory(block, incident(), dry_run=False)
    assert (home.path, home.reserved) == (block.evidence / ID, MIB)


def test_where_nothing_can_be_written_the_run_does_without(block: Workload, disk: Path, memory: Path) -> None:
    make_base(block)
    fill(disk)
    memory.rmdir()
    with small_disk(memory, 1) as full:
        fill(full)
        home = open_directory(block, incident(), dry_run=False)
        assert (home.real, home.reserved) == (False, 0)
        assert "nothing of this incident outlives its run" in home.summary
        with case_of(block) as context:
            context.log.write("something")
            context.state.claimed.write("kept in memory")
            assert context.state.claimed.read() == "kept in memory"
            assert [entry["action"] for entry in context.log.entries()] == ["something"]


def test_where_no_folder_takes_the_marker_nothing_waits_for_it(block: Workload, disk: Path, memory: Path) -> None:
    """Each check of the containment took ten seconds, in the very moment in which the workload fills the disks."""
    make_base(block)
    fill(disk)
    memory.rmdir()
    with small_disk(memory, 1) as full:
        fill(full)
        with case_of(block) as context:
            guard = made(cordon.fn(context)).guard
            try:
                began = time.monotonic()
                assert IncidentCordon(context).wait().held
                assert time.monotonic() - began < 5
            finally:
                context.adapters.host.signal(guard, signal.SIGTERM)
            assert not context.adapters.host.wait_gone([guard], 10)


def squat(place: Path, how: str, uid: int, tmp_path: Path) -> None:
    """What a workload puts where it thinks that a folder of ours will be."""
    if how == "a link":
        place.symlink_to(tmp_path)
    elif how == "a file":
        place.write_text("here")
    else:
        place.mkdir()
        os.chown(place, uid, -1)


@pytest.mark.parametrize("how", ["a link", "a file", "a folder"])
def test_who_takes_the_names_in_memory_that_can_be_guessed_keeps_nobody_out(
    block: Workload, disk: Path, memory: Path, tmp_path: Path, how: str
) -> None:
    if how == "a folder" and os.geteuid():
        pytest.skip("needs to be root to make another user's folder")
    make_base(block)
    fill(disk)
    (guessed,) = _memory(block)
    named = guessed.name.rpartition("-")[0]
    for name in (named, f"{named}-", f"{named}-{'0' * 32}"):
        squat(memory / name, how, 65534, tmp_path)
    home = open_directory(block, incident(), dry_run=False)
    assert (home.real, home.volatile, home.path.parent.parent) == (True, True, memory)
    assert home.path.parent.stat().st_mode & 0o777 == 0o700
    assert open_directory(block, incident(), dry_run=False).path == find_home(block, ID) == home.path
    assert list(tmp_path.rglob(INCIDENT)) == [home.path / INCIDENT]


def test_another_process_finds_what_this_one_has_put_into_memory(
    block: Workload, disk: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert memory.is_dir()
    make_base(block)
    fill(disk)
    home = open_directory(block, incident(), dry_run=False)
    assert note_opened(block, incident())
    monkeypatch.setattr("tasks.incident.directory._UNGUESSED", "another process's own")
    assert find_home(block, ID) == home.path
    assert last_incident(block) == ID
    assert open_directory(block, incident("IR-20260102T030406Z"), dry_run=False).path.parent == home.path.parent


@pytest.mark.parametrize("how", ["a link", "a file"])
def test_something_else_in_place_of_the_evidence_folder_sends_it_to_the_next(
    block: Workload, memory: Path, tmp_path: Path, how: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere").chmod(0o777)
    squat(block.evidence, how, 0, tmp_path / "elsewhere")
    base = make_base(block)
    assert base.parent == memory
    os.close(take_ownership(base) or -1)
    assert open_directory(block, incident(), dry_run=False).path.parent == base
    assert note_opened(block, incident())
    assert cordon_dir(block, base / ID) == base
    assert last_incident(block) == ID
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_an_evidence_folder_that_cannot_even_be_made_gives_way_to_the_next_base(
    block: Workload, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = with_fallback(block, tmp_path)
    make = os.mkdir

    def full(name: str, mode: int, dir_fd: int) -> None:
        # ext4 takes a block for a folder; the small disk of this test takes none
        if os.fstat(dir_fd).st_dev == disk.stat().st_dev:
            raise OSError(28, "No space left on device")
        make(name, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", full)
    base = make_base(block)
    assert base.is_relative_to(tmp_path / "other disk")
    descriptor = take_ownership(base)
    assert descriptor is not None
    monkeypatch.undo()
    assert make_base(block) == base_of(block) == base, "the lock of the workload's runs stays where it is"
    os.close(descriptor)


def test_a_disk_that_went_read_only_gives_way_too(block: Workload, disk: Path, tmp_path: Path) -> None:
    block = with_fallback(block, tmp_path)
    os.close(take_ownership(make_base(block)) or -1)
    note_opened(block, incident("IR-20250102T030405Z"))
    make_read_only(disk)
    base = make_base(block)
    assert base.is_relative_to(tmp_path / "other disk")
    os.close(take_ownership(base) or -1)
    assert open_directory(block, incident(), dry_run=False).path.parent == base
    assert note_opened(block, incident())
    assert last_incident(block) == ID


def test_a_link_in_place_of_the_lock_makes_no_file_elsewhere(block: Workload, tmp_path: Path) -> None:
    block.evidence.mkdir()
    (block.evidence / OWNER).symlink_to(tmp_path / "elsewhere")
    make_base(block)
    assert not (tmp_path / "elsewhere").exists()


def test_two_workloads_on_one_fallback_disk_do_not_meet(
    small: SmallWorkload, block: Workload, disk: Path, tmp_path: Path
) -> None:
    one = with_fallback(block, tmp_path)
    other = with_fallback(small.block(evidence_dir=disk / "others", reserve_mb=4), tmp_path)
    for workload in (one, other):
        make_base(workload)
    fill(disk)
    first, second = (open_directory(workload, incident(), dry_run=False).path for workload in (one, other))
    assert first != second


def test_another_users_folder_on_the_fallback_disk_is_not_used(
    block: Workload, disk: Path, memory: Path, tmp_path: Path
) -> None:
    block = with_fallback(block, tmp_path)
    make_base(block)
    fill(disk)
    where = open_directory(block, incident(), dry_run=False).path.parent
    shutil.rmtree(where)
    where.symlink_to(tmp_path)
    assert bases(block) == (block.evidence,)
    assert open_directory(block, incident("IR-20260102T030406Z"), dry_run=False).path.is_relative_to(memory)


def test_the_last_one_opened_is_known_wherever_it_was_written_down(block: Workload, disk: Path, tmp_path: Path) -> None:
    block = with_fallback(block, tmp_path)
    make_base(block)
    later = "IR-20260203T040506Z"
    assert note_opened(block, incident())
    assert (block.evidence / OPEN).exists()
    ballast = fill(disk)
    open_directory(block, incident(later), dry_run=False)
    assert note_opened(block, incident(later))
    assert not (block.evidence / OPEN).exists(), "the older one must not be carried on"
    assert last_incident(block) == later
    ballast.unlink()
    assert note_opened(block, incident(ID))
    assert last_incident(block) == ID
    assert b"IR-20260102T030405Z" in last_opened(block)


def run_at(minute: int, block: Workload, made: Callable[..., RunContext] = open_context) -> RunContext:
    """What a run does that was created then, from the lock on; `made` takes the place of the case."""
    ownership = take_ownership(make_base(block))
    assert ownership is not None
    created = NOW.replace(minute=minute)
    request = Request("test", "test", "why", None, None, dry_run=False, policy="graceful", run="a run", created=created)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(preflight, "open_context", made)
        return preflight._open(request, block, SavedStore("s", {"folder": block.evidence}), None, ownership)


def killed(about: Incident, workload: Workload, *_: object, **__: object) -> NoReturn:
    """Make the incident's folder, and die: nothing else of it is there."""
    open_directory(workload, about, dry_run=False)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_an_incident_whose_opening_was_broken_off_is_carried_on(small: SmallWorkload, memory: Path) -> None:
    """It left a folder that nothing named, and the next run opened a second incident."""
    block = small.block(reserve_mb=1)
    assert memory.is_dir()
    run = multiprocessing.get_context("fork").Process(target=run_at, args=(1, block, killed))
    run.start()
    run.join()
    assert run.exitcode == -signal.SIGKILL
    (home,) = homes(block)
    context = run_at(2, block)
    context.close()
    assert homes(block) == [home] == [context.directory.path]
    assert [each["object"] for each in context.log.entries() if each["action"] == "run opened"] == [home.name]


@pytest.mark.parametrize("rebooted", [True, False])
def test_an_incident_whose_folder_a_reboot_has_cleared_is_over_and_one_without_a_folder_yet_is_not(
    block: Workload, caplog: pytest.LogCaptureFixture, *, rebooted: bool
) -> None:
    """In memory it is cleared. Its id with another boot would contradict its claim in the store for ever."""
    make_base(block)
    lost = "IR-20260101T050607Z"
    assert note_opened(block, replace(incident(lost), boot="another boot" if rebooted else boot_id()))
    assert unfinished_incident(block) == (None if rebooted else lost)
    context = run_at(2, block)
    context.close()
    assert (context.incident.id == lost) is not rebooted
    assert caplog.text.count(f"{lost} is over: its folder was lost") == rebooted, "once"


def test_an_incident_that_could_not_be_opened_is_not_insisted_on(block: Workload) -> None:
    make_base(block)
    with pytest.raises(Refused), opening(block, incident()):
        raise Refused("room", "none", "Free some.")
    assert last_incident(block) is None
    assert note_opened(block, incident("IR-20250102T030405Z"))
    with pytest.raises(Refused, match=ID), opening(block, incident()):
        raise Refused("room", last_incident(block) or "", "Free some.")
    assert last_incident(block) == "IR-20250102T030405Z"


def test_a_rehearsal_lies_apart_in_every_base(block: Workload, disk: Path, tmp_path: Path) -> None:
    block = with_fallback(block, tmp_path)
    make_base(block)
    fill(disk)
    home = open_directory(block, incident(), dry_run=True).path
    assert home.parent.name == "dry-run"
    assert find_home(block, ID, dry_run=True) == home
    assert find_home(block, ID) == home_in(block.evidence, ID, dry_run=False)
    assert homes(block) == []


def test_of_a_base_only_what_we_have_written_is_ours(
    block: Workload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = with_fallback(block, tmp_path)
    assert make_base(block) == block.evidence
    home = open_directory(block, incident(), dry_run=False)
    named_alike, roots, elsewhere = (f"IR-2025010{n}T000000Z" for n in (1, 2, 3))
    for folder in (
        block.evidence / named_alike,
        block.evidence / roots,
        tmp_path / elsewhere,
        tmp_path / "other disk/x",
    ):
        folder.mkdir(0o700)
    (tmp_path / elsewhere / INCIDENT).touch()
    (block.evidence / elsewhere).symlink_to(tmp_path / elsewhere)
    (block.evidence / CORDON).symlink_to(tmp_path / elsewhere)
    monkeypatch.setattr(os, "access", lambda path, _: path.name != roots)
    ours = find_own_places(block)
    assert str(home.fallback and home.fallback.parent) in ours
    found = {Path(each).relative_to(block.evidence).as_posix() for each in ours if block.evidence in Path(each).parents}
    assert found == {ID, *BASE_FILES} | ({roots} if os.geteuid() == 0 else set())
    assert {Path(each).parent for each in ours} == {block.evidence, tmp_path / "other disk"}


def test_a_case_on_a_full_disk_and_what_an_operator_sees_of_it(block: Workload, disk: Path, tmp_path: Path) -> None:
    block = with_fallback(block, tmp_path)
    make_base(block)
    fill(disk)
    with case_of(block) as context:
        note_opened(block, context.incident)
        context.log.write("something")
        assert context.directory.base == block.evidence
        assert context.cordon_files.marker == context.directory.path.parent / CORDON, (
            "on the full disk nobody would find the guard again"
        )
        lines = list(status(block, LinuxHost(root=block.root)))
        assert lines[0] == f"incident  {context.incident.id}  not finished"
        assert (context.directory.path / INCIDENT).exists()
        assert not (context.directory.path / "reserve").stat().st_size % MIB
    assert not (context.directory.path / "reserve").exists(), "others may have the room when the run is over"
    assert (block.evidence / OWNER).exists()


def test_a_link_in_place_of_the_incidents_folder_sends_it_to_the_next(
    block: Workload, memory: Path, tmp_path: Path
) -> None:
    make_base(block)
    (block.evidence / ID).symlink_to(tmp_path)
    home = open_directory(block, incident(), dry_run=False)
    assert home.path.is_relative_to(memory)
    assert find_home(block, ID) == home.path
    assert not (tmp_path / INCIDENT).exists()
