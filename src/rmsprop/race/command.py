"""`rmsprop race`: the command. Cheap to import; everything heavy waits until it runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from rmsprop.race.folder import Folder
    from rmsprop.race.record import Results, Settings
    from rmsprop.race.task import Task

__all__ = ["race"]

INTERRUPTED = 130
"""What a shell expects of a program that Ctrl-C ended."""

HELP = """Train a real task with RMSprop and its rivals, and say who won.

Every optimizer gets the same initial weights, the same batches and the same budget for choosing its learning rate.
Writes report.html, curves.png and results.json. Ctrl-C keeps what is done; --resume goes on.

Examples:

\b
  rmsprop race digits
  rmsprop race digits --quick
  rmsprop race digits --with sgd,nesterov,adam,rmsprop --seeds 10
  rmsprop race digits --out runs/today --resume
  rmsprop race --list
"""


def race(  # noqa: D103 (typer reads the arguments by position, and HELP is the docstring)
    task: Annotated[
        str | None, typer.Argument(help="What to train; --list names them.", show_default=False, metavar="[TASK]")
    ] = None,
    rivals: Annotated[
        str | None,
        typer.Option(
            "--with", help="Optimizers, comma-separated. [sgd,momentum,adagrad,adam,rmsprop]", metavar="A,B,..."
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Reported trials per optimizer. [the task's own]", min=1, metavar="N")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs per trial. [the task's own]", min=1, metavar="N")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results. [runs/TASK]", metavar="DIR")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the race in that folder.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="A few epochs, seeds and rates: seconds.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="List the tasks and the optimizers.")] = False,
) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if listing:
        _list(console)
        return
    from rmsprop.errors import InputError
    from rmsprop.race import contestant
    from rmsprop.race import task as tasks
    from rmsprop.race.folder import Folder

    if task is None:
        raise InputError(f"which task? one of: {', '.join(tasks.names())}; for example: rmsprop race digits")
    chosen = tasks.get(task)
    wanted = None if rivals is None else contestant.chosen(rivals)
    folder = Folder(out or Path("runs") / chosen.name)
    earlier = folder.load() if resume else None
    if resume and earlier is None:
        console.print(f"Nothing to resume in {folder.path}: a new race begins.")
    settings = _settings(chosen, earlier, wanted=wanted, seeds=seeds, epochs=epochs, quick=quick, folder=folder)
    if not resume and (previous := folder.set_aside()):
        console.print(f"The earlier results are kept as {previous}.", style="dim", soft_wrap=True)
    _run(chosen, settings, earlier, folder, console)


race.__doc__ = HELP


def _settings(
    task: Task,
    earlier: Results | None,
    *,
    wanted: tuple[str, ...] | None,
    seeds: int | None,
    epochs: int | None,
    quick: bool,
    folder: Folder,
) -> Settings:
    """What is not said comes from the race that is resumed; optimizers and seeds may be added to it."""
    from rmsprop.race.record import Settings

    asked = Settings.of(task, rivals=wanted, seeds=seeds, epochs=epochs, quick=quick)
    if earlier is None:
        return asked
    old = earlier.settings
    kept = dataclasses.replace(
        old if not quick else asked,
        task=task.name,
        rivals=tuple(dict.fromkeys((*old.rivals, *(wanted or ())))),
        seeds=old.seeds if seeds is None else tuple(sorted({*old.seeds, *asked.seeds})),
        epochs=old.epochs if epochs is None else epochs,
    )
    kept.refuse_another_protocol(old, where=folder.path / folder.results_name)
    return kept


def _run(task: Task, settings: Settings, earlier: Results | None, folder: Folder, console: Console) -> None:
    from rmsprop.race.display import Display, final_table
    from rmsprop.race.report import document, write
    from rmsprop.race.run import finished
    from rmsprop.race.run import race as run_race
    from rmsprop.race.verdict import rows, sentence

    def save(results: Results) -> None:
        if folder.due():
            folder.write(folder.results_name, document(task, results))

    console.print(f"{task.title}: {task.model}.", style="dim")
    with Display(task, console) as display:
        results = run_race(task, settings, earlier=earlier, listener=display, save=save)
    complete = finished(task, results)
    files = write(task, results, folder)
    table = rows(task, results)
    if table:
        console.print(final_table(task, results, table))
    if not complete:
        console.print(
            f"Broken off: {len(results.trials)} finished trials are kept in {folder.path}; "
            "the same command with --resume goes on.",
            style="yellow",
            soft_wrap=True,
        )
    console.print(f"Report: {files[-1]}" if table else f"Results so far: {files[0]}", soft_wrap=True)
    console.print(sentence(table, task.metric), style="bold", soft_wrap=True)
    if not complete:
        raise typer.Exit(INTERRUPTED)


def _list(console: Console) -> None:
    from rmsprop.race import contestant
    from rmsprop.race import task as tasks

    console.print("Tasks", style="bold")
    for name in tasks.names():
        task = tasks.get(name)
        console.print(f"  {name:<12}{task.title}: {task.model}", soft_wrap=True)
        console.print(f"  {'':<12}{task.source}. {task.licence}", style="dim", soft_wrap=True)
    console.print("Optimizers", style="bold")
    for name in contestant.names():
        runner = contestant.get(name)
        mark = "" if name in contestant.DEFAULT else " (on request: --with)"
        console.print(f"  {name:<12}{runner.label}: {runner.settings}{mark}")
