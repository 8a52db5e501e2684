"""A disk of its own for a benchmark: an ext4 in a file, mounted through a loop device that counts what is read."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SECTOR: Final = 512


@dataclass(frozen=True)
class LoopDisk:
    """A mounted disk, and the name of its device, such as loop0."""

    path: Path
    device: str

    @property
    def read(self) -> int:
        """Bytes that were read from the device so far; what the page cache had is not among them."""
        return int(Path(f"/sys/block/{self.device}/stat").read_text().split()[2]) * _SECTOR

    def leave(self, size: int) -> None:
        """Take all room but `size` bytes."""
        about = os.statvfs(self.path)
        with (self.path / "ballast").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, about.f_bavail * about.f_frsize - size)


@contextmanager
def loop_disk(folder: Path, size: int) -> Iterator[LoopDisk]:
    """Make a disk of `size` bytes in a new folder; needs root. When the mount goes, so do the device and the bytes.

    The file has no name while it is used, and the device ends with its last use, so that a killed run leaves at most a
    mount. The device reads past the page cache of its file, which would otherwise hold all of it a second time.
    """
    image, place = folder / "image", folder / "disk"
    place.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(size)
    _run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image))
    device = _run("losetup", "--find", "--show", "--direct-io=on", str(image))
    try:
        _run("mount", "-o", "noatime", device, str(place))
    finally:
        _run("losetup", "--detach", device)
        image.unlink()
    try:
        yield LoopDisk(place, Path(device).name)
    finally:
        _run("umount", str(place))


def drop_caches() -> None:
    """Write back what is dirty, and forget what the page cache has of any file."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
