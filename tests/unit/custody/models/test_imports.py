"""What a model may import: what real models are made of, and nothing that runs, opens or reaches anything."""

import io
import itertools
from pathlib import Path
from typing import Final

import joblib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from picklescan.scanner import SafetyLevel, _build_scan_result_from_raw_globals, _unsafe_globals

from tasks.custody.models.imports import is_allowed, never
from tasks.custody.models.inspection import Soundness
from tasks.custody.models.judge import judge
from tasks.models.scanner import scan

MODEL_OF_1_7_1: Final = Path(__file__).parents[3] / "support/sklearn-1.7.1.joblib"


def test_a_model_made_by_the_scikit_learn_of_the_real_workload_is_sound() -> None:
    found = judge(io.BytesIO(MODEL_OF_1_7_1.read_bytes()), (), scan)
    assert found["outcome"] is Soundness.SOUND, found
    assert (found["estimator"], found["sklearn"]) == ("sklearn.pipeline.Pipeline", "1.7.1")


LOSS = b"c_loss\nCyHalfBinomialLoss\n"


@pytest.mark.parametrize(
    "first",
    [
        b"csklearn._loss.loss\nHalfBinomialLoss\n",
        b"csklearn.linear_model._stochastic_gradient\nSGDClassifier\n",
        b"csklearn.ensemble._hist_gradient_boosting.gradient_boosting\nHistGradientBoostingClassifier\n",
    ],
)
def test_a_loss_is_sound_after_a_name_whose_package_registers_it(first: bytes) -> None:
    assert judge(io.BytesIO(first + b"0" + LOSS + b"."), (), scan)["outcome"] is Soundness.SOUND


@pytest.mark.parametrize(
    "model",
    [
        b"cjoblib.memory\nMemory\n(S'/tmp/cache'\ntR.",  # it would make the folder
        b"cjoblib.memory\nMemory.eval\n.",
        b"cjoblib.memory\nMemorizedFunc\n.",
        b"cjoblib._store_backends\nconcurrency_safe_rename\n.",
        b"cjoblib._store_backends\nFileSystemStoreBackend\n)R.",
        b"cpandas._libs.tslibs.offsets\nOffsetMeta\n(S'A'\n)}tR.",  # it would make a class
        b"c_loss\nsystem\n.",
        b"c_loss.more\nCyHalfBinomialLoss\n.",
        LOSS + b")R.",  # nobody has registered it yet: Python would look for a file of that name
        LOSS + b")R0csklearn._loss.loss\nHalfBinomialLoss\n.",
        b"csklearn._lossy\nX\n0" + LOSS + b")R.",
        b"csklearn.pipeline\nPipeline\n0" + LOSS + b")R.",  # its import does not register it
        b"csklearn.linear_models\nX\n0" + LOSS + b")R.",
    ],
)
def test_what_an_enemy_makes_of_the_names_of_honest_models_is_suspect(model: bytes) -> None:
    assert judge(io.BytesIO(model), (), scan)["outcome"] is Soundness.SUSPECT


@pytest.mark.parametrize(
    ("model", "trust"),
    [
        (b"csrc.features\nCleaner\n)R.", ("src.features.Cleaner",)),
        (b"(csrc.b\nB\ncsrc.a\nA\nt.", ("src.a.A", "src.b.B")),
        (b"(csrc.features\nCleaner\ncos\nsystem\nt.", ()),  # what can never be trusted
        (b"cuuid\nUUID\n.", ()),  # what the second opinion would still call dangerous
        (b"csrc.features\nCleaner\n)R", ()),  # torn as well
        (b"csrc.features\nCleaner\n}S'a'\nNsb.", ()),  # changes it
        (b"csrc fea\nCleaner\n.", ()),  # no name that a block takes
        (b"cnumpy\nload\n.", ()),  # nothing of the operator's own
        (b"cgraphlib\nTopologicalSorter\n.", ()),
        (b"N.", ()),
    ],
)
def test_what_would_make_a_model_sound_is_told_and_does(model: bytes, trust: tuple[str, ...]) -> None:
    found = judge(io.BytesIO(model), (), scan)
    assert found.get("trust", ()) == trust
    if trust:
        assert found["outcome"] is Soundness.SUSPECT
        assert judge(io.BytesIO(model), trust, scan)["outcome"] is Soundness.SOUND


@pytest.mark.slow
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
    assert [pair for pair in known if is_allowed(*pair)] == []
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
    assert not is_allowed(module, name)
    assert not is_allowed(module, name, ("src",))


@pytest.mark.parametrize("name", ["Outer.Inner", "two words", "1st", "<lambda>", "Cleaner\n", ""])
def test_who_trusts_a_package_trusts_its_plain_names_alone(name: str) -> None:
    assert is_allowed("src.features", "Cleaner", ("src",))
    assert not is_allowed("src.features", name, ("src", "src.features"))
    assert is_allowed("src.features", "Outer.Inner", ("src.features.Outer.Inner",))


@given(st.sampled_from(["os", "builtins", "subprocess", "posix", "sys"]), st.text(min_size=1, max_size=9))
def test_no_list_of_an_operator_lets_the_worst_in(module: str, name: str) -> None:
    harmless = module == "builtins" and is_allowed(module, name)
    assert harmless or not is_allowed(module, name, (module, f"{module}.{name}"))
    assert never(f"{module}.{name}")
