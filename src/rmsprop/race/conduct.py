"""Conduct races for the command line: one task, or every task in turn with an overview at the end."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmsprop.errors import InputError, MissingDependency, RMSpropError
from rmsprop.race import choice
from rmsprop.race import task as tasks
from rmsprop.race.folder import Folder
from rmsprop.race.record import Outcome, Results, Settings
from rmsprop.race.task import Task

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Wanted", "every", "one", "rates"]

INTERRUPTED = 130
"""What a shell expects of a program that Ctrl-C ended."""
FAILED = 1
QUICK_OPTIMIZERS = ("sgd", "adam", "rmsprop")
"""Who runs where every task is raced quickly and nobody is named: a smoke test needs no more."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the command line asked for; None leaves it to the task, or to the race that is resumed."""

    optimizers: tuple[str, ...] | None = None
    seeds: int | None = None
    epochs: int | None = None
    rates: tuple[float, ...] | None = None
    device: str | None = None
    threads: int | None = None
    quick: bool = False
    resume: bool = False
    fetch: bool = False


def rates(wanted: str) -> tuple[float, ...]:
    """Read a list such as "0.01,0.001": learning rates above 0, each once, ascending.

    Raises:
        InputError: Something that is no number above 0, or nothing at all.

    Example:
        >>> rates("0.01, 0.001")
        (0.001, 0.01)
    """
    found = set()
    for word in filter(None, map(str.strip, wanted.split(","))):
        try:
            rate = float(word)
        except ValueError:
            rate = math.nan
        if not 0.0 < rate < math.inf:
            raise InputError(f"--rates: {word!r}, expected finite numbers above 0 such as 0.001,0.01")
        found.add(rate)
    if not found:
        raise InputError("--rates names no learning rate, expected numbers such as 0.001,0.01")
    return tuple(sorted(found))


def one(name: str, wanted: Wanted, out: Path | None, console: Console) -> Outcome:
    """Race one task and write its folder.

    Args:
        name: The task's.
        wanted: Options.
        out: Folder of the results; None is runs/NAME, or runs/NAME-quick for a quick one.
        console: For the progress, the table and the verdict.

    Raises:
        RMSpropError: What the library refuses.
    """
    task = tasks.get(name)
    for optimizer in wanted.optimizers or ():
        choice.get(optimizer).build(task.framework)
    if wanted.fetch:
        _fetch(task, console)
    folder = Folder(out or Path("runs") / _folder_name(name, wanted))
    earlier = folder.load() if wanted.resume else None
    if wanted.resume and earlier is None:
        console.print(f"Nothing to resume in {folder.path}: a new race begins.")
    task = _adapted(task, wanted, earlier)
    settings = _settings(task, earlier, wanted, folder)
    return _run(task, settings, earlier, folder, console)


def every(wanted: Wanted, out: Path | None, console: Console, *, names: tuple[str, ...] | None = None) -> int:
    """Race every task in turn, each into its own folder, and show an overview.

    A task whose data or packages are not here is named and left out, and one that fails is told with what failed; the
    others go on. Ctrl-C ends the task that runs and the tour.

    Args:
        wanted: Options. Optimizers that a task's framework does not have are left out there.
        out: Folder of the folders; None is runs.
        console: For everything.
        names: The tasks; None is all.

    Returns:
        The exit code: 0 if all that could be raced was, 130 after Ctrl-C; 1 if a race failed, if nothing could be
        raced, or if something that `--fetch` was to bring is still not here.
    """
    from rmsprop.race.display import overview

    outcomes: list[Outcome] = []
    names = tasks.names() if names is None else names
    for place, name in enumerate(names, 1):
        console.print(f"\n[{place} of {len(names)}] {name}", style="bold", markup=False)
        outcome = _attempt(name, wanted, (out or Path("runs")) / _folder_name(name, wanted), console)
        outcomes.append(outcome)
        # A race that began has said it itself.
        if outcome.reason and outcome.results is None:
            console.print(outcome.reason, style="yellow", markup=False, soft_wrap=True)
        if outcome.interrupted:
            break
    console.print()
    console.print(overview(outcomes))
    for outcome in outcomes:
        if outcome.absent:
            console.print(f"Left out: {outcome.task.name}. {outcome.reason}", markup=False, soft_wrap=True)
    raced = [outcome for outcome in outcomes if outcome.results is not None]
    if any(outcome.interrupted for outcome in outcomes):
        return INTERRUPTED
    failed = any(outcome.results is None and (wanted.fetch or not outcome.absent) for outcome in outcomes)
    return FAILED if failed or not raced else 0


def _folder_name(task: str, wanted: Wanted) -> str:
    """Quick results have a folder of their own: they neither replace nor join those of a full run."""
    return f"{task}-quick" if wanted.quick else task


