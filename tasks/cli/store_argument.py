"""Parse the argument STORE: a file with one [store.NAME], FILE:NAME for several, s3://…, a folder, or a saved block."""

from pathlib import Path

from blocks.file import store, store_at
from blocks.store_fields import StoreFields
from tasks.custody.errors import Refused
from tasks.custody.incident.description import FILE, URL, place


def named_store(text: str) -> StoreFields:
    """Return the store of an argument, $S3_BUCKET if empty. Needs Prefect only for a saved block. Raises Refused."""
    if not text or text.startswith(URL):
        return store_at(text)
    file, name = place(text)
    if file.endswith(FILE):
        return store(Path(file), name)
    if "/" in text:
        if not (path := Path(text)).is_dir():
            others = f"the store's folder, {URL}BUCKET/PREFIX, or a saved block."
            cure = f"Give the file with its table [store.NAME], {others}"
            raise Refused("the folder of a store", f"{path}, where none is", cure)
        return StoreFields(folder=path.absolute())
    from blocks.saved import asking_server
    from tasks.prefect_side.saved_blocks import store_to_read

    with asking_server():
        return store_to_read(text)
