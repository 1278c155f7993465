"""Reads pickles without running them: a small machine for the instructions that checkpoints use.

Python's own `pickle.loads` calls whatever a file names. Here a name is never imported: the few that build tensors and plain
containers are looked up in a table, every other class becomes an inert `Stub`, and names of the standard library that
are not plain data are refused. Format: Python's `pickletools`; what is allowed follows the idea of `torch.load(weights_only=True)`.
"""

from __future__ import annotations

import pickletools
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

from common.errors import WeightsInvalid

Builder = Callable[..., Any]
"""Makes a value from the arguments that the file gives; must be safe for any arguments."""

_HARMLESS = frozenset(
    {"argparse", "collections", "copyreg", "copy_reg", "datetime", "decimal", "enum", "fractions", "numbers", "pathlib",
     "functools", "random", "types", "typing", "uuid", "abc", "dataclasses", "__main__"}
)  # fmt: skip
"""Modules of the standard library whose names may stand in a file; they become stubs like any other."""
_HARMLESS_BUILTINS = frozenset({"object", "set", "frozenset", "slice", "range", "complex", "bytearray", "dict", "list", "tuple",
                                "int", "float", "str", "bool", "bytes", "type"})  # fmt: skip
_DEEPEST_STACK = 10_000_000


class Stub:
    """Stands for an object of a class that is not read. name: "module.Class". state: what the file said of it."""

    __slots__ = ("name", "state")

    def __init__(self, name: str) -> None:
        self.name = name
        self.state: Any = None

    def __repr__(self) -> str:
        return f"<not read: {self.name}>"


@dataclass(frozen=True)
class _Class:
    """A class or function that the file names and that is not known: calling it gives a stub."""

    name: str


@dataclass(frozen=True)
class _Known:
    """A name of the table."""

    name: str
    build: Builder


_MARK = object()


def load(file: IO[bytes], known: Mapping[str, Any], persistent: Callable[[Any], Any]) -> Any:
    """The value of one pickle, read to its end and not beyond.

    known: "module.name" -> what stands for it: a `Builder` that is called with the file's arguments, or any other value,
    taken as it is. persistent: gives the value of a persistent id. Raises `WeightsInvalid` for a damaged file, a name or
    an instruction that has no place in a checkpoint, and whatever `known` and `persistent` raise.
    """
    machine = _Machine(known, persistent)
    try:
        for code, argument, _ in pickletools.genops(file):
            if code.name == "STOP":
                return machine.pop()
            machine.step(code.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, UnicodeError) as error:
        raise WeightsInvalid(f"the file is damaged or no checkpoint ({error})") from error
    raise WeightsInvalid("the file ends too early")


