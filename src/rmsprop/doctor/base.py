"""What every watch has in common: when a sample is due, what it may cost, and where its findings go."""

from __future__ import annotations

import contextlib
import logging
import math
import numbers
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rmsprop.doctor import report
from rmsprop.doctor.findings import Finding, History, summarize
from rmsprop.doctor.sample import Sample
from rmsprop.doctor.writers import Writers
from rmsprop.errors import InputError

__all__ = ["BaseWatch", "logger"]

logger = logging.getLogger("rmsprop.doctor")

OVERHEAD = 2.0
"""What a sample costs over its own time: the steps after it find cold caches, and the hooks run at every step."""


class BaseWatch:
    """The part of a watch that needs no framework; `first` holds the steps that are sampled whatever that costs.

    A notebook shows a watch as a report.
    """

    def __init__(self, *, every: int, to: str | Path | None, budget: float | None, tensorboard: bool | None) -> None:
        steps: Any = every  # NumPy's integers are Integral, which type checkers do not know
        if isinstance(steps, bool) or not isinstance(steps, numbers.Integral) or int(steps) < 1:
            raise InputError(f"every={every!r}, expected an integer of at least 1")
        if budget is not None and not 0 < budget <= 1:
            raise InputError(f"budget={budget!r}, expected a number above 0 and at most 1, or None")
        self._every, self._budget = int(steps), budget
        self._writers = Writers(to, tensorboard=tensorboard)
        self.first = frozenset({1})
        self._reset()

    def _reset(self) -> None:
        self.samples: dict[str, Sample] = {}
        self.history = History()
        self.spent = 0.0
        self._calls, self._is_waiting = 0, False
        self._began = time.perf_counter()

    def __repr__(self) -> str:
        return report.write_text(list(self.samples.values()), self.findings)

    def _repr_html_(self) -> str:
        return report.write_html(list(self.samples.values()), self.findings, is_watch=True)

    @property
    def findings(self) -> list[Finding]:
        """The first finding of each kind and tensor."""
        return self.history.findings

    def reopen(self, *, new_run: bool) -> None:
        """Open the files again after `close`; `new_run`: for another training, of which nothing is known yet."""
        if new_run:
            self._reset()
        self._writers.open(new_run=new_run)

    def close(self) -> None:
        """Close the files."""
        self._writers.close()

    def _is_due(self) -> bool:
        """Count a step, and return whether to sample it."""
        self._calls += 1
        self._is_waiting |= self._calls % self._every == 0
        allowed = math.inf if self._budget is None else self._budget * (time.perf_counter() - self._began)
        if self._calls not in self.first and (not self._is_waiting or OVERHEAD * self.spent > allowed):
            return False
        self._is_waiting = False
        return True

    @contextlib.contextmanager
    def _measure_time(self) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.spent += time.perf_counter() - begin

    def _add(self, samples: Iterable[Sample]) -> None:
        """Keep, write and judge the samples of one step."""
        samples = list(samples)
        self.samples.update({sample.tensor: sample for sample in samples})
        fresh = self.history.add(samples)
        self._writers.write(samples, fresh)
        for line in summarize(fresh):
            logger.warning("%s", line)
