"""A file is read as joblib reads it, byte for byte: no trick with wrappers and dtypes makes one file two."""

import io
import pickle
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from joblib.numpy_pickle import NumpyArrayWrapper, NumpyUnpickler
from sklearn.linear_model import LogisticRegression

from tasks.custody.models import pickle_reader as pickled
from tasks.custody.models.content import ModelContent
from tasks.custody.models.inspection import Soundness
from tasks.custody.models.judge import judge
from tasks.custody.models.pickle_reader import Read, read_as_joblib, read_as_pickle

PROTO = b"\x80\x03"
EVIL = b"0cposix\nsystem\nX\x04\x00\x00\x00true\x85R."


def name(module: str, what: str) -> bytes:
    return b"c" + f"{module}\n{what}\n".encode()


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def number(value: int) -> bytes:
    return b"J" + value.to_bytes(4, "little", signed=True)


WRAPPER = name("joblib.numpy_pickle", "NumpyArrayWrapper")
PLAIN = (3, "|", None, None, None, -1, -1, 0)


def plain(value: object) -> bytes:
    """As opcodes, without a PROTO and an end."""
    return pickle.dumps(value, 3)[2:-1].replace(b"q\x00", b"").replace(b"q\x01", b"")


def dtype(code: str, state: Any = PLAIN, arguments: bytes = b"\x89\x88\x87") -> bytes:
    return name("numpy", "dtype") + text(code) + arguments + b"R" + (plain(state) + b"b" if state else b"")


def state(shape: int, of: bytes, more: bytes = b"") -> bytes:
    first = text("subclass") + name("numpy", "ndarray") + text("shape") + number(shape) + b"\x85"
    rest = text("order") + text("C") + text("dtype") + of + text("allow_mmap") + b"\x89"
    return b"}(" + first + rest + text("numpy_array_alignment_bytes") + b"N" + more + b"u"


def wrapped(shape: int, of: bytes, more: bytes = b"") -> bytes:
    return WRAPPER + b")\x81" + state(shape, of, more) + b"b"


def outcome(data: bytes) -> Soundness:
    found = judge(io.BytesIO(data), (), lambda _: ())["outcome"]
    assert isinstance(found, Soundness)
    return found


HIDDEN = b"B" + (len(EVIL) + 1).to_bytes(4, "little") + b"N" + EVIL
"""To a reader that is here at once, bytes; to one that passes over five more, opcodes."""
PAD = b"N0" * 4
BYTES = dtype("i1")
INNER = PROTO + wrapped(64, BYTES) + EVIL.ljust(64, b"\0") + b"."
_ARGUMENTS = name("builtins", "tuple") + b"](" + WRAPPER + name("builtins", "object") + b"Ne\x85"
_COMPUTED = name("builtins", "str") + text("shape") + b"\x85R" + number(13) + b"\x85"
_SLOTS = b"}(" + text("__class__") + WRAPPER + state(5, BYTES)[2:]
_SCORER = name("sklearn.utils._metadata_requests", "MethodMetadataRequest")


def sized(code: str, size: int, flags: int = 0) -> bytes:
    return dtype(code, (3, "|", None, None, None, size, 1, flags))


