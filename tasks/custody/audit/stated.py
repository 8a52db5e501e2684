"""Check that the statement beside a verdict, which other tools read, says the same."""

from collections.abc import Iterator
from itertools import zip_longest

from tasks.custody.audit.finding import AuditFinding, broken, printable
from tasks.custody.audit.layout import Layout
from tasks.custody.audit.records import RecordOf
from tasks.custody.audit.untrusted import Unreadable, document
from tasks.custody.errors import BadSignature
from tasks.custody.evidence.keys import STATEMENT, VERDICT
from tasks.custody.store.envelope import open_envelope
from tasks.custody.store.signature import PublicKey
from tasks.custody.store.statement import statement


def statement_holds(layout: Layout, record: RecordOf) -> Iterator[AuditFinding]:
    """Compare a statement that the closing vouches for with what follows from closing and verdict, byte by byte.

    It has to be signed by the key that the closing names.
    """
    closing, facts, key = record.closing, record.facts, layout.statement(record.number)
    if record.statement is None or closing is None or facts is None or STATEMENT not in closing.files:
        return
    subject = closing.incident, closing.origin, closing.record
    expected = statement(*subject, facts.verdict, closing.files.get(VERDICT, ""), closing.manifests)
    try:
        key_named = PublicKey(closing.signer.public_key if closing.signer else "")
        found = open_envelope(document(record.statement), key_named)
    except (Unreadable, BadSignature) as error:
        yield broken(key, "it is no statement by the key that its closing names", error.expected, printable(error.got))
        return
    if found != expected:
        lines = zip_longest(expected.splitlines(), found.splitlines(), fillvalue=b"")
        wanted, got = next((pair for pair in lines if pair[0] != pair[1]), (b"", b"another line end"))
        what = f"it states something else than {VERDICT} and the closing"
        yield broken(key, what, *(printable(line.decode(errors="replace").strip(), 120) for line in (wanted, got)))
