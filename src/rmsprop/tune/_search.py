"""The search: Optuna draws a setting, the objective returns its value, until the study has enough finished trials.

The sampler is seeded anew for each trial, from `seed` and the trial's place among those that did not fail. So with one
worker a search that was interrupted continues with the settings that it would have tried without the interruption.
"""

from __future__ import annotations

import contextlib
import math
import numbers
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from rmsprop._advice import quieted
from rmsprop.errors import InputError, InputTypeError, RMSpropWarning
from rmsprop.tune._result import DIVERGED, Direction, TuneResult, read_result
from rmsprop.tune._space import Diverged, Setting, Space
from rmsprop.tune._storage import DEFAULT, import_optuna, open_storage, open_study, silence_optuna

__all__ = ["check_integers", "check_options", "raise_if_never_finite", "search", "tune"]

STARTUP_TRIALS = 10
"""Trials drawn at random before the sampler learns from them."""


def tune(
    objective: Callable[[Setting], float],
    *,
    trials: int = 50,
    study: str = "rmsprop",
    storage: Any = DEFAULT,
    direction: Direction = "minimize",
    space: Space | None = None,
    pruner: Any = "median",
    seed: int = 0,
    protocol: dict[str, Any] | None = None,
    listener: Callable[[TuneResult], None] | None = None,
) -> TuneResult:
    """Search the RMSprop that makes `objective` best.

    A study that exists is continued if it has the same direction, space, protocol and name of the objective. What the
    objective computes is not compared. A study that already has its trials is returned, with a warning. Several
    processes, on one machine or many, may call this with the same study and storage: they share the trials. Ctrl-C ends
    the search and keeps the finished trials.

    Args:
        objective: Called with a `Setting`; returns a number. A value that is not finite marks the trial as diverged:
            it counts, and the sampler avoids that region. An exception ends the search.
        trials: The number of complete, pruned and diverged trials that the study shall have in all, at least 1.
        study: The study's name in the storage.
        storage: An Optuna storage or its URL (SQLite, PostgreSQL, MySQL, grpc://host:port); None keeps it in memory.
        direction: "minimize" or "maximize".
        space: The ranges to search. Default: `Space()`.
        pruner: "median" (ends a trial that is worse than the median of the others, once there are five), "none", or
            any Optuna pruner.
        seed: Seed of the sampler (TPE), an integer of at least 0.
        protocol: What else must be equal for trials to be comparable, such as a version or the number of epochs, as
            JSON values; stored with the study. Its key "objective" replaces the objective's name.
        listener: Called with the result so far, at the start if the study is continued, and after every trial.

    Returns:
        The trials and the best of them.

    Raises:
        MissingDependency: Optuna is not installed.
        InputError: An argument outside its domain, a storage that cannot be opened, or an objective that was never
            finite.
        InputTypeError: `objective` is not a function, or returned something that is not a number; `space` is not a
            `Space`.
        StateError: The study exists with another direction, space, protocol or objective.

    Example:
        >>> import numpy as np, rmsprop
        >>> def after_100_steps(setting):
        ...     run = rmsprop.minimize(lambda x: x @ x, np.ones(3), lr=setting.lr, dialect=setting.rule, steps=100)
        ...     return run.fun
        >>> result = rmsprop.tune(after_100_steps, trials=5, storage=None)
        >>> result.done, result.code().splitlines()[0]
        (5, 'import numpy as np')

    Source: T. Akiba and others, Optuna, KDD 2019; the sampler is J. Bergstra and others, Algorithms for
    hyper-parameter optimization, NeurIPS 2011.
    """
    if not callable(objective):
        raise InputTypeError(f"objective: {type(objective).__name__}, expected a function of a Setting")
    if space is not None and not isinstance(space, Space):
        raise InputTypeError(f"space: {type(space).__name__}, expected rmsprop.tune.Space(lr=..., rho=..., ...)")
    if protocol is not None and not isinstance(protocol, dict):
        raise InputTypeError(f"protocol: {type(protocol).__name__}, expected a dict of JSON values")
    name = getattr(objective, "__qualname__", type(objective).__qualname__)
    result = search(
        objective,
        trials=trials,
        study=study,
        storage=storage,
        direction=direction,
        space=Space() if space is None else space,
        pruner=pruner,
        seed=seed,
        protocol={"objective": name, **(protocol or {})},
        listener=listener,
    )
    if result.resumed >= trials:
        warnings.warn(
            f"study {study!r} has {result.resumed} trials already, so the objective was not called: "
            f"use trials={result.resumed + trials} to add more, or another study name to start again",
            RMSpropWarning,
            stacklevel=2,
        )
    raise_if_never_finite(result, trials)
    return result


