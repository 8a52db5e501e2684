"""Read a pickle, including joblib's format, without executing it: nothing is imported or called.

Uses Python's own pure-Python unpickler, on which joblib builds too. Every opcode that would import, call or change an
object is replaced by one that leaves a `Name` or `BuiltObject`. Memo, frames and stack therefore mean what they mean in
a real load, and no trick with them hides a name.

See docs/adr/0013.
"""

import io
import pickle
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from tasks.custody.models.content import ModelContent, Torn, Undecided
from tasks.custody.models.imports import LOSSES, REGISTER_LOSSES
from tasks.custody.models.joblib_arrays import (
    MEMMAPS,
    NUMPY_DTYPE,
    OF_OBJECT,
    RECONSTRUCTOR,
    BuiltObject,
    Name,
    array_extent,
    is_watched,
    odd_state,
    plain_dtype,
    plain_wrapping,
    wraps,
)

_CONTROL_LIMIT: Final = 1 << 28


@dataclass
class Read:
    """What a file names, calls and does; `words` are the strings in its memo, `streams` its pickles without arrays."""

    names: set[Name] = field(default_factory=set)
    called: set[Name] = field(default_factory=set)
    words: set[str] = field(default_factory=set)
    odd: set[str] = field(default_factory=set)
    streams: list[bytes] = field(default_factory=list)
    top: object = None


class _Kept:
    """The content, with a copy of everything but the arrays for the opcode scanner."""

    def __init__(self, content: ModelContent) -> None:
        self.content, self.copy = content, io.BytesIO()

    def read(self, size: int) -> bytes:
        return self._keep(self.content.read(size))

    def readline(self) -> bytes:
        return self._keep(self.content.readline())

    def _keep(self, data: bytes) -> bytes:
        if self.copy.tell() + len(data) > _CONTROL_LIMIT:
            raise Undecided("it holds more beside its arrays than is read here")
        self.copy.write(data)
        return data


def read_as_joblib(content: ModelContent, into: Read) -> None:
    """Read as joblib.load does: an array's bytes follow its wrapper."""
    into.top = _Reader(content, into, arrays=True).read_kept()
    content.require_end()


def read_as_pickle(content: ModelContent, into: Read) -> None:
    """Read as pickle.load does, which takes an array's bytes for opcodes, up to the end or the first error."""
    _Reader(content, into, arrays=False).read_kept()


_Unpickler: Any = pickle._Unpickler  # noqa: SLF001  joblib builds on it as well; mypy cannot subclass it


