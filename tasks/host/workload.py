"""Describe a workload on this host, from the fields of its block, a file or parameters. Standard library alone."""

import os
from collections.abc import Mapping
from typing import Any

from tasks.host.process.matcher import USUAL_INTERPRETERS, WorkloadDescription
from tasks.system.accounts import number_of


def describe(fields: Mapping[str, Any]) -> WorkloadDescription:
    """Return the description of a workload: its root resolved, its account as a number."""
    return WorkloadDescription.of(fields, os.path.realpath(fields["root"]), number_of(fields["user"]))


def interpreter_of(root: str | os.PathLike[str], named: str) -> str:
    """Return the workload's Python, relative to its root: the block's, else the first usual one that exists."""
    usual = (each for each in USUAL_INTERPRETERS if os.access(f"{os.fspath(root)}/{each}", os.F_OK))
    return named or next(usual, USUAL_INTERPRETERS[0])
