"""Links to folders: what they lead to is taken, or a written reason says why not. Real trees."""

import os
import threading
from pathlib import Path

import pytest

from tasks.acquisition.matching import matches
from tasks.custody.evidence.acquisition import Loss, Outcome
from tasks.custody.evidence.keys import quote
from tests.support.workloads import wait_until
from tests.unit.acquisition.test_acquire import FILES, SECRET, folder, place, root, taken, target

__all__ = ["folder", "place", "root"]


@pytest.mark.parametrize("pattern", ["logs/run_*", "logs/**", "logs", "l*/run_now", "**/run_now"])
def test_what_a_matched_link_to_a_folder_of_the_workload_leads_to_is_taken_by_its_name(
    root: Path, folder: Path, pattern: str
) -> None:
    name = "logs/run_now"
    (root / "store/r3/deep").mkdir(parents=True)
    for file in ("weights.bin", "deep/more.bin", "deep/.hidden"):
        (root / "store/r3" / file).write_text(file)
    (root / "store/current").symlink_to("r3")
    (root / name).symlink_to("../store/current")
    files, losses = taken(FILES, target(root, pattern), folder)
    hidden = set() if pattern == "logs/**" else {f"{name}/deep/.hidden"}
    assert (set(files), losses) == ({f"{name}/weights.bin", f"{name}/deep/more.bin"} | hidden, {})
    assert (folder / name / "deep/more.bin").read_text() == "deep/more.bin"
    assert files[f"{name}/weights.bin"].note == "a link to store/r3/weights.bin"


def test_two_links_to_a_folder_take_it_once_and_the_other_says_where(root: Path, folder: Path) -> None:
    (root / "store").mkdir()
    (root / "store/a.bin").write_text("a")
    for name in ("run_1", "run_2"):
        (root / "logs" / name).symlink_to("../store")
    files, losses = taken(FILES, target(root, "logs/run_*"), folder)
    assert {file.partition("/a")[0] for file in files} | set(losses) == {"logs/run_1", "logs/run_2"}
    assert [(loss.outcome, loss.reason) for loss in losses.values()] == [
        (Outcome.MISSING, "it leads to the folder store, which is taken by another name")
    ]


@pytest.mark.parametrize("to", [".", "..", "../logs", "./deep/.."])
def test_a_link_to_what_holds_it_is_a_loss_and_no_endless_walk(root: Path, folder: Path, to: str) -> None:
    (root / "logs/deep").mkdir()
    (root / "logs/run_x").symlink_to(to)
    (root / "logs/run_y").write_text("y")
    files, losses = taken(FILES, target(root, "logs/run_*"), folder)
    assert set(files) == {"logs/run_y"}
    assert losses["logs/run_x"].outcome is Outcome.FAILED


def test_links_from_folder_to_folder_are_walked_once_each(root: Path, folder: Path) -> None:
    # Two links a level, to the next: by names without end that would be 2^20 walks.
    for level in range(20):
        (root / f"store/{level}").mkdir(parents=True)
        (root / f"store/{level}/file").write_text(f"{level}")
        for side in "ab":
            (root / f"store/{level}/{side}").symlink_to(f"../{(level + 1) % 20}")
    (root / "logs/run").symlink_to("../store/0")
    files, losses = taken(FILES, target(root, "logs/run"), folder)
    assert {(folder / name).read_text() for name in files} == {str(level) for level in range(20)}
    assert {loss.outcome for loss in losses.values()} == {Outcome.MISSING}
    assert len(losses) == 21


def test_a_link_that_leads_out_of_a_linked_folder_gives_nothing(root: Path, place: Path, folder: Path) -> None:
    (place / "outside").mkdir()
    (place / "outside/secret").write_text(SECRET)
    (root / "store").mkdir()
    (root / "store/out").symlink_to(place / "outside")
    (root / "store/file").symlink_to(place / "outside/secret")
    (root / "store/gone").symlink_to("nowhere")
    (root / "logs/run").symlink_to("../store")
    files, losses = taken(FILES, target(root, "logs/run"), folder)
    assert files == {}
    assert {source: loss.outcome for source, loss in losses.items()} == {
        "logs/run/out": Outcome.DENIED,
        "logs/run/file": Outcome.DENIED,
        "logs/run/gone": Outcome.FAILED,
    }
    assert quote(os.fsencode(place / "outside")) in losses["logs/run/out"].reason


def test_a_linked_folder_that_turns_outward_at_any_moment_gives_no_name_from_outside(root: Path, place: Path) -> None:
    (place / "outside").mkdir()
    (place / "outside/secret").write_text(SECRET)
    (root / "store").mkdir()
    (root / "store/a.bin").write_text("a")
    link, stop = root / "logs/run", threading.Event()

    def turn(to: Path) -> None:
        link.with_name("beside").symlink_to(to)
        link.with_name("beside").replace(link)

    def flip() -> None:
        while not stop.is_set():
            turn(place / "outside")
            turn(root / "store")

    seen = set[str]()

    def both_seen() -> bool:
        for _ in range(200):
            seen.update(
                item.reason if isinstance(item, Loss) else item.decode()
                for item in matches(os.fsencode(root), b"logs/run")
            )
        return any("leading out" in each for each in seen) and "logs/run/a.bin" in seen

    turn(root / "store")
    flipping = threading.Thread(target=flip)
    flipping.start()
    try:
        wait_until(both_seen, 60, "both targets in turn")
    finally:
        stop.set()
        flipping.join()
    assert not any(each.startswith("logs/run/secret") for each in seen)
