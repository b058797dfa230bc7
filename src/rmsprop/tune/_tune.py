"""The search: ask Optuna for a setting, run the objective, tell it the value; until the study has enough trials.

Trial by trial the sampler is seeded anew from `seed` and the number of trials that the study holds. So with one worker
a search that was broken off, or killed, goes on with the very settings that it would have tried without the break.
"""

from __future__ import annotations

import contextlib
import math
import numbers
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from rmsprop._advice import suppress_warnings
from rmsprop.errors import InputError, InputTypeError, RMSpropWarning
from rmsprop.tune._found import Direction, Tuned, known
from rmsprop.tune._objective import identity
from rmsprop.tune._space import Diverged, Setting, Space
from rmsprop.tune._storage import DIVERGED, LOST, Tally, bury_the_dead, claim, ended_elsewhere, open_study
from rmsprop.tune._url import DEFAULT, opened_storage, optuna_or_refuse, quietly

__all__ = ["check", "check_whole", "refuse_never_finite", "search", "tune"]

STARTUP = 10
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
    listener: Callable[[Tuned], None] | None = None,
) -> Tuned:
    """Search the RMSprop that makes `objective` best.

    A study that exists goes on, if it is of this objective: the function's code and the plain numbers and texts that it
    was made with are compared, what it calls is not. A study that has all its trials is returned, with a warning.
    Several processes, on one machine or many, may call this with the same study and storage: they share the trials.
    Ctrl-C ends the search and keeps what is done.

    Args:
        objective: Called with a `Setting`; returns a number. A value that is not finite marks the trial as diverged:
            it counts, and the sampler keeps away from there. An exception ends the search.
        trials: How many complete, pruned and diverged trials the study shall have in all, at least 1.
        study: The study's name in the storage.
        storage: An Optuna storage or its URL (SQLite, PostgreSQL, MySQL, grpc://host:port); None keeps it in memory.
        direction: "minimize" or "maximize".
        space: What is searched. Default: `Space()`.
        pruner: "median" (gives up a trial that stands worse than the median of the others, once there are five),
            "none", or any Optuna pruner.
        seed: Of the sampler (TPE), a whole number of at least 0.
        protocol: What else must be the same for trials to be comparable, as JSON values; kept with the study. Its
            "objective" takes the place of the comparison of code.
        listener: Called with what is known, at the beginning if the study goes on, and after every trial.

    Returns:
        The trials and the best of them.

    Raises:
        MissingDependency: Optuna is not installed.
        InputError: An argument out of its domain, a storage that cannot be opened, or an objective that was never
            finite.
        InputTypeError: `objective` is no function, or returned something that is no number; `space` is no `Space`.
        StateError: The study exists and asks another question, or is of another objective.

    Example:
        >>> import numpy as np, rmsprop
        >>> def after_100_steps(setting):
        ...     run = rmsprop.minimize(lambda x: x @ x, np.ones(3), lr=setting.lr, dialect=setting.rule, steps=100)
        ...     return run.fun
        >>> found = rmsprop.tune(after_100_steps, trials=5, storage=None)
        >>> found.done, found.code().splitlines()[0]
        (5, 'import numpy as np')

    Source: T. Akiba and others, Optuna, KDD 2019; the sampler is J. Bergstra and others, Algorithms for
    hyper-parameter optimization, NeurIPS 2011.
    """
    if not callable(objective):
        raise InputTypeError(f"objective: {type(objective).__name__}, expected a function of a Setting")
    if space is not None and not isinstance(space, Space):
        raise InputTypeError(f"space: {type(space).__name__}, expected rmsprop.tune.Space(lr=..., rho=..., ...)")
    question: Any = {} if protocol is None else protocol
    if isinstance(question, dict):
        question = {"objective": identity(objective), **question}
    found = search(
        objective,
        trials=trials,
        study=study,
        storage=storage,
        direction=direction,
        space=Space() if space is None else space,
        pruner=pruner,
        seed=seed,
        protocol=question,
        listener=listener,
    )
    if found.resumed >= trials:
        warnings.warn(
            f"study {study!r} had {found.resumed} trials already, so the objective was not called: "
            f"trials={found.resumed + trials} adds more, another study name begins anew",
            RMSpropWarning,
            stacklevel=2,
        )
    refuse_never_finite(found, trials)
    return found


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
    listener: Callable[[Tuned], None] | None = None,
    lock: AbstractContextManager[Any] | None = None,
    go_on: Callable[[], bool] = lambda: True,
) -> Tuned:
    """Do what `tune` says.

    Args:
        objective: As there, like all that is not named here.
        trials: As there.
        study: As there.
        storage: As there.
        direction: As there.
        space: As there.
        pruner: As there.
        seed: As there.
        protocol: As there.
        listener: As there.
        lock: Held while a trial is begun, so that processes that share it never begin one too many.
        go_on: Asked before each trial.
    """
    optuna = optuna_or_refuse()
    study_pruner = check(trials=trials, seed=seed, direction=direction, study=study, pruner=pruner)
    with quietly(), opened_storage(storage) as kept:
        opened, _ = open_study(kept, study, direction=direction, space=space, protocol=protocol)
        opened.pruner = study_pruner
        resumed, interrupted = Tally(opened).done, False
        if listener is not None and resumed:
            listener(known(opened, space, direction, resumed=resumed))
        try:
            while go_on():
                with lock if lock is not None else contextlib.nullcontext():
                    bury_the_dead(opened)
                    now = Tally(opened)
                    if now.done + now.running >= trials:
                        break
                    opened.sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP, seed=_seed(seed, now.begun))
                    trial = opened.ask()
                    claim(trial)
                _one(opened, trial, space, objective)
                if listener is not None:
                    listener(known(opened, space, direction, resumed=resumed))
        except KeyboardInterrupt:
            interrupted = True
        return known(opened, space, direction, resumed=resumed, interrupted=interrupted)


