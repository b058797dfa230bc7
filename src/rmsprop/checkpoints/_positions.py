"""Keras's optimizers store a list of arrays without names: which position is which statistic.

    iteration [, learning_rate] [, averages] [, accumulators], velocities [, momenta] [, average gradients]

Each block in brackets has one array for each parameter, in the model's order. learning_rate is absent if the rate is a
schedule, which shifts all later positions by one. The blocks follow from the optimizer's configuration if the file has
one, else from the shapes. If those allow several answers, the user is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rmsprop.errors import InputError, StateError

__all__ = ["SLOTS", "assign_positions", "list_slots"]

SLOTS = {
    "average": None,
    "gradient_accumulator": None,
    "velocity": "mean_sq",
    "momentum": "momentum_buf",
    "average_gradient": "mean_grad",
}
"""Keras's name of a block: this library's. The first two belong to the weights and are not converted."""

Shape = tuple[int, ...]


def list_slots(config: Mapping[str, Any]) -> list[str]:
    """Return the blocks of an optimizer with this configuration."""
    switches = ("use_ema", "gradient_accumulation_steps", None, "momentum", "centered")
    return [name for name, switch in zip(SLOTS, switches) if switch is None or config.get(switch)]


def assign_positions(
    keys: Sequence[str],
    shapes: Sequence[Shape],
    where: str,
    *,
    slots: Sequence[str] | None,
    schedule: bool | None,
    weights: Sequence[Shape],
) -> tuple[bool, list[dict[str, str]]]:
    """Return whether position 1 is the learning rate, and for each parameter {statistic: key}.

    `keys` and `shapes` are those of all positions, iteration first. `weights` are the shapes of the model's weights,
    trained or not; [] if the file has none. `slots` (the blocks) and `schedule` are None if they are not known.
    """
    if slots is not None and ("velocity" not in slots or not set(slots) <= set(SLOTS)):
        raise InputError(f"slots: {list(slots)}, expected velocity and any of {', '.join(SLOTS)}, in this order")
    counts = range(1, len(SLOTS) + 1) if slots is None else (len(slots),)
    fits = [
        (has_rate, count, size)
        for has_rate in (True, False)
        if has_rate != schedule and (not has_rate or (len(shapes) > 1 and shapes[1] == ()))
        for count, size in _divide(shapes[1 + has_rate :], counts, weights)
    ]
    if not fits:
        what = f"the {len(shapes)} optimizer arrays do not divide into blocks of the model's shapes"
        blocks = f" with the blocks {', '.join(slots)}" if slots is not None else ""
        raise StateError(f"{where}: {what}{blocks}: saved before the first step, or by another optimizer")
    if len({fit[0] for fit in fits}) > 1:
        what = "the file does not say whether the learning rate is a schedule"
        raise InputError(f"{where}: {what}, which shifts all positions: give --schedule or --no-schedule")
    if len(fits) > 1 or (slots is None and fits[0][1] > 1):
        found = " or ".join(str(fit[1]) for fit in fits)
        raise InputError(
            f"{where}: {found} array(s) for each parameter, and the file does not say which: give --slots with what "
            "the optimizer had, in this order, of average (use_ema), gradient_accumulator, velocity, momentum, "
            "average_gradient (centered)"
        )
    has_rate, _, size = fits[0]
    present = [(block, SLOTS[name]) for block, name in enumerate(slots or ("velocity",))]
    return has_rate, [
        {statistic: keys[1 + has_rate + block * size + i] for block, statistic in present if statistic}
        for i in range(size)
    ]


def _divide(shapes: Sequence[Shape], counts: Sequence[int], weights: Sequence[Shape]) -> Iterator[tuple[int, int]]:
    """Yield (number of blocks, their length) for each way to divide the arrays into equal blocks."""
    for count in counts:
        size, rest = divmod(len(shapes), count)
        blocks = [list(shapes[i * size : (i + 1) * size]) for i in range(count)]
        alike = size > 0 and rest == 0 and all(block == blocks[0] for block in blocks)
        if alike and not (weights and Counter(blocks[0]) - Counter(weights)):
            yield count, size
