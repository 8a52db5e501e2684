"""Describe the actor of a run: the account of this process, and the trigger of the run."""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tasks.host.process.table import boot_id
from tasks.system.accounts import account_name

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

BY_HAND: Final = "by hand"
_UNSET: Final = 2**32 - 1
_SHOWN: Final = 200


def actor(run: str, trigger: str = BY_HAND) -> dict[str, str]:
    """Return the fields of a custody log entry that say who acted (RFC 3227 §4.1, NIST SP 800-61r2 §3.3.2)."""
    uid = os.geteuid()
    return {
        "trigger": trigger,
        "run": run,
        "user": f"{account_name(uid)} ({uid})",
        **behind(os.environ, _login()),
        "host": socket.gethostname(),
        "boot": boot_id(),
    }


def behind(environment: Mapping[str, str], login: int) -> dict[str, str]:
    """Return the person behind the account, as far as known: the login, and the user who became root by sudo."""
    found = {}
    if login != _UNSET:
        found["login"] = f"{account_name(login)} ({login})"
    if sudo := environment.get("SUDO_USER"):
        found["sudo"] = f"{sudo[:_SHOWN]} ({environment.get('SUDO_UID', '?')[:_SHOWN]})"
    return found


def person() -> str:
    """Return the person behind this process by name, as far as known: the one behind sudo, else the login."""
    known = behind(os.environ, _login())
    return known.get("sudo") or known.get("login") or f"{account_name(os.geteuid())} ({os.geteuid()})"


def triggered_by(run: "FlowRun", deployment: str) -> str:
    """Describe the trigger of a run in a sentence. A server without accounts knows no persons by name."""
    origin = "a person or a program with access to the server"
    if run.created_by and run.created_by.display_value:
        origin = f"{(run.created_by.type or 'origin').lower()} {run.created_by.display_value}"
    elif run.auto_scheduled:
        origin = "a schedule"
    elif run.parent_task_run_id:
        origin = f"another flow, task run {run.parent_task_run_id}"
    through = f", through deployment {deployment}" if deployment else ""
    tags = f", tagged {', '.join(sorted(run.tags))}" if run.tags else ""
    return f"{origin}{through}{tags}"[:_SHOWN]


def _login() -> int:
    """Return the login id of this process, which the kernel keeps through su and sudo."""
    with suppress(OSError, ValueError):
        return int(Path("/proc/self/loginuid").read_text())
    return _UNSET
