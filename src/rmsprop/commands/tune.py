"""`rmsprop tune`: the command. Cheap to import; Optuna and the task wait until it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from rmsprop.race.task import Task
    from rmsprop.tune import Tuned

__all__ = ["tune"]

INTERRUPTED = 130
TRIALS, QUICK_TRIALS = 50, 12
HELP = """Search RMSprop's lr, rho, eps, momentum and centering for a race task.

The same command goes on with a study that exists, whether it ended, was broken off with Ctrl-C or killed. Run it on
many machines with one --storage (PostgreSQL, or grpc://host:port of Optuna's proxy) and they share the trials.

Writes map.png, importance.png and best.py.

Examples:

\b
  rmsprop tune digits
  rmsprop tune digits --quick
  rmsprop tune fashion --trials 100 --workers 4
  rmsprop tune fashion --storage postgresql://user@host/tuning
"""


def tune(  # noqa: D103 (HELP is the docstring)
    task: Annotated[str, typer.Argument(help="What to train; rmsprop race --list names them.", metavar="TASK")],
    trials: Annotated[
        int | None, typer.Option(help=f"How many trials the study shall have in all. [{TRIALS}]", metavar="N")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="Where the study is kept. [sqlite:///runs/tune.db]", metavar="URL")
    ] = None,
    study: Annotated[str | None, typer.Option(help="Its name. [the task's]", metavar="NAME")] = None,
    workers: Annotated[int, typer.Option(help="Processes at work at the same time.", metavar="K")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help=f"The quick budget, {QUICK_TRIALS} trials.")] = False,
    pruner: Annotated[
        str, typer.Option(help="When to give a trial up: median or none.", metavar="median|none")
    ] = "median",
    seed: Annotated[int, typer.Option(help="Of what is tried.", metavar="S")] = 0,
    device: Annotated[str | None, typer.Option(help="A torch device. [the task's own]", metavar="D")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the pictures. [runs/STUDY-tune]", metavar="DIR", show_default=False)
    ] = None,
) -> None:
    from rmsprop.commands import words
    from rmsprop.race import task as tasks
    from rmsprop.race.folder import Folder
    from rmsprop.tune._task import prepared, tune_task
    from rmsprop.tune._url import DEFAULT, optuna_or_refuse

    console = words.console()
    chosen = prepared(tasks.get(task), quick=quick, device=device)
    optuna_or_refuse()
    name = study or chosen.name + ("-quick" if quick else "")
    folder = Folder(out or Path("runs") / f"{name}-tune")
    wanted = trials if trials is not None else QUICK_TRIALS if quick else TRIALS
    console.print(f"{chosen.title}: {chosen.model}.", style="dim")
    with _Display(console, chosen, wanted, name) as display:
        found = tune_task(
            chosen,
            trials=wanted,
            study=name,
            storage=storage or DEFAULT,
            quick=quick,
            workers=workers,
            seed=seed,
            pruner=pruner,
            listener=display.show,
            say=lambda line: console.print(line, style="yellow", soft_wrap=True),
        )
    if found.resumed >= wanted:
        console.print(f"Study {name} has {found.resumed} trials already: --trials {found.resumed + wanted} adds more.")
    _tell(console, chosen, found, folder)
    if found.interrupted:
        console.print(f"Broken off: {found.done} finished trials are kept; the same command goes on.", style="yellow")
        raise typer.Exit(INTERRUPTED)


tune.__doc__ = HELP


class _Display:
    """A bar with the best so far on a terminal, elsewhere a line per trial."""

    def __init__(self, console: Console, task: Task, trials: int, study: str) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._console, self._task, self._trials, self._study = console, task, trials, study
        self._said: set[int] | None = None
        self._bar = Progress(
            TextColumn("[bold]tuning"), BarColumn(), MofNCompleteColumn(), TextColumn("trials"), TimeElapsedColumn(),
            TextColumn("{task.description}"), console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._line = self._bar.add_task("", total=trials)

    def __enter__(self) -> _Display:
        self._bar.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._bar.stop()

    def show(self, found: Tuned) -> None:
        """Draw what is known."""
        if self._said is None:
            self._said = set()
            if found.resumed:
                self._console.print(f"Going on: study {self._study} has {found.resumed} trials.")
                self._said = {trial.number for trial in found.trials}
        best = found.best
        text = "" if best is None else f"best {self._task.metric.text(best.value)}, lr {best.setting.lr:g}"
        self._bar.update(self._line, completed=found.done, description=text)
        for trial in found.trials:
            if trial.number not in self._said:
                self._said.add(trial.number)
                if trial.diverged:
                    self._console.print(f"  trial {trial.number}: {_words(trial.setting)}: diverged, {trial.diverged}")
                elif not self._console.is_terminal:
                    value = self._task.metric.text(trial.value) if trial.state == "complete" else trial.state
                    self._console.print(f"  trial {trial.number}: {_words(trial.setting)}: {value}")


def _words(setting: Any) -> str:
    rule = setting.rule
    momentum = f", momentum {rule.momentum:g}" if rule.momentum else ""
    return f"lr {setting.lr:g}, rho {rule.rho:g}, eps {rule.eps:g}{momentum}{', centered' if rule.centered else ''}"


def _tell(console: Console, task: Task, found: Tuned, folder: Any) -> None:
    from rmsprop.tune._draw import importance_png, importances, map_png

    counts = {
        "complete": sum(trial.state == "complete" for trial in found.trials),
        "pruned": sum(trial.state == "pruned" and not trial.diverged for trial in found.trials),
        "diverged": sum(bool(trial.diverged) for trial in found.trials),
    }
    lost = sum(trial.state == "lost" for trial in found.trials)
    console.print(
        f"{found.done} trials: " + ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
        + (f"; {lost} more were lost with their process and do not count" if lost else ""),
        soft_wrap=True,
    )  # fmt: skip
    best = found.best
    if best is None:
        console.print("No trial is complete yet.")
        return
    metric = task.metric
    value = f"validation {metric.name}"
    title = f"{task.title}: {found.done} trials of RMSprop"
    picture = map_png(found, title=title, value=value, log=not metric.percent, percent=metric.percent)
    files = [folder.write("map.png", picture)]
    bars = importance_png(found, title=f"{task.title}: what decided the {value}")
    if bars is not None:
        files.append(folder.write("importance.png", bars))
    code = found.code(task.framework)
    files.append(folder.write("best.py", code + "\n"))
    shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in importances(found).items())
    if shares:
        console.print(f"What mattered: {shares}", soft_wrap=True)
    console.print(f"Files: {', '.join(map(str, files))}", soft_wrap=True)
    console.print(f"Best, trial {best.number}: {value} {metric.text(best.value)}", style="bold", soft_wrap=True)
    console.print(code, soft_wrap=True, markup=False)
