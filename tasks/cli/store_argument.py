"""Parse the argument STORE: a file with one [store.NAME], FILE:NAME where it has several, or a saved block."""

from pathlib import Path
from typing import TYPE_CHECKING

from blocks.file import store
from tasks.custody.errors import Refused
from tasks.custody.incident.description import FILE, place

if TYPE_CHECKING:
    from blocks.store_fields import StoreFields


def named_store(text: str) -> "StoreFields":
    """Return the store that the argument names. Needs Prefect only for a saved block. Raises Refused."""
    if not text:
        raise Refused("STORE, a TOML file or the name of a saved store", "none", "Give it, as in evacuation.toml.")
    file, name = place(text)
    if file.endswith(FILE):
        return store(Path(file), name)
    from blocks.saved import asking_server
    from tasks.adapters.saved_blocks import store_to_read

    with asking_server():
        return store_to_read(text)
