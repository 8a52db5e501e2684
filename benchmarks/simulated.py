"""Hosts of a fleet that ask and tell what a real one was recorded to, at its pace, and do nothing else."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import prefect
from prefect.client.constants import SERVER_API_VERSION
from prefect.client.orchestration import PrefectClient, get_client
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from benchmarks.recorder import Asked, ids_in
from tasks.custody.audit.signers import AllowedSigner
from tasks.custody.fleet.frame import FrameAnswer, resource_of, verify_frame
from tasks.worker.frames import answer_to
from tasks.worker.hints import Hints

_UUID: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_TIME: Final = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)")
_BLOCK: Final = "/block_types/slug/workload/block_documents/name/"
"""Asked before the freeze."""
_POLL: Final = "/get_scheduled_flow_runs"
_LOOK_SECONDS: Final = 0.02
_BEAT_SECONDS: Final = 30
_TRIES: Final = 2
_TRY_SECONDS: Final = 0.2
_OPENING: Final = 2  # a websocket is opened, and the first text says by what right
_CLIENT: Final = {"User-Agent": f"prefect/{prefect.__version__} (API {SERVER_API_VERSION})"}
"""Of a client that does not say so the server thinks that it renews no lease, and drops it."""
_IDLE: Final = ("heartbeat", "/workers/connect", "/events/out")


@dataclass(frozen=True)
class Script:
    """What one host asked for its run, from the question for work on; when, and what was its own."""

    asked: Sequence[Asked]
    recorded: datetime
    own: Mapping[str, str]
    """Ids and names of the recorded host, by what they are."""
    common: frozenset[str]
    """Ids that the server gave to what all hosts share. Every other id was made for this run."""
    before: Sequence[Asked] = ()
    """How the worker had opened the websockets that it used then."""

    @property
    def before_freeze(self) -> int:
        """How many requests come before the freeze: the claim and the question for the block are asked side by side."""
        block = next(at for at, each in enumerate(self.asked) if each.path.startswith(_BLOCK))
        claim = next((at for at, each in enumerate(self.asked) if each.path.endswith("/set_state")), block)
        return 1 + max(block, claim)


def script_of(asked: Sequence[Asked], own: Mapping[str, str], common: frozenset[str]) -> Script:
    """Return what was asked for a run, from the question by which the worker got it, without what an idle one asks."""
    first = next(at for at, each in enumerate(asked) if each.path.startswith(f"/flow_runs/{own['run']}"))
    began = max(at for at in range(first) if asked[at].path.endswith(_POLL))
    wanted = [each for each in asked[began:] if not any(word in each.path for word in _IDLE)]
    polls = [at for at, each in enumerate(wanted) if each.path.endswith(_POLL)]
    recorded = datetime.now(UTC) - timedelta(seconds=time.monotonic() - wanted[0].at)
    used = {each.link for each in wanted if each.method == "SEND"}
    opened = {link: [each for each in asked[:began] if each.link == link][:_OPENING] for link in used}
    before = [each for link in used for each in opened[link]]
    return Script([each for at, each in enumerate(wanted) if at not in polls[1:]], recorded, own, common, before)


@dataclass
class Simulated:
    """A host; `own` names what the script's host called its own. Times are seconds of time.time()."""

    script: Script
    own: dict[str, str]
    api: str
    frozen: float = 0.0
    ended: float = 0.0
    ready: bool = False
    errors: list[str] = field(default_factory=list)
    signers: Sequence[AllowedSigner] = ()
    """Who may sign frames."""

    async def follow(self, client: PrefectClient) -> None:
        """Listen as the worker does, for ever, and play each run that is hinted at."""
        runs = asyncio.Queue[UUID]()
        frames = asyncio.Queue[Any]()
        hints = Hints(runs.put_nowait, lambda: None, lambda: datetime.now(UTC), frames.put_nowait)

        async def resources() -> Sequence[str]:
            return [f"prefect.work-queue.{self.own['queue']}", resource_of(self.own["pool"], self.own["name"])]

        told = (hints.follow(client, resources), self._beat(client), self._obey(client, frames))
        beside = [asyncio.create_task(each) for each in told]
        try:
            await until(lambda: hints.proven)
            play = _Play(self)
            await play.open()
            self.ready = True
            run = None
            while run is None:
                await runs.get()
                run = await self._scheduled(client)
            await self._play(play, run)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _scheduled(self, client: PrefectClient) -> str | None:
        """Ask for a run, as the script's first question does: a hint may be an old one."""
        for _ in range(_TRIES):
            found = await client.get_scheduled_flow_runs_for_work_pool(
                self.own["pool"], work_queue_names=[self.own["name"]], scheduled_before=datetime.now(UTC)
            )
            if found:
                return str(found[0].flow_run.id)
            await asyncio.sleep(_TRY_SECONDS)
        return None

    async def _obey(self, client: PrefectClient, frames: asyncio.Queue[Any]) -> None:
        """Verify each frame, and answer, as a worker does. The freeze itself costs a host of its own, and none here."""
        while True:
            payload = await frames.get()
            frame = verify_frame(payload["frame"], payload["signature"], self.signers)
            # an earlier fleet's is heard as well: the stream begins with the last minute
            if frame.fleet == self.own.get("fleet") and self.own["name"] in frame.hosts:
                self.frozen = self.frozen or time.time()
                await answer_to(client, frame.fleet, FrameAnswer(self.own["name"], "frozen", 1), len(frame.hosts))

    async def _beat(self, client: PrefectClient) -> None:
        """Give signs of life, as a worker does."""
        while True:
            with suppress(httpx.HTTPError):
                await client.send_worker_heartbeat(self.own["pool"], self.own["name"], _BEAT_SECONDS)
            await asyncio.sleep(_BEAT_SECONDS)

    async def _play(self, play: "_Play", run: str) -> None:
        """Ask and tell all that follows the question for work, for a run of this host's."""
        play.begin({**self.own, "run": run})
        async with httpx.AsyncClient(base_url=self.api, timeout=60, trust_env=False, headers=_CLIENT) as http:
            for number, each in enumerate(self.script.asked[1:], 2):
                await play.step(http, each)
                if number == self.script.before_freeze:
                    self.frozen = self.frozen or time.time()
        await play.close()
        self.ended = time.time()


