"""The search space: lr, rho, eps, momentum and centering of one RMSprop.

lr        log-uniform
rho       log-uniform in 1 - rho: from 0.9 to 0.99 is as far as from 0.99 to 0.999, as the memory grows tenfold
eps       log-uniform, in the unit that the base rule's eps_mode gives it
momentum  multiples of 0.05; 0 means no buffer
centered  no, yes
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import numbers
from collections.abc import Callable
from typing import Any

from rmsprop.errors import InputError, InputTypeError, RuleError
from rmsprop.rule import Rule

__all__ = ["Diverged", "Setting", "Space"]

MOMENTUM_STEP = 0.05
UPPER_BOUNDS = {"lr": math.inf, "rho": 1.0, "eps": math.inf, "momentum": 1.0}
PROGRAMS = {
    "numpy": """import numpy as np
import rmsprop

params = {{"w": np.zeros(3)}}  # replace with your parameters
rule = rmsprop.{rule!r}
optimizer = rmsprop.RMSprop(params, lr={lr!r}, dialect=rule)""",
    "torch": """import torch
import rmsprop
from rmsprop.torch import RMSprop

model = torch.nn.Linear(3, 1)  # replace with your model
rule = rmsprop.{rule!r}
optimizer = RMSprop(model.parameters(), lr={lr!r}, dialect=rule)""",
}


class Diverged(Exception):
    """Raised by an objective whose loss is not finite; the text says where."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """A learning rate and a rule to try.

    Attributes:
        lr: Learning rate.
        rule: The rule.
        number: The trial's number in its study.
        report: `report(step, value)` records the value after `step` (1, 2, ...) and prunes the trial if other trials
            were better there: it raises optuna.TrialPruned, which the objective must not catch.
    """

    lr: float
    rule: Rule
    number: int = 0
    report: Callable[[int, float], None] = dataclasses.field(
        default=lambda step, value: None, compare=False, repr=False
    )

    def code(self, framework: str = "numpy") -> str:
        """Return a program that builds this optimizer.

        Args:
            framework: "numpy" or "torch".

        Raises:
            InputError: Unknown framework.

        Example:
            >>> print(Setting(lr=0.01, rule=Rule(rho=0.99)).code())
            import numpy as np
            import rmsprop
            <BLANKLINE>
            params = {"w": np.zeros(3)}  # replace with your parameters
            rule = rmsprop.Rule(rho=0.99, eps=1e-08, eps_mode='inside')
            optimizer = rmsprop.RMSprop(params, lr=0.01, dialect=rule)
        """
        if framework not in PROGRAMS:
            raise InputError(f"framework={framework!r}, expected 'numpy' or 'torch'")
        return PROGRAMS[framework].format(rule=self.rule, lr=self.lr)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Space:
    """The ranges to search; equal ends fix a number.

    Attributes:
        lr: Least and greatest learning rate, above 0.
        rho: Least and greatest decay, below 1.
        eps: Least and greatest eps, above 0, in the unit that `base.eps_mode` gives it.
        momentum: Least and greatest momentum below 1, multiples of 0.05 unless fixed; 0 means no buffer.
        centered: The values to try: (False,), (True,) or (False, True).
        base: The other switches. Where momentum is 0, `nesterov` is "none".

    Raises:
        InputError: A range with its ends in the wrong order or outside the domain, or one that contradicts `base`.
        InputTypeError: `base` is not a Rule.

    Example:
        >>> Space(lr=(1e-4, 1.0), momentum=(0.0, 0.0)).searched
        ('lr', 'rho', 'eps', 'centered')
    """

    lr: tuple[float, float] = (1e-5, 1.0)
    rho: tuple[float, float] = (0.5, 0.999)
    eps: tuple[float, float] = (1e-10, 1e-2)
    momentum: tuple[float, float] = (0.0, 0.95)
    centered: tuple[bool, ...] = (False, True)
    base: Rule = dataclasses.field(default_factory=Rule)

    def __post_init__(self) -> None:
        for name, bound in UPPER_BOUNDS.items():
            ends = getattr(self, name)
            is_pair = isinstance(ends, (tuple, list)) and len(ends) == 2
            is_pair = is_pair and all(isinstance(end, numbers.Real) for end in ends)
            open_below = name in ("lr", "eps")  # drawn on a logarithmic scale, which has no zero
            if not (is_pair and 0 <= ends[0] <= ends[1] < bound and (ends[0] > 0 or not open_below)):
                domain = f"{'(' if open_below else '['}0, {bound:g})"
                raise InputError(f"{name}={ends!r}, expected (least, greatest) in {domain}")
            object.__setattr__(self, name, (float(ends[0]), float(ends[1])))
        low, high = self.momentum
        if low != high and any(abs(end / MOMENTUM_STEP - round(end / MOMENTUM_STEP)) > 1e-9 for end in (low, high)):
            raise InputError(f"momentum={self.momentum!r}, expected multiples of {MOMENTUM_STEP:g}, or equal ends")
        flags = tuple(self.centered) if isinstance(self.centered, (tuple, list)) else ()
        if flags not in {(False,), (True,), (False, True), (True, False)}:
            raise InputError(f"centered={self.centered!r}, expected (False,), (True,) or (False, True)")
        object.__setattr__(self, "centered", tuple(map(bool, flags)))
        if not isinstance(self.base, Rule):
            raise InputTypeError(f"base: {type(self.base).__name__}, expected a rmsprop.Rule")
        # Raised here and not by a trial in the middle of a search.
        for rho, eps, momentum, centered in itertools.product(self.rho, self.eps, self.momentum, flags):
            try:
                self._build_rule(rho=rho, eps=eps, momentum=momentum, centered=centered)
            except RuleError as error:
                raise InputError(f"base={self.base!r} cannot be searched at momentum {momentum:g}: {error}") from error

    @property
    def searched(self) -> tuple[str, ...]:
        """The names of the numbers that are not fixed."""
        free = tuple(name for name in UPPER_BOUNDS if len(set(getattr(self, name))) > 1)
        return (*free, "centered") if len(self.centered) > 1 else free

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Draw the numbers of an Optuna trial; rho is stored as "1 - rho"."""
        return {
            "lr": trial.suggest_float("lr", *self.lr, log=True),
            "1 - rho": trial.suggest_float("1 - rho", *(1.0 - end for end in reversed(self.rho)), log=True),
            "eps": trial.suggest_float("eps", *self.eps, log=True),
            "momentum": trial.suggest_float("momentum", *self.momentum, step=MOMENTUM_STEP),
            "centered": trial.suggest_categorical("centered", list(self.centered)),
        }

    def make_setting(self, params: dict[str, Any], **fields: Any) -> Setting:
        """Return the setting that a trial's stored numbers stand for, rounded to four digits.

        Example:
            >>> params = {"lr": 0.1, "1 - rho": 0.25, "eps": 1e-8, "momentum": 0.9, "centered": False}
            >>> Space().make_setting(params).rule
            Rule(rho=0.75, eps=1e-08, eps_mode='inside', buffer='unit', momentum=0.9)
        """
        rule = self._build_rule(
            rho=_clip(round(1.0 - _round_digits(params["1 - rho"]), 10), self.rho),
            eps=_clip(_round_digits(params["eps"]), self.eps),
            momentum=_clip(round(params["momentum"], 2), self.momentum),
            centered=bool(params["centered"]),
        )
        return Setting(lr=_clip(_round_digits(params["lr"]), self.lr), rule=rule, **fields)

    def _build_rule(self, *, rho: float, eps: float, momentum: float, centered: bool) -> Rule:
        """Return the base rule with these numbers; without momentum it has neither a buffer nor Nesterov's step."""
        changes: dict[str, Any] = {"rho": rho, "eps": eps, "momentum": momentum, "centered": centered}
        if momentum:
            changes["buffer"] = self.base.buffer if self.base.buffer != "none" else "unit"
        elif self.base.weight_decay_mode == "in_buffer":
            changes["nesterov"] = "none"  # the weight decay needs the buffer, whatever the momentum
        else:
            changes |= {"buffer": "none", "nesterov": "none"}
        return self.base.replace(**changes)


def _clip(value: float, ends: tuple[float, float]) -> float:
    """Return the number, or the end of the range if rounding moved it out: a fixed number keeps all its digits."""
    return min(max(value, ends[0]), ends[1])


def _round_digits(value: float) -> float:
    """Round to four significant digits.

    Example:
        >>> _round_digits(0.0123456)
        0.01235
    """
    return float(f"{value:.4g}")
