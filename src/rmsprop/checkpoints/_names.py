"""Which parameter of the source is which of the target: a names map, or names and order themselves."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rmsprop.checkpoints._archive import TEXT, read_bytes, read_json
from rmsprop.checkpoints._snapshot import Parameter, Snapshot
from rmsprop.errors import InputError, StateError

__all__ = ["Names", "matched", "names_of"]


@dataclasses.dataclass(frozen=True)
class Entry:
    """Where one parameter goes, and how its axes are permuted on the way."""

    to: str
    axes: tuple[int, ...] | None = None
    reverse: bool = False


Names = Mapping[str, Entry | None]
"""Source name -> target; None leaves the parameter out. The order is that of the parameters in the target."""


def names_of(given: str | Path | Mapping[str, Any] | Sequence[str] | None) -> Names | None:
    """Return a map from a JSON file, a dict or a list.

    A list names the source's parameters in the target's order. A dict maps a source's name to the target's name or
    position, to null (left out), or to {"to": name, "transpose": true}; instead of true, a list permutes the axes.

    Raises:
        FileError: No JSON.
        InputError: Another shape of entry, or two parameters for one target.
    """
    if given is None:
        return None
    where = "names"
    if isinstance(given, (str, Path)):
        where = str(given)
        given = read_json(read_bytes(given, limit=TEXT), where)
    if isinstance(given, Mapping):
        names = {str(source): _entry(target, f"{where}[{source!r}]") for source, target in given.items()}
    elif isinstance(given, Sequence) and not isinstance(given, (str, bytes)):
        if len(set(map(str, given))) != len(given):
            raise InputError(f"{where}: a name appears twice in the list")
        names = {str(source): Entry(str(i)) for i, source in enumerate(given)}
    else:
        raise InputError(f"{where}: a {type(given).__name__}, expected an object of names or a list of them")
    targets = [entry.to for entry in names.values() if entry is not None]
    twice = next((target for target, count in Counter(targets).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"{where}: two parameters for the target {twice!r}")
    return names


def _entry(target: Any, where: str) -> Entry | None:
    if target is None:
        return None
    if isinstance(target, (str, int)) and not isinstance(target, bool):
        return Entry(str(target))
    nested = isinstance(target, Mapping) and isinstance(target.get("to", {}), Mapping)
    if isinstance(target, Mapping) and not nested and set(target) <= {"to", "transpose"}:
        plain = _entry(target["to"], where)
        axes = target.get("transpose", False)
        if plain is not None and isinstance(axes, bool):
            return dataclasses.replace(plain, reverse=axes)
        if plain is not None and isinstance(axes, (list, tuple)) and all(axes.count(i) == 1 for i in range(len(axes))):
            return dataclasses.replace(plain, axes=tuple(axes))
    raise InputError(
        f'{where}: {target!r}, expected a name, a position, null, or {{"to": name, "transpose": true or the axes}}'
    )


def _moved(parameter: Parameter, entry: Entry) -> Parameter:
    """Return the parameter under its new name, its arrays transposed as asked."""
    if entry.axes is None and not entry.reverse:
        return dataclasses.replace(parameter, name=entry.to)
    if parameter.shape is None:
        return dataclasses.replace(parameter, name=entry.to)
    axes = entry.axes if entry.axes is not None else tuple(range(len(parameter.shape)))[::-1]
    if len(axes) != len(parameter.shape):
        raise StateError(f"parameter {parameter.name!r}: shape {parameter.shape} cannot be transposed by {list(axes)}")
    arrays: dict[str, Any] = {
        name: np.ascontiguousarray(array.transpose(axes)) for name, array in parameter.arrays.items()
    }
    return dataclasses.replace(parameter, name=entry.to, shape=tuple(parameter.shape[i] for i in axes), **arrays)


def matched(source: Snapshot, target: Snapshot | None, names: Names | None, *, positional: bool) -> list[Parameter]:
    """Return the source's parameters under the target's names and in its order.

    Args:
        source: What was read.
        target: A checkpoint of the target, or None where there is none to compare with.
        names: The map, or None: equal names match by name, and where both have the model's order, by position.
        positional: Whether the target's layout knows parameters only by their position.

    Raises:
        StateError: A parameter without a counterpart, another shape, or no way to tell which is which.
    """
    if names is not None:
        parameters = _mapped(source, names)
        if target is None:
            return _in_order(parameters) if positional else parameters
    else:
        parameters = list(source.parameters)
        if target is None:
            _check_alone(source, positional=positional)
            return parameters
        mine, theirs = [p.name for p in parameters], [p.name for p in target.parameters]
        if set(mine) != set(theirs):
            if not (source.ordered and target.ordered) or (set(mine) & set(theirs) and source.named and target.named):
                raise StateError(
                    f"parameters: {_some(mine)} in {source.format}, {_some(theirs)} in {target.format}: which is which "
                    'takes a names map: --map names.json with {"' + mine[0] + '": "' + theirs[0] + '", ...}'
                )
            if len(mine) != len(theirs):
                raise StateError(f"parameters: {len(mine)} in the source, {len(theirs)} in the target: another model?")
            parameters = [dataclasses.replace(p, name=name) for p, name in zip(parameters, theirs)]
    found = {p.name: p for p in parameters}
    missing = [p.name for p in target.parameters if p.name not in found]
    if missing:
        raise StateError(f"parameters: nothing in the source is mapped to the target's {_some(missing)}")
    extra = sorted(set(found) - {p.name for p in target.parameters})
    if extra:
        raise StateError(
            f"parameters: {_some(extra)} is mapped to no parameter of the target, which has "
            f"{_some([p.name for p in target.parameters])}"
        )
    ordered = [found[p.name] for p in target.parameters]
    for mine_, theirs_ in zip(ordered, target.parameters):
        _check_shapes(mine_, theirs_)
    return ordered


def _mapped(source: Snapshot, names: Names) -> list[Parameter]:
    by_name = {p.name: p for p in source.parameters}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise StateError(f"names: {_some(unknown)} is not in the source, which has {_some(list(by_name))}")
    forgotten = [name for name in by_name if name not in names]
    if forgotten:
        raise StateError(f"names: {_some(forgotten)} of the source is not in the map; map it to null to leave it out")
    return [_moved(by_name[name], entry) for name, entry in names.items() if entry is not None]


def _in_order(parameters: list[Parameter]) -> list[Parameter]:
    """Return parameters mapped to positions in the order of these; names keep the order of the map."""
    if not all(p.name.isdigit() for p in parameters):
        return parameters
    parameters = sorted(parameters, key=lambda p: int(p.name))
    if [int(p.name) for p in parameters] != list(range(len(parameters))):
        raise StateError(
            f"names: positions {', '.join(p.name for p in parameters)}, expected 0 to {len(parameters) - 1}"
        )
    return parameters


def _check_alone(source: Snapshot, *, positional: bool) -> None:
    names = [p.name for p in source.parameters]
    if positional and not source.ordered:
        raise StateError(
            f"parameters: {source.format} has names ({_some(names)}) and no order, the target an order and no names: "
            "give --map with a list of the names in the model's order, or --like a checkpoint of the target"
        )
    if not positional and not source.named:
        raise StateError(
            f"parameters: {source.format} has positions and no names, the target needs names: give --map with "
            '{"0": "the first name", ...}, or --like a checkpoint of the target'
        )


def _check_shapes(mine: Parameter, theirs: Parameter) -> None:
    if mine.shape is None or theirs.shape is None or mine.shape == theirs.shape:
        return
    hint = ""
    if mine.shape == theirs.shape[::-1]:
        hint = f'; a weight that is stored transposed there: {{"to": {mine.name!r}, "transpose": true}} in the map'
    raise StateError(
        f"parameter {mine.name!r}: shape {mine.shape}, the target has {theirs.shape}: another model?{hint}"
    )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
