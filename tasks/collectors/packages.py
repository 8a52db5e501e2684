"""Collect the packages of the workload's environment (runbook §4, `pip freeze`) from dist-info, without running it."""

import os
from collections.abc import Iterator
from contextlib import suppress
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Final

from tasks.acquisition.collector import Collector, FunctionOutput, NothingThere, Target, Unanswered
from tasks.acquisition.reading import inside_of, read_inside
from tasks.collectors.requirement import requirement
from tasks.custody.evidence.acquisition import Outcome

_METADATA_BYTES: Final = 1 << 20


def prefix_of(target: Target) -> Path:
    """Return the folder of the environment that the block's interpreter is in."""
    return (Path(target.root) / target.interpreter).parent.parent


def bounds_of(target: Target) -> Path:
    """Return the folder that no link may lead out of: the root, or an environment that lies elsewhere."""
    prefix = Path(os.path.normpath(prefix_of(target)))
    root = Path(os.path.normpath(target.root))
    return root if prefix.is_relative_to(root) else prefix


def folders_of(target: Target) -> list[Path]:
    """Return the site-packages folders of the workload's interpreter, each once."""
    prefix, bounds = prefix_of(target), bounds_of(target)
    found = [folder for folder in sorted(prefix.glob("lib*/python*/site-packages")) if folder.is_dir()]
    if not found:
        cure = 'set `interpreter` in the workload block; if it has no Python: may_be_missing = ["packages"]'
        raise NothingThere(f"no site-packages under {prefix}: {cure}")
    inside = [folder.resolve() for folder in found if inside_of(bounds, folder) is not None]
    if not inside:
        reason = f"{found[0]} leads out of {bounds}; name the interpreter by its real path in the workload block"
        raise Unanswered(Outcome.DENIED, reason)
    return list(dict.fromkeys(inside))


def read_versions(target: Target) -> dict[str, str]:
    """Return versions by name."""
    return dict(sorted((name.lower().replace("_", "-"), version) for _, name, version in _find_packages(target)))


def _find_packages(target: Target) -> Iterator[tuple[Path, str, str]]:
    """Yield each package's folder, its name and version: by its metadata, else by the folder's name."""
    bounds, folders = bounds_of(target), folders_of(target)
    for info in (each for end in ("dist", "egg") for folder in folders for each in folder.glob(f"*.{end}-info")):
        name, _, version = info.stem.partition("-")
        fields = BytesHeaderParser().parsebytes(_metadata(bounds, info))
        yield info, str(fields.get("Name", name)), str(fields.get("Version", version or "?"))


def _metadata(bounds: Path, info: Path) -> bytes:
    for path in (info / "METADATA", info / "PKG-INFO", info):
        with suppress(OSError):
            return read_inside(bounds, path, _METADATA_BYTES)
    return b""


def make(target: Target) -> bytes:
    """Return what `pip freeze --all` prints: name==version, name @ URL, or -e with a folder or repository."""
    bounds = bounds_of(target)
    every = sorted(_find_packages(target), key=lambda each: each[1].lower())
    lines = dict.fromkeys(requirement(bounds, *each) for each in every)
    return "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")


COLLECTOR = Collector(
    name="packages",
    answers="Which packages did the workload run with?",
    order=50,
    sources=(FunctionOutput(make, "pip_freeze.txt"),),
    needed=True,
    of_interpreter=True,
)
