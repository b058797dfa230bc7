"""What a user should know about a conversion: what the target's file cannot hold, or has otherwise."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from rmsprop.checkpoints._snapshot import Snapshot
from rmsprop.checkpoints.pytorch import FAMILY
from rmsprop.dialects import get

__all__ = ["list_notes"]


def list_notes(source: Snapshot, written: Snapshot, to: str, model: Snapshot | None) -> Iterator[str]:
    """Yield sentences about what differs between the source and the target."""
    mine, theirs = _get_eps_mode(source), _get_eps_mode(dataclasses.replace(written, format=to))
    if mine != theirs:
        yield (
            f"eps: {source.format} has it {mine} the root, the target {theirs}; it is not converted. To continue by "
            f'the same rule, use a front end of this library with dialect="{source.format}"'
        )
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
    row = get(snapshot.format)
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
        yield (
            f"{', '.join(missing)}: not in {source.format}'s file and so not in this one; rmsprop.torch.RMSprop "
            "keeps its own, torch.optim.RMSprop needs --like"
        )
