"""Obey the signed frames of fleets: freeze at once, answer, and wait for the run of the host; thaw if none comes.

See docs/adr/0049.
"""

import asyncio
import json
import random
import socket
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from anyio import to_thread
from prefect.client.orchestration import PrefectClient
from prefect.events import Event
from prefect.logging import get_logger

from tasks.custody.fleet.frame import EVENT_ANSWER, RESOURCE, Frame, FrameAnswer, verify_frame, why_ignored
from tasks.custody.fleet.host_order import Order
from tasks.prestart.freeze import freeze_until_its_run
from tasks.prestart.journal import EarlyFreeze, not_taken_over, thaw_left
from tasks.prestart.known_run import is_over
from tasks.system.files.atomic_files import read_ours, write_whole
from tasks.system.installation import FLEET_SIGNERS
from tasks.worker.early import environment_of_worker
from tasks.worker.repeat_until import repeat_until

logger = get_logger(__name__)

WAITING: Final = 20
"""Frames that wait to be verified; what comes meanwhile is ignored, and its hosts are frozen by their runs."""
_SPARED_SECONDS: Final = 0.05
"""After a frame that was refused: a flood of them leaves the worker its time for the events of runs."""
_QUIET_SECONDS: Final = 60.0
_REMEMBERED: Final = 1000
_SPREAD_SECONDS: Final = 0.03
"""Between two answers to a frame, on average: what a server pays for one."""
WATCH_SECONDS: Final = 10.0
"""Between two looks at what waits for its run."""
_Key = tuple[str, str]
"""A fleet's incident and a host of it."""


