"""What a search found, read from its study."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

from rmsprop.errors import StateError
from rmsprop.tune._space import Setting, Space
from rmsprop.tune._storage import DIVERGED

__all__ = ["Direction", "Ended", "Tuned", "known"]

Direction = Literal["minimize", "maximize"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ended:
    """A trial as a study keeps it.

    Attributes:
        number: Its number in the study.
        state: "complete", "pruned", or "lost" with the process that ran it.
        setting: What was tried.
        value: What the objective returned, or the last number reported; NaN if there is none.
        diverged: Why the value is no number; empty where it is.
    """

    number: int
    state: Literal["complete", "pruned", "lost"]
    setting: Setting
    value: float
    diverged: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuned:
    """What a search found.

    Attributes:
        study: The Optuna study, for its own tools.
        space: What was searched.
        direction: "minimize" or "maximize".
        trials: Every trial that ended, in order.
        resumed: How many trials there were before this call.
        interrupted: Ctrl-C ended it before it had all its trials.
    """

    study: Any = dataclasses.field(repr=False)
    space: Space
    direction: Direction
    trials: tuple[Ended, ...]
    resumed: int = 0
    interrupted: bool = False

    @property
    def best(self) -> Ended | None:
        """The complete trial with the best value; None while there is none."""
        complete = [trial for trial in self.trials if trial.state == "complete"]
        sign = 1.0 if self.direction == "minimize" else -1.0
        return min(complete, key=lambda trial: (sign * trial.value, trial.number), default=None)

    @property
    def done(self) -> int:
        """How many trials count: the lost ones do not."""
        return sum(trial.state != "lost" for trial in self.trials)

    def code(self, framework: str = "numpy") -> str:
        """Write the best setting as a program that runs; see `Setting.code`.

        Raises:
            StateError: No trial is complete.
        """
        if self.best is None:
            raise StateError("no trial of the study is complete, so there is no best one yet")
        return self.best.setting.code(framework)


def known(study: Any, space: Space, direction: Direction, *, resumed: int = 0, interrupted: bool = False) -> Tuned:
    """Read what a study holds."""
    return Tuned(
        study=study,
        space=space,
        direction=direction,
        trials=tuple(trial for trial in (_ended(t, space) for t in study.get_trials(deepcopy=False)) if trial),
        resumed=resumed,
        interrupted=interrupted,
    )


def _ended(trial: Any, space: Space) -> Ended | None:
    states: dict[str, Literal["complete", "pruned", "lost"]] = {
        "COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "lost"
    }  # fmt: skip
    # A process that was killed between asking for numbers leaves a trial with some of them.
    if trial.state.name not in states or not set(_NEEDED) <= set(trial.params):
        return None
    last = trial.intermediate_values.get(trial.last_step, math.nan) if trial.intermediate_values else math.nan
    return Ended(
        number=trial.number,
        state=states[trial.state.name],
        setting=space.setting(trial.params, number=trial.number),
        value=float(trial.value) if trial.state.name == "COMPLETE" else float(last),
        diverged=str(trial.user_attrs.get(DIVERGED, "")),
    )


_NEEDED = ("lr", "1 - rho", "eps", "momentum", "centered")
