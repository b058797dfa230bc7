"""Keras 3 and tf_keras files: `.keras`, `.weights.h5`, and the older `.h5`.

* `.keras` is a zip archive with config.json (which says what the positions of the optimizer's arrays are) and
  model.weights.h5; `.weights.h5` is the latter alone: optimizer/vars/0, 1, ... See `_blocks.py`.
* `.h5` has names: see `keras_h5.py`.
* rmsprop.keras.RMSprop has Keras's layout. Its configuration names the dialect; where it keeps the variance (centered)
  or corrected averages, a last array "rule" says so.

eps is inside the root (legacy without momentum: outside), lr inside the buffer, mean_sq from zero.

Source: keras/src/saving/saving_lib.py and optimizers/base_optimizer.py 3.15.1; tf_keras 2.21.0.
"""

from __future__ import annotations

import contextlib
import io
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rmsprop import dialects
from rmsprop.checkpoints import _archive, _blocks, keras_h5
from rmsprop.checkpoints._layout import Layout, check_config, refuse_class, snapshot_of, written
from rmsprop.checkpoints._packages import needed
from rmsprop.checkpoints._snapshot import Snapshot
from rmsprop.errors import FileError, InputError, RuleError, StateError
from rmsprop.rule import Rule

__all__ = ["read", "write"]

MEMBER = "model.weights.h5"
MARK = "rule"
"""Where rmsprop.keras.RMSprop says that its statistics are this library's."""


def read(path: Path, *, slots: Sequence[str] | None = None, schedule: bool | None = None) -> Snapshot:
    """Read a Keras file.

    Args:
        path: `.keras`, `.weights.h5` or `.h5`. Read.
        slots: The blocks of `.weights.h5`, which does not say what its positions are.
        schedule: Whether its learning rate is a schedule.

    Raises:
        FileError: Truncated, a member that leaves the archive, or no optimizer state in it.
        StateError: Of another optimizer, or positions that fit nothing.
        InputError: The file leaves open what `slots` or `schedule` says.
    """
    with _opened(path) as (file, config):
        layout = _layout(file, config, path, slots, schedule)
        keys = [key for entry in layout.slots for key in entry.values()] + [layout.iteration or ""]
        arrays = {key: _array(file, key, path) for key in keys if key}
    return snapshot_of(layout, arrays, str(path))


def write(
    path: Path, snapshot: Snapshot, *, like: Path, slots: Sequence[str] | None = None, schedule: bool | None = None
) -> None:
    """Write a copy of the Keras file `like` with the optimizer's statistics and step replaced.

    Raises:
        InputError: A `.h5` of Keras 3, which loads such a file with a fresh optimizer.
    """
    with _opened(like) as (file, config):
        layout = _layout(file, config, like, slots, schedule)
    if layout.format == "keras3" and layout.named:
        raise InputError(
            f"like: {like}: Keras 3 restores no optimizer state from a .h5 (it builds the optimizer for no variables): "
            "give a .keras or .weights.h5"
        )
    inner = bool(_archive.members(like))
    data = io.BytesIO(_archive.member(like, MEMBER)) if inner else None
    if data is None:
        shutil.copyfile(like, path)
    with _h5py().File(path if data is None else data, "r+") as file:
        for parameter, keys in zip(snapshot.parameters, layout.slots, strict=True):
            arrays = written(parameter, layout)
            for statistic, key in keys.items():
                file[key][...] = arrays[statistic]
        if layout.iteration is not None and snapshot.step is not None:
            file[layout.iteration][...] = snapshot.step
    if data is not None:
        _archive.copied(like, path, MEMBER, data.getvalue())


def _array(file: Any, key: str, path: Path) -> Any:
    item = file.get(key)
    if not isinstance(item, _h5py().Dataset) or item.dtype.kind not in "fiuV":  # V: bfloat16
        raise FileError(f"{path}: {key} is no array of numbers")
    return item[()]


