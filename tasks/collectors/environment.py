"""envinfo.json: versions, commit, host and clock (runbook §0). Read from files: nothing of the workload is run."""

import os
import platform
import re
import time
from datetime import UTC, datetime
from pathlib import Path

from tasks.collectors.collector import Collector, Made, NothingThere, Target
from tasks.collectors.packages import installed
from tasks.custody.manifest import canonical

_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def commit(root: Path) -> str | None:
    """The checked-out commit, read from .git as files; None where there is no repository, or something else in it."""
    named = _named_commit(root)
    return named if named and _SHA.fullmatch(named) else None


def _named_commit(root: Path) -> str | None:
    git = root / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        if ".." in name.split("/"):
            return None
        loose = git / name
        if loose.is_file():
            return loose.read_text().strip()
        lines = (git / "packed-refs").read_text().splitlines()
        return next((line.split()[0] for line in lines if line.endswith(f" {name}")), None)
    except (OSError, ValueError):
        return None


def _python(target: Target) -> str | None:
    config = (Path(target.root) / target.interpreter).parent.parent / "pyvenv.cfg"
    if not config.is_file():
        return None
    pairs = dict(line.partition("=")[::2] for line in config.read_text(errors="replace").splitlines())
    stripped = {key.strip(): value.strip() for key, value in pairs.items()}
    return stripped.get("version_info") or stripped.get("version")


def make(target: Target) -> bytes:
    """The runbook's fields, and those that tie them to a host and its clock."""
    try:
        packages = installed(target)
    except NothingThere:
        packages = {}
    full = commit(Path(target.root))
    about = {
        "incident_id": target.incident,
        "ts_utc": datetime.now(UTC).isoformat(),
        "python": _python(target),
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
    return canonical(about)


COLLECTOR = Collector(
    name="environment",
    answers="Which versions, which commit, which host, what time was it there?",
    order=51,
    sources=(Made(make, "envinfo.json"),),
    needed=True,
)
