"""Copies that are what they say: holes, links, files that change under the hand, files for which there is no room."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.acquisition import copying
from tasks.acquisition.collector import Taken, Target
from tasks.acquisition.copying import Copying, changes
from tasks.acquisition.pouring import extents
from tasks.acquisition.room import Room
from tasks.custody.evidence import part_sizes
from tasks.custody.evidence.acquisition import IN_PLACE, Loss, Outcome, StoredFile
from tasks.custody.evidence.part_sizes import divide, hash_file
from tasks.custody.evidence.secrets_in_files import LIMIT
from tasks.custody.store.manifest import digest, digest_bytes
from tests.support.workloads import wait_until
from tests.unit.acquisition.test_acquire import FILES, NOBODY, SECRET, am_root, folder, place, root, taken, target

__all__ = ["folder", "place", "root"]


def copying_to(root: Path, folder: Path, *, limit: int = 1 << 40) -> Copying:
    return Copying(os.fsencode(root), Room(folder, None, Path(), 0, copies=True), limit)


def one(copying: Copying, name: str) -> StoredFile:
    made = copying.take(name.encode())
    assert isinstance(made, Taken)
    return made.file


def sparse(path: Path, size: int, *pieces: tuple[int, bytes]) -> None:
    with path.open("wb") as file:
        file.truncate(size)
        for at, data in pieces:
            file.seek(at)
            file.write(data)


@pytest.mark.slow
def test_holes_stay_holes(root: Path, folder: Path) -> None:
    sparse(root / "logs/a.log", 200 << 20, (50 << 20, b"in the middle"), (100 << 20, b"further on"))
    files, losses = taken(FILES, target(root), folder)
    assert losses == {}
    assert files["logs/a.log"].sha256 == digest(root / "logs/a.log")
    assert (folder / "logs/a.log").stat().st_blocks * 512 < 1 << 20


def test_a_file_of_a_terabyte_of_holes_fills_no_disk_and_takes_no_time(root: Path, folder: Path) -> None:
    sparse(root / "logs/a.log", 1 << 40, (1 << 39, b"data"))
    sparse(root / "logs/b.log", 1 << 40)
    (root / "logs/c.log").write_text("c")
    files, losses = taken(FILES, target(root), folder)
    assert set(files) == {"logs/c.log"}
    assert {loss.outcome for loss in losses.values()} == {Outcome.TRUNCATED}
    assert "bytes of data in 1099511627776" in losses["logs/a.log"].reason


@pytest.mark.slow
def test_the_pieces_of_a_sparse_file_cover_all_of_its_data(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    sparse(path, 10 << 20, (1 << 20, b"x" * 5000), (9 << 20, b"y"))
    with path.open("rb") as file:
        pieces = list(extents(file.fileno(), 10 << 20))
    covered = {at for start, end in pieces for at in range(start, end)}
    data = path.read_bytes()
    assert {at for at, byte in enumerate(data) if byte} <= covered
    assert len(covered) < 1 << 20


def test_a_large_file_comes_with_the_parts_in_which_it_will_be_sent(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_sizes, "ABOVE", 1 << 20)
    monkeypatch.setattr(part_sizes, "PART", 1 << 20)
    (root / "logs/a.log").write_bytes(os.urandom((2 << 20) + 5))
    copied = one(copying_to(root, folder), "logs/a.log")
    assert (copied.sha256, copied.parts) == divide(root / "logs/a.log", 1 << 20, copied.size)
    in_place = one(Copying(os.fsencode(root), Room(folder, None, Path(), 0, copies=False), 1 << 40), "logs/a.log")
    assert (in_place.where, in_place.sha256, in_place.parts) == (IN_PLACE, copied.sha256, copied.parts)


def read_so_far() -> int:
    """Bytes that this process has read, those that the kernel copied for it included."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.slow
@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.parametrize("searched", [LIMIT, None])
def test_a_file_is_hashed_divided_searched_and_copied_in_one_reading(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, searched: int | None, *, copies: bool
) -> None:
    monkeypatch.setattr(part_sizes, "ABOVE", 1 << 20)
    token = b"\nghp" + b"_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8\n"
    data = os.urandom(9 << 20) + token + os.urandom(9 << 20)
    (root / "logs/a.log").write_bytes(data)
    copying = Copying(os.fsencode(root), Room(folder, None, Path(), 0, copies=copies), 1 << 40, searched=searched)
    before = read_so_far()
    taken = copying.take(b"logs/a.log")
    assert len(data) <= read_so_far() - before < 1.01 * len(data)
    assert isinstance(taken, Taken)
    assert (taken.file.sha256, taken.file.parts) == hash_file(root / "logs/a.log", len(data))
    assert taken.file.parts
    assert [hit.rule for hit in taken.search.hits] == ["GitHub token"]
    assert not copies or (folder / "logs/a.log").read_bytes() == data


