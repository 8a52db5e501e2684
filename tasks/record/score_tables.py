"""Build the tables of the workload's scores: its summaries, and its hyperparameter searches."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from tasks.record.content import Quote
from tasks.record.tables import titles
from tasks.rendering.document import Block, Both, Cell, Code, DocumentTable, FactList, Figure, Said, table

_FACTS: Final = 24
_SEARCHES: Final = 20
_FILE: Final = Both("ファイル", "file")


def summaries(quotes: Iterable[Quote]) -> list[Block]:
    """Build a table for each of the workload's summaries."""
    head = titles(("項目", "item"), ("値", "value"))
    blocks: list[Block] = []
    for quote in quotes:
        facts = [*plain_facts(quote.content)]
        rows = tuple((Code(name), Code(value)) for name, value in facts[:_FACTS])
        left_out = len(facts) - len(rows)
        blocks += [FactList(((_FILE, Code(quote.stored)),)), DocumentTable(head, rows, left_out, quote.stored)]
    return blocks


def searches(quotes: Iterable[Quote]) -> list[Block]:
    """Build a table for each cv_results_*.csv summary: progress of the search, and its best candidates."""
    results = [each for quote in quotes if isinstance(quote.content, list) for each in quote.content]
    return [block for each in results[:_SEARCHES] if isinstance(each, dict) for block in _search(each)]


def _search(summary: Mapping[str, Any]) -> Iterable[Block]:
    names = (
        ("rows", Both("候補の行数", "rows")),
        ("failed_fits", Both("失敗した学習", "failed fits")),
        ("read", Both("読み取り", "read")),
        ("not_read", Both("読み取れず", "not read")),
    )
    facts: list[tuple[Both, Cell]] = [(_FILE, Code(str(summary.get("file"))))]
    facts += [(words, Said(str(summary[name]))) for name, words in names if summary.get(name) is not None]
    if step := summary.get("last_step"):
        facts.append((Both("最後の段階", "last resource step"), Said(_join(step))))
    yield FactList(tuple(facts))
    head = titles(("順位", "rank"), ("平均スコア", "mean"), ("標準偏差", "std"), ("パラメーター", "parameters"))
    rows = list[tuple[Cell, ...]]()
    for row in (row for row in summary.get("best") or () if isinstance(row, dict)):
        figures = (row.get(name) for name in ("rank_test_score", "mean_test_score", "std_test_score"))
        texts = (f"{value:.6g}" if isinstance(value, int | float) else "" for value in figures)
        rows.append((*map(Figure, texts), Code(_join(row.get("params")))))
    if rows:
        yield table(head, rows, str(summary.get("file")))


def _join(facts: Any) -> str:
    return ", ".join(f"{name}={value}" for name, value in facts.items()) if isinstance(facts, dict) else ""


def plain_facts(value: Any, path: str = "", levels: int = 3) -> Iterator[tuple[str, str]]:
    """Yield numbers and texts of a JSON value, each with its path, down to three levels."""
    if isinstance(value, str | int | float) or value is None:
        yield path, str(value)
    elif levels and isinstance(value, dict):
        for name, each in value.items():
            yield from plain_facts(each, f"{path}.{name}" if path else str(name), levels - 1)
    elif levels and isinstance(value, list):
        for number, each in enumerate(value):
            yield from plain_facts(each, f"{path}[{number}]", levels - 1)
