"""Why a run ends: the reasons, their numbers, and the words for them."""

from __future__ import annotations

import dataclasses
import enum
import math
import numbers

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


_MESSAGES = {
    Status.STEPS_DONE: "All {nit} steps were done; no tolerance was set.",
    Status.GRADIENT: "No element of the gradient is larger than gtol={t.gtol:g} after {nit} steps.",
    Status.STEP_SIZE: "No element of x moved by more than xtol={t.xtol:g} in step {nit}.",
    Status.STALL: "The best objective improved by no more than ftol={t.ftol:g} in {t.patience} steps, {nit} in all.",
    Status.BATCHES_ENDED: "The batches ended after {nit} steps.",
    Status.STEPS_USED_UP: "All {nit} steps were done before a tolerance was met.",
    Status.CALLBACK: "The callback raised StopIteration after {nit} steps.",
    Status.NONFINITE_OBJECTIVE: (
        "Step {next} led to a point where fun is {bad}; x is the last point where it is finite."
    ),
    Status.NONFINITE_GRADIENT: (
        "The gradient is not finite at the point after {nit} steps, although fun is; x is that point."
    ),
    Status.NO_START: "fun(x0) is {bad}: there is no finite point to start from.",
}


@dataclasses.dataclass(frozen=True)
class Tolerances:
    """When to stop before the last step; None never stops."""

    gtol: float | None
    xtol: float | None
    ftol: float | None
    patience: int

    def __post_init__(self) -> None:
        for name, value in (("gtol", self.gtol), ("xtol", self.xtol), ("ftol", self.ftol)):
            is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
            if value is not None and not (is_number and 0 <= value < math.inf):
                raise InputError(f"{name}={value!r}, expected a finite number, at least 0, or None")
        if isinstance(self.patience, bool) or not isinstance(self.patience, numbers.Integral) or self.patience < 1:
            raise InputError(f"patience={self.patience!r}, expected a whole number, at least 1")

    @property
    def any(self) -> bool:
        """Whether one of them is set."""
        return not (self.gtol is None and self.xtol is None and self.ftol is None)


def message(status: Status, *, nit: int, tolerances: Tolerances, bad: object) -> str:
    """Say in a sentence why the run ended. `bad` is the value that was not finite."""
    return _MESSAGES[status].format(nit=nit, next=nit + 1, t=tolerances, bad=bad)
