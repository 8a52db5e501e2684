"""What a run asks the store again: each object of an earlier record once, and before the word is said."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tasks.evidence.collect import collect
from tasks.incident.current import read_incident
from tasks.record.final_state import final_state
from tests.support.memory_store import MemoryStore
from tests.support.run_context import INCIDENT, case_of, made
from tests.support.sealed_runs import NAMES, recorded_run
from tests.support.workloads import SmallWorkload

RECORDS = f"incidents/{INCIDENT}/record/"
SENT = ("incidents/", "snapshots/")


class Counting(MemoryStore):
    """Counts what it is asked of each key, as a store behind a network is."""

    def __init__(self) -> None:
        """Begin empty."""
        super().__init__()
        self.asked = Counter[str]()

    def __getattribute__(self, name: str) -> Any:
        """Count it."""
        found = super().__getattribute__(name)
        if name not in {"create", "head", "read", "stream"}:
            return found

        def asked(key: str, *rest: Any, **more: Any) -> Any:
            self.asked[key] += 1
            return found(key, *rest, **more)

        return asked


class Incident:
    """Runs of one incident."""

    def __init__(self, small: SmallWorkload, store: Counting) -> None:
        """Keep them."""
        self.small, self.store = small, store

    def run(self) -> str:
        """Run it, or carry it on; return the name of the state that it ends in."""
        self.store.asked.clear()
        with case_of(self.small.block(needed=["logs"]), self.store) as context:
            context.incident = read_incident(context.directory.path) or context.incident
            recorded = recorded_run(context, [made(collect.fn(context, name)) for name in NAMES])
            return str(final_state(context, recorded.verdict, recorded, None).name)


@pytest.fixture
def incident(tmp_path: Path) -> Any:
    with SmallWorkload(tmp_path / "work load") as small:
        yield Incident(small, Counting())


@pytest.mark.slow
def test_each_object_that_an_earlier_run_has_sent_is_asked_for_once(incident: Incident) -> None:
    """A tenth run asked 216 times for 54 objects of earlier records, and sent each again; 401 requests in all."""
    for _ in range(3):
        before = [each.key for each in incident.store.list("") if each.key.startswith(SENT)]
        assert incident.run() == "Verified"
        asked = {key: incident.store.asked[key] for key in before if not key.endswith("/claim.json")}
        assert set(asked.values()) <= {1}, asked
    own = [each.key for each in incident.store.list(f"{RECORDS}003/")]
    assert [incident.store.asked[key] for key in own] == [2] * len(own), "sent, and asked for"


@pytest.mark.slow
def test_an_object_of_an_earlier_record_that_is_gone_is_sent_again_and_asked_for(incident: Incident) -> None:
    incident.run()
    key = f"{RECORDS}001/closing.json"
    was = incident.store._objects.pop(key)
    assert incident.run() == "Verified"
    assert incident.store.read(key) == was


@pytest.mark.slow
def test_an_object_of_an_earlier_record_that_the_store_never_keeps_costs_the_word(incident: Incident) -> None:
    incident.run()
    key = f"{RECORDS}001/closing.json"

    class Forgetting(dict[str, bytes]):
        def setdefault(self, name: str, data: Any = None) -> Any:
            return data if name == key else super().setdefault(name, data)

    incident.store._objects = Forgetting(incident.store._objects)
    del incident.store._objects[key]
    assert incident.run() == "Unverified"
