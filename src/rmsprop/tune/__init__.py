"""Tuning: search lr, rho, eps, momentum and centering with Optuna, and measure how much the learning rate matters.

`rmsprop tune TASK` and `rmsprop sensitivity TASK` are the way in for the race tasks; `rmsprop.tune(objective)` for
anything else. Optuna is imported when a search begins, not before.
"""

from rmsprop.tune._found import Ended, Tuned
from rmsprop.tune._space import Setting, Space
from rmsprop.tune._tune import tune

__all__ = ["Ended", "Setting", "Space", "Tuned", "tune"]
