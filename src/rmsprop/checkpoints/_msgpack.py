"""flax.serialization's msgpack: nested dicts of arrays, without flax.

An array is the extension type 1 around (shape, dtype name, bytes in C order); type 2 is a Python complex, type 3 a
NumPy scalar, packed like an array. Arrays above 2^30 bytes are cut into chunks under "__msgpack_chunked_array__".

Source: google/flax, flax/serialization.py, 0.12.8.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rmsprop.checkpoints._archive import ENTRIES, parse_dtype, raise_file_errors
from rmsprop.checkpoints._packages import needed
from rmsprop.errors import FileError

__all__ = ["packed", "unpacked"]

CHUNKED = "__msgpack_chunked_array__"
_ARRAY, _COMPLEX, _SCALAR = 1, 2, 3
_LARGEST = 2**30


def _msgpack() -> Any:
    return needed("msgpack", extra="jax", purpose="a flax checkpoint")


def unpacked(data: bytes, where: str) -> Any:
    """Return the tree in `data`; arrays are NumPy's.

    Raises:
        FileError: Truncated, or no msgpack.
    """
    left = ENTRIES

    def counted(items: Any) -> Any:
        nonlocal left
        left -= 1 + len(items)
        if left < 0:
            raise FileError(f"{where}: more than {ENTRIES:,} objects")
        return items

    hooks = {"ext_hook": _from_ext, "list_hook": counted, "object_hook": counted}
    with raise_file_errors(where, "msgpack file"):
        return _joined(_msgpack().unpackb(data, **hooks, raw=False, strict_map_key=False, max_array_len=ENTRIES))


def packed(tree: Any) -> bytes:
    """Return the bytes that flax.serialization.msgpack_serialize would write for nested dicts of arrays and numbers.

    Example:
        >>> import numpy as np
        >>> print(unpacked(packed({"w": np.ones(2, "f4")}), "example")["w"])
        [1. 1.]
    """
    data: bytes = _msgpack().packb(_cut(tree), default=_to_ext, strict_types=True)
    return data


def _from_ext(code: int, data: bytes) -> Any:
    msgpack = _msgpack()
    if code == _COMPLEX:
        return complex(*msgpack.unpackb(data))
    if code not in (_ARRAY, _SCALAR):
        return msgpack.ExtType(code, data)
    shape, dtype, buffer = msgpack.unpackb(data, raw=True)
    array = np.frombuffer(buffer, parse_dtype(dtype.decode())).reshape(shape)
    return array[()] if code == _SCALAR else array


def _to_ext(value: Any) -> Any:
    msgpack = _msgpack()
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        body = msgpack.packb((list(array.shape), array.dtype.name, array.tobytes()), use_bin_type=True)
        return msgpack.ExtType(_ARRAY if isinstance(value, np.ndarray) else _SCALAR, body)
    if isinstance(value, complex):
        return msgpack.ExtType(_COMPLEX, msgpack.packb((value.real, value.imag)))
    raise TypeError(f"{type(value).__name__} has no place in a flax checkpoint")


def _joined(tree: Any) -> Any:
    if isinstance(tree, dict):
        if CHUNKED in tree:
            shape = [tree["shape"][str(i)] for i in range(len(tree["shape"]))]
            return np.concatenate([tree["chunks"][str(i)] for i in range(len(tree["chunks"]))]).reshape(shape)
        return {key: _joined(child) for key, child in tree.items()}
    return [_joined(child) for child in tree] if isinstance(tree, list) else tree


def _cut(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _cut(child) for key, child in tree.items()}
    if isinstance(tree, np.ndarray) and tree.nbytes > _LARGEST:
        flat, length = tree.ravel(), _LARGEST // tree.dtype.itemsize
        chunks = [flat[i : i + length] for i in range(0, flat.size, length)]
        shape = {str(i): n for i, n in enumerate(tree.shape)}
        return {CHUNKED: True, "shape": shape, "chunks": {str(i): chunk for i, chunk in enumerate(chunks)}}
    return tree
