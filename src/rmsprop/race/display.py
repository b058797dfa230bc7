"""Show a benchmark while it runs, and its table at the end.

On a terminal a table is redrawn in place, at most ten times a second and only between steps: no thread of the display
runs beside a timed step. Anywhere else (a pipe, a log) there is a line for each choice and each reported trial, and in
a long benchmark a line every half minute with the progress.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from rich import box
from rich import progress as bars
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rmsprop.race import choice
from rmsprop.race.record import Outcome, Results, Trial
from rmsprop.race.run import Event, RaceStarted, RateChosen
from rmsprop.race.task import Task
from rmsprop.race.trial import Progress
from rmsprop.race.verdict import Row, describe_rmsprop, explain_step_time, find_best_mean, find_rmsprop, make_table

__all__ = ["Display", "make_final_table", "make_overview"]

_BARS = "▁▂▃▄▅▆▇█"
_SECONDS_PER_FRAME = 0.1
_SECONDS_PER_LINE = 30.0
_SECONDS_OF_ESTIMATE = 3600.0
"""The remaining time is estimated from the trials of this long; rich's default of 30 s may be shorter than a trial."""


class Display(contextlib.ExitStack):
    """A listener for `rmsprop.race.run.race`, used as a context manager."""

    def __init__(self, task: Task, console: Console) -> None:
        super().__init__()
        self._metric = task.metric
        self._console = console
        self._live: Live | None = None
        self._last_frame = self._last_line = 0.0
        self._progress = bars.Progress(
            bars.TextColumn("[bold]{task.description}"),
            bars.BarColumn(bar_width=None),
            bars.MofNCompleteColumn(),
            bars.TextColumn("trials"),
            bars.TimeElapsedColumn(),
            bars.TextColumn("left"),
            bars.TimeRemainingColumn(),
            console=console,
            expand=True,
            auto_refresh=False,
            speed_estimate_period=_SECONDS_OF_ESTIMATE,
        )
        self._bar = self._progress.add_task("tuning", total=None)
        self._stage: dict[str, str] = {}
        self._rate: dict[str, str] = {}
        self._curve: dict[str, list[float]] = {}
        self._finals: dict[str, list[float]] = {}

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            live = Live(self._draw(), console=self._console, auto_refresh=False, transient=True)
            self._live = self.enter_context(live)
        return self

    def __call__(self, event: Event) -> None:
        """Record an event, and redraw if the last frame is old enough."""
        match event:
            case RaceStarted():
                self._start(event)
            case Progress(job, epoch, steps, score):
                stage = f"tries lr {job.lr:g}" if job.phase == "tuning" else f"seed {job.seed}"
                self._stage[job.optimizer] = f"{stage}, epoch {epoch}" + (f", step {steps}" if score is None else "")
                if score is not None:
                    curve = self._curve.get(job.optimizer, []) if epoch > 1 else []
                    self._curve[job.optimizer] = [*curve, score]
            case RateChosen(optimizer, lr):
                self._rate[optimizer] = f"{lr:g}"
                self._stage[optimizer] = "tuned"
                self._progress.update(self._bar, description="final trials")
                self._print_line(f"  {choice.get(optimizer).label}: lr {lr:g}")
            case Trial(optimizer=optimizer):
                self._progress.advance(self._bar)
                self._print_progress()
                if event.phase == "final":
                    reached = "diverged"
                    if event.diverged is None:
                        reached = self._metric.text(event.score[-1])
                        self._finals.setdefault(optimizer, []).append(event.score[-1])
                    self._print_line(f"  seed {event.seed}, {choice.get(optimizer).label}: {reached}")
        now = time.monotonic()
        if self._live is not None and now - self._last_frame > _SECONDS_PER_FRAME:
            self._last_frame = now
            self._live.update(self._draw(), refresh=True)

    def _start(self, event: RaceStarted) -> None:
        optimizers = event.settings.optimizers
        self._last_line = time.monotonic()
        self._stage = dict.fromkeys(optimizers, "waiting")
        self._progress.update(self._bar, total=event.trials, completed=event.done)
        if not event.done:
            self._print_line(f"Tuning {len(optimizers)} optimizers, {event.trials} trials in all ...")
            return
        self._console.print(f"Resuming: {event.done} of {event.trials} trials were done before.")
        if event.changes:
            self._console.print(
                f"Different from before: {'; '.join(event.changes)}. Both are recorded.", soft_wrap=True
            )

    def _print_line(self, line: str) -> None:
        if self._live is None:
            self._console.print(line)

    def _print_progress(self) -> None:
        now = time.monotonic()
        if now - self._last_line > _SECONDS_PER_LINE:
            self._last_line = now
            bar = self._progress.tasks[self._bar]
            left = "" if bar.time_remaining is None else f", about {_format_duration(bar.time_remaining)} left"
            elapsed = _format_duration(bar.elapsed or 0.0)
            self._print_line(f"  {bar.completed:.0f} of {bar.total or 0:.0f} trials, {elapsed}{left}")

    def _draw(self) -> RenderableType:
        table = Table(box=None, pad_edge=False, expand=True, header_style="dim")
        for heading in ("optimizer", "now", "this trial", "lr", f"test {self._metric.name}"):
            table.add_column(heading, no_wrap=True, ratio=1 if heading == "this trial" else None)
        for optimizer, stage in self._stage.items():
            entry = choice.get(optimizer)
            scores = self._finals.get(optimizer, [])
            mean = f"{self._metric.text(sum(scores) / len(scores))} ({len(scores)})" if scores else ""
            curve = Text(self._draw_curve(self._curve.get(optimizer, [])), style=entry.dark)
            name = Text(entry.label, style=f"bold {entry.dark}")
            table.add_row(name, stage, curve, self._rate.get(optimizer, ""), mean)
        return Group(self._progress, table)

    def _draw_curve(self, curve: Sequence[float]) -> str:
        """Draw a curve in block characters: fractions from 0 to 1, other numbers from minimum to maximum."""
        low, high = (0.0, 1.0) if self._metric.percent else (min(curve, default=0.0), max(curve, default=1.0))
        span = (high - low) or 1.0
        heights = (min(max((value - low) / span, 0.0), 1.0) for value in curve[-40:])
        return "".join(_BARS[round(height * (len(_BARS) - 1))] for height in heights)


