"""A frame freezes once, if an allowed key has signed it for this host and now; nothing else does anything."""

import asyncio
import json
import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.audit.signers import read_signers
from tasks.custody.containment.identity import Identity
from tasks.custody.fleet.frame import EARLY, NAMESPACE, STANDS, Frame, FrameAnswer, verify_frame, why_ignored
from tasks.custody.store.signature import NAMESPACE as OF_EVIDENCE
from tasks.custody.store.signature import opening, public_key, sign
from tasks.prestart.journal import EarlyFreeze, rows_for, write_rows
from tasks.prestart.reasons import NotNow
from tasks.worker import frames
from tasks.worker.frames import Frames, answer_to

FLEET = "FL-20261126T140000Z-lab-1f3a"
RUN = "00000000-0000-0000-0000-00000000001a"
NOW = datetime(2026, 11, 26, 14, 0, 1, tzinfo=UTC)
HERE = socket.gethostname()
KEY, OTHER, OF_ANOTHER_FLEET = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2, 3))
ALLOWED = "".join(
    f'fleet@{fleet} namespaces="{NAMESPACE}" {public_key(key).line}\n'
    for fleet, key in (("lab", KEY), ("farm", OF_ANOTHER_FLEET))
)
CASES = 200
STRANGE = "0x \u00e9"


def frame(act: Any = "freeze", made: datetime = NOW, nonce: str = "0" * 32, **host: Any) -> Frame:
    hosts = {"gpu1": {"pool": "pool", "queue": "gpu1", "workload": {"host": HERE, "root": "/srv/work"}, **host}}
    return Frame(act, FLEET, RUN, "0" * 64, made - EARLY, made + STANDS, nonce, hosts)


def signed(text: str, key: Ed25519PrivateKey = KEY, namespace: str = NAMESPACE) -> dict[str, Any]:
    return {"frame": text, "signature": sign(key, text.encode(), namespace).decode()}


class Scene:
    """A worker's frames, what it froze and thawed, and what it answered."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the freeze be written down, without a process."""
        self.home, self.now, self.frozen = folder, NOW, list[str]()
        self.answers, self.thawed = list[dict[str, Any]](), list[Path]()
        self.over, self.refuses = False, False
        (folder / "fleet_signers").write_text(ALLOWED)
        monkeypatch.setattr(frames, "FLEET_SIGNERS", folder / "fleet_signers")
        monkeypatch.setattr(frames, "freeze_until_its_run", self._freeze)
        monkeypatch.setattr(frames, "thaw_left", self._thaw)
        monkeypatch.setattr(frames, "is_over", self._asked)
        monkeypatch.setattr(frames, "WATCH_SECONDS", 0.01)
        self.frames = self.worker()

    def worker(self) -> Frames:
        """The frames of a worker that starts now."""
        return Frames("pool", {"gpu1"}, lambda: self.now, self.home)

    def _freeze(self, workload: Any) -> EarlyFreeze:
        if self.refuses:
            raise NotNow("another run is at work")
        self.frozen.append(workload["root"])
        early = EarlyFreeze(self.home / "early.json", (Identity(4_000_000, 7),))
        write_rows(early, rows_for({early.frozen[0]: NOW}))
        return early

    def _thaw(self, early: EarlyFreeze, is_over: Callable[[], bool]) -> None:
        assert is_over()
        self.thawed.append(early.path)
        early.path.unlink()

    def _asked(self, environment: Any, key: str) -> bool:
        assert (environment["PREFECT__FLOW_RUN_ID"], key) == (RUN, f"{FLEET}:gpu1:1")
        return self.over

    async def request(self, method: str, path: str, json: list[Any]) -> None:
        """Stand for the client: take an answer."""
        assert (method, path, json[0]["resource"]["prefect.resource.id"]) == (
            "POST",
            "/events",
            f"evacuation.fleet.{FLEET}",
        )
        self.answers.append(json[0]["payload"])

    def play(self, *payloads: object, until: Callable[[], bool] | None = None) -> None:
        """Let these come, and what they cause."""

        async def scene() -> None:
            client = cast("Any", self)
            self.frames._waiting = asyncio.Queue(frames.WAITING)  # each scene has a loop of its own
            tasks = [asyncio.create_task(each) for each in (self.frames.obey(client), self.frames.watch(client))]
            for payload in payloads:
                self.frames.hear(payload)
            async with asyncio.timeout(20):
                await self.frames._waiting.join()
                while until and not until():  # noqa: ASYNC110  a condition of the scene's own
                    await asyncio.sleep(0.001)
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

        asyncio.run(scene())


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(tmp_path, monkeypatch)


def done(scene: Scene) -> list[str]:
    return [each["done"] for each in scene.answers]


def changed(pick: random.Random, text: str) -> object:
    at = pick.randrange(len(text))
    return {**signed(text), "frame": f"{text[:at]}{pick.choice(STRANGE)}{text[at + 1 :]}\n"}


