"""What the modules of the layouts share. Each of them has this interface:

recognize(path, head) -> bool                  whether a folder, or a file with these first bytes, has the layout
read(path, options) -> Snapshot
write(path, snapshot, format, like, options)

`options` are those of slots, schedule and at that the user gave. A module takes out what it uses; what is left raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from rmsprop.checkpoints._snapshot import Group, Parameter, Snapshot, convert_to_rule, get_dialect, remove_correction
from rmsprop.errors import InputError, StateError
from rmsprop.rule import Rule

__all__ = ["Options", "Place", "State", "choose", "find_places", "make_state", "raise_other", "read_numbers"]

Options = dict[str, Any]


class State(NamedTuple):
    """An optimizer's state in a file, and where it is there.

    Attributes:
        snapshot: What was read.
        arrays: {key: array}, of the statistics and possibly of more.
        keys: {parameter: {statistic: key}}.
        rule: The rule, in a file of this library.
        step_key: The key of the step; "" if there is none.
    """

    snapshot: Snapshot
    arrays: MutableMapping[Any, Any]
    keys: Mapping[str, Mapping[str, Any]]
    rule: Rule | None
    step_key: str

    def replace_statistics(self, snapshot: Snapshot) -> None:
        """Put the statistics of `snapshot` into `arrays`, with the dtypes of the arrays that are there."""
        for parameter, entry in zip(snapshot.parameters, self.keys.values(), strict=True):
            found = parameter.arrays if self.rule is None else convert_to_rule(parameter, self.rule)
            for statistic, key in entry.items():
                self.arrays[key] = found[statistic].astype(np.asarray(self.arrays[key]).dtype)


def make_state(
    arrays: MutableMapping[Any, Any],
    keys: Mapping[str, Mapping[str, Any]],
    where: str,
    *,
    format: str,
    named: bool = True,
    ordered: bool = False,
    step: int | Sequence[int] | None = None,
    step_key: str = "",
    numbers: Mapping[str, float] | None = None,
    rule: Rule | None = None,
    **fields: Any,
) -> State:
    """Return the state of {key: array} and {parameter: {statistic: key}}; `fields` are those of its `Snapshot`."""
    kinds = {tuple(sorted(entry)) for entry in keys.values()}
    if len(kinds) > 1 or not all({"mean_sq", "grad_var"} & set(kind) for kind in kinds):
        raise StateError(f"{where}: not every parameter has the same statistics: {sorted(kinds)}")
    statistics = {statistic for kind in kinds for statistic in kind}
    steps = step if isinstance(step, Sequence) else [step] * len(keys)
    parameters = []
    for (name, entry), own_step in zip(keys.items(), steps, strict=True):
        parameter = Parameter.from_arrays(name, {statistic: arrays[key] for statistic, key in entry.items()}, own_step)
        if rule is not None and rule.bias_correction:
            parameter = remove_correction(parameter, rule.rho)
        parameters.append(parameter)
    if rule is not None:
        fields |= {"bias_correction": rule.bias_correction, "eps_mode": rule.eps_mode}
    own_rule = rule if format == "rmsprop" else None
    snapshot = Snapshot(
        **fields,
        format=format,
        named=named,
        ordered=ordered or len(parameters) == 1,
        init=(rule or get_dialect(format).rule).init_value,
        parameters=tuple(parameters),
        centered="mean_grad" in statistics,
        buffer="none" if "momentum_buf" not in statistics else "lr" if rule is None else rule.buffer,
        groups=(Group(size=len(parameters), numbers=numbers or {}, rule=own_rule),),
    )
    return State(snapshot, arrays, keys, rule, step_key)


def read_numbers(source: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, float]:
    """Return the hyperparameters of {this library's name: the source's name} that the source has."""
    return {ours: float(source[name]) for ours, name in names.items() if source.get(name) is not None}


def raise_other(where: str | Path, optimizer: str, found: str = "") -> NoReturn:
    """Raise for the state of another optimizer than RMSprop; `found` is what shows it."""
    what = f"{optimizer} ({found})" if found else optimizer
    raise StateError(f"{where}: the state of {what}, not of RMSprop: nothing was converted")


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


def choose(names: Sequence[str], options: Options, path: Path | str) -> int:
    """Return the index of the optimizer that the user means with `--at`, which a single one does not need."""
    at = options.pop("at", None)
    if at is not None and at not in names:
        raise InputError(f"at: no optimizer state at {at!r} in {path}, expected one of {list(names)}")
    if at is None and len(names) > 1:
        raise InputError(f"{path}: several optimizer states; choose one with --at: {', '.join(names)}")
    return 0 if at is None else names.index(at)
