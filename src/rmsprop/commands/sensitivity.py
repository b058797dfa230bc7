"""`rmsprop sensitivity`: the command. Cheap to import; the task waits until it runs."""

from __future__ import annotations

import itertools
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from rmsprop.race.folder import Folder
    from rmsprop.race.task import Task
    from rmsprop.tune._points import Point, Sensitivity, Settings

__all__ = ["sensitivity"]

INTERRUPTED = 130
RESULTS, PICTURE = "sensitivity.json", "sensitivity.png"
HELP = """Measure how wide the range of learning rates is that work: decades of lr within 1 % of the best metric.

Every optimizer trains with four rates per decade over five decades, with the same seeds, weights and batches.
Writes sensitivity.png and sensitivity.json. Ctrl-C keeps what is done; --resume goes on, with the optimizers, seeds and
epochs of before and those that are named anew. Without --resume, earlier results are kept under another name.

Examples:

\b
  rmsprop sensitivity digits
  rmsprop sensitivity digits --quick
  rmsprop sensitivity digits --with sgd,adam,rmsprop --seeds 5
"""


def sensitivity(  # noqa: D103 (HELP is the docstring)
    task: Annotated[str, typer.Argument(help="What to train; rmsprop race --list names them.", metavar="TASK")],
    optimizers: Annotated[
        str | None,
        typer.Option(
            "--with", help="Optimizers, comma-separated. [sgd,momentum,adagrad,adam,rmsprop]", metavar="A,B,..."
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Trials per optimizer and rate. [3]", metavar="N")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs per trial. [the task's own]", metavar="N")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the results. [runs/TASK-sensitivity, runs/TASK-quick-sensitivity]", metavar="DIR"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the measurement in that folder.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Two rates per decade, two seeds, few epochs.")] = False,
    device: Annotated[str | None, typer.Option(help="A torch device. [the task's own]", metavar="D")] = None,
) -> None:
    from rmsprop.commands import words
    from rmsprop.race import choice
    from rmsprop.race import task as tasks
    from rmsprop.race.folder import Folder
    from rmsprop.tune._sensitivity import Sensitivity, Settings
    from rmsprop.tune._task import prepared

    console = words.console()
    chosen = prepared(tasks.get(task), quick=quick, device=device)
    wanted = None if optimizers is None else choice.parse(optimizers)
    folder = Folder(out or Path("runs") / f"{chosen.name}{'-quick' if quick else ''}-sensitivity")
    file, earlier = folder.path / RESULTS, None
    if resume and file.exists():
        earlier = Sensitivity.from_json(file.read_text(encoding="utf-8", errors="replace"), where=file)
        before = earlier.settings
        wanted = before.optimizers if wanted is None else wanted
        seeds, epochs = before.seeds if seeds is None else seeds, before.epochs if epochs is None else epochs
    elif resume:
        console.print(f"Nothing to resume in {folder.path}: a new measurement begins.")
    settings = Settings.of(chosen, optimizers=wanted, seeds=seeds, epochs=epochs, quick=quick)
    if earlier is not None:
        settings = settings.joined(earlier.settings)
    elif file.exists():
        kept = _aside(file)
        (folder.path / PICTURE).unlink(missing_ok=True)
        console.print(f"The earlier results are kept as {kept}.", style="dim", soft_wrap=True)
    _run(chosen, settings, earlier, folder, console)


sensitivity.__doc__ = HELP


def _aside(file: Path) -> Path:
    """Rename a file to the first name that is free: a second measurement begun by mistake takes nothing away."""
    names = (file.with_name(f"{file.stem}.previous-{number}{file.suffix}") for number in itertools.count(1))
    kept = next(name for name in names if not name.exists())
    os.replace(file, kept)
    return kept


def _run(task: Task, settings: Settings, earlier: Sensitivity | None, folder: Folder, console: Console) -> None:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from rmsprop.race import choice
    from rmsprop.tune._draw_sensitivity import sensitivity_png
    from rmsprop.tune._sensitivity import facts, measure

    low, high = settings.rate(settings.first), settings.rate(settings.last)
    console.print(f"{task.title}: {task.model}.", style="dim", soft_wrap=True)
    console.print(
        f"{len(settings.optimizers)} optimizers, lr {low:g} to {high:g}, {settings.per_decade} per decade, "
        f"{settings.seeds} seed{'s' if settings.seeds > 1 else ''}, {settings.epochs} epochs."
    )
    progress = Progress(
        TextColumn("[bold]measuring"), BarColumn(), MofNCompleteColumn(), TextColumn("trials"), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.description}"), console=console, transient=True,
        disable=not console.is_terminal,
    )  # fmt: skip
    bar = progress.add_task("")

    def listener(found: Sensitivity, point: Point | None, planned: int) -> None:
        done = len(found.points)
        if point is None:
            if done:
                console.print(f"Going on: {done} trials were done before.")
        else:
            text = f"{choice.get(point.optimizer).label}, lr {settings.rate(point.place):g}"
            progress.update(bar, description=text)
            if not console.is_terminal and done % 50 == 0:
                console.print(f"  {done} of {planned} trials")
            if folder.due():
                folder.write(RESULTS, found.to_json(facts(task, found)))
        progress.update(bar, total=planned, completed=done)

    with progress:
        found = measure(task, settings, earlier=earlier, listener=listener)
    files = [folder.write(RESULTS, found.to_json(facts(task, found)))]
    picture = sensitivity_png(task, found)
    if picture is not None:
        files.append(folder.write(PICTURE, picture))
    _tell(console, task, found)
    console.print(f"Files: {', '.join(map(str, files))}", soft_wrap=True)
    if not found.complete:
        console.print(
            f"Broken off: {len(found.points)} finished trials are kept; the same command with --resume goes on.",
            style="yellow",
            soft_wrap=True,
        )
        raise typer.Exit(INTERRUPTED)


def _tell(console: Console, task: Task, found: Sensitivity) -> None:
    from rich import box
    from rich.table import Table

    from rmsprop.tune._sensitivity import rows

    table = rows(task, found)
    if not table:
        return
    drawn = Table(
        title=f"Decades of lr within 1 % of the best validation {task.metric.name}",
        title_justify="left", title_style="bold", header_style="dim",
        box=box.SIMPLE_HEAD, pad_edge=False,
    )  # fmt: skip
    drawn.add_column("optimizer", no_wrap=True)
    lost = any(row.diverged for row in table)
    for heading in ("decades", "from lr", "to", "best", "at lr", *(["diverged"] if lost else [])):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for row in table:
        parts, best = row.plateau.parts, row.plateau.best
        drawn.add_row(
            row.label,
            row.text,
            f"{parts[0][0]:.3g}" if parts else "-",
            f"{parts[-1][1]:.3g}" if parts else "-",
            "-" if math.isnan(best) else task.metric.text(best),
            "-" if math.isnan(best) else f"{row.plateau.lr:g}",
            *([f"{row.diverged} of {row.trials}"] if lost else []),
        )
    console.print(drawn)
    if any(row.open for row in table):
        console.print("≥: the plateau reaches the end of the grid, also of the longer one; it is at least so wide.")
    if any(len(row.plateau.parts) > 1 for row in table):
        names = ", ".join(row.label for row in table if len(row.plateau.parts) > 1)
        console.print(f"In several parts, added up: {names}.")
