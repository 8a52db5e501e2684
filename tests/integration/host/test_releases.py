"""A deploy puts another folder under the root's name while what ran there before goes on: it is not harmless."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.containment.suspects import roster_now
from tasks.host.host import LinuxHost
from tasks.host.judgement.case import Kind
from tests.integration.host.test_suspects import apart
from tests.support.workloads import SmallWorkload

TRAIN = "open('ready', 'w').close()\nimport time\ntime.sleep(600)"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Two releases, a link to the first, a folder of its own, and the service of somebody else."""
    for name in ("site/releases/1", "site/releases/2", "plain", "plain.new", "other"):
        (tmp_path / name / "src").mkdir(parents=True)
        (tmp_path / name / "src/train.py").write_text(TRAIN)
    (tmp_path / "site/current").symlink_to("releases/1")
    return tmp_path


def move_link(base: Path) -> None:
    (base / "site/current").unlink()
    (base / "site/current").symlink_to("releases/2")


def swap_folders(base: Path) -> None:
    (base / "plain").rename(base / "plain.old")
    (base / "plain.new").rename(base / "plain")


@contextmanager
def training(folder: Path, pwd: str, script: str = "src/train.py") -> Iterator[int]:
    """A training in a folder, with PWD as a shell sets it, or none as under a supervisor."""
    words = [sys.executable, script, "--of-a-release"]
    (folder / "ready").unlink(missing_ok=True)
    by = ["env", f"PWD={pwd}"] if pwd else ["env", "-u", "PWD"]
    with apart(words, folder, folder / "ready", by=by) as process:
        yield process.pid


def judge(root: Path, small: SmallWorkload) -> dict[int, tuple[Kind, str]]:
    block = small.block(root=root, lock=root.parent / "lock", training_pattern=r"train\.py --of-a-release$")
    roster = roster_now(LinuxHost(root=block.root), block)
    return {identity.pid: (each.kind, each.why) for identity, each in roster.judgements.items()}


@pytest.mark.parametrize("pwd", [False, True], ids=["without PWD", "with PWD"])
@pytest.mark.parametrize(
    ("name", "deploy"), [("site/current", move_link), ("plain", swap_folders)], ids=["a link", "a folder"]
)
def test_what_ran_before_a_deploy_is_a_suspect_after_it(
    small: SmallWorkload, base: Path, name: str, deploy: Callable[[Path], None], *, pwd: bool
) -> None:
    root = base / name
    with training(root, str(root) if pwd else "") as before, training(base / "other", "") as other:
        assert judge(root, small)[before][0] is Kind.MEMBER
        assert judge(root, small)[other][0] is Kind.TOLD
        deploy(base)
        kind, why = judge(root, small)[before]
        assert kind is Kind.SUSPECT
        assert "names the root" in why if pwd else "beside the folder" in why or "another's name" in why


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_what_a_mount_over_the_root_covers_is_a_suspect(small: SmallWorkload, base: Path) -> None:
    """A deploy by a bind mount: the kernel goes on calling by the root's name what is covered."""
    root = base / "plain"
    (root / "train.py").write_text(TRAIN)
    with training(root, "", "train.py") as before:
        assert judge(root, small)[before][0] is Kind.MEMBER
        subprocess.run(["mount", "--bind", base / "plain.new", root], check=True)
        try:
            kind, why = judge(root, small)[before]
        finally:
            subprocess.run(["umount", root], check=True)
    assert kind is Kind.SUSPECT
    assert "has the root's name" in why


def test_a_training_that_is_started_in_the_release_before_is_a_suspect(small: SmallWorkload, base: Path) -> None:
    move_link(base)
    with training(base / "site/releases/1", str(base / "site/releases/1")) as before:
        assert judge(base / "site/current", small)[before][0] is Kind.SUSPECT


def test_somebody_elses_service_is_told_apart_by_where_it_began(small: SmallWorkload, base: Path) -> None:
    """That it is older than a deploy is held against it only if nothing tells where it was started."""
    other = base / "other"
    with training(other, str(other)) as named, training(other, "") as nameless:
        shutil.copytree(base / "other", base / "third")
        move_link(base)
        judged = judge(base / "site/current", small)
        assert judged[named][0] is Kind.TOLD
        assert judged[nameless][0] is Kind.SUSPECT
        assert "Find out first whose it is" in judged[nameless][1]
    with training(other, "") as younger:
        assert judge(base / "site/current", small)[younger][0] is Kind.TOLD
