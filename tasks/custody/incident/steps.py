"""Identify the runbook step of a custody log entry, by its id: titles are for people."""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

StepId: TypeAlias = Literal[
    "cordon", "pause", "challenge", "freeze", "thaw", "stop", "prove_contained", "watch", "prove_still_contained",
    "collect", "judge_models", "seal", "check_seal", "claim_store", "offload", "verify", "promote", "recover",
    "prove_contained_again", "rehearse_recovery", "rehearse_silence", "record",
]  # fmt: skip

_TITLES_OF_0_1: Final[Mapping[str, StepId]] = {
    "§2 freeze the workload": "freeze",
    "§3 check: nothing of the workload is left": "prove_contained",
    "§4 collect ": "collect",
}
"""The steps that are searched for in logs."""


def step_of(entry: Mapping[str, Any]) -> tuple[str, str]:
    """Return the id of an entry's step and its object, such as "collect" and the collector's name; empty if none.

    Version 0.1 wrote no id: its entries are known by their titles.
    """
    if "step_id" in entry:
        return str(entry["step_id"]), str(entry.get("of", ""))
    title = str(entry["object"])
    known = (each for each in _TITLES_OF_0_1.items() if title.startswith(each[0]))
    return next(((step_id, title.removeprefix(start)) for start, step_id in known), ("", ""))
