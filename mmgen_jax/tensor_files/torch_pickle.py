"""Interprets the pickle in PyTorch's files without running anything.

Only the few instructions that a checkpoint needs are known. The functions and classes that they name are looked up in a
table of this file and never imported. So a hostile pickle can make values and errors, but cannot call anything. Objects
of classes that are not in the table, which checkpoints keep beside their weights, become values that only have a name.
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass

import ml_dtypes
import numpy as np

MAX_DIMENSIONS = 32

# Names of element types: first those of pickled storages, then those of values torch.<name>.
STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
    "ComplexFloatStorage": np.complex64,
    "ComplexDoubleStorage": np.complex128,
}
DTYPES = (
    "float64",
    "float32",
    "float16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
    "complex64",
    "complex128",
)


class Namespace(dict):
    """The entries of an `argparse.Namespace`."""


@dataclass(frozen=True, eq=False)
class Unknown:
    """A class that is not known here, or an object of it: nothing but its name."""

    name: str


@dataclass(frozen=True)
class _Function:
    """A function that a pickle may call; the instruction REDUCE calls nothing else."""

    call: Callable


@dataclass(frozen=True)
class StorageType:
    dtype: np.dtype


@dataclass(frozen=True)
class Storage:
    """A flat array that views the file, and the size of that file in bytes."""

    array: np.ndarray
    limit: int


def naturals(name: str, values: object) -> tuple[int, ...]:
    """Returns `values` if they are a tuple of natural numbers; raises ValueError otherwise."""
    if not isinstance(values, tuple) or not all(type(v) is int and v >= 0 for v in values):
        raise ValueError(f"a tensor's {name} is not a tuple of natural numbers")
    return values


def _tensor(storage, offset, size, stride, _requires_grad=False, _hooks=None, _metadata=None) -> np.ndarray:
    """Makes a view of a storage. Raises ValueError if it reaches outside of the storage."""
    if not isinstance(storage, Storage):
        raise ValueError("a tensor has no storage")
    size, stride, (offset,) = naturals("size", size), naturals("stride", stride), naturals("offset", (offset,))
    if len(size) != len(stride) or len(size) > MAX_DIMENSIONS:
        raise ValueError(f"a tensor has {len(size)} sizes and {len(stride)} strides")
    array = storage.array
    if math.prod(n for n in size if n) * array.itemsize > storage.limit:
        raise ValueError(f"a tensor of size {size} is larger than the whole file")
    if 0 in size:
        return np.ndarray(size, array.dtype, array[:0])
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if last >= array.size:
        raise ValueError(f"a tensor of size {size} reaches to element {last} of a storage of {array.size}")
    steps = [s * array.itemsize if n > 1 else 0 for n, s in zip(size, stride, strict=True)]
    return np.ndarray(size, array.dtype, array, offset * array.itemsize, steps)


def _dictionary(items=()) -> dict:
    if not isinstance(items, list | tuple) or not all(isinstance(i, list | tuple) and len(i) == 2 for i in items):
        raise ValueError("a dictionary is made of something other than pairs")
    return _updated({}, [value for pair in items for value in pair])


def _plain(value: object) -> bool:
    return isinstance(value, str | int | float | Unknown | None)


def _updated(target: dict, flat: list) -> dict:
    """Adds key, value, key, value, ... to a dict. Keys must be simple, as nested ones could exhaust the C stack."""
    if not isinstance(target, dict) or len(flat) % 2:
        raise ValueError("entries are set in something other than a dictionary")
    for key, value in zip(flat[::2], flat[1::2], strict=True):
        if not _plain(key) and not (isinstance(key, tuple) and all(map(_plain, key))):
            raise ValueError(f"a dictionary has a key of type {type(key).__name__}")
        target[key] = value
    return target


def _device(kind, index=None) -> str:
    if not isinstance(kind, str) or not isinstance(index, int | None):
        raise ValueError("a device has no name")
    return kind if index is None else f"{kind}:{index}"


def _sequence(kind: type) -> _Function:
    def make(items=()):
        if not isinstance(items, list | tuple) or not all(map(_plain, items)):
            raise ValueError(f"a {kind.__name__} is made of something other than plain values")
        return kind(items)

    return _Function(make)


def _type(name, *_) -> np.dtype:
    dtype = np.dtype(name) if isinstance(name, str) else None
    if dtype is None or dtype.kind not in "biufc":
        raise ValueError("a number of NumPy has a type that is not one of numbers")
    return dtype


def _scalar(dtype, data) -> object:
    """A number of NumPy, as a plain one."""
    if not isinstance(dtype, np.dtype) or not isinstance(data, bytes) or len(data) != dtype.itemsize:
        raise ValueError("a number of NumPy does not fit its type")
    return np.frombuffer(data, dtype)[0].item()


def _bytes(text, encoding) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("bytes are stored in an encoding other than latin1")
    return text.encode("latin1")


def _of_subclass(function, _kind, arguments, _state) -> object:
    """A tensor that has attributes of its own, or is of a subclass: the tensor alone."""
    if not isinstance(function, _Function) or not isinstance(arguments, tuple):
        raise ValueError("a tensor of a subclass is made of something other than a tensor")
    return function.call(*arguments)


# Functions, and classes that are named like functions, whose results only have a name here.
INERT = {
    "builtins": ("bytearray", "bytes", "complex", "frozenset", "object", "range", "slice"),
    "collections": ("deque",),
    "copyreg": ("_reconstructor",),
    "datetime": ("date", "datetime", "time", "timedelta", "timezone"),
    "functools": ("partial",),
    "numpy.core.multiarray": ("_reconstruct",),
    "numpy._core.multiarray": ("_reconstruct",),
    "numpy.random._pickle": ("__bit_generator_ctor", "__generator_ctor", "__randomstate_ctor"),
    "numpy.random.bit_generator": ("__pyx_unpickle_SeedSequence",),
    "re": ("_compile",),
}
DANGEROUS = {"os", "posix", "nt", "subprocess", "sys", "ctypes", "socket", "pty", "shutil", "importlib", "runpy"}
GLOBALS: dict[str, object] = {
    "torch._utils _rebuild_tensor_v2": _Function(_tensor),
    "torch._utils _rebuild_parameter": _Function(lambda data, _requires_grad, _hooks: data),
    "torch._utils _rebuild_parameter_with_state": _Function(lambda data, _requires_grad, _hooks, _state: data),
    "torch._tensor _rebuild_from_type_v2": _Function(_of_subclass),
    "torch Size": _sequence(tuple),
    "torch device": _Function(_device),
    "torch.storage UntypedStorage": StorageType(np.dtype(np.uint8)),
    "collections OrderedDict": _Function(_dictionary),
    "collections defaultdict": _Function(lambda _factory=None: {}),
    "argparse Namespace": _Function(lambda: Namespace()),
    "numpy dtype": _Function(_type),
    "_codecs encode": _Function(_bytes),
    **{f"{module} scalar": _Function(_scalar) for module in ("numpy.core.multiarray", "numpy._core.multiarray")},
    **{f"builtins {kind.__name__}": _sequence(kind) for kind in (set, list, tuple)},
    "builtins dict": _Function(_dictionary),
    **{f"torch {name}": StorageType(np.dtype(dtype)) for name, dtype in STORAGES.items()},
    **{f"torch {name}": np.dtype(name) for name in DTYPES},
    "torch bfloat16": np.dtype(ml_dtypes.bfloat16),
}
VALUES = {  # instructions that push their argument onto the stack
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES",
}  # fmt: skip
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": set}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _object(kind: Unknown) -> Unknown:
    """An object of an unknown class. Raises ValueError for what is called a function: it would do something."""
    module, _, name = kind.name.rpartition(".")
    class_like = name.lstrip("_")[:1].isupper() and module.partition(".")[0] not in DANGEROUS
    if not class_like and name not in INERT.get(module, ()):
        raise ValueError(f"it wants to call {ascii(kind.name)[1:-1][:80]}, which no checkpoint needs; refused")
    return Unknown(kind.name)


class _Machine:
    """The stack machine that executes the instructions of a pickle."""

    def __init__(self, storage: Callable[[object], Storage]):
        self._storage = storage
        self._stack: list = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}

    def run(self, data: bytes) -> object:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return self._stack.pop()
            self._step(opcode.name, argument)
        raise ValueError("its pickle has no end")

    def _step(self, name: str, argument) -> None:
        push, pop = self._stack.append, self._stack.pop
        if name in VALUES:
            push(argument)
        elif name in CONSTANTS:
            push(CONSTANTS[name])
        elif name in EMPTY:
            push(EMPTY[name]())
        elif name in TUPLES:
            push(tuple(reversed([pop() for _ in range(TUPLES[name])])))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            if argument not in self._memo:
                raise ValueError(f"its pickle refers to value {argument} before there is one")
            push(self._memo[argument])
        elif hasattr(self, f"_op_{name.lower()}"):
            getattr(self, f"_op_{name.lower()}")(argument)
        else:
            raise ValueError(f"its pickle has the instruction {name}, which no checkpoint needs")

    def _since_mark(self) -> list:
        start = self._marks.pop()
        found = self._stack[start:]
        del self._stack[start:]
        return found

    def _op_proto(self, _) -> None:
        pass

    _op_frame = _op_proto

    def _op_mark(self, _) -> None:
        self._marks.append(len(self._stack))

    def _op_frozenset(self, _) -> None:
        self._since_mark()
        self._stack.append(Unknown("builtins.frozenset"))

    def _op_memoize(self, _) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _op_tuple(self, _) -> None:
        self._stack.append(tuple(self._since_mark()))

    def _op_setitem(self, _) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._update([key, value])

    def _op_setitems(self, _) -> None:
        self._update(self._since_mark())

    def _update(self, items: list) -> None:
        if not isinstance(self._stack[-1], Unknown):
            _updated(self._stack[-1], items)

    def _op_append(self, _) -> None:
        self._extend([self._stack.pop()])

    def _op_appends(self, _) -> None:
        self._extend(self._since_mark())

    def _extend(self, items: list) -> None:
        if isinstance(self._stack[-1], Unknown):
            return
        if not isinstance(self._stack[-1], list):
            raise ValueError("items are appended to something other than a list")
        self._stack[-1].extend(items)

    def _op_additems(self, _) -> None:
        items = self._since_mark()
        if not isinstance(self._stack[-1], set):
            raise ValueError("items are added to something other than a set")
        self._stack[-1].update(_sequence(set).call(items))

    def _op_global(self, name: str) -> None:
        """Pushes what a name "module name" stands for. Python 2 called the builtins `__builtin__`."""
        name = re.sub("^__builtin__ ", "builtins ", name)
        self._stack.append(GLOBALS[name] if name in GLOBALS else Unknown(name.replace(" ", ".")))

    def _op_stack_global(self, _) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise ValueError("it wants to call something without a name; refused")
        self._op_global(f"{module} {name}")

    def _op_reduce(self, _) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if isinstance(function, Unknown):
            self._stack.append(_object(function))
            return
        if not isinstance(function, _Function) or not isinstance(arguments, tuple):
            raise ValueError("it wants to call something that is not a function; refused")
        self._stack.append(function.call(*arguments))

    _op_newobj = _op_reduce

    def _op_newobj_ex(self, _) -> None:
        self._stack.pop()  # arguments by name
        self._op_newobj(None)

    def _op_build(self, _) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if isinstance(target, Unknown):
            return
        if isinstance(target, np.dtype) and isinstance(state, tuple):
            if state[1:2] not in (("<",), ("|",)):
                raise ValueError("its numbers are not little-endian")
            return
        if not isinstance(target, dict) or not isinstance(state, dict):
            raise ValueError("it wants to set the state of something other than a dictionary; refused")
        if isinstance(target, Namespace):  # attributes of an OrderedDict (`_metadata` of a state dict) are dropped
            target.update(state)

    def _op_binpersid(self, _) -> None:
        self._stack.append(self._storage(self._stack.pop()))


def load(data: bytes, storage: Callable[[object], Storage]) -> object:
    """Returns the value of a pickle; `storage` finds the storage that a tensor refers to.

    Raises ValueError, IndexError or TypeError for a pickle that is damaged or makes anything other than plain values.
    """
    return _Machine(storage).run(data)
