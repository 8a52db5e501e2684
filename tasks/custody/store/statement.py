"""State a verdict in words that other tools read: an in-toto Statement (v1)."""

from collections.abc import Mapping
from typing import Final

from tasks.custody.evidence.keys import VERDICT
from tasks.custody.incident.incident import Origin
from tasks.custody.incident.verdict import Verdict
from tasks.custody.store.manifest import canonical

PREDICATE: Final = "urn:evacuation:verdict:v1"
"""The type of the predicate, which docs/audit.md describes."""


def statement(  # noqa: PLR0913, PLR0917  all that it states
    incident: str, origin: Origin, record: int, verdict: Verdict, sha256: str, manifests: Mapping[str, str]
) -> bytes:
    """Return the statement: the word of a record and what is missing, about its manifests and its verdict.json.

    `sha256` is the digest of the latter, `manifests` those of the former by their names in the closing.
    """
    subjects = {**manifests, f"record/{record:03d}/{VERDICT}": sha256}
    return canonical(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": name, "digest": {"sha256": subjects[name]}} for name in sorted(subjects)],
            "predicateType": PREDICATE,
            "predicate": {
                "incident": incident,
                "host": origin.host,
                "workload": origin.workload,
                "place": origin.place,
                "record": record,
                "verdict": verdict.word,
                "missing": list(verdict.missing),
            },
        }
    )
