"""Which step of the runbook an entry of the custody log tells of: by its id, for titles are for people."""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

StepId: TypeAlias = Literal[
    "cordon",
    "pause",
    "challenge",
    "freeze",
    "stop",
    "prove_contained",
    "watch",
    "prove_still_contained",
    "collect",
    "judge_models",
    "seal",
    "check_seal",
    "claim_store",
    "offload",
    "promote",
    "verify",
    "recover",
    "prove_contained_again",
    "record",
]

_TITLES_OF_0_1: Final[Mapping[str, StepId]] = {
    "§1 cordon: hold the training lock": "cordon",
    "§1 cordon: pause Prefect's side": "pause",
    "§1 check: a launch is caught": "challenge",
    "§2 freeze the workload": "freeze",
    "§3 stop the workload": "stop",
    "§3 check: nothing of the workload is left": "prove_contained",
    "§3 watch: does anything bring it back?": "watch",
    "§3 check: nothing of the workload came back": "prove_still_contained",
    "§4 collect ": "collect",
    "§4 judge the models": "judge_models",
    "§4 seal volume ": "seal",
    "§4 check: the seal holds": "check_seal",
    "§5 claim the incident in the store": "claim_store",
    "§5 offload": "offload",
    "§5 promote latest/": "promote",
    "§6 check: the store's own digests agree": "verify",
    "§7 recover the API": "recover",
    "§7 check: contained again": "prove_contained_again",
    "§8 write the record": "record",
}


def step_of(entry: Mapping[str, Any]) -> tuple[str, str]:
    """Return the id of the entry's step and what it was done to: the collector of "collect", the volume of "seal".

    Each is empty if there is none. Version 0.1 wrote no id: its entries are known by their titles.
    """
    if "step_id" in entry:
        return str(entry["step_id"]), str(entry.get("of", ""))
    title = str(entry["object"])
    known = (each for each in _TITLES_OF_0_1.items() if title.startswith(each[0]))
    return next(((step_id, title.removeprefix(start)) for start, step_id in known), ("", ""))
