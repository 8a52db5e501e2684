"""Tell from the command line whether an evacuation of a workload would work."""

from dataclasses import asdict
from pathlib import Path

from blocks.file import store_given, workload_given
from tasks.cli.audit import read_file
from tasks.cli.output import note, show
from tasks.custody.incident.description import place
from tasks.custody.incident.exit_codes import EXIT_CODES
from tasks.prefect_side.local_config import LocalConfig, using_local_config
from tasks.readiness.check_target import CheckTarget
from tasks.readiness.examine import examine
from tasks.readiness.report import lines


def doctor_by_hand(workload: str, store: str, signers: Path | None, *, message: bool, as_json: bool) -> int:
    """Print all findings, and return the exit code of the state. Raises Refused."""
    from prefect.settings import get_current_settings

    file, named = place(workload)
    name, block = workload_given(Path(file), named)
    there, called = place(store or file)
    store_name, saved = store_given(Path(there), called)
    note(f"looking at {name}; nothing of it is touched")
    allowed = read_file(signers, str, "an allowed_signers file", "Make one, or leave --signers out.") or ""
    with using_local_config(LocalConfig(block, saved, get_current_settings())):
        found = examine(CheckTarget(name, block, store_name, saved, allowed, message=message))
    code = EXIT_CODES[found.ending.name]
    data = {"workload": name, "state": found.ending.name, "exit_code": code, "message": found.message}
    show("doctor", lines(found), {**data, "findings": [asdict(each) for each in found.findings]}, as_json=as_json)
    return code
