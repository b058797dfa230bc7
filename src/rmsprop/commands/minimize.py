"""`rmsprop minimize` and `rmsprop compare`: the commands. Cheap to import; everything heavy waits until they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmsprop.commands.options import Output, Run, Switches, takes

if TYPE_CHECKING:
    from rich.console import Console

    from rmsprop.commands.problem import Problem, Setting

__all__ = ["compare", "minimize"]

Function = Annotated[
    str,
    typer.Argument(help='A function of x, or of x and y: "x - x^3"; or a landscape: rosenbrock.', show_default=False),
]

_BARS = 20
"""Characters of a loss curve in a table: with it, a row fits into 80."""

MINIMIZE = """Minimize a typed function with RMSprop, and show the way.

A function that is one of the library's landscapes brings its start, learning rate and number of steps; else --start is
needed, lr is the dialect's default or 0.01, and there are 1000 steps.

Examples:

\b
  rmsprop minimize "x - x^3" --start -1 --lr 0.01 --steps 1000
  rmsprop minimize "0.1*x^2 + 2*y^2" --start -5,-2 --lr 0.4 --plot path.png
  rmsprop minimize rosenbrock --dialect tensorflow1 --momentum 0.9
  rmsprop minimize "x - x^3" --start -1 --lr 0.004 --steps 200 --animate x.gif
  rmsprop minimize "x^2 + y^2" --start 3,4 --noise 0.5 --seed 1 --csv run.csv
"""

COMPARE = """Run RMSprop and others from one start, and draw them together.

All have the same learning rate unless one is given after a colon. A name may be a baseline or a dialect.
--csv out.csv writes one file for each: out-adam.csv.

Examples:

\b
  rmsprop compare "0.1*x^2 + 2*y^2" --start -5,-2 --with adagrad,momentum,adam
  rmsprop compare "0.1*x^2 + 2*y^2" --start -5,-2 --with adagrad --theme dark --animate squares.gif
  rmsprop compare plateau --with sgd,momentum:0.01 --plot plateau.png
  rmsprop compare rosenbrock --with torch,tensorflow1,keras --plot dialects.png
