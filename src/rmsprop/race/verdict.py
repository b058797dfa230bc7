"""From trials to a table and a verdict: which differences are significant, and in which order the rows stand.

* All optimizers train with the same seeds: the same initial weights and batches. So two of them are compared by a
  paired t test (`scipy.stats.ttest_rel`) of their scores, seed by seed, two-sided.
* The p-values of all pairs are corrected by Holm's method: if all optimizers are equally good, some difference is
  called significant in at most about 5 % of the benchmarks, however many optimizers are compared.
* If all differences of a pair are equal, there is no spread for a t test: equal scores are not significantly different,
  and otherwise the sign test decides, which needs at least six seeds. With one seed nothing is significant.
* An optimizer that diverged on a seed is not tested and ranks below all that did not diverge.
* An optimizer wins if it is significantly better than each of the others. "Significantly better" is transitive: with
  paired differences, t of a - c is at least the smaller t of a - b and b - c. So it wins if it alone is on level 1.

Rows are ordered by level. An optimizer is on level 1 if none is significantly better, and else one level below the
lowest of those that are significantly better; diverged ones come last. So no two rows of a level differ significantly,
and within a level they are ordered by name, as the order of their means says nothing.

Source: S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from rmsprop.race import choice
from rmsprop.race.record import Memory, Results, Trial
from rmsprop.race.run import choose_rate
from rmsprop.race.task import Framework, Metric, Task

__all__ = [
    "LEVEL", "RMSPROP", "Row", "compute_p_values", "describe_rmsprop", "describe_verdict", "explain_step_time",
    "find_best_mean", "find_rmsprop", "format_number", "make_table", "rank_rows",
]  # fmt: skip

RMSPROP = "rmsprop"
LEVEL = 0.05
"""Of a corrected p-value: below it, a difference is significant."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """An optimizer's row of the table, over the seeds that all optimizers have finished."""

    optimizer: str
    lr: float  # chosen by tuning
    lr_at_edge_of_grid: bool  # that rate is the first, last or only one of the grid: a wider grid may have a better one
    scores: tuple[float, ...]  # the test metric after the last epoch for each seed that did not diverge, in their order
    loss: float  # mean test loss after the last epoch
    train_loss: float  # mean training loss of the last epoch
    step_microseconds: float  # microseconds per step, the median over the trials
    trial_seconds: float  # a whole trial, the median
    diverged: int = 0  # seeds that ended in a loss that is not finite
    train_seconds: float = math.nan  # batches, gradients and steps of a trial, the median; NaN if not measured
    share_in_step: float = math.nan  # the part of `train_seconds` spent in the step, from 0 to 1; NaN likewise
    memory: Memory | None = None  # None if not measured
    p_values: Mapping[str, float] = dataclasses.field(default_factory=dict)  # of the differences, Holm-corrected
    worse_than: tuple[str, ...] = ()  # the optimizers that are significantly better

    @property
    def label(self) -> str:
        """The optimizer's name for a reader."""
        return choice.get(self.optimizer).label

    @property
    def seeds(self) -> int:
        """How many trials the row is about."""
        return len(self.scores) + self.diverged

    @property
    def mean(self) -> float:
        """The mean of `scores`; NaN if all diverged."""
        return statistics.fmean(self.scores) if self.scores else math.nan

    @property
    def spread(self) -> float:
        """The sample standard deviation of `scores`; NaN if there are fewer than two."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else math.nan

    def text(self, metric: Metric) -> str:
        """Return mean and spread as in `97.35 % ± 0.40`."""
        if not self.scores:
            return "diverged"
        spread = "" if math.isnan(self.spread) else f" ± {metric.gap_text(self.spread).removesuffix(' points')}"
        return metric.text(self.mean) + spread

    def extremes(self, metric: Metric) -> str:
        """Return the worst and the best score as in `96.28 % to 97.77 %`."""
        if not self.scores:
            return "–"
        return " to ".join(metric.text(pick(self.scores, key=metric.goodness)) for pick in (min, max))


def make_table(task: Task, results: Results) -> list[Row]:
    """Return the table in its order, over the seeds that all optimizers have finished; empty if there is none."""
    settings, grid = results.settings, results.settings.grid
    rates = {optimizer: choose_rate(task, results, optimizer) for optimizer in settings.optimizers}
    keys = {seed: [("final", optimizer, lr, seed) for optimizer, lr in rates.items()] for seed in settings.seeds}
    seeds = [seed for seed, found in keys.items() if all(key in results.trials for key in found)]
    rows = []
    for optimizer, lr in rates.items():
        if lr is not None and seeds:
            trials = [results.trials["final", optimizer, lr, seed] for seed in seeds]
            rows.append(
                _make_row(trials, lr_at_edge_of_grid=lr in (grid[0], grid[-1]), memory=results.memory.get(optimizer))
            )
    return rank_rows(rows, task.metric)


def _make_row(trials: Sequence[Trial], *, lr_at_edge_of_grid: bool, memory: Memory | None) -> Row:
    finite = [trial for trial in trials if trial.diverged is None]
    timed = [(trial.train_seconds, trial.step_seconds) for trial in trials if trial.train_seconds]
    return Row(
        optimizer=trials[0].optimizer,
        lr=trials[0].lr,
        lr_at_edge_of_grid=lr_at_edge_of_grid,
        scores=tuple(trial.score[-1] for trial in finite),
        loss=statistics.fmean(trial.loss[-1] for trial in finite) if finite else math.nan,
        train_loss=statistics.fmean(trial.train_loss[-1] for trial in finite) if finite else math.nan,
        step_microseconds=statistics.median(1e6 * trial.step_seconds / max(trial.steps, 1) for trial in trials),
        trial_seconds=statistics.median(trial.seconds for trial in trials),
        diverged=len(trials) - len(finite),
        train_seconds=statistics.median(train for train, _ in timed) if timed else math.nan,
        share_in_step=statistics.median(step / train for train, step in timed) if timed else math.nan,
        memory=memory,
    )


def rank_rows(rows: Sequence[Row], metric: Metric) -> list[Row]:
    """Test all pairs and return the rows with `p_values` and `worse_than`, in the order of the table."""
    finite = {row.optimizer: row for row in rows if not row.diverged}
    p_values = compute_p_values({name: row.scores for name, row in finite.items()})
    by_mean = sorted(rows, key=lambda row: (row.diverged, -metric.goodness(row.mean), row.label))
    ranked: dict[str, Row] = {}
    levels: dict[str, int] = {}
    for row in by_mean:
        name = row.optimizer
        own = {other: p for pair, p in p_values.items() if name in pair for other in pair if other != name}
        better = tuple(other for other in ranked if own.get(other, 1.0) < LEVEL or (row.diverged and other in finite))
        levels[name] = 1 + max((levels[other] for other in better), default=0)
        ranked[name] = dataclasses.replace(row, p_values=own, worse_than=better)
    return sorted(ranked.values(), key=lambda row: (row.diverged, levels[row.optimizer], row.label))


def compute_p_values(scores: Mapping[str, Sequence[float]]) -> dict[tuple[str, str], float]:
    """Return the Holm-corrected p-value of each pair; the scores are over the same seeds in the same order."""
    pairs = list(itertools.combinations(scores, 2))
    raw = np.array([_test_pair(np.array(scores[first]), np.array(scores[second])) for first, second in pairs])
    order = np.argsort(raw, kind="stable")
    corrected = np.minimum(np.maximum.accumulate(raw[order] * np.arange(len(pairs), 0, -1)), 1.0)
    return {pairs[place]: float(p) for place, p in zip(order, corrected)}


def _test_pair(first: np.ndarray, second: np.ndarray) -> float:
    from scipy import stats

    differences = first - second
    rounding = 1e-12 * max(np.abs(first).max(), np.abs(second).max())
    if len(differences) < 2 or np.abs(differences).max() <= rounding:
        return 1.0
    if np.ptp(differences) <= rounding:
        return float(stats.binomtest(len(differences), len(differences)).pvalue)
    return float(stats.ttest_rel(first, second).pvalue)


def describe_verdict(table: Sequence[Row], metric: Metric) -> str:
    """Return who won, in a sentence or two."""
    if not table:
        return "No winner: no seed was finished by all optimizers."
    first = table[0]
    if first.diverged:
        return "No winner: all optimizers diverged on some seed."
    seeds = f"over {first.seeds} seeds" if first.seeds > 1 else "on one seed"
    if len(table) == 1:
        return f"No winner: {first.label} ran alone and reached {first.text(metric)} {seeds}."
    if first.seeds == 1:
        listing = ", ".join(f"{row.label} {row.text(metric)}" for row in table)
        return f"No winner: differences on one seed cannot be tested. {listing}."
    best = [row for row in table if not row.worse_than]
    worse = [row for row in table if row.worse_than and row.optimizer != RMSPROP]
    if len(best) == 1:
        verdict = f"{first.label} won with {first.text(metric)} {seeds}."
    else:
        names = _join([f"{row.label} ({row.text(metric)})" for row in best])
        verdict = f"No winner: {names} are not significantly different {seeds}."
    if tested := [row.label for row in worse if not row.diverged]:
        verdict += f" Significantly worse: {_join(tested)}."
    if diverged := [row.label for row in worse if row.diverged]:
        verdict += f" Diverged on some seed: {_join(diverged)}."
    ours = find_rmsprop(table)
    if ours is None or not ours.worse_than:
        return verdict
    if ours.diverged:
        return f"{verdict} RMSprop lost: it diverged on {ours.diverged} of {ours.seeds} seeds."
    better = _join([row.label for row in table if row.optimizer in ours.worse_than])
    return f"{verdict} RMSprop lost with {ours.text(metric)}: significantly worse than {better}."


def describe_rmsprop(table: Sequence[Row]) -> str:
    """Return in a few words how RMSprop did, by the same tests as `describe_verdict`."""
    ours = find_rmsprop(table)
    if ours is None or len(table) < 2:
        return "alone" if ours is not None else "did not run"
    if table[0].diverged:
        return "no winner"
    if ours.seeds == 1:
        return "no winner: one seed"
    if ours.diverged:
        return "lost: diverged"
    if ours.worse_than:
        return f"lost to {len(ours.worse_than)} of {len(table) - 1}"
    has_won = all(row.worse_than for row in table if row is not ours)
    return "won" if has_won else "not significantly different"


def find_rmsprop(table: Sequence[Row]) -> Row | None:
    """Return RMSprop's row, or None."""
    return next((row for row in table if row.optimizer == RMSPROP), None)


