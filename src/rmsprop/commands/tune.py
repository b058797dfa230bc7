"""`rmsprop tune`: the command. Cheap to import; Optuna and the task wait until it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from rmsprop.race.task import Task
    from rmsprop.tune import Setting, TuneResult

__all__ = ["tune"]

INTERRUPTED = 130
SECONDS_TO_WAIT = 60.0
TRIALS, QUICK_TRIALS = 50, 12
HELP = """Search RMSprop's lr, rho, eps, momentum and centering for a benchmark task.

The same command continues a study that exists, whether it ended, was interrupted with Ctrl-C or killed. Run it on many
machines with one --storage (PostgreSQL, or grpc://host:port of Optuna's proxy) and they share the trials.

Writes map.png, importance.png and best.py.

Examples:

\b
  rmsprop tune digits
  rmsprop tune digits --quick
  rmsprop tune fashion --trials 100 --workers 4
  rmsprop tune fashion --storage postgresql://user@host/tuning
"""


def tune(  # noqa: D103 (HELP is the docstring)
    task: Annotated[str, typer.Argument(help="What to train; rmsprop race --list names the tasks.", metavar="TASK")],
    trials: Annotated[
        int | None, typer.Option(help=f"Number of trials that the study shall have in all. [{TRIALS}]", metavar="N")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="Where the study is stored. [sqlite:///runs/tune.db]", metavar="URL")
    ] = None,
    study: Annotated[str | None, typer.Option(help="Name of the study. [the task's]", metavar="NAME")] = None,
    workers: Annotated[
        int, typer.Option(help="Processes at the same time, at most the trials and the CPU cores.", metavar="K")
    ] = 1,
    quick: Annotated[bool, typer.Option("--quick", help=f"Few epochs, {QUICK_TRIALS} trials.")] = False,
    pruner: Annotated[
        str, typer.Option(help="When to end a trial early: median or none.", metavar="median|none")
    ] = "median",
    seed: Annotated[int, typer.Option(help="Seed of the sampler.", metavar="S")] = 0,
    device: Annotated[str | None, typer.Option(help="A torch device. [the task's own]", metavar="D")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the pictures. [runs/STUDY-tune]", metavar="DIR", show_default=False)
    ] = None,
) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from rmsprop._files import lock_folder
    from rmsprop.commands import words
    from rmsprop.errors import InputError
    from rmsprop.race import task as tasks
    from rmsprop.race.folder import Folder
    from rmsprop.tune._storage import DEFAULT, import_optuna
    from rmsprop.tune._task import prepare_task, tune_task

    console = words.console()
    chosen = prepare_task(tasks.get(task), quick=quick, device=device)
    import_optuna()
    name = study or chosen.name + ("-quick" if quick else "")
    if out is None and Path(name).name != name:
        raise InputError(f"study={name!r} is not the name of a folder in runs: add --out DIR for the pictures")
    folder = Folder(out or Path("runs") / f"{name}-tune").path
    count = trials if trials is not None else QUICK_TRIALS if quick else TRIALS
    console.print(f"{chosen.title}: {chosen.model}.", style="dim")
    bar = Progress(
        TextColumn("[bold]tuning"), BarColumn(), MofNCompleteColumn(), TextColumn("trials"), TimeElapsedColumn(),
        TextColumn("{task.description}"), console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    line, printed = bar.add_task("", total=count), set[int]()

    def show(result: TuneResult) -> None:
        if result.resumed and not printed:
            console.print(f"Continuing study {name}, which has {result.resumed} trials.")
            printed.update(trial.number for trial in result.trials)
        best, metric = result.best, chosen.metric
        text = "" if best is None else f"best {metric.text(best.value)}, lr {best.setting.lr:g}"
        bar.update(line, completed=result.done, description=text)
        for trial in result.trials:
            if trial.number not in printed and (trial.diverged or not console.is_terminal):
                value = metric.text(trial.value) if trial.state == "complete" else trial.state
                value = f"diverged, {trial.diverged}" if trial.diverged else value
                console.print(f"  trial {trial.number}: {_describe(trial.setting)}: {value}")
            printed.add(trial.number)

    with bar:
        result = tune_task(
            chosen, trials=count, study=name, storage=storage or DEFAULT, quick=quick, workers=workers, seed=seed,
            pruner=pruner, listener=show, say=lambda line: console.print(line, style="yellow", soft_wrap=True),
        )  # fmt: skip
    if result.resumed >= count:
        console.print(f"Study {name} has {result.resumed} trials already: --trials {result.resumed + count} adds more.")
    with lock_folder(folder, wait=SECONDS_TO_WAIT):  # several processes may share a study, and end together
        _print_result(console, chosen, result, folder)
    if result.interrupted:
        console.print(
            f"Interrupted: {result.done} finished trials are kept; the same command continues.", style="yellow"
        )
        raise typer.Exit(INTERRUPTED)


tune.__doc__ = HELP


def _describe(setting: Setting) -> str:
    rule = setting.rule
    momentum = f", momentum {rule.momentum:g}" if rule.momentum else ""
    return f"lr {setting.lr:g}, rho {rule.rho:g}, eps {rule.eps:g}{momentum}{', centered' if rule.centered else ''}"


def _print_result(console: Console, task: Task, result: TuneResult, folder: Path) -> None:
    from collections import Counter

    from rmsprop.tune._draw import compute_importances, draw_importances, draw_map

    counts = Counter("diverged" if trial.diverged else trial.state for trial in result.trials)
    failed = counts.pop("failed", 0)
    console.print(
        f"{result.done} trials: " + ", ".join(f"{count} {kind}" for kind, count in counts.items())
        + (f"; {failed} more failed and do not count" if failed else ""),
        soft_wrap=True,
    )  # fmt: skip
    if (best := result.best) is None:
        console.print("No trial is complete yet.")
        return
    code = result.code(task.framework)
    files = [_write(folder / "map.png", draw_map(task, result)), _write(folder / "best.py", code + "\n")]
    if importances := compute_importances(result):
        files.append(_write(folder / "importance.png", draw_importances(task, importances)))
        shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in importances.items())
        console.print(f"What mattered: {shares}", soft_wrap=True)
    console.print(f"Files: {', '.join(files)}", soft_wrap=True)
    value = f"validation {task.metric.name} {task.metric.text(best.value)}"
    console.print(f"Best, trial {best.number}: {value}", style="bold", soft_wrap=True)
    console.print(code, soft_wrap=True, markup=False)


def _write(file: Path, content: str | bytes) -> str:
    from rmsprop._files import write_atomically
    from rmsprop.errors import FileError

    try:
        with write_atomically(file) as temporary:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        advice = "the trials are kept, run the same command again to write it"
        raise FileError(f"{file}: {error.strerror}: {advice}") from error
    return str(file)
