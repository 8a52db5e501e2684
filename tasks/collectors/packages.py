"""Packages of the workload's environment (runbook §4, `pip freeze`), read from dist-info: nothing is run."""

from importlib.metadata import Distribution, distributions
from pathlib import Path

from tasks.collectors.collector import Collector, Made, NothingThere, Target


def installed(target: Target) -> dict[str, str]:
    """Names and versions, from the site-packages folders beside the workload's interpreter."""
    prefix = (Path(target.root) / target.interpreter).parent.parent
    folders = [str(folder) for folder in sorted(prefix.glob("lib*/python*/site-packages")) if folder.is_dir()]
    if not folders:
        raise NothingThere(f"no site-packages under {prefix}")
    return dict(sorted(_named(distribution) for distribution in distributions(path=folders)))


def _named(distribution: Distribution) -> tuple[str, str]:
    return str(distribution.name or "?").lower().replace("_", "-"), str(distribution.version or "?")


def make(target: Target) -> bytes:
    """One name==version a line, as `pip freeze` prints them."""
    return "".join(f"{name}=={version}\n" for name, version in installed(target).items()).encode()


COLLECTOR = Collector(
    name="packages",
    answers="Which packages did the workload run with?",
    order=50,
    sources=(Made(make, "pip_freeze.txt"),),
)
