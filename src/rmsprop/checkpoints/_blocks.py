"""Keras keeps a list of arrays without names: which position is which statistic.

    iteration [, learning_rate] [, averages] [, accumulators], velocities [, momenta] [, average gradients]

Each of the bracketed blocks has one array for each parameter, in the model's order. learning_rate is absent where the
rate is a schedule, and every position after it shifts by one. So the blocks are told by the optimizer's configuration
where the file has one, else by the shapes, and where those leave a choice the user is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rmsprop.errors import InputError, StateError

__all__ = ["SLOTS", "blocks", "configured"]

SLOTS = {
    "average": None,
    "gradient_accumulator": None,
    "velocity": "mean_sq",
    "momentum": "momentum_buf",
    "average_gradient": "mean_grad",
}
"""Keras's name of a block -> this library's; the first two belong to the weights and are left alone."""

Shape = tuple[int, ...]


def configured(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the blocks that an optimizer with this configuration keeps."""
    present = {
        "average": bool(config.get("use_ema")),
        "gradient_accumulator": bool(config.get("gradient_accumulation_steps")),
        "velocity": True,
        "momentum": float(config.get("momentum") or 0.0) > 0,
        "average_gradient": bool(config.get("centered")),
    }
    return tuple(name for name, there in present.items() if there)


def blocks(
    shapes: Sequence[Shape], where: str, *, slots: Sequence[str] | None, schedule: bool | None, weights: Sequence[Shape]
) -> tuple[bool, tuple[str, ...], int]:
    """Return (whether position 1 is the learning rate, the blocks, the number of parameters).

    Args:
        shapes: Of every position, iteration first.
        where: For messages.
        slots: The blocks, where they are known.
        schedule: Whether the learning rate is a schedule, where that is known.
        weights: Shapes of the model's weights, trained or not; [] where the file has none.

    Raises:
        StateError: No division into blocks fits.
        InputError: More than one fits.
    """
    if slots is not None:
        unknown = [name for name in slots if name not in SLOTS]
        if unknown or "velocity" not in slots:
            raise InputError(f"slots: {list(slots)}, expected velocity and any of {', '.join(SLOTS)}, in this order")
    fits = []
    for has_rate in (True, False):
        if schedule is not None and has_rate == schedule:
            continue
        if has_rate and (len(shapes) < 2 or shapes[1] != ()):
            continue
        rest = list(shapes[2:] if has_rate else shapes[1:])
        for count in range(1, len(SLOTS) + 1) if slots is None else (len(slots),):
            size = len(rest) // count
            if (
                size == 0
                or len(rest) % count
                or any(rest[i * size : (i + 1) * size] != rest[:size] for i in range(count))
            ):
                continue
            if not weights or not Counter(rest[:size]) - Counter(weights):
                fits.append((has_rate, count, size))
    if not fits:
        told = f" with the blocks {', '.join(slots)}" if slots is not None else ""
        raise StateError(
            f"{where}: the {len(shapes)} optimizer arrays do not divide into blocks of the model's shapes{told}: saved "
            "before the first step, or by another optimizer or with other options"
        )
    if len({fit[0] for fit in fits}) > 1:
        raise InputError(
            f"{where}: whether the learning rate is a schedule decides every position, and the file does not say: give "
            "--schedule or --no-schedule"
        )
    if len(fits) > 1 or (slots is None and fits[0][1] > 1):
        counts = " or ".join(str(count) for _, count, _ in fits)
        raise InputError(
            f"{where}: {counts} array(s) for each parameter, and the file does not say which: give --slots with "
            "velocity and, in this order, what else the optimizer had of average (use_ema), gradient_accumulator, "
            "velocity, momentum, average_gradient (centered)"
        )
    has_rate, _, size = fits[0]
    return has_rate, tuple(slots) if slots is not None else ("velocity",), size
