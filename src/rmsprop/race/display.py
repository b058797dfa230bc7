"""Show a race while it runs, and its table at the end.

On a terminal a table is redrawn in place, ten times a second at most and only between steps: no thread of the display
runs beside a timed one. Anywhere else (a pipe, a log) there is a line per optimizer and stage, and in a long race one
every half minute that says how far it is.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from rmsprop.race import choice
from rmsprop.race.record import Job, Outcome, Results
from rmsprop.race.run import Began, Chosen, Ended, Epoch, Event, Stepped
from rmsprop.race.task import Task
from rmsprop.race.verdict import RMSPROP, Row, rows, standing, step_note

__all__ = ["Display", "final_table", "overview"]

_BARS = "▁▂▃▄▅▆▇█"
_SECONDS_PER_FRAME = 0.1
_SECONDS_PER_LINE = 30.0
_SECONDS_REMEMBERED = 3600.0
"""The time left is judged by the trials of this long; rich's own half minute is over before a slow trial is."""


class Display:
    """A listener for `rmsprop.race.run.race`, used as a context manager.

    Args:
        task: What is raced.
        console: Where to write.
    """

    def __init__(self, task: Task, console: Console) -> None:
        self._task = task
        self._console = console
        self._live: Live | None = None
        self._drawn = 0.0
        self._told = 0.0
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("trials"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            expand=True,
            auto_refresh=False,
            speed_estimate_period=_SECONDS_REMEMBERED,
        )
        self._bar = self._progress.add_task("tuning", total=None)
        self._optimizers: tuple[str, ...] = ()
        self._stage: dict[str, str] = {}
        self._rate: dict[str, str] = {}
        self._curve: dict[str, list[float]] = {}
        self._finals: dict[str, list[float]] = {}

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live = Live(self._picture(), console=self._console, auto_refresh=False, transient=True)
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def __call__(self, event: Event) -> None:
        """Take note of an event and draw, if the last drawing is long enough ago."""
        match event:
            case Began(settings, trials, done, changes):
                self._optimizers = settings.optimizers
                self._told = time.monotonic()
                self._stage = dict.fromkeys(settings.optimizers, "waits")
                self._progress.update(self._bar, total=trials, completed=done)
                if done:
                    self._console.print(f"Going on: {done} of {trials} trials were done before.")
                    if changes:
                        self._console.print(f"Not as before: {'; '.join(changes)}. Both are recorded.", soft_wrap=True)
                elif self._live is None:
                    self._console.print(f"Tuning {len(settings.optimizers)} optimizers, {trials} trials in all ...")
            case Stepped(job, epoch, steps):
                self._stage[job.optimizer] = f"{_doing(job)}, epoch {epoch}, step {steps}"
                if self._live is None:
                    return
            case Epoch(job, epoch, score, _):
                optimizer = job.optimizer
                if epoch == 1:
                    self._curve[optimizer] = []
                self._curve[optimizer].append(score)
                self._stage[optimizer] = f"{_doing(job)}, epoch {epoch}"
            case Chosen(optimizer, lr):
                self._rate[optimizer] = f"{lr:g}"
                self._stage[optimizer] = "tuned"
                self._progress.update(self._bar, description="racing")
                if self._live is None:
                    self._console.print(f"  {choice.get(optimizer).label}: lr {lr:g}")
            case Ended(trial):
                self._progress.advance(self._bar)
                self._tell()
                if trial.job.phase == "final":
                    self._end(trial.job.optimizer, trial.job.seed, None if trial.diverged else trial.score[-1])
        self._draw()

    def _end(self, optimizer: str, seed: int, score: float | None) -> None:
        if score is not None:
            self._finals.setdefault(optimizer, []).append(score)
        if self._live is None:
            reached = "diverged" if score is None else self._task.metric.text(score)
            self._console.print(f"  seed {seed}, {choice.get(optimizer).label}: {reached}")

    def _tell(self) -> None:
        """Write how far the race is, where nothing is drawn and the last such line is long enough ago."""
        now = time.monotonic()
        if self._live is None and now - self._told > _SECONDS_PER_LINE:
            self._told = now
            bar = self._progress.tasks[self._bar]
            left = "" if bar.time_remaining is None else f", about {_clock(bar.time_remaining)} left"
            self._console.print(
                f"  {bar.completed:.0f} of {bar.total or 0:.0f} trials, {_clock(bar.elapsed or 0.0)}{left}"
            )

    def _draw(self) -> None:
        now = time.monotonic()
        if self._live is not None and now - self._drawn > _SECONDS_PER_FRAME:
            self._drawn = now
            self._live.update(self._picture(), refresh=True)

    def _picture(self) -> RenderableType:
        table = Table(box=None, pad_edge=False, expand=True, header_style="dim")
        for heading in ("optimizer", "now", "this trial", "lr", f"test {self._task.metric.name}"):
            table.add_column(heading, no_wrap=True, ratio=1 if heading == "this trial" else None)
        for optimizer in self._optimizers:
            entry = choice.get(optimizer)
            scores = self._finals.get(optimizer, [])
            mean = f"{self._task.metric.text(sum(scores) / len(scores))} ({len(scores)})" if scores else ""
            table.add_row(
                Text(entry.label, style=f"bold {entry.dark}"),
                self._stage[optimizer],
                Text(self._spark(self._curve.get(optimizer, [])), style=entry.dark),
                self._rate.get(optimizer, ""),
                mean,
            )
        return Group(self._progress, table)

    def _spark(self, curve: Sequence[float]) -> str:
        """Draw a curve with block characters; a fraction from 0 to 1, anything else from its least to its greatest."""
        low, high = (0.0, 1.0) if self._task.metric.percent else (min(curve, default=0.0), max(curve, default=1.0))
        span = (high - low) or 1.0
        heights = (min(max((value - low) / span, 0.0), 1.0) for value in curve[-40:])
        return "".join(_BARS[round(height * (len(_BARS) - 1))] for height in heights)


