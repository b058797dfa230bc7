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
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rmsprop import dialects
from rmsprop.checkpoints import _bounds
from rmsprop.checkpoints._positions import SLOTS, assign_positions, list_slots
from rmsprop.checkpoints._shared import Options, State, make_state, raise_other, read_numbers
from rmsprop.checkpoints._snapshot import Snapshot
from rmsprop.errors import FileError, InputError, RuleError, StateError
from rmsprop.rule import Rule

__all__ = ["read", "recognize", "write"]

_MEMBER = "model.weights.h5"
_VARIABLES = "optimizer/vars"
_RULE = "rule"
"""The array that rmsprop.keras.RMSprop adds if its statistics are not Keras's."""
_LEGACY_SLOTS = {"rms": "mean_sq", "mg": "mean_grad", "momentum": "momentum_buf"}
_NAMES = {
    # tf_keras puts its name before the slot's only if the optimizer was built inside fit.
    "tf-keras": re.compile(rf"(?:[^/]*/)?(?P<slot>{'|'.join(SLOTS)})/(?P<variable>.+)"),
    "tf-keras-legacy": re.compile(rf"[^/]*/(?P<variable>.+)/(?P<slot>{'|'.join(_LEGACY_SLOTS)})"),
    "keras3": re.compile(rf"[^/]*/(?P<variable>.+?)_(?P<slot>{'|'.join(SLOTS)})"),
}
"""Layout: the name of an array in an older `.h5`."""
_NUMBERS = {"lr": "learning_rate", "rho": "rho", "eps": "epsilon", "momentum": "momentum"}
_NUMBERS |= {"weight_decay": "weight_decay"}
_OTHER_CLASSES = {"adam", "adamw", "nadam", "adamax", "sgd", "adagrad", "adadelta"}
_OTHER_CLASSES |= {"ftrl", "lion", "adafactor", "lamb", "muon"}


def recognize(path: Path, head: bytes) -> bool:
    """Tell whether a file is HDF5, or a zip archive with Keras's member."""
    return head.startswith(b"\x89HDF\r\n\x1a\n") or (head[:2] == b"PK" and _MEMBER in _bounds.list_members(path))


def read(path: Path, options: Options) -> Snapshot:
    """Read a Keras file; `options` say what `.weights.h5` leaves open."""
    with _open(path) as (file, config):
        return _find_state(file, config, path, options).snapshot


def write(path: Path, snapshot: Snapshot, format: str, like: Path, options: Options) -> None:
    """Write a copy of the Keras file `like` with the optimizer's statistics and step replaced."""
    with _open(like, copy=path) as (file, config):
        state = _find_state(file, config, like, options)
        if state.snapshot.format == "keras3" and state.snapshot.named:
            raise InputError(
                f"like: {like}: Keras 3 restores no optimizer state from a .h5: give .keras or .weights.h5"
            )
        state.replace_statistics(snapshot)
        for key, array in state.arrays.items():
            file[key][...] = array.view(file[key].dtype) if file[key].dtype.kind == "V" else array
        if state.step_key and snapshot.step is not None:
            file[state.step_key][...] = snapshot.step


