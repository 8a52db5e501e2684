"""Collect envinfo.json: versions, commit, host and clock (runbook §0). Nothing of the workload is run for it."""

import os
import platform
import re
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from tasks.acquisition.collector import Collector, FunctionOutput, NothingThere, Target, Unanswered
from tasks.acquisition.reading import read_below, read_inside
from tasks.collectors.packages import bounds_of, prefix_of, read_versions
from tasks.custody.store.manifest import canonical

_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_MOST = 64 << 20
_CONFIG_BYTES = 1 << 16


def commit(root: Path, git: str = ".git") -> str | None:
    """Return the checked-out commit, read from the files of `git`; None without a valid repository."""
    named = head(root, git)
    if named and named.startswith("refs/"):
        named = _of_ref(root, git, named)
    return named if named and _SHA.fullmatch(named) else None


def head(root: Path, git: str = ".git") -> str | None:
    """Return what HEAD says: the full name of a branch, or a commit."""
    try:
        return _text(root, f"{git}/HEAD").removeprefix("ref: ")
    except (OSError, ValueError):
        return None


def _of_ref(root: Path, git: str, name: str) -> str | None:
    if ".." in name.split("/"):
        return None
    with suppress(OSError, ValueError):
        return _text(root, f"{git}/{name}")
    with suppress(OSError, ValueError):
        lines = _text(root, f"{git}/packed-refs").splitlines()
        return next((line.split()[0] for line in lines if line.endswith(f" {name}")), None)
    return None


def _text(root: Path, name: str) -> str:
    return read_below(root, name, _MOST).decode().strip()


def pyvenv_cfg(target: Target) -> str:
    """Return the virtual environment's pyvenv.cfg. Raises OSError if it is unreadable or leads out of the workload."""
    return read_inside(bounds_of(target), prefix_of(target) / "pyvenv.cfg", _CONFIG_BYTES).decode(errors="replace")


def python_version(target: Target) -> str | None:
    """Return the Python version from pyvenv.cfg."""
    try:
        config = pyvenv_cfg(target)
    except OSError:
        return None
    pairs = dict(line.partition("=")[::2] for line in config.splitlines())
    stripped = {key.strip(): value.strip() for key, value in pairs.items()}
    return stripped.get("version_info") or stripped.get("version")


def make(target: Target) -> bytes:
    """Return the runbook's fields, and those that identify the host and its clock."""
    try:
        packages = read_versions(target)
    except (NothingThere, Unanswered):
        packages = {}
    full = commit(Path(target.root))
    fields = {
        "incident_id": target.incident,
        "ts_utc": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "python": python_version(target),
        "sklearn": packages.get("scikit-learn"),
        "pandas": packages.get("pandas"),
        "joblib": packages.get("joblib"),
        "git_commit": full[:7] if full else None,
        "git_commit_full": full,
        "host": platform.node(),
        "kernel": platform.release(),
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "uptime_seconds": time.clock_gettime(time.CLOCK_BOOTTIME),
        "timezone": list(time.tzname),
        "collected_by": {"uid": os.geteuid(), "python": platform.python_version()},
    }
    return canonical(fields)


COLLECTOR = Collector(
    name="environment",
    answers="Which versions, which commit, which host, what time was it there?",
    order=23,
    sources=(FunctionOutput(make, "envinfo.json"),),
    needed=True,
    early=True,
    of_interpreter=True,
)
