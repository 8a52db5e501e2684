"""What a deploy has left running: a worker that no pattern matches, an API that drains; a script that names the root.

Each with a scene beside it that differs by the one fact.
"""

import os
import shutil
from pathlib import Path

import pytest

from tests.integration.host.test_false_groups import whole
from tests.integration.host.test_suspects import apart
from tests.support.workloads import SmallWorkload, wait_until

PYTHON = "/usr/bin/python3"
WITHOUT = ["env", "-u", "PWD", "-u", "OLDPWD", "-u", "VIRTUAL_ENV"]
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root: another account's, and all that the kernel tells"
)


class Site:
    """A folder of releases, and where one of them is in use."""

    def __init__(self, small: SmallWorkload, place: Path) -> None:
        """Lay out two, each with a worker, and let the first be in use."""
        self.place, self.root, self.ready = place, place / "current", place / "ready"
        for name in ("1", "2"):
            shutil.copytree(small.root, release := place / "releases" / name, symlinks=True)
            (release / "worker.py").write_text(f"import time; open({str(self.ready)!r}, 'w').close(); time.sleep(609)")
            (python := release / "venv/bin/python").unlink()
            python.symlink_to(PYTHON)

    def deploy(self, how: str, name: str) -> None:
        """Put a release under the root's name, by a link or by renaming it."""
        if how == "link":
            self.root.unlink(missing_ok=True)
            self.root.symlink_to(f"releases/{name}")
            return
        if self.root.exists():
            self.root.rename(self.place / "before")
        (self.place / "releases" / name).rename(self.root)

    def fields(self, tmp_path: Path) -> dict[str, object]:
        """What of the block says where it is."""
        return {"root": self.root, "lock": tmp_path / "lock", "evidence_dir": tmp_path / "evidence"}


@pytest.mark.short(1)
@pytest.mark.parametrize(
    ("how", "named", "is_asked"),
    [
        ("link", "PWD={}", True),
        ("rename", "PWD={}", True),
        ("rename", "VIRTUAL_ENV={}/venv", True),
        ("rename", "PWD={}-of-others", False),
        ("rename", "OLDPWD={}", False),
        ("link", "X=1", False),
    ],
)
def test_a_worker_that_no_pattern_matches_is_asked_about(
    small: SmallWorkload, tmp_path: Path, how: str, named: str, *, is_asked: bool
) -> None:
    site = Site(small, tmp_path / "site")
    site.deploy(how, "1")
    by = [*WITHOUT, named.format(site.root)]
    with apart(["venv/bin/python", "worker.py"], site.root, site.ready, by) as worker:
        site.deploy(how, "2")
        seen = whole(small, **site.fields(tmp_path))
        assert worker.is_running()
        assert [each.identity.pid for each in seen.unknown] == [worker.pid] * is_asked, seen.summary


@pytest.mark.short(1)
@pytest.mark.parametrize("has", ["argument", "folder open", "nothing"])
def test_a_script_of_a_shell_that_is_given_the_root_is_asked_about(
    small: SmallWorkload, tmp_path: Path, has: str
) -> None:
    script, call = tmp_path / "nightly", "sleep 604 & wait\n"
    script.write_text(f'exec 9< "{small.root}/src"\n{call}' if has == "folder open" else f'read -r x <<< "$1"; {call}')
    command = ["bash", str(script), *([str(small.root)] if has == "argument" else [])]
    with apart(command, Path("/"), by=WITHOUT) as shell:
        wait_until(shell.children, what="its sleep")
        seen = whole(small)
        assert (shell.pid in {each.identity.pid for each in seen.unknown}) == (has != "nothing"), seen.summary
        for each in shell.children():
            each.kill()


@pytest.mark.whole
@pytest.mark.parametrize("is_deleted", [True, False])
def test_an_api_that_drains_in_a_folder_that_a_deploy_has_deleted_is_a_suspect(
    small: SmallWorkload, tmp_path: Path, *, is_deleted: bool
) -> None:
    """It listens no more, so that `api_port` says that it is another's; where nothing was deleted it may be."""
    folder = small.root if is_deleted else tmp_path / "other"
    folder.mkdir(exist_ok=True)
    (folder / "api.app").write_text(f"import time; open('{tmp_path}/ready', 'w').close(); time.sleep(605)")
    with apart([PYTHON, "api.app", "uvicorn api.app"], folder, tmp_path / "ready", by=WITHOUT) as old:
        if is_deleted:
            shutil.copytree(small.root, tmp_path / "new", symlinks=True)
            shutil.rmtree(small.root)
            (tmp_path / "new").rename(small.root)
        seen = whole(small, api_port=small.port)
        assert old.is_running()
        assert any(f"{old.pid}: " in each for each in seen.alive) == is_deleted, seen.summary
