"""Read which keys have named their next one in a store that may be forged."""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Final

from blocks.port import Store
from tasks.custody.audit.finding import AuditFinding, Severity, unclear
from tasks.custody.audit.rotated import Signers, with_successors
from tasks.custody.audit.untrusted import Unreadable, document
from tasks.custody.evidence.keys import CLOSING, ROTATIONS
from tasks.custody.fleet.places import key_at
from tasks.custody.store.timestamp import TOKEN_LIMIT, Roots
from tasks.storage.untrusted_reads import read_each

_ROTATIONS_LIMIT: Final = 3_000
_HOST: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def with_rotations(
    store: Store, hosts: Iterable[str], signers: Signers, roots: Roots = None, beneath: str = ""
) -> tuple[Signers, list[AuditFinding]]:
    """Add the keys that allowed ones name as the next, by what the store has of that; those of these hosts come first.

    What cannot be read names no key. Raises StoreError if the store cannot be listed.
    """
    if signers is None:
        return None, []
    limits, whole = dict[str, int](), key_at(beneath, ROTATIONS)
    for prefix in (*(f"{whole}{host}/" for host in sorted({*hosts}) if _HOST.fullmatch(host)), whole):
        listed = islice(store.list(prefix), _ROTATIONS_LIMIT + 1)
        limits |= {each.key: min(each.size, TOKEN_LIMIT) for each in listed}
    documents, unread = read_each(store, dict(islice(limits.items(), _ROTATIONS_LIMIT)))
    every_signer, findings = with_successors(signers, documents, roots)
    findings += [replace(each, severity=Severity.NOTE) for each in unread]
    if len(limits) > _ROTATIONS_LIMIT:
        findings.append(unclear(whole, f"more than {_ROTATIONS_LIMIT} objects: a key that they name may be unknown"))
    return every_signer, findings


def hosts_of(documents: Mapping[str, bytes]) -> set[str]:
    """Return the hosts that these documents name in their closings."""
    found = set[str]()
    for data in (data for key, data in documents.items() if key.endswith(f"/{CLOSING}")):
        with suppress(Unreadable):
            found.add(str(document(data).get("host", "")))
    return found
