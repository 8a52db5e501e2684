"""An account may mount a file system of its own over the workload's root, which root may then not look into."""

import ctypes
import os
from pathlib import Path

import pytest

from tasks.prestart.freeze import freeze_described
from tasks.prestart.journal import read_early
from tasks.system.files import uncover
from tests.integration.host.test_early_freeze import described
from tests.support.survivors import on_a_host_of_its_own
from tests.support.workloads import SmallWorkload

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount"),
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="no FUSE"),
]
ACCOUNT = 4711


def mounted(point: Path, options: str = "") -> int:
    """Mount as fusermount3 does for an account; return the device, which nobody serves."""
    device = os.open("/dev/fuse", os.O_RDWR)
    words = f"fd={device},rootmode=40000,user_id={ACCOUNT},group_id={ACCOUNT}{options}"
    kernel = ctypes.CDLL(None, use_errno=True)
    assert kernel.mount(b"its", os.fsencode(point), b"fuse", 6, words.encode()) == 0, os.strerror(ctypes.get_errno())
    return device


@pytest.mark.parametrize("above", [False, True], ids=["at the root", "above it"])
@pytest.mark.parametrize("times", [1, 3])
def test_root_looks_below_it_freezes_and_says_what_was_not_collected(
    small: SmallWorkload, times: int, *, above: bool
) -> None:
    def act() -> None:
        small.start(WORKERS="0")
        block = described(small)
        for _ in range(times):
            mounted(small.root.parent if above else small.root)
        with pytest.raises(PermissionError):
            small.root.stat()
        early = freeze_described(block)
        assert early
        assert early.frozen
        assert len(uncover.DETACHED) == times
        assert list(early.losses) == read_early(early.path).losses == uncover.DETACHED, (
            "another process's run tells of it"
        )
        assert all(f"a FUSE file system of account {ACCOUNT} lay over" in each for each in uncover.DETACHED)

    on_a_host_of_its_own(act)


def test_what_root_may_look_into_and_what_lies_elsewhere_stays_mounted(tmp_path: Path) -> None:
    def act() -> None:
        (tmp_path / "beside").mkdir()
        (tmp_path / "root").mkdir()
        mounted(tmp_path / "beside")
        uncover.uncover(tmp_path / "root")
        uncover.uncover(tmp_path / "nothing")
        assert uncover.DETACHED == []

    on_a_host_of_its_own(act)