class _Machine:
    def __init__(self, known: Mapping[str, Any], persistent: Callable[[Any], Any]) -> None:
        self._known = known
        self._persistent = persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise ValueError("unbalanced")
        return value

    def _top(self) -> Any:
        if self._stack[-1] is _MARK:
            raise ValueError("unbalanced")
        return self._stack[-1]

    def _to_mark(self) -> list[Any]:
        at = len(self._stack) - 1
        while self._stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("unbalanced")
        values = self._stack[at + 1 :]
        del self._stack[at:]
        return values

    def step(self, name: str, argument: Any) -> None:
        push = self._stack.append
        if len(self._stack) > _DEEPEST_STACK:
            raise ValueError("too deep")
        match name:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                push(_MARK)
            case "NONE":
                push(None)
            case "NEWTRUE" | "NEWFALSE":
                push(name == "NEWTRUE")
            case (
                "INT" | "LONG" | "BININT" | "BININT1" | "BININT2" | "LONG1" | "LONG4" | "FLOAT" | "BINFLOAT" | "UNICODE"
                | "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8" | "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8"
                | "BYTEARRAY8" | "STRING" | "BINSTRING" | "SHORT_BINSTRING"
            ):  # fmt: skip
                push(argument)
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._top()
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._top()
            case "GET" | "BINGET" | "LONG_BINGET":
                push(self._memo[argument])
            case "POP":
                self._stack.pop()
            case "POP_MARK":
                self._to_mark()
            case "DUP":
                push(self._top())
            case "BINPERSID":
                push(self._persistent(self.pop()))
            case _:
                self._build(name, argument)

    def _build(self, name: str, argument: Any) -> None:
        push = self._stack.append
        match name:
            case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT" | "EMPTY_SET":
                push({"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}[name]())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                values = [self.pop() for _ in range(int(name[-1]))]
                push(tuple(reversed(values)))
            case "TUPLE":
                push(tuple(self._to_mark()))
            case "LIST":
                push(self._to_mark())
            case "FROZENSET":
                push(frozenset(_hashable(value) for value in self._to_mark()))
            case "DICT":
                push({})
                values = self._to_mark_below()
                self._set_items(values)
            case "APPEND":
                self._extend([self.pop()])
            case "APPENDS":
                self._extend(self._to_mark())
            case "ADDITEMS":
                values = self._to_mark()
                target = self._top()
                if type(target) is set:
                    target.update(_hashable(value) for value in values)
            case "SETITEM":
                value, key = self.pop(), self.pop()
                self._set_items([key, value])
            case "SETITEMS":
                self._set_items(self._to_mark())
            case "GLOBAL":
                push(self._name(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                attribute, module = self.pop(), self.pop()
                push(self._name(module, attribute))
            case "REDUCE" | "NEWOBJ":
                arguments, called = self.pop(), self.pop()
                push(_call(called, arguments, {}))
            case "NEWOBJ_EX":
                keywords, arguments, called = self.pop(), self.pop(), self.pop()
                push(_call(called, arguments, keywords))
            case "BUILD":
                state, target = self.pop(), self._top()
                _set_state(target, state)
            case _:
                raise WeightsInvalid(
                    f"the file holds the pickle instruction {name}, which has no place in a checkpoint"
                )

    def _to_mark_below(self) -> list[Any]:
        """As `_to_mark`, with the top of the stack staying on it."""
        top = self._stack.pop()
        values = self._to_mark()
        self._stack.append(top)
        return values

    def _extend(self, values: list[Any]) -> None:
        target = self._top()
        if type(target) is list:
            target.extend(values)
        elif not isinstance(target, Stub):
            raise ValueError(f"items appended to a {type(target).__name__}")

    def _set_items(self, values: list[Any]) -> None:
        target = self._top()
        if isinstance(target, dict):
            for key, value in zip(values[::2], values[1::2], strict=True):
                target[_hashable(key)] = value
        elif not isinstance(target, Stub):
            raise ValueError(f"items set on a {type(target).__name__}")

    def _name(self, module: Any, attribute: Any) -> Any:
        if not isinstance(module, str) or not isinstance(attribute, str):
            raise ValueError("a name that is no text")
        full = f"{module}.{attribute}"
        if full in self._known:
            value = self._known[full]
            return _Known(full, value) if callable(value) else value
        top = module.partition(".")[0]
        if top in ("builtins", "__builtin__"):
            allowed = attribute in _HARMLESS_BUILTINS
        else:
            allowed = top in _HARMLESS or top not in _STANDARD
        if not allowed:
            raise WeightsInvalid(f"the file names {full}, which can harm and has no place in a checkpoint")
        return _Class(full)


_STANDARD = sys.stdlib_module_names | {
    "nt",
    "posix",
    "commands",
    "__builtin__",
    "copy_reg",
    "exceptions",
    "urllib2",
    "setuptools",
    "pip",
    "distutils",
}


def _call(called: Any, arguments: Any, keywords: Any) -> Any:
    if not isinstance(arguments, tuple) or not isinstance(keywords, dict):
        raise ValueError("arguments that are no tuple")
    if isinstance(called, _Known) and not keywords:
        return called.build(*arguments)
    if isinstance(called, _Class):
        return Stub(called.name)
    if isinstance(called, Stub):
        return Stub(f"{called.name}()")
    raise ValueError(f"a {type(called).__name__} is called")


def _set_state(target: Any, state: Any) -> None:
    if isinstance(target, Stub):
        target.state = state
        return
    receive = getattr(type(target), "receive_pickled_state", None)
    if receive is not None:
        receive(target, state)
    # state of containers and tensors (attributes hung on them) means nothing to us


def _hashable(key: Any) -> Any:
    """A key that is neither text nor number is of no use in a checkpoint; tensors as keys would compare element by element."""
    if isinstance(key, str | int | float | bytes | bool | type(None) | Stub | _Class):
        return key
    if isinstance(key, tuple) and all(isinstance(part, str | int | float | bytes | type(None)) for part in key):
        return key  # flat ones only: the hash of nested tuples can take forever
    return Stub(f"key of type {type(key).__name__}")


def plain() -> dict[str, Any]:
    """Builders of the containers that every pickle may hold."""

    def ordered(items: Any = ()) -> OrderedDict[Any, Any]:
        return OrderedDict((_hashable(key), value) for key, value in items)

    def default(factory: Any = None, *rest: Any) -> dict[Any, Any]:
        return defaultdict(None)  # what makes its missing entries stays outside

    def collected(kind: type) -> Builder:
        return lambda items=(): kind(_hashable(item) for item in items)

    def encode(text: Any, encoding: Any = "latin1", *rest: Any) -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise ValueError("bytes in an unknown encoding")
        return text.encode("latin1")

    def reconstructor(kind: Any, base: Any = None, state: Any = None) -> Any:
        return Stub(kind.name) if isinstance(kind, _Class) else Stub("object")

    return {
        "collections.OrderedDict": ordered,
        "collections.defaultdict": default,
        "_codecs.encode": encode,
        "builtins.set": collected(set),
        "__builtin__.set": collected(set),
        "builtins.frozenset": collected(frozenset),
        "__builtin__.frozenset": collected(frozenset),
        "copyreg._reconstructor": reconstructor,
        "copy_reg._reconstructor": reconstructor,
    }
