"""§0: an id that nobody knows opens no incident; a store that does not answer keeps nobody from evacuating."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from blocks import s3_clients
from blocks.workload import Workload
from tasks.custody.errors import Refused
from tasks.custody.incident.incident import new_id
from tasks.incident.layout import INCIDENT
from tasks.preflight import known_incident
from tasks.preflight.known_incident import require_known
from tests.support.workloads import SmallWorkload, free_port

WAITS = known_incident._ANSWER_SECONDS
TYPED = "IR-20200101T000000Z"
KEYS = {"aws_access_key_id": "x", "aws_secret_access_key": "y"}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a folder does not answer at once either."""
    monkeypatch.setattr(known_incident, "_ANSWER_SECONDS", 60)


@pytest.fixture
def workload(small: SmallWorkload) -> Workload:
    return small.block()


def folder(path: Path) -> dict[str, object]:
    path.mkdir(exist_ok=True)
    return {"folder": str(path)}


def bucket(port: int) -> dict[str, object]:
    return {"bucket": "evidence", "endpoint": f"http://127.0.0.1:{port}", "credentials": KEYS}


@contextmanager
def silent() -> Iterator[int]:
    """A server that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_an_id_that_nobody_knows_is_refused_with_what_to_give_instead(workload: Workload, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=rf"{TYPED}, of which there is nothing .*Leave incident_id empty for a new"):
        require_known(workload, TYPED, folder(tmp_path / "store"))
    assert not workload.evidence.exists()


@pytest.mark.parametrize("neighbour", ["IR-20200101T000000Z-gpu1", "IR-20200101T000001Z"])
def test_an_id_that_only_begins_like_one_is_not_known(workload: Workload, tmp_path: Path, neighbour: str) -> None:
    store = folder(tmp_path / "store")
    (tmp_path / "store/incidents" / neighbour).mkdir(parents=True)
    (tmp_path / "store/incidents" / neighbour / "claim.json").write_text("{}")
    with pytest.raises(Refused):
        require_known(workload, TYPED, store)
    require_known(workload, neighbour, store)


def test_what_this_host_has_is_carried_on_whatever_the_clock_or_the_store_says(
    workload: Workload, tmp_path: Path
) -> None:
    for incident in (TYPED, new_id(datetime.now(UTC) + timedelta(days=400))):
        home = workload.evidence / incident
        home.mkdir(parents=True, mode=0o700)
        (home / INCIDENT).write_text("{}")
        require_known(workload, incident, folder(tmp_path / "store"))


def test_an_id_from_the_future_is_refused_whatever_the_store_says(workload: Workload, tmp_path: Path) -> None:
    future = new_id(datetime.now(UTC) + timedelta(minutes=6))
    store = folder(tmp_path / "store")
    (tmp_path / "store/incidents" / future).mkdir(parents=True)
    (tmp_path / "store/incidents" / future / "claim.json").write_text("{}")
    for saved in (store, bucket(free_port()), {}):
        with pytest.raises(Refused, match="not later than"):
            require_known(workload, future, saved)


@pytest.mark.parametrize("way", ["nobody there", "silent", "no block", "no folder", "no right"])
def test_a_store_that_does_not_say_so_refuses_nothing(
    workload: Workload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    assert WAITS < 10
    monkeypatch.setattr(known_incident, "_ANSWER_SECONDS", WAITS)
    monkeypatch.setattr(s3_clients, "_TRIES", 1)
    if way == "silent":
        monkeypatch.setattr(known_incident, "_ANSWER_SECONDS", 0.3)
    began = time.monotonic()
    with silent() as port:
        saves: dict[str, dict[str, object]] = {
            "nobody there": bucket(free_port()),
            "silent": bucket(port),
            "no block": {"bucket": "evidence", "credentials": "aws-credentials/gone"},
            "no folder": {"folder": str(tmp_path / "none")},
            "no right": bucket(free_port()) | {"endpoint": None, "region": "no-such-region"},
        }
        require_known(workload, TYPED, saves[way])
    assert time.monotonic() - began < 10
    assert not os.path.lexists(workload.evidence)
