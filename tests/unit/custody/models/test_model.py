"""Whole, torn and hostile models: real joblib and pickle files, cut in every way a kill can cut them."""

import functools
import io
import os
import pickle
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.custody.models.content import looks_like_a_model
from tasks.custody.models.inspection import Soundness
from tasks.custody.models.judge import judge

COMPRESSIONS: dict[str, Any] = {
    "none": 0,
    "zlib": 3,
    "gzip": ("gzip", 3),
    "bz2": ("bz2", 3),
    "lzma": ("lzma", 3),
    "xz": ("xz", 3),
    "lz4": ("lz4", 3),
}
CUTS = 60


def judged(data: bytes, own: tuple[str, ...] = (), limit: int = 1 << 33) -> dict[str, Any]:
    """The judgement without a second opinion: what is found here is found by our own reading."""
    return judge(io.BytesIO(data), own, lambda _: (), limit)


def outcome(data: bytes, own: tuple[str, ...] = ()) -> Soundness:
    found = judged(data, own)["outcome"]
    assert isinstance(found, Soundness)
    return found


def dumped(value: object, compress: Any = 0, protocol: int | None = None) -> bytes:
    out = io.BytesIO()
    joblib.dump(value, out, compress=compress, protocol=protocol)
    return out.getvalue()


def content() -> dict[str, Any]:
    dice = random.Random(1)  # noqa: S311  a repeatable test, no secret
    return {
        "noise": dice.randbytes(20_000),
        "names": [f"column {n}" for n in range(200)],
        "weights": np.arange(3000.0),
        "after": {1.5, "text", None},
    }


@pytest.fixture(params=COMPRESSIONS, scope="module")
def model(request: pytest.FixtureRequest) -> bytes:
    return dumped(content(), COMPRESSIONS[request.param])


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_whole_model_is_sound_in_every_protocol_and_compression(compression: str, protocol: int) -> None:
    found = judged(dumped(content(), COMPRESSIONS[compression], protocol))
    assert (found["outcome"], found["reason"], found["imports"]) == (Soundness.SOUND, "", ())


@pytest.mark.parametrize("protocol", range(6))
def test_a_plain_pickle_is_a_model_too(protocol: int) -> None:
    assert outcome(pickle.dumps(content(), protocol)) is Soundness.SOUND


ARRAYS = [
    np.zeros(2_000_000),
    np.zeros((0, 3)),
    np.array(2.5),
    np.asfortranarray(np.ones((3, 4), dtype="f4")),
    np.array(["a", "ひ"], dtype="U7"),
    np.array([b"a"], dtype="S3"),
    np.array(["2026-01-01"], dtype="M8[D]"),
    np.array([(1, 2.0)], dtype=[("left", "i4"), ("threshold", "f8")]),
    np.array([(1, (2.0, 3.0))], dtype=[("left", "i4"), ("pair", "f8", (2,))]),
    np.array([(1, "x")], dtype=[("left", "i4"), ("name", "O")]),
    np.array(["x", None, 3], dtype=object),
    np.ones(3, dtype=">f8"),
    np.array([True, False]),
    np.arange(3, dtype="c16"),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.dtype))
@pytest.mark.parametrize("compression", ["none", "zlib"])
def test_arrays_of_every_kind_are_passed_over_exactly(array: Any, compression: str) -> None:
    assert outcome(dumped([array, "behind it", array], COMPRESSIONS[compression])) is Soundness.SOUND


