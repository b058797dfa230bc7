"""A study: its options, its trials, and what must agree before it is continued."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import numbers
from collections.abc import Iterator
from typing import Any, Literal

from rmsprop.errors import InputError, StateError
from rmsprop.tune._space import Setting, Space
from rmsprop.tune._storage import import_optuna, open_storage, silence_optuna

__all__ = ["DIVERGED", "Options", "Trial", "TuneResult", "check_integer", "open_study", "refresh"]

DIVERGED, PROTOCOL = "rmsprop:diverged", "rmsprop:protocol"

Direction = Literal["minimize", "maximize"]
State = Literal["complete", "pruned", "failed"]
STATES: dict[str, State] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to search, as in `rmsprop.tune`; the values are checked, and the pruner becomes Optuna's."""

    trials: int
    study: str
    storage: Any
    direction: Direction
    space: Space
    pruner: Any
    seed: int
    protocol: dict[str, Any]

    def __post_init__(self) -> None:
        pruners = import_optuna().pruners
        check_integer("trials", self.trials, least=1)
        check_integer("seed", self.seed, least=0)
        if self.direction not in ("minimize", "maximize"):
            raise InputError(f"direction={self.direction!r}, expected 'minimize' or 'maximize'")
        if not isinstance(self.study, str) or not self.study:
            raise InputError(f"study={self.study!r}, expected a name")
        if self.pruner in ("median", "none", None):
            pruner = pruners.MedianPruner(n_startup_trials=5) if self.pruner == "median" else pruners.NopPruner()
            object.__setattr__(self, "pruner", pruner)
        if not isinstance(self.pruner, pruners.BasePruner):
            raise InputError(f"pruner={self.pruner!r}, expected 'median', 'none' or an Optuna pruner")
        for key in ("direction", "space"):
            if key in self.protocol:
                raise InputError(f"protocol has the key {key!r}, which rmsprop stores itself: choose another key")
        try:
            json.dumps(self.protocol, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(f"protocol={self.protocol!r}, expected JSON values: {error}") from error

    def describe(self) -> dict[str, Any]:
        """Return what must be equal for trials to be comparable, after a round trip through JSON as in a storage."""
        description = {"direction": self.direction, "space": dataclasses.asdict(self.space), **self.protocol}
        return dict(json.loads(json.dumps(description)))


def check_integer(name: str, value: Any, *, least: int) -> None:
    """Raise InputError unless the value is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise InputError(f"{name}={value!r}, expected an integer, at least {least}")


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
    state: State
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


def refresh(result: TuneResult, *, interrupted: bool = False) -> TuneResult:
    """Return the result with the trials that have ended by now."""
    trials = []
    for trial in result.study.get_trials(deepcopy=False):
        # The last number drawn is `centered`: a process killed before that leaves no complete setting.
        if trial.state.name in STATES and "centered" in trial.params:
            last = trial.intermediate_values.get(trial.last_step, math.nan)
            ended = Trial(
                number=trial.number,
                state=STATES[trial.state.name],
                setting=result.space.make_setting(trial.params, number=trial.number),
                value=float(trial.value if trial.state.name == "COMPLETE" else last),
                diverged=str(trial.user_attrs.get(DIVERGED, "")),
            )
            trials.append(ended)
    return dataclasses.replace(result, trials=tuple(trials), interrupted=interrupted)


@contextlib.contextmanager
def open_study(options: Options) -> Iterator[TuneResult]:
    """Create the study, or open the existing one if its direction, space and protocol are the same; yield its trials.

    Raises:
        InputError: The storage cannot be opened.
        StateError: Direction, space or protocol differ, or another program created the study.
    """
    with silence_optuna(), open_storage(options.storage) as storage:
        name, advice = options.study, "continue with the same value, or choose another study name"
        study = import_optuna().create_study(
            storage=storage, study_name=name, direction=options.direction, pruner=options.pruner, load_if_exists=True
        )
        if len(study.directions) != 1 or study.direction.name.lower() != options.direction:
            raise StateError(f"study {name!r} has another direction, this search is to {options.direction}: {advice}")
        stored, wanted = study.user_attrs.get(PROTOCOL), options.describe()
        if stored is None and (study.trials or study.user_attrs):
            raise StateError(f"study {name!r} was not created by rmsprop: choose another study name")
        if stored is None:
            study.set_user_attr(PROTOCOL, wanted)
        new, old = _flatten(wanted), _flatten(stored or wanted)
        for key in {**old, **new}:
            if new.get(key) != old.get(key):
                difference = f"{key}={old.get(key)!r}, this search has {key}={new.get(key)!r}"
                raise StateError(f"study {name!r} has {difference}: {advice}")
        result = refresh(TuneResult(study=study, space=options.space, direction=options.direction, trials=()))
        yield dataclasses.replace(result, resumed=result.done)


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
