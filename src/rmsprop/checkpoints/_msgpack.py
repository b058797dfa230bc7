"""flax.serialization's msgpack, read and written without flax, which would load jax.

An array is the extension type 1 around (shape, dtype name, bytes in C order). Type 2 is a Python complex, type 3 a
NumPy scalar, packed like an array. An array of more than 2^30 bytes is cut into chunks.

Source: google/flax, flax/serialization.py, 0.12.8.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rmsprop.checkpoints._bounds import ENTRIES, import_package, parse_dtype, raise_file_errors
from rmsprop.errors import FileError

__all__ = ["pack", "unpack"]

_CHUNKED = "__msgpack_chunked_array__"
_ARRAY, _COMPLEX, _SCALAR = 1, 2, 3
_LARGEST = 2**30


def unpack(data: bytes, where: str) -> Any:
    """Return the tree in `data`, with NumPy arrays."""
    msgpack = import_package("msgpack")
    left = ENTRIES

    def count(items: Any) -> Any:
        nonlocal left
        left -= 1 + len(items)
        if left < 0:
            raise FileError(f"{where}: more than {ENTRIES:,} objects")
        return _join_chunks(items) if isinstance(items, dict) and _CHUNKED in items else items

    def decode(code: int, data: bytes) -> Any:
        if code == _COMPLEX:
            return complex(*msgpack.unpackb(data))
        if code not in (_ARRAY, _SCALAR):
            return msgpack.ExtType(code, data)
        shape, dtype, buffer = msgpack.unpackb(data, raw=True)
        array = np.frombuffer(buffer, parse_dtype(dtype.decode())).reshape(shape)
        return array[()] if code == _SCALAR else array

    hooks = {"ext_hook": decode, "list_hook": count, "object_hook": count}
    with raise_file_errors(where, "msgpack file"):
        return msgpack.unpackb(data, **hooks, strict_map_key=False, max_array_len=ENTRIES)


def pack(tree: Any) -> bytes:
    """Return the bytes that flax.serialization.msgpack_serialize writes for nested dicts of arrays and numbers.

    Example:
        >>> import numpy as np
        >>> print(unpack(pack({"w": np.ones(2, "f4")}), "example")["w"])
        [1. 1.]
    """
    msgpack = import_package("msgpack")

    def encode(value: Any) -> Any:
        if isinstance(value, (np.ndarray, np.generic)):
            body = msgpack.packb((list(value.shape), value.dtype.name, value.tobytes()), use_bin_type=True)
            return msgpack.ExtType(_ARRAY if isinstance(value, np.ndarray) else _SCALAR, body)
        if isinstance(value, complex):
            return msgpack.ExtType(_COMPLEX, msgpack.packb((value.real, value.imag)))
        raise TypeError(f"a flax checkpoint cannot hold a {type(value).__name__}")

    data: bytes = msgpack.packb(_cut_arrays(tree), default=encode, strict_types=True)
    return data


def _join_chunks(node: dict[str, Any]) -> Any:
    shape, chunks = ([node[name][str(i)] for i in range(len(node[name]))] for name in ("shape", "chunks"))
    return np.concatenate(chunks).reshape(shape)


def _cut_arrays(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _cut_arrays(child) for key, child in tree.items()}
    if not isinstance(tree, np.ndarray) or tree.nbytes <= _LARGEST:
        return tree
    flat, length = tree.ravel(), _LARGEST // tree.dtype.itemsize
    chunks = {str(i): flat[start : start + length] for i, start in enumerate(range(0, flat.size, length))}
    return {_CHUNKED: True, "shape": {str(i): n for i, n in enumerate(tree.shape)}, "chunks": chunks}
