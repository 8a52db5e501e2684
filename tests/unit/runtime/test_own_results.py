"""Whoever reaches the API may set a run's state: what it names as its result is not read. Reading a pickle runs it."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from prefect._internal.result_records import ResultRecord, ResultRecordMetadata
from prefect.client.schemas.objects import State, StateType
from prefect.filesystems import LocalFileSystem
from prefect.results import ResultStore
from prefect.serializers import JSONSerializer, PickleSerializer, Serializer

from tasks.custody.errors import Refused
from tasks.runtime.own_results import keep_results, read_own_results_only


class Hostile:
    """Who loads it makes a folder."""

    def __init__(self, made: Path) -> None:
        """The folder."""
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        """What pickle calls."""
        return os.mkdir, (str(self.made),)


@pytest.fixture(autouse=True)
def _guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_read", "_aread"):
        monkeypatch.setattr(ResultStore, name, getattr(ResultStore, name))
    read_own_results_only()


def stored(path: Path, result: object, serializer: Serializer) -> ResultRecordMetadata:
    metadata = ResultRecordMetadata(storage_key=str(path), serializer=serializer)
    path.write_bytes(ResultRecord(result=result, metadata=metadata).serialize())
    return metadata


@pytest.mark.parametrize("kind", [StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED])
@pytest.mark.parametrize("serializer", [PickleSerializer(), JSONSerializer()], ids=["pickle", "json"])
def test_a_result_that_a_state_of_the_api_names_is_not_read(tmp_path: Path, kind: StateType, serializer: Any) -> None:
    made = tmp_path / "made"
    result: object = Hostile(made) if isinstance(serializer, PickleSerializer) else "Verified"
    metadata = stored(tmp_path / "elsewhere", result, serializer)
    state = State[Any].model_validate({"type": kind, "name": "Verified", "data": metadata.model_dump(mode="json")})
    with pytest.raises(Refused, match="a result that this run has stored itself"):
        state.result(raise_on_failure=False, retry_result_failure=False)
    assert not made.exists()


def test_nor_is_it_where_nothing_blocks(tmp_path: Path) -> None:
    stored(tmp_path / "one", Hostile(tmp_path / "made"), PickleSerializer())
    with pytest.raises(Refused):
        asyncio.run(ResultStore(result_storage=LocalFileSystem(basepath=str(tmp_path))).aread("one"))
    assert not (tmp_path / "made").exists()


def test_what_a_step_has_cached_in_the_incidents_folder_is_read(tmp_path: Path) -> None:
    stored(tmp_path / "one", {"lost": 0}, JSONSerializer())
    store = ResultStore(result_storage=LocalFileSystem(basepath=str(keep_results(tmp_path))))
    assert store.read("one").result == {"lost": 0}
