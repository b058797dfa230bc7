"""What a command was asked to minimize, the optimizers it was asked to run, and the files it was asked to write."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
from typing import TYPE_CHECKING, Any

from rmsprop.errors import InputError, RuleError

if TYPE_CHECKING:
    from rmsprop.commands.options import Output, Run
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
    """A function, the landscape that it is or None, where to start, and the run with its defaults filled in."""

    function: Expression
    landscape: Landscape | None
    start: tuple[float, ...]
    run: Any

    def minimize(self, setting: Setting, **options: Any) -> Any:
        """Run one optimizer; all get the same noise."""
        import numpy as np

        from rmsprop.minimize import minimize

        f, run = self.function, self.run
        options |= {"lr": run.lr if setting.lr is None else setting.lr, "steps": run.steps, "trace": True}
        options |= {"optimizer": setting.name} if setting.rule is None else {"dialect": setting.rule}
        if not run.noise:
            return minimize(f, self.start, **options)
        noise = np.random.default_rng(run.seed).standard_normal((run.steps + 1, len(self.start)))
        options |= {"jac": lambda x, noise: f.grad(x) + run.noise * noise, "batches": noise}
        return minimize(lambda x, _: f(x), self.start, **options)


def read_problem(text: str, run: Run, dialect: str | None = None) -> Problem:
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
    landscape = next(
        (row for row in map(landscapes.get, landscapes.names()) if str(row.function) == str(function)), None
    )
    start: tuple[float, ...] = () if landscape is None else landscape.start
    if run.start is not None:
        start = tuple(parse_numbers(run.start, "--start"))
    elif landscape is None:
        raise InputError(f"start: none, expected a starting point: --start {','.join(function.variables)}")
    if len(start) != len(function.variables):
        expected = f"{len(function.variables)} numbers for a function of {' and '.join(function.variables)}"
        raise InputError(f"--start: {run.start!r}, expected {expected}")
    lr, steps = (LR, STEPS) if landscape is None else (landscape.lr, landscape.steps)
    if landscape is None and dialect is not None:
        lr = dialects.get(dialect).lr or LR
    run = dataclasses.replace(run, lr=lr if run.lr is None else run.lr, steps=steps if run.steps is None else run.steps)
    return Problem(function=function, landscape=landscape, start=start, run=run)


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
    from rmsprop.commands.options import parse_numbers

    domain = None
    if output.domain is not None:
        ranges = [parse_numbers(part, "--domain", separator=":", count=2) for part in output.domain.split(",")]
        # The same text serves functions of one and of two variables.
        domain = ranges[: len(problem.start)]
    # The landscape knows its domain and minima.
    function = problem.landscape or problem.function
    return {"function": function, "labels": [setting.label for setting in settings], "domain": domain}


def write_files(problem: Problem, settings: list[Setting], traces: list[Any], output: Output) -> None:
    """Write the pictures and tables that were asked for."""
    from pathlib import Path

    from rmsprop.commands.words import print_written
    from rmsprop.view import animate, plot

    options = {**scene_options(problem, settings, output), "theme": output.theme, "dpi": output.dpi}
    if output.size is not None:
        options["size"] = output.size.lower().split("x")
    if output.plot is not None:
        plot(traces, output.plot, note=f"lr {problem.run.lr:g}, {problem.run.steps} steps", **options)
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