def _watching(load: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return the opcode; what it has brought to the top of the stack is then watched."""

    def load_watched(reader: "_Reader") -> None:
        load(reader)
        reader.append(reader._watch(reader.stack.pop()))  # noqa: SLF001  an opcode of its own

    return load_watched


class _Reader(_Unpickler):  # type: ignore[misc]
    dispatch: ClassVar[dict[int, Any]] = dict(_Unpickler.dispatch)

    def __init__(self, content: ModelContent, into: Read, *, arrays: bool) -> None:
        # latin1 decodes all texts of Python 2; relevant names are ASCII.
        kept = _Kept(content)
        super().__init__(kept, encoding="latin1")
        self._content, self._kept, self._into, self._arrays = content, kept, into, arrays
        self._open: dict[int, Name | BuiltObject] = {}

    def read_kept(self) -> object:
        try:
            return self._finish(self.load())
        except (Torn, Undecided, MemoryError, RecursionError):
            raise
        except EOFError as error:
            raise Torn("it ends before its last opcode") from error
        except Exception as error:  # a real load would raise it too
            raise Torn(f"{type(error).__name__}: {error}"[:200]) from error
        finally:
            self._into.streams.append(self._kept.copy.getvalue())

    def _finish(self, top: object) -> object:
        self._into.words |= {each for each in self.memo.values() if type(each) is str}
        self._into.names |= {each for each in self._open.values() if isinstance(each, Name)}
        self._into.odd |= {f"uses {each} in an unknown way" for each in self._open.values()}
        return top

    def find_class(self, module: str, name: str) -> Name:
        if self.proto < 3 and (module, name) in NAME_MAPPING:  # noqa: PLR2004  as the real one does for Python 2
            module, name = NAME_MAPPING[module, name]
        elif self.proto < 3 and module in IMPORT_MAPPING:  # noqa: PLR2004
            module = IMPORT_MAPPING[module]
        if module == LOSSES and not any(f"{each.module}.".startswith(REGISTER_LOSSES) for each in self._into.names):
            self._into.odd.add(f"imports {LOSSES} before scikit-learn has registered it")
        named = Name(module, name)
        if named not in MEMMAPS:
            self._into.names.add(named)
        watched: Name = self._watch(named)
        return watched

    def _watch(self, value: Any) -> Any:
        """Return a copy of a name that array sizes depend on; each copy must be used as joblib does."""
        if not isinstance(value, Name) or not is_watched(value):
            return value
        fresh = Name(*value)
        self._open[id(fresh)] = fresh
        return fresh

    load_get = _watching(_Unpickler.load_get)
    load_binget = _watching(_Unpickler.load_binget)
    load_long_binget = _watching(_Unpickler.load_long_binget)
    load_dup = _watching(_Unpickler.load_dup)

    def load_persid(self) -> None:
        if not self.proto:  # text and zip files may begin with it, and no real load goes on
            raise Torn("it names an object that lies elsewhere, as no pickle of this protocol does")
        super().load_persid()

    def persistent_load(self, _: object) -> object:
        raise Undecided("it refers to an object that lies elsewhere")

    def get_extension(self, code: int) -> None:
        self._into.odd.add("imports by a number of the extension registry")
        self.append(BuiltObject(code, ()))

    def _instantiate(self, klass: object, args: object) -> None:
        self.append(self._record_call(klass, tuple(args) if isinstance(args, list) else args))

    def _record_call(self, what: object, arguments: object) -> BuiltObject:
        if isinstance(what, Name):
            self._into.called.add(what)
        return self._build(what, arguments)

    def _build(self, what: object, arguments: object) -> BuiltObject:
        if not isinstance(what, Name):
            self._into.odd.add("calls something that it made itself")
        elif not isinstance(arguments, tuple):
            self._into.odd.add(f"calls {what.name[:40]} with arguments that it made itself")
        built = BuiltObject(what, arguments)
        if what == NUMPY_DTYPE and plain_dtype(arguments):
            self._open.pop(id(what), None)
        elif what == RECONSTRUCTOR:
            self._reconstruct(built)
        return built

    def _reconstruct(self, built: BuiltObject) -> None:
        """Handle the form that protocols 0 and 1 use instead of NEWOBJ."""
        match built.arguments:
            case (Name() as of, Name(module="builtins"), _):
                self._wrap(built, of, plainly=built.arguments[1:] == OF_OBJECT)
            case _:
                self._into.odd.add("reconstructs something in an unknown way")

    def _wrap(self, built: BuiltObject, of: object, *, plainly: bool) -> None:
        """Watch the wrapper instead of its name."""
        if isinstance(of, Name) and wraps(of) and plainly and id(of) in self._open:
            del self._open[id(of)]
            self._open[id(built)] = built

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self._record_call(self.stack[-1], arguments)

    def load_newobj(self) -> None:
        arguments, of = self.stack.pop(), self.stack.pop()
        built = self._build(of, arguments)
        self._wrap(built, of, plainly=arguments == ())
        self.append(built)

    def load_newobj_ex(self) -> None:
        named, arguments = self.stack.pop(), self.stack.pop()
        self.append(self._build(self.stack.pop(), (arguments, named)))

    def load_build(self) -> None:
        state, built = self.stack.pop(), self.stack[-1]
        self._change(state)
        if odd_state(built, state):
            self._into.odd.add("sets a state in an unknown way")
        if isinstance(built, BuiltObject) and wraps(built.kind) and self._unwrap(built, state) and self._arrays:
            self.stack[-1] = self._pass_array(built)

    def _unwrap(self, wrapper: BuiltObject, state: object) -> bool:
        """Return whether a wrapper gets its only state, in joblib's form."""
        if self._open.pop(id(wrapper), None) is None or not plain_wrapping(state):
            self._into.odd.add("wraps an array in an unknown way")
            return False
        assert isinstance(state, dict)  # noqa: S101  it is plain
        if state["subclass"] in MEMMAPS:
            self._open.pop(id(state["subclass"]), None)
        return True

    def _change(self, state: object) -> None:
        """Record a state or items for the object on top of the stack."""
        built = self.stack[-1]
        if isinstance(built, BuiltObject):
            built.states.append(state)
        else:
            self._into.odd.add("changes a class or a module" if isinstance(built, Name) else "changes a plain value")

    def load_append(self) -> None:
        self._extend([self.stack.pop()])

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
        """Read the content before allocating: the real opcode believes the length."""
        size = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(size)))

    def load_next_buffer(self) -> None:
        raise Undecided("its arrays lie outside the file")

    def load_readonly_buffer(self) -> None:
        """Do nothing: the object stays unchanged."""

    def _pass_array(self, wrapper: BuiltObject) -> BuiltObject:
        size, holds_objects = array_extent(wrapper)
        if holds_objects:  # plain pickle.load, which takes a wrapper for any other object
            return BuiltObject(wrapper.kind, (_Reader(self._content, self._into, arrays=False).read_kept(),))
        if wrapper.state.get("numpy_array_alignment_bytes") is not None:
            self._content.skip(self._content.read(1)[0])
        self._content.skip(size)
        return BuiltObject(wrapper.kind, ())


_Reader.dispatch |= {
    getattr(pickle, name.removeprefix("load_").upper())[0]: load
    for name, load in vars(_Reader).items()
    if name.startswith("load_")
}
