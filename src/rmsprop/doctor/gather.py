"""The sampled elements of a PyTorch tensor, gathered first and converted afterwards.

Of an 8-bit state only the sampled elements are decoded, and a sparse gradient is not made dense: the cost of a sample
does not grow with the tensor, except for the search for NaN, which reads it once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rmsprop.doctor.grid import Grid
from rmsprop.torch import state as _state

__all__ = ["gather", "gather_statistics", "get_local", "is_finite"]

Array = NDArray[Any]


def get_local(x: Tensor) -> Tensor:
    """Return what this rank holds of a distributed tensor."""
    to_local = getattr(x, "to_local", None)
    return x if to_local is None else to_local()


def is_finite(x: Tensor, *, grad: Tensor | None = None) -> bool:
    """Return whether no element is NaN or infinite; of a sparse tensor the values are read.

    Args:
        x: Any layout. Read.
        grad: The gradient of `x`: where it is sparse, only its rows are read, for the step changed no others.

    Example:
        >>> is_finite(torch.full((100,), 1e37)), is_finite(torch.tensor([1.0, torch.nan]))
        (True, False)
    """
    x = get_local(x)
    if grad is not None and get_local(grad).is_sparse:
        x = x.index_select(0, get_local(grad).coalesce().indices()[0])
    x = x.coalesce().values() if x.is_sparse else x
    is_narrow = x.dtype in (torch.float16, torch.bfloat16)
    # A sum is several times faster than isfinite, and they differ only where it overflows.
    if bool(torch.isfinite(x.sum(dtype=torch.float32 if is_narrow else None))):
        return True
    return bool(torch.isfinite(x).all())


def gather(x: Tensor, grid: Grid, index: Tensor | None) -> Array:
    """Return a copy of the sampled elements as a matrix, float32 or float64.

    Args:
        x: Any layout, dense or sparse, real or complex (whose components are elements). Read.
        grid: Rows and columns.
        index: `grid.flat()` on the device of `x`; None: every element is sampled.
    """
    x = get_local(x)
    if x.is_sparse:
        if x.sparse_dim() == 1 and not x.is_complex():
            return _gather_sparse(x.coalesce(), grid)
        x = x.to_dense()
    if x.is_complex():
        x = torch.view_as_real(x)
    if index is None:
        return _to_numpy(x.reshape(grid.shape)).copy()
    if x.is_contiguous():
        x = x.view(-1).index_select(0, index)
    else:  # the rows first: flattening would copy the whole tensor
        rows = torch.from_numpy(grid.rows).to(x.device)
        x = (x.reshape(1, -1) if x.ndim < 2 else x.index_select(0, rows)).reshape(grid.rows.size, -1)
        x = x.index_select(1, torch.from_numpy(grid.columns).to(x.device))
    return _to_numpy(x).reshape(grid.rows.size, grid.columns.size)


def gather_statistics(state: Mapping[str, Any], grid: Grid, index: Tensor | None) -> dict[str, Array]:
    """Return the sampled elements of the averages in the state of one parameter; {}: it has none yet.

    A state of torch.optim that came from a checkpoint of this library may hold an old variance: square_avg goes first.
    """
    found = {}
    for key, name in (("square_avg", "mean_sq"), ("grad_var", "grad_var")):
        if torch.is_tensor(state.get(key)):
            found = {name: gather(state[key], grid, index)}
        elif key + "_8bit" in state:
            found = {name: _decode(get_local(state[key + "_8bit"]), get_local(state[key + "_max"]), grid)}
        if found:
            break
    if found and torch.is_tensor(state.get("grad_avg")):
        found["mean_grad"] = gather(state["grad_avg"], grid, index)
    return found


def _to_numpy(x: Tensor) -> Array:
    array: Array = (x if x.dtype == torch.float64 else x.to(torch.float32)).cpu().numpy()
    return array


def _gather_sparse(x: Tensor, grid: Grid) -> Array:
    """Return elements of a coalesced tensor whose rows are sparse; missing rows are 0."""
    known = x.indices()[0].cpu().numpy()
    wanted = grid.columns if x.ndim < 2 else grid.rows
    places = np.searchsorted(known, wanted)
    present = places < known.size
    present[present] = known[places[present]] == wanted[present]
    rows = x.values().index_select(0, torch.from_numpy(places[present]).to(x.device))
    values = _to_numpy(rows).reshape(rows.shape[0], math.prod(rows.shape[1:]))
    found = np.zeros((wanted.size, 1 if x.ndim < 2 else grid.columns.size), values.dtype)
    found[present] = values if x.ndim < 2 else values[:, grid.columns]
    return found.reshape(grid.rows.size, grid.columns.size)


def _decode(codes: Tensor, maxima: Tensor, grid: Grid) -> Array:
    """Return the values of the sampled 8-bit codes; blocks follow the order of memory."""
    where = np.unravel_index(grid.flat(), tuple(codes.shape)) if codes.ndim else ()
    places = sum((axis * stride for axis, stride in zip(where, codes.stride())), np.zeros(grid.flat().size, np.int64))
    index = torch.from_numpy(places).to(codes.device)
    flat = _state._flat(codes).index_select(0, index).to(torch.int32)
    blocks = torch.div(index, _state.BLOCK, rounding_mode="floor")
    top = maxima.to(torch.float32).view(torch.int32).index_select(0, blocks)
    return _to_numpy(_state._values(flat, top)).reshape(grid.rows.size, grid.columns.size)
