"""Run benchmarks for the command line: one task, or several in turn with an overview at the end."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rmsprop._files import lock_folder
from rmsprop.errors import InputError, MissingDependency, RMSpropError
from rmsprop.race import choice, fetch
from rmsprop.race import task as tasks
from rmsprop.race.display import Display, make_final_table, make_overview
from rmsprop.race.folder import Folder
from rmsprop.race.record import Outcome, Results, Settings
from rmsprop.race.report import ResultsWriter
from rmsprop.race.run import is_complete, race
from rmsprop.race.task import Task
from rmsprop.race.verdict import describe_verdict, make_table

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["RaceOptions", "parse_rates", "run_task", "run_tasks"]

INTERRUPTED = 130
"""The exit code that shells expect after Ctrl-C."""
FAILED = 1
QUICK_OPTIMIZERS = ("sgd", "adam", "rmsprop")
"""For quick benchmarks of several tasks, if --with is not given: few, as these are a smoke test."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RaceOptions:
    """Options of the command line; None means the task's own value, or that of the benchmark that is resumed."""

    optimizers: tuple[str, ...] | None = None
    seeds: int | None = None
    epochs: int | None = None
    rates: tuple[float, ...] | None = None
    device: str | None = None
    threads: int | None = None
    quick: bool = False
    resume: bool = False
    fetch: bool = False


def parse_rates(text: str) -> tuple[float, ...]:
    """Read a list such as "0.01,0.001": learning rates above 0, ascending, without duplicates."""
    rates = set()
    for word in filter(None, map(str.strip, text.split(","))):
        try:
            rate = float(word)
        except ValueError:
            rate = math.nan
        if not 0.0 < rate < math.inf:
            raise InputError(f"--rates: {word!r}, expected finite numbers above 0 such as 0.001,0.01")
        rates.add(rate)
    if not rates:
        raise InputError("--rates names no learning rate, expected numbers such as 0.001,0.01")
    return tuple(sorted(rates))


def run_task(name: str, options: RaceOptions, out: Path | None, console: Console) -> Outcome:
    """Run the benchmark of a task, write its folder, and print the table and the verdict.

    Raises:
        RMSpropError: An option or the folder is unusable, another process writes there, the data are missing, or the
            report cannot be written.
    """

    def log(line: str) -> None:
        console.print(line, style="dim", markup=False, soft_wrap=True)

    task = tasks.get(name)
    for optimizer in options.optimizers or ():
        choice.get(optimizer).build(task.framework)
    for source in task.needs if options.fetch else ():
        fetch.fetch(source, say=log)
    folder = Folder(out or Path("runs") / _name_folder(name, options))
    with lock_folder(folder.path):
        return _run_task(task, options, folder, console, log)


def _run_task(
    task: Task, options: RaceOptions, folder: Folder, console: Console, log: Callable[[str], None]
) -> Outcome:
    earlier = folder.load() if options.resume else None
    if options.resume and earlier is None:
        console.print(f"Nothing to resume in {folder.path}: a new benchmark begins.")
    task, settings = _choose_settings(task, options, earlier, folder)
    writer = ResultsWriter(task, folder, resumed=None if earlier is None else len(earlier.trials), log=log)
    console.print(f"{task.title}: {task.model}.", style="dim")
    with Display(task, console) as display:
        results = race(task, settings, earlier=earlier, listener=display, save=writer.save)
    files, failure = [], None
    try:
        files = writer.finish(results)
    except RMSpropError as error:
        # Raised at the end: the table and the verdict are printed before.
        failure = error
    complete, table = is_complete(task, results), make_table(task, results)
    if table:
        console.print(make_final_table(task, results, table))
    if results.sample:
        console.print("What RMSprop's model generates:", style="bold")
        console.print(results.sample, markup=False, soft_wrap=True)
    if not complete and failure is None:
        line = f"Interrupted before a trial was finished: {folder.path} is unchanged."
        if files:
            line = f"Interrupted: {len(results.trials)} finished trials are in {folder.path}; add --resume to continue."
        console.print(line, style="yellow", soft_wrap=True)
    if files:
        console.print(f"Report: {files[-1]}" if table else f"Results so far: {files[0]}", soft_wrap=True)
    console.print(describe_verdict(table, task.metric), style="bold", soft_wrap=True)
    if failure is not None:
        raise failure
    return Outcome(task=task, results=results, status="complete" if complete else "interrupted")


