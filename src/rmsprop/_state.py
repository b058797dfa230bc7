"""The saved state: compared with the optimizer that loads it; written and read as safetensors, without pickle.

A file holds the arrays `params...`, `mean_sq...` (and so on, for each buffer and leaf) and `steps`. Its metadata hold
the rule as JSON, the counters, and a checksum of everything else.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop._files import write_atomically
from rmsprop.errors import FileError, RuleError, StateError
from rmsprop.rule import Rule

__all__ = ["State", "check_arrays", "check_state", "read", "write"]

Array = NDArray[Any]
_FORMAT = "rmsprop-numpy-1"


@dataclasses.dataclass(frozen=True)
class State:
    """A state that fits the optimizer."""

    count: int
    lr_max: float
    steps: Array
    buffers: Mapping[str, Array]


def check_state(state: Mapping[str, Any], *, rule: Rule, buffers: Mapping[str, Array], count: int) -> State:
    """Return `state` as a `State`; raise `StateError` for the first part that does not fit the optimizer.

    The optimizer has `rule`, `buffers` (name: array) and `count` leaves.
    """
    missing = [key for key in ("rule", "count", "lr_max", "steps", "buffers") if key not in state]
    if missing:
        raise StateError(f"state: {missing[0]!r} is missing; expected what state_dict() returned")
    try:
        theirs = Rule.from_json(state["rule"])
    except RuleError as error:
        raise StateError(f"state['rule']: {error}") from error
    for switch, (mine, other) in rule.difference(theirs).items():
        raise StateError(f"state: saved with {switch}={other!r}, but this optimizer has {switch}={mine!r}")
    steps = np.asarray(state["steps"])
    if steps.shape != (count,) or steps.dtype.kind not in "iu" or (steps < 0).any():
        raise StateError(f"state['steps']: {steps.dtype} of shape {steps.shape}, expected int64 of shape ({count},)")
    if not isinstance(state["count"], numbers.Integral) or state["count"] < 0:
        raise StateError(f"state['count']: {state['count']!r}, expected a whole number of at least 0")
    if not isinstance(state["lr_max"], numbers.Real) or not math.isfinite(state["lr_max"]) or state["lr_max"] < 0:
        raise StateError(f"state['lr_max']: {state['lr_max']!r}, expected a finite number of at least 0")
    if not isinstance(state["buffers"], Mapping):
        raise StateError(f"state['buffers']: a {type(state['buffers']).__name__}, expected a dict of arrays")
    check_arrays(state["buffers"], buffers)
    for key, array in state["buffers"].items():
        if key.startswith(("mean_sq", "grad_var")) and (np.asarray(array) < 0).any():
            raise StateError(f"state: {key} has negative elements, but a mean of squares has none")
    return State(int(state["count"]), float(state["lr_max"]), steps, state["buffers"])


def check_arrays(given: Mapping[str, Array], mine: Mapping[str, Array]) -> None:
    """Raise `StateError` for the first array whose name, shape or dtype is not that of `mine`."""
    for key, array in mine.items():
        if key not in given:
            raise StateError(f"state: {key} is missing")
        theirs = np.asarray(given[key])
        if theirs.shape != array.shape:
            raise StateError(f"state: {key} has shape {theirs.shape}, expected {array.shape}")
        if theirs.dtype != array.dtype:
            raise StateError(f"state: {key} is {theirs.dtype}, expected {array.dtype}")
    extra = [key for key in given if key not in mine]
    if extra:
        raise StateError(f"state: {extra[0]} belongs to no parameter of this optimizer")


def write(path: str | Path, state: Mapping[str, Any], params: Mapping[str, Array]) -> None:
    """Write state and parameters to `path` atomically; raise `OSError` if the disk is full."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    arrays = {**params, **state["buffers"], "steps": state["steps"]}
    arrays = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
    metadata = {
        "format": _FORMAT,
        "rule": state["rule"],
        "count": str(state["count"]),
        "lr_max": float(state["lr_max"]).hex(),
    }
    metadata["checksum"] = _checksum(arrays, metadata)
    with write_atomically(path) as temporary:
        try:
            save_file(arrays, str(temporary), metadata)
        except SafetensorError as error:  # its error for a full disk
            raise OSError(f"{path}: could not be written ({error}); what was there before is unchanged") from error


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return (state, params) from a file of `write`; raise `FileError` for any other file, or a damaged one."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(str(path), framework="np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise FileError(f"{path}: not a complete safetensors file ({error})") from error
    if metadata.get("format") != _FORMAT:
        raise FileError(f"{path}: a safetensors file, but not one that rmsprop.RMSprop.save wrote")
    if metadata.pop("checksum", None) != _checksum(arrays, metadata):
        raise FileError(f"{path}: corrupt: the checksum of its contents does not match")
    steps = arrays.pop("steps")
    params = {name: array for name, array in arrays.items() if name.startswith("params")}
    state = {
        "rule": metadata["rule"],
        "count": int(metadata["count"]),
        "lr_max": float.fromhex(metadata["lr_max"]),
        "steps": steps,
        "buffers": {name: array for name, array in arrays.items() if name not in params},
    }
    return state, params


def _checksum(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> str:
    total = zlib.crc32(repr(sorted(metadata.items())).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total = zlib.crc32(f"{name} {array.dtype} {arrays[name].shape}".encode(), total)
        total = zlib.crc32(array.data, total)
    return f"{total:08x}"
