"""Parse an alarm; decide whether it is news or belongs to an incident.

Fields of an alarm may be missing or of any type: an unreadable alarm must not prevent an evacuation, and a missing
field only makes it more likely to count as news.

See docs/adr/0023.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tasks.custody.containment.identity import Identity
from tasks.custody.evidence.redact import redact

MAX_AGE_SECONDS: Final = 600.0
"""Age above which an alarm sets off nothing, unless the workload's block gives another."""
_SHOWN: Final = 500
_AGREE: Final = timedelta(seconds=10)
"""A busy server's answer is seconds old when it comes."""
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Alarm:
    """Which training failed, how, and when, as far as known. `began` is when that training was started.

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
    def of(cls, parameters: Mapping[str, Any] | None) -> "Alarm | None":
        """Parse the parameters that an automation passes (`parameters` in prefect.yaml); None if there are none."""
        if not parameters:
            return None
        payload = parameters.get("payload")
        fields: Mapping[str, Any] = payload if isinstance(payload, Mapping) else {}
        lines = fields.get("last_lines")
        last = lines[-1] if isinstance(lines, list) and lines else ""
        return cls(
            event=_text(parameters.get("event")),
            name=_text(parameters.get("name")) or _text(parameters.get("resource"), digests=True),
            run=_run(fields.get("run_id")) or _run(str(parameters.get("resource")).removeprefix("prefect.flow-run.")),
            host=_text(fields.get("host")),
            pid=_number(fields.get("pid")),
            start=_number(fields.get("start")),
            exit_code=_number(fields.get("exit_code")),
            message=_text(fields.get("message")) or _text(parameters.get("message")) or _text(last),
            occurred=_time(parameters.get("occurred")),
            began=_time(fields.get("began")),
        )

    def comparable(self, server: datetime, host: datetime) -> "Alarm":
        """Return the alarm, without its times if the clocks of server and host, read at once, differ by ten seconds.

        Its times may be of either clock, and those of the host's incidents are of the host's. Without them it is news.
        """
        return self if abs(server - host) <= _AGREE else replace(self, occurred=None, began=None)

    def age(self, requested: datetime, server: datetime, host: datetime) -> timedelta:
        """Return how old the alarm is: since it occurred or its run was requested, whichever is earlier.

        By the clocks of server and host, read at once: the time of one that is wrong would make a new alarm old.
        """
        return server - min(self.comparable(server, host).occurred or requested, requested)

    @property
    def summary(self) -> str:
        """One sentence: the default reason of an incident."""
        parts = [f"{self.event or 'an alarm'} of {self.name or 'a training'}"]
        parts += [f"on {self.host}"] if self.host else []
        parts += [f"exit code {self.exit_code}"] if self.exit_code is not None else []
        parts += [self.message] if self.message else []
        return ", ".join(parts)

    @property
    def facts(self) -> dict[str, Any]:
        """The known fields as JSON values, for the custody log."""
        found = {name: value for name, value in asdict(self).items() if value not in {None, ""}}
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in found.items()}


@dataclass(frozen=True)
class Past:
    """What an earlier incident on this host has contained: processes of this boot, and their flow runs.

    `runs` includes the incident's own runs: a failed evacuation is no news. `stands` is True while its cordon stands,
    with a living guard, and the workload was proven contained; `lifted` is when the cordon was lifted.

    After a thaw the workload goes on. Its later alarms are news even if the training began earlier, so only an alarm
    raised before the thaw belongs to such an incident.
    """

    incident: str
    runs: frozenset[str] = frozenset()
    processes: frozenset[Identity] = frozenset()
    stands: bool = False
    lifted: datetime | None = None
    thawed: bool = False


def belongs_to(alarm: Alarm, past: Iterable[Past]) -> str:
    """Return the newest incident that the alarm belongs to; empty if it is news.

    An alarm belongs to an incident that contained its process or run, that stands contained at this moment, or whose
    cordon was lifted after the alarm's training began. A run that was tried again since is another training.
    """
    newest = sorted(past, key=lambda each: each.incident, reverse=True)
    for each in newest:
        if (alarm.run in each.runs and not _began_since(alarm, each)) or _is_contained(alarm, each):
            return each.incident
    for each in newest:
        began = alarm.occurred if each.thawed else alarm.began or alarm.occurred
        if each.stands or (began and each.lifted and _surely_before(began, each.lifted)):
            return each.incident
    return ""


def _began_since(alarm: Alarm, past: Past) -> bool:
    """Return whether the training began after the cordon was lifted."""
    return bool(alarm.began and past.lifted and alarm.began >= past.lifted)


def last_begin(states: Iterable[Mapping[str, Any]], occurred: datetime | None) -> datetime | None:
    """Return when a run's last attempt before an alarm began, by the states that the server keeps of it.

    The start time of a run that is tried again stays that of its first attempt.
    """
    times = [at for each in states if each.get("type") == "RUNNING" and (at := _time(each.get("timestamp")))]
    before = [at for at in times if not occurred or at <= occurred]
    return max(before, default=None) or min(times, default=None)


def _surely_before(moment: datetime, lifted: datetime) -> bool:
    """Return whether it was earlier. A time in whole seconds may be anywhere in its second."""
    latest = moment if moment.microsecond else moment + timedelta(seconds=1)
    return latest <= lifted and moment != lifted


def _is_contained(alarm: Alarm, past: Past) -> bool:
    """Return whether the incident contained the alarm's process, by pid and start.

    Without a start the pid alone counts, unless the training began after the cordon was lifted.
    """
    if alarm.start is None and _began_since(alarm, past):
        return False
    return any(process.pid == alarm.pid and alarm.start in {None, process.start} for process in past.processes)


def _text(value: object, *, digests: bool = False) -> str:
    if not isinstance(value, str | int | float):
        return ""
    words = redact("".join(letter if letter.isprintable() else " " for letter in str(value)), digests=digests)
    return words[:_SHOWN].strip()


def _run(value: object) -> str:
    text = str(value).lower()
    return text if _UUID.fullmatch(text) else ""


def _number(value: object) -> int | None:
    try:
        return int(str(value))
    except ValueError:
        return None


def _time(value: object) -> datetime | None:
    """Parse a time; None without a zone."""
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return time.astimezone(UTC) if time.tzinfo else None
