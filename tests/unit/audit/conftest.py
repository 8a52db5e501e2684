"""One real incident in memory, made once and signed; each test gets a store of its own with a copy of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from blocks.signing_key import SigningKey
from tests.support.memory_store import MemoryStore
from tests.support.sealed_runs import evacuated


class Objects(dict[str, bytes]):
    """All of a bucket, by key."""

    def __repr__(self) -> str:
        """Short: hypothesis shows it in what it tells of a failure."""
        return f"<{len(self)} objects>"


@pytest.fixture(scope="session")
def allowed(signing_key: SigningKey) -> str:
    """The auditor's allowed_signers file."""
    return f"# who signs our incidents\n{signing_key.allowed_signers} the key of the evacuation\n"


@pytest.fixture(scope="session")
def objects(signing_key: SigningKey, tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """Every object of a store with one incident in it, signed."""
    return everything(tmp_path_factory.mktemp("audited"), signing_key)


@pytest.fixture(scope="session")
def unsigned(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """The same without a key."""
    return everything(tmp_path_factory.mktemp("unsigned"), None)


def everything(folder: Path, key: SigningKey | None) -> Objects:
    """Evacuate into memory."""
    store = MemoryStore()
    evacuated(folder / "work load", store, key)
    return Objects({each.key: store.read(each.key) for each in store.list("")})


@pytest.fixture(scope="session")
def holding() -> Callable[[dict[str, bytes]], MemoryStore]:
    """Make a store of these objects, whatever they are."""

    def make(objects: dict[str, bytes]) -> MemoryStore:
        store = MemoryStore()
        store._objects.update(objects)
        return store

    return make
