"""Collect path, version and digests of the Python that the workload runs, and of its library, without running it."""

import os
import re
import time
from pathlib import Path
from typing import Final

from tasks.acquisition.collector import Collector, FunctionOutput, NothingThere, Target
from tasks.acquisition.reading import digest_of
from tasks.collectors.environment import python_version, pyvenv_cfg
from tasks.custody.evidence.redact import redact
from tasks.custody.store.manifest import canonical

_SHARE: Final = 0.5
_NAMED: Final = re.compile(r"python(\d+\.\d+)")


def make(target: Target) -> bytes:
    """Return the path that the workload names, the file that it leads to, and that file's digest."""
    named = Path(target.root) / target.interpreter
    if not os.access(named, os.F_OK):
        raise NothingThere(f"no interpreter at {named}: set `interpreter` in the workload block")
    real = Path(os.path.realpath(named))
    status = real.stat()
    until = time.monotonic() + target.seconds * _SHARE
    libraries = sorted((real.parent.parent / "lib").glob("libpython*.so*"))
    by_name = _NAMED.fullmatch(real.name)
    return canonical(
        {
            "path": str(named),
            "leads_to": str(real),
            "version": python_version(target) or (by_name and by_name[1]) or "not known",
            "bytes": status.st_size,
            "mtime_ns": status.st_mtime_ns,
            "sha256": digest_of(real, until) or "not known",
            "libraries": {str(path): digest_of(path, until) or "not known" for path in libraries},
            "pyvenv_cfg": _config(target),
        }
    )


def _config(target: Target) -> str:
    try:
        return redact(pyvenv_cfg(target), digests=True)
    except FileNotFoundError:
        return "none"
    except OSError as error:
        return f"not read: {error.strerror or error}"


COLLECTOR = Collector(
    name="interpreter",
    answers="Which Python ran the workload, byte for byte?",
    order=54,
    sources=(FunctionOutput(make, "interpreter.json"),),
    of_interpreter=True,
)
