"""Which parameter of the source is which of the target: by a names map, by equal names, or by order."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rmsprop.checkpoints._bounds import TEXT, read_bytes, read_json
from rmsprop.checkpoints._snapshot import Parameter, Snapshot
from rmsprop.errors import InputError, StateError

__all__ = ["Names", "match_parameters", "parse_names"]


@dataclasses.dataclass(frozen=True)
class Entry:
    """The target of one parameter, and how its axes are permuted: True reverses them."""

    to: str
    axes: bool | tuple[int, ...] = False


Names = Mapping[str, Entry | None]
"""Source name: target. None leaves the parameter out. The order is that of the parameters in the target."""


def parse_names(given: str | Path | Mapping[str, Any] | Sequence[str] | None) -> Names | None:
    """Return the names map in a JSON file, a dict or a list, as `convert` documents them."""
    if given is None:
        return None
    where = "names"
    if isinstance(given, (str, Path)):
        where = str(given)
        given = read_json(read_bytes(given, limit=TEXT), where)
    if isinstance(given, Mapping):
        names = {str(source): _parse_entry(target, f"{where}[{source!r}]") for source, target in given.items()}
    elif isinstance(given, Sequence) and not isinstance(given, (str, bytes)):
        if len(set(map(str, given))) != len(given):
            raise InputError(f"{where}: a name appears twice in the list")
        names = {str(source): Entry(str(i)) for i, source in enumerate(given)}
    else:
        raise InputError(f"{where}: a {type(given).__name__}, expected an object of names or a list of them")
    counts = Counter(entry.to for entry in names.values() if entry is not None)
    if any(count > 1 for count in counts.values()):
        raise InputError(f"{where}: two parameters for the target {counts.most_common(1)[0][0]!r}")
    return names


def _parse_entry(target: Any, where: str) -> Entry | None:
    if target is None:
        return None
    to, axes = target, False
    if isinstance(target, Mapping) and "to" in target and set(target) <= {"to", "transpose"}:
        to, axes = target["to"], target.get("transpose", False)
    if isinstance(to, (str, int)) and not isinstance(to, bool):
        if isinstance(axes, bool):
            return Entry(str(to), axes)
        if isinstance(axes, (list, tuple)) and all(axes.count(i) == 1 for i in range(len(axes))):
            return Entry(str(to), tuple(axes))
    raise InputError(
        f'{where}: {target!r}, expected a name, a position, null, or {{"to": name, "transpose": true or the axes}}'
    )


def match_parameters(
    source: Snapshot, target: Snapshot | None, names: Names | None, *, positional: bool
) -> list[Parameter]:
    """Return the source's parameters with the target's names and in its order.

    Without a map equal names match; if both sides have the model's order, equal positions.
    """
    parameters = list(source.parameters) if names is None else _apply_names(source, names)
    if target is None:
        if names is None:
            _check_without_target(source, positional=positional)
        return _sort_positions(parameters) if positional and names is not None else parameters
    wanted = [p.name for p in target.parameters]
    if names is None and {p.name for p in parameters} != set(wanted):
        parameters = _match_by_order(source, target)
    found = {p.name: p for p in parameters}
    missing = [name for name in wanted if name not in found]
    if missing:
        raise StateError(f"parameters: nothing in the source is mapped to the target's {_quote(missing)}")
    extra = sorted(set(found) - set(wanted))
    if extra:
        raise StateError(f"parameters: {_quote(extra)} is mapped to nothing in the target, which has {_quote(wanted)}")
    for theirs in target.parameters:
        _check_shapes(found[theirs.name], theirs)
    return [found[name] for name in wanted]


def _apply_names(source: Snapshot, names: Names) -> list[Parameter]:
    by_name = {p.name: p for p in source.parameters}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise StateError(f"names: {_quote(unknown)} is not in the source, which has {_quote(list(by_name))}")
    missing = [name for name in by_name if name not in names]
    if missing:
        raise StateError(f"names: {_quote(missing)} of the source is not in the map; map it to null to leave it out")
    return [_rename(by_name[name], entry) for name, entry in names.items() if entry is not None]


def _rename(parameter: Parameter, entry: Entry) -> Parameter:
    if entry.axes is False or parameter.shape is None:
        return dataclasses.replace(parameter, name=entry.to)
    axes = tuple(reversed(range(len(parameter.shape)))) if entry.axes is True else entry.axes
    if len(axes) != len(parameter.shape):
        raise StateError(f"parameter {parameter.name!r}: shape {parameter.shape} cannot be transposed by {list(axes)}")
    arrays: dict[str, Any] = {k: np.ascontiguousarray(x.transpose(axes)) for k, x in parameter.arrays.items()}
    return dataclasses.replace(parameter, name=entry.to, shape=tuple(parameter.shape[i] for i in axes), **arrays)


def _sort_positions(parameters: list[Parameter]) -> list[Parameter]:
    """Sort parameters that the map gave positions; parameters with names keep the order of the map."""
    if not all(p.name.isdigit() for p in parameters):
        return parameters
    parameters = sorted(parameters, key=lambda p: int(p.name))
    positions = [int(p.name) for p in parameters]
    if positions != list(range(len(parameters))):
        raise StateError(f"names: positions {positions}, expected 0 to {len(parameters) - 1}")
    return parameters


def _match_by_order(source: Snapshot, target: Snapshot) -> list[Parameter]:
    mine, theirs = [p.name for p in source.parameters], [p.name for p in target.parameters]
    shares_names = bool(set(mine) & set(theirs)) and source.named and target.named
    if not (source.ordered and target.ordered) or shares_names:
        both = f"{_quote(mine)} in {source.format}, {_quote(theirs)} in {target.format}"
        example = f'{{"{mine[0]}": "{theirs[0]}", ...}}'
        raise StateError(f"parameters: {both}: which is which takes a names map: --map names.json with {example}")
    if len(mine) != len(theirs):
        raise StateError(f"parameters: {len(mine)} in the source, {len(theirs)} in the target: another model?")
    return [dataclasses.replace(p, name=name) for p, name in zip(source.parameters, theirs)]


def _check_without_target(source: Snapshot, *, positional: bool) -> None:
    if positional and not source.ordered:
        names = _quote([p.name for p in source.parameters])
        raise StateError(
            f"parameters: {source.format} has names ({names}) and no order, the target needs an order: give --map with "
            "a list of the names in the model's order, or --like a checkpoint of the target"
        )
    if not positional and not source.named:
        raise StateError(
            f"parameters: {source.format} has positions and no names, the target needs names: give --map with "
            '{"0": "the first name", ...}, or --like a checkpoint of the target'
        )


def _check_shapes(mine: Parameter, theirs: Parameter) -> None:
    if mine.shape is None or theirs.shape is None or mine.shape == theirs.shape:
        return
    hint = f'; if the target stores it transposed, put {{"to": {mine.name!r}, "transpose": true}} into the map'
    hint = hint if mine.shape == theirs.shape[::-1] else ""
    raise StateError(
        f"parameter {mine.name!r}: shape {mine.shape}, the target has {theirs.shape}: another model?{hint}"
    )


def _quote(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
