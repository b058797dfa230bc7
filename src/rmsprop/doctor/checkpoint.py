"""Examine a checkpoint: the statistics after its last step, and the numbers of its groups."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from rmsprop import dialects
from rmsprop.doctor import report
from rmsprop.doctor.findings import Finding, History
from rmsprop.doctor.measure import choose_grid, measure
from rmsprop.doctor.sample import Sample
from rmsprop.rule import Rule

__all__ = ["Checkup", "examine_checkpoint"]

ELEMENTS = 2**20
"""Elements sampled of one tensor: a checkpoint is read only once, so this may take longer than in a training."""

Snapshot = Any  # of rmsprop.checkpoints, which is beside this package


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Checkup:
    """What was seen in a checkpoint; a notebook shows it as a report.

    Attributes:
        samples: One for each tensor that has had a step.
        history: The findings.
        notes: What the checkpoint does not say and was assumed, as sentences.
    """

    samples: tuple[Sample, ...]
    history: History
    notes: tuple[str, ...]

    @property
    def findings(self) -> list[Finding]:
        """What is wrong, tensor by tensor."""
        return self.history.findings

    def __repr__(self) -> str:
        return report.write_text(self.samples, self.findings, self.notes)

    def _repr_html_(self) -> str:
        return report.write_html(self.samples, self.findings, self.notes, is_watch=False)


def examine_checkpoint(snapshot: Snapshot, *, lr: float | None = None) -> Checkup:
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
    settings, notes = _read_settings(snapshot, lr)
    pairs = list(zip(snapshot.parameters, settings))
    samples = tuple(_sample(parameter, *own) for parameter, own in pairs if parameter.mean_sq is not None)
    if len(samples) < len(pairs):
        notes.append(f"{len(pairs) - len(samples)} of {len(pairs)} tensors have had no step yet")
    history = History()
    history.add(samples)
    return Checkup(samples=samples, history=history, notes=tuple(notes))


def _sample(parameter: Any, rule: Rule, lr: float, start_lr: float) -> Sample:
    statistics, not_finite = {}, []
    for name, array in {**parameter.arrays, "grad_var": parameter.variance}.items():
        if name not in ("mean_sq", "mean_grad", "grad_var") or array is None:
            continue
        array = np.stack([array.real, array.imag], -1) if np.iscomplexobj(array) else array  # noqa: PLW2901
        grid = choose_grid(array.shape, parameter.name, limit=ELEMENTS)
        statistics[name] = grid.take(array)
    for name, array in parameter.arrays.items():
        if count := int(array.size - np.isfinite(array).sum()):
            not_finite.append(f"{count} of {array.size} elements of {name}")
    return measure(
        parameter.name,
        rule,
        statistics,
        shape=parameter.shape or (),
        dtype=parameter.dtype or "",
        step=parameter.step or 0,
        lr=lr,
        is_corrected=not rule.bias_correction,
        not_finite=not_finite,
        start_lr=start_lr,
    )


def _read_settings(snapshot: Snapshot, lr: float | None) -> tuple[list[tuple[Rule, float, float]], list[str]]:
    """Return (rule, lr, lr of the first steps) of each parameter, NaN: not known; and what was assumed."""
    upstream = dialects.get("torch" if snapshot.format == "rmsprop" else snapshot.format).resolve()
    groups = [group for group in snapshot.groups for _ in range(group.size)]
    if len(groups) != len(snapshot.parameters):
        groups = [snapshot.groups[0] if snapshot.groups else None] * len(snapshot.parameters)
    settings = []
    assumed: set[str] = set()
    for group in groups:
        numbers, rule = ({}, None) if group is None else (group.numbers, group.rule)
        if rule is None:
            assumed |= {f"{name} {getattr(upstream, name):g}" for name in ("rho", "eps") if name not in numbers}
            rule = _build_rule(snapshot, upstream, numbers)
        own_lr = float(numbers.get("lr", math.nan)) if lr is None else lr
        start_lr = float(numbers.get("initial_lr", math.nan)) if lr is None else math.nan
        settings.append((rule, own_lr, math.nan if start_lr == own_lr else start_lr))
    notes = []
    if assumed:
        notes.append(f"not in the file, taken from {snapshot.format}'s defaults: {', '.join(sorted(assumed))}")
    if any(math.isnan(own_lr) for _, own_lr, _ in settings):
        notes.append("lr is not in the file: the table shows 1 / denominator; give --lr")
    return settings, notes


def _build_rule(snapshot: Snapshot, upstream: Rule, numbers: dict[str, float]) -> Rule:
    """Return the rule of a layout without switches: upstream's, with the numbers and the buffers of the file."""
    return upstream.replace(
        rho=numbers.get("rho", upstream.rho),
        eps=numbers.get("eps", upstream.eps),
        eps_mode=snapshot.eps_mode or upstream.eps_mode,
        init=snapshot.init,
        centered=bool(snapshot.centered),
        bias_correction=snapshot.bias_correction,
        buffer=snapshot.buffer,
        momentum=numbers.get("momentum", 0.0) if snapshot.buffer != "none" else 0.0,
        nesterov="none",
        weight_decay=0.0,
        weight_decay_mode="none",
    )
