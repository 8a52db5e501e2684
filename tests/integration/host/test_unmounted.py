"""A root that was unmounted beneath who works there (umount -l), with another file system under its name since."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.host.test_false_groups import whole
from tests.integration.host.test_suspects import apart
from tests.support.workloads import SmallWorkload

WITHOUT = ["env", "-u", "PWD", "-u", "OLDPWD"]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts")


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """File systems with a training each, by the names of their folders."""
    places = {name: tmp_path / name for name in ("site", "new", "others")}
    for name, place in places.items():
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", name, place], check=True)
        (place / "src").mkdir()
        (place / "src/train.py").write_text("import time; open('src/ready', 'w').close(); time.sleep(607)")
    yield places
    for place in places.values():
        subprocess.run(["umount", place], check=False)


@pytest.mark.whole
@pytest.mark.parametrize(("where", "is_a_suspect"), [("site", True), ("others", False)])
def test_what_works_there_is_a_suspect(
    small: SmallWorkload, tmp_path: Path, mounted: dict[str, Path], where: str, *, is_a_suspect: bool
) -> None:
    root, command = mounted["site"], ["/usr/bin/python3", "-u", "src/train.py", "--mode", "full"]
    with apart([*command, "--seed", str(small.port)], mounted[where], mounted[where] / "src/ready", by=WITHOUT) as old:
        subprocess.run(["umount", "-l", root], check=True)
        subprocess.run(["mount", "--bind", mounted["new"], root], check=True)
        seen = whole(small, root=root, lock=tmp_path / "lock", evidence_dir=tmp_path / "evidence")
        assert old.is_running()
        assert any(f"{old.pid}: " in each for each in seen.alive) == is_a_suspect, seen.summary


@pytest.mark.whole
def test_in_a_chroot_with_mounts_of_its_own_nothing_was_taken_away(
    small: SmallWorkload, tmp_path: Path, mounted: dict[str, Path]
) -> None:
    """No table has its mounts either, and a match in it is another workload as before."""
    top, names = mounted["others"], ("usr", "lib", "lib64")
    for name in names:
        (top / name).mkdir()
    binds = "".join(f"mount --rbind /{name} {top}/{name}; " for name in names)
    enter = ["unshare", "-m", "sh", "-c", f'{binds}exec chroot {top} "$@"', "sh"]
    command = ["/usr/bin/python3", "-u", "src/train.py", "--mode", "full", "--seed", str(small.port)]
    with apart(command, Path("/"), top / "src/ready", by=[*WITHOUT, *enter]) as inside:
        seen = whole(small, root=mounted["site"], lock=tmp_path / "lock", evidence_dir=tmp_path / "evidence")
        assert inside.is_running()
        assert not any(f"{inside.pid}: " in each for each in seen.alive), seen.summary
