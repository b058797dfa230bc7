"""Arrays as bytes, which the page reads without parsing numbers.

4 bytes     length of the header, little-endian
header      JSON in UTF-8, padded with spaces so that the arrays start at a multiple of 8
arrays      little-endian float64 in C order; the header's "arrays" has their places: {name: {"at", "shape"}}
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["pack", "unpack"]


def pack(about: Mapping[str, Any], arrays: Mapping[str, ArrayLike]) -> bytes:
    """Return a message.

    Args:
        about: Anything that JSON can store; "arrays" is added.
        arrays: Of any shape; converted to float64. Read.

    Example:
        >>> about, arrays = unpack(pack({"steps": 2}, {"x": [[1.0, 2.0]]}))
        >>> about["steps"], arrays["x"]
        (2, array([[1., 2.]]))
    """
    blocks = {name: np.ascontiguousarray(array, "<f8") for name, array in arrays.items()}
    at, places = 0, {}
    for name, block in blocks.items():
        places[name] = {"at": at, "shape": list(np.shape(arrays[name]))}
        at += block.nbytes
    header = json.dumps({**about, "arrays": places}, allow_nan=False, separators=(",", ":")).encode()
    header += b" " * (-(len(header) + 4) % 8)
    return b"".join([struct.pack("<I", len(header)), header, *(block.tobytes() for block in blocks.values())])


def unpack(message: bytes) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    """Return the header and the arrays of a message from `pack`."""
    (length,) = struct.unpack_from("<I", message)
    about = json.loads(message[4 : 4 + length])
    arrays = {}
    for name, place in about.pop("arrays").items():
        count = int(np.prod(place["shape"], dtype=np.int64))
        flat = np.frombuffer(message, "<f8", count, 4 + length + place["at"])
        arrays[name] = flat.reshape(place["shape"])
    return about, arrays
