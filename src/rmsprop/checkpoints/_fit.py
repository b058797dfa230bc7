"""What changes from one layout's conventions to another's, and what cannot be converted.

    b_lr = lr b_unit          exact if lr was constant over the buffer's memory
    v, m  unchanged           all dialects average in the same way; a mean_sq that started at one is part of v
    eps   never               no number inside the root has the effect of another one outside

Source: the state layouts of each framework, read and run; see docs/use/checkpoints.md.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rmsprop.checkpoints._layouts import Layout
from rmsprop.checkpoints._names import Names, match_parameters
from rmsprop.checkpoints._snapshot import Parameter, Snapshot, get_dialect
from rmsprop.checkpoints.pytorch import FAMILY
from rmsprop.errors import InputError, StateError
from rmsprop.rule import BufferMode

__all__ = ["fit", "list_notes"]


def fit(
    source: Snapshot,
    target: Layout,
    *,
    like: Snapshot | None = None,
    names: Names | None = None,
    lr: float | None = None,
    step: int | None = None,
    buffer: BufferMode | None = None,
) -> Snapshot:
    """Return `source` with the names, the order, the statistics and the conventions of the target.

    The arguments are those of `convert`, read.
    """
    parameters = match_parameters(source, like, names, positional=target.positional)
    notes = list(source.notes)
    odd = next((p for p in parameters if (p.dtype or "").startswith("complex")), None)
    if odd is not None and not target.complex:
        raise StateError(f"parameter {odd.name!r}: {odd.dtype}; {target.format} cannot hold complex statistics")
    if step is not None:
        parameters = [p if p.mean_sq is None else dataclasses.replace(p, step=step) for p in parameters]
    centered = _decide_centered(source, target, like, parameters, notes)
    kind = _decide_buffer(source, target, like, buffer)
    if like is not None and buffer == "none":
        parameters = [dataclasses.replace(p, momentum_buf=None) for p in parameters]
    factor = _find_factor(source, kind, parameters, lr, notes)
    if source.buffer != "none" and kind == "none":
        notes.append("the momentum buffer was left out: the target has no momentum")
    init = target.dialect.rule.init_value if like is None else like.init
    models = {p.name: p for p in like.parameters} if like is not None else {}
    fitted = []
    for parameter in parameters:
        model, started = models.get(parameter.name), parameter
        if parameter.mean_sq is None and target.dense:
            started = _start(parameter, model, init, centered=centered, format=target.format)
            notes.append(f"parameter {parameter.name!r} had no state yet: mean_sq starts at {init:g}, as in the target")
        fitted.append(_convert(started, model, centered=centered, kind=kind, factor=factor, notes=notes))
    return dataclasses.replace(
        source,
        parameters=tuple(fitted),
        centered=centered,
        buffer=kind,
        ordered=like.ordered if like is not None else source.ordered or names is not None,
        named=like.named if like is not None else not all(p.name.isdigit() for p in fitted),
        groups=source.groups if like is None else like.groups,
        bias_correction=source.bias_correction if like is None else like.bias_correction,
        eps_mode=None if like is None else like.eps_mode,
        notes=tuple(dict.fromkeys(notes)),
    )


def _decide_centered(
    source: Snapshot, target: Layout, like: Snapshot | None, parameters: Sequence[Parameter], notes: list[str]
) -> bool:
    wanted = bool(source.centered) if like is None or like.centered is None else like.centered
    if source.centered and "centered" not in target.dialect.offers:
        raise StateError(f"mean_grad: the source is centered, and {target.format} cannot be")
    odd = next((p for p in parameters if p.mean_sq is not None and p.mean_grad is None), None)
    if wanted and odd is not None:
        raise StateError(
            f"parameter {odd.name!r}: the target is centered and needs mean_grad, which the source does not have and "
            "mean_sq does not tell. Continue uncentered, or start with new statistics"
        )
    if source.centered and not wanted:
        notes.append("mean_grad was left out: the target is not centered")
    return wanted


def _decide_buffer(source: Snapshot, target: Layout, like: Snapshot | None, buffer: BufferMode | None) -> BufferMode:
    if like is not None:
        if buffer not in (None, "none", like.buffer):
            raise InputError(f"buffer: {buffer!r}, but the buffer of like is {like.buffer!r}; leave the option out")
        return like.buffer
    if buffer is not None:
        return buffer
    row = target.dialect
    return "none" if source.buffer == "none" and row.buffer_when != "always" else row.momentum_buffer


def _find_factor(
    source: Snapshot, kind: BufferMode, parameters: Sequence[Parameter], lr: float | None, notes: list[str]
) -> float:
    """Return what to multiply the momentum buffer by; 0 for a buffer that starts at zero."""
    if kind == "none":
        return 1.0
    buffers = [p.momentum_buf for p in parameters if p.momentum_buf is not None]
    if source.buffer == "none" or not buffers:
        notes.append("no momentum buffer was converted: the target's starts at 0")
        return 0.0
    if source.buffer == kind or not any(buffer.any() for buffer in buffers):
        return 1.0
    if lr is None:
        inside, wanted = ("lr", "no lr") if source.buffer == "lr" else ("no lr", "lr")
        known = sorted({group.numbers["lr"] for group in source.groups if "lr" in group.numbers})
        hint = f" (the file says lr {', '.join(f'{value:g}' for value in known)})" if known else ""
        raise StateError(
            f"momentum_buf: the source's buffer has {inside} inside, the target's has {wanted}: give --lr, the "
            f"learning rate of the last steps{hint}; or --buffer none to leave the buffer out"
        )
    if not math.isfinite(lr) or lr <= 0:
        raise StateError(f"lr: {lr:g}, expected more than 0 to convert the momentum buffer")
    notes.append(f"the momentum buffer was converted with lr {lr:g}: exact if lr was constant over its memory")
    return lr if kind == "lr" else 1.0 / lr


def _start(parameter: Parameter, model: Parameter | None, init: float, *, centered: bool, format: str) -> Parameter:
    """Return the statistics of a parameter before its first step."""
    if model is None or model.shape is None:
        name = f"parameter {parameter.name!r}"
        raise StateError(f"{name}: no step yet, and {format} needs its shape: give --like a checkpoint of the target")
    square = np.full(model.shape, init, model.dtype or "float32")
    mean = np.zeros_like(square) if centered else None
    return dataclasses.replace(parameter, shape=square.shape, dtype=square.dtype.name, mean_sq=square, mean_grad=mean)


def _convert(
    parameter: Parameter, model: Parameter | None, *, centered: bool, kind: str, factor: float, notes: list[str]
) -> Parameter:
    if parameter.mean_sq is None:
        return parameter
    new: dict[str, Any] = {"mean_sq": parameter.mean_sq, "mean_grad": None, "grad_var": None, "momentum_buf": None}
    if centered:
        new |= {"mean_grad": parameter.mean_grad, "grad_var": parameter.grad_var}
    if kind != "none":
        old = parameter.momentum_buf
        new["momentum_buf"] = np.zeros_like(parameter.mean_sq) if old is None else old * factor
    dtype = parameter.dtype if model is None or model.dtype is None else model.dtype
    if dtype != parameter.dtype and dtype == "float32":
        notes.append("float64 statistics were rounded to the target's float32")
    cast: dict[str, Any] = {name: None if array is None else np.asarray(array, dtype) for name, array in new.items()}
    return dataclasses.replace(parameter, dtype=dtype, **cast)


def list_notes(source: Snapshot, written: Snapshot, to: str, model: Snapshot | None) -> Iterator[str]:
    """Yield sentences about what differs between the source and the target."""
    mine, theirs = _get_eps_mode(source), _get_eps_mode(dataclasses.replace(written, format=to))
    if mine != theirs:
        same = f'dialect="{source.format}" in a front end of this library continues by the same rule'
        yield f"eps: {source.format} has it {mine} the root, the target {theirs}; it is not converted: {same}"
    if model is not None:
        yield from _compare_numbers(source, model)
    elif to in ("torch", "sb3"):
        yield from _list_missing(source, written)
    if to in FAMILY and written.step is None:
        yield "step: not known, written as 0 (--step sets it)"
    if source.bias_correction != written.bias_correction:
        yield "only one of the two corrects the averages for their start at zero: the raw averages were converted"


def _get_eps_mode(snapshot: Snapshot) -> str:
    if snapshot.eps_mode is not None or snapshot.format == "rmsprop":
        return snapshot.eps_mode or "inside"
    row = get_dialect(snapshot.format)
    moves = snapshot.format == "tf-keras-legacy" and snapshot.buffer != "none"
    return (row.resolve(momentum=0.9) if moves else row.rule).eps_mode


def _list_values(snapshot: Snapshot, name: str) -> list[float]:
    return sorted({group.numbers[name] for group in snapshot.groups if name in group.numbers})


def _compare_numbers(source: Snapshot, model: Snapshot) -> Iterator[str]:
    """Yield the hyperparameters that differ, of those that both files have."""
    for name in ("rho", "eps", "momentum"):
        mine, theirs = _list_values(source, name), _list_values(model, name)
        alike = len(mine) == len(theirs) and all(math.isclose(a, b, rel_tol=1e-6) for a, b in zip(mine, theirs))
        if mine and theirs and not alike:
            first, second = (" and ".join(f"{value:g}" for value in values) for values in (mine, theirs))
            yield f"{name}: {first} in the source, {second} in the target, which keeps its own"


def _list_missing(source: Snapshot, written: Snapshot) -> Iterator[str]:
    """Yield what torch.optim.RMSprop reads from a file, and this file does not have."""
    if written.buffer == "lr":
        yield "the momentum buffer has lr inside, as in a dialect of rmsprop.torch, unlike torch.optim.RMSprop"
    known = {name for group in written.groups for name in group.numbers}
    if any(_list_values(written, "weight_decay")) and source.format not in FAMILY:
        known -= {"weight_decay"}
        yield f"weight_decay: {source.format} decouples it from the gradient, torch does not: left out"
    missing = [name for name in ("lr", "rho", "eps", "momentum", "weight_decay") if name not in known]
    if missing:
        needs = "rmsprop.torch.RMSprop keeps its own, torch.optim.RMSprop needs --like"
        yield f"{', '.join(missing)}: not in {source.format}'s file and so not in this one; {needs}"
