"""Two projects of one layout on one host: what matches outside of the root is another workload by three facts of now.

It lies outside by device and inode, its folder is still found by its name, and nothing of it names the root. When the
root was made, renamed or changed, and what its folder was called before, is no fact.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.containment.suspects import roster_now
from tasks.host.host import LinuxHost
from tasks.host.judgement.case import Kind
from tests.integration.host.test_false_groups import whole
from tests.integration.host.test_suspects import apart
from tests.support.workloads import SmallWorkload, wait_until

TRAIN = "open('ready', 'w').close()\nimport time\ntime.sleep(600)"
BARE = ("env", "-u", "PWD", "-u", "OLDPWD", "-u", "VIRTUAL_ENV")
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")


def lay(folder: Path) -> Path:
    (folder / "src").mkdir(parents=True)
    (folder / "src/train.py").write_text(TRAIN)
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Projects of one layout: the root, one that is only called like it, others, and two releases with a link."""
    for name in ("house", "house.old", "house (copy)", "barn", "site/releases/1", "site/releases/2"):
        lay(tmp_path / name)
    (tmp_path / "site/current").symlink_to("releases/2")
    return tmp_path


@contextmanager
def training(folder: Path, *by: str, script: str = "src/train.py", more: Sequence[str] = ()) -> Iterator[int]:
    """A training that works in a folder, of which no variable tells but those that `by` gives."""
    (folder / "ready").unlink(missing_ok=True)
    words = [sys.executable, script, "--of-a-project", *more]
    with apart(words, folder, folder / "ready", by=[*BARE, *by]) as process:
        yield process.pid


def judge(root: Path, small: SmallWorkload) -> dict[int, tuple[Kind, str]]:
    block = small.block(root=root, lock=root.parent / "lock", training_pattern=r"train\.py --of-a-project")
    roster = roster_now(LinuxHost(root=block.root), block)
    return {identity.pid: (each.kind, each.why) for identity, each in roster.judgements.items()}


def put_anew(root: Path) -> None:
    shutil.rmtree(root)
    lay(root)


def swap(root: Path) -> None:
    root.rename(root.with_name("house.before"))
    shutil.copytree(root.with_name("house.before"), root)
    shutil.rmtree(root.with_name("house.before"))


def move_and_back(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))
    folder.with_name("moved").rename(folder)


def leave_a_swap_file(root: Path) -> None:
    (root / ".x.swp").touch()
    (root / ".x.swp").unlink()


def make_a_folder(folder: Path) -> None:
    folder.mkdir()
    folder.rmdir()


def move_link(base: Path) -> None:
    (base / "new").symlink_to("releases/2")
    (base / "new").rename(base / "site/current")


CHANGES: dict[str, Callable[[Path], object]] = {
    "a file": lambda base: (base / "house/notes").touch(),
    "an editor's swap file": lambda base: leave_a_swap_file(base / "house"),
    "a folder beside": lambda base: make_a_folder(base / "new"),
    "renamed and back": lambda base: move_and_back(base / "house"),
    "made anew": lambda base: put_anew(base / "house"),
    "another in its place": lambda base: swap(base / "house"),
    "other rights": lambda base: (base / "house").chmod(0o755),
    "the releases' folder renamed and back": lambda base: move_and_back(base / "site/releases"),
    "a link moved": move_link,
    "the neighbour renamed": lambda base: (base / "barn").rename(base / "barn.new"),
}


@pytest.mark.parametrize("root", ["house", "site/current"])
def test_a_neighbour_is_another_workload_whenever_the_root_was_made_renamed_or_changed(
    small: SmallWorkload, base: Path, root: str
) -> None:
    """Of 151 runs beside such a neighbour 12 held it against the run: it was older than a change of the root."""
    named = [f"PWD={base}/barn", f"OLDPWD={base / root}"]
    with ExitStack() as stack:
        places = (("barn", ()), ("barn", named), ("house.old", ()), ("house (copy)", ()), ("site/releases/1", ()))
        copy = f"PWD={base}/house (copy)"
        pids = [stack.enter_context(training(base / place, *by)) for place, by in (*places, ("house (copy)", [copy]))]
        lost = lay(base / "lost")
        pids_lost = stack.enter_context(training(lost))
        shutil.rmtree(lost)
        for name, change in CHANGES.items():
            change(base)
            judged = judge(base / root, small)
            assert [judged[pid] for pid in pids if judged[pid][0] is not Kind.TOLD] == [], name
            assert {judged[pid][1].partition(":")[0] for pid in pids} == {"another workload"}
            assert judged[pids_lost][0] is Kind.SUSPECT, name
            assert "Find out first whose it is" in judged[pids_lost][1]


@dataclass(frozen=True)
class Broken:
    """A scene in which one of the three facts is broken. BASE is the folder of all; `after` is done to a live one."""

    name: str
    place: str = "barn"
    by: tuple[str, ...] = ()
    script: str = "src/train.py"
    more: tuple[str, ...] = ()
    before: str = ""
    after: str = ""
    kind: Kind = Kind.SUSPECT
    mounts: bool = False


