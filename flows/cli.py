"""Run the command `evacuation`: freeze first if the command does, then parse, act, and exit with a code.

Until the workload is frozen it imports only the standard library and what freezes. The commands with their options and
help are in flows/command/commands.py.

See docs/adr/0029.
"""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, NoReturn

from tasks.custody.errors import EvacuationError
from tasks.custody.incident.description import HERE
from tasks.custody.incident.exit_codes import INTERRUPTED
from tasks.custody.incident.incident import known_id
from tasks.system.installation import PROFILE
from tasks.system.managed_process import ManagedProcessError

RUN_OPTIONS: Final = frozenset({"--store", "--reason", "--incident", "--policy", "--suspects", "--unknown", "--model"})
"""Options of `run` that take a value."""
RUN_SWITCHES: Final = frozenset({"--recover", "--json", "--new"})
"""Options of `run` without a value, with which the workload is still frozen first."""
_CHOICES: Final = {
    "--policy": frozenset({"graceful", "kill"}),
    "--suspects": frozenset({"name", "include"}),
    "--unknown": frozenset({"name", "end"}),
}
_TEMPORARY_SERVER: Final = "PREFECT_SERVER_EPHEMERAL_ENABLED"
"""Prefect's setting by the name that comes before its older one, whatever environment and profile say."""
_NOBODY_READS: Final = 128 + signal.SIGPIPE
_FREEZING_COMMANDS: Final = frozenset({"run", "plan", "recover"})


def main(early: Sequence[int] | None = None) -> NoReturn:
    """Run the command that was typed, and end this process with its exit code.

    `early` are the signals that came during the first imports; None if they were not counted.

    Root's commands know the installed server and its password by the profile that `install` has written. Where no
    server is named, Prefect's client starts none: that would take half a minute, and outlive the command.
    """
    os.environ[_TEMPORARY_SERVER] = "false"
    if os.access(PROFILE, os.R_OK):
        os.environ.setdefault("PREFECT_PROFILES_PATH", str(PROFILE))
    code = INTERRUPTED
    try:
        code = run(sys.argv[1:], early)
        sys.stdout.flush()
    except BrokenPipeError:  # as in `evacuation audit STORE | head`
        code = _NOBODY_READS
    except KeyboardInterrupt:  # one more, while the first was answered or the result was printed
        pass
    os._exit(code)  # Prefect would go on offering the run's events to the server, which has ended with the run


def run(words: Sequence[str], early: Sequence[int] | None = None) -> int:
    """Run one command; return its exit code. Nothing is touched if it cannot be parsed or is refused."""
    try:
        if early is not None:
            _interrupt_from_here(early)
        match list(words):
            case ["status", file] | ["status", file, "--json"] if not file.startswith("-"):
                from tasks.cli.workloads import show_status

                return show_status(file, as_json="--json" in words)  # the parser takes a third of the command's time
        with _freeze_before_import(words) if {*words[:1]} & _FREEZING_COMMANDS else nullcontext():
            from flows.command.commands import invoke

            return invoke(words)
    except EvacuationError as error:
        return _refuse(words, error, error.remedy)
    except ManagedProcessError as error:
        return _refuse(words, error, "Look into the log above, then type it again. ログを確認して再実行。")
    except KeyboardInterrupt:
        stands = "`evacuation status` tells how the workload stands ワークロードの状態を確認"
        return _refuse(words, f"cancelled 中止: {stands}", stands, state="Cancelled", code=INTERRUPTED)


def _interrupt_from_here(early: Sequence[int]) -> None:
    """Raise KeyboardInterrupt for a signal that came during the first imports, and for each from now on."""
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if early:
        raise KeyboardInterrupt


def _refuse(words: Sequence[str], message: object, then: str, **how: Any) -> int:
    from tasks.cli.output import refuse  # it brings the parser of JSON, which no freeze waits for

    return refuse(words, message, then, **how)


def _freeze_before_import(words: Sequence[str]) -> AbstractContextManager[None]:
    from flows.command.freeze_before_import import freeze_before_import

    return freeze_before_import(to_freeze(words))


def to_freeze(words: Sequence[str]) -> tuple[str, str, str | None] | None:
    """Return workload, store and incident of a `run` that can be understood at a glance; None for anything else.

    The incident is None for a new one, also if its id was issued before.
    If the words turn out to be wrong later, the run is refused and the workload is thawed.
    """
    verb, rest, files = words[0], iter(words[1:]), list[str]()
    values = dict[str, str | None]()
    for word in rest:
        name, equals, value = word.partition("=")
        if name in RUN_OPTIONS:
            value = value if equals else next(rest, "-")
            values[name] = value if equals or not value.startswith("-") else None
        elif not word.startswith("-"):
            files.append(word)
        elif word not in RUN_SWITCHES:
            return None
    incident, new = values.get("--incident"), "--new" in words
    chosen = all(values[name] in choices for name, choices in _CHOICES.items() if name in values)
    chosen = chosen and (not new or known_id(incident) != "")
    if verb != "run" or len(files) > 1 or None in values.values() or not chosen:
        return None
    return next(iter(files), HERE), values.get("--store") or "", None if new else incident


if __name__ == "__main__":
    main()
