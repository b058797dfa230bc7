"""What a command was asked to minimize, and the runs it asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rmsprop.errors import InputError

if TYPE_CHECKING:
    from rmsprop.commands.options import Run, Switches
    from rmsprop.expression import Expression
    from rmsprop.landscapes import Landscape
    from rmsprop.rule import Rule

__all__ = ["Problem", "Setting", "chosen", "read"]

LR, STEPS = 0.01, 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """A function with a start, a learning rate and a number of steps.

    Attributes:
        function: What to minimize.
        landscape: The named landscape that it is, or None.
        start: Where the runs begin.
        lr: The learning rate.
        steps: How many steps at most.
        noise: Standard deviation of the noise of each gradient, in units of grad.
        seed: Of the noise.
    """

    function: Expression
    landscape: Landscape | None
    start: tuple[float, ...]
    lr: float
    steps: int
    noise: float
    seed: int

    @property
    def drawn(self) -> Any:
        """What a picture draws: the landscape, which knows its domain and minima, or the function."""
        return self.landscape or self.function

    def minimize(self, setting: Setting, **options: Any) -> Any:
        """Run one optimizer; every one meets the same noise."""
        from rmsprop.minimize import minimize

        f, lr = self.function, self.lr if setting.lr is None else setting.lr
        one = {"optimizer": setting.name} if setting.rule is None else {"dialect": setting.rule}
        shared = {"lr": lr, "steps": self.steps, "trace": True, **one, **options}
        if not self.noise:
            return minimize(f, self.start, **shared)

        def draw() -> Iterator[Any]:
            import numpy as np

            random = np.random.default_rng(self.seed)
            while True:
                yield self.noise * random.standard_normal(len(self.start))

        return minimize(lambda x, _: f(x), self.start, jac=lambda x, noise: f.grad(x) + noise, batches=draw(), **shared)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """One optimizer of a comparison: RMSprop with a rule, or a baseline by name; `lr` None is the problem's."""

    name: str
    label: str
    rule: Rule | None = None
    lr: float | None = None


def read(text: str, run: Run, switches: Switches | None = None) -> Problem:
    """Read a typed function or a landscape's name, and fill in what was not said.

    A function that is one of the landscapes is that landscape, with its start, lr and steps; else lr is the dialect's
    own default where it has one, or 0.01, and the steps are 1000.

    Raises:
        ExpressionError: A function that does not parse, with the column.
        InputError: No start, or one of another number of coordinates.
    """
    from rmsprop import dialects, expression, landscapes
    from rmsprop.commands.options import numbers

    key = text.strip().lower().replace(" ", "-").replace("_", "-")
    landscape = landscapes.get(key) if key in landscapes.names() else None
    function = expression.parse(text) if landscape is None else landscape.function
    if landscape is None:
        same = (landscapes.get(name) for name in landscapes.names())
        landscape = next((item for item in same if str(item.function) == str(function)), None)
    if run.start is None and landscape is None:
        given = "x" if len(function.variables) == 1 else "x,y"
        raise InputError(f"start: none, expected where to begin: --start {given}")
    start = tuple(numbers(run.start, "--start")) if run.start is not None else landscape.start  # type: ignore[union-attr]
    if len(start) != len(function.variables):
        raise InputError(
            f"--start={run.start!r}: {len(start)} numbers, expected {len(function.variables)}, for a function of "
            f"{' and '.join(function.variables)}"
        )
    host = dialects.get(switches.dialect).lr if switches is not None and switches.dialect is not None else None
    default = landscape.lr if landscape is not None else LR if host is None else host
    usual = STEPS if landscape is None else landscape.steps
    return Problem(
        function=function,
        landscape=landscape,
        start=start,
        lr=default if run.lr is None else run.lr,
        steps=usual if run.steps is None else run.steps,
        noise=run.noise,
        seed=run.seed,
    )


def chosen(wanted: str) -> list[Setting]:
    """Read "adagrad,momentum:0.1,torch": baselines and dialects, each with a learning rate of its own after a colon.

    Raises:
        InputError: A name that is neither, or no name at all.
    """
    from rmsprop import baselines, dialects
    from rmsprop.commands.options import numbers
    from rmsprop.errors import RuleError
    from rmsprop.optimizers import TABLE

    aliases = {row.alias: row.name for row in TABLE.values()} | {"gd": "gradient_descent"}
    settings = []
    for part in filter(None, (piece.strip() for piece in wanted.split(","))):
        name, _, rate = part.partition(":")
        lr = numbers(rate, "--with")[0] if rate else None
        suffix = f" (lr {lr:g})" if lr is not None else ""
        try:
            baseline = baselines.get(aliases.get(name.lower(), name)).name
            settings.append(Setting(name=baseline, label=TABLE[baseline].label + suffix, lr=lr))
            continue
        except InputError:
            pass
        try:
            row = dialects.get(name)
        except RuleError:
            known = f"{', '.join(baselines.names())}; or a dialect: see rmsprop dialects"
            raise InputError(f"--with: unknown optimizer {name!r}{_near(name)}, known are {known}") from None
        settings.append(Setting(name="rmsprop", label=row.name + suffix, rule=row.resolve(), lr=lr))
    if not settings:
        raise InputError("--with names no optimizer, expected for example --with adagrad,momentum,adam")
    return settings


def _near(name: str) -> str:
    import difflib

    from rmsprop import baselines, dialects

    near = difflib.get_close_matches(name.lower(), [*baselines.names(), *dialects.names()], n=1)
    return f", did you mean {near[0]!r}?" if near else ""
