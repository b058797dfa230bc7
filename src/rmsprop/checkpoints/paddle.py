"""PaddlePaddle's .pdopt: a pickle of a flat dict of arrays.

    <p>_mean_square_0, <p>_mean_grad_0 (zeros unless centered), <p>_momentum_0, LR_Scheduler, master_weights

eps is inside the root, lr inside the buffer, mean_sq from zero. No code of the file runs: see `_pickles.py`.

Source: paddle/optimizer/rmsprop.py and framework/io.py 3.3.1.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rmsprop.checkpoints._archive import check_entries, read_bytes, short
from rmsprop.checkpoints._pickles import loads
from rmsprop.checkpoints._snapshot import Parameter, Snapshot
from rmsprop.errors import FileError, StateError

__all__ = ["read", "write"]

_NAME = re.compile(r"^(?P<parameter>.+)_(?P<slot>mean_square|mean_grad|momentum)_0$")
_SLOTS = {"mean_square": "mean_sq", "mean_grad": "mean_grad", "momentum": "momentum_buf"}
_STRUCTURED = "StructuredToParameterName@@"


def _load(path: Path) -> dict[Any, Any]:
    try:
        tree = loads(read_bytes(path))
    except (pickle.UnpicklingError, KeyError) as error:  # KeyError: an opcode that no plain data have
        raise FileError(
            f"{path}: not a pickle of arrays alone ({short(error)}); what else it holds could only be had by running "
            "it, and that is never done"
        ) from error
    if not isinstance(tree, dict):
        raise FileError(f"{path}: a {type(tree).__name__}, expected the dict that optimizer.state_dict() returns")
    check_entries(tree, {_STRUCTURED: dict}, str(path))
    return tree


def read(path: Path) -> Snapshot:
    """Read a .pdopt file.

    Raises:
        FileError: Truncated, more than arrays in it, or no optimizer state.
        StateError: Of another optimizer.
    """
    tree = _load(path)
    found: dict[str, dict[str, Any]] = {}
    for key, value in tree.items():
        match = _NAME.match(str(key))
        if match and isinstance(value, np.ndarray):
            found.setdefault(match["parameter"], {})[_SLOTS[match["slot"]]] = value
    if not found or not all("mean_sq" in entry for entry in found.values()):
        if any("moment1" in str(key) for key in tree):
            raise StateError(f"{path}: the state of Adam (moment1, moment2), not of RMSProp: nothing was converted")
        raise FileError(f"{path}: no mean_square in it, so no RMSProp state")
    # mean_grad is always there; only a centered run ever writes to it.
    centered = any(entry["mean_grad"].any() for entry in found.values() if "mean_grad" in entry)
    parameters = tuple(
        Parameter.of(name, {k: v for k, v in entry.items() if centered or k != "mean_grad"}, None)
        for name, entry in found.items()
    )
    step = tree.get("LR_Scheduler")
    notes = ["PaddlePaddle keeps no step"] if not isinstance(step, Mapping) else []
    if "master_weights" in tree:
        notes.append("master_weights belong to the weights: left out")
    return Snapshot(
        format="paddle",
        parameters=parameters,
        centered=centered,
        buffer="lr",
        ordered=len(parameters) == 1,
        named=True,
        notes=tuple(notes),
    )


def write(path: Path, snapshot: Snapshot, *, like: Path | None = None) -> None:
    """Write a .pdopt file: the entries of `like`, if given, with the statistics replaced."""
    tree = _load(like) if like is not None else {}
    structured = dict(tree.get(_STRUCTURED, {}))
    for parameter in snapshot.parameters:
        arrays = parameter.arrays
        zeros = np.zeros_like(arrays["mean_sq"])
        for slot, statistic in _SLOTS.items():
            key = f"{parameter.name}_{slot}_0"
            tree[key] = arrays.get(statistic, zeros)
            structured[key] = key
    tree[_STRUCTURED] = structured
    path.write_bytes(pickle.dumps(tree, protocol=4))
