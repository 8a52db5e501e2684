"""A Debian root made of packages, once a checkout: as a tar for a container image, as a folder for a host's disk."""

import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from tasks.system.managed_process import ManagedProcessError
from tests.support.made_once import made_once

BUNDLE: Final = "/etc/ssl/certs/ca-certificates.crt"
_SUITE: Final = "trixie"
_NEEDLESS: Final = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")


def debian_tar(packages: Sequence[str]) -> Path:
    """Return the root as a tar."""
    return made_once(f"base-{_recipe(packages)}.tar", partial(_pack, packages))


def debian_folder(packages: Sequence[str]) -> Path:
    """Return the root as a folder, in which nobody may change anything."""
    return made_once(f"root-{_recipe(packages)}", partial(_bootstrap, packages))


def _recipe(packages: Sequence[str]) -> str:
    return hashlib.sha256(repr((_SUITE, tuple(packages), _NEEDLESS, _trust())).encode()).hexdigest()[:12]


def _trust() -> bytes:
    """The certificates that this machine trusts: its package index may be behind one of its own."""
    place = Path(os.environ.get("PIP_CERT") or BUNDLE)
    return place.read_bytes() if place.exists() else b""


def _bootstrap(packages: Sequence[str], folder: Path) -> None:
    """Debian's packages into a folder."""
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


def _pack(packages: Sequence[str], path: Path) -> None:
    """Debian's packages into a tar."""
    folder = path.with_suffix(".making")
    # One that was broken off may have /proc and /sys of this machine mounted in it.
    subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=False, capture_output=True)
    _bootstrap(packages, folder)
    with tarfile.open(path, "w") as tar:
        tar.add(folder, arcname=".", recursive=True)
    shutil.rmtree(folder)
