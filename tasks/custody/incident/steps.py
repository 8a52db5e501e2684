"""Identify the runbook step of a custody log entry, by its id: titles are for people."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

StepId: TypeAlias = Literal[
    "cordon", "pause", "challenge", "freeze", "thaw", "stop", "prove_contained", "watch", "prove_still_contained",
    "collect", "judge_models", "seal", "check_seal", "claim_store", "offload", "verify", "promote", "recover",
    "prove_contained_again", "rehearse_recovery", "rehearse_silence", "record",
    "open_incident", "reopen", "show_record", "audit_incident", "list_incidents", "show_audit", "plan_mirror",
    "mirror_latest", "open_fleet", "order_all", "order_missing", "order_again", "thaw_fleet", "record_fleet", "send",
]  # fmt: skip


def step_of(entry: Mapping[str, Any]) -> tuple[str, str]:
    """Return the id of an entry's step and its object, such as "collect" and the collector's name; empty if none."""
    return str(entry.get("step_id", "")), str(entry.get("of", ""))
