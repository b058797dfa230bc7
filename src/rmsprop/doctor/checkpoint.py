"""What a checkpoint tells: the statistics after its last step, and the numbers its groups name."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop import dialects, formula
from rmsprop.doctor.findings import Finding, History
from rmsprop.doctor.look import Look, Sample
from rmsprop.doctor.measure import measure
from rmsprop.doctor.sample import grid, units_last
from rmsprop.rule import Rule

__all__ = ["Checkup", "examine_checkpoint", "not_finite"]

ELEMENTS = 2**20
"""Elements looked at of one tensor: a checkpoint is read once, and time is no matter."""

Snapshot = Any  # of rmsprop.checkpoints, which stands beside this package


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkup:
    """What was seen in a checkpoint.

    Attributes:
        looks: One for each tensor that has had a step.
        history: The findings.
        notes: What the checkpoint does not say and was assumed, as sentences.
    """

    looks: tuple[Look, ...]
    history: History
    notes: tuple[str, ...]

    @property
    def findings(self) -> list[Finding]:
        """What is wrong, tensor by tensor."""
        return self.history.findings


def examine_checkpoint(
    snapshot: Snapshot,
    *,
    lr: float | None = None,
) -> Checkup:
    """Return what is wrong in a checkpoint, tensor by tensor.

    Args:
        snapshot: What `rmsprop.checkpoints.read` returned; with `finite=False` there, NaN is a finding here. Read.
        lr: Learning rate, in units of the parameters. Default: the checkpoint's, of the first steps too.

    Example:
        >>> import pathlib, tempfile, torch
        >>> from rmsprop import checkpoints
        >>> weight = torch.nn.Parameter(torch.ones(3))
        >>> optimizer = torch.optim.RMSprop([weight], lr=0.1, alpha=0.999)
        >>> weight.grad = torch.ones(3)
        >>> optimizer.step()
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.pt"
        >>> torch.save(optimizer.state_dict(), path)
        >>> for finding in examine_checkpoint(checkpoints.read(path)).findings:
        ...     print(finding.words)
        a first step of 31.6 x lr, as mean_sq starts at 0 with rho 0.999
    """
    notes: list[str] = []
    looks = tuple(measure(sample) for sample in _samples(snapshot, lr, notes))
    history = History()
    history.add(looks)
    return Checkup(looks=looks, history=history, notes=tuple(notes))


def not_finite(parameter: Any) -> tuple[str, ...]:
    """Return which statistics of a `rmsprop.checkpoints.Parameter` have NaN or infinity, with the count, in words.

    Example:
        >>> import numpy as np
        >>> from rmsprop.checkpoints import Parameter
        >>> not_finite(Parameter(name="w", mean_sq=np.array([1.0, np.nan, np.inf])))
        ('2 of 3 elements of mean_sq',)
    """
    counts = {name: int(array.size - np.isfinite(array).sum()) for name, array in parameter.arrays.items()}
    return tuple(f"{bad} of {parameter.arrays[name].size} elements of {name}" for name, bad in counts.items() if bad)


def _samples(
    snapshot: Snapshot,
    lr: float | None,
    notes: list[str],
) -> Iterator[Sample]:
    idle = 0
    for parameter, (own, rate, first) in zip(snapshot.parameters, _settings(snapshot, lr, notes)):
        if parameter.mean_sq is None:
            idle += 1
            continue
        yield Sample(
            tensor=parameter.name,
            shape=parameter.shape or (),
            dtype=parameter.dtype or "",
            step=parameter.step or 0,
            lr=rate,
            rule=own,
            buffers=_buffers(parameter, own),
            not_finite=not_finite(parameter),
            start_lr=first,
        )
    if idle:
        notes.append(f"{idle} of {len(snapshot.parameters)} tensors have had no step yet")


def _settings(
    snapshot: Snapshot,
    lr: float | None,
    notes: list[str],
) -> list[tuple[Rule, float, float]]:
    """Return (rule, lr, lr of the first steps) of each parameter; NaN: not known."""
    host = dialects.get("torch" if snapshot.format == "rmsprop" else snapshot.format).resolve()
    places = [i for i, group in enumerate(snapshot.groups) for _ in range(group.size)]
    if len(places) != len(snapshot.parameters):
        places = [0] * len(snapshot.parameters)
    found: list[tuple[Rule, float, float]] = []
    assumed: set[str] = set()
    for place in places:
        group = snapshot.groups[place] if snapshot.groups else None
        numbers, own = ({}, None) if group is None else (group.numbers, group.rule)
        if own is None:
            assumed |= {f"{name} {getattr(host, name):g}" for name in ("rho", "eps") if name not in numbers}
            own = _of_host(snapshot, host, numbers)
        rate = float(numbers.get("lr", math.nan)) if lr is None else lr
        first = float(numbers.get("initial_lr", math.nan)) if lr is None else math.nan
        found.append((own, rate, math.nan if first == rate else first))
    if assumed:
        notes.append(f"not in the file, taken from {snapshot.format}'s defaults: {', '.join(sorted(assumed))}")
    if any(math.isnan(rate) for _, rate, _ in found):
        notes.append("lr is not in the file: the table shows 1 / denominator; give --lr")
    return found


def _of_host(snapshot: Snapshot, host: Rule, numbers: Mapping[str, float]) -> Rule:
    """Return the rule of a layout without switches: the host's own, with the numbers and the buffers of the file."""
    return host.replace(
        rho=numbers.get("rho", host.rho),
        eps=numbers.get("eps", host.eps),
        eps_mode=snapshot.eps_mode or host.eps_mode,
        init=snapshot.init,
        centered=bool(snapshot.centered),
        bias_correction=snapshot.bias_correction,
        buffer=snapshot.buffer,
        momentum=numbers.get("momentum", 0.0) if snapshot.buffer != "none" else 0.0,
        nesterov="none",
        weight_decay=0.0,
        weight_decay_mode="none",
    )


def _buffers(parameter: Any, rule: Rule) -> dict[str, NDArray[Any]]:
    """Return the statistics as this library keeps them, as matrices of rows, not more than a million elements."""
    square, mean = parameter.mean_sq, parameter.mean_grad
    weight = formula.bias_divisor(rule.rho, parameter.step) if rule.bias_correction and parameter.step else 1.0
    arrays = {"mean_sq": square / weight}
    if rule.centered:
        mean = np.zeros_like(square) if mean is None else mean / weight
        with np.errstate(invalid="ignore", over="ignore"):  # of a run that diverged
            variance = parameter.variance if weight == 1.0 else None
            arrays = {
                "mean_grad": mean,
                "grad_var": np.maximum(square / weight - mean * mean, 0) if variance is None else variance,
            }
    taken = {}
    for name, array in arrays.items():
        if np.iscomplexobj(array):
            array = np.stack([array.real, array.imag], -1)  # noqa: PLW2901
        if array.ndim > 1 and units_last(parameter.name):
            array = np.moveaxis(array, -1, 0)  # noqa: PLW2901
        taken[name] = grid(array.shape, limit=ELEMENTS).take(array)
    return taken
