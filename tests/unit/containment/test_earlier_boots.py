"""What the journals of earlier boots say of each process and container: its receipt, or that a reboot ended it."""

from datetime import UTC, datetime
from typing import TypeVar

import pytest
from pydantic import TypeAdapter

from tasks.containment.earlier_boots import note_reboots, with_earlier_boots
from tasks.custody.containment.identity import ContainerIdentity, Identity
from tasks.custody.containment.receipt import End, Freeze, Frozen, FrozenContainer, Stop, Stopped, StoppedContainer
from tasks.incident.layout import FROZEN, FROZEN_CONTAINERS, STOPPED, STOPPED_CONTAINERS, STOPPING, of_boot
from tasks.runtime.context import RunContext
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BOOT = "0badb007"
ONE = Identity(7, 70)
ASKED, KILLED = (("SIGINT", AT), ("SIGCONT", AT)), (("SIGKILL", AT),)

Signals = tuple[tuple[str, datetime], ...]

T = TypeVar("T")


def keep(context: RunContext, name: str, kind: type[T], *rows: T, boot: str = BOOT) -> None:
    """As a run of that boot would."""
    path = context.directory.path / of_boot(name, boot)
    path.write_bytes(TypeAdapter(list[kind]).dump_json(list(rows)))  # type: ignore[valid-type]


def frozen(at: datetime | None = AT, denied: str = "", who: Identity = ONE) -> Frozen:
    return Frozen(who, "api", "run", 0, AT, at, denied)


def stopped(end: End, signals: Signals) -> Stopped:
    return Stopped(ONE, "api", "run", signals, end, None if end is End.SURVIVED else AT)


def told(context: RunContext) -> tuple[Freeze, Stop]:
    freeze, stop = with_earlier_boots(context.state, Freeze(AT, (), settled=True), Stop(AT, ()))
    assert freeze
    assert stop
    return freeze, stop


@pytest.mark.parametrize(
    ("was", "stopping", "receipt", "expected"),
    [
        (frozen(), None, None, (End.REBOOT, ())),
        (frozen(at=None, denied="denied"), None, None, (End.REBOOT, ())),
        (frozen(at=None), None, None, (End.GONE, ())),
        (frozen(), stopped(End.SURVIVED, ASKED), None, (End.REBOOT, ASKED)),
        (None, stopped(End.SURVIVED, KILLED), None, (End.REBOOT, KILLED)),
        (frozen(), stopped(End.STOPPED, ASKED), None, (End.STOPPED, ASKED)),
        (frozen(), stopped(End.SURVIVED, KILLED), stopped(End.KILLED, KILLED), (End.KILLED, KILLED)),
        (frozen(), None, stopped(End.KILLED, KILLED), (End.KILLED, KILLED)),
    ],
)
def test_how_a_process_of_an_earlier_boot_ended(
    small: SmallWorkload,
    was: Frozen | None,
    stopping: Stopped | None,
    receipt: Stopped | None,
    expected: tuple[End, Signals],
) -> None:
    with case_of(small.block()) as context:
        keep(context, FROZEN, Frozen, *([was] if was else []))
        keep(context, STOPPING, Stopped, *([stopping] if stopping else []))
        if receipt:
            keep(context, STOPPED, Stopped, receipt)
        freeze, stop = told(context)
    assert freeze.processes == ((was,) if was else ())
    (found,), (end, signals) = stop.processes, expected
    assert (found.identity, found.end, found.signals) == (ONE, end, signals)
    assert (found.gone_at is None, "reboot" in found.reason) == (end in {End.REBOOT, End.GONE}, end is End.REBOOT)
    assert stop.is_complete
    assert stop.summary == f"1 {end}"


def test_all_boots_are_told_and_this_one_last(small: SmallWorkload) -> None:
    here = stopped(End.STOPPED, ASKED)
    with case_of(small.block()) as context:
        for boot in ("11111111", "22222222"):
            keep(context, FROZEN, Frozen, frozen(), boot=boot)
        context.state.frozen.write([frozen()])
        freeze, stop = with_earlier_boots(context.state, Freeze(AT, (frozen(),), settled=True), Stop(AT, (here,)))
    assert freeze == Freeze(AT, (frozen(),) * 3, settled=True)
    assert stop
    assert [each.end for each in stop.processes] == [End.REBOOT, End.REBOOT, End.STOPPED]


def test_containers_of_an_earlier_boot(small: SmallWorkload) -> None:
    named = [ContainerIdentity(letter * 64, "then") for letter in "abc"]
    paused = [FrozenContainer(who, "api", "image", "always", False, "image=image", AT, AT) for who in named[:2]]
    gone = FrozenContainer(named[2], "api", "image", "always", False, "image=image", AT, None)
    receipt = StoppedContainer(named[0], "api", "image", ASKED, End.STOPPED, 0, AT, removed=False)
    with case_of(small.block()) as context:
        keep(context, FROZEN, Frozen)
        keep(context, FROZEN_CONTAINERS, FrozenContainer, *paused, gone)
        keep(context, STOPPED_CONTAINERS, StoppedContainer, receipt)
        freeze, stop = told(context)
    assert freeze.containers == (*paused, gone)
    assert [each.end for each in stop.containers] == [End.STOPPED, End.REBOOT, End.GONE]


def test_a_reboot_is_noted_once(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        note_reboots(context.state, context.log)
        keep(context, FROZEN, Frozen, frozen(), frozen(who=Identity(8, 80)))
        keep(context, STOPPED, Stopped, stopped(End.KILLED, KILLED))
        note_reboots(context.state, context.log)
        note_reboots(context.state, context.log)
        (entry,) = [entry for entry in context.log.entries() if entry["action"] == "rebooted"]
    assert (entry["object"], entry["result"]) == (BOOT, "1 of 2 had no receipt of their end in the boot before")


@pytest.mark.parametrize("damage", ["torn", "another's"])
def test_a_journal_that_cannot_be_believed_is_told_and_left_out(
    small: SmallWorkload, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    with case_of(small.block()) as context:
        keep(context, FROZEN, Frozen, frozen())
        if damage == "torn":
            (context.directory.path / of_boot(FROZEN, BOOT)).write_bytes(b"[{")
        else:
            context.directory.path.chmod(0o777)
        assert told(context) == (Freeze(AT, (), settled=True), Stop(AT, ()))
        context.directory.path.chmod(0o700)
    assert of_boot(FROZEN, BOOT) in caplog.text
