"""Make models as people do, with whatever versions are installed: `python tests/support/honest_models.py FILE.zip`.

Every estimator of scikit-learn that fits a small table, on several kinds of tables; pipelines, searches, scorers,
kernels, tables and what else is saved beside them; XGBoost and LightGBM where they are installed. Each is saved in one
of the ways in which models are saved, in turn. With a second argument each option of each estimator is tried as well.
"""

import datetime as dt
import inspect
import io
import itertools
import pickle
import signal
import sys
import uuid
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any

import joblib
import numpy as np
import pandas as pd
import scipy.sparse
import scipy.special
import scipy.stats
from sklearn import clone, feature_selection, metrics, model_selection
from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
from sklearn.experimental import enable_halving_search_cv, enable_iterative_imputer  # noqa: F401  for all_estimators
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.gaussian_process import GaussianProcessRegressor, kernels
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.utils import all_estimators

SECONDS = 2.0  # what takes longer to fit is left out
SIZE = 40
ANSWER = np.arange(SIZE) % 2
DICE = np.random.default_rng(0)
NUMBERS = np.abs(DICE.normal(1, 1, (SIZE, 4))) + 0.1 + ANSWER[:, None]
WORDS = [f"word{number % 3} and {number % 5}" for number in range(SIZE)]
CITIES = ["kyoto", "osaka"] * (SIZE // 2)
NAMED = pd.DataFrame(NUMBERS, columns=["age", "height", "weight", "score"])
TABLE = pd.DataFrame(
    {
        "age": range(SIZE),
        "city": CITIES,
        "kind": pd.Categorical(["a", "b"] * (SIZE // 2)),
        "when": pd.date_range("2020", periods=SIZE),
        "where": pd.date_range("2020", periods=SIZE, tz="UTC"),
        "took": pd.to_timedelta(range(SIZE), unit="s"),
        "month": pd.period_range("2020", periods=SIZE, freq="M"),
        "count": pd.array([1, None] * (SIZE // 2), dtype="Int64"),
        "said": pd.array(["a", None] * (SIZE // 2), dtype="string"),
        "range": pd.interval_range(0, SIZE),
        "few": pd.arrays.SparseArray([0, 1] * (SIZE // 2)),
    }
)
# What numbers come as, each with what is learnt from them; the first two are tried on every estimator.
DATA: dict[str, tuple[Any, Any]] = {
    "floats": (NUMBERS, ANSWER),
    "named": (NAMED, np.array(["no", "yes"])[ANSWER]),
    "float32": (NUMBERS.astype("f4"), ANSWER.astype("i1")),
    "sparse": (scipy.sparse.csr_matrix(NUMBERS), ANSWER == 1),
    "objects": (NUMBERS.astype(object), np.array(CITIES, dtype=object)),
    "series": (NAMED, pd.Series(ANSWER + 0.5)),
}
ODD: list[tuple[Any, ...]] = [
    (NUMBERS, NUMBERS[:, :2]),
    (NUMBERS[:, 0], ANSWER),
    (NUMBERS @ NUMBERS.T, ANSWER),
    (WORDS, None),
    ([{"a": number % 3} for number in range(SIZE)], None),
    ([[word] for word in WORDS], ANSWER),
    (NUMBERS, np.c_[ANSWER, 1 - ANSWER]),
    (CITIES,),
    ([["a"], ["b"]],),
]
GIVEN: dict[str, Any] = {
    "estimator": LogisticRegression(),
    "base_estimator": LogisticRegression(),
    "estimators": [("one", LogisticRegression()), ("two", LogisticRegression(C=2))],
    "steps": [("scale", StandardScaler()), ("end", LogisticRegression())],
    "transformers": [("a", StandardScaler(), [0, 1]), ("b", "passthrough", [2])],
    "transformer_list": [("a", StandardScaler()), ("b", StandardScaler())],
    "param_grid": {"C": [1, 2]},
    "param_distributions": {"C": [1, 2]},
    "dictionary": np.ones((3, 4)),
}
ALWAYS = {"n_estimators": 3, "cv": 2, "n_init": 1}
OF_THEIR_OWN: dict[str, dict[str, Any]] = {
    "StackingRegressor": {"estimators": [("one", LinearRegression())]},
    "VotingRegressor": {"estimators": [("one", LinearRegression())]},
    "SelfTrainingClassifier": {"estimator": LogisticRegression()},
    "GaussianRandomProjection": {"n_components": 2},
    "SparseRandomProjection": {"n_components": 2},
    "FrozenEstimator": {"estimator": LogisticRegression().fit(NUMBERS, ANSWER)},
    "MiniBatchDictionaryLearning": {"n_components": 2, "max_iter": 2},
    "LGBMClassifier": {"min_child_samples": 2, "verbose": -1},
    "LGBMRegressor": {"min_child_samples": 2, "verbose": -1},
    "DictionaryLearning": {"n_components": 2, "max_iter": 2},
}
BOOSTED = {"xgboost": "XGBClassifier XGBRegressor XGBRFClassifier", "lightgbm": "LGBMClassifier LGBMRegressor"}
NUMPY = (
    "abs absolute add arctan around array asarray cbrt clip cos exp expm1 floor isnan log log10 log1p log2 maximum "
    "mean median nan_to_num nanmean negative power reciprocal round sign sin sqrt square squeeze std sum tanh var"
)
METRICS = "euclidean manhattan chebyshev minkowski hamming canberra braycurtis cosine"
PACKED = ("zlib", "gzip", "bz2", "xz", "lzma", "lz4")
WAYS: dict[str, Callable[..., object]] = {
    **{f"joblib {each}": partial(joblib.dump, protocol=each) for each in range(2, 6)},
    **{
        f"joblib {each}": partial(joblib.dump, compress=(each, 3))
        for each in ["zlib", "gzip", "bz2", "xz", "lzma", "lz4"]
    },
    **{f"pickle {each}": partial(pickle.dump, protocol=each) for each in range(2, 6)},
    "cloudpickle": lambda value, out: import_module("cloudpickle").dump(value, out),
}


class TooSlowError(Exception):
    """A fit takes too long."""


def ring(*_: object) -> None:
    """Give up."""
    raise TooSlowError


def fitted(make: Callable[[], Any], *data: Any) -> Any:
    """The estimator after it has learnt, or None if these data are not for it."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        return make().fit(*data)
    except Exception:  # noqa: BLE001  many want other data or arguments
        return None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def arguments(name: str, kind: Any) -> dict[str, Any]:
    """What an estimator cannot do without, and what keeps it small."""
    wanted = inspect.signature(kind.__init__).parameters
    must = {key for key, each in wanted.items() if each.default is inspect.Parameter.empty}
    given = {key: value for key, value in GIVEN.items() if key in must} | ALWAYS
    return {key: value for key, value in given.items() if key in wanted} | OF_THEIR_OWN.get(name, {})


def options(kind: Any) -> Iterator[dict[str, Any]]:
    """Each word that one of its parameters may be."""
    for parameter, constraints in getattr(kind, "_parameter_constraints", {}).items():
        for constraint in constraints if isinstance(constraints, list) else []:
            for option in sorted(getattr(constraint, "options", ()), key=str):
                yield {parameter: option}


def estimators(*, thorough: bool) -> Iterator[tuple[str, Any]]:
    """All of scikit-learn's, on each kind of data that they learn from."""
    boosted = []
    for package, names in BOOSTED.items():
        with suppress(ImportError):
            boosted += [(name, getattr(import_module(package), name)) for name in names.split()]
    for turn, (name, kind) in enumerate([*all_estimators(), *boosted]):
        own = arguments(name, kind)
        rest = list(DATA)[2:]
        kinds = list(DATA) if thorough or (name, kind) in boosted else [*list(DATA)[:2], rest[turn % len(rest)]]
        made = {each: fitted(lambda: kind(**own), *DATA[each]) for each in kinds}  # noqa: B023  called at once
        if all(value is None for value in made.values()):
            tried = (fitted(lambda: kind(**own), *data) for data in (*DATA.values(), *ODD))  # noqa: B023
            made = {"odd": next((value for value in tried if value is not None), None)}
        yield from ((f"{name} of {each}", value) for each, value in made.items() if value is not None)
        for option in options(kind) if thorough else ():
            if (value := fitted(lambda: kind(**own | option), NUMBERS, ANSWER)) is not None:  # noqa: B023
                yield f"{name} {option}", value


def pipelines() -> Iterator[tuple[str, Any]]:
    """Put together as people do."""
    chosen = make_column_transformer(
        (StandardScaler(), make_column_selector(dtype_include=np.number)),
        (OneHotEncoder(), make_column_selector(dtype_exclude=np.number, pattern="ci")),
        (OrdinalEncoder(), ["kind"]),
        remainder="passthrough",
    )
    columns = TABLE[["age", "city", "kind"]]
    nested = make_pipeline(chosen, make_pipeline(make_union(StandardScaler(), SimpleImputer()), LogisticRegression()))
    for memory in (None, "cache", joblib.Memory("cache", verbose=0), joblib.Memory(None, verbose=0)):
        yield f"pipeline with {memory}", clone(nested).set_params(memory=memory).fit(columns, ANSWER)
    grid = {"pipeline__logisticregression__C": [0.1, 1.0]}
    for kind in ("GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV"):
        more = {"n_iter": 2} if kind == "RandomizedSearchCV" else {}
        search = getattr(model_selection, kind)(nested, grid, cv=2, **more).fit(columns, CITIES)
        yield kind, search
        yield f"best of {kind}", search.best_estimator_
    for name in ("uniform", "loguniform"):
        chosen = {"C": getattr(scipy.stats, name)(0.1, 1)}
        yield f"search over {name}", model_selection.RandomizedSearchCV(LogisticRegression(), chosen)
    yield "text", make_pipeline(TfidfVectorizer(dtype=np.float32), LogisticRegression()).fit(WORDS, ANSWER)
    yield "stop words", CountVectorizer(stop_words="english").fit(WORDS)
    yield "tables out", make_pipeline(SimpleImputer(), StandardScaler()).set_output(transform="pandas").fit(NAMED)
    best = LogisticRegression().fit(NAMED, ANSWER)
    about: dict[str, Any] = {"id": uuid.uuid4(), "trained": dt.datetime.now(dt.UTC), "auc": np.float64(1)}
    yield "a bundle", {"model": best, "columns": list(NAMED), "about": about, "table": NAMED, "kinds": NAMED.dtypes}


def parts() -> Iterator[tuple[str, Any]]:
    """Functions and scorers that estimators call."""
    for name in NUMPY.split():
        yield f"np.{name}", FunctionTransformer(getattr(np, name))
    yield "np.log1p and back", TransformedTargetRegressor(LinearRegression(), func=np.log1p, inverse_func=np.expm1)
    yield "expit", FunctionTransformer(scipy.special.expit)
    yield "get_dummies", FunctionTransformer(pd.get_dummies)
    for name in sorted(dir(metrics)):
        if name.endswith(("_score", "_loss", "_error", "_deviance", "_corrcoef", "_ratios")):
            yield name, metrics.make_scorer(getattr(metrics, name))
    for name in metrics.get_scorer_names():
        yield f"scoring {name}", metrics.get_scorer(name)


def within() -> Iterator[tuple[str, Any]]:
    """Estimators with other parts of scikit-learn in them: kernels, scores, splitters, distances."""
    for name in sorted(dir(metrics.pairwise)):
        if name.endswith(("_kernel", "_kernels", "_similarity", "_distances")) and name[0] != "_":
            yield name, SVC(kernel=getattr(metrics.pairwise, name))
    for name in ["f_classif", "f_regression", "chi2", "mutual_info_classif", "r_regression"]:
        yield name, feature_selection.SelectKBest(getattr(feature_selection, name))
    for kernel in (kernels.RBF() * kernels.ConstantKernel() + kernels.WhiteKernel(), kernels.Matern(nu=2.5)):
        yield str(kernel), GaussianProcessRegressor(kernel, alpha=0.1, optimizer=None).fit(NUMBERS, ANSWER)
    for name in ["KFold", "StratifiedKFold", "TimeSeriesSplit", "ShuffleSplit", "RepeatedKFold", "LeaveOneOut"]:
        yield name, model_selection.GridSearchCV(LogisticRegression(), {}, cv=getattr(model_selection, name)())
    neighbours = import_module("sklearn.neighbors").KNeighborsClassifier
    for metric, tree in itertools.product(METRICS.split(), ("ball_tree", "kd_tree", "brute")):
        made = fitted(lambda: neighbours(metric=metric, algorithm=tree), NUMBERS, ANSWER)  # noqa: B023
        if made is not None:
            yield f"neighbours by {metric} in {tree}", made


def tables() -> Iterator[tuple[str, Any]]:
    """What pandas, scipy and numpy keep."""
    yield "table", TABLE
    yield "row names", TABLE.set_index(["age", "city"])
    for name in TABLE:
        yield f"column {name}", TABLE[[name]]
        yield f"series {name}", TABLE[name]
        yield f"index {name}", pd.Index(TABLE[name])
    for name, form in itertools.product(["csr", "csc", "coo", "lil", "dok", "bsr", "dia"], ("matrix", "array")):
        if made := getattr(scipy.sparse, f"{name}_{form}", None):
            yield f"{name}_{form}", made(np.eye(4))
    for kind in ["f2", "f4", "f8", "g", "i1", "u8", "?", "O", "U3", "S3", "M8[ns]", "m8[s]", "c16"]:
        yield f"array of {kind}", [np.ones((3, 2)).astype("i8").astype(kind), np.zeros(2).astype("i8").astype(kind)[0]]
    for made in (np.random.RandomState(0), np.random.default_rng(0), np.random.SeedSequence(3)):
        yield type(made).__name__, made


def saved(value: Any, way: str) -> bytes | None:
    """A model's file, or None: some hold what cannot be saved, and some ways want what is not installed."""
    out = io.BytesIO()
    try:
        WAYS[way](value, out)
    except Exception:  # noqa: BLE001  each fails in its own manner
        return None
    return out.getvalue()


def main() -> None:
    """Make them all, and keep each."""
    signal.signal(signal.SIGALRM, ring)
    warnings.simplefilter("ignore")
    made = itertools.chain(estimators(thorough=len(sys.argv) > 2), pipelines(), parts(), within(), tables())
    turn = itertools.cycle([way for way in WAYS if saved(None, way)])
    with zipfile.ZipFile(sys.argv[1], "w") as kept:
        for name, value in made:
            way = next(turn)
            if (data := saved(value, way)) is not None:
                kept.writestr(f"{name}, {way}", data)


if __name__ == "__main__":
    main()
