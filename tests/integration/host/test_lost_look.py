"""What was not looked at before it ended stays lost: a later run does not show the host as it is then instead."""

from pathlib import Path

import pytest

from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.custody.evidence.acquisition import Evidence, Outcome
from tasks.evidence.collect import collect
from tasks.incident.layout import FROZEN, of_boot
from tasks.runtime.context import RunContext
from tasks.runtime.freeze_budget import FreezeBudget
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload, wait_until

EARLIER = "0badb007"


def looked(context: RunContext, collector: str, *, late: bool = False) -> Evidence:
    evidence = made(collect.fn(context, collector, FreezeBudget.of(None, 0.0) if late else None))
    assert isinstance(evidence, Evidence)
    return evidence


def started(small: SmallWorkload) -> int:
    training = small.start(WORKERS="0")
    wait_until(lambda: [each.status() for each in small.living()] == ["sleeping"], what="the training at work")
    return training.pid


def first_run(small: SmallWorkload, *, late: bool, ends: bool = True) -> Path:
    """Freeze, look in time or too late, and stop; the incident's folder."""
    started(small)
    with case_of(small.block()) as context:
        freeze.fn(context)
        for collector in ("processes", "stacks"):
            looked(context, collector, late=late)
        if ends:
            stop.fn(context)
        return context.directory.path


def of_an_earlier_boot(home: Path) -> None:
    """As if the host had been booted again since."""
    (home / FROZEN).rename(home / of_boot(FROZEN, EARLIER))


@pytest.mark.whole
@pytest.mark.parametrize("rebooted", [False, True])
def test_no_later_run_makes_good_a_look_that_was_lost(small: SmallWorkload, rebooted: bool) -> None:  # noqa: FBT001
    home = first_run(small, late=True)
    if rebooted:
        of_an_earlier_boot(home)
    for _ in range(2):
        with case_of(small.block()) as context:
            freeze.fn(context)
            needed, told = looked(context, "processes"), looked(context, "stacks")
        assert (needed.outcome, needed.lost, needed.files) == (Outcome.FAILED, True, ())
        assert "nothing of it stands frozen any more" in needed.reason
        assert (told.is_complete, told.lost) == (False, False)


def test_a_look_that_a_reboot_broke_off_is_lost(small: SmallWorkload) -> None:
    started(small)
    with case_of(small.block()) as context:
        freeze.fn(context)
        assert looked(context, "tree").is_complete
        stop.fn(context)
    of_an_earlier_boot(context.directory.path)
    with case_of(small.block()) as context:
        freeze.fn(context)
        assert looked(context, "processes").lost
        assert looked(context, "tree").outcome is Outcome.COLLECTED


@pytest.mark.whole
@pytest.mark.parametrize("late", [False, True])
def test_new_life_is_looked_at_and_mends_nothing(small: SmallWorkload, late: bool) -> None:  # noqa: FBT001
    first_run(small, late=late)
    newcomer = started(small)
    with case_of(small.block()) as context:
        freeze.fn(context)
        evidence = looked(context, "processes")
        (table,) = evidence.files
        assert str(newcomer) in context.directory.locate(evidence.volume, table).read_text()
        assert evidence.lost == late
        stop.fn(context)
    with case_of(small.block()) as context:
        freeze.fn(context)
        assert looked(context, "processes").lost == late


def test_what_still_stands_frozen_is_looked_at_as_ever(small: SmallWorkload) -> None:
    first_run(small, late=True, ends=False)
    with case_of(small.block()) as context:
        assert looked(context, "processes").outcome is Outcome.COLLECTED
        freeze.fn(context)
        assert looked(context, "stacks").outcome is Outcome.COLLECTED
        stop.fn(context)
    with case_of(small.block()) as context:
        assert looked(context, "processes").outcome is Outcome.COLLECTED, "an earlier run has seen all of it"


def test_where_nothing_was_frozen_there_was_nothing_to_lose(small: SmallWorkload) -> None:
    for late in (True, False):
        with case_of(small.block()) as context:
            freeze.fn(context)
            evidence = looked(context, "processes", late=late)
            assert evidence.lost == late


def test_who_ends_while_it_stands_frozen_in_this_run_is_no_loss(small: SmallWorkload) -> None:
    first_run(small, late=True, ends=False)
    with case_of(small.block()) as context:
        freeze.fn(context)
        (training,) = small.living()
        training.kill()
        wait_until(lambda: not small.living(), what="its end")
        assert looked(context, "processes").outcome is Outcome.COLLECTED
