"""Collect scores.json: the search results of the workload (artifacts/cv_results_*.csv), summed up.

    [{"file": "artifacts/cv_results_adult.csv", "rows": 40, "columns": 31, "read": "whole",
      "failed_fits": 2,                                    rows without a mean_test_score
      "best": [{"rank_test_score": 1, "mean_test_score": 0.91, "std_test_score": 0.01, "iter": 3,
                "n_resources": 900, "mean_fit_time": 1.2, "params": {"param_C": "10"}}, …],   five at most
      "last_step": {"iter": 3, "n_resources": 900, "candidates": 2}},      null without a column iter
     {"file": …, "not_read": "why"}]

A number that is none is null. Best rows are of the last step where there are steps, as HalvingGridSearchCV chooses
them. A table is hostile text: its values stay text, cut and redacted, and a huge one is read in part, which it says.
"""

import csv
import io
import math
import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from tasks.acquisition.collector import MIB, Collector, FunctionOutput, NothingThere, Target
from tasks.acquisition.matching import find_names
from tasks.acquisition.reading import read_below
from tasks.custody.evidence.keys import quote
from tasks.custody.evidence.redact import redact, redact_fields
from tasks.custody.store.manifest import canonical

if TYPE_CHECKING:
    import pandas as pd

_READ: Final = 8 * MIB
_CELLS: Final = 1_000_000
_COLUMNS: Final = 2000
_TABLES: Final = 100
_BEST: Final = 5
_PARAMS: Final = 50
_LONGEST: Final = 300
_NUMBERS: Final = ("rank_test_score", "mean_test_score", "std_test_score", "iter", "n_resources", "mean_fit_time")


def summary(data: bytes, *, whole: bool) -> dict[str, Any]:
    """Summarise one table. Raises ValueError if it is no table."""
    table = read(data if whole else data[: data.rfind(b"\n") + 1])
    numbers = {name: _numbers(table, name) for name in _NUMBERS}
    cut = not whole or len(table) * len(table.columns) >= _CELLS
    scores = numbers["mean_test_score"]
    return {
        "rows": len(table),
        "columns": len(table.columns),
        "read": "only the first part: it is too large" if cut else "whole",
        "failed_fits": None if scores is None else int(scores.isna().sum()),
        "best": _best(table, numbers),
        "last_step": _last_step(numbers),
    }


def read(data: bytes) -> "pd.DataFrame":
    """Read the table as text, as many rows as there is room for."""
    import pandas as pd

    columns = widest(data)
    if columns > _COLUMNS:
        raise ValueError(f"{columns} columns, more than {_COLUMNS}")
    rows = max(1, _CELLS // columns)
    return pd.read_csv(
        io.BytesIO(data), dtype=str, nrows=rows, keep_default_na=False, encoding_errors="backslashreplace"
    )


def widest(data: bytes) -> int:
    """Return the number of columns of the widest row (a row may span lines), before parsing it costs a gigabyte."""
    return max(map(len, csv.reader(io.StringIO(data.decode("latin-1"), newline=""))), default=0) or 1


def _numbers(table: "pd.DataFrame", name: str) -> "pd.Series[float] | None":
    import pandas as pd

    return pd.to_numeric(table[name], errors="coerce").astype(float) if name in table else None


def _best(table: "pd.DataFrame", numbers: "dict[str, pd.Series[float] | None]") -> list[dict[str, Any]]:
    step, rank, score = (numbers[name] for name in ("iter", "rank_test_score", "mean_test_score"))
    if rank is not None:
        order = rank
    elif score is not None:
        order = -score
    else:
        return []
    if step is not None:
        order = order[step == step.max()]
    return [_row(table, numbers, index) for index in order.dropna().sort_values(kind="stable").index[:_BEST]]


def _row(table: "pd.DataFrame", numbers: "dict[str, pd.Series[float] | None]", index: Any) -> dict[str, Any]:
    scores: dict[str, Any] = {name: _plain(column[index]) for name, column in numbers.items() if column is not None}
    names = [name for name in table.columns if name.startswith("param_")][:_PARAMS]
    params = redact_fields({name[:_LONGEST]: str(table[name][index])[:_LONGEST] for name in names})
    return scores | {"params": params}


def _last_step(numbers: "dict[str, pd.Series[float] | None]") -> dict[str, Any] | None:
    step, resources = numbers["iter"], numbers["n_resources"]
    if step is None or step.isna().all():
        return None
    last = step == step.max()
    most = None if resources is None else _plain(resources[last].max())
    return {"iter": _plain(step.max()), "n_resources": most, "candidates": int(last.sum())}


def _plain(number: float) -> float | int | None:
    if not math.isfinite(number):
        return None
    return int(number) if float(number).is_integer() else float(number)


def make(target: Target) -> bytes:
    """Return one object a table. An unreadable one says why; the file itself is in the collector of artifacts."""
    names, _ = find_names(os.fsencode(target.root), target.globs["artifacts"])
    tables = [name for name in names if PurePosixPath(os.fsdecode(name)).match("cv_results_*.csv")]
    if not tables:
        raise NothingThere("no cv_results_*.csv among the artifacts")
    rows = [{"file": quote(name), **_of(Path(target.root), name)} for name in tables[:_TABLES]]
    late = [{"file": quote(name), "not_read": f"more than {_TABLES} tables"} for name in tables[_TABLES:]]
    return canonical([*rows, *late])


def _of(root: Path, name: bytes) -> dict[str, Any]:
    try:
        data = read_below(root, os.fsdecode(name), _READ + 1)
        return summary(data[:_READ], whole=len(data) <= _READ)
    except Exception as error:  # noqa: BLE001  a hostile table may break the parser in any way
        return {"not_read": redact(f"{type(error).__name__}: {error}")[:_LONGEST]}


COLLECTOR = Collector(
    name="scores",
    answers="Which candidates scored best, and how far had the search come?",
    order=64,
    sources=(FunctionOutput(make, "scores.json"),),
    deadline=90.0,
    stalled=60.0,
)
