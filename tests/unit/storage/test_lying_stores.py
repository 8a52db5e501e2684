"""A store that says that it took an object, and has not kept it: no run of ours ends Verified there."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from blocks.port import ignore_progress
from tasks.custody.errors import StoreError
from tasks.custody.evidence.part_sizes import Parts
from tasks.evidence.collect import collect
from tasks.record.final_state import final_state
from tasks.record.write import Record
from tasks.runtime.context import RunContext
from tests.support.memory_store import MemoryStore
from tests.support.run_context import INCIDENT, case_of, made
from tests.support.sealed_runs import NAMES, recorded_run
from tests.support.workloads import SmallWorkload

ENDS = (
    "/claim.json",
    "/evidence/manifest.json",
    "/evidence/SHA256SUMS",
    "/record/001/verdict.json",
    "/record/001/custody.jsonl",
    "/record/001/postmortem.html",
    "/record/001/closing.json",
    "/begun.json",
    "/done.json",
    "",
)
"""How the names of the objects end that it does not keep; the last one is of all."""


class Lying(MemoryStore):
    """Answers 200, and keeps nothing of what ends so, or only the beginning of it once something else has come."""

    def __init__(self, end: str | None, *, later: bool) -> None:
        """Keep in mind what is not to be kept."""
        super().__init__()
        self.end, self.later = end, later
        self.fading: list[str] = []

    def create(
        self,
        key: str,
        source: Path | bytes,
        sha256: str,
        parts: Parts | None = None,
        tell: Callable[[int], object] = ignore_progress,
    ) -> None:
        """Say that it was taken."""
        self.fade()
        lies = self.end is not None and key.endswith(self.end)
        if lies and not self.later:
            return
        super().create(key, source, sha256, parts, tell)
        self.fading += [key] if lies else []

    def fade(self) -> None:
        """Keep only how it begins."""
        for key in self.fading:
            self._objects[key] = self._objects[key][:-1]
        self.fading = []

    def head(self, key: str) -> Any:
        """What is there by now."""
        self.fade()
        return super().head(key)


@pytest.fixture
def ended(tmp_path: Path) -> Callable[[MemoryStore], tuple[str, str]]:
    """Run an incident against a store; return the name of the state that it ends in, and its message."""

    def run(store: MemoryStore) -> tuple[str, str]:
        with SmallWorkload(tmp_path / "work load") as small, case_of(small.block(needed=["logs"]), store) as context:
            evidence = [made(collect.fn(context, name)) for name in NAMES]
            return state_of(context, recorded_run(context, evidence))

    return run


def state_of(context: RunContext, recorded: Record) -> tuple[str, str]:
    state = final_state(context, recorded.verdict, recorded, None)
    return str(state.name), str(state.message)


@pytest.mark.sample(8)
@pytest.mark.slow
@pytest.mark.parametrize("later", [False, True], ids=["keeps nothing", "truncates later"])
@pytest.mark.parametrize("end", ENDS)
def test_no_incident_is_verified_in_a_store_that_has_not_kept_each_object_of_it(
    ended: Callable[[MemoryStore], tuple[str, str]],
    end: str,
    later: bool,  # noqa: FBT001  pytest gives it by name
) -> None:
    reached = False
    with suppress(StoreError):  # a step that fails is trouble of the run, and so Unverified
        name, told = ended(Lying(end, later=later))
        reached = True
        answered = later and end in {"/claim.json", "/evidence/manifest.json", "/evidence/SHA256SUMS"}
        assert name in {"Unverified", *(["Partial"] if answered else [])}  # once more at a key beside it
        assert end.rpartition("/")[2] in told
        assert told.startswith(f"{INCIDENT}: {name.upper()} ")
    assert reached or not end.startswith("/record/")


@pytest.mark.slow
def test_the_same_incident_is_verified_in_a_store_that_keeps_what_it_takes(
    ended: Callable[[MemoryStore], tuple[str, str]],
) -> None:
    assert ended(Lying(None, later=False))[0] == "Verified"
