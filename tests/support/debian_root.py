"""A Debian root made of packages, once a checkout: as a tar for a container image, as a folder for a host's disk."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tasks.system.managed_process import ManagedProcessError

CACHE: Final = Path(__file__).resolve().parents[2] / "build" / "cache"
BUNDLE: Final = "/etc/ssl/certs/ca-certificates.crt"
_SUITE: Final = "trixie"
_NEEDLESS: Final = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")


def debian_tar(packages: Sequence[str]) -> Path:
    """Make the root as a tar, by one of those who want it at the same time; the path of a finished one."""
    return _cached("base-{}.tar", packages, _pack)


def debian_folder(packages: Sequence[str]) -> Path:
    """Make the root as a folder, the same way. Nobody may change anything in it."""
    return _cached("root-{}", packages, Path.rename)


def _cached(name: str, packages: Sequence[str], finish: Callable[[Path, Path], object]) -> Path:
    recipe = hashlib.sha256(repr((_SUITE, tuple(packages), _NEEDLESS, _trust())).encode()).hexdigest()[:12]
    made = CACHE / name.format(recipe)
    CACHE.mkdir(parents=True, exist_ok=True)
    with _alone(CACHE / "base.lock"):
        if not made.exists():
            folder = made.with_suffix(".making")
            _bootstrap(folder, packages)
            finish(folder, made)
    return made


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _trust() -> bytes:
    """The certificates that this machine trusts: its package index may be behind one of its own."""
    place = Path(os.environ.get("PIP_CERT") or BUNDLE)
    return place.read_bytes() if place.exists() else b""


def _bootstrap(folder: Path, packages: Sequence[str]) -> None:
    """Debian's packages into a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", _SUITE, str(folder)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ManagedProcessError(
            f"expected debootstrap to make {folder}; it ended with {done.returncode}:\n{done.stdout[-1500:]}"
        )
    for name in _NEEDLESS:
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "var/lib/apt/lists/partial").mkdir(parents=True)
    (folder / BUNDLE.lstrip("/")).write_bytes(_trust())


def _pack(folder: Path, made: Path) -> None:
    """The folder into a tar that takes its name when it is whole."""
    part = made.with_suffix(".part")
    with tarfile.open(part, "w") as tar:
        tar.add(folder, arcname=".", recursive=True)
    part.replace(made)
    shutil.rmtree(folder)
