"""Keras 3 and tf_keras files: `.keras`, `.weights.h5`, and the older `.h5`.

* `.keras` is a zip archive with config.json (which says what the positions of the optimizer's arrays are) and
  model.weights.h5. `.weights.h5` is the latter alone: optimizer/vars/0, 1, ... See `_positions.py`.
* In `.h5` the arrays have names:

      optimizer_weights/<optimizer>/<w>_velocity, <w>_momentum, <w>_average_gradient         Keras 3
      optimizer_weights/[<optimizer>/]velocity/<w>:0, momentum/<w>:0, average_gradient/<w>:0 tf_keras from 2.11 on
      optimizer_weights/<optimizer>/<w>/rms:0, <w>/momentum:0, <w>/mg:0                      tf_keras legacy

* rmsprop.keras.RMSprop has Keras's layout. Its configuration names the dialect. If it stores the variance (centered) or
  corrected averages, a last array "rule" holds the rule.

eps is inside the root (legacy without momentum: outside), lr inside the buffer, mean_sq starts at zero.

Source: keras/src/saving/saving_lib.py, legacy/saving/legacy_h5_format.py and optimizers/base_optimizer.py 3.15.1;
tf_keras/src/saving/legacy 2.21.0.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rmsprop import dialects
from rmsprop.checkpoints._bounds import (
    ENTRIES,
    check_size,
    check_types,
    copy_archive,
    import_package,
    list_members,
    parse_dtype,
    read_json,
    read_member,
    shorten,
)
from rmsprop.checkpoints._positions import SLOTS, assign_positions, list_slots
from rmsprop.checkpoints._shared import ROOM, Options, Slots, make_snapshot, replace_statistics
from rmsprop.checkpoints._snapshot import STATISTICS, Snapshot
from rmsprop.errors import FileError, InputError, RuleError, StateError
from rmsprop.rule import Rule

__all__ = ["LIBRARY", "ROOM", "read", "recognize", "write"]

LIBRARY = "h5py"
_MEMBER = "model.weights.h5"
_VARIABLES = "optimizer/vars"
_RULE = "rule"
"""The array that rmsprop.keras.RMSprop adds if its statistics are not Keras's."""
_LEGACY_SLOTS = {"rms": "mean_sq", "mg": "mean_grad", "momentum": "momentum_buf"}
_NUMBERS = {"lr": "learning_rate", "rho": "rho", "eps": "epsilon", "momentum": "momentum"}
_NUMBERS |= {"weight_decay": "weight_decay"}
_OTHER_CLASSES = {"adam", "adamw", "nadam", "adamax", "sgd", "adagrad", "adadelta"}
_OTHER_CLASSES |= {"ftrl", "lion", "adafactor", "lamb", "muon"}


def recognize(path: Path, head: bytes) -> bool:
    """Tell whether a file is HDF5, or a zip archive with Keras's member."""
    return head.startswith(b"\x89HDF\r\n\x1a\n") or (head[:2] == b"PK" and _MEMBER in list_members(path))


def read(path: Path, options: Options) -> Snapshot:
    """Read a Keras file; `options` say what `.weights.h5` leaves open."""
    with _open(path) as (file, config):
        slots, _ = _find_slots(file, config, path, options)
        arrays = {key: _read_array(file, key, path) for keys in slots.keys for key in keys.values()}
    return make_snapshot(slots, arrays, str(path))


def write(path: Path, snapshot: Snapshot, format: str, like: Path, options: Options) -> None:
    """Write a copy of the Keras file `like` with the optimizer's statistics and step replaced."""
    with _open(like) as (file, config):
        slots, step_key = _find_slots(file, config, like, options)
    if slots.format == "keras3" and slots.named:
        raise InputError(f"like: {like}: Keras 3 restores no optimizer state from a .h5: give .keras or .weights.h5")
    data = io.BytesIO(read_member(like, _MEMBER)) if list_members(like) else None
    if data is None:
        shutil.copyfile(like, path)
    with import_package("h5py").File(path if data is None else data, "r+") as file:
        arrays = {key: _read_array(file, key, like) for keys in slots.keys for key in keys.values()}
        replace_statistics(arrays, slots, snapshot)
        for key, array in arrays.items():
            file[key][...] = array.view(file[key].dtype) if file[key].dtype.kind == "V" else array
        if step_key and snapshot.step is not None:
            file[step_key][...] = snapshot.step
    if data is not None:
        copy_archive(like, path, _MEMBER, data.getvalue())