"""


@takes(Switches, Run, Output)
def minimize(  # noqa: D103 (MINIMIZE is the docstring)
    function: Function,
    gtol: Annotated[
        float | None, typer.Option(help="Stop when no element of the gradient is larger.", metavar="G")
    ] = None,
    xtol: Annotated[float | None, typer.Option(help="Stop when a step moves no element further.", metavar="X")] = None,
    ftol: Annotated[float | None, typer.Option(help="Stop when f has not improved by more.", metavar="F")] = None,
    *,
    switches: Switches,
    run: Run,
    output: Output,
) -> None:
    from rmsprop.commands.problem import Setting, read

    output.files()
    problem = read(function, run, switches)
    rule = switches.rule()
    label = switches.dialect or "RMSprop"
    setting = Setting(name="rmsprop", label=label, rule=rule)
    result = problem.minimize(setting, gtol=gtol, xtol=xtol, ftol=ftol)
    _report(problem, setting, result, output)
    _write(problem, [setting], [result.trace], output)


@takes(Switches, Run, Output)
def compare(  # noqa: D103 (COMPARE is the docstring)
    function: Function,
    others: Annotated[
        str,
        typer.Option("--with", help="Baselines or dialects, comma-separated, each NAME or NAME:LR.", metavar="A,B,..."),
    ] = "adagrad,momentum,adam",
    *,
    switches: Switches,
    run: Run,
    output: Output,
) -> None:
    from rmsprop.commands.problem import Setting, chosen, read

    output.files()
    problem = read(function, run, switches)
    first = Setting(name="rmsprop", label=switches.dialect or "RMSprop", rule=switches.rule())
    settings = [first, *chosen(others)]
    results = [problem.minimize(setting) for setting in settings]
    _report_all(problem, settings, results, output)
    _write(problem, settings, [result.trace for result in results], output)


minimize.__doc__, compare.__doc__ = MINIMIZE, COMPARE


def _heading(console: Console, problem: Problem) -> None:
    from rmsprop.commands.words import write_point

    f = problem.function
    known = f"  ({problem.landscape.title})" if problem.landscape is not None else ""
    console.print(f"f({', '.join(f.variables)}) = {f}", style="bold", end="", soft_wrap=True)
    console.print(known, style="dim", soft_wrap=True)
    noise = f", gradient noise {problem.noise:g} (seed {problem.seed})" if problem.noise else ""
    steps = f"{problem.steps} step{'' if problem.steps == 1 else 's'}"
    console.print(f"from {write_point(problem.start)}, lr {problem.lr:g}, {steps}{noise}", soft_wrap=True)


def _report(problem: Problem, setting: Setting, result: Any, output: Output) -> None:
    from rmsprop.commands import words

    console, trace = words.console(), result.trace
    assert setting.rule is not None
    _heading(console, problem)
    console.print(f"{setting.label}: {words.describe(setting.rule)}", soft_wrap=True)
    console.print(words.table(trace, problem.function.variables))
    console.print(f"loss     {words.sparkline(trace.f)}", soft_wrap=True)
    console.print(f"end      {words.write_point(result.x)}, f = {result.fun:.8g}", soft_wrap=True, style="bold")
    if result.fun_best != result.fun:
        console.print(f"best     {words.write_point(result.x_best)}, f = {result.fun_best:.8g}", soft_wrap=True)
    console.print(f"stopped  {result.message}", soft_wrap=True)
    told = words.fate(trace, left=_left(problem, [setting], [trace], output)[0], maximize=setting.rule.maximize)
    if told:
        console.print(told, style="yellow", soft_wrap=True)


def _report_all(problem: Problem, settings: list[Setting], results: list[Any], output: Output) -> None:
    from rich import box
    from rich.table import Table

    from rmsprop.commands import words

    console = words.console()
    _heading(console, problem)
    console.print(f"{settings[0].label}: {words.describe(settings[0].rule)}", soft_wrap=True)  # type: ignore[arg-type]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("", "steps", "ends at", "f", "loss"):
        table.add_column(head, justify="left" if head in ("", "loss") else "right", no_wrap=bool(head))
    traces = [result.trace for result in results]
    every = [value for trace in traces for value in words.fit(trace.f, _BARS)]
    for setting, result in zip(settings, results):
        bars = words.sparkline(result.trace.f, _BARS, among=every)
        table.add_row(setting.label, str(result.nit), words.write_point(result.x, digits=4), f"{result.fun:.5g}", bars)
    console.print(table)
    for setting, result, left in zip(settings, results, _left(problem, settings, traces, output)):
        climbing = setting.rule is not None and setting.rule.maximize
        told = words.fate(result.trace, left=left, maximize=climbing)
        if told:
            reason = "" if result.success else f" {result.message}"
            console.print(f"{setting.label}: {told}{reason}", style="yellow", soft_wrap=True)


def _picture(problem: Problem, settings: list[Setting], output: Output) -> dict[str, Any]:
    from rmsprop.commands.options import pairs

    return {
        "function": problem.drawn,
        "labels": [setting.label for setting in settings],
        # One text serves functions of one and of two variables.
        "domain": None if output.domain is None else pairs(output.domain, "--domain")[: len(problem.start)],
    }


def _left(problem: Problem, settings: list[Setting], traces: list[Any], output: Output) -> list[int | None]:
    """When each run leaves the picture that would be drawn, whether or not it is."""
    from rmsprop.view import Scene

    return [track.exit_step for track in Scene.of(traces, **_picture(problem, settings, output)).tracks]


def _write(problem: Problem, settings: list[Setting], traces: list[Any], output: Output) -> None:
    from pathlib import Path

    from rmsprop.commands import words

    written = []
    options = {**_picture(problem, settings, output), "theme": output.theme, "dpi": output.dpi}
    if output.size is not None:
        options["size"] = output.size.lower().split("x")
    if output.plot is not None:
        from rmsprop.view import plot

        plot(traces, output.plot, note=f"lr {problem.lr:g}, {problem.steps} steps", **options)
        written.append(output.plot)
    if output.animate is not None:
        from rmsprop.view import animate

        animate(traces, output.animate, seconds=output.seconds, fps=output.fps, **options)
        written.append(output.animate)
    if output.csv is not None:
        base = Path(output.csv)
        for setting, trace in zip(settings, traces):
            word = "-".join("".join(c if c.isalnum() else " " for c in setting.label.lower()).split())
            target = base if len(settings) == 1 else base.with_name(f"{base.stem}-{word}{base.suffix}")
            trace.to_csv(target)
            written.append(str(target))
    for file in written:
        words.console().print(f"written  {file}", soft_wrap=True, markup=False)
