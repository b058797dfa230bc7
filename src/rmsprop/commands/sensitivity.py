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
    from rmsprop.tune._sensitivity import Point, Sensitivity, Settings

__all__ = ["sensitivity"]

INTERRUPTED = 130
RESULTS, PICTURE = "sensitivity.json", "sensitivity.png"
HELP = """Measure how wide the range of useful learning rates is: decades of lr within 1 % of the best metric.

Every optimizer trains with four rates per decade over five decades, with the same seeds, weights and batches. Writes
sensitivity.png and sensitivity.json. Ctrl-C keeps the finished trials; --resume continues with the earlier optimizers,
seeds and epochs, and adds optimizers that are named. Without --resume, earlier results are kept under another name.

Examples:

\b
  rmsprop sensitivity digits
  rmsprop sensitivity digits --quick
  rmsprop sensitivity digits --with sgd,adam,rmsprop --seeds 5
"""


def sensitivity(  # noqa: D103 (HELP is the docstring)
    task: Annotated[str, typer.Argument(help="What to train; rmsprop race --list names the tasks.", metavar="TASK")],
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
    resume: Annotated[bool, typer.Option("--resume", help="Continue the measurement in that folder.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Two rates per decade, two seeds, few epochs.")] = False,
    device: Annotated[str | None, typer.Option(help="A torch device. [the task's own]", metavar="D")] = None,
) -> None:
    from rmsprop._files import lock_folder
    from rmsprop.commands import words
    from rmsprop.race import choice
    from rmsprop.race import task as tasks
    from rmsprop.race.folder import Folder
    from rmsprop.tune._sensitivity import Sensitivity, Settings
    from rmsprop.tune._task import prepare_task

    console = words.console()
    chosen = prepare_task(tasks.get(task), quick=quick, device=device)
    names = None if optimizers is None else choice.parse(optimizers)
    folder = Folder(out or Path("runs") / f"{chosen.name}{'-quick' if quick else ''}-sensitivity")
    with lock_folder(folder.path):
        file, earlier = folder.path / RESULTS, None
        if resume and file.exists():
            earlier = Sensitivity.from_json(file.read_text(encoding="utf-8", errors="replace"), where=file)
            names = names or earlier.settings.optimizers
            seeds = earlier.settings.seeds if seeds is None else seeds
            epochs = earlier.settings.epochs if epochs is None else epochs
        elif resume:
            console.print(f"Nothing to resume in {folder.path}: a new measurement starts.")
        settings = Settings.of(chosen, optimizers=names, seeds=seeds, epochs=epochs, quick=quick)
        if earlier is not None:
            settings = settings.extend(earlier.settings)
        elif file.exists():
            # A measurement that was started again by mistake must not overwrite the first one.
            paths = (file.with_name(f"{file.stem}.previous-{number}.json") for number in itertools.count(1))
            previous = next(path for path in paths if not path.exists())
            os.replace(file, previous)
            (folder.path / PICTURE).unlink(missing_ok=True)
            console.print(f"The earlier results are kept as {previous}.", style="dim", soft_wrap=True)
        _run(chosen, settings, earlier, folder, console)


sensitivity.__doc__ = HELP


def _run(task: Task, settings: Settings, earlier: Sensitivity | None, folder: Folder, console: Console) -> None:
    from rich import progress

    from rmsprop.race import choice
    from rmsprop.tune._draw import draw_sensitivity
    from rmsprop.tune._sensitivity import measure

    console.print(f"{task.title}: {task.model}.", style="dim", soft_wrap=True)
    console.print(
        f"{len(settings.optimizers)} optimizers, lr {settings.get_rate(settings.first):g} to "
        f"{settings.get_rate(settings.last):g}, {settings.per_decade} per decade, seeds: {settings.seeds}, "
        f"epochs: {settings.epochs}."
    )
    display = progress.Progress(
        progress.TextColumn("[bold]measuring"), progress.BarColumn(), progress.MofNCompleteColumn(),
        progress.TextColumn("trials"), progress.TimeElapsedColumn(), progress.TextColumn("left"),
        progress.TimeRemainingColumn(), progress.TextColumn("{task.description}"), console=console, transient=True,
        disable=not console.is_terminal,
    )  # fmt: skip
    bar = display.add_task("")

    def listener(result: Sensitivity, point: Point | None, planned: int) -> None:
        done, text = len(result.points), ""
        if point is not None:
            text = f"{choice.get(point.optimizer).label}, lr {settings.get_rate(point.place):g}"
            if not console.is_terminal and done % 50 == 0:
                console.print(f"  {done} of {planned} trials")
            if folder.is_save_due():
                folder.write(RESULTS, result.to_json())
        elif done:
            console.print(f"Continuing after {done} trials.")
        display.update(bar, total=planned, completed=done, description=text)

    with display:
        result = measure(task, settings, earlier=earlier, listener=listener)
    files = [folder.write(RESULTS, result.to_json())]
    picture = draw_sensitivity(task, result)
    if picture is not None:
        files.append(folder.write(PICTURE, picture))
        _print_table(console, task, result)
    console.print(f"Files: {', '.join(map(str, files))}", soft_wrap=True)
    if not result.complete:
        text = f"Interrupted: {len(result.points)} finished trials are kept; the same command with --resume continues."
        console.print(text, style="yellow", soft_wrap=True)
        raise typer.Exit(INTERRUPTED)


def _print_table(console: Console, task: Task, result: Sensitivity) -> None:
    from rich import box
    from rich.table import Table

    rows = result.list_rows()
    table = Table(
        title=f"Decades of lr within 1 % of the best validation {task.metric.name}",
        title_justify="left", title_style="bold", header_style="dim", box=box.SIMPLE_HEAD, pad_edge=False,
    )  # fmt: skip
    for heading in ("optimizer", "decades", "from lr", "to", "best", "at lr", "diverged"):
        table.add_column(heading, justify="left" if heading == "optimizer" else "right", no_wrap=True)
    for row in rows:
        parts, best = row.plateau.parts, row.plateau.best
        table.add_row(
            row.label,
            row.text,
            f"{parts[0][0]:.3g}" if parts else "-",
            f"{parts[-1][1]:.3g}" if parts else "-",
            "-" if math.isnan(best) else task.metric.text(best),
            "-" if math.isnan(best) else f"{row.plateau.lr:g}",
            f"{row.diverged} of {row.trials}",
        )
    console.print(table)
    if any(row.is_lower_bound for row in rows):
        console.print("≥: the plateau reaches the end of the extended grid, so its width is a lower bound.")
    if names := ", ".join(row.label for row in rows if len(row.plateau.parts) > 1):
        console.print(f"In several parts, added up: {names}.")