def test_a_model_cut_anywhere_is_torn(model: bytes) -> None:
    dice = random.Random(2)  # noqa: S311  a repeatable test, no secret
    cuts = {0, 1, 2, 3, 5, 6, 13, len(model) - 1, len(model) // 2} | {dice.randrange(len(model)) for _ in range(CUTS)}
    assert {cut: outcome(model[:cut]) for cut in cuts} == dict.fromkeys(cuts, Soundness.TORN)


def test_an_uncompressed_model_cut_behind_any_byte_is_torn() -> None:
    # Its end mark is one byte, ".", which stands in every part of it: only reading all of it tells.
    whole = dumped({"a": np.arange(6.0), "b": "....", "c": [1, 2]})
    assert {outcome(whole[:cut]) for cut in range(len(whole))} == {Soundness.TORN}


def test_zeros_in_the_place_of_a_models_end_are_noticed(model: bytes) -> None:
    # What a crash leaves on many file systems: the length is right, the last blocks were never written.
    assert outcome(model[: len(model) // 2] + bytes(len(model) - len(model) // 2)) is Soundness.TORN


def test_what_follows_the_end_is_not_sound(model: bytes) -> None:
    assert outcome(model + b"\x80\x04N.") is not Soundness.SOUND


def test_frames_that_promise_more_or_less_than_there_is_are_torn() -> None:
    whole = pickle.dumps(list(range(1000)), 4)
    assert whole[2:3] == pickle.FRAME
    size = int.from_bytes(whole[3:11], "little")
    for lie in (size - 3, size + 1, 1 << 40, 1 << 63):
        assert outcome(whole[:3] + lie.to_bytes(8, "little") + whole[11:]) is Soundness.TORN, lie


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        b".",
        b"hello.",
        b"\x1f\x8b.",
        b"BZh9.",
        b"\xfd7zXZ.",
        b"\x5d\x00\x00.",
        b"\x78\x9c.",
        b"PK\x03\x04",
    ],
)
def test_what_is_no_pickle_is_torn(data: bytes) -> None:
    assert outcome(data) is Soundness.TORN
    assert outcome(zlib.compress(data + b"no pickle.")) is Soundness.TORN


def test_a_zip_or_a_text_that_begins_as_a_persistent_id_does_is_no_pickle() -> None:
    out = io.BytesIO()
    np.savez(out, weights=np.full(99, 10, dtype="u1"))
    assert b"\n" in out.getvalue()
    for data in (out.getvalue(), b"Portfolio models\n", b"Version 2\nPipelines\n"):
        assert outcome(data) is Soundness.TORN
    assert outcome(b"\x80\x02Pid\n.") is Soundness.UNKNOWN


@pytest.mark.parametrize(
    "lie",
    [
        b"\x80\x04\x8e" + (1 << 62).to_bytes(8, "little") + b".",
        b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b".",
        b"\x80\x04\x8d" + (1 << 40).to_bytes(8, "little") + b".",
    ],
    ids=["BINBYTES8", "BYTEARRAY8", "BINUNICODE8"],
)
def test_a_length_that_is_a_lie_costs_no_memory(lie: bytes) -> None:
    assert outcome(lie) is Soundness.TORN
    assert judged(zlib.compress(lie))["outcome"] is not Soundness.SOUND


def test_a_broken_lz4_stream_is_torn_and_what_swells_beyond_the_limit_is_unknown() -> None:
    assert judged(b"\x04\x22\x4d\x18" + bytes(100))["outcome"] is Soundness.TORN
    packed = dumped(np.zeros(1_000_000), 3)
    assert judged(packed, limit=1 << 20)["outcome"] is Soundness.UNKNOWN
    assert outcome(packed) is Soundness.SOUND


class Calls:
    """Has a function called by whoever unpickles it."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Say which."""
        self.made = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        """As pickle asks."""
        return self.made


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_nothing_is_unpickled(tmp_path: Path, compression: str) -> None:
    sprung = tmp_path / "sprung"
    trap = dumped(Calls(os.mknod, str(sprung)), COMPRESSIONS[compression])
    assert judged(trap)["imports"] == ("posix.mknod",)
    assert not sprung.exists()
    joblib.load(io.BytesIO(trap))
    assert sprung.exists(), "the trap itself does not work"


EVIL = Calls(os.system, "true")
HIDDEN = {
    "behind an array": [np.arange(100.0), EVIL],
    "between arrays": [np.arange(10.0), EVIL, np.arange(10.0)],
    "in an array of objects": np.array([1, EVIL], dtype=object),
    "behind an array of objects": [np.array(["x", None], dtype=object), EVIL],
    "deep inside": {"a": [{"b": (np.ones(3), {"c": [EVIL]})}]},
}


@pytest.mark.parametrize("place", HIDDEN)
@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_dangerous_import_is_found_wherever_it_hides(place: str, protocol: int, compression: str) -> None:
    found = judged(dumped(HIDDEN[place], COMPRESSIONS[compression], protocol))
    assert (found["outcome"], found["imports"]) == (Soundness.SUSPECT, ("posix.system",))
    assert "would import posix.system" in found["reason"]


def test_a_torn_file_with_a_dangerous_import_is_suspect_and_says_both() -> None:
    whole = dumped([EVIL, np.arange(1000.0)])
    found = judged(whole[:-100])
    assert found["outcome"] is Soundness.SUSPECT
    assert "not whole" in found["reason"]


@pytest.mark.parametrize(
    "function",
    [eval, exec, getattr, __import__, open, functools.partial, joblib.load, np.load, pickle.loads, os.path.join],
    ids=lambda function: f"{function.__module__}.{function.__name__}",
)
def test_what_runs_opens_or_loads_is_suspect(function: Callable[..., Any]) -> None:
    assert outcome(pickle.dumps(Calls(function, "x"))) is Soundness.SUSPECT


TRICKS = {
    "INST": b"(S'true'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'true'\no.",
    "NEWOBJ_EX": b"\x80\x04cos\nsystem\n)}\x92.",
    "a module's module": b"\x80\x04\x8c\x0csklearn.base\x8c\tos.system\x93.",
    "another memo": b"\x80\x04\x8c\x05numpy\x8c\x02os\x94\x940\x8c\x06system\x93.",
    "an old name": b"\x80\x02c__builtin__\neval\n.",
    "the extension registry": b"\x80\x02\x82\x01.",
    "a class that is changed": b"\x80\x04csklearn.base\nBaseEstimator\nN}\x8c\x01xNs\x86b.",
    "a call of what was made": b"\x80\x04ccollections\nOrderedDict\n)R)R.",
    "a reconstruction of nothing builtin": (
        b"\x80\x02ccopy_reg\n_reconstructor\nccollections\nOrderedDict\nq\x00h\x00N\x87R."
    ),
    "names put together": b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94h\x00h\x01\x93.",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_tricks_with_opcodes_hide_nothing(trick: str) -> None:
    assert outcome(TRICKS[trick]) is Soundness.SUSPECT


def test_bytes_that_may_be_changed_are_passed_over_and_taken_for_no_opcodes() -> None:
    held = pickle.dumps({"a": bytearray(b"cos\nsystem\n" * 9), "b": 1}, protocol=5)
    assert outcome(held) is Soundness.SOUND
    assert outcome(b"\x80\x05\x96" + (12).to_bytes(8, "little") + b"cos\nsystem\n..") is Soundness.SOUND
    assert outcome(held[:40]) is Soundness.TORN


def test_a_pickle_whose_arrays_lie_in_another_file_is_not_decided() -> None:
    apart = list[pickle.PickleBuffer]()
    data = pickle.dumps({"a": pickle.PickleBuffer(bytearray(b"x" * 99))}, protocol=5, buffer_callback=apart.append)
    assert apart
    found = judged(data)
    assert found["outcome"] is Soundness.UNKNOWN, found
    assert "its arrays lie outside the file" in str(found)


@pytest.mark.parametrize("name", [b"__builtin__\nset", b"__builtin__\nunicode", b"copy_reg\n_reconstructor"])
def test_names_of_python_2_are_todays_up_to_protocol_2_and_nobodys_after_it(name: bytes) -> None:
    found = {protocol: outcome(b"\x80%cc%b\n." % (protocol, name)) for protocol in (2, 3)}
    assert found == {2: Soundness.SOUND, 3: Soundness.SUSPECT}


def test_a_file_that_joblib_and_pickle_read_differently_is_never_sound() -> None:
    # joblib takes the bytes behind the wrapper for an array; to pickle they are opcodes.
    array = np.frombuffer(b"cos\nsystem\n(S'true'\ntR.", dtype="u1").copy()
    whole = dumped(array, protocol=4)
    start = whole.index(b"cos\nsystem")
    # As joblib before 1.2 wrote: no padding, so that pickle.load would go on right into the array.
    at, length = whole.index(b"numpy_array_alignment_bytes"), len(b"numpy_array_alignment_bytes")
    number = at + length + 1
    assert whole[number : number + 2] == b"K\x10"
    unpadded = whole[:number] + b"N" + whole[number + 2 : whole.index(b"ub", number) + 2]
    size = int.from_bytes(unpadded[3:11], "little") - 1
    polyglot = unpadded[:3] + size.to_bytes(8, "little") + unpadded[11:] + whole[start:]
    assert judged(polyglot)["outcome"] is Soundness.SUSPECT


def test_names_that_an_operator_allows_are_no_strangers() -> None:
    data = b"\x80\x04csrc.features\nCleaner\n)R."
    assert outcome(data) is Soundness.SUSPECT
    assert outcome(data, ("src",)) is Soundness.SOUND
    assert outcome(data, ("src.features.Cleaner",)) is Soundness.SOUND
    assert outcome(data, ("src.feat",)) is Soundness.SUSPECT


@pytest.mark.slow
@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_random_bytes_are_judged_without_a_crash(data: bytes) -> None:
    assert outcome(b"\x80\x04" + data) in set(Soundness)


def test_what_begins_like_a_pickle_is_looked_at_whatever_its_name() -> None:
    assert all(looks_like_a_model(pickle.dumps(1, protocol)[:6]) for protocol in range(2, 6))
    assert not any(map(looks_like_a_model, (b"", b"\x80", b"\x89PNG\r\n", b"{}", b"\x80\x99", b"x", b"xy", b"x,y\n")))
    assert all(looks_like_a_model(dumped(1, how)[:6]) for how in COMPRESSIONS.values())
    assert looks_like_a_model(b"\x04\x22\x4d\x18")


@pytest.mark.parametrize(
    "head",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"cos\nsystem\n(S'true'\ntRand then anything",
        b"(S'true'\nios\nsystem\n.",
        b"cos\nsystem\np0\np0\n(S'true'\ntRx",
        b"N0" * 40_000 + b"cos\nsystem\n(S'true'\ntR.",
        zlib.compress(b"cos\nsystem\n(S'true'\ntR."),
        pickle.dumps([1, "a", {}], 0),
        pickle.dumps({"a": (1, 2)}, 1),
    ],
)
def test_a_pickle_without_a_mark_is_known_by_its_opcodes(head: bytes) -> None:
    assert looks_like_a_model(head)


@pytest.mark.parametrize("times", [1, 30_000])
@pytest.mark.parametrize(
    "text", ["cat\ndog\nbird\n", "Results: 3\n", "iteration 1\nloss 2\n", "a,b\n1,2\n", "ID,age\n"]
)
def test_text_is_no_pickle(text: str, times: int) -> None:
    assert not looks_like_a_model(text.encode() * times)
    assert not looks_like_a_model(zlib.compress(text.encode() * times))
