"""What another account can change is not ours, and no link of another account leads us anywhere."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.system.files.atomic_files import read_marker, read_ours, read_plain, read_private, write_marker, write_once
from tasks.system.files.atomic_files import write_whole as write
from tasks.system.files.ours import find_exposure, make_folder, open_folder, why_not_followed

ANOTHER = 65534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="to be several accounts needs root")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder two below one that only we can write to."""
    (tmp_path / "above/home").mkdir(parents=True, mode=0o755)
    return tmp_path / "above/home"


def test_what_only_we_can_write_to_is_ours_also_before_it_is_there(home: Path) -> None:
    assert find_exposure(home) == find_exposure(home / "not yet/there") == ""


@pytest.mark.parametrize("mode", [0o777, 0o757])
def test_a_folder_above_that_all_may_write_to_exposes_it(home: Path, mode: int) -> None:
    home.parent.chmod(mode)
    assert find_exposure(home) == f"{home.parent} of mode {mode:04o}"


@as_root
def test_a_folder_above_of_a_group_with_others_exposes_it(home: Path) -> None:
    """It was called sound: only owners were asked."""
    home.parent.chmod(0o775)
    assert find_exposure(home) == ""
    os.chown(home.parent, 0, ANOTHER)
    assert find_exposure(home) == f"{home.parent} of mode 0775"


@as_root
def test_a_folder_above_of_another_account_exposes_it(home: Path) -> None:
    os.chown(home.parent, ANOTHER, -1)
    assert find_exposure(home) == f"{home.parent} of user {ANOTHER}"
    assert find_exposure(home, ANOTHER) == ""


def test_in_a_sticky_folder_only_what_is_ours_already_is_safe(home: Path) -> None:
    home.parent.chmod(0o1777)
    assert find_exposure(home) == find_exposure(home / "evidence") == ""
    assert find_exposure(home.parent / "new") == f"{home.parent}, where anybody may take the name new"


def test_links_are_looked_at_as_what_they_lead_to_is(home: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("above/home")
    assert find_exposure(tmp_path / "link/evidence") == why_not_followed(tmp_path / "link") == ""
    home.parent.chmod(0o777)
    assert find_exposure(tmp_path / "link") == f"{home.parent} of mode 0777"
    assert "is a link or lies behind one" in why_not_followed(tmp_path / "link")
    assert why_not_followed(home) == "", "it has no link"
    (tmp_path / "loop").symlink_to("loop")
    assert "a loop of links" in find_exposure(tmp_path / "loop")


@as_root
def test_a_link_of_another_account_is_not_followed(home: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(home)
    os.close(open_folder(tmp_path / "link"))
    os.chown(tmp_path / "link", ANOTHER, -1, follow_symlinks=False)
    for attempt in (open_folder, make_folder):
        with pytest.raises(PermissionError, match=f"link of user {ANOTHER} is not ours"):
            attempt(tmp_path / "link")


Attempt = Callable[[Path], object]
WRITES: list[Attempt] = [
    lambda path: write(path, b"x"),
    lambda path: write_marker(path, {}),
    lambda path: write_once(path, b"x"),
]
READS: list[Attempt] = [read_plain, read_ours, read_private]


@as_root
@pytest.mark.parametrize("attempt", [*WRITES, *READS])
def test_nothing_is_read_or_written_behind_a_link_of_another_account(
    attempt: Attempt, home: Path, tmp_path: Path
) -> None:
    (home / "open.json").write_text("{}")
    os.chown(tmp_path / "above", ANOTHER, -1)
    (tmp_path / "above/link").symlink_to(home)
    with pytest.raises(PermissionError):
        attempt(tmp_path / "above/link/open.json")
    assert [path.name for path in home.iterdir()] == ["open.json"]
    assert (home / "open.json").read_text() == "{}"


@pytest.mark.parametrize("write_it", WRITES)
def test_what_takes_the_name_of_a_file_under_way_gets_neither_content_nor_mode(
    write_it: Attempt, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any file of root's became readable for all: the mode was given to a name, and the name was a link by then."""
    secret = tmp_path / "secret"
    secret.write_text("root's")
    secret.chmod(0o600)

    def swapped(_: int) -> None:
        for beside in home.iterdir():
            beside.unlink()
            beside.symlink_to(secret)

    monkeypatch.setattr(os, "fsync", swapped)
    write_it(home / "cordon.json")
    assert (secret.stat().st_mode & 0o777, secret.read_text()) == (0o600, "root's")


def test_the_name_of_a_file_under_way_is_never_the_same(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set[str]()
    monkeypatch.setattr(os, "fsync", lambda _: seen.update(path.name for path in home.iterdir()))
    for _ in range(3):
        write_marker(home / "cordon.json", {})
    assert len({name for name in seen if name != "cordon.json"}) == 3
    assert [path.name for path in home.iterdir()] == ["cordon.json"]


def test_a_file_that_is_written_once_keeps_its_content(home: Path) -> None:
    write_once(home / "a", b"first")
    write_once(home / "a", b"second")
    assert [(path.name, path.read_bytes()) for path in home.iterdir()] == [("a", b"first")]


def test_a_marker_that_others_may_have_written_says_nothing(home: Path) -> None:
    write_marker(home / "cordon.json", {"incident": "IR-20260102T030405Z"})
    assert read_marker(home / "cordon.json") == {"incident": "IR-20260102T030405Z"}
    (home / "cordon.json").chmod(0o666)
    assert read_marker(home / "cordon.json") == {}
