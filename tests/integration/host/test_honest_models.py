"""Models that real libraries make are sound: each estimator, what people build, the workload's pipelines."""

import io
import itertools
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import joblib
import pytest
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401  it makes an import below possible
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import HalvingGridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tasks.custody.models.inspection import Soundness
from tasks.custody.models.judge import judge
from tasks.models.scanner import scan
from tests.support import environments, honest_models

Made = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def made_here(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """What is found of the models that the installed libraries make."""
    return _corpus(sys.executable, tmp_path_factory.mktemp("corpus"))


@pytest.mark.soak
def test_every_estimator_of_scikit_learn_that_can_be_saved_is_sound(made_here: Made) -> None:
    fitted = {name: found for name, found in made_here.items() if " of " in name and not name.startswith("array ")}
    assert len({name.split()[0] for name in fitted}) > 200
    assert {name: found for name, found in fitted.items() if found["outcome"] is not Soundness.SOUND} == {}
    assert {name for name, found in fitted.items() if not found.get("sklearn")} == set()


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


@pytest.mark.short(1)
@pytest.mark.sample(5)
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


UNSOUND = {
    "would import scipy.stats.": "a distribution's state holds source text that is run when it is loaded",
    "would import uuid.UUID": "the second opinion names all of uuid, of which a part starts programs",
}


def _corpus(interpreter: Path | str, folder: Path, *options: str) -> Made:
    command = [str(interpreter), honest_models.__file__, "models.zip", *options]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=folder, env=alone, check=True, stdout=subprocess.DEVNULL)
    with zipfile.ZipFile(folder / "models.zip") as made:
        return {name: judge(io.BytesIO(made.read(name)), (), scan) for name in made.namelist()}


def _hold(found: Made) -> None:
    """At most one in a hundred is not sound, each for a reason that is known."""
    unsound = {name: each["reason"] for name, each in found.items() if each["outcome"] is not Soundness.SOUND}
    print(f"{len(found)} models, {len(unsound)} not sound: {unsound}")
    assert {name: why for name, why in unsound.items() if not why.startswith(tuple(UNSOUND))} == {}
    assert len(unsound) <= len(found) / 100


@pytest.mark.soak
def test_of_the_models_that_people_make_one_in_a_hundred_is_not_sound_at_most(made_here: Made) -> None:
    assert {name.rpartition(", ")[2] for name in made_here} == set(honest_models.WAYS)
    assert len(made_here) > 700
    _hold(made_here)


@pytest.mark.soak
@pytest.mark.parametrize("requirements", ["", "models-soak", "models-old-soak"])
def test_so_it_is_for_every_option_and_for_other_versions_and_makes(requirements: str, tmp_path: Path) -> None:
    environments.furnish(tmp_path, requirements)
    interpreter = tmp_path / "venv/bin/python" if requirements else sys.executable
    found = _corpus(interpreter, tmp_path, "thorough")
    assert ("LGBMClassifier of floats" in " ".join(found)) is (requirements == "models-soak")
    _hold(found)
