"""The few elements of a PyTorch tensor that are looked at, gathered first and converted after.

A state in 8 bits is decoded where it is looked at alone, and of a sparse gradient no dense copy is made: what a look
costs does not grow with the tensor, but for the search for NaN, which reads it once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rmsprop.doctor.sample import Grid
from rmsprop.torch import state as _state

__all__ = ["all_finite", "local", "square", "taken"]

Array = NDArray[Any]


def local(x: Tensor) -> Tensor:
    """Return what this rank holds of a distributed tensor."""
    to_local = getattr(x, "to_local", None)
    return x if to_local is None else to_local()


def all_finite(x: Tensor, *, stepped: Tensor | None = None) -> bool:
    """Return whether no element is NaN or infinite; of a sparse tensor the values are read.

    Args:
        x: Any layout. Read.
        stepped: The gradient of `x`: where it is sparse, its rows alone are read, for a step changed no others.

    Example:
        >>> all_finite(torch.full((100,), 1e37)), all_finite(torch.tensor([1.0, torch.nan]))
        (True, False)
    """
    x = local(x)
    if stepped is not None and local(stepped).is_sparse:
        x = x.index_select(0, local(stepped).coalesce().indices()[0])
    x = x.coalesce().values() if x.is_sparse else x
    narrow = x.dtype in (torch.float16, torch.bfloat16)
    # A sum is several times faster than isfinite, and only where it overflows do they differ.
    if bool(torch.isfinite(x.sum(dtype=torch.float32 if narrow else None))):
        return True
    return bool(torch.isfinite(x).all())


def taken(x: Tensor, chosen: Grid, index: Tensor | None) -> Array:
    """Return a copy of the elements that are looked at, as a matrix, float32 or float64.

    Args:
        x: Any layout, dense or sparse, real or complex (whose components are elements).
        chosen: Rows and columns.
        index: `chosen.flat()` on the device of `x`; None: all of it.
    """
    x = local(x)
    if x.is_sparse:
        if x.sparse_dim() == 1 and not x.is_complex():
            return _of_sparse(x.coalesce(), chosen)
        x = x.to_dense()
    if x.is_complex():
        x = torch.view_as_real(x)
    if index is None:
        x = x.reshape(chosen.shape)
    elif x.is_contiguous():
        x = x.view(-1).index_select(0, index)
    else:  # the rows first: flattening would copy it all
        rows = torch.from_numpy(chosen.rows).to(x.device)
        x = (x.reshape(1, -1) if x.ndim < 2 else x.index_select(0, rows)).reshape(chosen.rows.size, -1)
        x = x.index_select(1, torch.from_numpy(chosen.columns).to(x.device))
    array = _host(x).reshape(chosen.rows.size, chosen.columns.size)
    return array.copy() if index is None else array


def square(
    state: Mapping[str, Any], param: Tensor, chosen: Grid, index: Tensor | None, *, key: str = "square_avg"
) -> Array | None:
    """Return the elements of mean_sq (or, by its key, of the variance) that are looked at; None: there is none.

    Args:
        state: Of one parameter; a centered one may hold the variance alone.
        param: The parameter.
        chosen: Rows and columns.
        index: As for `taken`.
        key: "square_avg" or "grad_var".
    """
    if torch.is_tensor(state.get(key)):
        return taken(state[key], chosen, index)
    if key + "_8bit" in state:
        return _decoded(local(state[key + "_8bit"]), local(state[key + "_max"]), chosen)
    if key == "square_avg":
        variance = square(state, param, chosen, index, key="grad_var")
        return None if variance is None else variance + taken(state["grad_avg"], chosen, index) ** 2
    return None


def _host(x: Tensor) -> Array:
    wide = x if x.dtype == torch.float64 else x.to(torch.float32)
    array: Array = wide.cpu().numpy()
    return array


def _of_sparse(x: Tensor, chosen: Grid) -> Array:
    """Return elements of a coalesced tensor whose rows are sparse; rows that are not there hold 0."""
    known = x.indices()[0].cpu().numpy()
    wanted = chosen.columns if x.ndim < 2 else chosen.rows
    places = np.searchsorted(known, wanted)
    there = places < known.size
    there[there] = known[places[there]] == wanted[there]
    rows = x.values().index_select(0, torch.from_numpy(places[there]).to(x.device))
    values = _host(rows).reshape(rows.shape[0], math.prod(rows.shape[1:]))
    found = np.zeros((wanted.size, 1 if x.ndim < 2 else chosen.columns.size), values.dtype)
    found[there] = values if x.ndim < 2 else values[:, chosen.columns]
    return found.reshape(chosen.rows.size, chosen.columns.size)


def _decoded(codes: Tensor, maxima: Tensor, chosen: Grid) -> Array:
    """Return what 8-bit codes stand for, of the elements that are looked at; blocks go by the order of memory."""
    where = np.unravel_index(chosen.flat(), tuple(codes.shape)) if codes.ndim else ()
    places = sum((axis * stride for axis, stride in zip(where, codes.stride())), np.zeros(chosen.flat().size, np.int64))
    index = torch.from_numpy(places).to(codes.device)
    flat = _state._flat(codes).index_select(0, index).to(torch.int32)
    blocks = torch.div(index, _state.BLOCK, rounding_mode="floor")
    top = maxima.to(torch.float32).view(torch.int32).index_select(0, blocks)
    return _host(_state._values(flat, top)).reshape(chosen.rows.size, chosen.columns.size)
