"""Code of root's own that an account without a file of it runs: that account is the workload's, too."""

import os
import shutil
from pathlib import Path

import pytest

from tests.integration.host.test_false_groups import whole
from tests.integration.host.test_suspects import apart
from tests.support.workloads import SmallWorkload, open_the_way

PYTHON, NOBODY = "/usr/bin/python3", 65534
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
WATCH = """
import ctypes, sys, time
where, ready = open(sys.argv[1]).read().splitlines()
library = ctypes.CDLL(None)
assert library.inotify_add_watch(library.inotify_init(), where.encode(), 0x100) > 0
open(ready, "w").close()
time.sleep(606)
"""
WRITE = """
import sys, time
place = open(sys.argv[1]).read()
while True:
    open(place, "w").write(str(time.time()))
    time.sleep(0.3)
"""
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")


@pytest.fixture
def open_root(tmp_path: Path) -> Path:
    """Where everybody may write, and that names the root in a file alone."""
    open_the_way(tmp_path)
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", NOBODY, NOBODY)
    return tmp_path / "theirs"


@pytest.mark.short(1)
@pytest.mark.parametrize("known_by", ["the block", "what was frozen", "nothing"])
def test_who_watches_the_root_as_that_account_is_asked_about(
    small: SmallWorkload, open_root: Path, known_by: str
) -> None:
    open_the_way(small.root)
    (open_root / "where").write_text(f"{small.root}\n{open_root}/ready")
    command = [PYTHON, "-c", WATCH, str(open_root / "where")]
    with apart(command, Path("/"), open_root / "ready", by=AS_NOBODY) as watcher:
        if known_by == "what was frozen":
            with apart(small.training_command, small.root, by=AS_NOBODY):
                seen = whole(small)
        else:
            seen = whole(small, **({"user": "nobody"} if known_by == "the block" else {}))
        assert watcher.is_running()
        assert [each.identity.pid for each in seen.unknown] == [watcher.pid] * (known_by != "nothing"), seen.summary


@pytest.mark.whole
def test_who_writes_under_an_editors_name_is_heard(small: SmallWorkload, open_root: Path) -> None:
    (small.root / "data").mkdir()
    os.chown(small.root / "data", NOBODY, NOBODY)
    open_the_way(small.root)
    shutil.copy(os.path.realpath(PYTHON), open_root / "less")
    (open_root / "where").write_text(f"{small.root}/data/state")
    command = [str(open_root / "less"), "-c", WRITE, str(open_root / "where")]
    with apart(command, Path("/"), small.root / "data/state", by=AS_NOBODY) as writer:
        seen = whole(small, watch_seconds=2)
        assert writer.is_running()
        assert any("data/state" in each for each in seen.alive), seen.summary  # heard, or met as it has it open