def test_a_second_name_is_searched_by_the_first(root: Path, folder: Path) -> None:
    (root / "logs/a.log").write_bytes(b"ghp" + b"_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8")
    (root / "logs/b.log").hardlink_to(root / "logs/a.log")
    copying = copying_to(root, folder)
    first, second = copying.take(b"logs/a.log"), copying.take(b"logs/b.log")
    assert isinstance(first, Taken)
    assert isinstance(second, Taken)
    assert (first.search.stored, second.search.stored) == ("logs/a.log", "logs/b.log")
    assert second.search.hits == first.search.hits != ()


def test_two_names_of_one_file_are_both_there_and_copied_once(root: Path, folder: Path) -> None:
    (root / "logs/a.log").write_bytes(os.urandom(100_000))
    (root / "logs/b.log").hardlink_to(root / "logs/a.log")
    files, losses = taken(FILES, target(root), folder)
    assert (set(files), losses) == ({"logs/a.log", "logs/b.log"}, {})
    assert files["logs/b.log"].note == "a hard link, the same file as logs/a.log"
    assert (folder / "logs/a.log").samefile(folder / "logs/b.log")
    (root / "logs/a.log").write_text("changed afterwards")
    assert digest(folder / "logs/a.log") == files["logs/a.log"].sha256


