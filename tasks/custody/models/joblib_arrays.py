"""Compute position and length of arrays in a joblib file, by numpy's rules for dtypes.

Everything that honest files do not contain is refused: a reader that counts differently from joblib would take an
array's bytes for opcodes, or opcodes for an array.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, Final, NamedTuple

from tasks.custody.models.content import Undecided


class Name(NamedTuple):
    """A global that the pickle names."""

    module: str
    name: str

    def __str__(self) -> str:
        """Return module.name."""
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class BuiltObject:
    """An object that the pickle would create: its class or function, its arguments, its states."""

    of: object
    arguments: object
    states: list[Any] = field(default_factory=list)

    @property
    def kind(self) -> Name | None:
        """Its class, or the function that creates it."""
        if self.of == RECONSTRUCTOR and isinstance(self.arguments, tuple) and self.arguments:
            return self.arguments[0] if isinstance(self.arguments[0], Name) else None
        return self.of if isinstance(self.of, Name) else None

    @property
    def state(self) -> dict[str, Any]:
        """Its attributes, if its states are plain dictionaries."""
        return {key: value for each in self.states if isinstance(each, dict) for key, value in each.items()}

    def __str__(self) -> str:
        """Return the name of its class or function."""
        return str(self.kind or "something")


RECONSTRUCTOR: Final = Name("copyreg", "_reconstructor")
OF_OBJECT: Final = (Name("builtins", "object"), None)
NUMPY_DTYPE: Final = Name("numpy", "dtype")
MEMMAPS: Final = frozenset(Name(module, "memmap") for module in ("numpy", "numpy.core.memmap", "numpy._core.memmap"))

_STATE: Final = frozenset({"subclass", "shape", "order", "dtype", "allow_mmap"})
_ALIGNMENT: Final = "numpy_array_alignment_bytes"
# These accept a pair as state; for other classes, pickle sets each item of its second part as an attribute.
_TAKE_PAIRS: Final = frozenset(
    {Name("numpy.random._pickle", "__bit_generator_ctor"), Name("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked")}
)
_SLOTTED: Final = Name("scipy.interpolate._interpolate", "interp1d")

# From numpy's dtype.__reduce__: kind and bytes (U: characters), then flags; the lowest bit means Python objects. numpy
# takes a byte order before them, which the state replaces.
_CODE: Final = re.compile(r"[<>=|]?(b1|[iu][1248]|f(?:2|4|8|12|16)|c(?:8|16|24|32)|[mM]8|O8|[SUV][1-9][0-9]{0,8})")
_FLAGS: Final = {"O": 63, "U": 8}
_OBJECT_FLAG: Final = 1
# The version of the state, and the number of additional fields: a time's unit.
_VERSION: Final = (3, 0)
_VERSIONS: Final = {"m": (4, 1), "M": (4, 1)}


def wraps(kind: Name | None) -> bool:
    """Return whether joblib treats an object of this kind as the wrapper of an array."""
    if kind is None or not kind.module.endswith(("joblib.numpy_pickle", "joblib.numpy_pickle_compat")):
        return False
    if kind.name in {"NDArrayWrapper", "ZNDArrayWrapper"}:
        raise Undecided("a joblib file of before 2016, whose arrays lie in other files")
    return kind.name == "NumpyArrayWrapper"


def is_watched(name: Name) -> bool:
    """Return whether the use of this name decides where an array begins or ends."""
    return name == NUMPY_DTYPE or name in MEMMAPS or wraps(name)


def plain_dtype(arguments: object) -> bool:
    """Return whether numpy creates a new dtype from these arguments, not a shared one, which a state would change."""
    return isinstance(arguments, tuple) and _plain(arguments) and arguments[1:] == (False, True)


def _plain(arguments: tuple[Any, ...]) -> bool:
    return [type(each) for each in arguments] in ([str, bool, bool], [str, int, int])


def plain_wrapping(state: object) -> bool:
    """Return whether this is the state that joblib gives a wrapper."""
    if not isinstance(state, dict) or any(type(key) is not str for key in state):
        return False
    alignment = state.get(_ALIGNMENT)
    return (
        state.keys() - {_ALIGNMENT} == _STATE
        and (alignment is None or type(alignment) is int)
        and isinstance(state["subclass"], Name)
        and state["subclass"].module.partition(".")[0] == "numpy"
    )


def odd_state(target: object, state: object) -> bool:
    """Return whether a state may set an attribute whose name cannot be seen, or an object's class."""
    kind = target.kind if isinstance(target, BuiltObject) else None
    match state:
        case dict():
            return _odd_keys(state)
        case (_, None):
            return False
        case (None | dict(), dict(slots)) if kind == _SLOTTED:
            return _odd_keys(state[0] or {}) or _odd_keys(slots)
        case (_, _):
            return kind not in _TAKE_PAIRS
    return False


def _odd_keys(state: Mapping[Any, Any]) -> bool:
    return "__class__" in state or any(isinstance(key, BuiltObject) for key in state)


def array_extent(wrapper: BuiltObject) -> tuple[int, bool]:
    """Return the number of bytes of an array after its wrapper, and whether they are a pickle instead."""
    shape, dtype = wrapper.state["shape"], wrapper.state["dtype"]
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        raise Undecided("an array whose shape is not plain")
    size, holds_objects = item_extent(dtype)
    return size * prod(shape), holds_objects


def item_extent(dtype: object) -> tuple[int, bool]:
    """Return the number of bytes of an item of this dtype, and whether it holds Python objects."""
    match dtype:
        case BuiltObject(of=name, arguments=(str(code), *_) as made_of, states=[tuple(state)]) if name == NUMPY_DTYPE:
            if plain_dtype(made_of):
                return _extent(code, state)
    raise Undecided("an array whose dtype is not plain")


def _extent(code: str, state: tuple[Any, ...]) -> tuple[int, bool]:
    """Return what numpy would compute; numpy believes the state rather than the code."""
    if not (known := _CODE.fullmatch(code)):
        raise Undecided(f"an array of the unknown dtype {code[:20]!r}")
    kind, size = known[1][0], int(known[1][1:])
    size *= 4 if kind == "U" else 1  # bytes of a character
    match state:
        case (version, "<" | ">" | "=" | "|", base, names, fields, length, align, flags, *more) if (
            all(type(each) is int for each in (version, length, align, flags))
            and (version, len(more)) == _VERSIONS.get(kind, _VERSION)
            and length == (size if kind in "SUV" else -1)
            and (align > 0 or kind not in "SUV")  # numpy divides by it: zero ends the process that loads the model
            and flags & _OBJECT_FLAG == _holds_objects(kind, base, names, fields)
            and (kind == "V" or flags == _FLAGS.get(kind, 0))
        ):
            return size, bool(flags & _OBJECT_FLAG)
    raise Undecided("an array whose dtype has an odd state")


def _holds_objects(kind: str, base: object, names: object, fields: object) -> bool:
    """Return whether the dtype holds objects. A structure does if one of its fields does."""
    match kind, base, names, fields:
        case _, None, None, None:
            return kind == "O"
        case "V", (of, _), None, None:
            return item_extent(of)[1]
        case "V", None, tuple(), dict() if all(isinstance(each, tuple) and each for each in fields.values()):
            return True in [item_extent(each[0])[1] for each in fields.values()]
    raise Undecided("an array whose dtype has an odd state")