def torn_signature(pick: random.Random, text: str) -> object:
    whole = signed(text)
    return {**whole, "signature": whole["signature"][: pick.randrange(len(whole["signature"]))]}


def wrong_types(pick: random.Random, text: str) -> object:
    said = json.loads(text)
    said[pick.choice(list(said))] = pick.choice([None, 7, [], {}, "x", [[]], "\ud800"])
    return signed(json.dumps(said))


def later(seconds: float) -> object:
    return signed(frame(made=NOW + timedelta(seconds=seconds)).text)


FORGED: dict[str, Callable[[random.Random, str], object]] = {
    "changed": changed,
    "torn": lambda pick, text: {**signed(text), "frame": text[: pick.randrange(len(text))]},
    "torn signature": torn_signature,
    "unknown key": lambda _, text: signed(text, OTHER),
    "key of another fleet": lambda _, text: signed(text, OF_ANOTHER_FLEET),
    "of evidence": lambda _, text: signed(text, namespace=OF_EVIDENCE),
    "late": lambda pick, _: later(-pick.uniform(61, 1e6)),
    "too early": lambda pick, _: later(pick.uniform(6, 1e6)),
    "stands for long": lambda pick, _: signed(
        replace(frame(), not_after=NOW + timedelta(seconds=pick.uniform(66, 1e6))).text
    ),
    "another host": lambda pick, _: signed(frame(workload={"host": f"other{pick.randrange(9)}"}).text),
    "another queue": lambda *_: signed(frame(queue="gpu2").text),
    "another pool": lambda *_: signed(frame(pool="else").text),
    "wrong types": wrong_types,
    "too large": lambda _, text: signed(json.dumps({**json.loads(text), "run": "x" * (1 << 18)})),
    "nested": lambda pick, _: signed("[" * pick.randrange(1000, 100_000)),
    "no frame": lambda pick, text: pick.choice(
        [None, 7, "x", [], {}, {"frame": 1, "signature": 2}, {"frame": text}, signed("{}")]
    ),
}


@pytest.mark.sample(32)
@pytest.mark.parametrize("case", range(CASES))
def test_none_of_a_campaign_of_forged_late_and_torn_frames_is_acted_on(scene: Scene, case: int) -> None:
    make = [*FORGED.values()][case % len(FORGED)]
    scene.play(make(random.Random(case), frame().text))  # noqa: S311  no secret
    assert (scene.frozen, scene.thawed) == ([], [])
    assert set(done(scene)) <= {"refused"}
    scene.play(signed(frame(nonce="1" * 32).text))
    assert scene.frozen == ["/srv/work"], "the same scene with a good frame"


def test_a_frame_freezes_answers_once_and_is_used_once_also_by_a_worker_that_starts_again(scene: Scene) -> None:
    payload = signed(frame().text)
    scene.play(payload, payload)
    assert scene.frozen == ["/srv/work"]
    assert scene.answers == [{"host": "gpu1", "done": "frozen", "processes": 1, "why": ""}]
    scene.frames = scene.worker()
    scene.play(payload)
    assert len(scene.frozen) == len(scene.answers) == 1


@pytest.mark.slow
def test_what_was_used_is_kept_within_bounds(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "_REMEMBERED", 3)
    scene.frames = scene.worker()
    for number in range(5):
        scene.play(signed(frame(nonce=f"{number:032}").text))
    used = json.loads((scene.home / "evacuation-frames.json").read_text())
    assert used == [f"{number:032}" for number in (2, 3, 4)]


@pytest.mark.parametrize("damage", ["", "[", '[{"nonce": 3}, 7]', "{}", "7"])
def test_a_damaged_memory_stops_no_worker(scene: Scene, damage: str) -> None:
    (scene.home / "evacuation-frames.json").write_text(damage)
    scene.frames = scene.worker()
    scene.play(signed(frame().text))
    assert done(scene) == ["frozen"]


def test_a_host_that_cannot_freeze_now_says_why(scene: Scene) -> None:
    scene.refuses = True
    scene.play(signed(frame().text))
    assert scene.answers == [
        {"host": "gpu1", "done": "refused", "processes": 0, "why": "NotNow: another run is at work"}
    ]


def test_a_late_frame_is_answered_with_its_times(scene: Scene) -> None:
    scene.play(signed(frame(made=NOW - timedelta(minutes=5)).text))
    assert done(scene) == ["refused"]
    assert "it came at" in scene.answers[0]["why"]


@pytest.mark.slow
def test_what_is_frozen_is_thawed_once_the_server_says_that_its_run_is_over(scene: Scene) -> None:
    scene.play(signed(frame().text))
    looks = time.monotonic() + 0.1
    scene.play(until=lambda: time.monotonic() > looks)
    assert scene.thawed == [], "a server that says nothing, or that it is at work"
    scene.over = True
    scene.play(until=lambda: len(scene.answers) == 2)
    assert done(scene) == ["frozen", "thawed"]
    assert scene.answers[1]["processes"] == 1
    assert len(scene.thawed) == 1