HONEST = PROTO + wrapped(8, BYTES) + b"12345678" + b"."
HOSTILE = {
    "an array in an array of objects": wrapped(1, dtype("O8", (*PLAIN[:-1], 63))) + INNER,
    "a size in the state of S": wrapped(1, sized("S8", 13)) + PAD + HIDDEN,
    "a size in the state of V": wrapped(1, sized("V8", 13)) + PAD + HIDDEN,
    "a size and short arguments": wrapped(1, name("numpy", "dtype") + text("V8") + b"\x85R") + PAD + HIDDEN,
    "objects in the state of V": wrapped(1, sized("V40", 40, 63)) + (PROTO + EVIL).ljust(40, b"\0"),
    "objects in the state of S": wrapped(1, sized("S40", 40, 63)) + (PROTO + EVIL).ljust(40, b"\0"),
    "objects in the state of i8": wrapped(5, dtype("i8", (*PLAIN[:-1], 63))) + (PROTO + EVIL).ljust(40, b"\0"),
    "no size at all": wrapped(3, sized("S0", 0)),
    "a division by zero in S": wrapped(1, dtype("S8", (3, "|", None, None, None, 8, 0, 0))) + bytes(8),
    "a division by zero in U": wrapped(1, dtype("U2", (3, "<", None, None, None, 8, 0, 8))) + bytes(8),
    "a division by zero in V": wrapped(1, dtype("V8", (3, "|", None, None, None, 8, 0, 0))) + bytes(8),
    "a dtype of a dtype": sized("V8", 8)
    + b"q\x630"
    + name("numpy", "dtype")
    + b"h\x63\x89\x89\x87R"
    + plain((3, "|", None, None, None, 13, 1, 0))
    + b"b0"
    + wrapped(1, b"h\x63")
    + PAD
    + HIDDEN,
    "computed arguments": name("copyreg", "_reconstructor") + _ARGUMENTS + b"R" + state(5, BYTES) + b"b" + HIDDEN,
    "another reconstructor": name("sklearn.neighbors._kd_tree", "newObj")
    + WRAPPER
    + b"\x85R"
    + state(5, BYTES)
    + b"b"
    + HIDDEN,
    "a computed key": wrapped(8, BYTES, _COMPUTED) + PAD + HIDDEN,
    "a class set by its name": _SCORER + b")\x81N" + _SLOTS + b"\x86b" + HIDDEN,
    "a second state": wrapped(0, BYTES)[:-1] + b"b" + WRAPPER + b")\x81q\x62" + b"0h\x62h\x62" + state(5, BYTES) + b"b",
    "a wrapper that is called": WRAPPER + b")R" + state(8, BYTES) + b"b12345678",
    "a wrapper in a list": b"](" + WRAPPER + b"e0" + wrapped(8, BYTES) + b"12345678",
    "a memory map that is called": name("numpy", "memmap") + text("victim") + b"\x85R",
    "a memory map that is made": name("numpy._core.memmap", "memmap") + text("victim") + b"\x85\x81",
}


@pytest.mark.parametrize("trick", HOSTILE)
@pytest.mark.parametrize("packed", [False, True], ids=["raw", "zlib"])
def test_no_trick_moves_an_array(trick: str, packed: object) -> None:
    data = PROTO + HOSTILE[trick] + b"."
    assert outcome(zlib.compress(data) if packed else data) is not Soundness.SOUND


def test_what_the_tricks_start_from_is_sound() -> None:
    assert outcome(HONEST) is Soundness.SOUND
    assert outcome(PROTO + b"]" + HONEST[2:-1] + b"a" + HONEST[2:-1] + b"a.") is Soundness.SOUND


@contextmanager
def extents_noted(patch: pytest.MonkeyPatch) -> Iterator[tuple[list[Any], list[Any]]]:
    """Where joblib reads an array from and to, and where we do."""
    theirs: list[Any] = []
    ours: list[Any] = []
    reads, passes = NumpyArrayWrapper.read_array, pickled._Reader._pass_array

    def read_array(self: Any, unpickler: Any, ensure: Any) -> Any:
        start = unpickler.file_handle.tell()
        try:
            return reads(self, unpickler, ensure)
        finally:
            theirs.append((start, unpickler.file_handle.tell()))

    def pass_array(self: Any, wrapper: Any) -> Any:
        start = self._content._file.tell()
        made = passes(self, wrapper)
        ours.append((start, self._content._file.tell()))
        return made

    patch.setattr(NumpyArrayWrapper, "read_array", read_array)
    patch.setattr(pickled._Reader, "_pass_array", pass_array)
    yield theirs, ours