def _format_duration(seconds: float) -> str:
    """Return a duration as in "1 h 05 min", "12 min" or "40 s"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 2:
        return f"{60 * minutes + rest} s"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def _make_rich_table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", title_style="bold", header_style="dim", box=box.SIMPLE_HEAD, pad_edge=False
    )


def make_final_table(task: Task, results: Results, table: Sequence[Row]) -> RenderableType:
    """Return the table that ends a benchmark, with its footnotes; `table` is not empty."""
    metric, seeds = task.metric, table[0].seeds
    plural = "s" if seeds != 1 else ""
    drawn = _make_rich_table(f"{task.title}: {seeds} seed{plural}, {results.settings.epochs} epochs")
    drawn.add_column("optimizer", no_wrap=True)
    # Eighty columns have room for one of the two, and a diverged seed matters more.
    has_diverged = any(row.diverged for row in table)
    for heading in ("lr", f"test {metric.name}", "diverged" if has_diverged else "worst", "loss", "step"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for row in table:
        worst = metric.text(min(row.scores, key=metric.goodness)) if row.scores else "-"
        drawn.add_row(
            Text(row.label, style="bold"),
            f"{row.lr:g}{'*' if row.lr_at_edge_of_grid else ''}",
            row.text(metric),
            f"{row.diverged} of {row.seeds}" if has_diverged else worst,
            f"{row.loss:.3g}",
            f"{row.step_microseconds:.1f} µs",
        )
    notes = [explain_step_time(results, task.framework)]
    if any(row.lr_at_edge_of_grid for row in table):
        notes.append("* at the edge of the grid of learning rates: a better one may lie beyond it.")
    return Group(drawn, *(Text(note, style="dim") for note in notes))


def make_overview(outcomes: Sequence[Outcome]) -> RenderableType:
    """Return the table that ends the benchmarks of several tasks: RMSprop's score, the best mean, the verdict."""
    drawn = _make_rich_table("All tasks")
    for heading in ("task", "RMSprop", "best mean", "RMSprop ..."):
        drawn.add_column(heading, no_wrap=heading != "RMSprop ...")
    for outcome in outcomes:
        name, metric = outcome.task.name, outcome.task.metric
        table = make_table(outcome.task, outcome.results) if outcome.results is not None else []
        if not table:
            drawn.add_row(name, "-", "-", "skipped" if outcome.status == "absent" else "failed or interrupted")
            continue
        ours, best = find_rmsprop(table), find_best_mean(table, metric)
        drawn.add_row(
            name,
            "-" if ours is None else ours.text(metric),
            # Standard deviations are in each task's own table: here they do not fit into eighty columns.
            f"{best.label}, {metric.text(best.mean)}" if best.scores else best.label,
            describe_rmsprop(table),
        )
    return drawn
