"""The older Keras `.h5`, whose arrays have names, in Keras 3, tf_keras and its legacy optimizer.

    optimizer_weights/<optimizer>/<w>_velocity, <w>_momentum, <w>_average_gradient         Keras 3
    optimizer_weights/[<optimizer>/]velocity/<w>:0, momentum/<w>:0, average_gradient/<w>:0 tf_keras from 2.11 on
    optimizer_weights/<optimizer>/<w>/rms:0, <w>/momentum:0, <w>/mg:0                      tf_keras legacy

Source: keras/src/legacy/saving/legacy_h5_format.py 3.15.1; tf_keras/src/saving/legacy 2.21.0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rmsprop.checkpoints import _archive, _blocks
from rmsprop.checkpoints._layout import Layout, check_config, refuse_class
from rmsprop.checkpoints._snapshot import STATISTICS
from rmsprop.errors import StateError

__all__ = ["layout"]

_LEGACY_SLOTS = {"rms": "mean_sq", "mg": "mean_grad", "momentum": "momentum_buf"}


def layout(file: Any, path: Path) -> Layout:
    """Return where an open .h5 file keeps the statistics, keyed by their names, whatever their order.

    Raises:
        StateError: The state of another optimizer.
    """
    group = file["optimizer_weights"]
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in _attribute(group, "weight_names")]
    config: dict[str, Any] = {}
    if "training_config" in file.attrs:
        text = file.attrs["training_config"]
        whole = _archive.read_json(text if isinstance(text, bytes) else str(text).encode(), f"{path}: training_config")
        config = check_config(whole.get("optimizer_config"), str(path))
    refuse_class(str(config.get("class_name") or ""), path)
    slots: dict[str, dict[str, str]] = {}
    iteration = None
    kinds = set()
    for name in names:
        kind, parameter, statistic = _parsed(name)
        if kind == "iteration":
            iteration = f"optimizer_weights/{name}"
        elif statistic is not None:
            kinds.add(kind)
            slots.setdefault(parameter, {})[statistic] = f"optimizer_weights/{name}"
    if not slots or len(kinds) > 1 or any("mean_sq" not in entry for entry in slots.values()):
        raise StateError(f"{path}: no RMSprop state among the optimizer's arrays: {', '.join(names[:6])}")
    return Layout(
        format=kinds.pop(),
        slots=[{k: entry[k] for k in STATISTICS if k in entry} for entry in slots.values()],
        names=list(slots),
        named=True,
        iteration=iteration,
        config=config.get("config") or {},
    )


def _attribute(group: Any, name: str) -> list[Any]:
    """Return a list that Keras splits into name0, name1, ... where it is too long for HDF5."""
    if name in group.attrs:
        return list(group.attrs[name])
    parts: list[Any] = []
    while f"{name}{len(parts)}" in group.attrs:
        parts.append(list(group.attrs[f"{name}{len(parts)}"]))
    return [item for part in parts for item in part]


def _parsed(name: str) -> tuple[str, str, str | None]:
    """Return (layout or "iteration", parameter, statistic or None) of an array's name."""
    plain = name.removesuffix(":0")
    scope, _, rest = plain.partition("/")
    if plain.rsplit("/", maxsplit=1)[-1] in ("iteration", "iter"):
        return "iteration", "", None
    # tf_keras puts its name before the slot's only when the optimizer was built inside fit.
    head, _, tail = (scope, "", rest) if scope in _blocks.SLOTS else rest.partition("/")
    if head in _blocks.SLOTS and tail:
        return "tf-keras", tail, _blocks.SLOTS[head]
    stem, _, slot = plain.rpartition("/")
    if slot in _LEGACY_SLOTS and "/" in stem:
        return "tf-keras-legacy", stem.partition("/")[2], _LEGACY_SLOTS[slot]
    for suffix in sorted(_blocks.SLOTS, key=len, reverse=True):
        if rest.endswith(f"_{suffix}"):
            return "keras3", rest.removesuffix(f"_{suffix}"), _blocks.SLOTS[suffix]
    return "other", plain, None