@contextlib.contextmanager
def _open(path: Path, *, copy: Path | None = None) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield the open HDF5 file and the optimizer's configuration, {} if the file has none.

    With `copy` the file can be written to and is saved there; `path` stays as it is.
    """
    source: Any = path if copy is None else copy
    config: dict[str, Any] = {}
    is_archive = bool(_bounds.list_members(path))
    if is_archive:
        source = io.BytesIO(_bounds.read_member(path, _MEMBER))
        archive = _bounds.read_json(_bounds.read_member(path, "config.json"), f"{path}: config.json")
        config = _check_config((archive.get("compile_config") or {}).get("optimizer"), path)
    elif copy is not None:
        shutil.copyfile(path, copy)
    with _bounds.import_package("h5py").File(source, "r" if copy is None else "r+") as file:
        if "training_config" in file.attrs:
            text = file.attrs["training_config"]
            data = text if isinstance(text, bytes) else str(text).encode()
            config = _check_config(_bounds.read_json(data, f"{path}: training_config").get("optimizer_config"), path)
        yield file, config
    if is_archive and copy is not None:
        _bounds.copy_archive(path, copy, _MEMBER, source.getvalue())


def _check_config(config: Any, path: Path) -> dict[str, Any]:
    where = f"{path}: the optimizer's configuration"
    _bounds.check_types({"optimizer": config}, {"optimizer": dict}, str(path))
    config = config or {}
    _bounds.check_types(config, {"class_name": str, "module": str, "config": dict}, where)
    numbers = ("rho", "epsilon", "momentum", "weight_decay", "gradient_accumulation_steps")
    expected: dict[str, Any] = dict.fromkeys(numbers, (int, float))
    expected |= {"learning_rate": (int, float, dict), "centered": bool, "use_ema": bool, "dialect": str}
    _bounds.check_types(config.get("config") or {}, expected, where)
    title = str(config.get("class_name") or "rmsprop")
    if title.rpartition(">")[2].lower() != "rmsprop":
        raise_other(path, title)
    return dict(config)


def _list_shapes(file: Any, path: Path) -> dict[str, tuple[int, ...]]:
    """Return {name: shape} of the arrays in an HDF5 file.

    Raise if it takes its data from other files, has links, or declares more data than it can hold.
    """
    h5py = _bounds.import_package("h5py")
    declared, items = 0, 0
    shapes = {}
    stack, seen = [file], set()
    while stack:
        group = stack.pop()
        for name in group:
            items += 1
            where = f"{path}: {group.name.rstrip('/')}/{name}"
            if items > _bounds.ENTRIES:
                raise FileError(f"{path}: more than {_bounds.ENTRIES:,} datasets")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise FileError(f"{where} is a link, which Keras never writes; it was not followed")
            item = group[name]
            if isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise FileError(f"{where} has its data in other files; they were not read")
                shapes[item.name] = tuple(item.shape or ())
                declared += math.prod(shapes[item.name]) * item.dtype.itemsize
            elif (address := h5py.h5o.get_info(item.id).addr) not in seen:
                seen.add(address)
                stack.append(item)
    _bounds.check_size(path, declared, path.stat().st_size)
    return shapes


def _read_array(file: Any, key: str, path: Path) -> Any:
    item = file.get(key)
    if not isinstance(item, _bounds.import_package("h5py").Dataset) or item.dtype.kind not in "fiuV":
        raise FileError(f"{path}: {key} is not an array of numbers")
    array = item[()]
    return array.view(_bounds.parse_dtype(array.dtype.str.lstrip("|"))) if item.dtype.kind == "V" else array  # bfloat16


def _make_state(file: Any, keys: Mapping[str, Mapping[str, str]], step_key: str, path: Path, **fields: Any) -> State:
    arrays = {key: _read_array(file, key, path) for entry in keys.values() for key in entry.values()}
    step = int(_read_array(file, step_key, path)) if step_key else None
    return make_state(arrays, keys, str(path), step=step, step_key=step_key, ordered=True, **fields)


def _find_state(file: Any, config: Mapping[str, Any], path: Path, options: Options) -> State:
    all_shapes = _list_shapes(file, path)
    numbers = dict(config.get("config") or {})
    if "optimizer_weights" in file:
        return _find_names(file, numbers, path)
    if "model_weights" in file or "layer_names" in file.attrs:
        raise FileError(f"{path}: weights without an optimizer's state: save the compiled model after training")
    variables = file.get(_VARIABLES)
    if variables is None or not len(variables):
        legacy = "legacy" in str(config.get("module"))
        reason = "tf_keras does not save its legacy optimizers in this format; save a `.h5`"
        raise FileError(f"{path}: no optimizer state in it ({reason if legacy else 'never compiled'})")
    # tf_keras writes no names, and keeps the learning rate out of this list whether or not it is a schedule.
    title = variables.attrs.get("name")
    is_old = not isinstance(title, str)
    if not config and not is_old and title.lower().rstrip("_0123456789") in _OTHER_CLASSES:
        raise_other(path, title)
    has_rule = _RULE in variables
    keys = [f"{_VARIABLES}/{i}" for i in range(len(variables) - has_rule)]
    shapes = [all_shapes[f"/{key}"] for key in keys if f"/{key}" in all_shapes]
    if len(shapes) < len(keys):
        raise FileError(f"{path}: {_VARIABLES} is not numbered 0 to {len(keys) - 1}, or holds groups")
    slots = list(options.pop("slots")) if "slots" in options else None
    schedule = True if is_old else options.pop("schedule", None)
    if numbers:
        slots = _match_option("slots", slots, list_slots(numbers), path)
        has_schedule = is_old or isinstance(numbers.get("learning_rate"), Mapping)
        schedule = _match_option("schedule", schedule, has_schedule, path)
    has_rate, found = assign_positions(
        keys,
        shapes,
        str(path),
        slots=slots,
        schedule=schedule,
        weights=[shape for name, shape in all_shapes.items() if not name.startswith("/optimizer/")],
    )
    rule = _read_rule(file[f"{_VARIABLES}/{_RULE}"][()].tobytes().decode() if has_rule else None, numbers, path)
    if has_rule and rule is not None and rule.centered:
        found = [{"grad_var" if k == "mean_sq" else k: key for k, key in entry.items()} for entry in found]
    left_out = [name for name in slots or () if SLOTS[name] is None]
    return _make_state(
        file,
        {str(i): entry for i, entry in enumerate(found)},
        keys[0],
        path,
        format="tf-keras" if is_old else "keras3",
        named=False,
        numbers=_read_numbers(numbers or ({"learning_rate": float(file[keys[1]][()])} if has_rate else {})),
        rule=rule,
        notes=(f"{' and '.join(left_out)} belong to the weights: left out",) if left_out else (),
    )


def _match_option(name: str, given: Any, value: Any, path: Path) -> Any:
    """Return what the file's configuration says, which an option may only repeat."""
    if given not in (None, value):
        raise StateError(f"{path}: {name}={given!r}, but the file's configuration says {value!r}")
    return value


