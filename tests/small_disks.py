"""A real file system of a few MiB: as root a mount of our own, else one in a namespace that we may look into."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 1 << 20


@contextmanager
def small_disk(place: Path, mib: int) -> Iterator[Path]:
    """An empty tmpfs, gone afterwards."""
    place.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={mib}m,mode=700", "small", str(place)]
    if os.geteuid() == 0:
        subprocess.run(["mount", *options], check=True)
        try:
            yield place
        finally:
            subprocess.run(["umount", "--lazy", str(place)], check=True)
        return
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", 'mount "$@" && echo ready && cat', "sh"]
    with subprocess.Popen([*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as keeper:
        assert keeper.stdout
        assert keeper.stdin
        assert keeper.stdout.readline() == b"ready\n"
        yield Path(f"/proc/{keeper.pid}/root{place}")
        keeper.stdin.close()


def make_read_only(disk: Path) -> None:
    """As the kernel does it with a disk that has errors."""
    command = ["mount", "-o", "remount,ro"]
    if os.geteuid() == 0:
        subprocess.run([*command, str(disk)], check=True)
    else:
        pid, place = disk.parts[2], Path("/", *disk.parts[4:])
        entered = ["nsenter", "--target", pid, "--user", "--preserve-credentials", "--mount"]
        subprocess.run([*entered, *command, str(place)], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """Fill it with a file of somebody else, but for so many bytes."""
    about = os.statvfs(disk)
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        if size := about.f_bavail * about.f_frsize - leave:
            os.posix_fallocate(file.fileno(), 0, size)
    return ballast