def _h5py() -> Any:
    return needed("h5py", extra="keras", purpose="a Keras checkpoint")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield (open HDF5 file, the optimizer's section of the archive's configuration or {})."""
    h5py = _h5py()
    source: Any = path
    config: dict[str, Any] = {}
    if _archive.members(path):
        source = io.BytesIO(_archive.member(path, MEMBER))
        whole = _archive.read_json(_archive.member(path, "config.json"), f"{path}: config.json")
        config = check_config((whole.get("compile_config") or {}).get("optimizer"), str(path))
    with h5py.File(source, "r") as file:
        _check_items(file, path)
        yield file, config


def _check_items(file: Any, path: Path) -> None:
    """Refuse an HDF5 file that takes its data from elsewhere, or declares more of them than it has.

    Raises:
        FileError: A link out of the file, an external or virtual dataset, or sizes that the file cannot hold.
    """
    h5py = _h5py()
    stored, declared, items = path.stat().st_size, 0, 0
    todo, seen = [file], set()
    while todo:
        group = todo.pop()
        for name in group:
            items += 1
            where = f"{path}: {group.name.rstrip('/')}/{name}"
            if items > _archive.ENTRIES:
                raise FileError(f"{path}: more than {_archive.ENTRIES:,} datasets")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise FileError(f"{where} is a link, as Keras writes none; it was not followed")
            item = group[name]
            if isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise FileError(f"{where} has its data in other files; they were not read")
                declared += math.prod(item.shape or ()) * item.dtype.itemsize
            elif h5py.h5o.get_info(item.id).addr not in seen:
                seen.add(h5py.h5o.get_info(item.id).addr)
                todo.append(item)
    _archive.check_size(path, declared, stored)


def _layout(
    file: Any, config: Mapping[str, Any], path: Path, slots: Sequence[str] | None, schedule: bool | None
) -> Layout:
    if "optimizer_weights" in file:
        return keras_h5.layout(file, path)
    if "model_weights" in file or "layer_names" in file.attrs:
        raise FileError(f"{path}: weights without an optimizer's state: save the compiled model after training")
    variables = file.get("optimizer/vars")
    refuse_class(str(config.get("class_name") or ""), path)
    if variables is None or not len(variables):
        legacy = "legacy" in str(config.get("module"))
        why = (
            "tf_keras does not keep its legacy optimizer's in this format; save a `.h5`" if legacy else "never compiled"
        )
        raise FileError(f"{path}: no optimizer state in it ({why})")
    title = variables.attrs.get("name")
    if not config and isinstance(title, str):
        refuse_class(title, path, guess=True)
    marked = MARK in variables
    keys = [f"optimizer/vars/{i}" for i in range(len(variables) - marked)]
    if any(not hasattr(file.get(key), "shape") for key in keys):
        raise FileError(f"{path}: optimizer/vars is not numbered 0 to {len(keys) - 1}, or holds groups")
    # tf_keras writes no names, and keeps the learning rate out of this list, scheduled or not.
    old = not isinstance(title, str)
    options = config.get("config") or {}
    if options:
        told, planned = _blocks.configured(options), old or isinstance(options.get("learning_rate"), Mapping)
        for name, value, given in (("slots", told, slots), ("schedule", planned, schedule)):
            if given is not None and not old and (tuple(given) if name == "slots" else given) != value:  # type: ignore[arg-type]
                raise StateError(f"{path}: {name}={given!r}, but the file's configuration says {value!r}")
        slots, schedule = told, planned
    has_rate, names, size = _blocks.blocks(
        [file[key].shape for key in keys],
        str(path),
        slots=slots,
        schedule=True if old else schedule,
        weights=_weights(file),
    )
    first = 2 if has_rate else 1
    found: list[dict[str, str]] = [{} for _ in range(size)]
    for block, name in enumerate(names):
        statistic = _blocks.SLOTS[name]
        for i in range(size):
            if statistic is not None:
                found[i][statistic] = keys[first + block * size + i]
    rule = _rule(variables[MARK][()].tobytes().decode() if marked else options.get("dialect"), options, path)
    if not options and has_rate:
        options = {"learning_rate": float(file[keys[1]][()])}
    return Layout(
        format="tf-keras" if old else "keras3",
        slots=found,
        names=[str(i) for i in range(size)],
        named=False,
        iteration=keys[0],
        config=options,
        notes=_left_alone(names),
        rule=rule,
        marked=marked,
    )


def _rule(text: str | None, options: Mapping[str, Any], path: Path) -> Rule | None:
    """Return the rule of rmsprop.keras.RMSprop, from its JSON or the dialect in its configuration."""
    if text is None:
        return None
    try:
        if text.startswith("{"):
            return Rule.from_json(text)
        row = dialects.get(text)
        changes = {"rho": options["rho"], "eps": options["epsilon"], "centered": options["centered"]}
        rule = row.resolve(momentum=0.9) if options["momentum"] else row.rule
        return rule.replace(**changes, momentum=options["momentum"])
    except (RuleError, KeyError, TypeError) as error:
        raise FileError(f"{path}: the rule of rmsprop.keras.RMSprop in it: {_archive.short(error)}") from error


def _left_alone(names: Sequence[str]) -> tuple[str, ...]:
    kept = [name for name in names if _blocks.SLOTS[name] is None]
    return (f"{' and '.join(kept)} belong to the weights: left out",) if kept else ()


def _weights(file: Any) -> list[tuple[int, ...]]:
    """Return the shapes of everything in the file that is not the optimizer's."""
    shapes: list[tuple[int, ...]] = []

    def visit(name: str, item: Any) -> None:
        if hasattr(item, "shape") and not name.startswith("optimizer/"):
            shapes.append(tuple(item.shape))

    file.visititems(visit)
    return shapes
