"""What is searched: the numbers of one RMSprop, each with its scale.

lr        log-uniform
rho       log-uniform in 1 - rho: from 0.9 to 0.99 is as far as from 0.99 to 0.999, as the memory grows tenfold
eps       log-uniform, in the unit that the base rule's eps_mode gives it
momentum  in steps of 0.05; at 0 there is no buffer
centered  yes or no
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from rmsprop.errors import InputError
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

        Example:
            >>> print(Setting(lr=0.01, rule=Rule(rho=0.99)).code())
            import numpy as np
            import rmsprop
            <BLANKLINE>
            params = {"w": np.zeros(3)}  # yours
            rule = rmsprop.Rule(rho=0.99, eps=1e-08, eps_mode='inside')
            optimizer = rmsprop.RMSprop(params, lr=0.01, rule=rule)
        """
        rule = f"rule = rmsprop.{self.rule!r}"
        if framework == "torch":
            lines = [
                "import torch", "import rmsprop", "from rmsprop.torch import RMSprop", "",
                "model = torch.nn.Linear(3, 1)  # yours", rule,
                f"optimizer = RMSprop(model.parameters(), lr={self.lr!r}, dialect=rule)",
            ]  # fmt: skip
        else:
            lines = [
                "import numpy as np", "import rmsprop", "",
                'params = {"w": np.zeros(3)}  # yours', rule,
                f"optimizer = rmsprop.RMSprop(params, lr={self.lr!r}, rule=rule)",
            ]  # fmt: skip
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Space:
    """The ranges searched; equal ends fix a number.

    Attributes:
        lr: Least and greatest learning rate, above 0.
        rho: Least and greatest decay, below 1.
        eps: Least and greatest eps, above 0, in the unit that `base.eps_mode` gives it.
        momentum: Least and greatest momentum, multiples of 0.05 below 1; 0 is no buffer.
        centered: What is tried: one of the two, or both.
        base: Every other switch.

    Raises:
        InputError: Ends in the wrong order or out of the domain.

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
            ends = tuple(map(float, getattr(self, name)))
            # A logarithm has no zero; rho's is that of 1 - rho, and momentum has none.
            open_below = name in ("lr", "eps")
            if (
                len(ends) != 2
                or not all(map(math.isfinite, ends))
                or not (ends[0] > least if open_below else ends[0] >= least)
                or not ends[0] <= ends[1] < most
            ):
                raise InputError(
                    f"{name}={getattr(self, name)!r}, expected (least, greatest) "
                    f"in {'(' if open_below else '['}{least:g}, {most:g})"
                )
            object.__setattr__(self, name, ends)
        if any(abs(end / MOMENTUM_STEP - round(end / MOMENTUM_STEP)) > 1e-9 for end in self.momentum):
            raise InputError(f"momentum={self.momentum!r}, expected multiples of {MOMENTUM_STEP:g}")
        if not self.centered or len(set(self.centered)) != len(self.centered):
            raise InputError(f"centered={self.centered!r}, expected (False,), (True,) or (False, True)")

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
        """Return what the stored numbers of a trial mean, to four digits: what is tried is what can be written down.

        Example:
            >>> drawn = {"lr": 0.1, "1 - rho": 0.25, "eps": 1e-8, "momentum": 0.9, "centered": False}
            >>> Space().setting(drawn).rule
            Rule(rho=0.75, eps=1e-08, eps_mode='inside', buffer='unit', momentum=0.9)
        """
        # 3 x 0.05 is 0.15000000000000002: a step's rounding is not part of what was asked for.
        momentum = round(params["momentum"], 2)
        buffer = self.base.buffer if self.base.buffer != "none" else "unit"
        rule = self.base.replace(
            rho=round(1.0 - short(params["1 - rho"]), 10),
            eps=short(params["eps"]),
            momentum=momentum,
            buffer=buffer if momentum else "none",
            centered=bool(params["centered"]),
        )
        extra = {} if report is None else {"report": report}
        return Setting(lr=short(params["lr"]), rule=rule, number=number, **extra)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, by which two studies are told apart."""
        return {**dataclasses.asdict(self), "base": dataclasses.asdict(self.base)}


class Diverged(Exception):
    """Raised by an objective that saw a loss which is no number; the text says where."""


def short(value: float) -> float:
    """Round to four significant digits.

    Example:
        >>> short(0.0123456)
        0.01235
    """
    return float(f"{value:.4g}")
