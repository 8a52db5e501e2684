"""Models that scikit-learn really makes are sound: each estimator, and the pipelines of the real workload."""

import io
import itertools
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401  it makes an import below possible
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import HalvingGridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import all_estimators

from tasks.custody.models.inspection import Soundness
from tasks.custody.models.judge import judge
from tasks.evidence.model_scanner import scan


def test_every_estimator_of_scikit_learn_that_can_be_saved_is_sound() -> None:
    samples, target = make_classification(60, 6, random_state=0)
    judged = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, estimator in all_estimators():
            if (saved := _saved(estimator, np.abs(samples), target)) is not None:
                judged[name] = judge(io.BytesIO(saved), (), lambda _: ())
    assert len(judged) > 120
    assert {name: found for name, found in judged.items() if found["outcome"] is not Soundness.SOUND} == {}
    assert {name for name, found in judged.items() if not found["sklearn"]} == set()


def _steps() -> Any:
    """What the real workload puts together: numbers and words prepared, then one of its estimators."""
    numbers = Pipeline([("impute", SimpleImputer()), ("scale", StandardScaler())])
    words = Pipeline([("impute", SimpleImputer(strategy="most_frequent")), ("code", OneHotEncoder())])
    chosen = make_column_selector(dtype_include="number")
    yield "columns", ColumnTransformer([("num", numbers, chosen), ("cat", words, ["city"])])


MEMORIES: dict[str, Any] = {
    "as in the workload": lambda folder: joblib.Memory(folder, verbose=0),
    "packed": lambda folder: joblib.Memory(folder, compress=("zlib", 3), verbose=0),
    "mapped": lambda folder: joblib.Memory(folder, mmap_mode="r", verbose=0),
    "a path": lambda folder: joblib.Memory(Path(folder), verbose=0),
    "off": lambda _: joblib.Memory(None, verbose=0),
}


SIZE = {RandomForestClassifier: "n_estimators", HistGradientBoostingClassifier: "max_iter"}


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("estimator", [LogisticRegression, RandomForestClassifier, HistGradientBoostingClassifier])
def test_the_pipelines_of_the_real_workload_are_sound(estimator: Any, memory: str, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"age": range(60), "city": ["kyoto", "osaka"] * 30})
    kept = MEMORIES[memory](str(tmp_path))
    small = {} if estimator is LogisticRegression else {SIZE[estimator]: 2}
    pipeline = Pipeline([*_steps(), ("estimator", estimator(**small))], memory=kept)
    search = HalvingGridSearchCV(pipeline, {"columns__num__scale__with_mean": [True, False]}, cv=2, factor=2)
    search.fit(table, table["age"] > 30)
    for model, protocol in itertools.product((search.best_estimator_, search), range(6)):
        out = io.BytesIO()
        joblib.dump(model, out, protocol=protocol)
        found = judge(out, (), scan)
        assert found["outcome"] is Soundness.SOUND, found


def _saved(estimator: Any, samples: Any, target: Any) -> bytes | None:
    out = io.BytesIO()
    try:
        joblib.dump(estimator().fit(samples, target), out)
    except Exception:  # noqa: BLE001  many want other data or arguments
        return None
    return out.getvalue()