def test_where_the_evidence_disk_has_no_links_both_are_copied(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    (root / "logs/a.log").write_text("a")
    (root / "logs/b.log").hardlink_to(root / "logs/a.log")
    monkeypatch.setattr(os, "link", no_links)
    files, losses = taken(FILES, target(root), folder)
    assert (set(files), losses) == ({"logs/a.log", "logs/b.log"}, {})


def during(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let something happen to the file after its first bytes were read: at the door to the kernel, once."""
    read, done = os.pread, list[bool]()

    def interrupted(source: int, count: int, at: int) -> bytes:
        block = read(source, min(count, 4096), at)
        if not done:
            done.append(True)
            act()
        return block

    monkeypatch.setattr(os, "pread", interrupted)


def replaced(log: Path, make: Callable[[Path], object]) -> None:
    make(log.with_name("beside"))
    log.with_name("beside").replace(log)


def test_a_file_that_grows_is_taken_as_long_as_it_was(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = root / "logs/a.log"
    log.write_bytes(b"a" * 10_000)

    def grow() -> None:
        with log.open("ab") as file:
            file.write(b"b" * 10_000)

    during(monkeypatch, grow)
    (file,) = taken(FILES, target(root), folder)[0].values()
    assert (file.size, file.sha256) == (10_000, digest_bytes(b"a" * 10_000))
    assert "it grew while it was read: its first 10000 bytes are here" in file.note


def test_a_file_that_is_truncated_says_so_and_keeps_what_was_read(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = root / "logs/a.log"
    log.write_bytes(b"a" * 10_000)
    during(monkeypatch, lambda: os.truncate(log, 100))
    (file,) = taken(FILES, target(root), folder)[0].values()
    assert 100 <= file.size < 10_000
    assert "it was truncated while it was read" in file.note


def test_a_file_whose_time_is_set_back_after_a_change_is_still_known_to_have_changed(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = root / "logs/a.log"
    log.write_bytes(b"a" * 10_000)
    before = log.stat()

    def forge() -> None:
        with log.open("r+b") as file:
            file.seek(9_000)
            file.write(b"b")
        os.utime(log, ns=(before.st_atime_ns, before.st_mtime_ns))

    during(monkeypatch, forge)
    files, losses = taken(FILES, target(root), folder)
    (file,), (loss,) = files.values(), losses.values()
    assert file.note == "it changed while it was read"
    assert "mixes several moments" in loss.reason
    assert file.sha256 == digest(folder / "logs/a.log")


@pytest.mark.parametrize(
    ("act", "note"),
    [
        (lambda log: log.unlink(), "it was removed meanwhile"),
        (
            lambda log: (log.with_name("b").write_text("b"), log.with_name("b").replace(log)),
            "another file has its name",
        ),
    ],
)
def test_a_file_that_is_removed_or_replaced_is_taken_as_it_was_opened(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[Path], object], note: str
) -> None:
    log = root / "logs/a.log"
    log.write_bytes(b"a" * 10_000)
    during(monkeypatch, lambda: act(log))
    (file,) = taken(FILES, target(root, "logs/*.log"), folder)[0].values()
    assert file.sha256 == digest_bytes(b"a" * 10_000)
    assert note in file.note


def test_nothing_happened_to_a_file_that_nobody_touched(root: Path) -> None:
    (root / "a").write_text("a")
    about = (root / "a").stat()
    assert changes(about, (root / "a").stat(), about.st_ino) == ()


def test_a_chain_of_links_in_place_of_a_folder_costs_no_other(root: Path, folder: Path) -> None:
    for number in range(1500):
        (root / f"{number}.link").symlink_to(f"{number + 1}.link")
    (root / "logs/a").symlink_to("../0.link")
    (root / "logs/b").mkdir()
    (root / "logs/b/b.log").write_text("b")
    files, losses = taken(FILES, target(root, "logs/*/*.log", "logs/**"), folder)
    assert (set(files), set(losses)) == ({"logs/b/b.log"}, {"logs/a"})


def test_what_is_no_file_is_not_even_opened(root: Path, folder: Path) -> None:
    # Opening a pipe lets its writer go on, and a device may act on it.
    os.mkfifo(root / "logs/pipe.log")
    assert isinstance(copying_to(root, folder).take(b"logs/pipe.log"), Loss)
    with pytest.raises(OSError, match="No such device or address"):
        os.open(root / "logs/pipe.log", os.O_WRONLY | os.O_NONBLOCK)
    waiting = threading.Thread(target=lambda: os.close(os.open(root / "logs/pipe.log", os.O_WRONLY)))
    waiting.start()
    assert isinstance(copying_to(root, folder).take(b"logs/pipe.log"), Loss)
    assert waiting.is_alive()
    os.close(os.open(root / "logs/pipe.log", os.O_RDONLY))
    waiting.join()


def test_a_fallback_disk_that_is_gone_is_one_place_less(root: Path, folder: Path, place: Path) -> None:
    (root / "logs/a").write_text("a")
    room = Room(folder, place / "gone", Path(), 1 << 60, copies=True)
    made = one(Copying(os.fsencode(root), room, 1 << 40), "logs/a")
    assert made.where == IN_PLACE


def test_a_file_that_vanished_after_it_was_listed_is_a_loss(root: Path, folder: Path) -> None:
    assert copying_to(root, folder).take(b"logs/gone.log") == Loss("logs/gone.log", Outcome.FAILED, "it vanished")


def test_a_file_that_is_replaced_by_a_link_at_any_moment_gives_nothing_from_outside(
    root: Path, place: Path, folder: Path
) -> None:
    (place / "secret").write_text(SECRET)
    log, stop = root / "logs/a.log", threading.Event()

    def flip() -> None:
        while not stop.is_set():
            replaced(log, lambda path: path.symlink_to(place / "secret"))
            replaced(log, lambda path: path.write_text("harmless"))

    made = list[Taken | Loss | None]()

    def both_seen() -> bool:
        made.extend(copying_to(root, folder).take(b"logs/a.log") for _ in range(500))
        return {type(item) for item in made} == {Taken, Loss}

    log.write_text("harmless")
    flipping = threading.Thread(target=flip)
    flipping.start()
    try:
        wait_until(both_seen, 60, "a file and a link in turn")
    finally:
        stop.set()
        flipping.join()
    assert {item.file.sha256 for item in made if isinstance(item, Taken)} == {digest_bytes(b"harmless")}


def test_a_file_without_a_size_is_read_to_its_end_and_an_endless_one_is_not(folder: Path) -> None:
    whole = one(copying_to(Path("/proc/self"), folder), "maps")
    assert whole.size > 100
    endless = copying_to(Path("/proc/self"), folder, limit=100).take(b"maps")
    assert isinstance(endless, Loss)
    assert (endless.outcome, "100 bytes" in endless.reason) == (Outcome.TRUNCATED, True)
    assert not (folder / ".part").exists()


def test_a_file_that_no_longer_fits_is_lost_and_a_smaller_one_after_it_is_not(root: Path, folder: Path) -> None:
    for name, size in (("a", 100), ("b", 1000), ("c", 100)):
        (root / "logs" / name).write_bytes(b"x" * size)
    copying = copying_to(root, folder, limit=300)
    made = [copying.take(f"logs/{name}".encode()) for name in "abc"]
    assert [type(item) for item in made] == [Taken, Loss, Taken]


def test_a_file_system_that_shares_blocks_is_asked_first_and_only_once_if_it_cannot(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def cannot(source: int, out: int, size: int) -> None:
        asked.append((source, out, size))
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(copying, "clone", cannot)
    for name in "abc":
        (root / "logs" / name).write_text(name)
    files, losses = taken(FILES, target(root), folder)
    assert (len(files), losses, len(asked)) == (3, {}, 1)


def test_a_shared_copy_needs_no_room(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def share(source: int, out: int, size: int) -> None:
        os.pwrite(
            out, os.pread(source, size, 0), 0
        )  # ext4 and tmpfs cannot share blocks: what counts is that it is tried

    monkeypatch.setattr(copying, "clone", share)
    (root / "logs/a").write_text("a")
    room = Room(folder, None, Path(), 1 << 60, copies=True)
    made = one(Copying(os.fsencode(root), room, 1 << 40), "logs/a")
    assert (made.where, (folder / "logs/a").read_text()) == ("", "a")


def test_without_room_a_file_is_hashed_in_place(root: Path, folder: Path) -> None:
    data = os.urandom(70_000)
    (root / "logs/a").write_bytes(data)
    (root / "logs/b").hardlink_to(root / "logs/a")
    room = Room(folder, None, Path(), 1 << 60, copies=True)
    copying = Copying(os.fsencode(root), room, 1 << 40)
    first, second = one(copying, "logs/a"), one(copying, "logs/b")
    assert (first.where, first.size, first.sha256) == (IN_PLACE, len(data), digest_bytes(data))
    assert (second.where, second.sha256) == (IN_PLACE, first.sha256)
    assert list(folder.iterdir()) == []


def test_what_the_fallback_disk_takes_goes_there(root: Path, folder: Path, place: Path) -> None:
    (place / "fallback").mkdir()
    (root / "logs/a").write_text("a")
    room = Room(folder, place / "fallback", Path(), 1 << 60, copies=True)
    made = one(Copying(os.fsencode(root), room, 1 << 40), "logs/a")
    assert made.where == str(place / "fallback")
    assert (place / "fallback/logs/a").read_text() == "a"
    assert list(folder.iterdir()) == []


def test_a_target_says_where_there_is_room(tmp_path: Path) -> None:
    of = Target("IR", "/", "", 0, {}, [], fallback="/mnt", reserve="/r", margin=7, copies=False)
    assert Room.of(of, tmp_path) == Room(tmp_path, Path("/mnt"), Path("/r"), 7, copies=False)


def test_a_folder_that_a_pattern_names_is_taken_whole(root: Path, folder: Path) -> None:
    for name in ("logs/run.log/deep/.hidden", "logs/run.log/weights", "logs/apart/weights"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    files, losses = taken(FILES, target(root, "logs/*.log"), folder)
    assert (set(files), losses) == ({"logs/run.log/deep/.hidden", "logs/run.log/weights"}, {})


@am_root
@pytest.mark.parametrize(
    ("about", "taken_too"), [((0o600, 4242), False), ((0o644, 4242), True), ((0o600, NOBODY), True)]
)
def test_a_hard_link_to_what_only_somebody_else_may_read_is_denied(
    root: Path, place: Path, folder: Path, about: tuple[int, int], *, taken_too: bool
) -> None:
    mode, owner = about
    os.chown(root, NOBODY, -1)
    secret = place / "secret"
    secret.write_text("secret")
    os.chown(secret, owner, -1)
    secret.chmod(mode)
    os.link(secret, root / "logs/hard.log")
    os.chown(root / "logs", NOBODY, -1)
    files, losses = taken(FILES, target(root), folder)
    assert ("logs/hard.log" in files) == taken_too
    assert taken_too or losses["logs/hard.log"].outcome is Outcome.DENIED
