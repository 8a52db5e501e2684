"""What a guard is told arrives whole, and it is relieved only if it would watch something else."""

import json
from dataclasses import replace

from tasks.adapters.guard_config import GuardConfig
from tasks.custody.containment.membership import Matcher, Named
from tasks.custody.containment.process import Identity

ORDERS = GuardConfig("IR-x", "why", "now", "/l", "/m", "/c", ("/f",), "/r", (Matcher("api", "x"),), (Identity(5, 6),))
NAMED = replace(ORDERS, named=Named(("a.service",), ("^filebeat ",)))


def test_orders_arrive_whole() -> None:
    assert GuardConfig.from_bytes(NAMED.to_bytes()) == NAMED
    assert GuardConfig.from_bytes(ORDERS.to_bytes()) == ORDERS


def test_what_the_block_names_is_part_of_the_watch() -> None:
    assert not NAMED.same_watch(json.loads(json.dumps(ORDERS.about())))
    assert NAMED.same_watch(json.loads(json.dumps(NAMED.about())))
