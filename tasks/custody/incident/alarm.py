"""Read an alarm; decide whether it is news or belongs to an incident.

Nothing in an alarm is trusted to be there or to have its type: one that cannot be read must not keep an evacuation
from starting, and what is left out of it only makes it more likely to be news.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tasks.custody.containment.process import Identity
from tasks.custody.evidence.redact import redact

_SHOWN: Final = 500
_RUN: Final = "prefect.flow-run."
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Alarm:
    """Which training failed, how, and when, as far as it was told. `began` is when that training was started.

    `start` is the start of process `pid` in clock ticks since boot: a pid alone is reused.
    """

    event: str = ""
    name: str = ""
    run: str = ""
    host: str = ""
    pid: int | None = None
    start: int | None = None
    exit_code: int | None = None
    message: str = ""
    occurred: datetime | None = None
    began: datetime | None = None

    @classmethod
    def of(cls, said: Mapping[str, Any] | None) -> "Alarm | None":
        """Read what an automation handed over (`parameters` in prefect.yaml); None where it handed over nothing."""
        if not said:
            return None
        payload = said.get("payload")
        told: Mapping[str, Any] = payload if isinstance(payload, Mapping) else {}
        return cls(
            event=_text(said.get("event")),
            name=_text(said.get("name")) or _text(said.get("resource")),
            run=_run(told.get("run_id")) or _run(_text(said.get("resource")).removeprefix(_RUN)),
            host=_text(told.get("host")),
            pid=_number(told.get("pid")),
            start=_number(told.get("start")),
            exit_code=_number(told.get("exit_code")),
            message=_text(told.get("message")) or _text(said.get("message")) or _lines(told.get("last_lines")),
            occurred=_time(said.get("occurred")),
            began=_time(told.get("began")),
        )

    @property
    def summary(self) -> str:
        """In a sentence: the reason of an incident that nobody gave another."""
        parts = [f"{self.event or 'an alarm'} of {self.name or 'a training'}"]
        parts += [f"on {self.host}"] if self.host else []
        parts += [f"exit code {self.exit_code}"] if self.exit_code is not None else []
        parts += [self.message] if self.message else []
        return ", ".join(parts)

    @property
    def facts(self) -> dict[str, Any]:
        """For the custody log: what is known of it, as JSON takes it."""
        found = {name: value for name, value in asdict(self).items() if value not in {None, ""}}
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in found.items()}


@dataclass(frozen=True)
class Past:
    """What an incident on this host has contained: processes of this boot, and the flow runs that they belonged to.

    `runs` has the incident's own runs too: an evacuation that fails is no news. `stands` while its cordon stands, with
    a living guard, over a workload that was proven contained; `lifted` is when its cordon was lifted.

    After a thaw the workload goes on, so what it does later is news although it began before: only an alarm that was
    raised before the thaw belongs to such an incident.
    """

    incident: str
    runs: frozenset[str] = frozenset()
    processes: frozenset[Identity] = frozenset()
    stands: bool = False
    lifted: datetime | None = None
    thawed: bool = False


def belongs_to(alarm: Alarm, past: Iterable[Past]) -> str:
    """The incident that the alarm belongs to, the newest first; empty if it is news.

    It names somebody whom the incident has contained; or the workload stands contained at this moment; or the training
    that it tells of began before the cordon was lifted, so it is none that was let in since.
    """
    newest = sorted(past, key=lambda each: each.incident, reverse=True)
    for each in newest:
        if alarm.run in each.runs or _contained(alarm, each):
            return each.incident
    for each in newest:
        began = alarm.occurred if each.thawed else alarm.began or alarm.occurred
        if each.stands or (began and each.lifted and _surely_before(began, each.lifted)):
            return each.incident
    return ""


def _surely_before(moment: datetime, lifted: datetime) -> bool:
    """Whether it was earlier. A time in whole seconds, as `date` tells it, may lie anywhere in its second."""
    latest = moment if moment.microsecond else moment + timedelta(seconds=1)
    return latest <= lifted and moment != lifted


def _contained(alarm: Alarm, past: Past) -> bool:
    """By pid and start; by the pid alone, which may have been used again, unless the training began since."""
    if alarm.start is None and alarm.began and past.lifted and alarm.began >= past.lifted:
        return False
    return any(who.pid == alarm.pid and alarm.start in {None, who.start} for who in past.processes)


def _text(value: object) -> str:
    if not isinstance(value, str | int | float):
        return ""
    words = redact("".join(letter if letter.isprintable() else " " for letter in str(value)))
    return words[:_SHOWN].strip()


def _lines(value: object) -> str:
    """The end of a log counts most."""
    return _text(value[-1]) if isinstance(value, list) and value else ""


def _run(value: object) -> str:
    text = str(value).lower()
    return text if _UUID.fullmatch(text) else ""


def _number(value: object) -> int | None:
    try:
        return int(str(value))
    except ValueError:
        return None


def _time(value: object) -> datetime | None:
    """With a zone, else it means nothing here."""
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return time.astimezone(UTC) if time.tzinfo else None