@contextlib.contextmanager
def _open(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield the open HDF5 file and the optimizer's configuration, {} if the file has none."""
    source: Any = path
    config: dict[str, Any] = {}
    if list_members(path):
        source = io.BytesIO(read_member(path, _MEMBER))
        archive = read_json(read_member(path, "config.json"), f"{path}: config.json")
        config = _check_config((archive.get("compile_config") or {}).get("optimizer"), path)
    with import_package("h5py").File(source, "r") as file:
        _check_items(file, path)
        if "training_config" in file.attrs:
            text = file.attrs["training_config"]
            data = text if isinstance(text, bytes) else str(text).encode()
            config = _check_config(read_json(data, f"{path}: training_config").get("optimizer_config"), path)
        yield file, config


def _check_config(config: Any, path: Path) -> dict[str, Any]:
    where = f"{path}: the optimizer's configuration"
    check_types({"optimizer": config}, {"optimizer": dict}, str(path))
    config = config or {}
    check_types(config, {"class_name": str, "module": str, "config": dict}, where)
    numbers = ("rho", "epsilon", "momentum", "weight_decay", "gradient_accumulation_steps")
    expected: dict[str, Any] = dict.fromkeys(numbers, (int, float))
    expected |= {"learning_rate": (int, float, dict), "centered": bool, "use_ema": bool, "dialect": str}
    check_types(config.get("config") or {}, expected, where)
    _check_class(str(config.get("class_name") or "rmsprop"), path)
    return dict(config)


def _check_class(title: str, path: Path, *, by_name: bool = False) -> None:
    """Raise for another class of optimizer than RMSprop; `by_name`: `title` is a name that the user may have chosen."""
    name = title.rsplit(">", maxsplit=1)[-1].lower()
    if name.rstrip("_0123456789") in _OTHER_CLASSES if by_name else name != "rmsprop":
        raise StateError(f"{path}: the state of {title}, not of RMSprop: nothing was converted")


def _check_items(file: Any, path: Path) -> None:
    """Raise if an HDF5 file takes its data from other files, has links, or declares more data than it can hold."""
    h5py = import_package("h5py")
    declared, items = 0, 0
    stack, seen = [file], set()
    while stack:
        group = stack.pop()
        for name in group:
            items += 1
            where = f"{path}: {group.name.rstrip('/')}/{name}"
            if items > ENTRIES:
                raise FileError(f"{path}: more than {ENTRIES:,} datasets")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise FileError(f"{where} is a link, which Keras never writes; it was not followed")
            item = group[name]
            if isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise FileError(f"{where} has its data in other files; they were not read")
                declared += math.prod(item.shape or ()) * item.dtype.itemsize
            elif (address := h5py.h5o.get_info(item.id).addr) not in seen:
                seen.add(address)
                stack.append(item)
    check_size(path, declared, path.stat().st_size)


def _read_array(file: Any, key: str, path: Path) -> Any:
    item = file.get(key)
    if not isinstance(item, import_package("h5py").Dataset) or item.dtype.kind not in "fiuV":
        raise FileError(f"{path}: {key} is not an array of numbers")
    array = item[()]
    return array.view(parse_dtype(array.dtype.str.lstrip("|"))) if item.dtype.kind == "V" else array  # bfloat16


def _find_slots(file: Any, config: Mapping[str, Any], path: Path, options: Options) -> tuple[Slots, str]:
    """Return where the statistics are, and the key of the step ("" if there is none)."""
    if "optimizer_weights" in file:
        return _find_named_slots(file, config, path)
    if "model_weights" in file or "layer_names" in file.attrs:
        raise FileError(f"{path}: weights without an optimizer's state: save the compiled model after training")
    variables = file.get(_VARIABLES)
    if variables is None or not len(variables):
        legacy = "legacy" in str(config.get("module"))
        reason = "tf_keras does not save its legacy optimizers in this format; save a `.h5`"
        raise FileError(f"{path}: no optimizer state in it ({reason if legacy else 'never compiled'})")
    title = variables.attrs.get("name")
    if not config and isinstance(title, str):
        _check_class(title, path, by_name=True)
    has_rule = _RULE in variables
    keys = [f"{_VARIABLES}/{i}" for i in range(len(variables) - has_rule)]
    if any(not hasattr(file.get(key), "shape") for key in keys):
        raise FileError(f"{path}: {_VARIABLES} is not numbered 0 to {len(keys) - 1}, or holds groups")
    # tf_keras writes no names, and keeps the learning rate out of this list whether or not it is a schedule.
    is_old = not isinstance(title, str)
    numbers = dict(config.get("config") or {})
    slots, schedule = options.slots, options.schedule
    if numbers:
        slots, schedule = list_slots(numbers), isinstance(numbers.get("learning_rate"), Mapping)
        for name, given, value in (("slots", options.slots, slots), ("schedule", options.schedule, schedule)):
            if given is not None and not is_old and given != value:
                raise StateError(f"{path}: {name}={given!r}, but the file's configuration says {value!r}")
    has_rate, found = assign_positions(
        keys,
        [file[key].shape for key in keys],
        str(path),
        slots=slots,
        schedule=True if is_old else schedule,
        weights=_list_weights(file),
    )
    rule = _read_rule(file[f"{_VARIABLES}/{_RULE}"][()].tobytes().decode() if has_rule else None, numbers, path)
    if not numbers and has_rate:
        numbers = {"learning_rate": float(file[keys[1]][()])}
    if has_rule and rule is not None and rule.centered:
        found = [{"grad_var" if k == "mean_sq" else k: key for k, key in entry.items()} for entry in found]
    left_out = [name for name in slots or () if SLOTS[name] is None]
    result = Slots(
        format="tf-keras" if is_old else "keras3",
        names=[str(i) for i in range(len(found))],
        keys=found,
        named=False,
        ordered=True,
        step=int(_read_array(file, keys[0], path)),
        numbers=_select_numbers(numbers),
        rule=rule,
        by_rule=has_rule,
        notes=(f"{' and '.join(left_out)} belong to the weights: left out",) if left_out else (),
    )
    return result, keys[0]


def _select_numbers(config: Mapping[str, Any]) -> dict[str, float]:
    found = {ours: config.get(theirs) for ours, theirs in _NUMBERS.items()}
    numbers = {name: float(value) for name, value in found.items() if isinstance(value, (int, float))}
    if "rho" in numbers:  # a complete configuration, in which no weight decay is None
        numbers.setdefault("weight_decay", 0.0)
    return numbers


def _read_rule(text: str | None, config: Mapping[str, Any], path: Path) -> Rule | None:
    """Return the rule of rmsprop.keras.RMSprop, from its JSON or from the dialect in its configuration."""
    dialect = config.get("dialect") if text is None else text
    if dialect is None:
        return None
    try:
        if dialect.startswith("{"):
            return Rule.from_json(dialect)
        row = dialects.get(dialect)
        rule = row.resolve(momentum=0.9) if config["momentum"] else row.rule
        changes = {"rho": config["rho"], "eps": config["epsilon"], "centered": config["centered"]}
        return rule.replace(**changes, momentum=config["momentum"])
    except (RuleError, KeyError, TypeError) as error:
        raise FileError(f"{path}: the rule of rmsprop.keras.RMSprop in it: {shorten(error)}") from error


def _list_weights(file: Any) -> list[tuple[int, ...]]:
    """Return the shapes of all arrays that are not the optimizer's."""
    shapes: list[tuple[int, ...]] = []

    def visit(name: str, item: Any) -> None:
        if hasattr(item, "shape") and not name.startswith("optimizer/"):
            shapes.append(tuple(item.shape))

    file.visititems(visit)
    return shapes


def _find_named_slots(file: Any, config: Mapping[str, Any], path: Path) -> tuple[Slots, str]:
    """Return where an older `.h5` has the statistics."""
    attributes = file["optimizer_weights"].attrs
    pieces = (f"weight_names{i}" for i in itertools.count())  # of a list that is too long for HDF5
    parts = ["weight_names"] if "weight_names" in attributes else itertools.takewhile(attributes.__contains__, pieces)
    names = [x.decode() if isinstance(x, bytes) else str(x) for part in parts for x in attributes[part]]
    found: dict[str, dict[str, str]] = {}
    step_key, formats = "", set()
    for name in names:
        key, (format, parameter, statistic) = f"optimizer_weights/{name}", _parse_name(name)
        if format == "iteration":
            step_key = key
        elif statistic is not None:
            formats.add(format)
            found.setdefault(parameter, {})[statistic] = key
    if not found or len(formats) > 1 or any("mean_sq" not in entry for entry in found.values()):
        raise StateError(f"{path}: no RMSprop state among the optimizer's arrays: {', '.join(names[:6])}")
    slots = Slots(
        format=formats.pop(),
        names=list(found),
        keys=[{k: entry[k] for k in STATISTICS if k in entry} for entry in found.values()],
        ordered=True,
        step=int(_read_array(file, step_key, path)) if step_key else None,
        numbers=_select_numbers(config.get("config") or {}),
    )
    return slots, step_key


def _parse_name(name: str) -> tuple[str, str, str | None]:
    """Return (layout or "iteration", parameter, statistic or None) for the name of an array."""
    plain = name.removesuffix(":0")
    scope, _, rest = plain.partition("/")
    if plain.rsplit("/", maxsplit=1)[-1] in ("iteration", "iter"):
        return "iteration", "", None
    # tf_keras puts its name before the slot's only if the optimizer was built inside fit.
    head, _, tail = (scope, "", rest) if scope in SLOTS else rest.partition("/")
    if head in SLOTS and tail:
        return "tf-keras", tail, SLOTS[head]
    stem, _, slot = plain.rpartition("/")
    if slot in _LEGACY_SLOTS and "/" in stem:
        return "tf-keras-legacy", stem.partition("/")[2], _LEGACY_SLOTS[slot]
    for suffix in sorted(SLOTS, key=len, reverse=True):
        if rest.endswith(f"_{suffix}"):
            return "keras3", rest.removesuffix(f"_{suffix}"), SLOTS[suffix]
    return "other", plain, None