def run_tasks(options: RaceOptions, out: Path | None, console: Console, *, names: tuple[str, ...] | None = None) -> int:
    """Run the benchmarks of several tasks in turn, each in its own folder, and print an overview.

    A task whose data or packages are missing is skipped; if a task fails, the reason is printed and the others run.
    Ctrl-C ends all. `names` is None for all tasks, `out` is the folder of their folders.

    Returns:
        The exit code: 0 if all tasks whose data are here were run, 130 after Ctrl-C; 1 if a task failed, if none could
        be run, or if data are missing in spite of `--fetch`.
    """
    outcomes: list[Outcome] = []
    names = tasks.names() if names is None else names
    for place, name in enumerate(names, 1):
        console.print(f"\n[{place} of {len(names)}] {name}", style="bold", markup=False)
        outcome = _try_task(name, options, (out or Path("runs")) / _name_folder(name, options), console)
        outcomes.append(outcome)
        if outcome.reason:
            console.print(outcome.reason, style="yellow", markup=False, soft_wrap=True)
        if outcome.status == "interrupted":
            break
    console.print()
    console.print(make_overview(outcomes))
    for outcome in outcomes:
        if outcome.status == "absent":
            console.print(f"Skipped: {outcome.task.name}. {outcome.reason}", markup=False, soft_wrap=True)
    if outcomes[-1].status == "interrupted":
        return INTERRUPTED
    failures = [outcome.status for outcome in outcomes if outcome.status in ("absent", "failed")]
    return FAILED if "failed" in failures or (failures and options.fetch) or len(failures) == len(outcomes) else 0


def _name_folder(task: str, options: RaceOptions) -> str:
    """Quick benchmarks have their own folder, so that they do not replace or join the results of a full benchmark."""
    return f"{task}-quick" if options.quick else task


def _try_task(name: str, options: RaceOptions, out: Path, console: Console) -> Outcome:
    """Run a task with those options that it supports; return every failure as an outcome."""
    task = tasks.get(name)
    optimizers = options.optimizers or (QUICK_OPTIMIZERS if options.quick else choice.DEFAULT)
    supported = tuple(name for name in optimizers if task.framework in choice.get(name).builds)
    failed = Outcome(task=task, results=None, status="failed")
    if not supported:
        return dataclasses.replace(failed, reason=f"none of {', '.join(optimizers)} runs in {task.framework}")
    if missing := [optimizer for optimizer in optimizers if optimizer not in supported]:
        console.print(f"Without {', '.join(missing)}: not in {task.framework}.", style="dim")
    # Without --with, a resumed benchmark continues with its own optimizers.
    is_resumed = options.resume and (out / Folder.results_name).exists()
    if options.optimizers or not is_resumed:
        options = dataclasses.replace(options, optimizers=supported)
    if task.used_threads is None:
        options = dataclasses.replace(options, device=None, threads=None)
    try:
        return run_task(name, options, out, console)
    except RMSpropError as error:
        is_absent = isinstance(error, MissingDependency)
        return dataclasses.replace(failed, reason=str(error), status="absent" if is_absent else "failed")
    except Exception as error:
        # An unexpected error in one task must not cost the hours that the others take.
        reason = f"{type(error).__name__}: {error} (for the traceback: rmsprop race {name} --debug)"
        return dataclasses.replace(failed, reason=reason)
    except KeyboardInterrupt:
        # While data are read or pictures are drawn; during a trial `race` handles it.
        return dataclasses.replace(failed, reason=f"Interrupted; {out} can be resumed.", status="interrupted")


def _choose_settings(
    task: Task, options: RaceOptions, earlier: Results | None, folder: Folder
) -> tuple[Task, Settings]:
    """Return the task and settings asked for, completed from the benchmark that is resumed; its trials stay in use."""
    device, threads, short = options.device, options.threads, options.quick
    if earlier is not None:
        before = earlier.settings
        device = before.device if device is None else device
        threads = before.threads if threads is None else threads
        short = short or before.short
    task = task.configure(device=device, threads=threads, short=short)
    asked = Settings.of(
        task, optimizers=options.optimizers, seeds=options.seeds, epochs=options.epochs, grid=options.rates,
        quick=options.quick,
    )  # fmt: skip
    if earlier is None:
        return task, asked
    settings = dataclasses.replace(
        asked,
        optimizers=tuple(dict.fromkeys((*before.optimizers, *(options.optimizers or ())))),
        seeds=before.seeds if options.seeds is None else tuple(sorted({*before.seeds, *asked.seeds})),
        epochs=before.epochs if options.epochs is None else options.epochs,
        grid=before.grid if options.rates is None and not options.quick else asked.grid,
        tuning_seeds=asked.tuning_seeds if options.quick else before.tuning_seeds,
    )
    settings.check_joinable(before, where=folder.path / folder.results_name)
    return task, settings
