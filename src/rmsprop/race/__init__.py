"""Benchmarks: train a real task with RMSprop and its baselines, and report which differences are significant.

`rmsprop race digits` on the command line, or in Python:

    >>> from rmsprop.race import Settings, get, race
    >>> digits = get("digits")
    >>> results = race(digits, Settings.of(digits, optimizers=("adam", "rmsprop"), seeds=2, epochs=1, quick=True))
    >>> len(results.trials)
    12
"""

from rmsprop.race.folder import Folder
from rmsprop.race.record import Results, Settings
from rmsprop.race.run import race
from rmsprop.race.task import get, names

__all__ = ["Folder", "Results", "Settings", "get", "names", "race"]
