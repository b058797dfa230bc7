"""What a user should know of a conversion that worked: what the target's file cannot hold, or has otherwise."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

from rmsprop.checkpoints._snapshot import Snapshot
from rmsprop.checkpoints.pytorch import FAMILY
from rmsprop.dialects import get

__all__ = ["remarks"]


def remarks(source: Snapshot, written: Snapshot, to: str, model: Snapshot | None) -> Iterator[str]:
    """Say what the target's file cannot hold."""
    mine, theirs = _eps_mode(source), _eps_mode(dataclasses.replace(written, format=to))
    if mine != theirs:
        yield (
            f"eps: {source.format} has it {mine} the root, the target {theirs}; it is not converted. To go on by the "
            f'same rule: a front end of this library with dialect="{source.format}"'
        )
    if model is not None:
        yield from _other_numbers(source, model)
    elif to in ("torch", "sb3"):
        yield from _missing_numbers(source, written)
    if to in FAMILY and written.step is None:
        yield "step: not known, written as 0 (--step tells it)"
    if source.bias_correction != written.bias_correction:
        yield "one of the two corrects the averages for their start at zero: the raw averages were carried over"


def _eps_mode(snapshot: Snapshot) -> str:
    if snapshot.eps_mode is not None or snapshot.format == "rmsprop":
        return snapshot.eps_mode or "inside"
    row = get(snapshot.format)
    moves = snapshot.format == "tf-keras-legacy" and snapshot.buffer != "none"
    return (row.resolve(momentum=0.9) if moves else row.rule).eps_mode


def _other_numbers(source: Snapshot, model: Snapshot) -> Iterator[str]:
    """The numbers of a rule in which the target differs from the source, where both files tell."""
    for name in ("rho", "eps", "momentum"):
        mine, theirs = (_values(snapshot, name) for snapshot in (source, model))
        alike = len(mine) == len(theirs) and all(math.isclose(a, b, rel_tol=1e-6) for a, b in zip(mine, theirs))
        if mine and theirs and not alike:
            yield f"{name}: {_listed(mine)} in the source, {_listed(theirs)} in the target, which goes on with its own"


def _values(snapshot: Snapshot, name: str) -> list[float]:
    return sorted({group.numbers[name] for group in snapshot.groups if name in group.numbers})


def _listed(values: Sequence[float]) -> str:
    return " and ".join(f"{value:g}" for value in values)


def _missing_numbers(source: Snapshot, written: Snapshot) -> Iterator[str]:
    """What torch.optim.RMSprop reads from a file and this one cannot tell it."""
    if written.buffer == "lr":
        yield "the momentum buffer has lr inside, as a dialect of rmsprop.torch has it and torch.optim.RMSprop has not"
    known = {name for group in written.groups for name in group.numbers}
    if any(_values(written, "weight_decay")) and source.format not in FAMILY:
        known -= {"weight_decay"}
        yield f"weight_decay: {source.format} decouples it from the gradient, torch does not: left out"
    missing = [name for name in ("lr", "rho", "eps", "momentum", "weight_decay") if name not in known]
    if missing:
        yield (
            f"{', '.join(missing)}: not in {source.format}'s file and so not in this one; rmsprop.torch.RMSprop "
            "keeps its own, torch.optim.RMSprop needs --like"
        )
