"""One real incident in memory, made once and signed; each test gets a store of its own with a copy of it."""

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blocks.memory import MemoryStore
from tasks.custody.audit.layout import SIGNATURE
from tasks.custody.signature import public_key, sign
from tests.audit.incidents import evacuated


class Objects(dict[str, bytes]):
    """All of a bucket, by key."""

    def __repr__(self) -> str:
        """Short: hypothesis shows it in what it tells of a failure."""
        return f"<{len(self)} objects>"


SIGNED = ("/manifest.json", "/closing.json")


@pytest.fixture(scope="session")
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture(scope="session")
def allowed(key: Ed25519PrivateKey) -> str:
    """The auditor's allowed_signers file."""
    return f"# who signs our incidents\nevacuation@example.net {public_key(key).line} the evacuation's key\n"


@pytest.fixture(scope="session")
def objects(key: Ed25519PrivateKey, tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """Every object of a store with one incident in it."""
    store = MemoryStore()
    evacuated(tmp_path_factory.mktemp("audited") / "work load", store)
    made = {each.key: store.read(each.key) for each in store.list("")}
    return Objects(made | {f"{name}{SIGNATURE}": sign(key, made[name]) for name in made if name.endswith(SIGNED)})


@pytest.fixture(scope="session")
def holding() -> Callable[[dict[str, bytes]], MemoryStore]:
    """Make a store of these objects, whatever they are."""

    def make(objects: dict[str, bytes]) -> MemoryStore:
        store = MemoryStore()
        store._objects.update(objects)
        return store

    return make
