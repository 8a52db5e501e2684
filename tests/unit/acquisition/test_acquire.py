"""Acquisition of hostile files and repositories, all of them real."""

import json
import multiprocessing
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from tasks.acquisition.acquire import take
from tasks.acquisition.collector import Collector, Files, FunctionOutput, NothingThere, ProgramOutput, Taken, Target
from tasks.collectors import discover
from tasks.custody.evidence.acquisition import Loss, Outcome, StoredFile
from tasks.custody.evidence.keys import COVERAGE, MANIFEST, SEGMENT, SUMS, unquote
from tasks.custody.store.manifest import digest, digest_bytes

NOBODY = 65534
SECRET = "a secret outside"
FILES = Collector("files", "Which?", 1, (Files("logs"),))
am_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs to run as root to give files to another user")


def target(root: Path, *patterns: str, frozen: list[tuple[int, int]] | None = None) -> Target:
    globs = {"logs": list(patterns) or ["logs/*"], "artifacts": [], "models": []}
    return Target("IR-20260102T030405Z", str(root), "venv/bin/python", root.stat().st_uid, globs, frozen or [])


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are closed to others."""
    made = Path(tempfile.mkdtemp(prefix="acquire ")).resolve()
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def root(place: Path) -> Path:
    made = place / "work load"
    (made / "logs").mkdir(parents=True)
    return made


@pytest.fixture
def folder(place: Path) -> Path:
    made = place / "evidence"
    made.mkdir(mode=0o777)
    made.chmod(0o777)
    return made


def acquired(collector: Collector, of: Target, folder: Path) -> list[StoredFile | Loss]:
    return [item.file if isinstance(item, Taken) else item for item in take(collector.sources, of, folder)]


def taken(collector: Collector, of: Target, folder: Path) -> tuple[dict[str, StoredFile], dict[str, Loss]]:
    """Acquire, and check what holds for every file: it is there, with the digest and size that it was said to have."""
    items = acquired(collector, of, folder)
    files = {item.stored: item for item in items if isinstance(item, StoredFile)}
    losses = {item.source: item for item in items if isinstance(item, Loss)}
    assert len(files) + len(losses) == len(items)
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()} == set(files)
    for stored, file in files.items():
        path = folder / stored
        assert not path.is_symlink()
        assert (path.stat().st_size, digest(path)) == (file.size, file.sha256)
    return files, losses


def test_files_are_taken_byte_for_byte_with_their_time(root: Path, folder: Path) -> None:
    data = bytes(range(256)) * 5000
    (root / "logs/a.log").write_bytes(data)
    (root / "logs/a.log").chmod(0o644)
    os.utime(root / "logs/a.log", ns=(1, 1_700_000_000_123_456_789))
    files, losses = taken(FILES, target(root), folder)
    about = (root / "logs/a.log").stat()
    access = f"-rw-r--r-- {about.st_uid}:{about.st_gid}"
    sha256 = digest_bytes(data)
    assert files == {
        "logs/a.log": StoredFile(
            "logs/a.log", "logs/a.log", len(data), sha256, 1_700_000_000_123_456_789, access=access
        )
    }
    assert losses == {}


def test_a_link_that_leads_out_is_denied_and_its_content_not_taken(root: Path, place: Path, folder: Path) -> None:
    (place / "secret").write_text(SECRET)
    (root / "logs/absolute.log").symlink_to(place / "secret")
    (root / "logs/relative.log").symlink_to("../../secret")
    (root / "logs/chained.log").symlink_to("relative.log")
    files, losses = taken(FILES, target(root), folder)
    assert files == {}
    assert {source: loss.outcome for source, loss in losses.items()} == {
        "logs/absolute.log": Outcome.DENIED,
        "logs/relative.log": Outcome.DENIED,
        "logs/chained.log": Outcome.DENIED,
    }
    assert "secret" in losses["logs/absolute.log"].reason


def test_a_sibling_whose_name_begins_like_the_root_is_outside(root: Path, place: Path, folder: Path) -> None:
    (place / "work load 2").mkdir()
    (place / "work load 2/secret").write_text(SECRET)
    (root / "logs/a.log").symlink_to(place / "work load 2/secret")
    (root / "..logs").mkdir()
    (root / "..logs/inside").write_text("inside")
    (root / "logs/b.log").symlink_to(root / "..logs/inside")
    files, losses = taken(FILES, target(root), folder)
    assert set(losses) == {"logs/a.log"}
    assert (folder / "logs/b.log").read_text() == "inside"
    assert set(files) == {"logs/b.log"}


def test_a_folder_that_is_a_link_leading_out_gives_nothing(root: Path, place: Path, folder: Path) -> None:
    (place / "outside").mkdir()
    (place / "outside/secret").write_text(SECRET)
    (root / "runs").symlink_to(place / "outside")
    (root / "logs/deep").symlink_to(place / "outside")
    files, losses = taken(FILES, target(root, "runs/*", "logs/**", "logs/deep/*"), folder)
    assert files == {}
    assert {source: loss.outcome for source, loss in losses.items()} == {
        "runs": Outcome.DENIED,
        "logs/deep": Outcome.DENIED,
    }


def test_a_link_within_the_workload_is_taken_with_a_note(root: Path, folder: Path) -> None:
    (root / "logs/train-1.log").write_text("the log")
    (root / "logs/latest.log").symlink_to("train-1.log")
    files, losses = taken(FILES, target(root), folder)
    assert losses == {}
    assert (folder / "logs/latest.log").read_text() == "the log"
    assert "logs/train-1.log" in files["logs/latest.log"].note
    assert files["logs/train-1.log"].note == ""


def test_a_root_that_is_itself_reached_by_a_link_is_no_link_out(root: Path, place: Path, folder: Path) -> None:
    (root / "logs/a.log").write_text("a")
    (place / "current").symlink_to(root)
    files, losses = taken(FILES, target(place / "current"), folder)
    assert (set(files), losses) == ({"logs/a.log"}, {})
    assert files["logs/a.log"].note == ""


def test_links_to_nothing_and_to_themselves_are_losses(root: Path, folder: Path) -> None:
    (root / "logs/dangling.log").symlink_to("nowhere")
    (root / "logs/loop.log").symlink_to("loop.log")
    files, losses = taken(FILES, target(root), folder)
    assert files == {}
    assert set(losses) == {"logs/dangling.log", "logs/loop.log"}
    assert losses["logs/dangling.log"].outcome is Outcome.FAILED


def test_pipes_and_sockets_are_losses_and_hang_nothing(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(root / "logs/pipe.log")
    monkeypatch.chdir(root / "logs")  # a socket's path may be short only
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.log")
        files, losses = taken(FILES, target(root), folder)
    assert files == {}
    assert {source: loss.outcome for source, loss in losses.items()} == {
        "logs/pipe.log": Outcome.FAILED,
        "logs/socket.log": Outcome.FAILED,
    }


def test_every_name_that_the_kernel_allows_is_taken(root: Path, folder: Path) -> None:
    names = [
        b"a\nb",
        b"\xff\xfe",
        b" a b ",
        b"%2E%2E",
        b"~",
        b"...",
        b"-rf",
        b"a\\b",
        b"'\"",
        "ログ".encode(),
        b"n" * 255,
    ]
    for name in names:
        (root / "logs" / os.fsdecode(name)).write_bytes(b"content of " + name)
    files, losses = taken(FILES, target(root, "logs/*", "logs/.*"), folder)
    assert losses == {}
    assert {unquote(file.source) for file in files.values()} == {b"logs/" + name for name in names}
    for file in files.values():
        assert (folder / file.stored).read_bytes() == b"content of " + unquote(file.source).removeprefix(b"logs/")
    json.dumps([asdict(file) for file in files.values()]).encode("ascii")


@pytest.mark.slow
def test_empty_and_sparse_files_are_taken_whole(root: Path, folder: Path) -> None:
    (root / "logs/empty.log").touch()
    with (root / "logs/sparse.log").open("wb") as file:
        file.write(b"head")
        file.seek(32 << 20)
        file.write(b"tail")
    files, losses = taken(FILES, target(root), folder)
    assert losses == {}
    assert {stored: file.size for stored, file in files.items()} == {
        "logs/empty.log": 0,
        "logs/sparse.log": (32 << 20) + 4,
    }
    assert files["logs/sparse.log"].sha256 == digest(root / "logs/sparse.log")


def test_files_are_taken_from_another_kind_of_file_system(folder: Path) -> None:
    memory = Path("/dev/shm")  # noqa: S108  the kernel's own tmpfs, whatever lies below the temporary folder
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == folder.stat().st_dev:
        pytest.skip("there is one file system only")
    with tempfile.TemporaryDirectory(dir=memory) as elsewhere:
        (Path(elsewhere) / "logs").mkdir()
        data = os.urandom(3 << 20)
        (Path(elsewhere) / "logs/a.log").write_bytes(data)
        files, losses = taken(FILES, target(Path(elsewhere)), folder)
    assert losses == {}
    assert files["logs/a.log"].sha256 == digest_bytes(data)


def test_files_without_a_folder_never_land_on_our_own(root: Path, folder: Path) -> None:
    for name in (MANIFEST, SUMS, "ps_top.txt", "plain.json"):
        (root / name).write_text(name)
    files, losses = taken(FILES, target(root, "*"), folder)
    assert losses == {}
    assert {unquote(file.source).decode() for file in files.values()} == {MANIFEST, SUMS, "ps_top.txt", "plain.json"}
    assert all("/" in stored for stored in files)


def test_folders_that_are_named_like_our_own_files_never_stand_in_their_way(root: Path, folder: Path) -> None:
    made = [source.stored for one in discover().values() for source in one.sources if not isinstance(source, Files)]
    ours = {MANIFEST, SUMS, SEGMENT, COVERAGE, *made}
    for name in ours:
        (root / name).mkdir()
        (root / name / "x.log").write_text(name)
    files, losses = taken(FILES, target(root, "*/*.log"), folder)
    assert losses == {}
    assert len(files) == len(ours)
    assert not ours & {stored.split("/", maxsplit=1)[0] for stored in files}


def test_a_file_that_two_patterns_match_is_taken_once(root: Path, folder: Path) -> None:
    (root / "logs/a.log").write_text("a")
    files, losses = taken(FILES, target(root, "logs/*.log", "logs/a.*", "logs/*"), folder)
    assert (set(files), losses) == ({"logs/a.log"}, {})


def test_a_pattern_goes_as_deep_as_it_says(root: Path, folder: Path) -> None:
    for name in ("logs/a.log", "logs/x/b.log", "logs/x/y/c.log", "logs/.hidden.log", "other/d.log"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    matched = {
        "logs/*.log": {"logs/a.log"},
        "logs/*/*.log": {"logs/x/b.log"},
        "logs/**/*.log": {"logs/a.log", "logs/x/b.log", "logs/x/y/c.log"},
        "**/*.log": {"logs/a.log", "logs/x/b.log", "logs/x/y/c.log", "other/d.log"},
        "logs/**": {"logs/a.log", "logs/x/b.log", "logs/x/y/c.log"},
        "logs/[ab].log": {"logs/a.log"},
        "logs/.*": {"logs/.hidden.log"},
        "*/d.log": {"other/d.log"},
        "logs/a.log": {"logs/a.log"},
    }
    for pattern, names in matched.items():
        shutil.rmtree(folder)
        folder.mkdir()
        files, losses = taken(FILES, target(root, pattern), folder)
        assert (set(files), losses) == (names, {}), pattern


def test_folders_that_are_links_into_themselves_make_no_endless_walk(root: Path, folder: Path) -> None:
    for name in ("one", "two", "three"):
        (root / "logs" / name).symlink_to(".")
    (root / "logs/a.log").write_text("a")
    files, losses = taken(FILES, target(root, "logs/**/*.log"), folder)
    assert (set(files), losses) == ({"logs/a.log"}, {})


def test_nothing_to_match_is_missing(root: Path, folder: Path) -> None:
    for patterns in (["logs/*.log"], ["nowhere/*", "nowhere/**/*.x"]):
        files, losses = taken(FILES, target(root, *patterns), folder)
        assert files == {}
        assert losses["logs"].outcome is Outcome.MISSING


def test_folders_alone_are_missing_too_and_never_an_empty_success(root: Path, folder: Path) -> None:
    (root / "logs/2026").mkdir()
    for patterns in (["logs/*"], ["logs/**"], ["logs"]):
        files, losses = taken(FILES, target(root, *patterns), folder)
        assert files == {}
        assert {source: loss.outcome for source, loss in losses.items()} == {"logs": Outcome.MISSING}


def test_a_link_to_a_folder_of_the_workload_is_recorded_and_what_lies_in_it_counts_once(
    root: Path, folder: Path
) -> None:
    (root / "logs/2026").mkdir()
    (root / "logs/latest").symlink_to("2026")
    files, losses = taken(FILES, target(root, "logs/**"), folder)
    assert files == {}
    assert losses == {
        "logs/latest": Loss(
            "logs/latest", Outcome.MISSING, "it leads to the folder logs/2026, which is taken by another name"
        )
    }
    (root / "logs/2026/a.log").write_text("a")
    files, losses = taken(FILES, target(root, "logs/**"), folder)
    assert set(files) == {"logs/2026/a.log"}
    assert set(losses) == {"logs/latest"}


@pytest.fixture
def deep(root: Path) -> Iterator[str]:
    """A file deeper than Python's stack; made and taken away step by step, since no path is that long."""
    places = [os.open(root / "logs", os.O_RDONLY)]
    for _ in range(1200):
        os.mkdir("d", dir_fd=places[-1])
        places.append(os.open("d", os.O_RDONLY, dir_fd=places[-1]))
    os.close(os.open("deep.log", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=places[-1]))
    yield f"logs/{'d/' * 1200}deep.log"
    os.unlink("deep.log", dir_fd=places[-1])
    os.close(places.pop())
    while places:
        os.rmdir("d", dir_fd=places[-1])
        os.close(places.pop())