def find_best_mean(table: Sequence[Row], metric: Metric) -> Row:
    """Return the row with the best mean; those that diverged on fewer seeds come first."""
    return min(table, key=lambda row: (row.diverged, -metric.goodness(row.mean)))


def format_number(value: float, form: str = ".3g", unit: str = "") -> str:
    """Return a number for a reader; a dash for NaN and infinity."""
    return f"{value:{form}}{unit}" if math.isfinite(value) else "–"


def _join(words: Sequence[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def explain_step_time(results: Results, framework: Framework) -> str:
    """Return what the time column compares, and what it does not."""
    if any(environment.get("kernel") != "compiled" for environment in results.environments):
        return (
            "Time in step: the compiled module was not in use, so RMSprop ran in plain array code like the baselines; "
            "its compiled step is faster."
        )
    if framework == "numpy":
        return (
            "Time in step: RMSprop is compiled code here and the baselines are plain NumPy code, written to be read. "
            "The column shows what this library's step costs in this training, not that one method is cheaper than "
            "another."
        )
    if results.settings.device != "cpu":
        return (
            f"Time in step, on {results.settings.device}, including the device's own work: RMSprop is "
            "rmsprop.torch.RMSprop with torch's operations, the baselines are torch.optim's in their fastest form."
        )
    return (
        "Time in step: RMSprop is rmsprop.torch.RMSprop, whose step is compiled; the baselines are torch.optim's in "
        "their fastest form, fused where torch has that. torch-rmsprop (--with) is the same method in torch.optim."
    )
