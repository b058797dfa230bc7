"""PaddlePaddle's .pdopt: a pickle of a flat dict of arrays.

    <p>_mean_square_0, <p>_mean_grad_0 (zeros unless centered), <p>_momentum_0, LR_Scheduler, master_weights

eps is inside the root, lr inside the buffer, mean_sq starts at zero. No code in the file runs: see `_pickles.py`.

Source: paddle/optimizer/rmsprop.py and framework/io.py 3.3.1.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rmsprop.checkpoints._bounds import check_types, read_bytes, shorten
from rmsprop.checkpoints._pickles import is_pickle, load_pickle
from rmsprop.checkpoints._shared import Options, make_state, raise_other
from rmsprop.checkpoints._snapshot import Snapshot
from rmsprop.errors import FileError

__all__ = ["read", "recognize", "write"]

_NAME = re.compile(r"^(?P<parameter>.+)_(?P<slot>mean_square|mean_grad|momentum)_0$")
_SLOTS = {"mean_square": "mean_sq", "mean_grad": "mean_grad", "momentum": "momentum_buf"}
_STRUCTURED = "StructuredToParameterName@@"


def recognize(path: Path, head: bytes) -> bool:
    """Tell whether a file is a pickle that is called `.pdopt`."""
    return path.suffix == ".pdopt" and is_pickle(head)


def read(path: Path, options: Options) -> Snapshot:
    """Read a .pdopt file."""
    tree = _load(path)
    keys: dict[str, dict[str, str]] = {}
    for key, value in tree.items():
        match = _NAME.match(str(key))
        if match and isinstance(value, np.ndarray):
            keys.setdefault(match["parameter"], {})[_SLOTS[match["slot"]]] = key
    if not keys or not all("mean_sq" in entry for entry in keys.values()):
        if any("moment1" in str(key) for key in tree):
            raise_other(path, "Adam", "moment1, moment2")
        raise FileError(f"{path}: no mean_square in it, so no RMSProp state")
    # mean_grad is always there, but only a centered run writes to it.
    if not any(tree[entry["mean_grad"]].any() for entry in keys.values() if "mean_grad" in entry):
        keys = {name: {k: v for k, v in entry.items() if k != "mean_grad"} for name, entry in keys.items()}
    notes = [] if isinstance(tree.get("LR_Scheduler"), Mapping) else ["PaddlePaddle stores no step"]
    if "master_weights" in tree:
        notes.append("master_weights belong to the weights: left out")
    return make_state(tree, keys, str(path), format="paddle", notes=tuple(notes)).snapshot


def write(path: Path, snapshot: Snapshot, format: str, like: Path | None, options: Options) -> None:
    """Write a .pdopt file: the entries of `like`, if given, with the statistics replaced."""
    tree = _load(like) if like is not None else {}
    structured = dict(tree.get(_STRUCTURED, {}))
    for parameter in snapshot.parameters:
        arrays = parameter.arrays
        for slot, statistic in _SLOTS.items():
            key = f"{parameter.name}_{slot}_0"
            tree[key] = arrays.get(statistic, np.zeros_like(arrays["mean_sq"]))
            structured[key] = key
    tree[_STRUCTURED] = structured
    path.write_bytes(pickle.dumps(tree, protocol=4))


def _load(path: Path) -> dict[Any, Any]:
    try:
        tree = load_pickle(read_bytes(path))
    except (pickle.UnpicklingError, KeyError) as error:  # KeyError: an opcode that plain data do not need
        reason = f"{shorten(error)}), and code in a file is never run"
        raise FileError(f"{path}: not a pickle of arrays alone ({reason}") from error
    if not isinstance(tree, dict):
        raise FileError(f"{path}: a {type(tree).__name__}, expected the dict that optimizer.state_dict() returns")
    check_types(tree, {_STRUCTURED: dict}, str(path))
    return tree
