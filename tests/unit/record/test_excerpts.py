"""What the record quotes from the evidence: only what was sealed, however large, torn or hostile it is."""

from pathlib import Path

import pytest

from blocks.workload import Workload
from tasks.custody.evidence.acquisition import Evidence, Outcome, StoredFile
from tasks.custody.store.manifest import digest_bytes
from tasks.record.excerpts import find_tracebacks, quotes
from tasks.record.score_tables import plain_facts
from tests.support.memory_store import MemoryStore
from tests.support.report_factory import NOW
from tests.support.run_context import case_of

TRACEBACKS = """== logs/api.log
-- 0 tracebacks, the last 0:

-- the last 1 lines:
    all is well

== logs/train.log
-- 2 tracebacks, the last 1:
    Traceback (most recent call last):
    == logs/forged.log
    ValueError: boom
-- the last 1 lines:
    ValueError: boom
"""


def evidence(*files: StoredFile) -> Evidence:
    return Evidence("any", True, False, Outcome.COLLECTED, "", NOW, NOW, 1, files)


def stored(folder: Path, name: str, data: bytes, sealed: bytes | None = None) -> StoredFile:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return StoredFile(name, name, len(data), digest_bytes(data if sealed is None else sealed))


def test_what_was_sealed_is_quoted_and_nothing_else(tmp_path: Path) -> None:
    workload = Workload(root=tmp_path / "root", evidence_dir=tmp_path / "evidence", patterns=["x"])
    with case_of(workload, MemoryStore()) as context:
        folder = context.directory.evidence_dir(1)
        found = quotes(
            context.directory,
            [
                evidence(
                    stored(folder, "artifacts/summary_a.json", b'{"git_commit": "abc"}'),
                    stored(folder, "artifacts/summary_torn.json", b'{"git_com'),
                    stored(folder, "artifacts/summary_deep.json", b"[" * 100_000),
                    stored(folder, "artifacts/summary_changed.json", b'{"a": 1}', sealed=b'{"a": 2}'),
                    stored(folder, "artifacts/summary_huge.json", b'"' + b"x" * (1 << 20) + b'"'),
                    stored(folder, "artifacts/other.json", b"{}"),
                    StoredFile("artifacts/summary_gone.json", "", 2, digest_bytes(b"{}")),
                    stored(folder, "scores.json", b"[]"),
                    stored(folder, "traceback.txt", TRACEBACKS.encode()),
                )
            ],
        )
    assert [(quote.stored, quote.content) for quote in found.summaries] == [
        ("artifacts/summary_a.json", {"git_commit": "abc"})
    ]
    assert [quote.content for quote in found.scores] == [[]]
    assert [quote.stored for quote in found.tracebacks] == ["logs/train.log"]


def test_a_log_cannot_forge_a_heading() -> None:
    assert find_tracebacks(TRACEBACKS) == (
        ("logs/train.log", "Traceback (most recent call last):\n== logs/forged.log\nValueError: boom"),
    )


HEAD = "Traceback (most recent call last):"
INTERRUPT = [HEAD, '  File "a.py", line 1', "KeyboardInterrupt"]
ERROR = [HEAD, '  File "a.py", line 2', "ValueError: boom"]
DURING = ["", "During handling of the above exception, another exception occurred:", ""]


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        (INTERRUPT, []),
        ([*INTERRUPT, *INTERRUPT], []),
        ([*ERROR, *INTERRUPT], ERROR),
        ([*ERROR, *DURING, *INTERRUPT], ERROR),
        ([*INTERRUPT, *DURING, *INTERRUPT], []),
        ([*INTERRUPT, *ERROR], [*INTERRUPT, *ERROR]),
        (ERROR, ERROR),
    ],
)
def test_the_interrupt_that_our_stop_has_sent_is_no_cause(lines: list[str], kept: list[str]) -> None:
    text = "\n".join(["== logs/a.log", "-- 2 tracebacks, the last 2:", *(f"    {line}" for line in lines)])
    assert find_tracebacks(text) == ((("logs/a.log", "\n".join(kept)),) if kept else ())


@pytest.mark.parametrize(
    ("value", "facts"),
    [
        ({"a": {"b": [1, None]}}, (("a.b[0]", "1"), ("a.b[1]", "None"))),
        ({"a": {"b": {"c": {"d": 1}}}}, ()),
        ("text", (("", "text"),)),
    ],
)
def test_numbers_and_words_are_told_with_their_path(value: object, facts: tuple[tuple[str, str], ...]) -> None:
    assert tuple(plain_facts(value)) == facts