BROKEN = (
    Broken("nothing", kind=Kind.TOLD),
    Broken("nothing, and renamed", after="mv BASE/barn BASE/away", kind=Kind.TOLD),
    Broken("nothing, and a name of its own", "barn (deleted)", before="cp -r BASE/barn 'BASE/barn (deleted)'",
           kind=Kind.TOLD),
    Broken("it works in the root", "house", kind=Kind.MEMBER),
    Broken("it works in the root by another name", before="mount --bind BASE/house BASE/barn", kind=Kind.MEMBER,
           mounts=True),
    Broken("its script leads into the root", before="ln -sf BASE/house/src/train.py BASE/barn/src/train.py",
           kind=Kind.MEMBER),
    Broken("its script's folder leads into the root", script="in/train.py", before="ln -s BASE/house/src BASE/barn/in",
           kind=Kind.MEMBER),
    Broken("its script is gone", after="rm BASE/barn/src/train.py"),
    Broken("its folder is deleted", after="rm -r BASE/barn"),
    Broken("its folder is deleted, and another has its name", after="rm -r BASE/barn; cp -r BASE/house BASE/barn"),
    Broken("its folder is covered", after="mount --bind BASE/house.old BASE/barn", mounts=True),
    Broken("the root's name covers it", "house", script="train.py", before="cp BASE/house/src/train.py BASE/house",
           after="mount --bind BASE/house.old BASE/house", mounts=True),
    Broken("its mount is taken away", before="mount -t tmpfs x BASE/barn; cp -r BASE/house/src BASE/barn",
           after="umount -l BASE/barn", mounts=True),
    Broken("an argument names the root", more=("--data=BASE/house/data",)),
    Broken("PWD names the root", by=("PWD=BASE/house",)),
    Broken("PWD names a folder of the root", by=("PWD=BASE/house/src",)),
    Broken("VIRTUAL_ENV names the root", by=("VIRTUAL_ENV=BASE/house/venv",)),
    Broken("a search path names the root", by=("PYTHONPATH=/nowhere:BASE/house",)),
)  # fmt: skip


@pytest.mark.parametrize(
    "scene", [pytest.param(each, id=each.name, marks=AS_ROOT if each.mounts else ()) for each in BROKEN]
)
def test_what_breaks_one_of_the_facts_is_not_another_workload(small: SmallWorkload, base: Path, scene: Broken) -> None:
    def done(text: str) -> None:
        subprocess.run(["sh", "-euc", text.replace("BASE", str(base))], check=True)

    def told(words: Sequence[str]) -> list[str]:
        return [word.replace("BASE", str(base)) for word in words]

    done(scene.before)
    try:
        with training(base / scene.place, *told(scene.by), script=scene.script, more=told(scene.more)) as pid:
            done(scene.after)
            assert judge(base / "house", small)[pid][0] is scene.kind, judge(base / "house", small)[pid]
    finally:
        for place in ("barn", "house"):
            if scene.mounts:
                subprocess.run(["umount", "-q", base / place], check=False)


@pytest.mark.parametrize("names_it", [False, True], ids=["nothing names it", "PWD names it"])
def test_what_ran_before_a_deploy_is_the_workloads_as_long_as_something_of_it_names_the_root(
    small: SmallWorkload, base: Path, *, names_it: bool
) -> None:
    root = base / "site/current"
    with training(root, *([f"PWD={root}"] if names_it else [])) as before:
        assert judge(root, small)[before][0] is Kind.MEMBER
        root.unlink()
        root.symlink_to("releases/1")
        kind, why = judge(root, small)[before]
        assert kind is (Kind.SUSPECT if names_it else Kind.TOLD)
        assert ("names the root" if names_it else "another workload") in why


@pytest.mark.parametrize("is_there", [True, False], ids=["its folder is there", "its folder is deleted"])
def test_an_evacuation_beside_a_second_project_is_contained_after_an_ordinary_day(
    small: SmallWorkload, tmp_path: Path, *, is_there: bool
) -> None:
    """A file put into the root, an editor's swap file, and a new folder beside it made the run red."""
    with SmallWorkload(tmp_path / "barn") as other:
        command = [str(sys.executable), *small.training_command[1:]]
        with apart(command, other.root, by=[*BARE, f"OLDPWD={small.root}"]) as neighbour:
            wait_until(lambda: len(neighbour.children()) == 2, what="its workers")
            (small.root / "notes").touch()
            leave_a_swap_file(small.root)
            (small.root.parent / "new").mkdir()
            if not is_there:
                shutil.rmtree(other.root)
            small.start_all()
            seen = whole(small)
            assert neighbour.is_running()
            beside = {neighbour.pid, *(each.pid for each in neighbour.children())} if is_there else {neighbour.pid}
            for each in neighbour.children():
                each.kill()
        assert seen.is_contained is is_there, seen.summary
        assert not seen.unknown
        told = {int(each.partition(":")[0]) for each in (seen.left_alone if is_there else seen.alive)}
        assert beside <= told, (seen.left_alone, seen.alive)
