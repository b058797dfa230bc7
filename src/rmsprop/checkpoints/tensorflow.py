"""TensorFlow checkpoints: TensorFlow 1's RMSPropOptimizer, and tf_keras in object-based checkpoints.

* TensorFlow 1 numbers a variable's slots: w/RMSProp is mean_sq. Without centered w/RMSProp_1 is the momentum buffer;
  with it w/RMSProp_1 is mean_grad and w/RMSProp_2 the buffer. There is a buffer whatever momentum was. mean_sq starts
  at one.
* tf_keras from 2.11 on: <optimizer>/_variables/1, 2, ... as in `_positions.py`, without a learning rate among them.
* tf_keras legacy: <variable>/.OPTIMIZER_SLOT/<optimizer>/rms, momentum, mg.

lr is inside the buffer in all three. A checkpoint is a prefix: prefix.index and prefix.data-00000-of-00001.

Source: tensorflow/python/training/rmsprop.py 2.21; tf_keras/src/optimizers 2.21.0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rmsprop._files import check_regular
from rmsprop.checkpoints._bounds import check_size, import_package, raise_file_errors
from rmsprop.checkpoints._positions import assign_positions
from rmsprop.checkpoints._shared import STACKS, Options, Slots, choose, make_snapshot, replace_statistics
from rmsprop.checkpoints._snapshot import Snapshot
from rmsprop.errors import FileError, StateError

__all__ = ["LIBRARY", "ROOM", "SUFFIXES", "get_files", "get_prefix", "read", "recognize", "write"]

LIBRARY, ROOM = "tensorflow", 2**31 + STACKS
SUFFIXES = (".data-00000-of-00001", ".index")
"""The index last: without it there is no checkpoint."""
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_SLOT = re.compile(r"^(?P<variable>.+)/\.OPTIMIZER_SLOT/(?P<optimizer>.+)/(?P<slot>rms|mg|momentum)$")
_POSITION = re.compile(r"^(?P<optimizer>.+)/_variables/(?P<number>\d+)$")
_NUMBERED = re.compile(r"^(?P<variable>.+)/RMSProp(?:_(?P<number>\d+))?$")
_OTHERS = re.compile(r"/(Adam|Adagrad|Adadelta|Momentum|Ftrl|Nadam|AMSGrad|LAMB)(?:_\d+)?$|/\.OPTIMIZER_SLOT/.+/(m|v)$")
_STATISTICS = {"rms": "mean_sq", "mg": "mean_grad", "momentum": "momentum_buf"}
_NUMBERS = {"lr": "learning_rate", "rho": "rho", "momentum": "momentum"}
_TF1 = {2: ("mean_sq", "momentum_buf"), 3: ("mean_sq", "mean_grad", "momentum_buf")}


def get_prefix(path: Path) -> Path:
    """Return the prefix of a checkpoint, given that or one of its files."""
    return path.parent / re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", path.name)


def get_files(prefix: Path) -> list[Path]:
    """Return the files of a checkpoint of one shard, in the order of `SUFFIXES`."""
    return [prefix.parent / (prefix.name + suffix) for suffix in SUFFIXES]


def recognize(path: Path, head: bytes) -> bool:
    """Tell whether a path is the prefix of a checkpoint or one of its files."""
    prefix = get_prefix(path)
    data, index = get_files(prefix)
    if data.is_file() and index.is_file():
        return True
    if index.is_file():
        raise FileError(f"{prefix}: a TensorFlow checkpoint without its .data-00000-of-00001 (or in several shards)")
    if (path / "checkpoint").is_file():
        raise FileError(f"{path}: a folder of TensorFlow checkpoints; give the prefix of one: {path}/name-123")
    if any((path / name).exists() for name in ("saved_model.pb", "keras_metadata.pb")):
        raise FileError(f"{path}: a SavedModel; give its {path}/variables/variables")
    return False


def read(path: Path, options: Options) -> Snapshot:
    """Read a TensorFlow checkpoint, given its prefix or one of its files."""
    prefix = get_prefix(path)
    arrays = _load(prefix)
    return make_snapshot(_find_slots(arrays, str(prefix), options)[0], arrays, str(prefix))


def write(path: Path, snapshot: Snapshot, format: str, like: Path | None, options: Options) -> None:
    """Write a checkpoint with the prefix `path`: a copy of `like` with the statistics and the step replaced.

    Without `like` it is a TensorFlow 1 checkpoint with the slots and global_step alone, for a
    tf.compat.v1.train.Saver of these variables.
    """
    arrays: dict[str, Any] = {}
    if like is None:
        names, step_key = [parameter.name for parameter in snapshot.parameters], "global_step"
        slots = Slots(format="tensorflow1", names=names, keys=[_name_slots(name, snapshot.centered) for name in names])
    else:
        arrays = _load(get_prefix(like))
        slots, step_key = _find_slots(arrays, str(like), options)
    replace_statistics(arrays, slots, snapshot)
    if step_key and snapshot.step is not None:
        arrays[step_key] = np.asarray(snapshot.step, np.int64)
    names = sorted(arrays)
    import_package("tensorflow").raw_ops.SaveV2(
        prefix=str(path),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[arrays[name] for name in names],
    )


def _name_slots(name: str, centered: bool | None) -> dict[str, str]:
    order = _TF1[3 if centered else 2]
    return {statistic: f"{name}/RMSProp{f'_{i}' if i else ''}" for i, statistic in enumerate(order)}


def _load(prefix: Path) -> dict[str, Any]:
    with raise_file_errors(prefix, "TensorFlow checkpoint"):
        reader = import_package("tensorflow").train.load_checkpoint(str(prefix))
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        declared = sum(math.prod(shape) * dtypes[name].size for name, shape in shapes.items())
        check_size(prefix, declared, sum(check_regular(file) for file in get_files(prefix)))
        return {name: reader.get_tensor(name) for name in shapes}


def _find_slots(arrays: Mapping[str, Any], where: str, options: Options) -> tuple[Slots, str]:
    """Return where the statistics are, and the key of the step ("" if there is none)."""
    objects = {name.removesuffix(_VALUE): name for name in arrays if name.endswith(_VALUE)}
    for names, pattern in ((objects, _SLOT), (objects, _POSITION), ({name: name for name in arrays}, _NUMBERED)):
        hits = {names[name]: match for name in sorted(names) if (match := pattern.match(name))}
        if not hits:
            continue
        if pattern is _NUMBERED:
            return _find_tf1_slots(hits, arrays, where)
        optimizers = sorted({match["optimizer"] for match in hits.values()})
        optimizer = optimizers[choose(optimizers, options.at, where)]
        hits = {key: match for key, match in hits.items() if match["optimizer"] == optimizer}
        own = {name for name in objects if name.startswith(f"{optimizer}/")}
        values = {name.removeprefix(f"{optimizer}/"): objects[name] for name in own}
        if pattern is _SLOT:
            return _find_legacy_slots(hits, values, arrays, where)
        weights = [np.shape(arrays[objects[name]]) for name in objects.keys() - own if "/" in name]
        return _find_positions(hits, values, arrays, where, options, weights)
    other = next((match for name in sorted(arrays) if (match := _OTHERS.search(name.removesuffix(_VALUE)))), None)
    if other is not None:
        raise StateError(f"{where}: the state of {other.group(1) or 'Adam'}, not of RMSprop: nothing was converted")
    raise FileError(f"{where}: no optimizer state in it: no .../RMSProp, no .OPTIMIZER_SLOT, no _variables")


Hits = Mapping[str, re.Match[str]]


def _find_tf1_slots(hits: Hits, arrays: Mapping[str, Any], where: str) -> tuple[Slots, str]:
    numbered: dict[str, dict[int, str]] = {}
    for key, match in hits.items():
        numbered.setdefault(match["variable"], {})[int(match["number"] or 0)] = key
    counts = {len(entry) for entry in numbered.values()}
    if counts not in ({2}, {3}) or any(sorted(entry) != list(range(len(entry))) for entry in numbered.values()):
        found = f"{' or '.join(map(str, sorted(counts)))} slots RMSProp, RMSProp_1, ... for a variable"
        raise StateError(f"{where}: {found}, expected 2 or (centered) 3 for all: several optimizers share them?")
    slots = Slots(
        format="tensorflow1",
        names=[_find_variable(name, arrays) for name in numbered],
        keys=[{statistic: entry[i] for i, statistic in enumerate(_TF1[len(entry)])} for entry in numbered.values()],
        step=int(arrays["global_step"]) if "global_step" in arrays else None,
        init=1.0,
    )
    return slots, "global_step" if "global_step" in arrays else ""


def _find_variable(name: str, arrays: Mapping[str, Any]) -> str:
    """Return the variable that slots belong to: their name may start with a scope that the variable is not in."""
    parts = name.split("/")
    return next((tail for i in range(len(parts)) if (tail := "/".join(parts[i:])) in arrays), name)


def _find_legacy_slots(
    hits: Hits, values: Mapping[str, str], arrays: Mapping[str, Any], where: str
) -> tuple[Slots, str]:
    keys: dict[str, dict[str, str]] = {}
    for key, match in hits.items():
        keys.setdefault(match["variable"], {})[_STATISTICS[match["slot"]]] = key
    if not any("mean_sq" in entry for entry in keys.values()):
        raise StateError(f"{where}: slots named momentum and no rms: the state of SGD, not of RMSprop")
    slots = Slots(
        format="tf-keras-legacy",
        names=list(keys),
        keys=list(keys.values()),
        step=int(arrays[values["iter"]]) if "iter" in values else None,
        numbers={ours: float(arrays[values[name]]) for ours, name in _NUMBERS.items() if name in values},
    )
    return slots, values.get("iter", "")


def _find_positions(
    hits: Hits,
    values: Mapping[str, str],
    arrays: Mapping[str, Any],
    where: str,
    options: Options,
    weights: list[tuple[int, ...]],
) -> tuple[Slots, str]:
    by_number = {int(match["number"]): key for key, match in hits.items()}
    # Position 0, the step, has a name of its own, and no learning rate follows it.
    step_key = next((values[name] for name in ("_iterations", "iterations") if name in values), "")
    keys = [step_key, *(by_number[number] for number in sorted(by_number))]
    shapes = [(), *(np.shape(arrays[key]) for key in keys[1:])]
    _, blocks = assign_positions(keys, shapes, where, slots=options.slots, schedule=True, weights=weights)
    rate = next((values[name] for name in ("_learning_rate", "_current_learning_rate") if name in values), None)
    slots = Slots(
        format="tf-keras",
        names=[str(i) for i in range(len(blocks))],
        keys=blocks,
        named=False,
        ordered=True,
        step=int(arrays[step_key]) if step_key else None,
        numbers={} if rate is None else {"lr": float(arrays[rate])},
    )
    return slots, step_key
