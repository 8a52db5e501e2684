"""Describe a store that gives no answer."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tasks.custody.visible import visible

_REASON: Final = 120
_GIVEN_UP: Final = ", given up for this run この実行では断念"
_CURE: Final = "check its endpoint and the network エンドポイントと回線を確認"


@dataclass(frozen=True)
class StoreSilence:
    """Requests that a store has left without an answer, in seconds since the epoch: since when, and how many.

    `last` says how the last of them failed, empty while the first is under way; `fault` that the store itself answered
    so: that it cannot now. `until` is when the last request under way is given up, and `seconds` how long such a one is
    tried; both 0 if none is under way. `answered` says that it has answered something before; of one that has not,
    `until` is when the whole run gives it up.
    """

    place: str
    since: float
    tries: int
    last: str
    until: float = 0.0
    seconds: float = 0.0
    fault: bool = False
    answered: bool = True

    @property
    def _state(self) -> str:
        return "answers that it cannot 保全先は処理不可" if self.fault else "does not answer 保全先の応答なし"

    def tell_waiting(self, tries_left: int, delay: float) -> str:
        """Return since when it does not answer, and until when the run waits for its first answer.

        Of one that has answered before, until about when this step asks it, if that is tried again.
        """
        end = ""
        if not self.answered:
            end = (
                f", tried until {_clock(self.until)} at the latest, in the whole run 実行全体の期限"
                if self.until
                else _GIVEN_UP
            )
        elif self.until:
            until = _clock(self.until + tries_left * (self.seconds + delay))
            end = f", tried in this step until about {until} この工程の目安"
        return f"the store {self._state} since {_clock(self.since)}{end}: {self.place}"

    def tell_tried(self) -> str:
        """Return what was tried until a run was cancelled, and the cure."""
        cure = "look at its load and its log 負荷とログを確認" if self.fault else _CURE
        tried = f"{self.tries} requests failed, the last by {visible(self.last, _REASON)}" if self.tries else ""
        under_way = "one was under way" if self.until else ""
        return (
            f"{self.place} {self._state} since {_clock(self.since)}: "
            f"{', '.join(filter(None, (tried, under_way)))}; {cure}"
        )


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%SZ")