class Frames:
    """The frames that a worker of this pool and these queues hears."""

    def __init__(self, pool: str, queues: Collection[str], time: Callable[[], datetime], home: Path) -> None:
        """Remember what an earlier worker with this `home` has obeyed. `time` is the server's."""
        self._pool, self._queues, self._time, self._file = pool, queues, time, home / "evacuation-frames.json"
        self._used = deque[str](maxlen=_REMEMBERED)
        with suppress(OSError, ValueError, TypeError):
            self._used.extend(map(str, json.loads(read_ours(self._file))))
        self._held = dict[_Key, tuple[str, EarlyFreeze]]()
        self._begun = deque[_Key](maxlen=_REMEMBERED)
        self._waiting = asyncio.Queue[tuple[str, str]](WAITING)
        self._logged_at = dict[str, float]()
        self._signers: tuple[int, tuple[Any, ...], list[str]] = (-1, (), [])

    def hear(self, payload: Any) -> None:
        """Take an event: what is no frame of an allowed key costs microseconds."""
        try:
            if not (why := why_ignored(payload, self._read_allowed()[1])):
                self._waiting.put_nowait((payload["frame"], payload["signature"]))
        except asyncio.QueueFull:
            why = "too many come at once"
        except Exception as error:  # noqa: BLE001  the file is read again
            why = f"{FLEET_SIGNERS} cannot be used: {error}"
        if why:
            self._log_ignored(why)

    async def obey(self, client: PrefectClient) -> NoReturn:
        """Obey each frame that stands, for ever."""
        while True:
            text, signature = await self._waiting.get()
            try:
                for answer in await to_thread.run_sync(lambda *both: list(self._obey(*both)), text, signature):
                    await answer_to(client, *answer)
            except Exception as error:  # noqa: BLE001  the next one may be good
                self._log_ignored(str(error))
                await asyncio.sleep(_SPARED_SECONDS)
            finally:
                self._waiting.task_done()

    async def watch(self, client: PrefectClient) -> None:
        """Thaw what was frozen for a run that is over or never was, for ever. An unknown state changes nothing."""

        async def look() -> None:
            for key in [*self._held]:
                with suppress(Exception):
                    if await to_thread.run_sync(self._is_over, key):
                        answer = await to_thread.run_sync(self._thaw, key, "its run is over or never was")
                        await answer_to(client, key[0], answer, 1)

        await repeat_until(look, lambda: WATCH_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311  spreads many workers

    def given_to_run(self, early: EarlyFreeze, order: Mapping[str, Any] | None) -> EarlyFreeze:
        """Return what a run's own early freeze has frozen with what was frozen of its workload before it came.

        A frame of the order's incident that comes later is late.
        """
        with suppress(KeyError, TypeError, ValueError):
            if frame := Order.of(order):
                self._begun.append((frame.fleet, frame.host))
        for key in [key for key, (_, held) in self._held.items() if held.path == early.path]:
            _, held = self._held.pop(key)
            names = ("frozen", "groups", "above", "losses", "containers")
            joined = {name: getattr(held, name) + getattr(early, name) for name in names}
            early = replace(early, docker_host=held.docker_host or early.docker_host, **joined)
        return early

    def _read_allowed(self) -> tuple[tuple[Any, ...], list[str]]:
        """Return who may sign, and how their signatures begin. The file is read again once it has changed."""
        from tasks.custody.audit.signers import read_signers
        from tasks.custody.store.signature import opening

        if (changed := FLEET_SIGNERS.stat().st_mtime_ns) != self._signers[0]:
            signers = read_signers(read_ours(FLEET_SIGNERS).decode())
            self._signers = (changed, signers, [opening(each.key) for each in signers])
        return self._signers[1:]

    def _log_ignored(self, why: str) -> None:
        """Log it, each reason once a minute: a flood must not fill the log."""
        if time.monotonic() - self._logged_at.get(why, -_QUIET_SECONDS) >= _QUIET_SECONDS:
            self._logged_at[why] = time.monotonic()
            logger.warning("A frame is ignored, nothing is frozen or thawed for it: %s. フレームを無視しました。", why)

    def _obey(self, text: str, signature: str) -> Iterator[tuple[str, FrameAnswer, int]]:
        """Do what the frame says, and yield what `answer_to` takes.

        Raises ValueError for one that is not to be obeyed, and leaves all as it was.
        """
        frame = verify_frame(text, signature, self._read_allowed()[0])
        if frame.nonce in self._used:
            raise ValueError(f"it was used before: {frame.fleet}")
        names = [name for name, host in frame.hosts.items() if (frame.fleet, name) in self._held or self._serves(host)]
        if not names:
            raise ValueError(f"it is for none of this worker's hosts: {frame.fleet}")
        self._used.append(frame.nonce)
        with suppress(OSError):  # without it a restarted worker would obey it once more, within its minute
            write_whole(self._file, json.dumps([*self._used]).encode(), 0o600, flush=False)
        for name in names:
            try:
                answer = self._carry_out(frame, (frame.fleet, name))
            except Exception as reason:  # noqa: BLE001  its run freezes it, or tells what is wrong
                logger.warning("A frame was refused for %s: %s", name, reason)
                answer = FrameAnswer(name, "refused", 0, f"{type(reason).__name__}: {reason}")
            yield frame.fleet, answer, len(frame.hosts)

    def _serves(self, host: Mapping[str, Any]) -> bool:
        served = host["pool"] == self._pool and (not self._queues or host["queue"] in self._queues)
        return served and bool(host["workload"].get("host") == socket.gethostname())

    def _carry_out(self, frame: Frame, key: _Key) -> FrameAnswer:
        now = self._time()
        if not frame.stands(now):
            raise ValueError(f"it stands from {frame.not_before} to {frame.not_after}; it came at {now}")
        if frame.act == "thaw":
            self._begun.append(key)  # a frame to freeze that comes later is older
            return self._thaw(key, "the fleet is thawed")
        if key in self._begun:
            raise ValueError("its run came before, or it was thawed")
        early = freeze_until_its_run(frame.hosts[key[1]]["workload"])
        self._held[key] = frame.run, early
        logger.warning("%s: %s is frozen by a frame, %d processes, and waits for its run", *key, len(early.frozen))
        return FrameAnswer(key[1], "frozen", len(early.frozen))

    def _is_over(self, key: _Key) -> bool:
        run, early = self._held[key]
        if not not_taken_over(early).holds:  # its run has it, or a person has thawed it
            del self._held[key]
            return False
        return is_over({**environment_of_worker(), "PREFECT__FLOW_RUN_ID": run}, f"{key[0]}:{key[1]}:1")

    def _thaw(self, key: _Key, why: str) -> FrameAnswer:
        """Thaw it. Raises KeyError if no frame has frozen it, or a run has it by now."""
        _, early = self._held.pop(key)
        thaw_left(early, lambda: True)
        count = len(early.frozen) - len(not_taken_over(early).frozen)
        logger.warning("%s: %s is thawed, %d processes: %s", *key, count, why)
        return FrameAnswer(key[1], "thawed", count, why)


async def answer_to(client: PrefectClient, fleet: str, answer: FrameAnswer, hosts: int) -> None:
    """Tell the server, which may be gone: what is frozen stays so.

    The event has the time of now, and is sent some moments later where the frame is for many hosts: the answers of all
    at once would keep the server from delivering the other frames of the fleet.
    """
    payload = {"host": answer.host, "done": answer.done, "processes": answer.processes, "why": answer.why}
    event = Event(event=EVENT_ANSWER, resource={"prefect.resource.id": f"{RESOURCE}.{fleet}"}, payload=payload)
    await asyncio.sleep(random.uniform(0, (hosts - 1) * _SPREAD_SECONDS))  # noqa: S311  spreads many workers
    with suppress(Exception):
        await client.request("POST", "/events", json=[event.model_dump(mode="json")])
