"""Retry of a run of an unfinished incident joins nothing and freezes; of a finished one it touches nothing."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.states import Completed, Crashed, Failed, Running, Scheduled

from blocks.workload import Workload
from tasks.incident.joining import own_incident
from tasks.prestart import freeze
from tasks.prestart.freeze import freeze_for
from tasks.prestart.join import _find_alarm
from tasks.prestart.journal import EarlyFreeze, close_lock
from tasks.prestart.known_run import KnownRun
from tasks.prestart.reasons import NothingToFreeze
from tasks.runtime.flow_run import finished_before
from tests.support.run_context import INCIDENT
from tests.support.workloads import SmallWorkload

OURS, OTHER = "0f0b4a80-1111-4222-8333-abcdefabcdef", "0f0b4a80-2222-4222-8333-abcdefabcdef"
LATER = "IR-20260103T030405Z"


@pytest.fixture
def block(small: SmallWorkload) -> Workload:
    return small.block()


def incident(block: Workload, name: str, run: str, word: str = "") -> Path:
    """An incident in which a run has acted; with a word also its closed record and its end."""
    home = block.evidence / name
    (home / "record/001").mkdir(parents=True, mode=0o700)
    home.chmod(0o700)
    about = {"action": "triggered", "object": OTHER, "actor": {"run": run}}
    (home / "custody.jsonl").write_text(json.dumps(about) + "\n")
    (home / "incident.json").write_text("{}")
    if word:
        (home / "record/001/closing.json").write_text(json.dumps({"verdict": word}))
        (home / "ended.json").write_text(json.dumps({"record": 1, "end": word.title()}))
    return home


def known(block: Workload, run: str = OURS, **parameters: Any) -> KnownRun:
    fields = block.model_dump(mode="json", include=set(type(block).model_fields))
    alarm = {"event": "training.failed", "payload": {"began": "2026-01-01T00:00:00+00:00"}}
    told = {"parameters": {"workload": "w", "alarm": alarm, **parameters}}
    return KnownRun(run, {}.__getitem__, {"run": told, "flow": "evacuate", "fields": fields})


@pytest.fixture(autouse=True)
def frozen(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the early freeze was called with; it touches nothing."""
    found = list[object]()

    def note(workload: object, *_: object) -> EarlyFreeze:
        found.append(workload)
        return EarlyFreeze(Path("x"), ())

    monkeypatch.setattr(freeze, "_freeze", note)
    return found


@pytest.mark.parametrize("word", ["", "UNVERIFIED", "NOTCONTAINED", "UNANSWERED"])
def test_a_retry_of_an_unfinished_incident_joins_nothing_and_freezes(
    block: Workload, frozen: list[object], word: str
) -> None:
    incident(block, INCIDENT, OURS, word)
    assert _find_alarm(known(block)) is None
    close_lock(freeze_for(known(block)))
    assert len(frozen) == 1


@pytest.mark.parametrize("word", ["VERIFIED", "PARTIAL", "THAWED"])
def test_a_retry_of_a_finished_incident_freezes_nothing(block: Workload, frozen: list[object], word: str) -> None:
    incident(block, INCIDENT, OURS, word)
    assert _find_alarm(known(block)) is None
    with pytest.raises(NothingToFreeze):
        freeze_for(known(block))
    assert not frozen
    close_lock(freeze_for(known(block, OTHER)))
    assert len(frozen) == 1, "another run than the one that acted there"
    assert _find_alarm(known(block, OTHER)), "which may join"


def test_the_newest_incident_counts_and_what_only_names_a_run_does_not(block: Workload, tmp_path: Path) -> None:
    assert own_incident(OURS, [block.evidence]) is None
    first = incident(block, INCIDENT, OURS)
    assert own_incident(OURS, [block.evidence]) == first
    assert own_incident(OURS, [tmp_path, block.evidence]) == first
    assert own_incident(OTHER, [block.evidence]) is None, "it has joined, and not acted"
    assert own_incident("", [block.evidence]) is None
    later = incident(block, LATER, OURS)
    assert own_incident(OURS, [block.evidence]) == later
    (later / "custody.jsonl").write_text("{}\n" + OURS)
    assert own_incident(OURS, [block.evidence]) == first


@pytest.mark.parametrize(
    ("states", "green"),
    [
        ([Scheduled(), Running(), Failed(name="Unverified"), Scheduled(name="AwaitingRetry"), Running()], False),
        ([Running(), Completed(name="Verified"), Scheduled(name="AwaitingRetry"), Running()], True),
        ([Running(), Completed(), Running(), Crashed(), Running()], False),
        ([Running()], False),
        (None, False),
    ],
)
def test_a_retry_of_what_is_finished_keeps_its_colour(
    monkeypatch: pytest.MonkeyPatch,
    states: list[Any] | None,
    green: bool,  # noqa: FBT001
) -> None:
    class Client:
        def __enter__(self) -> SimpleNamespace:
            if states is None:
                raise OSError("no server")
            return SimpleNamespace(read_flow_run_states=lambda _: states)

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr("tasks.runtime.flow_run.get_client", lambda **_: Client())
    assert (finished_before(OURS).name, finished_before(OURS).completed) == ("Finished", green)
