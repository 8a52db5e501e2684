"""What of a look at containers is lost for ever: a stopped one is still asked, one of an earlier boot is not known."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.collectors import discover
from tasks.custody.containment.identity import ContainerIdentity, Identity
from tasks.custody.containment.receipt import Frozen, FrozenContainer
from tasks.evidence.collect import collect
from tasks.evidence.lost_look import EARLIER_LOOK, lost_look
from tasks.incident.layout import FROZEN_CONTAINERS, of_boot
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
GONE = Frozen(Identity(2**22 + 1, 5), "api", "run", 0, AT, AT)
PAUSED = FrozenContainer(ContainerIdentity("c" * 64, "then"), "api", "image", "no", False, "image=image", AT, AT)


def ended(small: SmallWorkload, *, dry_run: bool = False) -> Path:
    """A run that has paused a container beside a process, and looked at neither; the incident's folder."""
    with case_of(small.block(), dry_run=dry_run) as context:
        context.state.frozen.write([GONE])
        context.state.frozen_containers.write([PAUSED])
        context.log.write("frozen", str(GONE.identity.pid))
        context.log.write("container paused", PAUSED.identity.id)
        return context.directory.path


def lost(small: SmallWorkload, collector: str, *, again: bool = False) -> str:
    """What is lost, and whether nothing is left; `again` if this run has found the container paused."""
    with case_of(small.block()) as context:
        if again:
            context.log.write("container paused", PAUSED.identity.id)
        what, host = discover()[collector], context.adapters.host
        losses, left = lost_look(what, context.state, context.log, host)
    return "; ".join(f"{each.source}: {each.reason}" for each in losses) + ("" if left else " (nothing left)")


def test_while_a_container_stands_the_host_is_looked_at_and_what_ended_is_told(small: SmallWorkload) -> None:
    ended(small)
    assert lost(small, "processes").startswith("an earlier run's look: 2 of 2 that were frozen ended before")
    told = lost(small, "processes", again=True)
    assert "1 of 2 that were frozen ended before it was taken, and only what stands frozen now can be looked at" in told
    assert "nothing left" not in told


def test_what_had_ended_before_its_signal_was_never_frozen(small: SmallWorkload) -> None:
    ended(small)
    with case_of(small.block()) as context:
        context.state.frozen.write([replace(GONE, frozen_at=None)])
        context.state.frozen_containers.write([replace(PAUSED, paused_at=None)])
    assert lost(small, "processes") == ""


@pytest.mark.parametrize("collector", ["containers", "container_files"])
def test_what_a_stopped_container_still_has_is_taken_until_a_reboot(small: SmallWorkload, collector: str) -> None:
    home = ended(small)
    assert lost(small, collector) == ""
    (home / FROZEN_CONTAINERS).rename(home / of_boot(FROZEN_CONTAINERS, "0badb007"))
    told = lost(small, collector)
    assert "1 of 1" in told
    assert told.endswith("(nothing left)")
    assert lost(small, collector, again=True) == ""


def test_what_is_no_look_loses_nothing(small: SmallWorkload) -> None:
    ended(small)
    assert lost(small, "logs") == ""


def test_a_rehearsal_loses_nothing(small: SmallWorkload) -> None:
    ended(small, dry_run=True)
    with case_of(small.block(), dry_run=True) as context:
        evidence = made(collect.fn(context, "processes"))
    assert EARLIER_LOOK not in {each.source for each in evidence.losses}
