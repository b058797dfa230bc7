"""TensorFlow checkpoints: TensorFlow 1's RMSPropOptimizer, and tf_keras in object-based checkpoints.

* TensorFlow 1 numbers a variable's slots: w/RMSProp is mean_sq; without centered w/RMSProp_1 is momentum, with it
  w/RMSProp_1 is mean_grad and w/RMSProp_2 momentum, which is there whatever momentum was. mean_sq starts at one.
* tf_keras from 2.11 on: <optimizer>/_variables/1, 2, ... as in `_blocks.py`, without a learning rate among them.
* tf_keras legacy: <variable>/.OPTIMIZER_SLOT/<optimizer>/rms, momentum, mg.

lr is inside the buffer in all three. A checkpoint is a prefix: prefix.index and prefix.data-00000-of-00001.

Source: tensorflow/python/training/rmsprop.py 2.21; tf_keras/src/optimizers 2.21.0.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rmsprop._files import check_regular
from rmsprop.checkpoints import _archive, _blocks
from rmsprop.checkpoints._layout import Layout, snapshot_of
from rmsprop.checkpoints._packages import needed
from rmsprop.checkpoints._snapshot import Parameter, Snapshot
from rmsprop.errors import FileError, StateError

__all__ = ["SUFFIXES", "files_of", "prefix_of", "read", "write"]

SUFFIXES = (".data-00000-of-00001", ".index")
"""The index last: without it there is no checkpoint."""
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_SLOT = re.compile(r"^(?P<variable>.+)/\.OPTIMIZER_SLOT/(?P<optimizer>.+)/(?P<slot>rms|mg|momentum)$")
_POSITION = re.compile(r"^(?P<optimizer>.+)/_variables/(?P<number>\d+)$")
_NUMBERED = re.compile(r"^(?P<variable>.+)/RMSProp(?:_(?P<number>\d+))?$")
_OTHERS = re.compile(r"/(Adam|Adagrad|Adadelta|Momentum|Ftrl|Nadam|AMSGrad|LAMB)(?:_\d+)?$|/\.OPTIMIZER_SLOT/.+/(m|v)$")
_SLOT_NAMES = {"rms": "mean_sq", "mg": "mean_grad", "momentum": "momentum_buf"}
Hits = Mapping[str, re.Match[str]]
Keys = Mapping[str, str]


def _tensorflow() -> Any:
    return needed("tensorflow", extra="tensorflow", purpose="a TensorFlow checkpoint")


def prefix_of(path: Path) -> Path:
    """Return the prefix of a checkpoint from it or from one of its files."""
    return path.parent / re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", path.name)


def files_of(prefix: Path) -> list[Path]:
    """Return the files that a checkpoint of one shard has, in the order of `SUFFIXES`."""
    return [prefix.parent / (prefix.name + suffix) for suffix in SUFFIXES]


def _all(prefix: Path) -> dict[str, Any]:
    with _archive.raise_file_errors(prefix, "TensorFlow checkpoint"):
        reader = _tensorflow().train.load_checkpoint(str(prefix))
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        declared = sum(math.prod(shape) * dtypes[name].size for name, shape in shapes.items())
        _archive.check_size(prefix, declared, sum(check_regular(file) for file in files_of(prefix)))
        return {name: reader.get_tensor(name) for name in shapes}


def read(path: Path, *, slots: Sequence[str] | None = None, at: str | None = None) -> Snapshot:
    """Read a TensorFlow checkpoint.

    Args:
        path: Its prefix, or one of its files. Read.
        slots: The blocks of a tf_keras checkpoint, which does not say what its positions are.
        at: The optimizer's name in an object-based checkpoint with several.

    Raises:
        FileError: Truncated, or no optimizer state in it.
        StateError: Of another optimizer, or slots that fit nothing.
    """
    prefix = prefix_of(path)
    arrays = _all(prefix)
    return _snapshot(_layout(arrays, str(prefix), slots, at), arrays, str(prefix))


def _snapshot(layout: Layout, arrays: Mapping[str, Any], where: str) -> Snapshot:
    snapshot = snapshot_of(layout, arrays, where)
    if layout.format != "tensorflow1":
        return dataclasses.replace(snapshot, ordered=layout.format == "tf-keras" or len(layout.names) == 1)
    return dataclasses.replace(snapshot, init=1.0, ordered=len(layout.names) == 1)


def _layout(arrays: Mapping[str, Any], where: str, slots: Sequence[str] | None, at: str | None) -> Layout:
    objects = {name.removesuffix(VALUE): name for name in arrays if name.endswith(VALUE)}
    for plain, pattern, make in (
        (objects, _SLOT, _legacy_layout),
        (objects, _POSITION, _positions_layout),
        ({name: name for name in arrays}, _NUMBERED, _tf1_layout),
    ):
        hits = {key: match for key in sorted(plain) if (match := pattern.match(key))}
        if hits:
            return make(hits, plain, arrays, where, slots, at)
    other = next((match for name in sorted(arrays) if (match := _OTHERS.search(name.removesuffix(VALUE)))), None)
    if other is not None:
        title = other.group(1) or "Adam"
        raise StateError(f"{where}: the state of {title}, not of RMSprop: nothing was converted")
    raise FileError(f"{where}: no optimizer state in it: no .../RMSProp, no .OPTIMIZER_SLOT, no _variables")


def _one(optimizers: set[str], where: str, at: str | None) -> str:
    if at is not None and at not in optimizers:
        raise StateError(f"at: no optimizer {at!r} in {where}, expected one of {sorted(optimizers)}")
    if at is None and len(optimizers) > 1:
        raise StateError(f"{where}: several optimizers; choose one with --at: {', '.join(sorted(optimizers))}")
    return at if at is not None else optimizers.pop()


def _step(objects: Mapping[str, str], *names: str) -> str | None:
    return next((objects[name] for name in names if name in objects), None)


def _tf1_layout(
    hits: Hits, plain: Keys, arrays: Mapping[str, Any], where: str, slots: Sequence[str] | None, at: str | None
) -> Layout:
    numbered: dict[str, dict[int, str]] = {}
    for name, match in hits.items():
        numbered.setdefault(match["variable"], {})[int(match["number"] or 0)] = name
    centered = {len(entry) for entry in numbered.values()}
    if centered not in ({2}, {3}) or any(sorted(entry) != list(range(len(entry))) for entry in numbered.values()):
        raise StateError(
            f"{where}: {' or '.join(map(str, sorted(centered)))} slots RMSProp, RMSProp_1, ... for a variable, "
            "expected 2 (mean square, momentum) or 3 (centered) for all: several optimizers share them, or only part "
            "was saved"
        )
    order = ("mean_sq", "momentum_buf") if centered == {2} else ("mean_sq", "mean_grad", "momentum_buf")
    return Layout(
        format="tensorflow1",
        slots=[{statistic: entry[i] for i, statistic in enumerate(order)} for entry in numbered.values()],
        names=[_variable(name, arrays) for name in numbered],
        named=True,
        iteration="global_step" if "global_step" in arrays else None,
        config={},
    )


def _variable(name: str, arrays: Mapping[str, Any]) -> str:
    """Return the variable that slots belong to: they may stand in a scope of their own before its name."""
    parts = name.split("/")
    return next((tail for i in range(len(parts)) if (tail := "/".join(parts[i:])) in arrays), name)


def _legacy_layout(
    hits: Hits, plain: Keys, arrays: Mapping[str, Any], where: str, slots: Sequence[str] | None, at: str | None
) -> Layout:
    optimizer = _one({match["optimizer"] for match in hits.values()}, where, at)
    found: dict[str, dict[str, str]] = {}
    for key, match in hits.items():
        if match["optimizer"] == optimizer:
            found.setdefault(match["variable"], {})[_SLOT_NAMES[match["slot"]]] = plain[key]
    if not any("mean_sq" in entry for entry in found.values()):
        raise StateError(f"{where}: slots named momentum and no rms: the state of SGD, not of RMSprop")
    numbers = {
        name: float(arrays[plain[f"{optimizer}/{name}"]])
        for name in ("learning_rate", "rho", "momentum")
        if f"{optimizer}/{name}" in plain
    }
    return Layout(
        format="tf-keras-legacy",
        slots=list(found.values()),
        names=list(found),
        named=True,
        iteration=_step(plain, f"{optimizer}/iter"),
        config=numbers,
    )


def _positions_layout(
    hits: Hits, plain: Keys, arrays: Mapping[str, Any], where: str, slots: Sequence[str] | None, at: str | None
) -> Layout:
    optimizer = _one({match["optimizer"] for match in hits.values()}, where, at)
    mine = {int(match["number"]): plain[key] for key, match in hits.items() if match["optimizer"] == optimizer}
    keys = [mine[number] for number in sorted(mine)]
    weights = [
        np.shape(arrays[name]) for key, name in plain.items() if not key.startswith(f"{optimizer}/") and "/" in key
    ]
    # Position 0, the step, has a name of its own, and no learning rate follows.
    _, names, size = _blocks.blocks(
        [(), *(np.shape(arrays[key]) for key in keys)], where, slots=slots, schedule=True, weights=weights
    )
    found: list[dict[str, str]] = [{} for _ in range(size)]
    for block, name in enumerate(names):
        statistic = _blocks.SLOTS[name]
        for i in range(size):
            if statistic is not None:
                found[i][statistic] = keys[block * size + i]
    rate = _step(plain, f"{optimizer}/_learning_rate", f"{optimizer}/_current_learning_rate")
    return Layout(
        format="tf-keras",
        slots=found,
        names=[str(i) for i in range(size)],
        named=False,
        iteration=_step(plain, f"{optimizer}/_iterations", f"{optimizer}/iterations"),
        config={} if rate is None else {"learning_rate": float(arrays[rate])},
    )


def write(
    path: Path,
    snapshot: Snapshot,
    *,
    like: Path | None = None,
    slots: Sequence[str] | None = None,
    at: str | None = None,
) -> None:
    """Write a checkpoint with the prefix `path`: a copy of `like` with the statistics and the step replaced.

    Without `like` it is a TensorFlow 1 checkpoint with the slots (and global_step) alone, for a
    tf.compat.v1.train.Saver of these variables.
    """
    tf = _tensorflow()
    if like is None:
        layout, arrays = _tf1_names(snapshot), {}
    else:
        arrays = _all(prefix_of(like))
        layout = _layout(arrays, str(like), slots, at)
    for parameter, keys in zip(snapshot.parameters, layout.slots, strict=True):
        for statistic, key in keys.items():
            arrays[key] = _like(parameter, statistic, arrays.get(key))
    if layout.iteration is not None and snapshot.step is not None:
        arrays[layout.iteration] = np.asarray(snapshot.step, np.int64)
    names = sorted(arrays)
    tf.raw_ops.SaveV2(
        prefix=str(path),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[arrays[name] for name in names],
    )


def _like(parameter: Parameter, statistic: str, old: Any) -> Any:
    array = parameter.arrays[statistic]
    return array if old is None else array.astype(np.asarray(old).dtype)


def _tf1_names(snapshot: Snapshot) -> Layout:
    order = ("mean_sq", "mean_grad", "momentum_buf") if snapshot.centered else ("mean_sq", "momentum_buf")
    suffixes = ("", "_1", "_2")
    return Layout(
        format="tensorflow1",
        slots=[{s: f"{p.name}/RMSProp{suffixes[i]}" for i, s in enumerate(order)} for p in snapshot.parameters],
        names=[p.name for p in snapshot.parameters],
        named=True,
        iteration="global_step",
        config={},
    )