class Inert(SimpleNamespace):
    """Whatever else a file names: it is made, and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Take anything."""

    def __call__(self, *_: Any, **__: Any) -> "Inert":
        """Do nothing."""
        return Inert()


HARMLESS = {"object", "tuple", "list", "dict", "str", "int", "set", "bytearray"}


class Harmless(NumpyUnpickler):  # type: ignore[misc]
    """Joblib's own unpickler, which finds nothing that could do harm."""

    def find_class(self, module: str, what: str) -> Any:
        """The same as joblib for what an array is made of."""
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        arrays = module.startswith("numpy") and what != "memmap"
        if arrays or (module == "builtins" and what in HARMLESS) or module in {"joblib.numpy_pickle", "_codecs"}:
            return super().find_class(module, what)
        return super().find_class(module, what) if (module, what) == ("copyreg", "_reconstructor") else Inert


def same_extents(data: bytes) -> tuple[list[Any], list[Any]]:
    with pytest.MonkeyPatch.context() as patch, extents_noted(patch) as (theirs, ours):
        Harmless("", io.BytesIO(data), ensure_native_byte_order=False).load()
        read_as_joblib(ModelContent(io.BytesIO(data), 1 << 33), Read())
    return theirs, ours


ELEMENTS = st.one_of(
    arrays_of.scalar_dtypes(),
    arrays_of.byte_string_dtypes(min_len=1, max_len=9),
    arrays_of.unicode_string_dtypes(min_len=1, max_len=9),
    arrays_of.array_dtypes(arrays_of.scalar_dtypes(), max_size=4),
    st.just(np.dtype([("a", "i4"), ("b", "O")])),
    st.just(np.dtype("O")),
)


@pytest.mark.slow
@given(st.lists(st.tuples(ELEMENTS, arrays_of.array_shapes(max_dims=3, min_side=0, max_side=4)), max_size=5), st.data())
@settings(max_examples=150, deadline=None)
def test_arrays_of_honest_models_lie_where_joblib_reads_them(made_of: list[Any], data: st.DataObject) -> None:
    values = {f"array {n}": np.zeros(shape, of) for n, (of, shape) in enumerate(made_of) if of.itemsize}
    out = io.BytesIO()
    joblib.dump(values, out, protocol=data.draw(st.integers(0, 5)))
    theirs, ours = same_extents(out.getvalue())
    assert theirs == ours
    assert len(ours) == len(values)
    assert outcome(out.getvalue()) is Soundness.SOUND


NUMBERS = st.sampled_from([-1, 0, 1, 5, 8, 13, 16, 40, 63])
STATES = st.tuples(
    st.sampled_from([1, 3, 4]), st.sampled_from(["|", "<"]), st.none(), st.none(), st.none(), NUMBERS, NUMBERS, NUMBERS
)


CODES = st.sampled_from(["V8", "S8", "U2", "i8", "i1", "O8", "S0", "V0", "b1", "f8"])


@pytest.mark.slow
@given(st.sampled_from(["", "<", ">", "=", "|", "<<", "!"]), CODES, STATES | st.none(), st.integers(0, 9))
@settings(max_examples=500, deadline=None)
def test_a_dtype_that_is_sound_has_for_numpy_the_same_size(order: str, code: str, of: Any, shape: int) -> None:
    data = PROTO + wrapped(shape, dtype(order + code, of)) + bytes(0 if code == "O8" else shape * 8) + b"."
    if outcome(data) is Soundness.SOUND:
        theirs, ours = same_extents(data)
        assert theirs == ours


@pytest.mark.parametrize(("code", "size"), [("<f8", 8), (">i4", 4), ("=f8", 8), ("|u1", 1)])
def test_a_dtype_may_name_its_byte_order_and_hides_nothing_by_it(code: str, size: int) -> None:
    data = PROTO + wrapped(2, dtype(code)) + bytes(2 * size)
    theirs, ours = same_extents(data + b".")
    assert theirs == ours
    assert outcome(data + b".") is Soundness.SOUND
    assert outcome(data + EVIL) is Soundness.SUSPECT


