"""From trials to a table and one honest sentence.

Somebody won or lost only where the means lie further apart than chance brings about between equals in 95 % of the
races: `rmsprop.race.margin`. Whatever is closer is a tie. One seed has no spread, so it gives no winner. An optimizer
with a diverged trial cannot win or tie, and does not count among those compared.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence

from rmsprop.race import choice
from rmsprop.race.margin import margin
from rmsprop.race.record import Memory, Results, Trial
from rmsprop.race.run import best_rate
from rmsprop.race.task import Framework, Metric, Task

__all__ = ["Row", "facts", "rows", "sentence", "standing", "step_note", "ties"]

RMSPROP = "rmsprop"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One optimizer's line of the table, over the seeds that every optimizer has finished.

    Attributes:
        optimizer: Its name.
        lr: The learning rate that tuning chose.
        at_edge: That rate is the first, last or only one of the grid: a wider grid might serve it better.
        scores: The test metric after the last epoch, a number per seed that did not diverge.
        spread: Their sample standard deviation; NaN if there are fewer than two.
        loss: Mean test loss after the last epoch.
        train_loss: Mean training loss of the last epoch.
        step_us: Microseconds per step, the median over trials.
        seconds: A whole trial, the median.
        diverged: How many seeds ended in a loss that is not finite.
        train_seconds: Batches, gradients and steps of a trial, the median; NaN where that was not measured.
        share: The part of `train_seconds` spent in the step, from 0 to 1; NaN likewise.
        memory: What the optimizer keeps and takes; None where that was not measured.
    """

    optimizer: str
    lr: float
    at_edge: bool
    scores: tuple[float, ...]
    loss: float
    train_loss: float
    step_us: float
    seconds: float
    diverged: int = 0
    train_seconds: float = math.nan
    share: float = math.nan
    memory: Memory | None = None

    @property
    def label(self) -> str:
        """Its name for a reader."""
        return choice.get(self.optimizer).label

    @property
    def seeds(self) -> int:
        """How many trials the row speaks of."""
        return len(self.scores) + self.diverged

    @property
    def mean(self) -> float:
        """The mean of `scores`; NaN if all diverged."""
        return statistics.fmean(self.scores) if self.scores else math.nan

    @property
    def spread(self) -> float:
        """The sample standard deviation of `scores`."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else math.nan

    def text(self, metric: Metric) -> str:
        """Write mean and spread: `97.35 % ± 0.40`."""
        if not self.scores:
            return "diverged"
        spread = "" if math.isnan(self.spread) else f" ± {metric.gap_text(self.spread).removesuffix(' points')}"
        return metric.text(self.mean) + spread


def rows(task: Task, results: Results) -> list[Row]:
    """Return the table, best first, over the seeds that every optimizer has finished."""
    rates = {optimizer: best_rate(task, results, optimizer) for optimizer in results.settings.optimizers}
    found: dict[str, list[Trial]] = {}
    common = [
        seed
        for seed in results.settings.seeds
        if all(lr is not None and ("final", optimizer, lr, seed) in results.trials for optimizer, lr in rates.items())
    ]
    for optimizer, lr in rates.items():
        if lr is not None and common:
            found[optimizer] = [results.trials["final", optimizer, lr, seed] for seed in common]
    grid = results.settings.grid
    table = [
        _row(
            optimizer,
            trials,
            at_edge=trials[0].job.lr in (grid[0], grid[-1]),
            memory=results.memory.get(optimizer),
        )
        for optimizer, trials in found.items()
    ]
    return sorted(table, key=lambda row: (row.diverged, -task.metric.goodness(row.mean), row.loss))


def _row(optimizer: str, trials: Sequence[Trial], *, at_edge: bool, memory: Memory | None) -> Row:
    sound = [trial for trial in trials if trial.diverged is None]
    timed = [(trial.train_seconds, trial.step_seconds) for trial in trials if trial.train_seconds]
    return Row(
        optimizer=optimizer,
        lr=trials[0].job.lr,
        at_edge=at_edge,
        scores=tuple(trial.score[-1] for trial in sound),
        loss=statistics.fmean(trial.loss[-1] for trial in sound) if sound else math.nan,
        train_loss=statistics.fmean(trial.train_loss[-1] for trial in sound) if sound else math.nan,
        step_us=statistics.median(1e6 * trial.step_seconds / max(trial.steps, 1) for trial in trials),
        seconds=statistics.median(trial.seconds for trial in trials),
        diverged=len(trials) - len(sound),
        train_seconds=statistics.median(whole for whole, _ in timed) if timed else math.nan,
        share=statistics.median(step / whole for whole, step in timed) if timed else math.nan,
        memory=memory,
    )


def ties(best: Row, other: Row, table: Sequence[Row]) -> bool:
    """Whether two rows of `table` are no further apart than chance may bring."""
    if best.diverged or other.diverged:
        return False
    # A hair more than the margin: equal numbers reach this line by different roundings.
    return abs(best.mean - other.mean) <= _margin(best, other, table) + 1e-12


def _margin(one: Row, other: Row, table: Sequence[Row]) -> float:
    return margin(one.scores, other.scores, optimizers=sum(not row.diverged for row in table))


def sentence(table: Sequence[Row], metric: Metric) -> str:
    """Say in one line who won, RMSprop or not.

    Args:
        table: What `rows` returns, best first.
        metric: The task's.

    Example:
        >>> from rmsprop.race import get
        >>> numbers = dict(lr=0.01, at_edge=False, loss=0.1, train_loss=0.1, step_us=5.0, seconds=0.1)
        >>> adam = Row(optimizer="adam", scores=(0.98, 0.98), **numbers)
        >>> ours = Row(optimizer="rmsprop", scores=(0.95, 0.95), **numbers)
        >>> print(sentence([adam, ours], get("digits").metric))
        Adam won with 98.00 % ± 0.00 over 2 seeds; RMSprop lost: 95.00 % ± 0.00, place 2 of 2.
    """
    if not table:
        return "No winner: not one seed was finished by every optimizer."
    best = table[0]
    ours = next((row for row in table if row.optimizer == RMSPROP), None)
    if not best.scores or best.diverged:
        return "No winner: every optimizer diverged on some seed."
    over = f"over {best.seeds} seeds"
    if len(table) == 1:
        return f"No winner: {best.label} ran alone and reached {best.text(metric)}" + (
            f" {over}." if best.seeds > 1 else " on one seed."
        )
    if best.seeds == 1:
        ranking = ", ".join(f"{row.label} {row.text(metric)}" for row in table)
        return f"No winner: one seed has no spread to judge by. In order: {ranking}."
    tied = [row for row in table if row is best or ties(best, row, table)]
    behind = [row for row in table if row not in tied]
    rest = "" if ours is None or ours in tied else _ours_behind(ours, table, metric)
    if len(tied) > 1:
        group = _list([f"{row.label} ({row.text(metric)})" for row in tied])
        after = f"; behind them: {_list([row.label for row in behind])}" if behind else ""
        lead = "A tie, RMSprop among the best" if ours in tied and ours is not None else "A tie"
        chance = metric.gap_text(_margin(best, tied[-1], table))
        ends = "" if len(tied) == 2 else " between the first and the last"
        return f"{lead}: {group} lie no further apart than chance may bring {over} ({chance}{ends}){rest or after}."
    if best is ours:
        second = table[1]
        return f"RMSprop won with {best.text(metric)} {over}; next is {second.label} with {second.text(metric)}."
    next_one = f"; next is {table[1].label} with {table[1].text(metric)}"
    return f"{best.label} won with {best.text(metric)} {over}{rest or next_one}."


def standing(table: Sequence[Row]) -> str:
    """Say in a word or two how RMSprop did, by the same measure as `sentence`.

    Example:
        >>> numbers = dict(lr=0.01, at_edge=False, loss=0.1, train_loss=0.1, step_us=5.0, seconds=0.1)
        >>> adam = Row(optimizer="adam", scores=(0.98, 0.98), **numbers)
        >>> standing([adam, Row(optimizer="rmsprop", scores=(0.95, 0.95), **numbers)])
        'lost, place 2 of 2'
    """
    ours = next((row for row in table if row.optimizer == RMSPROP), None)
    if ours is None or len(table) < 2:
        return "alone" if ours is not None else "did not run"
    place = f"place {list(table).index(ours) + 1} of {len(table)}"
    best = table[0]
    if best.diverged or not best.scores:
        return "no winner"
    if best.seeds == 1:
        return f"no winner, one seed; {place}"
    if ours is best:
        return "tie" if any(ties(best, row, table) for row in table[1:]) else "won"
    return f"tie, {place}" if ties(best, ours, table) else f"lost, {place}"


def _ours_behind(ours: Row, table: Sequence[Row], metric: Metric) -> str:
    place = f"place {list(table).index(ours) + 1} of {len(table)}"
    if ours.diverged:
        return f"; RMSprop lost: it diverged on {ours.diverged} of {ours.seeds} seeds, {place}"
    return f"; RMSprop lost: {ours.text(metric)}, {place}"


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def step_note(results: Results, framework: Framework = "numpy") -> str:
    """Say what the time column compares, and what it does not."""
    if any(environment.get("kernel") != "compiled" for environment in results.environments):
        return (
            "Time in step: the compiled module was not in use, so RMSprop ran in plain array code like its baselines; "
            "its compiled step is faster."
        )
    if framework == "numpy":
        return (
            "Time in step: RMSprop is compiled code here and its baselines are plain NumPy lines, written to be read. "
            "The column shows what this library's step costs in this training, not that one method is cheaper than "
            "another."
        )
    if results.settings.device != "cpu":
        return (
            f"Time in step, on {results.settings.device}, the device's own work included: RMSprop is "
            "rmsprop.torch.RMSprop on torch's operations, its baselines are torch.optim's in their fastest form."
        )
    return (
        "Time in step: RMSprop is rmsprop.torch.RMSprop, whose step is compiled; its baselines are torch.optim's in "
        "their fastest form, fused where torch has that. Beside torch-rmsprop (--with) the same method is compared."
    )


def facts(task: Task, results: Results) -> dict[str, object]:
    """Return what follows from the trials, for readers of results.json."""
    table = rows(task, results)
    return {
        "verdict": sentence(table, task.metric),
        "metric": {"name": task.metric.name, "better": task.metric.better},
        "table": [
            {
                "optimizer": row.optimizer,
                "lr": row.lr,
                "lr_at_edge_of_grid": row.at_edge,
                "scores": list(row.scores),
                "mean": _number(row.mean),
                "spread": _number(row.spread),
                "margin_to_best": None if row is table[0] else _number(_margin(table[0], row, table)),
                "loss": _number(row.loss),
                "train_loss": _number(row.train_loss),
                "step_microseconds": row.step_us,
                "trial_seconds": row.seconds,
                "diverged": row.diverged,
                "train_seconds": _number(row.train_seconds),
                "share_in_step": _number(row.share),
                "state_bytes_per_parameter": row.memory and row.memory.state_per_parameter,
                "step_bytes_per_parameter": row.memory and row.memory.step_per_parameter,
            }
            for row in table
        ],
    }


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None
