"""Load blocks by name, saved ones or those of a run by hand; refuse unknown names."""

import json
import re
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tasks.custody.errors import Refused
from tasks.prefect_side.local_config import local_config, own_server

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from blocks.store import EvidenceStore

_STORE: Final = "evidence-store"
_SAVE: Final = "Save that block on the server at PREFECT_API_URL (docs/setup.md), or correct its name."
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True)
class SavedStore:
    """A store's block as the server gave it, by name. Its fields may hold a key, so no text of this shows them."""

    name: str
    fields: Mapping[str, Any] = field(repr=False)

    def build(self) -> "tuple[EvidenceStore, str]":
        """Build the block, without its signing key if that cannot be used; the text says why."""
        from blocks.store import with_usable_key

        return with_usable_key(self.fields)


def require_store(name: str, client: "SyncPrefectClient | None" = None) -> SavedStore:
    """Return the saved store block; it is built later, when the server may be gone. `client` is one that is open."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    if config := local_config():
        return SavedStore(name, config.store)
    with nullcontext(client) if client else get_client(sync_client=True) as server:
        try:
            return SavedStore(name, server.read_block_document_by_name(name, _STORE).data)
        except ObjectNotFound as error:
            raise unknown_block(_STORE, name) from error


def store_to_read(name: str) -> "EvidenceStore":
    """Return the saved store for reading. Nothing is signed, so a key that cannot be opened does not matter."""
    from blocks.store import EvidenceStore

    return EvidenceStore.model_validate({**require_store(name).fields, "signing": None})


def secret_headers(reference: str) -> dict[str, str]:
    """Return the HTTP headers in a file of this host, or in a saved Secret block, named like secret/NAME; none without.

    Raises Refused, without any part of the value. By hand the server of people's deployments is asked for a block.
    """
    from httpx import HTTPError, InvalidURL
    from prefect.exceptions import ObjectNotFound

    from blocks.saved import saved_fields
    from blocks.secret_file import read_secret

    if not reference:
        return {}
    if reference.startswith("/"):
        try:
            return headers_of(reference, read_secret(Path(reference)))
        except OSError as error:
            cure = f"Put it there: chown root {reference}; chmod 600 {reference}"
            raise Refused(f"the API's headers in {reference}", error.strerror or "none", cure) from error
    with own_server() as has_server:
        if not has_server:
            raise Refused(f"a Prefect server that has {reference}", "none", "Set PREFECT_API_URL to its address.")
        try:
            value = saved_fields(reference).get("value")
        except (ObjectNotFound, HTTPError, InvalidURL, ValueError) as error:
            raise Refused(f"a Prefect server that has {reference}", type(error).__name__, _SAVE) from error
        return headers_of(reference, value)


def headers_of(reference: str, value: Any) -> dict[str, str]:
    """Return the text of a Secret block, or of a file, as headers. Raises Refused, without any part of it.

    Prefect's API and UI hide a text, but show an object's parts to anybody who may read blocks.
    """
    found = None
    with suppress(ValueError, TypeError):
        found = json.loads(value)
    if isinstance(found, Mapping) and all(map(_is_header, found.items())):
        return dict(found)
    shown = isinstance(value, Mapping)
    raise Refused(
        f"the value of {reference} to be a text of JSON with header names and their texts",
        "a JSON object, which Prefect does not hide" if shown else "another value, which is not shown",
        'Save the text {"X-API-Key": "..."}, with a new key if this one was shown. 文字列で保存してください。',
    )


def _is_header(item: tuple[Any, Any]) -> bool:
    name, text = item
    plain = isinstance(text, str) and text.isascii() and text.isprintable() and text == text.strip()
    return plain and isinstance(name, str) and bool(_HEADER.fullmatch(name))


def load_block(kind: type[Any], name: str) -> Any:
    """Load a block by name, or the file's in a run by hand. Refuses an invalid one, and an unknown with those known."""
    if (config := local_config()) and isinstance(config.workload, kind):
        return config.workload
    try:
        return kind.load(name)
    except ValueError as error:
        if "Unable to find block document" not in str(error):
            raise
        raise unknown_block(kind.get_block_type_slug(), name) from error
    except RuntimeError as error:  # as from a form of the UI, which compares nothing with our rules
        from pydantic import ValidationError

        from blocks.file import complaints

        if not isinstance(error.__cause__, ValidationError):
            raise
        cure = "Correct it in the UI (Blocks), or save it again. UI の Blocks で修正してください。"
        raise Refused(f"a valid {kind.get_block_type_slug()}/{name}", complaints(error.__cause__), cure) from error


def unknown_block(slug: str, name: str) -> Refused:
    """Return the error for a block name that the server does not know, with the names that it knows."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError

    names = list[str]()
    # an error: no block of the type was ever saved
    with get_client(sync_client=True) as client, suppress(PrefectHTTPStatusError):
        names = sorted(str(document.name) for document in client.read_block_documents_by_type(slug))
    return Refused(
        f"the name of a saved {slug} block",
        repr(name),
        f"Use one of: {', '.join(names) or 'none is saved yet'}; or save one (docs/setup.md).",
    )
