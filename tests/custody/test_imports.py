"""What a model may import: what real models are made of, and nothing that runs, opens or reaches anything."""

import io
import itertools
import warnings
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from picklescan.scanner import SafetyLevel, _build_scan_result_from_raw_globals, _unsafe_globals
from sklearn.datasets import make_classification
from sklearn.utils import all_estimators

from tasks.custody.imports import allowed, never
from tasks.custody.inspection import Soundness
from tasks.custody.model import judge


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


def _saved(estimator: Any, samples: Any, target: Any) -> bytes | None:
    out = io.BytesIO()
    try:
        joblib.dump(estimator().fit(samples, target), out)
    except Exception:  # noqa: BLE001  many want other data or arguments
        return None
    return out.getvalue()


def test_tables_and_generators_may_lie_in_a_model() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(
        {"a": [1, 2.5], "b": ["x", "y"], "c": pandas.Categorical(["p", "q"]), "d": pandas.date_range("2026", periods=2)}
    )
    values = (table, table["b"], table.columns, np.random.RandomState(0), np.random.default_rng(0), {"all": table})
    for value, protocol in itertools.product(values, range(6)):
        out = io.BytesIO()
        joblib.dump(value, out, protocol=protocol)
        assert judge(out, (), lambda _: ())["outcome"] is Soundness.SOUND, (type(value), protocol)


def test_nothing_that_picklescan_calls_dangerous_is_allowed_whatever_an_operator_says() -> None:
    known = [
        (module, name)
        for module, names in _unsafe_globals.items()
        for name in (["anything"] if names == "*" else [names] if isinstance(names, str) else names)
    ]
    assert len(known) > 80
    assert [pair for pair in known if allowed(*pair)] == []
    reported = {
        (each.module, each.name): each.safety for each in _build_scan_result_from_raw_globals(set(known), "x").globals
    }
    assert set(reported.values()) == {SafetyLevel.Dangerous}


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("builtins", "exec"),
        ("subprocess", "Popen"),
        ("importlib", "import_module"),
        ("src.tools", "os"),
        ("src.tools", "system"),
        ("src.tools", "subprocess.run"),
        ("sklearn.base", "os.system"),
        ("sklearn.callback._transport", "Client"),
        ("numpy", "load"),
        ("numpy.f2py.crackfortran", "getlincoef"),
        ("pandas", "read_pickle"),
        ("pandas", "HDFStore"),
        ("joblib", "load"),
        ("scipy.stats._distn_infrastructure", "rv_continuous"),
        ("", ""),
        ("sklearn.base", ""),
    ],
)
def test_what_can_reach_out_is_never_allowed(module: str, name: str) -> None:
    assert not allowed(module, name)
    assert not allowed(module, name, ("src",))


@given(st.sampled_from(["os", "builtins", "subprocess", "posix", "sys"]), st.text(min_size=1, max_size=9))
def test_no_list_of_an_operator_lets_the_worst_in(module: str, name: str) -> None:
    harmless = module == "builtins" and allowed(module, name)
    assert harmless or not allowed(module, name, (module, f"{module}.{name}"))
    assert never(f"{module}.{name}")
