"""A real file system of a few MiB: as root a mount of our own, else one in a namespace that we may look into."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

MIB = 1 << 20


@contextmanager
def small_disk(place: Path, mib: int, inodes: int = 0) -> Iterator[Path]:
    """An empty tmpfs, gone afterwards. As many inodes as it likes if none are given."""
    place.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={mib}m,nr_inodes={inodes},mode=700", "small", str(place)]
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


_WITHOUT_ROOM = """
set -e
mount --bind "$1" "$1"
mount -o remount,bind,ro /
if mountpoint -q /tmp; then mount -o remount,bind,ro /tmp; fi
for place in "$2" /dev/shm /run /var/tmp; do
    mount -t tmpfs -o "$3" full "$place"
    (head -c 4096 /dev/zero >"$place/ballast") 2>/dev/null || true
done
shift 3
exec "$@"
"""


def without_room(kept: Path, evidence: Path, tmpfs: str) -> Sequence[str]:
    """What runs the command behind it where no folder takes a byte but the kept one, less its evidence. Needs root.

    The disk is read-only; evidence and memory are full file systems with these options: `size=4k` has no bytes left,
    `nr_inodes=1` no inodes.
    """
    return ["unshare", "--mount", "sh", "-c", _WITHOUT_ROOM, "sh", str(kept), str(evidence), tmpfs]
