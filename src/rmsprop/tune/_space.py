"""What is searched: the numbers of one RMSprop, each with its scale.

lr        log-uniform
rho       log-uniform in 1 - rho: from 0.9 to 0.99 is as far as from 0.99 to 0.999, as the memory grows tenfold
eps       log-uniform, in the unit that the base rule's eps_mode gives it
momentum  in steps of 0.05; at 0 there is no buffer
centered  yes or no
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

__all__ = ["Diverged", "Setting", "Space", "short"]

MOMENTUM_STEP = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """One member of the family to be tried.

    Attributes:
        lr: Learning rate.
        rule: The rule.
        number: The trial's number in its study.
        report: `report(step, value)` tells how the trial stands after `step` (1, 2, ...) and ends it if others stood
            better there: by raising optuna.TrialPruned, which the objective lets pass.
    """

    lr: float
    rule: Rule
    number: int = 0
    report: Callable[[int, float], None] = dataclasses.field(
        default=lambda step, value: None, compare=False, repr=False
    )

    def code(self, framework: str = "numpy") -> str:
        """Write it as a program that runs.

        Args:
            framework: "numpy" or "torch".

        Raises:
            InputError: Another one.

        Example:
            >>> print(Setting(lr=0.01, rule=Rule(rho=0.99)).code())
            import numpy as np
            import rmsprop
            <BLANKLINE>
            params = {"w": np.zeros(3)}  # yours
            rule = rmsprop.Rule(rho=0.99, eps=1e-08, eps_mode='inside')
            optimizer = rmsprop.RMSprop(params, lr=0.01, dialect=rule)
        """
        rule = f"rule = rmsprop.{self.rule!r}"
        if framework == "torch":
            lines = [
                "import torch", "import rmsprop", "from rmsprop.torch import RMSprop", "",
                "model = torch.nn.Linear(3, 1)  # yours", rule,
                f"optimizer = RMSprop(model.parameters(), lr={self.lr!r}, dialect=rule)",
            ]  # fmt: skip
        elif framework == "numpy":
            lines = [
                "import numpy as np", "import rmsprop", "",
                'params = {"w": np.zeros(3)}  # yours', rule,
                f"optimizer = rmsprop.RMSprop(params, lr={self.lr!r}, dialect=rule)",
            ]  # fmt: skip
        else:
            raise InputError(f"framework={framework!r}, expected 'numpy' or 'torch'")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Space:
    """The ranges searched; equal ends fix a number.

    Attributes:
        lr: Least and greatest learning rate, above 0.
        rho: Least and greatest decay, below 1.
        eps: Least and greatest eps, above 0, in the unit that `base.eps_mode` gives it.
        momentum: Least and greatest momentum below 1, multiples of 0.05 unless fixed; 0 is no buffer.
        centered: What is tried: one of the two, or both.
        base: Every other switch. Where momentum is 0, its `nesterov` is "none".

    Raises:
        InputError: Ends in the wrong order or out of the domain, or switches of `base` that contradict them.
        InputTypeError: `base` is no rule.

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
        domains = {"lr": (0.0, math.inf), "rho": (0.0, 1.0), "eps": (0.0, math.inf), "momentum": (0.0, 1.0)}
        for name, (least, most) in domains.items():
            # A logarithm has no zero; rho's is that of 1 - rho, and momentum has none.
            open_below = name in ("lr", "eps")
            ends = _pair(getattr(self, name))
            if ends is None or not (ends[0] > least if open_below else ends[0] >= least) or not ends[1] < most:
                raise InputError(
                    f"{name}={getattr(self, name)!r}, expected (least, greatest) "
                    f"in {'(' if open_below else '['}{least:g}, {most:g})"
                )
            object.__setattr__(self, name, ends)
        low, high = self.momentum
        if low != high and any(abs(end / MOMENTUM_STEP - round(end / MOMENTUM_STEP)) > 1e-9 for end in (low, high)):
            raise InputError(f"momentum={self.momentum!r}, expected multiples of {MOMENTUM_STEP:g}, or equal ends")
        tried = self.centered if isinstance(self.centered, (tuple, list)) else ()
        flags = tuple(bool(flag) for flag in tried if isinstance(flag, (bool, numbers.Integral)) and flag in (0, 1))
        if not flags or len(flags) != len(tried) or len(set(flags)) != len(flags):
            raise InputError(f"centered={self.centered!r}, expected (False,), (True,) or (False, True)")
        object.__setattr__(self, "centered", flags)
        if not isinstance(self.base, Rule):
            raise InputTypeError(f"base: {type(self.base).__name__}, expected a rmsprop.Rule")
        # Better refused now than by a trial in the middle of a search.
        for rho, eps, momentum, centered in itertools.product(self.rho, self.eps, self.momentum, flags):
            try:
                self._rule(rho=rho, eps=eps, momentum=momentum, centered=centered)
            except RuleError as error:
                raise InputError(f"base={self.base!r} cannot be searched at momentum {momentum:g}: {error}") from error

    @property
    def searched(self) -> tuple[str, ...]:
        """The names of the numbers that are not fixed."""
        ranges = {"lr": self.lr, "rho": self.rho, "eps": self.eps, "momentum": self.momentum}
        free = tuple(name for name, (low, high) in ranges.items() if low != high)
        return (*free, "centered") if len(self.centered) > 1 else free

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Draw the numbers of an Optuna trial; those with a logarithmic scale in 1 - rho are stored as "1 - rho"."""
        found: dict[str, Any] = {
            "lr": trial.suggest_float("lr", *self.lr, log=True),
            "1 - rho": trial.suggest_float("1 - rho", *(1.0 - end for end in reversed(self.rho)), log=True),
            "eps": trial.suggest_float("eps", *self.eps, log=True),
        }
        found["momentum"] = trial.suggest_float("momentum", *self.momentum, step=MOMENTUM_STEP)
        found["centered"] = trial.suggest_categorical("centered", list(self.centered))
        return found

    def setting(self, params: dict[str, Any], *, number: int = 0, report: Any = None) -> Setting:
        """Return what a trial's stored numbers mean, to four digits: what is tried is what can be written down.

        Example:
            >>> drawn = {"lr": 0.1, "1 - rho": 0.25, "eps": 1e-8, "momentum": 0.9, "centered": False}
            >>> Space().setting(drawn).rule
            Rule(rho=0.75, eps=1e-08, eps_mode='inside', buffer='unit', momentum=0.9)
        """
        rule = self._rule(
            rho=_within(round(1.0 - short(params["1 - rho"]), 10), self.rho),
            eps=_within(short(params["eps"]), self.eps),
            # 3 x 0.05 is 0.15000000000000002: a step's rounding is not part of what was asked for.
            momentum=_within(round(params["momentum"], 2), self.momentum),
            centered=bool(params["centered"]),
        )
        extra = {} if report is None else {"report": report}
        return Setting(lr=_within(short(params["lr"]), self.lr), rule=rule, number=number, **extra)

    def _rule(self, *, rho: float, eps: float, momentum: float, centered: bool) -> Rule:
        """Return the base rule with these numbers; without momentum there is neither a buffer nor Nesterov's step."""
        changes: dict[str, Any] = {"rho": rho, "eps": eps, "momentum": momentum, "centered": centered}
        if momentum:
            changes["buffer"] = self.base.buffer if self.base.buffer != "none" else "unit"
        elif self.base.weight_decay_mode == "in_buffer":
            changes["nesterov"] = "none"  # the weight decay needs the buffer, whatever the momentum
        else:
            changes |= {"buffer": "none", "nesterov": "none"}
        return self.base.replace(**changes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, by which two studies are told apart."""
        return {**dataclasses.asdict(self), "base": dataclasses.asdict(self.base)}


def _pair(value: Any) -> tuple[float, float] | None:
    """Return two finite numbers in ascending order; None of anything else."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        return None
    try:
        low, high = (math.nan if isinstance(end, (str, bytes)) else float(end) for end in value)
    except (TypeError, ValueError, OverflowError):
        return None
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low <= high else None


def _within(value: float, ends: tuple[float, float]) -> float:
    """Return the number, or the end of its range that rounding carried it past: what is fixed stays as it was given."""
    return min(max(value, ends[0]), ends[1])


class Diverged(Exception):
    """Raised by an objective that saw a loss which is no number; the text says where."""


def short(value: float) -> float:
    """Round to four significant digits.

    Example:
        >>> short(0.0123456)
        0.01235
    """
    return float(f"{value:.4g}")