def check(*, trials: int, seed: int, direction: str, study: str, pruner: Any) -> Any:
    """Refuse what no search can be made of, and return Optuna's pruner."""
    check_whole(trials=trials, least=1)
    check_whole(seed=seed, least=0)
    if direction not in ("minimize", "maximize"):
        raise InputError(f"direction={direction!r}, expected 'minimize' or 'maximize'")
    if not isinstance(study, str) or not study:
        raise InputError(f"study={study!r}, expected a name")
    return _pruner(pruner)


def refuse_never_finite(found: Tuned, trials: int) -> None:
    """Raise InputError if the search had all its trials and every one of them diverged."""
    counted = [trial for trial in found.trials if trial.state != "lost"]
    if not found.interrupted and len(counted) >= trials and all(trial.diverged for trial in counted):
        raise InputError(
            f"objective was not finite in any of {len(counted)} trials (the last: {counted[-1].diverged}): "
            "look whether it can be finite at all, or search smaller learning rates under another study name"
        )


def _one(study: Any, trial: Any, space: Space, objective: Callable[[Setting], float]) -> None:
    """Run one trial and tell the study how it ended."""
    optuna = optuna_or_refuse()
    states, gone = optuna.trial.TrialState, optuna.exceptions.UpdateFinishedTrialError

    def report(step: int, value: float) -> None:
        check_whole(step=step, least=0)
        value = _number(value, f"report({step}, ...)")
        if not math.isfinite(value):
            trial.set_user_attr(DIVERGED, f"{value} reported at step {step}")
            raise optuna.TrialPruned
        trial.report(value, int(step))
        if trial.should_prune():
            raise optuna.TrialPruned

    diverged = ""
    try:
        params = space.suggest(trial)
        with suppress_warnings():
            value = _number(objective(space.setting(params, number=trial.number, report=report)), "objective's value")
        if not math.isfinite(value):
            diverged = f"the objective returned {value}"
    except Diverged as error:
        diverged = str(error)
    except optuna.TrialPruned:
        _tell(study, trial, state=states.PRUNED)
        return
    except BaseException as error:
        if isinstance(error, gone) and ended_elsewhere(study, trial):
            return
        # Ctrl-C and an error of the objective alike: this trial is nobody's any more.
        with contextlib.suppress(Exception):
            trial.set_user_attr(LOST, f"{type(error).__name__}: {error}"[:200])
            study.tell(trial, state=states.FAIL)
        raise
    if diverged:
        with contextlib.suppress(gone):
            trial.set_user_attr(DIVERGED, diverged)
        # Told as pruned, not as failed: the sampler learns from a pruned trial to stay away, a failed one it skips.
        _tell(study, trial, state=states.PRUNED)
    else:
        _tell(study, trial, value, state=states.COMPLETE)


def _tell(study: Any, trial: Any, value: float | None = None, *, state: Any) -> None:
    """End a trial, unless another process took this one for dead and ended it: then it is lost, and done again."""
    try:
        study.tell(trial, value, state=state)
    except (optuna_or_refuse().exceptions.UpdateFinishedTrialError, ValueError):
        # Optuna has a ValueError for that, as for much else.
        if not ended_elsewhere(study, trial):
            raise


def _number(value: Any, what: str) -> float:
    # A tensor or array of one element is a number too, and says so itself.
    with contextlib.suppress(TypeError, ValueError, RuntimeError):
        if not isinstance(value, (str, bytes, bool)):
            return float(value)
    raise InputTypeError(f"{what}: {type(value).__name__}, expected a number")


def _seed(seed: int, begun: int) -> int:
    import numpy as np

    return int(np.random.SeedSequence([seed, begun]).generate_state(1)[0])


def _pruner(wanted: Any) -> Any:
    optuna = optuna_or_refuse()
    if isinstance(wanted, optuna.pruners.BasePruner):
        return wanted
    if wanted == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5)
    if wanted in (None, "none"):
        return optuna.pruners.NopPruner()
    raise InputError(f"pruner={wanted!r}, expected 'median', 'none' or an Optuna pruner")


def check_whole(*, least: int, **named: Any) -> None:
    for name, value in named.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
            raise InputError(f"{name}={value!r}, expected a whole number, at least {least}")