def _read_numbers(config: Mapping[str, Any]) -> dict[str, float]:
    numbers = read_numbers({k: v for k, v in config.items() if isinstance(v, (int, float))}, _NUMBERS)
    # In a complete configuration, no weight decay is None.
    return {"weight_decay": 0.0, **numbers} if "rho" in numbers else numbers


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
        raise FileError(f"{path}: the rule of rmsprop.keras.RMSprop in it: {_bounds.shorten(error)}") from error


def _find_names(file: Any, numbers: Mapping[str, Any], path: Path) -> State:
    """Return the state of an older `.h5`."""
    attributes = file["optimizer_weights"].attrs
    pieces = (f"weight_names{i}" for i in itertools.count())  # of a list that is too long for HDF5
    parts = ["weight_names"] if "weight_names" in attributes else itertools.takewhile(attributes.__contains__, pieces)
    names = [x.decode() if isinstance(x, bytes) else str(x) for part in parts for x in attributes[part]]
    found: dict[str, dict[str, str]] = {}
    step_key, formats = "", set()
    for name in names:
        key, plain = f"optimizer_weights/{name}", name.removesuffix(":0")
        if plain.rpartition("/")[2] in ("iteration", "iter"):
            step_key = key
        matches = ((format, pattern.fullmatch(plain)) for format, pattern in _NAMES.items())
        format, match = next(((format, match) for format, match in matches if match), ("", None))
        statistic = {**SLOTS, **_LEGACY_SLOTS}[match["slot"]] if match else None
        if match and statistic:
            formats.add(format)
            found.setdefault(match["variable"], {})[statistic] = key
    if not found or len(formats) > 1 or any("mean_sq" not in entry for entry in found.values()):
        raise StateError(f"{path}: no RMSprop state among the optimizer's arrays: {', '.join(names[:6])}")
    return _make_state(file, found, step_key, path, format=formats.pop(), numbers=_read_numbers(numbers))
