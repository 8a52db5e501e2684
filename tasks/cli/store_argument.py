"""Parse the argument STORE: a file with one [store.NAME], FILE:NAME where it has several, or a saved block."""

from pathlib import Path

from blocks.file import store
from blocks.saved import asking_server
from blocks.store import EvidenceStore
from tasks.adapters.saved_blocks import store_to_read
from tasks.custody.errors import Refused
from tasks.custody.incident.description import FILE, place


def named_store(text: str) -> EvidenceStore:
    """The store that is meant. A file needs no Prefect server, unless its credentials name a saved block."""
    if not text:
        raise Refused("STORE=, a TOML file or the name of a saved store", "none", "As in STORE=evacuation.toml.")
    file, name = place(text)
    with asking_server():
        return store(Path(file), name) if file.endswith(FILE) else store_to_read(text)
