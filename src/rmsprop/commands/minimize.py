"""`rmsprop minimize` and `rmsprop compare`. Cheap to import; everything heavy waits until they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmsprop.commands.options import Output, Run, Switches, takes

if TYPE_CHECKING:
    from rmsprop.commands.problem import Problem, Setting

__all__ = ["compare", "minimize"]

Function = Annotated[
    str,
    typer.Argument(help='A function of x, or of x and y: "x - x^3"; or a landscape: rosenbrock.', show_default=False),
]

_BARS = 20
"""Characters of a loss curve in a table: with it, a row fits into 80."""


@takes
def minimize(
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
    """Minimize a typed function with RMSprop, and show the path.

    A function that is one of the library's landscapes brings its start, learning rate and number of steps; otherwise
    --start is needed, lr is the dialect's default or 0.01, and there are 1000 steps.

    Examples:

    \b
      rmsprop minimize "x - x^3" --start -1 --lr 0.01 --steps 1000
      rmsprop minimize "0.1*x^2 + 2*y^2" --start -5,-2 --lr 0.4 --plot path.png
      rmsprop minimize rosenbrock --dialect tensorflow1 --momentum 0.9
      rmsprop minimize "x - x^3" --start -1 --lr 0.004 --steps 200 --animate x.gif
      rmsprop minimize "x^2 + y^2" --start 3,4 --noise 0.5 --seed 1 --csv run.csv
    """  # noqa: D301, D412
    from rmsprop.commands import words
    from rmsprop.commands.problem import write_files

    problem, setting = _prepare(function, switches, run, output)
    result = problem.minimize(setting, gtol=gtol, xtol=xtol, ftol=ftol)
    trace, variables, print_line = result.trace, problem.function.variables, words.console().print
    heads = ["step", *variables, "f", *(f"df/d{v}" for v in variables), *(f"effective lr {v}" for v in variables)]
    rows = []
    for t in words.choose_steps(trace.steps):
        slopes = [*trace.grad[t], *trace.effective_lr[t]] if t < trace.steps else []
        rows.append([str(t), *(f"{v:.5g}" for v in (*trace.x[t], trace.f[t])), *(f"{v:.3g}" for v in slopes)])
    print_line(words.make_table(heads, rows))
    print_line(f"loss     {words.sparkline(trace.f)}", soft_wrap=True)
    print_line(f"end      {words.write_point(result.x)}, f = {result.fun:.8g}", soft_wrap=True, style="bold")
    if result.fun_best != result.fun:
        print_line(f"best     {words.write_point(result.x_best)}, f = {result.fun_best:.8g}", soft_wrap=True)
    print_line(f"stopped  {result.message}", soft_wrap=True)
    ends = _describe_ends(problem, [setting], [trace], output)
    if ends[0]:
        print_line(ends[0], style="yellow", soft_wrap=True)
    write_files(problem, [setting], [trace], output)


@takes
def compare(
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
    """Run RMSprop and others from one start, and draw them together.

    All have the same learning rate unless one is given after a colon. A name may be a baseline or a dialect.
    --csv out.csv writes a file for each: out-adam.csv.

    Examples:

    \b
      rmsprop compare "0.1*x^2 + 2*y^2" --start -5,-2 --with adagrad,momentum,adam
      rmsprop compare "0.1*x^2 + 2*y^2" --start -5,-2 --with adagrad --theme dark --animate squares.gif
      rmsprop compare plateau --with sgd,momentum:0.01 --plot plateau.png
      rmsprop compare rosenbrock --with torch,tensorflow1,keras --plot dialects.png
    """  # noqa: D301, D412
    from rmsprop.commands import words
    from rmsprop.commands.problem import parse_settings, write_files

    others_parsed = parse_settings(others)
    problem, first = _prepare(function, switches, run, output)
    settings = [first, *others_parsed]
    results = [problem.minimize(setting) for setting in settings]
    traces = [result.trace for result in results]
    shown = [value for trace in traces for value in words.sample_evenly(trace.f, _BARS)]
    rows = []
    for setting, result in zip(settings, results):
        bars = words.sparkline(result.trace.f, _BARS, among=shown)
        point = words.write_point(result.x, digits=4)
        rows.append((setting.label, str(result.nit), point, f"{result.fun:.5g}", bars))
    console = words.console()
    console.print(words.make_table(("", "steps", "ends at", "f", "loss"), rows, left=("", "loss"), wrap=("",)))
    for setting, result, end in zip(settings, results, _describe_ends(problem, settings, traces, output)):
        if end:
            reason = "" if result.success else f" {result.message}"
            console.print(f"{setting.label}: {end}{reason}", style="yellow", soft_wrap=True)
    write_files(problem, settings, traces, output)


def _prepare(function: str, switches: Switches, run: Run, output: Output) -> tuple[Problem, Setting]:
    """Check the options, and print what will be run."""
    from rmsprop.commands import words
    from rmsprop.commands.problem import Setting, read_problem

    output.check_paths()
    problem = read_problem(function, run, switches.dialect)
    rule = switches.rule()
    setting = Setting(name="rmsprop", label=switches.dialect or "RMSprop", rule=rule)
    console, f = words.console(), problem.function
    title = f"  ({problem.landscape.title})" if problem.landscape is not None else ""
    run = problem.run
    noise = f", gradient noise {run.noise:g} (seed {run.seed})" if run.noise else ""
    steps = f"{run.steps} step{'' if run.steps == 1 else 's'}"
    console.print(f"f({', '.join(f.variables)}) = {f}", style="bold", end="", soft_wrap=True)
    console.print(title, style="dim", soft_wrap=True)
    console.print(f"from {words.write_point(problem.start)}, lr {run.lr:g}, {steps}{noise}", soft_wrap=True)
    console.print(f"{setting.label}: {words.describe(rule)}", soft_wrap=True)
    return problem, setting


def _describe_ends(problem: Problem, settings: list[Setting], traces: list[Any], output: Output) -> list[str]:
    """Return a sentence for each run that ended badly, also outside of the picture that would be drawn."""
    from rmsprop.commands.problem import scene_options
    from rmsprop.commands.words import describe_end
    from rmsprop.view import Scene

    tracks = Scene.of(traces, **scene_options(problem, settings, output)).tracks
    return [
        describe_end(trace, exit_step=track.exit_step, maximize=setting.rule is not None and setting.rule.maximize)
        for setting, trace, track in zip(settings, traces, tracks)
    ]