@pytest.mark.slow
def test_a_file_deeper_than_pythons_stack_costs_no_other(root: Path, folder: Path, deep: str) -> None:
    (root / "logs/a.log").write_text("a")
    (root / "logs/z.log").write_text("z")
    files, losses = taken(FILES, target(root, "logs/**/*.log"), folder)
    assert set(files) == {"logs/a.log", "logs/z.log"}
    assert {source: loss.outcome for source, loss in losses.items()} == {deep: Outcome.FAILED}


@pytest.mark.slow
def test_an_endless_chain_of_links_costs_no_other(root: Path, folder: Path) -> None:
    for number in range(1500):
        (root / f"logs/{number}.link").symlink_to(f"{number + 1}.link")
    (root / "logs/a.log").symlink_to("0.link")
    (root / "logs/b.log").write_text("b")
    files, losses = taken(FILES, target(root, "logs/*.log"), folder)
    assert (set(files), set(losses)) == ({"logs/b.log"}, {"logs/a.log"})


def test_a_file_that_cannot_be_read_to_its_end_costs_no_other(folder: Path) -> None:
    # As a bad block of a disk does it: the file opens, and reading it is an I/O error.
    files, losses = taken(FILES, target(Path("/proc/self"), "mem", "status"), folder)
    assert set(files) == {"%2E/status"}
    assert (losses["mem"].outcome, losses["mem"].reason) == (Outcome.FAILED, "Input/output error")


