"""Of which files the last state is sealed: by an incident's log, its manifests, and who was started under the guard."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Frozen
from tasks.custody.evidence.acquisition import StoredFile
from tasks.custody.evidence.keys import IN_CONTAINER, MANIFEST
from tasks.custody.store.manifest import Manifest
from tasks.evidence.written_since import sealed_whole
from tests.support.paper_host import PaperHost, process
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload

NOW = datetime(2026, 1, 2, tzinfo=UTC)
LOG = "logs/a.log"
WHOLE = StoredFile(LOG, LOG, 1, "0" * 64, 1)
SEALED, AGAIN = ("sealed", "evidence"), ("sealed", "evidence.2")
WRITTEN, OTHER = ("written since", LOG), ("written since", "logs/b.log")
STOPPED, CAUGHT = ("stopped", "70"), ("stopped", "80")


class GuardedHost(PaperHost):
    """A host on which a guard stands since 50."""

    def __init__(self, *, guarded: bool) -> None:
        """Take whether it does."""
        super().__init__(process(1))
        self.started_guard = Identity(60, 50) if guarded else None


def found(
    small: SmallWorkload, entries: Sequence[tuple[str, str]], file: StoredFile = WHOLE, *, guarded: bool = True
) -> bool:
    with case_of(small.block()) as context:
        for folder in ("evidence", "evidence.2"):
            (context.directory.path / folder).mkdir(exist_ok=True)
            rows = Manifest("IR", 1, "2026-01-02T00:00:00Z", (file,)).to_bytes()
            (context.directory.path / folder / MANIFEST).write_bytes(rows)
        frozen = [Frozen(Identity(pid, start), "training", "", 0, NOW, NOW) for pid, start in ((70, 40), (80, 51))]
        context.state.frozen.write(frozen)
        for action, about in entries:
            context.log.write(action, about, source=about)
        host, context.adapters.host = context.adapters.host, GuardedHost(guarded=guarded)
        try:
            return sealed_whole(context) == {LOG}
        finally:
            context.adapters.host = host


@pytest.mark.parametrize(
    ("entries", "whole"),
    [
        ([], False),
        ([STOPPED, SEALED], True),
        ([SEALED, OTHER], True),
        ([SEALED, WRITTEN], False),
        ([SEALED, WRITTEN, AGAIN], True),
        ([SEALED, STOPPED], False),
        ([SEALED, STOPPED, AGAIN], True),
        ([SEALED, CAUGHT], True),
        ([SEALED, ("rebooted", "b")], False),
        ([SEALED, ("uncordoned", "IR")], False),
        ([SEALED, ("recovery ended", "IR")], False),
        ([SEALED, ("caught", "80"), ("run opened", "IR")], True),
    ],
)
def test_what_is_sealed_counts_until_it_was_written_or_something_may_have_run(
    small: SmallWorkload, entries: list[tuple[str, str]], *, whole: bool
) -> None:
    assert found(small, entries) is whole


def test_without_a_guard_nobody_was_frozen_at_once(small: SmallWorkload) -> None:
    assert not found(small, [SEALED, CAUGHT], guarded=False)


@pytest.mark.parametrize(
    "file",
    [
        replace(WHOLE, note="it grew while it was read"),
        replace(WHOLE, note="it changed while it was read"),
        replace(WHOLE, note=f"{IN_CONTAINER}c1"),
        replace(WHOLE, source="/elsewhere/a.log"),
    ],
    ids=["grew", "changed", "in a container", "out of the root"],
)
def test_a_copy_that_may_lack_something_or_is_of_another_place_is_not_it(
    small: SmallWorkload, file: StoredFile
) -> None:
    assert not found(small, [SEALED], file)
