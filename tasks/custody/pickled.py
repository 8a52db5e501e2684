"""Reads a pickle, joblib's kind too, without obeying it: nothing is imported, nothing is called.

Python's own unpickler in its slow form, which joblib builds on too, with every opcode replaced that would import, call
or change an object: these leave a `Name` or a `Made` behind. So memo, frames and stack mean exactly what they would
mean to whoever loads the file, and no trick with them hides a name.
"""

import io
import pickle
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, NamedTuple

from tasks.custody.content import Content, Torn, Undecided

_CONTROL_LIMIT: Final = 1 << 28


class Name(NamedTuple):
    """A global that the pickle names."""

    module: str
    name: str

    def __str__(self) -> str:
        """As a person writes it."""
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Made:
    """An object that the pickle would have made: of what, from which arguments, with which state."""

    of: object
    arguments: object
    states: list[Any] = field(default_factory=list)

    @property
    def kind(self) -> Name | None:
        """Its class, or the function that makes it."""
        if self.of == Name("copyreg", "_reconstructor") and isinstance(self.arguments, tuple) and self.arguments:
            return self.arguments[0] if isinstance(self.arguments[0], Name) else None
        return self.of if isinstance(self.of, Name) else None

    @property
    def state(self) -> dict[str, Any]:
        """Its attributes, where its state is a plain dictionary."""
        return {key: value for each in self.states if isinstance(each, dict) for key, value in each.items()}


@dataclass
class Read:
    """What a file has been found to name and to do; `streams` are its pickles without the arrays between them."""

    names: set[Name] = field(default_factory=set)
    odd: set[str] = field(default_factory=set)
    streams: list[bytes] = field(default_factory=list)
    top: object = None


class _Kept:
    """The content, and a copy of everything but the arrays: an opcode scanner needs a stream without them."""

    def __init__(self, content: Content) -> None:
        self.content, self.copy = content, io.BytesIO()

    def read(self, size: int) -> bytes:
        return self._keep(self.content.read(size))

    def readinto(self, buffer: bytearray) -> int:
        buffer[:] = self.read(len(buffer))
        return len(buffer)

    def readline(self) -> bytes:
        return self._keep(self.content.readline())

    def _keep(self, data: bytes) -> bytes:
        if self.copy.tell() + len(data) > _CONTROL_LIMIT:
            raise Undecided("it holds more beside its arrays than is read here")
        self.copy.write(data)
        return data


def read_as_joblib(content: Content, into: Read) -> None:
    """As joblib.load reads: the bytes of an array follow its wrapper."""
    into.top = _Reader(content, into, arrays=True).load_kept()
    content.require_end()


def read_as_pickle(content: Content, into: Read) -> None:
    """As pickle.load reads, to whom an array's bytes are opcodes: until the end, or until it would give up."""
    _Reader(content, into, arrays=False).load_kept()


_Unpickler: Any = pickle._Unpickler  # noqa: SLF001  joblib builds on it as well; mypy cannot subclass it


