"""The store that a person has saved under a name, before it is opened for anything."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from tasks.adapters.local_config import given
from tasks.runtime.context import unknown_block

if TYPE_CHECKING:
    from blocks.store import EvidenceStore

_STORE: Final = "evidence-store"


def require_store(name: str) -> Mapping[str, Any]:
    """The fields of the store's block, which must be saved. It is made of them later, when the server may be gone."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    if known := given():
        return known.store
    with get_client(sync_client=True) as client:
        try:
            return client.read_block_document_by_name(name, _STORE).data
        except ObjectNotFound as error:
            raise unknown_block(_STORE, name) from error


def store_to_read(name: str) -> "EvidenceStore":
    """The saved store, to read from: nothing is signed, so a key that cannot be opened keeps nobody out."""
    from blocks.store import EvidenceStore

    return EvidenceStore.model_validate({**require_store(name), "signing": None})
