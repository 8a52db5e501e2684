"""Load blocks from a Prefect server, and explain errors of the blocks or of the server."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

from tasks.custody.errors import Refused


@contextmanager
def asking_server() -> Iterator[None]:
    """Raise Refused if no Prefect server is named, or it does not answer a request for blocks, or with an error.

    Without a named one Prefect would start a server of its own, and leave it running.
    """
    if PREFECT_API_URL.value() is None:
        raise Refused(
            "a Prefect server that has the saved blocks",
            "none: PREFECT_API_URL is not set",
            "export PREFECT_API_URL=http://127.0.0.1:4200/api, or use a TOML file that names no saved block.",
        )
    try:
        yield
    except httpx.HTTPError as error:
        raise Refused(
            f"a Prefect server that has the saved blocks at {PREFECT_API_URL.value()}",
            str(error).partition("\n")[0] or type(error).__name__,
            "Start it, set PREFECT_API_URL to its address, or use a TOML file that names no saved block.",
        ) from error


def saved_fields(reference: str, *, secrets: bool = True) -> dict[str, Any]:
    """Return the fields of a block by its reference, from the server of the present settings, in a run too.

    A client without settings of its own would be that of the run's server. Raises ObjectNotFound, or an error of httpx.
    """
    kind, _, name = reference.partition("/")
    with get_client({}, sync_client=True) as client:
        return client.read_block_document_by_name(name, kind, include_secrets=secrets).data


def saved_block(reference: str) -> Any:
    """Load a block by its reference, such as aws-credentials/evacuation. Raises Refused if no such block is saved."""
    try:
        return Block.load(reference)
    except ValueError as error:
        raise Refused(
            "the name of a saved block, as in aws-credentials/evacuation",
            f"{reference!r}: {error}",
            "Save it (docs/setup.md), or correct its name in the file.",
        ) from error