class _Reader(_Unpickler):  # type: ignore[misc]
    dispatch: ClassVar[dict[int, Any]] = dict(_Unpickler.dispatch)

    def __init__(self, content: Content, into: Read, *, arrays: bool) -> None:
        # latin1 reads text of Python 2 that ASCII cannot; names that matter are ASCII in both.
        kept = _Kept(content)
        super().__init__(kept, encoding="latin1")
        self._content, self._kept, self._into, self._arrays = content, kept, into, arrays

    def load_kept(self) -> object:
        try:
            return self.load()
        except (Torn, Undecided, MemoryError, RecursionError):
            raise
        except EOFError as error:
            raise Torn("it ends before its last opcode") from error
        except Exception as error:  # whatever Python's own unpickler trips over, a real load would too
            raise Torn(f"{type(error).__name__}: {error}"[:200]) from error
        finally:
            self._into.streams.append(self._kept.copy.getvalue())

    def find_class(self, module: str, name: str) -> Name:
        if self.proto < 3 and (module, name) in NAME_MAPPING:  # noqa: PLR2004  as the real one does for Python 2
            module, name = NAME_MAPPING[module, name]
        elif self.proto < 3 and module in IMPORT_MAPPING:  # noqa: PLR2004
            module = IMPORT_MAPPING[module]
        named = Name(module, name)
        self._into.names.add(named)
        return named

    def persistent_load(self, pid: object) -> object:
        del pid
        raise Undecided("it refers to an object that lies elsewhere")

    def get_extension(self, code: int) -> None:
        self._into.odd.add("imports by a number of the extension registry")
        self.append(Made(code, ()))

    def _instantiate(self, klass: object, args: object) -> None:
        self.append(self._called(klass, args))

    def _called(self, what: object, arguments: object) -> Made:
        if not isinstance(what, Name):
            self._into.odd.add("calls something that it made itself")
        return Made(what, arguments)

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self._called(self.stack[-1], arguments)

    def load_newobj(self) -> None:
        arguments = self.stack.pop()
        self.append(self._called(self.stack.pop(), arguments))

    def load_newobj_ex(self) -> None:
        named, arguments = self.stack.pop(), self.stack.pop()
        self.append(self._called(self.stack.pop(), (arguments, named)))

    def load_build(self) -> None:
        state = self.stack.pop()
        self._change(state)
        made = self.stack[-1]
        if self._arrays and isinstance(made, Made) and _wraps(made.kind):
            self.stack[-1] = self._pass_array(made)

    def _change(self, state: object) -> None:
        """A state, or items, for what lies on top of the stack."""
        made = self.stack[-1]
        if isinstance(made, Made):
            made.states.append(state)
        else:
            self._into.odd.add("changes a class or a module" if isinstance(made, Name) else "changes a plain value")

    def load_append(self) -> None:
        item = self.stack.pop()
        self._extend([item])

    def load_appends(self) -> None:
        self._extend(self.pop_mark())

    def load_additems(self) -> None:
        items = self.pop_mark()
        if type(self.stack[-1]) is set:
            self.stack[-1].update(items)
        else:
            self._change(items)

    def _extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is list:
            self.stack[-1].extend(items)
        else:
            self._change(items)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def load_setitems(self) -> None:
        self._set(self.pop_mark())

    def _set(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is dict:
            self.stack[-1].update(zip(items[::2], items[1::2], strict=True))
        else:
            self._change(items)

    def load_bytearray8(self) -> None:
        """The real one believes the length before it reads."""
        size = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(size)))

    def load_next_buffer(self) -> None:
        raise Undecided("its arrays lie outside the file")

    def load_readonly_buffer(self) -> None:
        """What lies there stays as it is."""

    def _pass_array(self, wrapper: Made) -> Made:
        size, holds_objects = array_extent(wrapper)
        if holds_objects:
            inner = _Reader(self._content, self._into, arrays=True).load_kept()
            return Made(wrapper.kind, (inner,))
        if wrapper.state.get("numpy_array_alignment_bytes") is not None:
            self._content.skip(self._content.read(1)[0])
        self._content.skip(size)
        return Made(wrapper.kind, ())


def _install(names: str) -> Iterator[tuple[int, Callable[..., None]]]:
    for name in names.split():
        yield getattr(pickle, name)[0], getattr(_Reader, f"load_{name.lower()}")


_Reader.dispatch |= dict(
    _install(
        "REDUCE NEWOBJ NEWOBJ_EX BUILD APPEND APPENDS ADDITEMS SETITEM SETITEMS BYTEARRAY8 NEXT_BUFFER READONLY_BUFFER"
    )
)


def _wraps(kind: Name | None) -> bool:
    if kind is None or not kind.module.endswith(("joblib.numpy_pickle", "joblib.numpy_pickle_compat")):
        return False
    if kind.name in {"NDArrayWrapper", "ZNDArrayWrapper"}:
        raise Undecided("a joblib file of before 2016, whose arrays lie in other files")
    return kind.name == "NumpyArrayWrapper"


_NUMPY_DTYPE: Final = Name("numpy", "dtype")
_PLAIN_KINDS: Final = frozenset("biufcmMSaV")


def array_extent(wrapper: Made) -> tuple[int, bool]:
    """How many bytes of an array follow its wrapper, and whether they are a pickle instead."""
    if len(wrapper.states) != 1 or not isinstance(wrapper.states[0], dict):
        raise Undecided("an array whose wrapper has an odd state")
    shape, dtype = wrapper.state.get("shape"), wrapper.state.get("dtype")
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        raise Undecided("an array whose shape is not plain")
    size, holds_objects = item_extent(dtype)
    for side in shape:
        size *= side
    return size, holds_objects


def item_extent(dtype: object) -> tuple[int, bool]:
    """How many bytes an item of this dtype takes, and whether it holds Python objects."""
    match dtype:
        case Made(of=name, arguments=(str(code), *_), states=states) if name == _NUMPY_DTYPE and len(states) <= 1:
            return _extent(code, states[0] if states else ())
    raise Undecided("an array whose dtype is not plain")


def _extent(code: str, state: object) -> tuple[int, bool]:
    code = code.lstrip("<>=|")
    kind, digits = code[:1], code[1:]
    if kind == "O":
        return 8, True
    if kind == "U" and digits.isdecimal():
        return 4 * int(digits), False
    if kind not in _PLAIN_KINDS or not digits.isdecimal():
        raise Undecided(f"an array of the unknown dtype {code[:20]!r}")
    return int(digits), kind == "V" and _holds_objects(state)


def _holds_objects(state: object) -> bool:
    """A structure holds objects if one of its fields does."""
    match state:
        case (_, _, None, None, None, *_):
            return False
        case (_, _, (base, _), *_):
            return item_extent(base)[1]
        case (_, _, None, tuple(), dict(fields), *_):
            return any(item_extent(each[0])[1] for each in fields.values())
    raise Undecided("an array whose dtype has an odd state")
