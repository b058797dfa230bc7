"""The contents of a request; every value is checked before anything is computed."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop import baselines, dialects, expression
from rmsprop.errors import InputError
from rmsprop.expression import Expression
from rmsprop.optimizers import TABLE
from rmsprop.rule import Rule

__all__ = [
    "MAX_CELLS",
    "MAX_RUNS",
    "MAX_STEPS",
    "SECONDS",
    "Deadline",
    "Experiment",
    "Noise",
    "Setting",
    "check_domain",
    "check_integer",
    "check_number",
]

MAX_STEPS = 5000
MAX_RUNS = 8
MAX_CELLS = 128
"""Cells, or starts, along one axis."""
SECONDS = 5.0
"""The time limit of a request."""
FAR = 1e6
"""The largest coordinate of a start or a picture."""

_NOISES = ("none", "gauss", "hinton")
HINTON = np.array([0.1] * 9 + [-0.9])
"""The mini-batch gradients of lecture 6e: nine of +0.1 and one of -0.9, whose sum is 0."""


class Deadline:
    """A time limit, checked in the loops."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def check(self) -> None:
        """Raise InputError after the time limit."""
        if time.monotonic() > self._end:
            raise InputError(f"steps: not done within {self.seconds:g} s; use fewer steps, runs or cells")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noise:
    """Noise that is added to the gradients: the same numbers for all runs.

    Attributes:
        kind: "none"; "gauss": `scale` times a normal number for each step and coordinate; "hinton": `scale` times
            nine of +0.1 and one of -0.9, repeated, on x alone.
        scale: In units of grad, at least 0.
        seed: For `numpy.random.default_rng`.
    """

    kind: str = "none"
    scale: float = 1.0
    seed: int = 0

    @classmethod
    def read(cls, asked: Any) -> Noise:
        """Check a JSON object.

        Raises:
            InputError: An unknown kind, or a number out of its range.
        """
        fields = _check_object(asked or {}, "noise", ("kind", "scale", "seed"))
        kind = fields.get("kind", "none")
        if kind not in _NOISES:
            raise InputError(f"noise.kind: {kind!r}, expected one of {', '.join(_NOISES)}")
        scale = check_number(fields.get("scale", 1.0), "noise.scale", 0.0, 1e6)
        return cls(kind=kind, scale=scale, seed=check_integer(fields.get("seed", 0), "noise.seed", 0, 2**31 - 1))

    def draw(self, steps: int) -> NDArray[np.float64] | None:
        """Return the noise of every step, float64 of shape (steps, 2), or None."""
        if self.kind == "none" or self.scale == 0.0:
            return None
        if self.kind == "gauss":
            return self.scale * np.random.default_rng(self.seed).standard_normal((steps, 2))
        noise = np.zeros((steps, 2))
        noise[:, 0] = self.scale * np.resize(HINTON, steps)
        return noise


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """An optimizer and its hyperparameters.

    Attributes:
        optimizer: "rmsprop" or one of `baselines.names()`.
        lr: Learning rate, above 0.
        rule: RMSprop's rule; None for a baseline.
        own: A baseline's hyperparameters; empty for RMSprop.
        dialect: The dialect whose rule this is, or None.
        changes: The switches that differ from the dialect's rule, or from `Rule()`.
    """

    optimizer: str
    lr: float
    rule: Rule | None = None
    own: Mapping[str, float] = dataclasses.field(default_factory=dict)
    dialect: str | None = None
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, asked: Any, path: str) -> Setting:
        """Check a JSON object: {"optimizer", "lr", "dialect", "rule": {switch: value}} or a baseline's.

        Raises:
            InputError: An unknown optimizer or hyperparameter, or a value out of its range.
            RuleError: A rule, or a dialect's rule, that cannot exist.
        """
        name = asked.get("optimizer") if isinstance(asked, Mapping) else None
        if name == "rmsprop":
            fields = _check_object(asked, path, ("optimizer", "lr", "dialect", "rule"))
            lr = check_number(fields.get("lr"), f"{path}.lr", 0.0, 1e6)
            rule = fields.get("rule") or {}
            if not isinstance(rule, Mapping) or len(rule) > 20:
                raise InputError(f"{path}.rule: expected an object of switches")
            changes = _add_modes(dict(rule))
            dialect = fields.get("dialect")
            if dialect is None:
                return cls(optimizer=name, lr=lr, rule=Rule().replace(**changes), changes=changes)
            if not isinstance(dialect, str):
                raise InputError(f"{path}.dialect: a {type(dialect).__name__}, expected a name")
            resolved = dialects.get(dialect).resolve(**rule)
            return cls(optimizer=name, lr=lr, rule=resolved, dialect=dialect, changes=dict(rule))
        if name not in baselines.names():
            raise InputError(f"{path}.optimizer: {name!r}, expected one of rmsprop, {', '.join(baselines.names())}")
        defaults = TABLE[name].hyperparameters
        fields = _check_object(asked, path, ("optimizer", "lr", *defaults))
        lr = check_number(fields.get("lr"), f"{path}.lr", 0.0, 1e6)
        own = {key: check_number(fields.get(key, usual), f"{path}.{key}", 0.0, 1e6) for key, usual in defaults.items()}
        setting = cls(optimizer=name, lr=lr, own=own)
        setting.make_baseline(np.zeros(1))  # raises for hyperparameters that the baseline does not allow
        return setting

    def make_baseline(self, params: NDArray[np.float64]) -> Any:
        """Return the baseline that updates `params` in place."""
        return baselines.get(self.optimizer)(params, lr=self.lr, **self.own)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A function, a start, and the optimizers to run from it.

    Attributes:
        function: f(x, y).
        start: The first point.
        steps: The number of steps, from 1 to `MAX_STEPS`.
        noise: Noise that is added to the gradients.
        settings: One for each run, at most `MAX_RUNS`.
        domain: The limits of the picture, ((x from, x to), (y from, y to)).
    """

    function: Expression
    start: tuple[float, float]
    steps: int
    noise: Noise
    settings: tuple[Setting, ...]
    domain: tuple[tuple[float, float], tuple[float, float]]

    @classmethod
    def read(cls, asked: Any) -> Experiment:
        """Check a request.

        Raises:
            RMSpropError: A bad value; the message names it.
        """
        names = ("function", "start", "steps", "noise", "runs", "domain")
        fields = _check_object(asked, "request", names, required=("function", "start", "steps", "runs"))
        runs = fields["runs"]
        if not isinstance(runs, list) or not 1 <= len(runs) <= MAX_RUNS:
            raise InputError(f"runs: expected a list of 1 to {MAX_RUNS} optimizers")
        return cls(
            function=parse(fields["function"]),
            start=_check_pair(fields["start"], "start"),
            steps=check_integer(fields["steps"], "steps", 1, MAX_STEPS),
            noise=Noise.read(fields.get("noise")),
            settings=tuple(Setting.read(item, f"runs[{i}]") for i, item in enumerate(runs)),
            domain=check_domain(fields.get("domain", [[-5, 5], [-5, 5]])),
        )


def parse(text: Any) -> Expression:
    """Return f(x, y) for a typed text, which may depend on x alone.

    Raises:
        ExpressionError: It does not parse.
        InputError: It is not a text.
    """
    if not isinstance(text, str):
        raise InputError(f"function: a {type(text).__name__}, expected a text such as 'x^2 + y^2'")
    return expression.parse(text, variables=("x", "y"))


def check_domain(value: Any) -> tuple[tuple[float, float], tuple[float, float]]:
    """Check ((from, to), (from, to))."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise InputError("domain: expected [[x from, x to], [y from, y to]]")
    x, y = (_check_pair(side, f"domain[{i}]") for i, side in enumerate(value))
    for i, (low, high) in enumerate((x, y)):
        if not high - low >= 1e-9:
            raise InputError(f"domain[{i}]: from {low:g} to {high:g}, expected the second to be larger")
    return x, y


