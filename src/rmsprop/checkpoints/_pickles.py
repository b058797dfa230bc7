"""Pickles of arrays, read without running code: only the opcodes of plain data, and stand-ins for NumPy's functions.

NumPy's dtype and ndarray accept any state from a pickle, including pointers. Here an array is built from its bytes
alone, after its dtype, shape and length have been compared.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from typing import Any, ClassVar

import numpy as np

from rmsprop.checkpoints._bounds import ENTRIES, parse_dtype

__all__ = ["check_pickles", "is_pickle", "load_pickle"]

_OPCODES = (
    *("PROTO", "STOP", "MARK", "POP", "POP_MARK", "DUP", "NONE", "NEWTRUE", "NEWFALSE", "MEMOIZE", "BINPUT"),
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "TUPLE", "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("EMPTY_LIST", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "BINGET", "LONG_BINGET", "LONG_BINPUT"),
    *("GLOBAL", "STACK_GLOBAL", "REDUCE"),
)


class _Dict(dict):
    """A dict with keys of text or integers; the hash of a nested tuple can take forever."""

    def __init__(self, items: Any = ()) -> None:
        super().__init__()
        for key, value in items:
            self[key] = value

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(key, (str, int)):
            raise pickle.UnpicklingError(f"a {type(key).__name__} as a key")
        super().__setitem__(key, value)


class _Dtype:
    """Stands for numpy.dtype: a name, and of the state that follows the byte order alone."""

    def __init__(self, name: str, align: bool = False, copy: bool = True) -> None:
        self.dtype = parse_dtype(name)

    def set_state(self, state: Any) -> None:
        _, order, *rest = state
        if order not in ("<", ">", "|", "=") or any(item is not None for item in rest[:3]):
            raise pickle.UnpicklingError("a dtype with fields, or of another kind than numbers")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """Stands for numpy.ndarray."""

    array: Any = None

    def set_state(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        data = data.encode("latin1") if isinstance(data, str) else data
        self.array = _make_array(dtype, shape, data, order="F" if fortran else "C")


def _make_array(dtype: _Dtype, shape: tuple[int, ...], data: bytes, order: Any = "C") -> Any:
    if not all(type(n) is int and n >= 0 for n in shape) or math.prod(shape) * dtype.dtype.itemsize != len(data):
        raise pickle.UnpicklingError(f"{len(data)} bytes for an array of shape {str(shape)[:80]}, {dtype.dtype}")
    array = np.frombuffer(data, dtype.dtype).reshape(shape, order=order)
    return array.astype(dtype.dtype.newbyteorder("="), order="C")


def _encode(text: str, coding: str) -> bytes:  # protocol 2 writes bytes as a call of this
    if coding != "latin1":
        raise pickle.UnpicklingError(f"the codec {coding[:40]!r}")
    return text.encode(coding)


_GLOBALS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("collections", "OrderedDict"): _Dict,
    ("_codecs", "encode"): _encode,
}
for _core in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _GLOBALS[_core, "_reconstruct"] = lambda *_: _Array()
    _GLOBALS[_core, "scalar"] = lambda dtype, data: _make_array(dtype, (), data)[()]

_Python: Any = pickle._Unpickler  # the one in C allocates a memo of any length that a file names


class _Unpickler(_Python):
    """Python's unpickler, restricted to the opcodes of plain data."""

    dispatch: ClassVar[dict[int, Any]] = {
        getattr(pickle, name)[0]: _Python.dispatch[getattr(pickle, name)[0]] for name in _OPCODES
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _GLOBALS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _GLOBALS[module, name]

    def load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], (_Array, _Dtype)):
            raise pickle.UnpicklingError(f"a state for a {type(self.stack[-1]).__name__}")
        self.stack[-1].set_state(state)

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.EMPTY_DICT[0]] = lambda self: self.append(_Dict())
    dispatch[pickle.FRAME[0]] = lambda self: self.read(8)


class _Counted(io.BytesIO):
    """Bytes with a limit on the number of reads, of which each object takes at least one."""

    left = 2 * ENTRIES

    def read(self, size: int | None = -1, /) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise pickle.UnpicklingError(f"more than {ENTRIES:,} objects")
        return super().read(size)


def is_pickle(head: bytes) -> bool:
    """Tell whether a file that starts with these bytes is a pickle of protocol 2 to 5."""
    return head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5")


def check_pickles(data: bytes, count: int = 1) -> None:
    """Raise `pickle.UnpicklingError` for more than `ENTRIES` objects, or for memory that is not in the file."""
    stream = _Counted(data)
    for _ in range(count):
        if stream.tell() == len(data):
            return
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "GLOBAL" and str(argument).endswith(" bytearray"):
                raise pickle.UnpicklingError("it asks for a bytearray")


def load_pickle(data: bytes) -> Any:
    """Return the dicts, lists, numbers, texts and arrays in a pickle; raise `pickle.UnpicklingError` for anything else.

    Example:
        >>> import pickle, numpy as np
        >>> print(load_pickle(pickle.dumps({"w": np.ones(2, "f4")}))["w"])
        [1. 1.]
    """
    return _convert(_Unpickler(_Counted(data)).load(), {})


def _convert(node: Any, done: dict[int, Any]) -> Any:
    """Return the tree with arrays in place of their stand-ins; a node that appears twice is converted once."""
    if isinstance(node, _Array) and node.array is not None:
        return node.array
    if node is None or isinstance(node, (str, int, float, bytes, np.generic)):
        return node
    if not isinstance(node, (_Dict, list, tuple)):
        raise pickle.UnpicklingError(f"a {type(node).__name__} outside an array")
    if id(node) in done:
        return done[id(node)]
    new: Any
    if isinstance(node, _Dict):
        new = done[id(node)] = {}
        new.update({key: _convert(child, done) for key, child in node.items()})
    elif isinstance(node, list):
        new = done[id(node)] = []
        new += [_convert(child, done) for child in node]
    else:
        new = done[id(node)] = tuple(_convert(child, done) for child in node)
    return new
