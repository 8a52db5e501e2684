"""Hold the blocks that a run by hand reads from files, without the Prefect server that people deploy to.

See docs/adr/0022.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from prefect.settings import Settings
    from prefect.settings.models.api import APISettings

    from blocks.workload import Workload


@dataclass(frozen=True)
class LocalConfig:
    """A workload, the fields of a store, and the settings of the person who runs it, which may name their server."""

    workload: "Workload"
    store: Mapping[str, Any]
    settings: "Settings"


_GIVEN: Final = ContextVar[LocalConfig | None]("given", default=None)


@contextmanager
def using_local_config(config: LocalConfig) -> Iterator[None]:
    """Make these the blocks of every name, while the body runs and in the threads that Prefect starts for it."""
    token = _GIVEN.set(config)
    try:
        yield
    finally:
        _GIVEN.reset(token)


def local_config() -> LocalConfig | None:
    """Return the blocks of a run by hand; None in a run of a server."""
    return _GIVEN.get()


@contextmanager
def own_server() -> Iterator[bool]:
    """Use the server with people's deployments: the run's own, or by hand the person's. False if none is known.

    Without a named one Prefect's client would start a server of its own, and leave it running.
    """
    from prefect.settings import get_current_settings

    config = local_config()
    if config is None:
        yield get_current_settings().api.url is not None
        return
    api = config.settings.api
    with asking(api):
        yield api.url is not None


@contextmanager
def asking(api: "APISettings") -> Iterator[None]:
    """Let clients ask this server while the body runs. Prefect's own `temporary_settings` reads every setting anew."""
    from prefect.context import SettingsContext, get_settings_context

    now = get_settings_context()
    with SettingsContext(profile=now.profile, settings=now.settings.model_copy(update={"api": api})):
        yield
