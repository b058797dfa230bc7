"""Search lr, rho, eps, momentum and centering with Optuna; measure how wide the range of useful learning rates is.

`rmsprop tune TASK` and `rmsprop sensitivity TASK` do this for benchmark tasks, `rmsprop.tune(objective)` for any
training. Optuna is imported when a search starts.
"""

from rmsprop.tune._search import tune
from rmsprop.tune._space import Setting, Space
from rmsprop.tune._study import Trial, TuneResult

__all__ = ["Setting", "Space", "Trial", "TuneResult", "tune"]
