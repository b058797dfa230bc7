"""What changes on the way from one layout's conventions to another's, and what cannot be converted.

    b_lr = lr b_unit          exact while lr was constant over the buffer's memory
    v, m  as they are         every dialect averages the same way; a start of mean_sq at one is already in v
    eps   never               no number inside the root does what another one does outside

Source: the state layouts of each host, read and run; see docs/use/checkpoints.md.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from rmsprop.checkpoints._names import Names, matched
from rmsprop.checkpoints._snapshot import Parameter, Snapshot
from rmsprop.errors import StateError
from rmsprop.rule import BufferMode

__all__ = ["Target", "fit"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """What a layout needs, whatever the model.

    Attributes:
        format: Its name.
        buffer: The kind of its momentum buffer.
        always_buffer: Whether it has one also without momentum.
        positional: Whether it knows parameters only by their position.
        dense: Whether every parameter must have every statistic, touched or not.
        complex: Whether it can hold complex statistics.
        centered: Whether its rule can be centered.
        init: mean_sq before the first step.
    """

    format: str
    buffer: BufferMode
    always_buffer: bool = False
    positional: bool = False
    dense: bool = True
    complex: bool = False
    centered: bool = True
    init: float = 0.0


def fit(
    source: Snapshot,
    target: Target,
    *,
    like: Snapshot | None = None,
    names: Names | None = None,
    lr: float | None = None,
    step: int | None = None,
    buffer: BufferMode | None = None,
) -> Snapshot:
    """Return `source` with the names, the order, the statistics and the conventions of the target.

    Args:
        source: What was read.
        target: What the layout needs.
        like: A checkpoint of the run that is to go on: it decides names, order, shapes, centering and momentum.
        names: Which parameter is which.
        lr: The learning rate of the last steps, where a momentum buffer changes its kind.
        step: Steps done, where the source does not say.
        buffer: The kind of the target's momentum buffer, where no `like` decides it.

    Raises:
        StateError: What cannot be converted, by name.
    """
    parameters = matched(source, like, names, positional=target.positional)
    notes = list(source.notes)
    if not target.complex:
        for parameter in parameters:
            if parameter.dtype is not None and parameter.dtype.startswith("complex"):
                raise StateError(f"parameter {parameter.name!r}: {parameter.dtype}; {target.format} keeps it otherwise")
    parameters = _steps(parameters, step)
    centered = _centered(source, target, like, parameters, notes)
    kind = _kind(source, target, like, buffer)
    factor = _factor(source, kind, parameters, lr, notes)
    if source.buffer != "none" and kind == "none":
        notes.append("the momentum buffer was left out: the target has no momentum")
    fill = target.init if like is None else like.init
    known = {p.name: p for p in like.parameters} if like is not None else {}
    new = []
    for each in parameters:
        model, parameter = known.get(each.name), each
        if each.mean_sq is None and target.dense:
            parameter = _untouched(each, model, fill, centered=centered, target=target)
            notes.append(f"parameter {each.name!r} had no state yet: mean_sq starts at {fill:g}, as there")
        new.append(_converted(parameter, model, centered=centered, kind=kind, factor=factor, notes=notes))
    return dataclasses.replace(
        source,
        parameters=tuple(new),
        centered=centered,
        buffer=kind,
        ordered=like.ordered if like is not None else source.ordered or names is not None,
        named=like.named if like is not None else not all(p.name.isdigit() for p in new),
        groups=source.groups if like is None else like.groups,
        bias_correction=source.bias_correction if like is None else like.bias_correction,
        eps_mode=None if like is None else like.eps_mode,
        notes=tuple(dict.fromkeys(notes)),
    )


def _steps(parameters: list[Parameter], step: int | None) -> list[Parameter]:
    if step is None:
        return parameters
    return [p if p.mean_sq is None else dataclasses.replace(p, step=step) for p in parameters]


def _centered(
    source: Snapshot, target: Target, like: Snapshot | None, parameters: list[Parameter], notes: list[str]
) -> bool:
    wanted = bool(source.centered) if like is None or like.centered is None else like.centered
    if source.centered and not target.centered:
        raise StateError(f"mean_grad: the source is centered, and {target.format} cannot be")
    if wanted:
        for parameter in parameters:
            if parameter.mean_sq is not None and parameter.mean_grad is None:
                raise StateError(
                    f"parameter {parameter.name!r}: the target is centered and needs mean_grad, which the source never "
                    "had; it cannot be derived from mean_sq. Go on uncentered, or start the statistics anew"
                )
    elif source.centered:
        notes.append("mean_grad was left out: the target is not centered")
    return wanted


def _kind(source: Snapshot, target: Target, like: Snapshot | None, buffer: BufferMode | None) -> BufferMode:
    if like is not None:
        return like.buffer
    if buffer is not None:
        return buffer
    if source.buffer == "none" and not target.always_buffer:
        return "none"
    return target.buffer


def _factor(
    source: Snapshot, kind: BufferMode, parameters: list[Parameter], lr: float | None, notes: list[str]
) -> float | None:
    """Return what to multiply the momentum buffer by; None for a buffer that starts at zero."""
    if kind == "none":
        return 1.0
    if source.buffer == "none":
        notes.append("the source has no momentum buffer: the target's starts at 0")
        return None
    if source.buffer == kind or not any(p.momentum_buf is not None and p.momentum_buf.any() for p in parameters):
        return 1.0
    inside, wanted = ("lr", "no lr") if source.buffer == "lr" else ("no lr", "lr")
    if lr is None:
        known = {g.numbers["lr"] for g in source.groups if "lr" in g.numbers}
        hint = f" (the file says lr {', '.join(f'{value:g}' for value in sorted(known))})" if known else ""
        raise StateError(
            f"momentum_buf: the source's buffer has {inside} inside, the target's has {wanted}: give --lr, the "
            f"learning rate of the last steps{hint}; or, to leave the buffer out, --like a target without momentum or "
            "--buffer none"
        )
    if not math.isfinite(lr) or lr <= 0:
        raise StateError(f"lr: {lr:g}, expected more than 0 to convert the momentum buffer")
    notes.append(f"the momentum buffer was converted with lr {lr:g}: exact if lr was constant over its memory")
    return lr if kind == "lr" else 1.0 / lr


def _untouched(
    parameter: Parameter, model: Parameter | None, fill: float, *, centered: bool, target: Target
) -> Parameter:
    shape = parameter.shape if model is None or model.shape is None else model.shape
    if shape is None:
        raise StateError(
            f"parameter {parameter.name!r}: no step has touched it and its shape is not known: give --like a "
            f"checkpoint of the target, since {target.format} keeps statistics for every parameter"
        )
    dtype = np.dtype(parameter.dtype or (model.dtype if model is not None else None) or "float32")
    square = np.full(shape, fill, dtype)
    mean = np.zeros(shape, dtype) if centered else None
    return dataclasses.replace(parameter, shape=shape, dtype=dtype.name, mean_sq=square, mean_grad=mean)


def _converted(
    parameter: Parameter,
    model: Parameter | None,
    *,
    centered: bool,
    kind: BufferMode,
    factor: float | None,
    notes: list[str],
) -> Parameter:
    if parameter.mean_sq is None:
        return parameter
    new: dict[str, Any] = {"mean_sq": parameter.mean_sq, "mean_grad": None, "grad_var": None, "momentum_buf": None}
    if centered:
        new |= {"mean_grad": parameter.mean_grad, "grad_var": parameter.grad_var}
    if kind != "none":
        old = parameter.momentum_buf
        new["momentum_buf"] = np.zeros_like(parameter.mean_sq) if old is None or factor is None else old * factor
    dtype = parameter.dtype if model is None or model.dtype is None else model.dtype
    if dtype != parameter.dtype and dtype == "float32":
        notes.append("float64 statistics were rounded to the target's float32")
    cast: dict[str, Any] = {name: None if array is None else np.asarray(array, dtype) for name, array in new.items()}
    return dataclasses.replace(parameter, dtype=dtype, **cast)
