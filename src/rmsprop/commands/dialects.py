"""`rmsprop dialects`: the command. Cheap to import; everything heavy waits until it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmsprop.commands.options import Changes, takes

if TYPE_CHECKING:
    from rich.console import Console

    from rmsprop.dialects import Dialect

__all__ = ["dialects"]

_WIDE = 120
"""Characters from which the table of all dialects has room for every column."""

HELP = """Show what each framework, library and paper means by RMSprop.

Without a name: the table. With one: all that is known of it. With two: how they differ, in words and in the numbers of
a real run, and with --plot in a picture. The switches (--momentum 0.9) change both.

Examples:

\b
  rmsprop dialects
  rmsprop dialects keras
  rmsprop dialects torch tensorflow1
  rmsprop dialects torch tensorflow1 --momentum 0.9 --plot paths.png
  rmsprop dialects optax dqn --function rosenbrock --lr 0.003 --steps 1000
"""

FUNCTION, LR, STEPS = "ravine", 0.05, 200
"""Where two dialects are run: the curvatures differ twentyfold, and with this lr none of them leaves the picture."""


@takes(Changes)
def dialects(  # noqa: D103 (HELP is the docstring)
    names: Annotated[
        list[str] | None, typer.Argument(help="One or two names; aliases too.", metavar="[A [B]]", show_default=False)
    ] = None,
    function: Annotated[str, typer.Option(help="What both minimize.", metavar="F")] = FUNCTION,
    start: Annotated[str | None, typer.Option(help="Where they start. [the landscape's]", metavar="X[,Y]")] = None,
    lr: Annotated[float, typer.Option(help="Their learning rate.", metavar="LR")] = LR,
    steps: Annotated[int, typer.Option(help="How many steps.", min=1, max=1_000_000, metavar="N")] = STEPS,
    plot: Annotated[str | None, typer.Option(help="Write a picture of both paths.", metavar="FILE")] = None,
    theme: Annotated[str, typer.Option(help="light or dark.", metavar="THEME")] = "light",
    *,
    changes: Changes,
) -> None:
    from rmsprop import dialects as known
    from rmsprop.commands import words
    from rmsprop.errors import InputError

    console, chosen = words.console(), names or []
    if len(chosen) > 2:
        raise InputError(f"{len(chosen)} dialects, expected at most two; rmsprop compare F --with A,B,C draws more")
    if plot is not None and len(chosen) != 2:
        raise InputError("--plot draws the paths of two dialects, expected two names")
    if changes.changes and not chosen:
        raise InputError(f"--{next(iter(changes.changes)).replace('_', '-')} changes a dialect, expected a name")
    rows = [known.get(name) for name in chosen]
    if not rows:
        console.print(_table(known.all(), narrow=console.width < _WIDE))
        console.print(
            f"Evidence: {', '.join(f'{letter} {words.EVIDENCE[letter]}' for letter in 'VSC')}. "
            "All of one: rmsprop dialects NAME.",
            style="dim",
        )
    elif len(rows) == 1:
        _show(console, rows[0], changes.changes)
    else:
        _compare(
            console, (rows[0], rows[1]), changes.changes, function=function, start=start, lr=lr, steps=steps, plot=plot,
            theme=theme,
        )  # fmt: skip


dialects.__doc__ = HELP


def _table(rows: tuple[Dialect, ...], *, narrow: bool) -> Any:
    from rich import box
    from rich.table import Table

    from rmsprop.commands.words import columns

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0 if narrow else 1))
    heads = [head for head in columns(rows[0]) if not (narrow and head == "more")]
    for head in heads:
        right = head in ("rho", "eps", "lr")
        table.add_column(
            head, justify="right" if right else "left", no_wrap=head not in ("what", "more"), overflow="fold"
        )
    for row in rows:
        cells = columns(row)
        table.add_row(*(cells[head] for head in heads))
    return table


def _show(console: Console, row: Dialect, changes: dict[str, Any]) -> None:
    from rmsprop.commands import words

    console.print(f"{row.name}: {row.title}", style="bold", soft_wrap=True)
    console.print(
        words.facts(
            ("rule", words.describe(row.resolve(**changes))),
            ("in Python", f"rmsprop.dialect({row.name!r}{''.join(f', {k}={v!r}' for k, v in changes.items())})"),
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


def _compare(
    console: Console,
    rows: tuple[Dialect, Dialect],
    changes: dict[str, Any],
    *,
    function: str,
    start: str | None,
    lr: float,
    steps: int,
    plot: str | None,
    theme: str,
) -> None:
    from rich import box
    from rich.table import Table

    from rmsprop import dialects as known
    from rmsprop.commands import words
    from rmsprop.commands.options import Run
    from rmsprop.commands.problem import Setting, read
    from rmsprop.view.figure import SUFFIXES, check_path

    if plot is not None:
        check_path(plot, SUFFIXES)
    console.print(str(known.compare(*rows, **changes)), soft_wrap=True, markup=False)
    problem = read(function, Run(start=start, lr=lr, steps=steps))
    settings = [Setting(name="rmsprop", label=row.name, rule=row.resolve(**changes)) for row in rows]
    left, right = (problem.minimize(setting).trace for setting in settings)
    f = problem.function
    console.print(f"\nBoth on f({', '.join(f.variables)}) = {f} from {words.write_point(problem.start)}, lr {lr:g}:")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("step", *(row.name for row in rows), "apart", "of the way"):
        table.add_column(head, justify="right", no_wrap=True)
    distances, shares = words.apart(left, right)
    for t in words.moments(len(distances) - 1):
        points = [words.write_point(run.x[t], digits=4) for run in (left, right)]
        table.add_row(str(t), *points, f"{distances[t]:.3g}", f"{100 * shares[t]:.0f} %" if t else "")
    console.print(table)
    console.print(f"apart  {words.sparkline(distances)}", soft_wrap=True)
    furthest = int(shares.argmax())
    if rows[0] is rows[1] or not shares.max():
        console.print("Their paths are the same.")
    else:
        console.print(
            f"Furthest apart after step {furthest}, by {100 * shares[furthest]:.0f} % of the longer way so far; "
            f"f ends at {left.f[-1]:.3g} and {right.f[-1]:.3g}.",
            style="bold",
            soft_wrap=True,
        )
    if plot is not None:
        from rmsprop.view import plot as draw

        note = f"lr {lr:g}, {steps} steps"
        labels = [setting.label for setting in settings]
        draw([left, right], plot, function=problem.drawn, labels=labels, note=note, theme=theme)
        console.print(f"written  {plot}", soft_wrap=True, markup=False)
