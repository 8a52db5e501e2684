"""Collect journal, properties and unit files of the systemd services that the workload block names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tasks.acquisition.acquire import take
from tasks.acquisition.collector import Collector, FunctionItems, Item, ProgramOutput, Target
from tasks.collectors.journal import require_systemd
from tasks.custody.evidence.keys import stored_name
from tasks.custody.evidence.systemd_redaction import redact_journal, redact_unit_files

_LINES: Final = 50_000


def gather(target: Target, folder: Path) -> Iterator[Item]:
    """Yield small files first: of a long journal the last part is kept, in the room that the others leave."""
    require_systemd()
    small, journals = list[ProgramOutput](), list[ProgramOutput]()
    for unit in target.units:
        place = f"units/{stored_name(unit.encode())}"
        small.append(ProgramOutput(("systemctl", "show", "--", unit), f"{place}/show.txt"))
        files = ("systemctl", "cat", "--no-pager", "--", unit)
        small.append(ProgramOutput(files, f"{place}/unit.txt", redact=redact_unit_files))
        form = ("--no-pager", "--utc", "--all", "--output=json", f"--lines={_LINES}", f"--unit={unit}")
        stored = f"{place}/journal.jsonl"
        journals.append(
            ProgramOutput(("journalctl", *form), stored, keep="last", max_lines=_LINES, redact=redact_journal)
        )
    yield from take(small, target, folder)
    yield from take(journals, target, folder)


COLLECTOR = Collector(
    name="units",
    answers="How were the services of the workload set up, and what did they say?",
    order=33,
    sources=(FunctionItems(gather, "units"),),
    deadline=60.0,
    stalled=60.0,
    of_units=True,
)
