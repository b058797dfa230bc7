"""What a command was asked to minimize, the optimizers it was asked to run, and the files it was asked to write."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rmsprop.errors import InputError, RuleError

if TYPE_CHECKING:
    from rmsprop.commands.options import Output, Run, Switches
    from rmsprop.expression import Expression
    from rmsprop.landscapes import Landscape
    from rmsprop.rule import Rule

__all__ = ["Problem", "Setting", "parse_settings", "read_problem", "scene_options", "write_files"]

LR, STEPS = 0.01, 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """An optimizer to run: RMSprop with a rule, or a baseline by name; `lr` None is the problem's."""

    name: str
    label: str
    rule: Rule | None = None
    lr: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """A function, the landscape that it is or None, and how to minimize it; `noise` is in units of the gradient."""

    function: Expression
    landscape: Landscape | None
    start: tuple[float, ...]
    lr: float
    steps: int
    noise: float
    seed: int

    @property
    def drawing(self) -> Any:
        """What a picture draws: the landscape, which knows its domain and minima, or the function."""
        return self.landscape or self.function

    def minimize(self, setting: Setting, **options: Any) -> Any:
        """Run one optimizer; all get the same noise."""
        from rmsprop.minimize import minimize

        f = self.function
        options["lr"] = self.lr if setting.lr is None else setting.lr
        options |= {"optimizer": setting.name} if setting.rule is None else {"dialect": setting.rule}
        if not self.noise:
            return minimize(f, self.start, steps=self.steps, trace=True, **options)
        options |= {"jac": lambda x, noise: f.grad(x) + noise, "batches": self._draw_noise()}
        return minimize(lambda x, _: f(x), self.start, steps=self.steps, trace=True, **options)

    def _draw_noise(self) -> Iterator[Any]:
        import numpy as np

        random = np.random.default_rng(self.seed)
        while True:
            yield self.noise * random.standard_normal(len(self.start))


def read_problem(text: str, run: Run, switches: Switches | None = None) -> Problem:
    """Read a typed function or a landscape's name, and fill in the options that were not given.

    A function that is one of the landscapes is that landscape, with its start, lr and steps; otherwise lr is the
    dialect's default or 0.01, and there are 1000 steps.

    Raises:
        ExpressionError: A function that does not parse, with the column.
        InputError: No start, or a start with another number of coordinates.
    """
    from rmsprop import dialects, expression, landscapes
    from rmsprop.commands.options import parse_numbers

    key = text.strip().lower().replace(" ", "-").replace("_", "-")
    function = landscapes.get(key).function if key in landscapes.names() else expression.parse(text)
    known = map(landscapes.get, landscapes.names())
    landscape = next((item for item in known if str(item.function) == str(function)), None)
    if run.start is not None:
        start = tuple(parse_numbers(run.start, "--start"))
    elif landscape is not None:
        start = landscape.start
    else:
        raise InputError(f"start: none, expected a starting point: --start {','.join(function.variables)}")
    if len(start) != len(function.variables):
        raise InputError(
            f"--start={run.start!r}: {len(start)} numbers, expected {len(function.variables)}, for a function of "
            f"{' and '.join(function.variables)}"
        )
    default_lr, default_steps = LR, STEPS
    if landscape is not None:
        default_lr, default_steps = landscape.lr, landscape.steps
    elif switches is not None and switches.dialect is not None:
        default_lr = dialects.get(switches.dialect).lr or LR
    return Problem(
        function=function,
        landscape=landscape,
        start=start,
        lr=default_lr if run.lr is None else run.lr,
        steps=default_steps if run.steps is None else run.steps,
        noise=run.noise,
        seed=run.seed,
    )


def parse_settings(text: str) -> list[Setting]:
    """Parse "adagrad,momentum:0.1,torch": baselines and dialects, each with an optional learning rate after a colon.

    Raises:
        InputError: A name that is neither, or no name at all.
    """
    from rmsprop import baselines, dialects
    from rmsprop.commands.options import parse_numbers
    from rmsprop.optimizers import TABLE

    aliases = {row.alias: row.name for row in TABLE.values()} | {"gd": "gradient_descent"}
    settings = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, rate = part.partition(":")
        lr = parse_numbers(rate, "--with")[0] if rate else None
        suffix = "" if lr is None else f" (lr {lr:g})"
        with contextlib.suppress(InputError):
            baseline = baselines.get(aliases.get(name.lower(), name)).name
            settings.append(Setting(name=baseline, label=TABLE[baseline].label + suffix, lr=lr))
            continue
        try:
            row = dialects.get(name)
        except RuleError:
            near = difflib.get_close_matches(name.lower(), [*baselines.names(), *dialects.names()], n=1)
            hint = f", did you mean {near[0]!r}?" if near else ","
            known = f"{', '.join(baselines.names())}; or a dialect: see rmsprop dialects"
            raise InputError(f"--with: unknown optimizer {name!r}{hint} known are {known}") from None
        settings.append(Setting(name="rmsprop", label=row.name + suffix, rule=row.resolve(), lr=lr))
    if not settings:
        raise InputError("--with names no optimizer, expected for example --with adagrad,momentum,adam")
    return settings


def scene_options(problem: Problem, settings: list[Setting], output: Output) -> dict[str, Any]:
    """Return what a picture of the runs is given, whether or not it is drawn."""
    from rmsprop.commands.options import parse_ranges

    domain = None if output.domain is None else parse_ranges(output.domain, "--domain")
    return {
        "function": problem.drawing,
        "labels": [setting.label for setting in settings],
        # The same text serves functions of one and of two variables.
        "domain": domain and domain[: len(problem.start)],
    }


def write_files(problem: Problem, settings: list[Setting], traces: list[Any], output: Output) -> None:
    """Write the pictures and tables that were asked for."""
    from pathlib import Path

    from rmsprop.commands.words import print_written
    from rmsprop.view import animate, plot

    options = {**scene_options(problem, settings, output), "theme": output.theme, "dpi": output.dpi}
    if output.size is not None:
        options["size"] = output.size.lower().split("x")
    if output.plot is not None:
        plot(traces, output.plot, note=f"lr {problem.lr:g}, {problem.steps} steps", **options)
        print_written(output.plot)
    if output.animate is not None:
        animate(traces, output.animate, seconds=output.seconds, fps=output.fps, **options)
        print_written(output.animate)
    if output.csv is not None:
        base = Path(output.csv)
        for setting, trace in zip(settings, traces):
            label = "-".join("".join(c if c.isalnum() else " " for c in setting.label.lower()).split())
            path = base if len(settings) == 1 else base.with_name(f"{base.stem}-{label}{base.suffix}")
            trace.to_csv(path)
            print_written(path)
