"""What every watch has in common: when a look is due, what it may cost, and where its findings go."""

from __future__ import annotations

import logging
import numbers
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rmsprop.doctor.findings import Finding, History
from rmsprop.doctor.look import Look
from rmsprop.doctor.report import told
from rmsprop.doctor.writers import Writers
from rmsprop.errors import InputError

__all__ = ["Watching"]

_log = logging.getLogger("rmsprop.doctor")


AFTERMATH = 2.0
"""What a look costs over its own time: the steps after it find the caches cold, and its hooks run at every step."""


class Watching:
    """The part of a watch that knows no framework.

    Args:
        every: Steps from look to look, at least 1.
        to: A folder for the files, or None.
        budget: The share of the time that looks may take, or None.
        tensorboard: Whether to write event files; None: if the package is installed.
        first: Steps to look at whatever that costs.

    Attributes:
        looks: The latest look of each tensor, by its name.
        history: All findings, with how often each came.
        spent: Seconds that looks have taken.
        first: Steps to look at whatever that costs.

    Raises:
        InputError: A number out of its domain.
    """

    def __init__(
        self,
        *,
        every: int,
        to: str | Path | None,
        budget: float | None,
        tensorboard: bool | None,
        first: Iterable[int] = (1,),
    ) -> None:
        steps: Any = every  # NumPy's whole numbers are Integral, which no checker of types knows
        if isinstance(steps, bool) or not isinstance(steps, numbers.Integral) or int(steps) < 1:
            raise InputError(f"every={every!r}, expected a whole number of at least 1")
        if budget is not None and not 0 < budget <= 1:
            raise InputError(f"budget={budget!r}, expected a share above 0 and at most 1, or None")
        self.looks: dict[str, Look] = {}
        self.history = History()
        self.spent = 0.0
        self.first = frozenset(first)
        self._every, self._budget = int(steps), budget
        self._calls, self._waiting = 0, False
        self._writers = Writers(to, tensorboard=tensorboard)
        self._began = time.perf_counter()

    @property
    def findings(self) -> list[Finding]:
        """The first finding of each kind and tensor."""
        return self.history.findings

    def due(self) -> bool:
        """Count a step, and return whether to look at it."""
        self._calls += 1
        if self._calls % self._every == 0:
            self._waiting = True
        if self._calls in self.first:
            self._waiting = False
            return True
        if not self._waiting:
            return False
        if self._budget is not None and AFTERMATH * self.spent > self._budget * (time.perf_counter() - self._began):
            return False
        self._waiting = False
        return True

    def again(self) -> None:
        """Look at the next step instead: this one showed nothing."""
        self._waiting = True

    def say(self, text: str) -> None:
        """Say through the log what no look can show."""
        _log.warning("%s", text)

    def begin(self, *, anew: bool) -> None:
        """Open the files again after `close`; `anew`: for another training, of which nothing is known yet."""
        if anew:
            self.looks, self.history = {}, History()
            self._calls, self._waiting, self.spent = 0, False, 0.0
            self._began = time.perf_counter()
            self._writers.new_run()
        else:
            self._writers.open()

    def timed(self, work: Callable[[], None]) -> None:
        """Do a part of a look, and note what it cost."""
        begin = time.perf_counter()
        try:
            work()
        finally:
            self.spent += time.perf_counter() - begin

    def take(self, looks: Iterable[Look]) -> None:
        """Keep, write and judge the looks of one step."""
        looks = list(looks)
        self.looks.update({look.tensor: look for look in looks})
        fresh = self.history.add(looks)
        self._writers.write(looks, fresh)
        for line in told(fresh):
            _log.warning("%s", line)

    def close(self) -> None:
        """Close the files."""
        self._writers.close()
