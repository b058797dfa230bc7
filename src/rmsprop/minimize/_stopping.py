"""Why a run ends: the reasons, their numbers, and the words for them."""

from __future__ import annotations

import dataclasses
import enum
import math
import numbers

import numpy as np

from rmsprop.errors import InputError

__all__ = ["Status", "Tolerances", "message"]


class Status(enum.IntEnum):
    """The `status` of a result: 0 and above for success.

    Example:
        >>> int(Status.GRADIENT), int(Status.NONFINITE_OBJECTIVE)
        (1, -3)
    """

    STEPS_DONE = 0
    GRADIENT = 1
    STEP_SIZE = 2
    STALL = 3
    BATCHES_ENDED = 4
    STEPS_USED_UP = -1
    CALLBACK = -2
    NONFINITE_OBJECTIVE = -3
    NONFINITE_GRADIENT = -4
    NO_START = -5


@dataclasses.dataclass(frozen=True)
class Tolerances:
    """When to stop before the last step; None never stops."""

    gtol: float | None
    xtol: float | None
    ftol: float | None
    patience: int

    def __post_init__(self) -> None:
        for name in ("gtol", "xtol", "ftol"):
            value = getattr(self, name)
            if value is not None and not (
                isinstance(value, (float, int, np.number))
                and not isinstance(value, bool)
                and math.isfinite(value)
                and value >= 0
            ):
                raise InputError(f"{name}={value!r}, expected a finite number, at least 0, or None")
        if isinstance(self.patience, bool) or not isinstance(self.patience, numbers.Integral) or self.patience < 1:
            raise InputError(f"patience={self.patience!r}, expected a whole number, at least 1")

    @property
    def any(self) -> bool:
        """Whether one of them is set."""
        return not (self.gtol is None and self.xtol is None and self.ftol is None)


def message(status: Status, *, nit: int, tolerances: Tolerances, bad: object = None) -> str:
    """Say in a sentence why the run ended. `bad` is the value that was not finite."""
    t = tolerances
    match status:
        case Status.STEPS_DONE:
            return f"All {nit} steps were done; no tolerance was set."
        case Status.GRADIENT:
            return f"No element of the gradient is larger than gtol={t.gtol:g} after {nit} steps."
        case Status.STEP_SIZE:
            return f"No element of x moved by more than xtol={t.xtol:g} in step {nit}."
        case Status.STALL:
            return f"The best objective improved by no more than ftol={t.ftol:g} in {t.patience} steps, {nit} in all."
        case Status.BATCHES_ENDED:
            return f"The batches ended after {nit} steps."
        case Status.STEPS_USED_UP:
            return f"All {nit} steps were done before a tolerance was met."
        case Status.CALLBACK:
            return f"The callback raised StopIteration after {nit} steps."
        case Status.NONFINITE_OBJECTIVE:
            return f"Step {nit + 1} led to a point where fun is {bad}; x is the last point where it is finite."
        case Status.NONFINITE_GRADIENT:
            return f"The gradient is not finite at the point after {nit} steps, although fun is; x is that point."
    return f"fun(x0) is {bad}: there is no finite point to start from."