def _attempt(name: str, wanted: Wanted, out: Path, console: Console) -> Outcome:
    task = tasks.get(name)
    optimizers = wanted.optimizers or (QUICK_OPTIMIZERS if wanted.quick else choice.DEFAULT)
    here = tuple(name for name in optimizers if task.framework in choice.get(name).builds)
    if not here:
        reason = f"none of {', '.join(optimizers)} runs in {task.framework}"
        return Outcome(task=task, results=None, complete=False, reason=reason)
    if missing := [optimizer for optimizer in optimizers if optimizer not in here]:
        console.print(f"Without {', '.join(missing)}: not in {task.framework}.", style="dim")
    # A race that has begun knows its optimizers.
    begun = wanted.resume and (out / Folder.results_name).exists()
    asked = dataclasses.replace(
        wanted,
        optimizers=here if wanted.optimizers or not begun else None,
        device=wanted.device if hasattr(task, "device") else None,
        threads=wanted.threads if hasattr(task, "asked_threads") else None,
    )
    try:
        return one(name, asked, out, console)
    except RMSpropError as error:
        absent = isinstance(error, MissingDependency)
        return Outcome(task=task, results=None, complete=False, reason=str(error), absent=absent)
    except Exception as error:
        # Whatever one task runs into, the hours that the others take are not lost for it.
        reason = f"{type(error).__name__}: {error} (rmsprop race {name} alone shows where)"
        return Outcome(task=task, results=None, complete=False, reason=reason)
    except KeyboardInterrupt:
        # While data are read or pictures drawn; within a trial `race` itself takes care of it.
        reason = f"Broken off; what {out} holds can be resumed."
        return Outcome(task=task, results=None, complete=False, reason=reason, interrupted=True)


def _fetch(task: Task, console: Console) -> None:
    from rmsprop.race.fetch import fetch

    for source in getattr(task, "needs", ()):
        fetch(source, say=lambda line: console.print(line, style="dim", markup=False, soft_wrap=True))


def _adapted(task: Task, wanted: Wanted, earlier: Results | None) -> Task:
    """Give the task its device, length and threads; what is not said comes from the race that is resumed."""
    old = None if earlier is None else earlier.settings
    device = wanted.device if wanted.device is not None else old.device if old is not None else "cpu"
    if not device.strip():
        raise InputError(f"--device {device!r} names no device, expected a torch device such as cpu or cuda")
    if not hasattr(task, "device"):
        if device != "cpu":
            raise InputError(f"{task.name} runs in NumPy, on the CPU: leave --device {device} to the torch tasks")
        if wanted.threads is not None:
            raise InputError(f"{task.name} runs in NumPy, on one thread: leave --threads to the torch tasks")
        return task
    changed: dict[str, Any] = {"device": device, "short": wanted.quick or (old is not None and old.short)}
    threads = wanted.threads if wanted.threads is not None else old.threads if old is not None else None
    if threads is not None:
        changed["asked_threads"] = threads
    adapted: Any = task
    return dataclasses.replace(adapted, **changed)


def _settings(task: Task, earlier: Results | None, wanted: Wanted, folder: Folder) -> Settings:
    """What is not said comes from the race that is resumed; optimizers and seeds may be added to it."""
    asked = Settings.of(
        task,
        optimizers=wanted.optimizers,
        seeds=wanted.seeds,
        epochs=wanted.epochs,
        grid=wanted.rates,
        quick=wanted.quick,
    )
    if earlier is None:
        return asked
    old = earlier.settings
    kept = dataclasses.replace(
        old if not wanted.quick else asked,
        task=task.name,
        optimizers=tuple(dict.fromkeys((*old.optimizers, *(wanted.optimizers or ())))),
        seeds=old.seeds if wanted.seeds is None else tuple(sorted({*old.seeds, *asked.seeds})),
        epochs=old.epochs if wanted.epochs is None else wanted.epochs,
        grid=(old if wanted.rates is None and not wanted.quick else asked).grid,
        device=asked.device,
        short=asked.short,
        threads=asked.threads,
    )
    kept.refuse_another_protocol(old, where=folder.path / folder.results_name)
    return kept


def _run(task: Task, settings: Settings, earlier: Results | None, folder: Folder, console: Console) -> Outcome:
    from rmsprop.race.display import Display, final_table
    from rmsprop.race.keeper import Keeper
    from rmsprop.race.run import finished
    from rmsprop.race.run import race as run_race
    from rmsprop.race.verdict import rows, sentence

    keeper = Keeper(
        task,
        folder,
        held=None if earlier is None else len(earlier.trials),
        say=lambda line: console.print(line, style="dim", markup=False, soft_wrap=True),
    )
    console.print(f"{task.title}: {task.model}.", style="dim")
    with Display(task, console) as display:
        results = run_race(task, settings, earlier=earlier, listener=display, save=keeper)
    complete = finished(task, results)
    files, trouble = [], None
    try:
        files = keeper.finish(results)
    except RMSpropError as error:
        # What was measured is shown all the same.
        trouble = error
    table = rows(task, results)
    if table:
        console.print(final_table(task, results, table))
    if results.sample:
        console.print("What RMSprop's model makes:", style="bold")
        console.print(results.sample, markup=False, soft_wrap=True)
    reason = ""
    if not complete:
        reason = (
            f"Broken off: {len(results.trials)} finished trials are kept in {folder.path}; "
            "the same command with --resume goes on."
            if files
            else f"Broken off before a trial was finished: {folder.path} is as it was."
        )
        if trouble is None:
            console.print(reason, style="yellow", soft_wrap=True)
    if files:
        console.print(f"Report: {files[-1]}" if table else f"Results so far: {files[0]}", soft_wrap=True)
    console.print(sentence(table, task.metric), style="bold", soft_wrap=True)
    if trouble is not None:
        raise trouble
    return Outcome(task=task, results=results, complete=complete, interrupted=not complete)
