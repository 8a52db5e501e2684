"""Blocks by name: a run by hand asks no server for its own, and only an unknown name is called unknown."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings

from blocks.workload import Workload
from tasks.custody.errors import Refused
from tasks.prefect_side.local_config import LocalConfig, using_local_config
from tasks.prefect_side.saved_blocks import SavedStore, load_block, require_store, store_to_read


@pytest.fixture
def by_hand(tmp_path: Path) -> Iterator[LocalConfig]:
    """A run by hand, whose blocks are those of its file under whatever name."""
    fields = {"folder": str(tmp_path / "store"), "signing": {"private_key": "no key", "identity": "i"}}
    known = LocalConfig(Workload(root=str(tmp_path)), fields, get_current_settings())
    with using_local_config(known):
        yield known


def test_a_run_by_hand_has_its_own_store_whatever_the_name(by_hand: LocalConfig) -> None:
    assert require_store("nobody").fields == by_hand.store


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


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"root": "/srv/portfolio"}, "host: Field required"),
        ({"host": "gpu1", "root": "srv"}, "root: .*absolute path"),
        ({"host": "gpu1", "root": "/srv/portfolio", "grace_seconds": 0}, "grace_seconds: .*greater than 0"),
    ],
)
def test_what_a_form_has_saved_that_is_not_valid_is_named_with_its_field(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, object], words: str
) -> None:
    document: Any = SimpleNamespace(name="portfolio", data=fields, block_schema=SimpleNamespace())
    monkeypatch.setattr(Workload, "load", lambda _: Workload._load_from_block_document(document))
    with pytest.raises(Refused, match=f"a valid workload/portfolio; got {words}.*Correct it in the UI"):
        load_block(Workload, "portfolio")


def no_server(name: str) -> None:
    raise RuntimeError(f"no server for {name}")


def test_what_is_wrong_with_a_server_is_not_said_of_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workload, "load", no_server)
    with pytest.raises(RuntimeError, match="no server for portfolio"):
        load_block(Workload, "portfolio")


class PaperServer:
    """A server that holds stores by their names, and speaks as Prefect's client does."""

    def __init__(self, **stores: dict[str, str]) -> None:
        """Hold these."""
        self.stores = stores

    def __enter__(self) -> Self:
        """It is there."""
        return self

    def __exit__(self, *_: object) -> None:
        """It stays."""

    def read_block_document_by_name(self, name: str, slug: str) -> SimpleNamespace:
        """One of them."""
        assert slug == "evidence-store"
        if name not in self.stores:
            raise ObjectNotFound(KeyError(name))
        return SimpleNamespace(data=self.stores[name])

    def read_block_documents_by_type(self, slug: str) -> list[SimpleNamespace]:
        """Their names; of no other kind is any there."""
        return [SimpleNamespace(name=name) for name in self.stores] if slug == "evidence-store" else []


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> PaperServer:
    holds = PaperServer(second={"folder": "/b"}, first={"folder": "/a"})
    monkeypatch.setattr("prefect.client.orchestration.get_client", lambda **_: holds)
    return holds


@pytest.mark.usefixtures("server")
def test_a_saved_store_is_had_by_its_name_and_another_name_is_refused_with_those_that_are_there() -> None:
    assert require_store("first") == SavedStore("first", {"folder": "/a"})
    assert store_to_read("second").folder == Path("/b")
    with pytest.raises(Refused, match=r"a saved evidence-store block; got 'third'.*Use one of: first, second"):
        require_store("third")


@pytest.mark.usefixtures("server")
def test_a_block_of_an_unknown_name_is_refused_and_one_that_is_saved_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workload, "load", lambda name: name if name == "mine" else missing(name))
    assert load_block(Workload, "mine") == "mine"
    with pytest.raises(Refused, match=r"a saved workload block; got 'other'.*none is saved yet"):
        load_block(Workload, "other")


def missing(name: str) -> None:
    raise ValueError(f"Unable to find block document named {name} for block type workload")


def test_no_text_of_a_saved_store_shows_what_its_fields_hold() -> None:
    saved = SavedStore("house", {"bucket": "evidence", "signing": {"private_key": "a secret"}})
    assert repr(saved) == str(saved) == "SavedStore(name='house')"