def as_nobody(act: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Call in a process that has given up root's rights; if we have none, right here."""
    if os.geteuid() != 0:
        return act()

    def there(end: Connection) -> None:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        end.send(act())

    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=there, args=(theirs,))
    process.start()
    theirs.close()
    with ours:
        told: list[dict[str, Any]] = ours.recv()
    process.join()
    process.close()
    return told


def test_a_file_that_may_not_be_read_is_denied_and_the_others_are_taken(root: Path, folder: Path) -> None:
    (root / "logs/closed.log").write_text(SECRET)
    (root / "logs/closed.log").chmod(0)
    (root / "logs/open.log").write_text("open")
    told = as_nobody(lambda: [asdict(item) for item in acquired(FILES, target(root), folder)])
    assert [(item.get("source"), item.get("outcome")) for item in told] == [
        ("logs/closed.log", Outcome.DENIED),
        ("logs/open.log", None),
    ]


@pytest.mark.parametrize("pattern", ["logs/closed/*.log", "logs/**/*.log", "logs/*/*.log", "logs/**"])
def test_a_folder_that_may_not_be_read_is_denied_not_missing(root: Path, folder: Path, pattern: str) -> None:
    # "missing" may be declared harmless by the workload; what could not be looked for must never pass as that.
    (root / "logs/closed").mkdir()
    (root / "logs/closed/a.log").write_text(SECRET)
    (root / "logs/closed").chmod(0)
    try:
        told = as_nobody(lambda: [asdict(item) for item in take(FILES.sources, target(root, pattern), folder)])
    finally:
        (root / "logs/closed").chmod(0o755)
    assert [(item["source"], item["outcome"]) for item in told] == [("logs/closed", Outcome.DENIED)]