def search(
    objective: Callable[[Setting], float],
    *,
    trials: int,
    study: str,
    storage: Any,
    direction: Direction,
    space: Space,
    pruner: Any,
    seed: int,
    protocol: dict[str, Any],
    listener: Callable[[TuneResult], None] | None = None,
    callbacks: Sequence[Callable[[Any, Any], None]] = (),
) -> TuneResult:
    """Run the search of `tune`; `callbacks` go to Optuna's `Study.optimize`."""
    optuna = import_optuna()
    study_pruner = check_options(trials=trials, seed=seed, direction=direction, study=study, pruner=pruner)
    with silence_optuna(), open_storage(storage) as opened:
        opened_study = open_study(opened, study, direction=direction, space=space, protocol=protocol)
        opened_study.pruner = study_pruner
        resumed = read_result(opened_study, space, direction).done

        def read(**fields: Any) -> TuneResult:
            return read_result(opened_study, space, direction, resumed=resumed, **fields)

        callbacks = [optuna.study.MaxTrialsCallback(trials, states=_finished_states()), *callbacks]
        if listener is not None:
            callbacks.append(lambda study, trial: listener(read()))
            if resumed:
                listener(read())
        try:
            if resumed < trials:
                _optimize(opened_study, _Objective(objective, space, opened_study, seed), callbacks)
        except KeyboardInterrupt:
            return read(interrupted=True)
        return read()


def _finished_states() -> tuple[Any, Any]:
    states = import_optuna().trial.TrialState
    return states.COMPLETE, states.PRUNED


def _optimize(study: Any, objective: _Objective, callbacks: Sequence[Any]) -> None:
    """Run trials until a callback stops the study.

    A process that was suspended for longer than the grace period finds its trial marked as failed, which Optuna
    reports as an error. The trial is in the queue again, so the search goes on.
    """
    while True:
        try:
            study.optimize(objective, callbacks=callbacks)
            return
        except Exception:
            if objective.error is not None:
                raise objective.error from None
            states = {trial.number: trial.state.name for trial in study.get_trials(deepcopy=False)}
            if states.get(objective.number) != "FAIL":
                raise


class _Objective:
    """The function that Optuna calls for each trial; remembers the number and the error of the last trial."""

    def __init__(self, objective: Callable[[Setting], float], space: Space, study: Any, seed: int) -> None:
        self.number = -1
        self.error: BaseException | None = None
        self._objective, self._space, self._study, self._seed = objective, space, study, seed

    def __call__(self, trial: Any) -> float:
        optuna = import_optuna()
        self.number, self.error = trial.number, None
        self._study.sampler = self._make_sampler(trial.number)

        def report(step: int, value: float) -> None:
            check_integers(step=step, least=0)
            value = _to_float(value, f"report({step}, ...)")
            if not math.isfinite(value):
                raise Diverged(f"{value} reported at step {step}")
            trial.report(value, int(step))
            if trial.should_prune():
                raise optuna.TrialPruned

        try:
            setting = self._space.setting(self._space.suggest(trial), number=trial.number, report=report)
            with quieted():
                value = _to_float(self._objective(setting), "objective's value")
            if math.isfinite(value):
                return value
            reason = f"the objective returned {value}"
        except Diverged as error:
            reason = str(error)
        except (optuna.TrialPruned, optuna.exceptions.UpdateFinishedTrialError):
            raise
        except BaseException as error:
            self.error = error
            raise
        trial.set_user_attr(DIVERGED, reason)
        # Pruned, because the sampler learns from pruned trials and ignores failed ones.
        raise optuna.TrialPruned(reason)

    def _make_sampler(self, number: int) -> Any:
        import numpy as np

        earlier = (trial for trial in self._study.get_trials(deepcopy=False) if trial.number < number)
        place = sum(trial.state.name != "FAIL" for trial in earlier)
        seed = int(np.random.SeedSequence([self._seed, place]).generate_state(1)[0])
        return import_optuna().samplers.TPESampler(n_startup_trials=STARTUP_TRIALS, seed=seed)


def check_options(*, trials: int, seed: int, direction: str, study: str, pruner: Any) -> Any:
    """Check the options of a search, and return Optuna's pruner."""
    check_integers(trials=trials, least=1)
    check_integers(seed=seed, least=0)
    if direction not in ("minimize", "maximize"):
        raise InputError(f"direction={direction!r}, expected 'minimize' or 'maximize'")
    if not isinstance(study, str) or not study:
        raise InputError(f"study={study!r}, expected a name")
    pruners = import_optuna().pruners
    if isinstance(pruner, pruners.BasePruner):
        return pruner
    if pruner not in ("median", "none", None):
        raise InputError(f"pruner={pruner!r}, expected 'median', 'none' or an Optuna pruner")
    return pruners.MedianPruner(n_startup_trials=5) if pruner == "median" else pruners.NopPruner()


def check_integers(*, least: int, **values: Any) -> None:
    """Raise InputError unless every value is an integer of at least `least`."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
            raise InputError(f"{name}={value!r}, expected an integer, at least {least}")


def raise_if_never_finite(result: TuneResult, trials: int) -> None:
    """Raise InputError if the study has all its trials and every one of them diverged."""
    finished = [trial for trial in result.trials if trial.state != "failed"]
    if len(finished) >= trials and all(trial.diverged for trial in finished):
        raise InputError(
            f"objective was not finite in any of {len(finished)} trials (the last: {finished[-1].diverged}): check "
            "that it can be finite, or search smaller learning rates under another study name"
        )


def _to_float(value: Any, name: str) -> float:
    # A tensor or array of one element is accepted too.
    with contextlib.suppress(TypeError, ValueError, RuntimeError):
        if not isinstance(value, (str, bytes, bool)):
            return float(value)
    raise InputTypeError(f"{name}: {type(value).__name__}, expected a number")
