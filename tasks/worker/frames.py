"""Obey the signed frames of fleets: freeze at once, answer, and wait for the run of the host; thaw if none comes."""

import asyncio
import json
import random
import socket
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from anyio import to_thread
from prefect.client.orchestration import PrefectClient
from prefect.events import Event
from prefect.logging import get_logger

from tasks.custody.containment.process import Identity
from tasks.custody.fleet.frame import ANSWER, RESOURCE, Answer, Frame, FramedHost, verified, why_ignored
from tasks.custody.fleet.order import Order
from tasks.prestart.freeze import freeze_until_its_run
from tasks.prestart.journal import EarlyFreeze, not_taken_over, thaw_left
from tasks.prestart.known_run import is_over
from tasks.system.atomic_files import read_ours, rows_of, write_whole
from tasks.system.installation import FLEET_SIGNERS
from tasks.worker.early import environment_of_worker

logger = get_logger(__name__)

_WAITING: Final = 20
"""Frames that wait to be verified; what comes meanwhile is ignored, and its hosts are frozen by their runs."""
_SPARED_SECONDS: Final = 0.05
"""After a frame that was refused: a flood of them leaves the worker its time for the events of runs."""
_QUIET_SECONDS: Final = 60.0
_REMEMBERED: Final = 1000
WATCH_SECONDS: Final = 10.0
"""Between two looks at what waits for its run."""
_OVER: Final = "its run is over or never was"


@dataclass(frozen=True)
class Held:
    """What is frozen for a host of a fleet's incident until its run comes; `run` is the fleet's."""

    fleet: str
    host: str
    run: str
    early: EarlyFreeze

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> "Held":
        """Parse a row of the file."""
        early = said["early"]
        frozen, above = (tuple(Identity(**each) for each in early[name]) for name in ("frozen", "above"))
        freeze = EarlyFreeze(Path(early["path"]), frozen, tuple(early["groups"]), None, above, tuple(early["losses"]))
        return cls(said["fleet"], said["host"], said["run"], freeze)


