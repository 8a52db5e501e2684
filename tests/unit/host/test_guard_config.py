"""What a guard is told arrives whole, and one that stands is relieved only if it would watch something else."""

import json
from dataclasses import replace

import pytest

from tasks.custody.containment.identity import Identity
from tasks.host.guard_config import GuardConfig
from tasks.host.process.matcher import Matcher, WorkloadDescription

WORKLOAD = WorkloadDescription(
    "/r", (Matcher("api", "x", 7, 8000),), ("a.service",), ("^filebeat ", "exe=/opt/x"), (".venv/bin/python",)
)
ORDERS = GuardConfig("IR-x", "why", "now", "/l", "/m", "/c", ("/f",), WORKLOAD, (Identity(5, 6),))


def test_orders_arrive_whole() -> None:
    bare = replace(ORDERS, workload=WorkloadDescription("/r", ()), spared=())
    assert GuardConfig.from_bytes(ORDERS.to_bytes()) == ORDERS
    assert GuardConfig.from_bytes(bare.to_bytes()) == bare


def test_one_that_stands_watches_the_same_by_its_marker() -> None:
    marker = json.loads(json.dumps(ORDERS.row()))
    assert ORDERS.same_watch(marker)
    assert replace(ORDERS, caught="/other").same_watch(marker)
    assert not replace(ORDERS, lock="/other").same_watch(marker)
    assert not replace(ORDERS, containers=("c",)).same_watch(marker)


@pytest.mark.parametrize(
    "changed",
    [
        replace(WORKLOAD, root="/s"),
        replace(WORKLOAD, matchers=(Matcher("api", "x", 7, 8001),)),
        replace(WORKLOAD, units=()),
        replace(WORKLOAD, bystanders=()),
        replace(WORKLOAD, interpreters=()),
    ],
    ids=["root", "patterns", "units", "bystanders", "interpreters"],
)
def test_every_part_of_the_description_is_part_of_the_watch(changed: WorkloadDescription) -> None:
    assert not replace(ORDERS, workload=changed).same_watch(json.loads(json.dumps(ORDERS.row())))


def test_orders_without_a_whole_description_are_none() -> None:
    row = json.loads(ORDERS.to_bytes())
    del row["workload"]["interpreters"]
    with pytest.raises(KeyError, match="interpreters"):
        GuardConfig.of(row)
