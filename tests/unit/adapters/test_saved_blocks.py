"""Blocks by name: a run by hand asks no server for its own, and only an unknown name is called unknown."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import get_current_settings

from blocks.workload import Workload
from tasks.adapters.local_config import LocalConfig, using_local_config
from tasks.adapters.saved_blocks import load_block, require_store, store_to_read


@pytest.fixture
def by_hand(tmp_path: Path) -> Iterator[LocalConfig]:
    """A run by hand, whose blocks are those of its file under whatever name."""
    fields = {"folder": str(tmp_path / "store"), "signing": {"private_key": "no key", "identity": "i"}}
    known = LocalConfig(Workload(root=str(tmp_path)), fields, get_current_settings())
    with using_local_config(known):
        yield known


def test_a_run_by_hand_has_its_own_store_whatever_the_name(by_hand: LocalConfig) -> None:
    assert require_store("nobody") == by_hand.store


def test_a_store_is_read_without_its_signing_key(by_hand: LocalConfig) -> None:
    assert by_hand.store["signing"]
    assert store_to_read("nobody").signing is None


def test_a_run_by_hand_has_its_own_workload_whatever_the_name(by_hand: LocalConfig) -> None:
    assert load_block(Workload, "nobody") is by_hand.workload


class Broken:
    """A kind of block of which what is saved cannot be read."""

    @classmethod
    def load(cls, name: str) -> None:
        """Fail as pydantic does."""
        raise ValueError(f"1 validation error for {name}")


@pytest.mark.usefixtures("by_hand")
def test_a_run_by_hand_loads_a_block_of_another_kind() -> None:
    with pytest.raises(ValueError, match="1 validation error for mine"):
        load_block(Broken, "mine")


def test_a_saved_block_that_cannot_be_read_is_not_called_unknown() -> None:
    with pytest.raises(ValueError, match="1 validation error for mine"):
        load_block(Broken, "mine")
