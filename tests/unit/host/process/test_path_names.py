"""Since when a path leads where it leads, of real folders, links and processes: never earlier than it may have been."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

import pytest

from tasks.host.process.handles import Handles
from tasks.host.process.open_files import read_handles
from tasks.host.process.path_names import UNKNOWN_PATH, LinkTarget, history_of
from tasks.host.process.places import Places
from tasks.host.process.table import read_process, ticks
from tests.support.workloads import wait_until


def wait_for_a_later_moment() -> int:
    """Return a moment, in clock ticks, that lies after all that was done and before all that comes."""
    moment = ticks() + 3  # the clock of files is a few milliseconds behind
    wait_until(lambda: ticks() > moment + 3)
    return moment


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder, two releases, and a link to one of them."""
    for name in ("x", "releases/1/app", "releases/2/app"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/1")
    return tmp_path


def move_link(here: Path) -> None:
    (here / "new").symlink_to("releases/2")
    (here / "new").rename(here / "current")


def swap(here: Path) -> None:
    (here / "x").rename(here / "x.old")
    (here / "releases/2").rename(here / "x")


def move_and_back(here: Path) -> None:
    (here / "releases").rename(here / "r")
    (here / "r").rename(here / "releases")


@pytest.mark.parametrize(
    ("path", "change", "folders", "links"),
    [
        ("x", lambda here: (here / "y").mkdir(), False, False),
        ("x", lambda here: (here / "x/log").touch(), False, False),
        ("x", swap, True, False),
        ("releases/1/app", move_and_back, True, False),
        ("current/app", lambda here: (here / "current/app/log").touch(), False, False),
        ("current/app", move_link, False, True),
        ("current", move_link, False, True),
    ],
    ids=["a sibling", "its content", "another folder", "a folder above", "content behind a link", "a link", "its end"],
)
def test_a_path_is_as_old_as_the_last_renaming_or_link_on_it(
    here: Path, path: str, change: Callable[[Path], object], *, folders: bool, links: bool
) -> None:
    moment = wait_for_a_later_moment()
    change(here)
    history = history_of(str(here / path))
    assert (history.folders > moment, history.links > moment) == (folders, links)


def test_what_may_have_been_renamed_counts_as_renamed(here: Path) -> None:
    """Both the folder and what has it have changed: the kernel does not tell by what."""
    moment = wait_for_a_later_moment()
    (here / "x/log").touch()
    (here / "y").mkdir()
    assert history_of(str(here / "x")).folders > moment


@pytest.mark.parametrize("path", ["missing", "x/missing", "loop", "file/x"])
def test_of_a_path_that_leads_nowhere_nothing_is_known(here: Path, path: str) -> None:
    (here / "loop").symlink_to("loop")
    (here / "file").touch()
    assert history_of(str(here / path)) == UNKNOWN_PATH


def test_the_target_of_each_link_is_known_with_the_rest_of_the_path(here: Path) -> None:
    (here / "far").symlink_to(here / "x/../current")
    history = history_of(f"{here}/./far//app")
    target = LinkTarget(PurePath(os.path.realpath(here / "releases/1")), ("app",))
    assert history.targets == (target, target)
    assert [target.is_beside(f"{target.place.parent}/{each}") for each in ("1/app", "2/app", "2/app/x", "2", "x")] == [
        False,
        True,
        True,
        False,
        False,
    ]
    assert not target.is_beside("app")


@contextmanager
def working(folder: Path, *command: str, pwd: str = "") -> Iterator[Callable[[], Handles]]:
    """A process that works in a folder, and what is read of it when it is asked."""
    environment = {"PATH": "/usr/bin:/bin"} | ({"PWD": pwd} if pwd else {})
    with subprocess.Popen(command or ("cat",), cwd=folder, env=environment, stdin=subprocess.PIPE) as child:
        try:
            wait_until(lambda: Path(f"/proc/{child.pid}/comm").read_text().strip() in {"cat", "sh"})

            def read() -> Handles:
                places = Places("/nonexistent")
                process = read_process(child.pid, None, places)
                assert process
                (handles,) = read_handles([process], places).values()
                return handles

            yield read
        finally:
            child.kill()


@pytest.mark.slow
def test_a_processs_folder_has_had_its_name_since_before_unless_it_may_have_been_renamed(here: Path) -> None:
    wait_for_a_later_moment()
    with working(here / "x") as read:
        moment = wait_for_a_later_moment()
        assert read().placed < moment
        swap(here)
        assert read().placed > moment


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs a mount namespace")
def test_one_that_has_mounts_of_its_own_has_its_names_by_these(here: Path) -> None:
    """As a service with a /tmp of its own has."""
    wait_for_a_later_moment()
    with working(here / "x", "unshare", "--mount", "cat") as read:
        moment = wait_for_a_later_moment()
        assert read().placed < moment
        swap(here)
        assert read().placed > moment


@pytest.mark.parametrize(
    ("pwd", "before", "after"),
    [("{}/x", True, False), ("{}", False, False), ("", False, False), ("x", False, False), ("{}/x/../x", True, False)],
)
def test_pwd_tells_that_a_folder_was_called_so_at_the_start(here: Path, pwd: str, *, before: bool, after: bool) -> None:
    with working(here / "x", pwd=pwd.format(here)) as read:
        assert read().named_apart == before
        swap(here)
        assert read().named_apart == after


def test_so_does_a_program_of_the_folder(here: Path) -> None:
    (here / "x/cat").symlink_to("/bin/cat")
    with working(here / "x", f"{here}/x/cat") as read:
        assert read().named_apart
        swap(here)
        assert not read().named_apart


@pytest.mark.parametrize(
    ("script", "tells"), [("{}/x/run", True), ("run", False), ("{}/run", False), ("{}/x/no", False)]
)
def test_a_scripts_path_tells_it_if_it_lies_where_the_process_works(here: Path, script: str, *, tells: bool) -> None:
    """A program outside, as of an environment that many share, tells nothing of the folder."""
    for folder in ("x", "."):
        (here / folder / "run").write_text("read line")
    word = script.format(here)
    with working(here / "x", "sh", "-c", "read line", word) as read:
        assert not read().named_apart  # code on the command line has no script
    if (here / "x" / word).exists():
        with working(here / "x", "sh", word) as read:
            assert read().named_apart == tells
            swap(here)
            assert not read().named_apart


def test_who_works_in_the_root_of_all_may_have_begun_anywhere() -> None:
    with working(Path("/"), "/bin/cat") as read:
        assert not read().named_apart
    with working(Path("/"), "/bin/cat", pwd="/") as read:
        assert read().named_apart
