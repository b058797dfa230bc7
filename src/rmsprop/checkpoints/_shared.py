"""What the modules of the layouts share. Each of them has this interface:

LIBRARY: str                                   the package that reads the files; "" for NumPy alone
ROOM: int                                      bytes of memory that this package needs beside the files
recognize(path, head) -> bool                  whether a folder, or a file with these first bytes, has the layout
read(path, options) -> Snapshot
write(path, snapshot, format, like, options)
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rmsprop.checkpoints._snapshot import Group, Parameter, Snapshot, convert_to_rule, remove_correction
from rmsprop.errors import InputError, StateError
from rmsprop.rule import Rule

__all__ = [
    "ROOM",
    "STACKS",
    "Options",
    "Place",
    "Slots",
    "choose",
    "find_places",
    "make_snapshot",
    "replace_statistics",
]

ROOM = 2**27
"""Bytes of memory for NumPy and small packages."""
STACKS = 2**25 * (os.cpu_count() or 1)
"""Bytes for the stacks of threads, of which large packages start some for each core."""


class Options(NamedTuple):
    """What a file may leave open.

    Attributes:
        slots: What its arrays are, if they have no names.
        schedule: Whether the learning rate is a schedule.
        at: Which of several optimizers.
    """

    slots: tuple[str, ...] | None = None
    schedule: bool | None = None
    at: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slots:
    """Where the statistics are in a file, and what else it says about the run.

    Attributes:
        format: The layout.
        names: The parameters' names, or their positions as text.
        keys: For each parameter {statistic: key in the file}.
        named: Whether `names` are names.
        ordered: Whether their order is the model's.
        step: Of all parameters, or of each; None if the file does not say.
        numbers: Hyperparameters, by this library's names.
        init: mean_sq before the first step.
        rule: The rule, in a file of this library.
        by_rule: Whether the arrays are those of `rule`: the variance if centered, corrected if it corrects.
        bias_correction: Whether the run divides by 1 - rho^t; the arrays are raw averages unless `by_rule`.
        momentum_sign: -1 if the file's momentum buffer is added to the parameters.
        notes: For the user.
    """

    format: str
    names: Sequence[str]
    keys: Sequence[Mapping[str, Any]]
    named: bool = True
    ordered: bool = False
    step: int | Sequence[int] | None = None
    numbers: Mapping[str, float] = dataclasses.field(default_factory=dict)
    init: float = 0.0
    rule: Rule | None = None
    by_rule: bool = False
    bias_correction: bool = False
    momentum_sign: int = 1
    notes: tuple[str, ...] = ()


def make_snapshot(slots: Slots, arrays: Mapping[Any, Any], where: str) -> Snapshot:
    """Return the snapshot of {key: array}."""
    rule = slots.rule
    kinds = {tuple(sorted(keys)) for keys in slots.keys}
    if len(kinds) > 1 or not all({"mean_sq", "grad_var"} & set(kind) for kind in kinds):
        raise StateError(f"{where}: not every parameter has the same statistics: {sorted(kinds)}")
    steps = slots.step if isinstance(slots.step, Sequence) else [slots.step] * len(slots.names)
    parameters = []
    for name, keys, step in zip(slots.names, slots.keys, steps, strict=True):
        found = {statistic: arrays[key] for statistic, key in keys.items()}
        if "momentum_buf" in found:
            found["momentum_buf"] = slots.momentum_sign * np.asarray(found["momentum_buf"])
        parameter = Parameter.from_arrays(name, found, step)
        if slots.by_rule and rule is not None and rule.bias_correction:
            parameter = remove_correction(parameter, rule.rho)
        parameters.append(parameter)
    statistics = {statistic for kind in kinds for statistic in kind}
    return Snapshot(
        format=slots.format,
        parameters=tuple(parameters),
        centered="mean_grad" in statistics,
        buffer="none" if "momentum_buf" not in statistics else "lr" if rule is None else rule.buffer,
        ordered=slots.ordered or len(parameters) == 1,
        named=slots.named,
        init=slots.init if rule is None else rule.init_value,
        bias_correction=slots.bias_correction if rule is None else rule.bias_correction,
        eps_mode=None if rule is None else rule.eps_mode,
        groups=(Group(size=len(parameters), numbers=slots.numbers, rule=rule if slots.format == "rmsprop" else None),),
        notes=slots.notes,
    )


def replace_statistics(arrays: MutableMapping[Any, Any], slots: Slots, snapshot: Snapshot) -> None:
    """Put the statistics of `snapshot` into {key: array}, with the dtypes of the arrays that are there."""
    for parameter, keys in zip(snapshot.parameters, slots.keys, strict=True):
        found = convert_to_rule(parameter, slots.rule) if slots.by_rule and slots.rule else parameter.arrays
        for statistic, key in keys.items():
            array = np.asarray(found[statistic] * (slots.momentum_sign if statistic == "momentum_buf" else 1))
            arrays[key] = array.astype(np.asarray(arrays[key]).dtype) if key in arrays else array


class Place(NamedTuple):
    """A node of a tree, its key in the parent, and the parent."""

    node: Any
    key: Any = None
    parent: Place | None = None

    def ancestors(self) -> Iterator[Place]:
        """Yield this place, its parent, and so on up to the root."""
        place: Place | None = self
        while place is not None:
            yield place
            place = place.parent

    @property
    def path(self) -> str:
        """The keys from the root to here: "a/0/b"."""
        keys = [str(place.key) for place in self.ancestors() if place.parent is not None]
        return "/".join(reversed(keys))


def find_places(tree: Any, is_wanted: Callable[[Mapping[str, Any]], bool]) -> list[Place]:
    """Return the places of all dicts that `is_wanted` accepts. Their insides are not searched.

    A node that appears several times is searched once, so that a tree that contains itself has an end.
    """
    found: list[Place] = []
    seen: set[int] = set()
    stack = [Place(tree)]
    while stack:
        place = stack.pop()
        node = place.node
        if not isinstance(node, (Mapping, list, tuple)) or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Mapping) and is_wanted(node):
            found.append(place)
            continue
        children = list(node.items() if isinstance(node, Mapping) else enumerate(node))
        stack += [Place(child, key, place) for key, child in reversed(children)]
    return found


def choose(names: Sequence[str], at: str | None, path: Path | str) -> int:
    """Return the index of the optimizer that the user means with `--at`, which a single one does not need."""
    if at is not None and at not in names:
        raise InputError(f"at: no optimizer state at {at!r} in {path}, expected one of {list(names)}")
    if at is None and len(names) > 1:
        raise InputError(f"{path}: several optimizer states; choose one with --at: {', '.join(names)}")
    return 0 if at is None else names.index(at)
