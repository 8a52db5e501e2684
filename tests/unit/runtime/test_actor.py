"""Who acts: the account, the person behind it, and what triggered the run."""

import os
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun

from tasks.runtime.actor import BY_HAND, actor, behind, triggered_by

UNSET = 2**32 - 1


def run(**fields: Any) -> FlowRun:
    return FlowRun(flow_id=uuid4(), **fields)


def test_an_entry_names_account_host_boot_run_and_trigger() -> None:
    found = actor("run-1", "automation x")
    assert found["user"].endswith(f"({os.geteuid()})")
    assert (found["run"], found["trigger"]) == ("run-1", "automation x")
    assert found["host"]
    assert found["boot"]
    assert actor("run-1")["trigger"] == BY_HAND


def test_the_person_behind_root_is_named_where_the_system_knows() -> None:
    assert behind({}, UNSET) == {}
    assert behind({}, 0) == {"login": "root (0)"}
    assert behind({"SUDO_USER": "ops", "SUDO_UID": "1000"}, 4_000_000) == {
        "login": "4000000 (4000000)",
        "sudo": "ops (1000)",
    }
    assert len(behind({"SUDO_USER": "x" * 10_000}, UNSET)["sudo"]) < 300


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "a person or a program with access to the server, through deployment evacuate/p"),
        (
            {
                "created_by": {"id": uuid4(), "type": "AUTOMATION", "display_value": "training failed"},
                "tags": ["b", "a"],
            },
            "automation training failed, through deployment evacuate/p, tagged a, b",
        ),
        ({"auto_scheduled": True}, "a schedule, through deployment evacuate/p"),
        (
            {"parent_task_run_id": UUID(int=7)},
            f"another flow, task run {UUID(int=7)}, through deployment evacuate/p",
        ),
    ],
)
def test_what_triggered_a_run_is_told_as_far_as_prefect_tells(fields: dict[str, Any], told: str) -> None:
    assert triggered_by(run(**fields), "evacuate/p") == told


def test_long_names_of_strangers_do_not_fill_each_line() -> None:
    assert len(triggered_by(run(tags=["x" * 5000]), "")) <= 200
