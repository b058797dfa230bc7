"""Where in a file the statistics stand: what the readers of Keras and TensorFlow find out, and their writers follow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rmsprop.checkpoints._archive import check_entries
from rmsprop.checkpoints._snapshot import Group, Parameter, Snapshot, kept, raw
from rmsprop.errors import StateError
from rmsprop.rule import Rule

__all__ = ["Layout", "refuse_class", "snapshot_of", "written"]

_NUMBERS = {
    "lr": "learning_rate",
    "rho": "rho",
    "eps": "epsilon",
    "momentum": "momentum",
    "weight_decay": "weight_decay",
}
_OTHER_NAMES = (
    *("adam", "adamw", "nadam", "adamax", "sgd", "adagrad", "adadelta"),
    *("ftrl", "lion", "adafactor", "lamb", "muon"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """Where in a file the statistics stand.

    Attributes:
        format: Whose layout it is.
        slots: For each parameter, {statistic: key in the file}.
        names: The parameters' names, or positions.
        named: Which of the two.
        iteration: Key of the step, or None.
        config: The optimizer's configuration in Keras's words, {} where the file has none.
        notes: For the user.
        rule: Of rmsprop.keras, which has Keras's layout; None for Keras itself.
        marked: Whether the first statistic is the variance where centered, and corrected where the rule corrects.
    """

    format: str
    slots: list[dict[str, str]]
    names: list[str]
    named: bool
    iteration: str | None
    config: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    rule: Rule | None = None
    marked: bool = False


def check_config(config: Any, where: str) -> dict[str, Any]:
    """Return an optimizer's configuration in Keras's words after a look at its types; {} where there is none.

    Raises:
        FileError: The first entry of another type than Keras writes, by name.
    """
    check_entries({"optimizer": config}, {"optimizer": dict}, where)
    config = config or {}
    check_entries(config, {"class_name": str, "module": str, "config": dict}, f"{where}: the optimizer's configuration")
    number = (int, float)
    numbers = dict.fromkeys(("rho", "epsilon", "momentum", "weight_decay", "gradient_accumulation_steps"), number)
    expected = {**numbers, "learning_rate": (int, float, dict), "centered": bool, "use_ema": bool, "dialect": str}
    check_entries(config.get("config") or {}, expected, f"{where}: the optimizer's configuration")
    return dict(config)


def snapshot_of(layout: Layout, arrays: Mapping[str, Any], where: str) -> Snapshot:
    """Return the snapshot that a layout finds in {key: array}.

    Raises:
        StateError: Parameters with different statistics, or without a mean square.
    """
    rule = layout.rule
    step = None if layout.iteration is None else int(np.asarray(arrays[layout.iteration]))
    kinds = {tuple(sorted(slots)) for slots in layout.slots}
    if len(kinds) > 1 or not all("mean_sq" in slots for slots in layout.slots):
        raise StateError(f"{where}: not every parameter has the same statistics: {sorted(kinds)}")
    parameters = []
    for name, slots in zip(layout.names, layout.slots, strict=True):
        parameter = Parameter.of(name, {statistic: arrays[key] for statistic, key in slots.items()}, step)
        parameters.append(_unmarked(parameter, rule) if layout.marked and rule is not None else parameter)
    there = {statistic for kind in kinds for statistic in kind}
    found_numbers = {ours: layout.config.get(theirs) for ours, theirs in _NUMBERS.items()}
    numbers = {name: float(value) for name, value in found_numbers.items() if isinstance(value, (int, float))}
    if "rho" in numbers:  # a configuration, where no weight decay is None
        numbers.setdefault("weight_decay", 0.0)
    return Snapshot(
        format=layout.format,
        parameters=tuple(parameters),
        centered="mean_grad" in there,
        buffer="none" if "momentum_buf" not in there else "lr" if rule is None else rule.buffer,
        init=0.0 if rule is None else rule.init_value,
        bias_correction=rule is not None and rule.bias_correction,
        eps_mode=None if rule is None else rule.eps_mode,
        named=layout.named,
        groups=(Group(size=len(parameters), numbers=numbers),),
        notes=layout.notes,
    )


def _unmarked(parameter: Parameter, rule: Rule) -> Parameter:
    if rule.centered:
        variance, mean = parameter.mean_sq, parameter.mean_grad
        assert variance is not None
        assert mean is not None
        parameter = dataclasses.replace(parameter, mean_sq=variance + mean**2, grad_var=variance)
    return raw(parameter, rule.rho) if rule.bias_correction else parameter


def written(parameter: Parameter, layout: Layout) -> dict[str, Any]:
    """Return {statistic: array} as the file that `layout` describes keeps them."""
    if not layout.marked or layout.rule is None:
        return parameter.arrays
    arrays = kept(parameter, layout.rule)
    return {**arrays, "mean_sq": arrays["grad_var"]} if layout.rule.centered else arrays


def refuse_class(title: str, path: Path, *, guess: bool = False) -> None:
    """Refuse a file of another optimizer class; with `guess` only what is another class's default name.

    Raises:
        StateError: It is one.
    """
    name = title.rsplit(">", maxsplit=1)[-1].lower()
    other = name.rstrip("_0123456789") in _OTHER_NAMES if guess else bool(name) and name != "rmsprop"
    if other:
        raise StateError(f"{path}: the state of {title}, not of RMSprop: nothing was converted")
