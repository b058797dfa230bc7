"""`rmsprop dialects`. Cheap to import; everything heavy waits until it runs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmsprop.commands.options import Changes, Output, Run, takes

if TYPE_CHECKING:
    from rich.console import Console

    from rmsprop.commands.problem import Problem, Setting
    from rmsprop.dialects import Dialect

__all__ = ["dialects"]

_WIDE = 120
"""Characters from which the table of all dialects has room for every column."""
FUNCTION, LR, STEPS = "ravine", 0.05, 200
"""Where two dialects are run: the curvatures differ twentyfold, and with this lr none of them leaves the picture."""


@takes
def dialects(
    names: Annotated[
        list[str] | None, typer.Argument(help="One or two names; aliases too.", metavar="[A [B]]", show_default=False)
    ] = None,
    function: Annotated[str, typer.Option(help="What both minimize.", metavar="F")] = FUNCTION,
    *,
    changes: Changes,
    run: Run,
    output: Output,
) -> None:
    """Show what each framework, library and paper means by RMSprop.

    Without a name: the table. With one: everything known about it. With two: how they differ, in words and in the
    numbers of a real run (200 steps with lr 0.05 unless given), and with --plot in a picture. The switches
    (--momentum 0.9) change both.

    Examples:

    \b
      rmsprop dialects
      rmsprop dialects keras
      rmsprop dialects torch tensorflow1
      rmsprop dialects torch tensorflow1 --momentum 0.9 --plot paths.png
      rmsprop dialects optax dqn --function rosenbrock --lr 0.003 --steps 1000
    """  # noqa: D301, D412
    from rmsprop import dialects as known
    from rmsprop.commands import words
    from rmsprop.commands.problem import Setting, read_problem, write_files
    from rmsprop.errors import InputError

    console, switches = words.console(), changes.changes
    rows = [known.get(name) for name in names or ()]
    options = ["--function"] * (function != FUNCTION) + run.given + output.given
    if len(rows) > 2:
        raise InputError(f"{len(rows)} dialects, expected at most two; rmsprop compare F --with A,B,C draws more")
    if options and len(rows) != 2:
        raise InputError(f"{options[0]} is for the paths of two dialects, expected two names")
    if switches and not rows:
        raise InputError(f"--{next(iter(switches)).replace('_', '-')} changes a dialect, expected a name")
    if not rows:
        _print_all(console)
    elif len(rows) == 1:
        _print_row(console, rows[0], switches)
    else:
        output.check_paths()
        console.print(str(known.compare(*rows, **switches)), soft_wrap=True, markup=False)
        lr, steps = (LR if run.lr is None else run.lr), (STEPS if run.steps is None else run.steps)
        problem = read_problem(function, dataclasses.replace(run, lr=lr, steps=steps))
        settings = [Setting(name="rmsprop", label=row.name, rule=row.resolve(**switches)) for row in rows]
        traces = _compare_runs(console, problem, settings)
        write_files(problem, settings, traces, output)


def _print_all(console: Console) -> None:
    from rmsprop import dialects as known
    from rmsprop.commands import words

    is_narrow = console.width < _WIDE
    cells = [words.list_cells(row) for row in known.all()]
    heads = [head for head in cells[0] if not (is_narrow and head == "more")]
    rows = [[row[head] for head in heads] for row in cells]
    left = set(heads) - {"rho", "eps", "lr"}
    console.print(words.make_table(heads, rows, left=left, wrap=("what", "more"), padding=0 if is_narrow else 1))
    evidence = ", ".join(f"{letter} {words.EVIDENCE[letter]}" for letter in "VSC")
    console.print(f"Evidence: {evidence}. Everything about one: rmsprop dialects NAME.", style="dim")


def _print_row(console: Console, row: Dialect, switches: dict[str, Any]) -> None:
    from rmsprop.commands import words

    arguments = "".join(f", {switch}={value!r}" for switch, value in switches.items())
    console.print(f"{row.name}: {row.title}", style="bold", soft_wrap=True)
    console.print(
        words.make_facts(
            ("rule", words.describe(row.resolve(**switches))),
            ("in Python", f"rmsprop.dialect({row.name!r}{arguments})"),
            ("default lr", "none, it must be given" if row.lr is None else f"{row.lr:g}"),
            ("also called", ", ".join(row.aliases)),
            ("its words", ", ".join(f"{theirs} ({ours})" for ours, theirs in row.words.items() if ours != theirs)),
            ("offers", ", ".join(row.offers)),
            *(("bug there", bug) for bug in row.bugs),
            *(("differs here", text) for text in row.differs),
            *(("note", text) for text in row.notes),
            ("source", row.source),
            ("evidence", f"{row.evidence}: {words.EVIDENCE[row.evidence]}"),
        )
    )


def _compare_runs(console: Console, problem: Problem, settings: list[Setting]) -> list[Any]:
    """Run both, print how far apart they are, and return the traces."""
    from rmsprop.commands import words

    left, right = traces = [problem.minimize(setting).trace for setting in settings]
    f = problem.function
    start = f"from {words.write_point(problem.start)}, lr {problem.run.lr:g}"
    console.print(f"\nBoth on f({', '.join(f.variables)}) = {f} {start}:")
    distances, shares = words.measure_distance(left, right)
    rows = []
    for t in words.choose_steps(len(distances) - 1):
        points = [words.write_point(trace.x[t], digits=4) for trace in traces]
        rows.append((str(t), *points, f"{distances[t]:.3g}", f"{100 * shares[t]:.0f} %" if t else ""))
    heads = ("step", *(setting.label for setting in settings), "apart", "of the way")
    console.print(words.make_table(heads, rows))
    console.print(f"apart  {words.sparkline(distances)}", soft_wrap=True)
    step = int(shares.argmax())
    if not shares[step]:
        console.print("Their paths are the same.")
    else:
        console.print(
            f"Furthest apart after step {step}, by {100 * shares[step]:.0f} % of the longer way so far; "
            f"f ends at {left.f[-1]:.3g} and {right.f[-1]:.3g}.",
            style="bold",
            soft_wrap=True,
        )
    return traces
