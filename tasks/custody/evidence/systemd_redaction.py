"""Redact what systemd prints in a form of its own: unit files, and the journal as JSON.

What is not known to be harmless is hidden: a field or directive that is not listed here is one.
"""

import re
from typing import Final

from tasks.custody.evidence.redact import (
    hide,
    redact,
    redact_assignments,
    redact_line,
    redact_value,
)
from tasks.custody.evidence.words import secret_name

_SETTING: Final = re.compile(
    r"(?P<before>[\s#;]*(?P<name>[A-Z][A-Za-z]{1,60})[ \t]*=[ \t]*(?P<mark>[-@:+!|]*))(?P<value>.*)"
)
_HARMLESS: Final = re.compile(
    r"Description|Documentation|SourcePath|Type|User|Group|After|Before|Requires|Requisite|Wants|PartOf|BindsTo|Upholds"
    r"|Conflicts|On(?:Failure|Success)|WantedBy|RequiredBy|Also|Alias|Slice|Sockets|Unit|Restart|Kill(?:Mode|Signal)"
    r"|Standard(?:Input|Output|Error)|SyslogIdentifier|PassEnvironment|UnsetEnvironment|Protect\w+|Private\w+|Restrict\w+"
    r"|CapabilityBoundingSet|AmbientCapabilities|\w+Directory|Read(?:Only|Write)Paths|InaccessiblePaths|OnCalendar"
)
"""Directives with names of units, accounts, folders and modes."""


def redact_unit_files(text: str) -> str:
    """Return unit files as `systemctl cat` prints them, a setting a line; a comment is read like a setting.

    Of an unlisted directive what a command line would show is shown.
    """
    return "\n".join(map(_redact_setting, re.sub(r"\\\n[ \t]*", " ", text).split("\n")))


def _redact_setting(line: str) -> str:
    found = _SETTING.fullmatch(line)
    if not found:
        marks = re.match(r"[\s#;]*", line)
        before = marks[0] if marks else ""
        return before + redact_line(line.removeprefix(before))
    name, value = found["name"], found["value"]
    if name == "Environment":
        shown = redact_assignments(value)
    elif _HARMLESS.fullmatch(name):
        shown = redact(value, digests=True)
    elif name.startswith("Exec"):
        shown = redact_line(value)
    else:
        shown = hide(value) if value and secret_name(name, alone=True) else redact_value(value)
    return found["before"] + shown
