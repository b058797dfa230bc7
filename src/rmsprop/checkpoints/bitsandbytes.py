"""The state of bitsandbytes' RMSprop: float32, or codes of 8 bits.

    value[i] = qmap1[code[i]] absmax1[i // 256]          i counts the elements in C order

bitsandbytes 0.50 keeps these tensors in a dict of their own under `WRAPPED`; earlier ones keep them beside "step".

Source: bitsandbytes/optim/optimizer.py and functional.py, 0.50.2.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rmsprop.checkpoints._snapshot import Array
from rmsprop.errors import StateError

__all__ = ["BLOCK", "WRAPPED", "decoded"]

BLOCK = 256
"""Elements that share one absmax."""
WRAPPED = "__bnb_optimizer_quant_state__"


def decoded(state: Mapping[str, Array]) -> Array:
    """Return mean_sq as float32, of the shape of state1.

    Args:
        state: state1, and for 8 bits qmap1 (256 float32) and absmax1 (float32, one for each block of 256). Read.

    Raises:
        StateError: A block length other than 256, or codes without their tables.

    Example:
        >>> import numpy as np
        >>> tables = {"qmap1": np.linspace(0, 1, 256, dtype="f4"), "absmax1": np.array([2.0], "f4")}
        >>> print(decoded({"state1": np.array([0, 255], np.uint8), **tables}))
        [0. 2.]
    """
    codes = state["state1"]
    if codes.dtype != np.uint8:
        return codes
    if "qmap1" not in state or "absmax1" not in state:
        raise StateError("state1 holds 8-bit codes, but qmap1 or absmax1 is missing")
    table, maxima = state["qmap1"].astype(np.float32), state["absmax1"].astype(np.float32).ravel()
    if table.size != 256 or maxima.size != -(-codes.size // BLOCK):
        raise StateError(
            f"state1 has {codes.size} codes, qmap1 {table.size} and absmax1 {maxima.size} entries, expected 256 and "
            f"one for each {BLOCK} codes: not blockwise"
        )
    flat = table[codes.ravel()] * np.repeat(maxima, BLOCK)[: codes.size]
    return flat.reshape(codes.shape)