@pytest.mark.slow
@given(st.sampled_from(sorted(HOSTILE | {"honest": HONEST[2:-1]})), st.data())
@settings(max_examples=300, deadline=None)
def test_hostile_models_that_are_changed_are_sound_only_if_joblib_agrees(trick: str, data: st.DataObject) -> None:
    whole = PROTO + HOSTILE.get(trick, HONEST[2:-1]) + b"."
    at = data.draw(st.integers(2, len(whole) - 1))
    changed = whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :]
    if outcome(changed) is Soundness.SOUND:
        theirs, ours = same_extents(changed)
        assert theirs == ours


@pytest.mark.parametrize("protocol", range(6))
def test_a_memory_map_may_be_saved(protocol: int, tmp_path: Any) -> None:
    mapped = np.memmap(tmp_path / "mapped", dtype="f8", mode="w+", shape=(3,))
    out = io.BytesIO()
    joblib.dump({"a": mapped, "b": mapped}, out, protocol=protocol)
    assert b"memmap" in out.getvalue()
    assert outcome(out.getvalue()) is Soundness.SOUND


@pytest.mark.parametrize("word", ["dtype", "ndarray", "_reconstruct"])
def test_what_pickle_would_import_from_within_an_array_is_forgiven_to_numpy_alone(word: str) -> None:
    for module, expected in (("evilmod", Soundness.UNKNOWN), ("evil.mod", Soundness.UNKNOWN)):
        data = PROTO + wrapped(40, BYTES) + (b"0" + name(module, word) + b".").ljust(40, b"\0") + b"."
        assert outcome(data) is expected
        other = Read()
        read_as_pickle(ModelContent(io.BytesIO(data), 1 << 20), other)
        assert (module, word) in other.names
    remembered = PROTO + text("evilmod") + b"q\x610" + text("json") + b"q\x620"
    for module, allowed in (("evilmod", True), ("json", False), ("evilmod.evilmod", False)):
        data = remembered + wrapped(40, BYTES) + (b"0" + name(module, word) + b".").ljust(40, b"\0") + b"."
        assert (outcome(data) is Soundness.SOUND) is allowed
    data = PROTO + wrapped(40, BYTES) + (b"0" + name("numpy", word) + b".").ljust(40, b"\0") + b"."
    assert outcome(data) is Soundness.SOUND


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_bundle_with_labels_of_text_is_sound(protocol: int) -> None:
    labels = np.array(["no", "yes"] * 4, dtype=object)
    fitted = LogisticRegression().fit(np.arange(16.0).reshape(8, 2), labels)
    for bundle in (fitted, {"model": fitted}, {"scaler": 1, "imputer": 2, "model": fitted}):
        out = io.BytesIO()
        joblib.dump(bundle, out, protocol=protocol)
        assert outcome(out.getvalue()) is Soundness.SOUND


@pytest.mark.parametrize(
    ("module", "what"),
    [
        ("sklearn.metrics._scorer", "_passthrough_scorer"),
        ("sklearn.metrics.pairwise", "pairwise_kernels"),
        ("sklearn.preprocessing", "FunctionTransformer"),
        ("numpy", "median"),
        ("numpy", "ndarray"),
        ("pandas", "DataFrame"),
        ("xgboost.core", "Booster"),
    ],
)
def test_what_a_model_may_hold_it_may_not_call(module: str, what: str) -> None:
    called = judge(io.BytesIO(PROTO + name(module, what) + b")R."), (), lambda _: ())
    assert called["outcome"] is Soundness.SUSPECT
    assert f"calls {module}.{what}" in called["reason"]
    assert outcome(PROTO + b"](" + name(module, what) + b"e.") is Soundness.SOUND