def check_number(value: Any, name: str, low: float, high: float) -> float:
    """Return a finite number in [low, high] as a float, or raise InputError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{name}: {_shorten(value)}, expected a number from {low:g} to {high:g}")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not (math.isfinite(found) and low <= found <= high):
        raise InputError(f"{name}: {found:g}, expected a number from {low:g} to {high:g}")
    return found


def check_integer(value: Any, name: str, low: int, high: int) -> int:
    """Return a whole number in [low, high], or raise InputError."""
    found = check_number(value, name, low, high)
    if not found.is_integer():
        raise InputError(f"{name}: {found:g}, expected a whole number from {low} to {high}")
    return int(found)


def _check_pair(value: Any, name: str) -> tuple[float, float]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise InputError(f"{name}: {_shorten(value)}, expected two numbers")
    return check_number(value[0], f"{name}[0]", -FAR, FAR), check_number(value[1], f"{name}[1]", -FAR, FAR)


def _check_object(value: Any, path: str, known: Sequence[str], required: Sequence[str] = ()) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{path}: {_shorten(value)}, expected an object")
    unknown = [key for key in value if key not in known]
    if unknown:
        raise InputError(f"{path}: unknown key {_shorten(unknown[0])}, expected {', '.join(known)}")
    missing = [key for key in required if key not in value]
    if missing:
        raise InputError(f"{path}: {missing[0]!r} is missing")
    return value


def _add_modes(changes: dict[str, Any]) -> dict[str, Any]:
    """Add the default modes of momentum and weight decay."""
    if _is_positive(changes.get("momentum")):
        changes.setdefault("buffer", "unit")
    if _is_positive(changes.get("weight_decay")):
        changes.setdefault("weight_decay_mode", "l2")
    return changes


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
