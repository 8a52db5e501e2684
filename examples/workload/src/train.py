"""Train a classifier on a built-in data set; leave model, summary and search results.

Full mode is long and runs eight loky workers, so that it can be evacuated in
mid-training; fast mode is there to have a finished model within seconds.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import joblib
import pandas as pd
import sklearn
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.impute import SimpleImputer
from sklearn.model_selection import HalvingGridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LOADERS = {"builtin": load_breast_cancer}
INTERRUPTED = 130
log = logging.getLogger("train")


@dataclass(frozen=True)
class Mode:
    """How much to search, and with how many workers."""

    grid: Mapping[str, Sequence[object]]
    workers: int


MODES = {
    "fast": Mode({"trees__max_iter": [10, 20], "trees__max_leaf_nodes": [4, 8]}, workers=1),
    "full": Mode(
        {
            "trees__max_iter": [2000, 4000, 8000],
            "trees__max_leaf_nodes": [7, 15, 31],
            "trees__min_samples_leaf": [2, 5, 10],
            "trees__learning_rate": [0.01, 0.03, 0.1],
            "trees__l2_regularization": [0.0, 1.0],
        },
        workers=8,
    ),
}


def git_commit() -> str | None:
    """Name the commit that trained; a deployed copy has no repository, hence none."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607
            capture_output=True,
            check=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


@contextmanager
def heartbeat(seconds: float = 5.0) -> Iterator[None]:
    """Log at a steady beat, so that the log shows the moment a training was frozen."""
    began, done = time.monotonic(), threading.Event()

    def beat() -> None:
        while not done.wait(seconds):
            log.info("searching, %.0f s", time.monotonic() - began)

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def search_for(mode: Mode) -> HalvingGridSearchCV:
    """Build the search. Only its workers are parallel; what they have fitted once they find again in cache/."""
    numbers = Pipeline([("impute", SimpleImputer()), ("scale", StandardScaler())])
    columns = ColumnTransformer([("numbers", numbers, make_column_selector(dtype_include="number"))])
    trees = HistGradientBoostingClassifier(early_stopping=False, random_state=0)
    return HalvingGridSearchCV(
        Pipeline([("columns", columns), ("trees", trees)], memory=joblib.Memory("cache", verbose=0)),
        dict(mode.grid),
        cv=5,
        factor=3,
        n_jobs=mode.workers,
        random_state=0,
        verbose=1,
    )


def train(dataset: str, mode: str) -> None:
    """Search, then write the model straight to its final name, as the real job does."""
    began = time.monotonic()
    data = LOADERS[dataset](as_frame=True)
    labels = data.target.map(dict(enumerate(data.target_names)))
    x_train, x_test, y_train, y_test = train_test_split(
        data.data, labels, test_size=0.2, random_state=0, stratify=labels
    )
    search = search_for(MODES[mode])
    log.info("start dataset=%s mode=%s workers=%d", dataset, mode, MODES[mode].workers)
    with heartbeat():
        search.fit(x_train, y_train)

    models, artifacts = Path("models"), Path("artifacts")
    models.mkdir(exist_ok=True)
    artifacts.mkdir(exist_ok=True)
    joblib.dump(search.best_estimator_, models / f"model_{dataset}.joblib")
    pd.DataFrame(search.cv_results_).to_csv(artifacts / f"cv_results_{dataset}.csv", index=False)
    summary = {
        "dataset": dataset,
        "mode": mode,
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "sklearn": sklearn.__version__,
        "pandas": pd.__version__,
        "scores": {
            "cv": round(float(search.best_score_), 4),
            "test": round(float(search.score(x_test, y_test)), 4),
        },
        "best_params": search.best_params_,
        "seconds": round(time.monotonic() - began, 1),
        "generated_utc": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    text = json.dumps(summary, indent=2) + "\n"
    (artifacts / f"summary_{dataset}.json").write_text(text, encoding="utf-8")
    log.info("done scores=%s", summary["scores"])


def main() -> int:
    """Parse, train, and turn Ctrl-C into the exit code a shell would give it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", choices=LOADERS, default="builtin")
    parser.add_argument("--mode", choices=MODES, default="fast")
    parser.add_argument("--label", default="", help="anything by which this run is told apart from others")
    asked = parser.parse_args()
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        stream=sys.stdout,
        level=logging.INFO,
        format="%(asctime)sZ %(message)s",
        datefmt="%FT%T",
    )
    try:
        train(asked.dataset, asked.mode)
    except KeyboardInterrupt:
        log.warning("interrupted")
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