def test_a_thaw_gives_back_what_a_frame_has_frozen_and_outlaws_an_older_frame_that_comes_later(scene: Scene) -> None:
    scene.play(signed(frame().text), signed(frame("thaw", nonce="1" * 32).text))
    assert done(scene) == ["frozen", "thawed"]
    scene.play(signed(frame(nonce="2" * 32).text))
    assert scene.frozen == ["/srv/work"]
    assert scene.answers[-1]["done"] == "refused"


def test_what_a_run_takes_over_is_its_own_and_a_later_frame_freezes_nothing(scene: Scene) -> None:
    scene.play(signed(frame().text))
    order = {"fleet": FLEET, "host": "gpu1", "attempt": 1, "ask_seconds": 9, "unanswered": "stop"}
    order |= dict.fromkeys(("not_after", "ask_from"), NOW.isoformat())
    early = EarlyFreeze(scene.home / "early.json", (Identity(5, 5),))
    assert scene.frames.given_to_run(early, order).frozen == (Identity(4_000_000, 7), Identity(5, 5))
    scene.over = True
    soon = time.monotonic() + 0.1
    scene.play(signed(frame(nonce="1" * 32).text), until=lambda: time.monotonic() > soon)
    assert (len(scene.frozen), scene.thawed, done(scene)) == (1, [], ["frozen", "refused"])
    for wrong in (None, {}, {"fleet": 1}, "x"):
        assert scene.frames.given_to_run(early, cast("Any", wrong)) == early


def test_two_keys_hold_at_once_and_a_changed_file_is_read_again(scene: Scene) -> None:
    (scene.home / "fleet_signers").write_text(f'{ALLOWED}fleet@lab namespaces="{NAMESPACE}" {public_key(OTHER).line}\n')
    for number, key in enumerate((KEY, OTHER)):
        scene.play(signed(frame(nonce=f"{number:032}").text, key))
    assert len(scene.frozen) == 2
    revoked = f'fleet@lab namespaces="{NAMESPACE}",valid-before="20261126" {public_key(KEY).line}\n'
    (scene.home / "fleet_signers").write_text(revoked)
    scene.play(signed(frame(nonce="2" * 32).text), signed(frame(nonce="3" * 32).text, OTHER))
    assert len(scene.frozen) == 2


@pytest.mark.parametrize("content", ["", "no signers", "fleet@lab ssh-ed25519 AAAA"])
def test_a_file_that_names_nobody_allows_nobody(scene: Scene, content: str) -> None:
    (scene.home / "fleet_signers").write_text(content)
    scene.play(signed(frame().text))
    assert (scene.frozen, scene.answers) == ([], [])


@pytest.mark.slow
def test_a_flood_costs_the_worker_little_and_is_logged_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """Ten thousand of each sort, in a second at most of the loop that hears of runs."""
    text = frame().text
    sorts = (signed(text, OTHER), {**signed(text), "frame": text + " "}, {"frame": "x" * (1 << 19), "signature": "y"})
    began = time.process_time()
    with caplog.at_level("WARNING", "prefect"):
        scene.play(*(sort for sort in sorts for _ in range(10_000)))
    assert time.process_time() - began < 3
    assert scene.frozen == []
    assert len(caplog.records) <= 5, [each.getMessage() for each in caplog.records]


TEXTS = st.text(max_size=300)


@given(text=TEXTS, signature=TEXTS)
def test_no_text_is_a_frame_and_none_raises_anything_else(text: str, signature: str) -> None:
    signers = read_signers(ALLOWED)
    assert why_ignored({"frame": text, "signature": signature}, [opening(each.key) for each in signers])
    with pytest.raises(ValueError, match="signature"):
        verify_frame(text, signature, signers)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
)


@given(field=st.sampled_from([*json.loads(frame().text), "more"]), value=JSON)
def test_a_frame_is_read_as_it_is_written_and_a_field_of_another_type_is_none(field: str, value: Any) -> None:
    assert Frame.of(frame().text) == frame()
    said = json.loads(frame().text)
    changed = {**said, field: value}
    with suppress(ValueError):
        read = Frame.of(json.dumps(changed))
        assert isinstance(getattr(read, field), type(getattr(frame(), field)))


@pytest.mark.parametrize("hosts", [1, 20])
def test_an_answer_has_the_time_of_the_freeze_and_waits_the_longer_the_more_hosts_answer(
    hosts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, waited = list[dict[str, Any]](), list[datetime]()

    class Client:
        async def request(self, *_: str, json: list[dict[str, Any]]) -> None:
            sent.extend(json)

    async def wait(seconds: float) -> None:
        assert 0 <= seconds <= (hosts - 1) * 0.03
        waited.append(datetime.now(UTC))

    monkeypatch.setattr(asyncio, "sleep", wait)
    asyncio.run(answer_to(cast("Any", Client()), FLEET, FrameAnswer("gpu1", "frozen", 2), hosts))
    assert datetime.fromisoformat(sent[0]["occurred"]) <= waited[0]
