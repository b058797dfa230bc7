"""What a search found, read from its study."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

from rmsprop.errors import StateError
from rmsprop.tune._space import Setting, Space

__all__ = ["DIVERGED", "Direction", "Trial", "TuneResult", "read_result"]

DIVERGED = "rmsprop:diverged"
STATES: dict[str, Literal["complete", "pruned", "failed"]] = {
    "COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"
}  # fmt: skip

Direction = Literal["minimize", "maximize"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial that ended.

    Attributes:
        number: Its number in the study.
        state: "complete", "pruned", or "failed" by an exception or with its process.
        setting: What was tried.
        value: What the objective returned, or the last number reported; NaN if there is none.
        diverged: Why the value is not finite; empty if it is finite.
    """

    number: int
    state: Literal["complete", "pruned", "failed"]
    setting: Setting
    value: float
    diverged: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuneResult:
    """The result of a search.

    Attributes:
        study: The Optuna study, for Optuna's own tools.
        space: What was searched.
        direction: "minimize" or "maximize".
        trials: Every trial that ended, in order.
        resumed: The number of finished trials before this call.
        interrupted: Whether Ctrl-C ended the search early.
    """

    study: Any = dataclasses.field(repr=False)
    space: Space
    direction: Direction
    trials: tuple[Trial, ...]
    resumed: int = 0
    interrupted: bool = False

    @property
    def best(self) -> Trial | None:
        """The complete trial with the best value; None if no trial is complete."""
        complete = [trial for trial in self.trials if trial.state == "complete"]
        sign = 1.0 if self.direction == "minimize" else -1.0
        return min(complete, key=lambda trial: (sign * trial.value, trial.number), default=None)

    @property
    def done(self) -> int:
        """The number of complete, pruned and diverged trials; failed ones do not count."""
        return sum(trial.state != "failed" for trial in self.trials)

    def code(self, framework: str = "numpy") -> str:
        """Return the best setting as a program; see `Setting.code`.

        Raises:
            StateError: No trial is complete.
        """
        if self.best is None:
            raise StateError("no trial of the study is complete, so there is no best setting")
        return self.best.setting.code(framework)


def read_result(study: Any, space: Space, direction: Direction, **fields: Any) -> TuneResult:
    """Read the trials of a study."""
    trials = []
    for trial in study.get_trials(deepcopy=False):
        # The last number drawn is `centered`: a process killed before that leaves no complete setting.
        if trial.state.name in STATES and "centered" in trial.params:
            last = trial.intermediate_values.get(trial.last_step, math.nan)
            trials.append(
                Trial(
                    number=trial.number,
                    state=STATES[trial.state.name],
                    setting=space.setting(trial.params, number=trial.number),
                    value=float(trial.value if trial.state.name == "COMPLETE" else last),
                    diverged=str(trial.user_attrs.get(DIVERGED, "")),
                )
            )
    return TuneResult(study=study, space=space, direction=direction, trials=tuple(trials), **fields)
