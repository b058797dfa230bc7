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
from rmsprop.checkpoints._shared import Options, State, choose, make_state, raise_other
from rmsprop.checkpoints._snapshot import Snapshot
from rmsprop.errors import FileError, StateError

__all__ = ["SUFFIXES", "get_files", "get_prefix", "read", "recognize", "write"]

SUFFIXES = (".data-00000-of-00001", ".index")
"""The index last: without it there is no checkpoint."""
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_SLOT = re.compile(r"^(?P<variable>.+)/\.OPTIMIZER_SLOT/(?P<optimizer>.+)/(?P<slot>rms|mg|momentum)$")
_POSITION = re.compile(r"^(?P<optimizer>.+)/_variables/(?P<number>\d+)$")
_NUMBERED = re.compile(r"^(?P<variable>.+)/RMSProp(?:_(?P<number>\d+))?$")
_OTHERS = re.compile(r"/(Adam|Adagrad|Adadelta|Momentum|Ftrl|Nadam|AMSGrad|LAMB)(?:_\d+)?$|/\.OPTIMIZER_SLOT/.+/(m|v)$")
_STATISTICS = {"rms": "mean_sq", "mg": "mean_grad", "momentum": "momentum_buf"}
_NUMBERS = {"_current_learning_rate": "lr", "_learning_rate": "lr", "learning_rate": "lr"}
_NUMBERS |= {"rho": "rho", "momentum": "momentum"}
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
    return _find_state(_load(path), str(get_prefix(path)), options).snapshot


def write(path: Path, snapshot: Snapshot, format: str, like: Path | None, options: Options) -> None:
    """Write a checkpoint with the prefix `path`: a copy of `like` with the statistics and the step replaced.

    Without `like` it is a TensorFlow 1 checkpoint with the slots and global_step alone, for a
    tf.compat.v1.train.Saver of these variables.
    """
    arrays: dict[str, Any]
    if like is None:
        arrays, step_key = {}, "global_step"
        for parameter in snapshot.parameters:
            found = {"momentum_buf": np.zeros_like(parameter.arrays["mean_sq"]), **parameter.arrays}
            for i, statistic in enumerate(_TF1[3 if snapshot.centered else 2]):
                arrays[f"{parameter.name}/RMSProp{f'_{i}' if i else ''}"] = found[statistic]
    else:
        arrays = _load(like)
        state = _find_state(arrays, str(like), options)
        state.replace_statistics(snapshot)
        step_key = state.step_key
    if step_key and snapshot.step is not None:
        arrays[step_key] = np.asarray(snapshot.step, np.int64)
    names = sorted(arrays)
    import_package("tensorflow").raw_ops.SaveV2(
        prefix=str(path),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[arrays[name] for name in names],
    )


def _load(path: Path) -> dict[str, Any]:
    prefix = get_prefix(path)
    with raise_file_errors(prefix, "TensorFlow checkpoint"):
        reader = import_package("tensorflow").train.load_checkpoint(str(prefix))
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        declared = sum(math.prod(shape) * dtypes[name].size for name, shape in shapes.items())
        check_size(prefix, declared, sum(check_regular(file) for file in get_files(prefix)))
        return {name: reader.get_tensor(name) for name in shapes}


def _find_state(arrays: dict[str, Any], where: str, options: Options) -> State:
    objects = {name.removesuffix(_VALUE): name for name in sorted(arrays) if name.endswith(_VALUE)}
    for pattern in (_SLOT, _POSITION):
        matches = [match for name in objects if (match := pattern.match(name))]
        if matches:
            optimizers = sorted({match["optimizer"] for match in matches})
            optimizer = optimizers[choose(optimizers, options, where)]
            hits = {objects[match.string]: match for match in matches if match["optimizer"] == optimizer}
            return _find_tf_keras(hits, f"{optimizer}/", objects, arrays, where, options)
    numbered = {name: match for name in sorted(arrays) if (match := _NUMBERED.match(name))}
    if numbered:
        return _find_tf1(numbered, arrays, where)
    other = next((match for name in sorted(arrays) if (match := _OTHERS.search(name.removesuffix(_VALUE)))), None)
    if other is not None:
        raise_other(where, other.group(1) or "Adam")
    raise FileError(f"{where}: no optimizer state in it: no .../RMSProp, no .OPTIMIZER_SLOT, no _variables")


Hits = Mapping[str, re.Match[str]]


def _find_tf1(hits: Hits, arrays: dict[str, Any], where: str) -> State:
    numbered: dict[str, dict[int, str]] = {}
    for key, match in hits.items():
        numbered.setdefault(match["variable"], {})[int(match["number"] or 0)] = key
    counts = {len(entry) for entry in numbered.values()}
    keys = {
        _find_variable(name, arrays): dict(zip(_TF1.get(len(entry), ()), map(entry.get, range(len(entry)))))
        for name, entry in numbered.items()
    }
    complete = all(None not in entry.values() for entry in keys.values()) and len(keys) == len(numbered)
    if counts not in ({2}, {3}) or not complete:
        found = f"{' or '.join(map(str, sorted(counts)))} slots RMSProp, RMSProp_1, ... for a variable"
        raise StateError(f"{where}: {found}, expected 2 or (centered) 3 for all: several optimizers share them?")
    step_key = "global_step" if "global_step" in arrays else ""
    step = int(arrays[step_key]) if step_key else None
    return make_state(arrays, keys, where, format="tensorflow1", step=step, step_key=step_key)


def _find_variable(name: str, arrays: Mapping[str, Any]) -> str:
    """Return the variable that slots belong to: their name may start with a scope that the variable is not in."""
    parts = name.split("/")
    return next((tail for i in range(len(parts)) if (tail := "/".join(parts[i:])) in arrays), name)


def _find_tf_keras(
    hits: Hits, own: str, objects: Mapping[str, str], arrays: dict[str, Any], where: str, options: Options
) -> State:
    """Return the state of the optimizer whose names start with `own`: its slots, or its positions."""
    values = {name.removeprefix(own): key for name, key in objects.items() if name.startswith(own)}
    step_key = next((values[name] for name in ("iter", "_iterations", "iterations") if name in values), "")
    keys: dict[str, dict[str, str]] = {}
    legacy = any("slot" in match.groupdict() for match in hits.values())
    if legacy:
        for key, match in hits.items():
            keys.setdefault(match["variable"], {})[_STATISTICS[match["slot"]]] = key
        if not any("mean_sq" in entry for entry in keys.values()):
            raise_other(where, "SGD", "slots named momentum, none named rms")
    else:
        # Position 0, the step, has a name of its own, and no learning rate follows it.
        positions = [step_key, *sorted(hits, key=lambda key: int(hits[key]["number"]))]
        shapes = [(), *(np.shape(arrays[key]) for key in positions[1:])]
        weights = [np.shape(arrays[objects[name]]) for name in objects if "/" in name and not name.startswith(own)]
        slots = options.pop("slots", None)
        _, found = assign_positions(positions, shapes, where, slots=slots, schedule=True, weights=weights)
        keys = {str(i): entry for i, entry in enumerate(found)}
    return make_state(
        arrays,
        keys,
        where,
        format="tf-keras-legacy" if legacy else "tf-keras",
        named=legacy,
        ordered=not legacy,
        step=int(arrays[step_key]) if step_key else None,
        step_key=step_key,
        numbers={ours: float(arrays[values[name]]) for name, ours in _NUMBERS.items() if name in values},
    )
