"""The search: Optuna draws a setting, the objective returns its value, until the study has enough finished trials.

The sampler is seeded anew for each trial, from `seed` and the trial's place: the first free one of 0, 1, 2 and so on.
The place of a failed trial is free again, until two trials failed there other than by Ctrl-C. So with one worker a
search that was interrupted continues with the settings that it would have tried without the interruption.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rmsprop._advice import suppress_warnings
from rmsprop.errors import InputError, InputTypeError, RMSpropWarning
from rmsprop.tune._space import Diverged, Setting, Space
from rmsprop.tune._storage import DEFAULT, import_optuna
from rmsprop.tune._study import DIVERGED, Direction, Options, TuneResult, check_integer, open_study, refresh

__all__ = ["raise_if_never_finite", "search", "tune"]

PLACE, INTERRUPTED = "rmsprop:place", "rmsprop:interrupted"
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
    options = Options(
        trials=trials,
        study=study,
        storage=storage,
        direction=direction,
        space=Space() if space is None else space,
        pruner=pruner,
        seed=seed,
        protocol={"objective": name, **(protocol or {})},
    )
    result = search(objective, options, listener=listener)
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
    options: Options,
    *,
    listener: Callable[[TuneResult], None] | None = None,
    callbacks: Sequence[Callable[[Any, Any], None]] = (),
) -> TuneResult:
    """Run the search of `tune`; `callbacks` go to Optuna's `Study.optimize`."""
    optuna = import_optuna()
    finished = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    with open_study(options) as opened:
        callbacks = [*callbacks, optuna.study.MaxTrialsCallback(options.trials, states=finished)]
        if listener is not None:
            callbacks.append(lambda study, trial: listener(refresh(opened)))
            if opened.resumed:
                listener(opened)
        try:
            if opened.resumed < options.trials:
                _optimize(opened.study, _Objective(objective, opened.study, options), callbacks)
        except KeyboardInterrupt:
            return refresh(opened, interrupted=True)
        return refresh(opened)


def _optimize(study: Any, objective: _Objective, callbacks: Sequence[Any]) -> None:
    """Run trials until a callback stops the study.

    A process that was suspended for longer than the grace period finds its trial marked as failed, which Optuna
    reports as an error. The trial is in the queue again, so the search goes on.
    """
    while True:
        objective.number = -1
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

    def __init__(self, objective: Callable[[Setting], float], study: Any, options: Options) -> None:
        self.number = -1
        self.error: BaseException | None = None
        self._objective, self._study, self._options = objective, study, options

    def __call__(self, trial: Any) -> float:
        optuna, space = import_optuna(), self._options.space
        self.number, self.error = trial.number, None
        self._study.sampler = self._make_sampler(trial)

        def report(step: int, value: float) -> None:
            check_integer("step", step, least=0)
            value = _to_float(value, f"report({step}, ...)")
            if not math.isfinite(value):
                raise Diverged(f"{value} reported at step {step}")
            trial.report(value, int(step))
            if trial.should_prune():
                raise optuna.TrialPruned

        try:
            setting = space.make_setting(space.suggest(trial), number=trial.number, report=report)
            with suppress_warnings():
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
            if isinstance(error, KeyboardInterrupt):
                trial.set_user_attr(INTERRUPTED, True)
            raise
        trial.set_user_attr(DIVERGED, reason)
        # Pruned, because the sampler learns from pruned trials and ignores failed ones.
        raise optuna.TrialPruned(reason)

    def _make_sampler(self, trial: Any) -> Any:
        """Return a sampler with the seed of the trial's place."""
        earlier = [other for other in self._study.get_trials(deepcopy=False) if other.number < trial.number]
        failed = [other for other in earlier if other.state.name == "FAIL"]
        failures = Counter(_get_place(other) for other in failed if INTERRUPTED not in other.user_attrs)
        taken = {_get_place(other) for other in earlier if other.state.name != "FAIL"}
        taken |= {place for place, count in failures.items() if count > 1}
        free = (place for place in itertools.count() if place not in taken)
        # Earlier trials that have not chosen a place yet will choose the first ones.
        choosing = sum(_get_place(other) is None for other in earlier)
        place = next(itertools.islice(free, choosing, None))
        trial.set_user_attr(PLACE, trial.user_attrs.get(PLACE, place))
        seed = int(np.random.SeedSequence([self._options.seed, place]).generate_state(1)[0])
        return import_optuna().samplers.TPESampler(n_startup_trials=STARTUP_TRIALS, seed=seed)


def _get_place(trial: Any) -> int | None:
    place: int | None = trial.user_attrs.get(PLACE, trial.number if trial.state.is_finished() else None)
    return place


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
