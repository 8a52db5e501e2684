"""Parse the argument STORE: a file with one [store.NAME], FILE:NAME where it has several, s3://…, or a saved block."""

from pathlib import Path
from typing import TYPE_CHECKING

from blocks.file import store, store_at
from tasks.custody.incident.description import FILE, URL, place

if TYPE_CHECKING:
    from blocks.store_fields import StoreFields


def named_store(text: str) -> "StoreFields":
    """Return the store of an argument, $S3_BUCKET if empty. Needs Prefect only for a saved block. Raises Refused."""
    if not text or text.startswith(URL):
        return store_at(text)
    file, name = place(text)
    if file.endswith(FILE):
        return store(Path(file), name)
    from blocks.saved import asking_server
    from tasks.prefect_side.saved_blocks import store_to_read

    with asking_server():
        return store_to_read(text)