def _clock(seconds: float) -> str:
    """Write a duration, as in "1 h 05 min", "12 min" or "40 s"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 2:
        return f"{60 * minutes + rest} s"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def _doing(job: Job) -> str:
    return f"tries lr {job.lr:g}" if job.phase == "tuning" else f"seed {job.seed}"


def final_table(task: Task, results: Results, table: Sequence[Row]) -> RenderableType:
    """Return the table that ends a race, best first, with its footnotes."""
    metric = task.metric
    seeds = table[0].seeds if table else 0
    drawn = Table(
        title=f"{task.title}: {seeds} seed{'s' if seeds != 1 else ''}, {results.settings.epochs} epochs",
        title_justify="left",
        title_style="bold",
        header_style="dim",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    drawn.add_column("optimizer", no_wrap=True)
    # There is room for one of the two in eighty columns, and a diverged seed says more than the worst of the others.
    broken = any(row.diverged for row in table)
    for heading in ("lr", f"test {metric.name}", "diverged" if broken else "worst", "loss", "step"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for row in table:
        worst = metric.text(min(row.scores, key=metric.goodness)) if row.scores else "-"
        drawn.add_row(
            Text(row.label, style="bold"),
            f"{row.lr:g}{'*' if row.at_edge else ''}",
            row.text(metric),
            f"{row.diverged} of {row.seeds}" if broken else worst,
            f"{row.loss:.3g}",
            f"{row.step_us:.1f} µs",
        )
    notes = [step_note(results, task.framework)]
    if any(row.at_edge for row in table):
        notes.append("* at the edge of the grid of learning rates: a better one may lie beyond.")
    return Group(drawn, *(Text(note, style="dim") for note in notes))


def overview(outcomes: Sequence[Outcome]) -> RenderableType:
    """Return the table that ends a tour of many tasks: what RMSprop reached, who was best, how RMSprop did."""
    drawn = Table(
        title="All tasks",
        title_justify="left",
        title_style="bold",
        header_style="dim",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for heading in ("task", "RMSprop", "best", "RMSprop ..."):
        drawn.add_column(heading, no_wrap=heading != "RMSprop ...")
    for outcome in outcomes:
        name, metric = outcome.task.name, outcome.task.metric
        table = rows(outcome.task, outcome.results) if outcome.results is not None else []
        if not table:
            drawn.add_row(name, "-", "-", "left out" if outcome.absent else "failed or broken off")
            continue
        ours = next((row for row in table if row.optimizer == RMSPROP), None)
        drawn.add_row(
            name,
            "-" if ours is None else ours.text(metric),
            # Spreads are in each task's own table: here they would break the lines of a terminal of eighty columns.
            f"{table[0].label}, {metric.text(table[0].mean)}" if table[0].scores else table[0].label,
            standing(table).replace("place ", ""),
        )
    return drawn
