"""§0: an id that nobody knows opens no incident; a store that does not answer keeps nobody from evacuating."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from blocks.s3 import clients as s3_clients
from blocks.workload import Workload
from tasks.custody.errors import Refused
from tasks.custody.incident.incident import ISSUED, new_id
from tasks.incident.layout import INCIDENT
from tasks.prefect_side.saved_blocks import SavedStore
from tasks.preflight import known_incident
from tasks.preflight.known_incident import require_known, require_new
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


def saved(**fields: object) -> SavedStore:
    return SavedStore("house", fields)


def folder(path: Path) -> SavedStore:
    path.mkdir(exist_ok=True)
    return saved(folder=str(path))


def bucket(port: int, **fields: object) -> SavedStore:
    return saved(**{"bucket": "evidence", "endpoint": f"http://127.0.0.1:{port}", "credentials": KEYS, **fields})


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
    for there in (store, bucket(free_port()), saved()):
        with pytest.raises(Refused, match="not later than"):
            require_known(workload, future, there)


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
        saves = {
            "nobody there": bucket(free_port()),
            "silent": bucket(port),
            "no block": saved(bucket="evidence", credentials="aws-credentials/gone"),
            "no folder": saved(folder=str(tmp_path / "none")),
            "no right": bucket(free_port(), endpoint=None, region="no-such-region"),
        }
        require_known(workload, TYPED, saves[way])
    assert time.monotonic() - began < 10
    assert not os.path.lexists(workload.evidence)


def issued(ago: timedelta, suffix: str = "") -> str:
    return new_id(datetime.now(UTC) - ago, suffix)


@pytest.mark.parametrize(
    "ago", [timedelta(0), timedelta(hours=3), ISSUED - timedelta(minutes=1), -timedelta(minutes=4)]
)
def test_an_id_that_a_ticket_has_issued_becomes_a_new_incidents(
    workload: Workload, tmp_path: Path, ago: timedelta
) -> None:
    require_new(workload, issued(ago), folder(tmp_path / "store"))
    assert not workload.evidence.exists(), "it is only looked at"


@pytest.mark.parametrize("ago", [ISSUED + timedelta(minutes=1), timedelta(days=400), -timedelta(minutes=6)])
def test_an_id_of_another_time_is_refused_for_a_new_incident(
    workload: Workload, tmp_path: Path, ago: timedelta
) -> None:
    with pytest.raises(Refused, match=r"issued in the 7 days before .*Nothing was touched"):
        require_new(workload, issued(ago), folder(tmp_path / "store"))


def test_an_id_that_this_host_or_the_store_has_is_refused_for_a_new_incident(
    workload: Workload, tmp_path: Path
) -> None:
    taken, later = issued(timedelta(hours=2)), issued(timedelta(hours=1))
    store = folder(tmp_path / "store")
    (tmp_path / "store/incidents" / later).mkdir(parents=True)
    (tmp_path / "store/incidents" / later / "claim.json").write_text("{}")
    with pytest.raises(Refused, match="an id of no incident yet"):
        require_new(workload, later, store)
    (workload.evidence / taken).mkdir(parents=True, mode=0o700)
    for incident in (taken, issued(timedelta(hours=3))):
        with pytest.raises(Refused, match=f"an id after {taken}"):
            require_new(workload, incident, store)
    require_new(workload, issued(timedelta(minutes=1)), store)


def test_where_hosts_share_a_store_the_issued_id_names_its_host(small: SmallWorkload, tmp_path: Path) -> None:
    gpu1, store = small.block(incident_suffix="gpu1"), folder(tmp_path / "store")
    require_new(gpu1, issued(timedelta(hours=1), "gpu1"), store)
    for suffix in ("", "gpu2", "xgpu1"):
        with pytest.raises(Refused, match="ends in -gpu1"):
            require_new(gpu1, issued(timedelta(hours=1), suffix), store)


@pytest.mark.slow
def test_a_store_that_does_not_answer_keeps_nobody_from_a_new_incident(
    workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_clients, "_TRIES", 1)
    require_new(workload, issued(timedelta(hours=1)), bucket(free_port()))
