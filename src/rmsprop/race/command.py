"""`rmsprop race`: the command. Cheap to import; everything heavy waits until it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["race"]

ALL = "all"

HELP = """Benchmark RMSprop and its baselines on a real task, and report which differences are significant.

All optimizers get the same initial weights, the same batches and the same budget for tuning the learning rate.
Writes report.html, curves.png and results.json. Ctrl-C keeps the finished trials; --resume continues.

Examples:

\b
  rmsprop race digits
  rmsprop race digits --quick
  rmsprop race fashion --fetch --with sgd,momentum,adagrad,adam,adamw,rmsprop --seeds 5
  rmsprop race kjv --device cuda
  rmsprop race kjv --with adam,rmsprop --rates 0.001,0.002,0.004
  rmsprop race digits --out runs/today --resume
  rmsprop race all --quick
  rmsprop race --list
"""


def race(  # noqa: D103 (typer reads the arguments by position, and HELP is the docstring)
    task: Annotated[
        str | None,
        typer.Argument(help="What to train: a task of --list, A,B or all.", show_default=False, metavar="[TASK]"),
    ] = None,
    optimizers: Annotated[
        str | None,
        typer.Option(
            "--with", help="Optimizers, comma-separated. [sgd,momentum,adagrad,adam,rmsprop]", metavar="A,B,..."
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Reported trials per optimizer. [the task's own]", min=1, metavar="N")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs per trial. [the task's own]", min=1, metavar="N")] = None,
    rates: Annotated[
        str | None,
        typer.Option(help="Learning rates to choose from, comma-separated. [the task's own]", metavar="A,B,..."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the results. [runs/TASK; with --quick runs/TASK-quick]", metavar="DIR"),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Where torch tasks train, such as cuda. [cpu]", metavar="DEVICE")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads of torch tasks. [the task's own]", min=1, metavar="N")
    ] = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="Download missing data first.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the benchmark in that folder.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Little data, few epochs, seeds and rates, in its own folder.")
    ] = False,
    list_all: Annotated[bool, typer.Option("--list", help="List the tasks and the optimizers.")] = False,
) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if list_all:
        _print_list(console)
        return
    from rmsprop.errors import InputError
    from rmsprop.race import choice, conduct
    from rmsprop.race import task as tasks

    if task is None:
        raise InputError(f"which task? one of: {', '.join(tasks.names())}, or all; for example: rmsprop race digits")
    options = conduct.RaceOptions(
        optimizers=None if optimizers is None else choice.parse(optimizers),
        seeds=seeds,
        epochs=epochs,
        rates=None if rates is None else conduct.parse_rates(rates),
        device=device,
        threads=threads,
        quick=quick,
        resume=resume,
        fetch=fetch,
    )
    if task == ALL or "," in task:
        words = [word.strip() for word in task.split(",") if word.strip()]
        if not words:
            raise InputError(f"{task!r} names no task; one of: {', '.join(tasks.names())}, or all")
        # Unknown names raise also beside "all".
        names = tuple(dict.fromkeys(tasks.get(word).name for word in words if word != ALL))
        code = conduct.run_tasks(options, out, console, names=None if ALL in words else names)
    else:
        code = 0 if conduct.run_task(task, options, out, console).status == "complete" else conduct.INTERRUPTED
    if code:
        raise typer.Exit(code)


race.__doc__ = HELP


def _print_list(console: Console) -> None:
    from rmsprop.race import choice
    from rmsprop.race import task as tasks

    def print_entry(name: str, line: str, details: str) -> None:
        console.print(f"  {name:<15}{line}", soft_wrap=True)
        console.print(f"  {'':<15}{details}", style="dim", soft_wrap=True)

    console.print("Tasks", style="bold")
    for name in tasks.names():
        task = tasks.get(name)
        print_entry(name, f"{task.title}: {task.model}", f"{task.source}. {task.license}")
    console.print("Optimizers", style="bold")
    for name in choice.names():
        entry = choice.get(name)
        mark = "" if name in choice.DEFAULT else " (on request: --with)"
        settings = "; ".join(f"{framework}: {entry.settings(framework)}" for framework in entry.builds)
        print_entry(name, entry.label + mark, settings)
