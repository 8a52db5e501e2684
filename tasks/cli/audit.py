"""`python -m tasks.cli audit STORE [INCIDENT]`: audit without a Prefect server, or list the incidents of a store.

STORE is a file with one [store.NAME], FILE:NAME where it has several, or the name of a saved block.
"""

import argparse
from pathlib import Path

from tasks.audit.inventory import columns, holdings
from tasks.audit.report import lines
from tasks.audit.verify import audited
from tasks.cli.store_argument import named_store
from tasks.custody.audit.signers import AllowedSigner, read_signers
from tasks.custody.errors import Refused
from tasks.custody.visible import say


def audit_by_hand(arguments: list[str]) -> int:
    """Exit 0 only if the incident is proven, or if the list could be made; 1 if not proven. Raises EvacuationError."""
    given = _parser().parse_args(arguments)
    opened = named_store(given.store).open()
    if not given.incident:
        rows = holdings(opened)
        following = [f"next: make audit STORE={given.store} INCIDENT=IR-…"] if rows else []
        say(*columns(rows), *following)
        return 0
    found = audited(opened, given.incident, _signers(given.signers), deep=given.deep)
    say(*lines(found))
    return 0 if found.is_complete else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tasks.cli audit", description=__doc__)
    parser.add_argument("store", help="a TOML file with a [store.NAME], FILE:NAME, or the name of a saved block")
    parser.add_argument("incident", nargs="?", default="", help="IR-…; without it the incidents are listed")
    parser.add_argument("--signers", type=Path, help="an allowed_signers file of ssh-keygen")
    parser.add_argument("--deep", action="store_true", help="read every byte back")
    return parser


def _signers(path: Path | None) -> tuple[AllowedSigner, ...] | None:
    if path is None:
        return None
    try:
        return read_signers(path.read_text())
    except (OSError, ValueError) as error:
        raise Refused("an allowed_signers file", f"{path}: {error}", "Make one, or leave SIGNERS out.") from error