def test_one_source_that_fails_costs_no_other(root: Path, folder: Path) -> None:
    def absent(_: Target) -> bytes:
        raise NothingThere("no such thing")

    def forbidden(_: Target) -> bytes:
        raise PermissionError(13, "no")

    def broken(_: Target) -> bytes:
        raise ZeroDivisionError("oh")

    sources = (
        FunctionOutput(absent, "absent.txt"),
        FunctionOutput(forbidden, "forbidden.txt"),
        FunctionOutput(broken, "broken.txt"),
        ProgramOutput(("no-such-program-anywhere",), "absent2.txt"),
        ProgramOutput(("ls", "/no such folder"), "failed.txt"),
        FunctionOutput(lambda of: of.incident.encode(), "made.txt"),
    )
    files, losses = taken(Collector("many", "Why?", 1, sources), target(root), folder)
    assert set(files) == {"made.txt"}
    assert {source: loss.outcome for source, loss in losses.items()} == {
        "absent.txt": Outcome.MISSING,
        "forbidden.txt": Outcome.DENIED,
        "broken.txt": Outcome.FAILED,
        "absent2.txt": Outcome.MISSING,
        "failed.txt": Outcome.FAILED,
    }
    assert losses["broken.txt"].reason == "ZeroDivisionError: oh"


def test_the_output_of_a_program_is_redacted_and_cut_to_its_last_lines(root: Path, folder: Path) -> None:
    source = ProgramOutput(("printf", r"1\n2\ntoken=%s\n\377\n", "canary"), "out.txt", last=2)
    taken(Collector("out", "What?", 1, (source,)), target(root), folder)
    assert re.fullmatch(r"token=\[redacted:[0-9a-f]{8}\]\n\\xff\n", (folder / "out.txt").read_text())
