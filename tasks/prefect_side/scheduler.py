"""Pause and resume the Prefect deployments, work queues and pools that start training."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from tasks.custody.containment.pause import UNKNOWN, Launcher, LauncherKind, LauncherState
from tasks.custody.incident.log import CustodyLog
from tasks.prefect_side.local_config import own_server

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import WorkQueue

States: TypeAlias = tuple[LauncherState, ...]

NO_SERVER: Final = "no Prefect server is known that could be asked; PREFECT_API_URL names it"


class Scheduler(Protocol):
    """What the steps may do on Prefect's side; a dry run has another implementation."""

    def list_states(self, launchers: Iterable[Launcher], seconds: float) -> States:
        """Return the state of each, or why it could not be read within `seconds`. Never raises."""

    def set_paused(self, launchers: Iterable[Launcher], seconds: float, *, paused: bool) -> States:
        """Pause or resume each and read it again; return each state, or why that failed. Never raises."""


class PrefectScheduler:
    """The Prefect server of this run, with time limits, because the server may be the casualty."""

    def list_states(self, launchers: Iterable[Launcher], seconds: float) -> States:
        """Ask one after the other: SQLite under the server takes one writer at a time."""
        return asyncio.run(_each(_is_paused, launchers, seconds))

    def set_paused(self, launchers: Iterable[Launcher], seconds: float, *, paused: bool) -> States:
        """Set each, and prove it by reading it again."""

        async def act(client: "PrefectClient", launcher: Launcher) -> bool:
            await _set_paused(client, launcher, paused=paused)
            return await _is_paused(client, launcher)

        return asyncio.run(_each(act, launchers, seconds))


async def _each(
    act: Callable[["PrefectClient", Launcher], Awaitable[bool]], launchers: Iterable[Launcher], seconds: float
) -> States:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    late = f"the Prefect server did not answer in {seconds:.0f} s"
    states = {launcher: LauncherState(launcher, None, late) for launcher in launchers}

    async def one(client: "PrefectClient", launcher: Launcher) -> None:
        try:
            states[launcher] = LauncherState(launcher, await act(client, launcher))
        except ObjectNotFound:
            states[launcher] = LauncherState(launcher, None, UNKNOWN)
        except Exception as error:  # noqa: BLE001  containment goes on after any error of server or network
            states[launcher] = LauncherState(launcher, None, f"{type(error).__name__}: {error}"[:300])

    with own_server() as has_server:
        if not has_server:
            return tuple(LauncherState(launcher, None, NO_SERVER) for launcher in states)
        if states:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds), get_client() as client:
                    for launcher in states:
                        await one(client, launcher)
    return tuple(states.values())


async def _is_paused(client: "PrefectClient", launcher: Launcher) -> bool:
    if launcher.kind is LauncherKind.DEPLOYMENT:
        return (await client.read_deployment_by_name(launcher.name)).paused
    if launcher.kind is LauncherKind.POOL:
        return (await client.read_work_pool(launcher.name)).is_paused
    return (await _queue(client, launcher.name)).is_paused


async def _queue(client: "PrefectClient", name: str) -> "WorkQueue":
    pool, slash, queue = name.partition("/")
    if not (pool and slash and queue):
        raise ValueError("expected pool/queue")
    return await client.read_work_queue_by_name(queue, pool)


async def _set_paused(client: "PrefectClient", launcher: Launcher, *, paused: bool) -> None:
    from prefect.client.schemas.actions import WorkPoolUpdate

    if launcher.kind is LauncherKind.DEPLOYMENT:
        deployment = await client.read_deployment_by_name(launcher.name)
        await (client.pause_deployment if paused else client.resume_deployment)(deployment.id)
    elif launcher.kind is LauncherKind.POOL:
        await client.update_work_pool(launcher.name, WorkPoolUpdate(is_paused=paused))
    else:
        await client.update_work_queue((await _queue(client, launcher.name)).id, is_paused=paused)


class RehearsalScheduler:
    """Read the real Prefect server and pause nothing on it."""

    def __init__(self, scheduler: Scheduler, log: CustodyLog) -> None:
        """Take the real scheduler, and the log for what would be done."""
        self._scheduler, self._log = scheduler, log
        self._set: dict[Launcher, bool] = {}

    def list_states(self, launchers: Iterable[Launcher], seconds: float) -> "States":
        """Return each as it would be."""
        states = self._scheduler.list_states(launchers, seconds)
        return tuple(replace(state, paused=self._set.get(state.launcher, state.paused)) for state in states)

    def set_paused(self, launchers: Iterable[Launcher], seconds: float, *, paused: bool) -> "States":
        """Record the pause or the release."""
        del seconds
        for launcher in launchers:
            self._log.write("would", str(launcher), act="pause" if paused else "resume")
            self._set[launcher] = paused
        return tuple(LauncherState(launcher, paused) for launcher in launchers)
