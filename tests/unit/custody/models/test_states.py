"""Which states of an unpickled object set what cannot be seen, and which wrappers and dtypes are plain."""

import io
import pickle
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tasks.custody.models import pickle_reader
from tasks.custody.models.content import _LINE_LIMIT, ModelContent, Torn, Undecided
from tasks.custody.models.inspection import Soundness
from tasks.custody.models.joblib_arrays import (
    NUMPY_DTYPE,
    BuiltObject,
    Name,
    array_extent,
    item_extent,
    odd_state,
    plain_dtype,
    plain_wrapping,
    wraps,
)
from tasks.custody.models.judge import judge

SLOTTED = BuiltObject(Name("scipy.interpolate._interpolate", "interp1d"), ())
OTHER = BuiltObject(Name("x", "Y"), ())
PAIRED = BuiltObject(Name("numpy.random._pickle", "__bit_generator_ctor"), ())
WRAPPING = {
    "subclass": Name("numpy", "ndarray"),
    "shape": (1,),
    "order": "C",
    "dtype": OTHER,
    "allow_mmap": True,
}


@pytest.mark.parametrize(
    ("made", "state", "odd"),
    [
        (OTHER, {"a": 1}, False),
        (OTHER, {"__class__": 1}, True),
        (OTHER, {OTHER: 1}, True),
        (OTHER, ({"a": 1}, None), False),
        (OTHER, (None, {"a": 1}), True),
        (SLOTTED, (None, {"a": 1}), False),
        (SLOTTED, ({"a": 1}, {"b": 1}), False),
        (SLOTTED, (None, {"__class__": 1}), True),
        (SLOTTED, ({"__class__": 1}, {"b": 1}), True),
        (PAIRED, (1, 2), False),
        (OTHER, (1, 2), True),
        ("no object", (1, 2), True),
        (OTHER, (1, 2, 3), False),
        (OTHER, "x", False),
    ],
)
def test_a_state_is_odd_where_it_may_set_what_cannot_be_seen(made: Any, state: Any, *, odd: bool) -> None:
    assert odd_state(made, state) is odd


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        (b"(dS'coef_'\nI1\ns", Soundness.SOUND),
        (b"(dS'__class__'\nI1\ns", Soundness.SUSPECT),
        (b"(N(dS'coef_'\nI1\nst", Soundness.SUSPECT),
    ],
)
def test_a_model_that_sets_an_odd_state_is_suspect(state: bytes, outcome: Soundness) -> None:
    model = b"\x80\x02csklearn.linear_model._logistic\nLogisticRegression\n)\x81" + state + b"b."
    found = judge(io.BytesIO(model), (), lambda _: ())
    assert found["outcome"] is outcome
    assert ("sets a state in an unknown way" in found["reason"]) is (outcome is Soundness.SUSPECT)


@pytest.mark.parametrize("new", [b")\x81", b")}\x92"], ids=["NEWOBJ", "NEWOBJ_EX"])
def test_a_model_tells_how_many_features_it_takes(new: bytes) -> None:
    model = b"\x80\x04csklearn.linear_model._logistic\nLogisticRegression\n" + new + b"(dS'n_features_in_'\nI7\nsb."
    assert judge(io.BytesIO(model), (), lambda _: ())["features"] == 7


@pytest.mark.parametrize("dump", [joblib.dump, pickle.dump])
def test_a_model_tells_the_names_of_its_features(dump: Callable[[object, io.BytesIO], object]) -> None:
    pandas = pytest.importorskip("pandas")
    model = LogisticRegression().fit(pandas.DataFrame({"age": [1, 2], "dose": [3, 4]}), [0, 1])
    dump(model, out := io.BytesIO())
    found = judge(out, (), lambda _: ())
    assert (found["features"], found["feature_names"]) == (2, ("age", "dose"))


@pytest.mark.slow
def test_a_line_may_be_as_long_as_the_limit_and_no_longer() -> None:
    whole = b"a" * (_LINE_LIMIT - 1) + b"\n"
    assert ModelContent(io.BytesIO(whole), 1 << 30).readline() == whole
    with pytest.raises(Torn):
        ModelContent(io.BytesIO(b"a" + whole), 1 << 30).readline()


def test_a_compressed_file_is_read_as_far_as_the_limit_and_no_further() -> None:
    packed = zlib.compress(b"a" * 1000)
    assert ModelContent(io.BytesIO(packed), 1000).read(1000) == b"a" * 1000
    with pytest.raises(Undecided):
        ModelContent(io.BytesIO(packed), 999).read(1000)


@pytest.mark.parametrize(("beyond", "outcome"), [(1, Soundness.SOUND), (-1, Soundness.UNKNOWN)])
def test_a_compressed_model_is_judged_if_its_content_is_below_the_limit(beyond: int, outcome: Soundness) -> None:
    held = pickle.dumps(["a" * 100], protocol=2)
    found = judge(io.BytesIO(zlib.compress(held)), (), lambda _: (), len(held) + beyond)
    assert found["outcome"] is outcome


