"""Sources of evidence, one module each, found by discovery. No Prefect; nothing of the workload is run."""

import importlib
import pkgutil
from functools import cache

from tasks.acquisition.collector import Collector


@cache
def discover() -> dict[str, Collector]:
    """Return all collectors by name, in the order of volatility."""
    names = (module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    modules = (importlib.import_module(f"{__name__}.{name}") for name in names)
    found = [module.COLLECTOR for module in modules if hasattr(module, "COLLECTOR")]
    return {collector.name: collector for collector in sorted(found, key=lambda each: (each.order, each.name))}


def find_collector(name: str) -> Collector:
    """Return one collector without importing the others: its module has its name."""
    collector: Collector = importlib.import_module(f"{__name__}.{name}").COLLECTOR
    return collector
