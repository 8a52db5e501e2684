"""Redact what systemd prints in a form of its own: unit files, and the journal as JSON.

What is not known to be harmless is hidden: a field or directive that is not listed here is one.
"""

import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from tasks.custody.evidence.redact import (
    hide,
    redact,
    redact_assignments,
    redact_environment,
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
_OF_JOURNALD: Final = re.compile(
    r"_(?!AUDIT_FIELD_)[A-Z_]+|PRIORITY|SYSLOG_(?:FACILITY|IDENTIFIER|PID|TIMESTAMP)|MESSAGE_ID|ERRNO|TID|THREAD(?:_NAME)?"
    r"|CODE_(?:FILE|LINE|FUNC)|LOGGER|LEVEL|PROCESS_NAME|(?:USER_)?UNIT|(?:USER_)?INVOCATION_ID|JOB_\w+|UNIT_RESULT|RESULT"
    r"|EXIT_(?:CODE|STATUS)|EXECUTABLE|N_RESTARTS|\w+_[NU]?SEC|(?:MEMORY|IO|IP|CPU)_\w+|SEAT_ID|SESSION_ID"
    r"|COREDUMP_(?:UID|GID|PID|SIGNAL|SIGNAL_NAME|TIMESTAMP|EXE|COMM|UNIT|CGROUP|RLIMIT|OWNER_UID|HOSTNAME)"
    r"|OBJECT_(?:PID|UID|GID|COMM|EXE|SYSTEMD_\w+)|CONTAINER_(?:ID|ID_FULL|NAME|TAG)|IMAGE_NAME"
)
"""Fields that journald and systemd fill, and where a program says that it was: shown like the output of a tool."""
_TOLD: Final = frozenset({"MESSAGE", "TRACEBACK", "EXCEPTION_TEXT", "EXCEPTION_INFO", "STACK_INFO"})


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


def redact_journal(text: str) -> str:
    """Return the journal as `journalctl --output=json` prints it, an entry a line; an unlisted field is hidden."""
    shown = lru_cache(maxsize=1 << 12)(_redact_field)  # entries repeat most of their fields
    return "\n".join(_redact_entry(line, shown) for line in text.split("\n"))


def _redact_entry(line: str, shown: Callable[[str, str], str]) -> str:
    try:
        entry = json.loads(line)
        fields = {redact(name): _redact_content(name, content, shown) for name, content in entry.items()}
    except (ValueError, AttributeError, RecursionError):  # no entry
        return redact(line)
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def _redact_content(name: str, content: Any, shown: Callable[[str, str], str]) -> Any:
    """Return what a field holds: a text, one as an array of bytes, several, or nothing if it is too long."""
    if isinstance(content, list) and content and all(isinstance(each, int) and 0 <= each <= 255 for each in content):  # noqa: PLR2004
        text = bytes(content).decode(errors="backslashreplace")
        return content if (hidden := shown(name, text)) == text else hidden
    if isinstance(content, list):
        return [_redact_content(name, each, shown) for each in content]
    return content if content is None else shown(name, str(content))


def _redact_field(name: str, text: str) -> str:
    if name.endswith("CMDLINE"):
        return redact_line(text)
    if name.endswith("ENVIRON"):
        pairs = (line.partition("=") for line in text.split("\n"))
        return "\n".join(
            f"{key}={redact_environment({key: value})[key]}" if sign else hide(key) for key, sign, value in pairs
        )
    if name in _TOLD:
        return redact(text)
    if not _OF_JOURNALD.fullmatch(name):
        return hide(text) if text else text
    return text if text.isdecimal() else redact(text, digests=True)
