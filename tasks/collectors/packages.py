"""Packages of the workload's environment (runbook §4, `pip freeze`), read from dist-info: nothing is run."""

from collections.abc import Iterator
from contextlib import suppress
from email.parser import BytesHeaderParser
from pathlib import Path

from tasks.collectors.collector import Collector, Made, NothingThere, Target


def folders_of(target: Target) -> list[Path]:
    """The site-packages folders beside the workload's interpreter, each once however it is reached."""
    prefix = (Path(target.root) / target.interpreter).parent.parent
    found = [folder.resolve() for folder in sorted(prefix.glob("lib*/python*/site-packages")) if folder.is_dir()]
    if not found:
        raise NothingThere(f"no site-packages under {prefix}")
    return list(dict.fromkeys(found))


def installed(target: Target) -> dict[str, str]:
    """Names and versions."""
    return dict(sorted(named for folder in folders_of(target) for named in _named(folder)))


def _named(folder: Path) -> Iterator[tuple[str, str]]:
    """As each package's metadata says, else as its folder is called. Bytes: old metadata is not always UTF-8."""
    for info in (*folder.glob("*.dist-info"), *folder.glob("*.egg-info")):
        name, _, version = info.stem.partition("-")
        fields = BytesHeaderParser().parsebytes(_metadata(info))
        yield str(fields.get("Name", name)).lower().replace("_", "-"), str(fields.get("Version", version or "?"))


def _metadata(info: Path) -> bytes:
    for path in (info / "METADATA", info / "PKG-INFO", info):
        with suppress(OSError):
            return path.read_bytes()
    return b""


def make(target: Target) -> bytes:
    """One name==version a line, as `pip freeze` prints them."""
    return "".join(f"{name}=={version}\n" for name, version in installed(target).items()).encode()


COLLECTOR = Collector(
    name="packages",
    answers="Which packages did the workload run with?",
    order=50,
    sources=(Made(make, "pip_freeze.txt"),),
    needed=True,
)