class _Play:
    """One run of the script: the recorded ids and times become this run's."""

    def __init__(self, host: Simulated) -> None:
        self._host, self._script = host, host.script
        self._sockets = dict[int, ClientConnection]()
        self._last: Asked | None = None
        self.begin({})

    def begin(self, own: Mapping[str, str]) -> None:
        """Learn what is this run's own of all that the recorded one said."""
        self._named = {old: own[what] for what, old in self._script.own.items() if what in own}
        self._ids = {old: new for old, new in self._named.items() if _UUID.fullmatch(old)}
        names = sorted((old for old in self._named if old not in self._ids), key=len, reverse=True)
        self._names = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        self._later = datetime.now(UTC) - self._script.recorded

    async def open(self) -> None:
        """Open the websockets that a worker has open before it hears of a run."""
        for each in self._script.before:
            await self._speak(each)

    async def _speak(self, each: Asked) -> None:
        if each.method == "OPEN":
            place = self._host.api.replace("http", "ws", 1) + self._mine(each.path)
            self._sockets[each.link] = await connect(place, subprotocols=[Subprotocol("prefect")])
        else:
            await self._sockets[each.link].send(self._mine(each.body))

    async def step(self, http: httpx.AsyncClient, each: Asked) -> None:
        """Ask or tell one thing, when the recorded host did."""
        if self._last:  # wait as long as the real one did, between an answer and its next question
            await asyncio.sleep(max(0.0, each.at - (self._last.answered or self._last.at)))
        self._last = each
        try:
            if each.method in {"OPEN", "SEND"}:
                await self._speak(each)
            else:
                await self._ask(http, each, self._mine(each.path))
        except Exception as error:  # noqa: BLE001  told in the result
            self._host.errors.append(f"{each.method} {each.path}: {error!r}")

    async def _ask(self, http: httpx.AsyncClient, each: Asked, path: str) -> None:
        body, headers = self._mine(each.body), {"Content-Type": "application/json"}
        answer = await http.request(each.method, path, content=body or None, headers=headers)
        while answer.status_code in {httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.TOO_MANY_REQUESTS}:
            await asyncio.sleep(1)
            answer = await http.request(each.method, path, content=body or None, headers=headers)
        if answer.is_error and not each.status >= httpx.codes.BAD_REQUEST:
            self._host.errors.append(f"{each.method} {path}: {answer.status_code} {answer.text[:200]}")
        mine = ids_in(answer.content)
        for name, old in each.made.items():
            if name in mine:
                self._ids.setdefault(old, mine[name])

    def _mine(self, text: str) -> str:
        text = _UUID.sub(self._id, text)
        text = self._names.sub(lambda found: self._named[found[0]], text)
        return _TIME.sub(lambda found: (datetime.fromisoformat(found[0]) + self._later).isoformat(), text)

    def _id(self, found: re.Match[str]) -> str:
        return self._ids.setdefault(found[0], found[0] if found[0] in self._script.common else str(uuid4()))

    async def close(self) -> None:
        for each in self._sockets.values():
            await each.close()


async def play_all(hosts: Sequence[Simulated], begin: Callable[[], None], frozen: Callable[[], None]) -> None:
    """Let all hosts listen, begin, and play until each has ended its run; call `frozen` once all are."""
    async with get_client() as client:
        playing = [asyncio.create_task(host.follow(client)) for host in hosts]
        await until(lambda: all(host.ready for host in hosts))
        await asyncio.to_thread(begin)
        await until(lambda: all(host.frozen for host in hosts))
        frozen()
        await asyncio.gather(*playing)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that other tasks bring about."""
    while not condition():  # noqa: ASYNC110  it is no single event
        await asyncio.sleep(_LOOK_SECONDS)
