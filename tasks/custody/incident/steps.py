"""Which step of the runbook an entry of the custody log tells of: by its id, for titles are for people."""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

StepId: TypeAlias = Literal[
    "cordon", "pause", "challenge", "freeze", "thaw", "stop", "prove_contained", "watch", "prove_still_contained",
    "collect", "judge_models", "seal", "check_seal", "claim_store", "offload", "verify", "promote", "recover",
    "prove_contained_again", "rehearse_recovery", "record",
]  # fmt: skip

_TITLES_OF_0_1: Final[Mapping[str, StepId]] = {
    "§2 freeze the workload": "freeze",
    "§3 check: nothing of the workload is left": "prove_contained",
    "§4 collect ": "collect",
}
"""Of the steps that are looked for in a log."""


def step_of(entry: Mapping[str, Any]) -> tuple[str, str]:
    """Return the id of the step that an entry tells of, and what it was done to: "collect" and the collector's name.

    Each is empty if there is none. Version 0.1 wrote no id: its entries are known by their titles.
    """
    if "step_id" in entry:
        return str(entry["step_id"]), str(entry.get("of", ""))
    title = str(entry["object"])
    known = (each for each in _TITLES_OF_0_1.items() if title.startswith(each[0]))
    return next(((step_id, title.removeprefix(start)) for start, step_id in known), ("", ""))