class Frames:
    """The frames that a worker of this pool and these queues hears."""

    def __init__(self, pool: str, queues: Collection[str], time: Callable[[], datetime], home: Path) -> None:
        """Take up what an earlier worker has written into `home`. `time` is the server's."""
        self._pool, self._queues, self._time = pool, queues, time
        self._file = home / "evacuation-frames.json"
        rows = rows_of(self._file, read_ours)
        self._used = deque((str(row["nonce"]) for row in rows if "nonce" in row), _REMEMBERED)
        self._held = {(each.fleet, each.host): each for row in rows if "early" in row for each in _read(row)}
        self._begun = deque[tuple[str, str]](maxlen=_REMEMBERED)
        self._waiting = asyncio.Queue[tuple[str, str]](_WAITING)
        self._told = dict[str, float]()
        self._signers: tuple[int, tuple[Any, ...], list[str]] = (-1, (), [])

    def hear(self, payload: object) -> None:
        """Take an event: what is no frame of an allowed key costs microseconds."""
        try:
            why = why_ignored(payload, self._allowed()[1])
        except Exception as error:  # noqa: BLE001  it is read again
            why = f"{FLEET_SIGNERS} cannot be used: {error}"
        if not why and isinstance(payload, Mapping):
            try:
                self._waiting.put_nowait((payload["frame"], payload["signature"]))
            except asyncio.QueueFull:
                why = "too many come at once"
        if why:
            self._ignored(why)

    async def obey(self, client: PrefectClient) -> NoReturn:
        """Obey each frame that stands, for ever."""
        while True:
            frame = await self._waiting.get()
            try:
                for fleet, answer in await to_thread.run_sync(lambda: list(self._obeyed(*frame))):  # noqa: B023
                    await answer_to(client, fleet, answer)
            except Exception as error:  # noqa: BLE001  the next one may be good
                self._ignored(str(error))
                await asyncio.sleep(_SPARED_SECONDS)
            finally:
                self._waiting.task_done()

    async def watch(self, client: PrefectClient) -> NoReturn:
        """Thaw what was frozen for a run that is over or never was, for ever. An unknown state changes nothing."""
        while True:
            await asyncio.sleep(WATCH_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311  spreads many workers, no secret
            for held in [*self._held.values()]:
                with suppress(Exception):
                    if await to_thread.run_sync(self._is_over, held):
                        await answer_to(client, held.fleet, await to_thread.run_sync(self._thawed, held, _OVER))

    def given_to_run(self, early: EarlyFreeze, order: Mapping[str, Any] | None) -> EarlyFreeze:
        """Return what a run's own early freeze has frozen with what was frozen of its workload before it came.

        A frame of the order's incident that comes later is late.
        """
        with suppress(KeyError, TypeError, ValueError):
            if known := Order.of(order):
                self._begun.append((known.fleet, known.host))
        for key, held in [*self._held.items()]:
            if held.early.path == early.path:
                del self._held[key]
                names = ("frozen", "groups", "above", "losses")
                early = replace(early, **{name: getattr(held.early, name) + getattr(early, name) for name in names})
                self._write()
        return early

    def _allowed(self) -> tuple[tuple[Any, ...], list[str]]:
        """Return who may sign, and how their signatures begin. The file is read again once it has changed."""
        from tasks.custody.audit.signers import read_signers
        from tasks.custody.store.signature import opening

        if (changed := FLEET_SIGNERS.stat().st_mtime_ns) != self._signers[0]:
            signers = read_signers(read_ours(FLEET_SIGNERS).decode())
            self._signers = (changed, signers, [opening(each.key) for each in signers])
        return self._signers[1:]

    def _ignored(self, why: str) -> None:
        """Log it, each reason once a minute: a flood must not fill the log."""
        if time.monotonic() - self._told.get(why, -_QUIET_SECONDS) >= _QUIET_SECONDS:
            self._told[why] = time.monotonic()
            logger.warning("A frame is ignored, nothing is frozen or thawed for it: %s. フレームを無視しました。", why)

    def _obeyed(self, text: str, signature: str) -> Iterator[tuple[str, Answer]]:
        """Do what the frame says. Raises ValueError for one that is not to be obeyed, and leaves all as it was."""
        frame = verified(text, signature, self._allowed()[0])
        if frame.nonce in self._used:
            raise ValueError(f"it was used before: {frame.fleet}")
        mine = [host for host in frame.hosts if self._is_mine(frame, host)]
        if not mine:
            raise ValueError(f"it is for none of this worker's hosts: {frame.fleet}")
        self._used.append(frame.nonce)
        self._write()
        for host in mine:
            yield frame.fleet, self._done(frame, host)

    def _is_mine(self, frame: Frame, host: FramedHost) -> bool:
        if frame.act == "thaw" and (frame.fleet, host.name) in self._held:
            return True
        served = host.pool == self._pool and (not self._queues or host.queue in self._queues)
        return served and host.workload.get("host") == socket.gethostname()

    def _done(self, frame: Frame, host: FramedHost) -> Answer:
        key, now = (frame.fleet, host.name), self._time()
        if not frame.stands(now):
            return self._refused(host, f"it stands from {frame.not_before} to {frame.not_after}; it came at {now}")
        if frame.act == "thaw":
            self._begun.append(key)  # a frame to freeze that comes later is older
            if key not in self._held:
                return self._refused(host, "no frame has frozen it, or its run has it")
            return self._thawed(self._held[key], "the fleet is thawed")
        if key in self._begun:
            return self._refused(host, "its run came before, or it was thawed")
        try:
            early = freeze_until_its_run(host.workload)
        except Exception as reason:  # noqa: BLE001  its run freezes it, or tells what is wrong
            return self._refused(host, f"{type(reason).__name__}: {reason}")
        self._held[key] = Held(frame.fleet, host.name, frame.run, early)
        self._write()
        logger.warning("%s: %s is frozen by a frame, %d processes, and waits for its run", *key, len(early.frozen))
        return Answer(host.name, "frozen", len(early.frozen))

    def _refused(self, host: FramedHost, why: str) -> Answer:
        logger.warning("A frame was refused for %s: %s", host.name, why)
        return Answer(host.name, "refused", 0, why)

    def _is_over(self, held: Held) -> bool:
        left = not_taken_over(held.early)
        if not left.frozen and not left.groups:  # its run has it, or a person has thawed it
            self._held.pop((held.fleet, held.host), None)
            self._write()
            return False
        return is_over({**environment_of_worker(), "PREFECT__FLOW_RUN_ID": held.run}, f"{held.fleet}:{held.host}:1")

    def _thawed(self, held: Held, why: str) -> Answer:
        thaw_left(held.early, lambda: True)
        count = len(held.early.frozen) - len(not_taken_over(held.early).frozen)
        self._held.pop((held.fleet, held.host), None)
        self._write()
        logger.warning("%s: %s is thawed, %d processes: %s", held.fleet, held.host, count, why)
        return Answer(held.host, "thawed", count, why)

    def _write(self) -> None:
        rows = [{"nonce": nonce} for nonce in self._used] + [asdict(each) for each in [*self._held.values()]]
        with suppress(OSError):  # without it a frame could be used once more within its minute, after a restart
            write_whole(self._file, json.dumps(rows, default=str).encode(), 0o600, flush=False)


def _read(row: Mapping[str, Any]) -> Iterator[Held]:
    with suppress(KeyError, TypeError, ValueError):
        yield Held.of(row)


async def answer_to(client: PrefectClient, fleet: str, answer: Answer) -> None:
    """Tell the server, which may be gone: what is frozen stays so."""
    payload = {"host": answer.host, "done": answer.done, "processes": answer.processes, "why": answer.why}
    event = Event(event=ANSWER, resource={"prefect.resource.id": f"{RESOURCE}.{fleet}"}, payload=payload)
    with suppress(Exception):
        await client.request("POST", "/events", json=[event.model_dump(mode="json")])