def test_a_model_with_more_beside_its_arrays_than_is_read_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    held = pickle.dumps(["a" * 100, "b" * 100], protocol=2)
    assert judge(io.BytesIO(held), (), lambda _: ())["outcome"] is Soundness.SOUND
    monkeypatch.setattr(pickle_reader, "_CONTROL_LIMIT", len(held) - 1)
    found = judge(io.BytesIO(held), (), lambda _: ())
    assert found["outcome"] is Soundness.UNKNOWN
    assert "more beside its arrays" in found["reason"]


def test_a_memory_map_that_is_only_named_is_told() -> None:
    found = judge(io.BytesIO(b"\x80\x02cnumpy\nmemmap\n."), (), lambda _: ())
    assert (found["outcome"], found["imports"]) == (Soundness.SUSPECT, ("numpy.memmap",))


@pytest.mark.parametrize(
    ("arguments", "plain"),
    [
        (("f8", False, True), True),
        (("f8", 0, 1), True),
        (("f8", True, True), False),
        (("f8", False, False), False),
        (("f8", False), False),
        ((b"f8", False, True), False),
        (["f8", False, True], False),
    ],
)
def test_a_dtype_is_plain_if_numpy_makes_a_new_one(arguments: Any, *, plain: bool) -> None:
    assert plain_dtype(arguments) is plain


@pytest.mark.parametrize(
    ("change", "plain"),
    [
        ({}, True),
        ({"numpy_array_alignment_bytes": None}, True),
        ({"numpy_array_alignment_bytes": 16}, True),
        ({"numpy_array_alignment_bytes": True}, False),
        ({"more": 1}, False),
        ({7: 1}, False),
        ({"subclass": "numpy"}, False),
        ({"subclass": Name("numpyx", "ndarray")}, False),
        ({"subclass": Name("numpy.ma", "MaskedArray")}, True),
    ],
)
def test_a_wrapping_is_plain_if_it_is_joblibs(change: dict[Any, Any], *, plain: bool) -> None:
    assert plain_wrapping({**WRAPPING, **change}) is plain
    assert not plain_wrapping({name: value for name, value in WRAPPING.items() if name != "shape"})
    assert not plain_wrapping("x")


def test_joblibs_own_wrapper_is_known_and_the_one_of_before_2016_is_undecided() -> None:
    assert wraps(Name("joblib.numpy_pickle", "NumpyArrayWrapper"))
    assert wraps(Name("sklearn.externals.joblib.numpy_pickle", "NumpyArrayWrapper"))
    assert not wraps(Name("joblib.numpy_pickle", "NumpyPickler"))
    assert not wraps(Name("joblib.x", "NumpyArrayWrapper"))
    assert not wraps(None)
    for name in ("NDArrayWrapper", "ZNDArrayWrapper"):
        with pytest.raises(Undecided):
            wraps(Name("joblib.numpy_pickle_compat", name))


def as_read(value: Any) -> Any:
    """What a reader makes of a dtype's pickle, which is told by what numpy itself would write."""
    if isinstance(value, np.dtype):
        reduced = tuple(value.__reduce__())
        return BuiltObject(NUMPY_DTYPE, reduced[1], [as_read(reduced[2])])
    if isinstance(value, Mapping):
        return {name: as_read(each) for name, each in value.items()}
    return tuple(map(as_read, value)) if isinstance(value, tuple) else value


PLAIN: list[Any] = ["f8", "<i4", ">u2", "?", "c16", "O", "S7", "U3", "V5", "M8[s]", "m8[ns]"]
DTYPES = [
    *PLAIN,
    [("a", "f8"), ("b", "O")],
    [("a", "f8"), ("b", "i4")],
    [("a", [("b", "O")]), ("c", "S2")],
    ("f8", (2, 3)),
    ("O", (2,)),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_item_takes_as_many_bytes_as_numpy_says(dtype: Any) -> None:
    known = np.dtype(dtype)
    if known.subdtype:  # numpy has none of its own: it is part of a structure
        known = np.dtype([("a", known)])
    assert item_extent(as_read(known)) == (known.itemsize, known.hasobject)
    wrapper = BuiltObject(
        Name("joblib.numpy_pickle", "NumpyArrayWrapper"), (), [{"shape": (2, 3), "dtype": as_read(known)}]
    )
    assert array_extent(wrapper) == (6 * known.itemsize, known.hasobject)


@pytest.mark.parametrize("shape", [[2], (2.0,), (-1,), (True,), None])
def test_an_array_of_an_odd_shape_is_undecided(shape: Any) -> None:
    with pytest.raises(Undecided):
        array_extent(BuiltObject(Name("x", "y"), (), [{"shape": shape, "dtype": as_read(np.dtype("f8"))}]))


@pytest.mark.parametrize(
    ("at", "value"), [(0, 4), (1, "?"), (2, "f8"), (5, 8), (6, True), (7, 1), (7, 64), (8, "more")]
)
def test_a_dtype_whose_state_is_not_numpys_is_undecided(at: int, value: Any) -> None:
    read = as_read(np.dtype("f8"))
    state = [*read.states[0], None][: at + 1 if at == len(read.states[0]) else len(read.states[0])]
    state[at] = value
    with pytest.raises(Undecided):
        item_extent(BuiltObject(NUMPY_DTYPE, read.arguments, [tuple(state)]))
    for states in ([], [read.states[0]] * 2, ["x"]):
        with pytest.raises(Undecided):
            item_extent(BuiltObject(NUMPY_DTYPE, read.arguments, states))
