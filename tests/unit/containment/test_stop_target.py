"""One record a process in the stop: how it ended, by what it was sent."""

from datetime import UTC, datetime

import pytest

from tasks.containment.stop import StopTarget
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import End, Stopped

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("left", "sent", "end"),
    [
        (True, [], End.SURVIVED),
        (True, ["SIGINT", "SIGCONT"], End.SURVIVED),
        (True, ["SIGKILL"], End.SURVIVED),
        (False, [], End.GONE),
        (False, ["SIGCONT"], End.STOPPED),
        (False, ["SIGINT", "SIGCONT"], End.STOPPED),
        (False, ["SIGINT", "SIGCONT", "SIGKILL"], End.KILLED),
        (False, ["SIGKILL", "SIGSTOP"], End.KILLED),
    ],
)
def test_how_it_ended_is_told_by_what_it_was_sent(left: bool, sent: list[str], end: End) -> None:  # noqa: FBT001
    target = StopTarget(Identity(7, 70), "api", "run", alive=left, sent=[(name, AT) for name in sent], reason="why")
    assert target.receipt() == Stopped(
        Identity(7, 70), "api", "run", tuple((name, AT) for name in sent), end, None, "why"
    )


@pytest.mark.parametrize(
    ("left", "sent", "gone_at", "end", "reason"),
    [
        (True, [], None, End.SURVIVED, "SIGINT, SIGCONT announced by an earlier run (以前の実行が送信を予告)"),
        (
            False,
            [],
            None,
            End.STOPPED,
            "SIGINT, SIGCONT announced by an earlier run, and it ended at an unknown moment",
        ),
        (False, ["SIGKILL"], AT, End.KILLED, "SIGINT, SIGCONT announced by an earlier run (以前の実行が送信を予告)"),
    ],
)
def test_what_an_earlier_run_has_announced_is_told(
    left: bool,  # noqa: FBT001
    sent: list[str],
    gone_at: datetime | None,
    end: End,
    reason: str,
) -> None:
    announced = (("SIGINT", AT), ("SIGCONT", AT))
    now = [(name, AT) for name in sent]
    receipt = StopTarget(Identity(7, 70), "api", "run", False, False, left, now, gone_at, "", announced).receipt()
    assert (receipt.signals, receipt.end, receipt.gone_at) == ((*announced, *now), end, gone_at)
    assert receipt.reason.startswith(reason)
