"""Write docs/why/races.md from the results of benchmarks: `python docs/races.py [FOLDER]`, by default runs/races.

FOLDER holds a folder per task, as `rmsprop race all --out FOLDER` (or `make races`) leaves them. Nothing is measured. A
page with tasks that FOLDER lacks is not replaced: `--drop` replaces it nevertheless, `--to FILE` writes another file.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections import Counter
from pathlib import Path

from rmsprop.race import Folder, Results, choice, get, names
from rmsprop.race.record import compare_environments
from rmsprop.race.run import is_complete
from rmsprop.race.task import Task
from rmsprop.race.verdict import (
    RMSPROP,
    Row,
    describe_rmsprop,
    describe_verdict,
    find_best_mean,
    find_rmsprop,
    format_number,
    make_table,
)

PAGE = Path(__file__).parent / "why" / "races.md"

HEAD = """# Which optimizer learns best: RMSprop and its baselines on real data

Written by `docs/races.py` from the results of benchmarks, each by the command beside it;
[benchmarks](../use/races.md) describes the tasks. `make races` runs all with their full budgets, which takes hours; a
section says if less was spent.

Every optimizer chooses its learning rate on validation examples from the same grid, with the same budget; all other
settings are its defaults. Within a seed all start from the same weights and see the same batches. The numbers below are
of test examples after the last epoch, mean ± standard deviation over the seeds. A win or loss is reported only if the
difference is significant at the 5 % level: paired t tests over the seeds, corrected for all pairs by Holm's method.
Optimizers that are significantly better come first; those that are not significantly different are in alphabetical
order. One benchmark was run again with other learning rates after RMSprop had come last in it; its section
([cartpole](#cartpole)) says so.
"""

SEEDS = 3
"""A benchmark with fewer is shown and not counted."""

_SEEDS_ADDED = (
    "Run with three seeds first, without a winner by the unpaired test that was used then; the other two of the task's "
    "own five seeds were added after that."
)
REMARKS = {
    **dict.fromkeys(("sentiment", "speech", "diamonds", "ratings"), (_SEEDS_ADDED,)),
    "cartpole": (
        "Policies that balance the pole forget it again here: RMSprop, gradient descent, AdaGrad and AdamW each end "
        "low on one or two seeds of eight. This benchmark ran first with the learning rates 0.0003, 0.001, 0.003, "
        "0.01, 0.03, 0.1: tuning chose 0.003, one seed of three fell from 500 to 34 in the last epoch, and RMSprop "
        "came last with a mean of 344.6 ± 269, while four baselines had 500. The rates of the table, 1-2-5 per "
        "decade, were set after that result. With them RMSprop had 500 on each of three seeds; the five other seeds "
        "were run afterwards, to see whether that would last, and one of them ended at 146.",
    ),
}
"""What a reader must know about a benchmark that its results do not say."""


def write_page(folder: Path) -> str:
    """Return the page.

    Args:
        folder: A folder per task, with its name.
    """
    found, missing = [], []
    for name in names():
        path = folder / name
        results = Folder(path).load() if (path / Folder.results_name).exists() else None
        if results is None or not make_table(get(name), results):
            missing.append(name)
        else:
            found.append((get(name), results))
    parts = [HEAD]
    if found:
        parts += [_write_summary(found), _describe_machines([results for _, results in found])]
    if missing:
        parts.append(f"Not measured here: {', '.join(missing)}.\n")
    parts += [_write_section(task, results) for task, results in found]
    return "\n".join(parts).rstrip() + "\n"


def _write_summary(found: list[tuple[Task, Results]]) -> str:
    """Count the benchmarks with the full budget by outcome, and show each task in a line."""
    verdicts = {task.name: describe_rmsprop(make_table(task, results)) for task, results in found}
    counted = {task.name for task, results in found if _has_full_budget(task, results)}
    counts = Counter(verdicts[name].split()[0].rstrip(":") for name in counted)
    outcomes = {"won": "won", "not": "was not significantly different from the best in", "lost": "lost"}
    listing = ", ".join(f"{words} {counts[key]}" for key, words in outcomes.items())
    without = f"; {counts['no']} had no winner" if counts["no"] else ""
    summary = (
        f"Tasks measured: {len(found)}, counted with the full budget {len(counted)}: each of the five default "
        f"optimizers, all learning rates, all epochs, at least {SEEDS} seeds. "
        + (f"Of these RMSprop {listing}{without}." if counted else "None is counted.")
        + (" Those marked ° spent less and are not counted." if len(counted) < len(found) else "")
    )
    lines = [
        textwrap.fill(summary, width=120) + "\n",
        "| task | metric | RMSprop | target | best mean | RMSprop ... |",
        "|---|---|---|---|---|---|",
    ]
    for task, results in found:
        table, metric, name = make_table(task, results), task.metric, task.name
        ours, best = find_rmsprop(table), find_best_mean(table, metric)
        target = metric.text(metric.target)
        if ours is not None and ours.scores:
            is_reached = metric.goodness(ours.mean) >= metric.goodness(metric.target)
            target += ", reached" if is_reached else ", MISSED"
        lines.append(
            f"| [{name}](#{name}) | {metric.name} | {'–' if ours is None else ours.text(metric)} | {target} "
            f"| {best.label}, {best.text(metric)} | {verdicts[name]}{'' if name in counted else ' °'} |"
        )
    return "\n".join(lines) + "\n"


def _has_full_budget(task: Task, results: Results) -> bool:
    settings, budget = results.settings, task.budget
    return (
        not settings.short
        and settings.epochs == budget.epochs
        and set(choice.DEFAULT) <= set(settings.optimizers)
        and set(budget.grid) <= set(settings.grid)
        and len(settings.tuning_seeds) >= budget.tuning_seeds
        and len(settings.seeds) >= SEEDS
        and is_complete(task, results)
    )


def _describe_machines(found: list[Results]) -> str:
    """Return where and when: each value once."""
    environments = [environment for results in found for environment in results.environments]
    parts = []
    for key in ("system", "cores", "python", "torch", "rmsprop", "kernel"):
        if values := dict.fromkeys(environment[key] for environment in environments if environment.get(key)):
            parts.append(f"{key} {' and '.join(values)}")
    dates = (environment.get(key) for environment in environments for key in ("date", "until"))
    days = sorted(date[:10] for date in dates if date) or ["on an unknown day"]
    span = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    return f"Measured {span}: {', '.join(parts)}. Times are those of that machine, with whatever else ran on it.\n"


def _write_section(task: Task, results: Results) -> str:
    table, savings = make_table(task, results), _list(_list_savings(task, results))
    environments = zip(results.environments, results.later)
    changes = [change for before, now in environments for change in compare_environments(before, now)]
    lines = [
        f"## {task.name}\n",
        f"{task.title}: {task.model}. Data: {task.source}.\n",
        *([f"With {savings}: not the task's own budget.\n"] if savings else []),
        f"    {_write_command(task, results)}\n",
        f"**{describe_verdict(table, task.metric)}**\n",
        f"| optimizer | learning rate | test {task.metric.name} | worst to best | training loss | step | of training "
        "| bytes of state per weight | diverged |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_write_row(task, row) for row in table),
        "",
    ]
    if any(row.lr_at_edge_of_grid for row in table):
        lines.append("\\* at the edge of the grid: a better rate may lie beyond it.\n")
    if changes:
        lines.append(f"Trials were added in another environment: {'; '.join(changes)}.\n")
    lines += [f"{note}\n" for note in (*task.notes, *REMARKS.get(task.name, ()))]
    if results.sample:
        lines.append("What RMSprop's model generates:\n")
        lines += [f"    {line}".rstrip() for line in results.sample.splitlines()]
        lines.append("")
    return "\n".join(lines)


def _list_savings(task: Task, results: Results) -> list[str]:
    """List what was less than the task's own budget, or different."""
    settings, budget = results.settings, task.budget
    baselines = [choice.get(optimizer).label for optimizer in settings.optimizers if optimizer != RMSPROP]
    only = f"{_list(baselines)} as the only baseline{'s' if len(baselines) > 1 else ''}" if baselines else "no baseline"
    rates, is_part = ", ".join(f"{rate:g}" for rate in settings.grid), set(settings.grid) < set(budget.grid)
    threads, usual = _count_threads(task, results)
    savings = {
        "a part of the data": settings.short,
        only: not set(choice.DEFAULT) - {RMSPROP} <= set(settings.optimizers),
        f"{_count(len(settings.seeds), 'seed')} instead of {budget.seeds}": len(settings.seeds) < budget.seeds,
        f"{_count(settings.epochs, 'epoch')} instead of {budget.epochs}": settings.epochs != budget.epochs,
        f"the learning rates {rates} {'alone' if is_part else 'instead of its own'}": (
            settings.grid != (task.quick.grid if settings.short else budget.grid)
        ),
        f"threads: {threads} instead of {usual}": threads != usual,
        "some trials missing": not is_complete(task, results),
    }
    return [words for words, holds in savings.items() if holds]


def _count_threads(task: Task, results: Results) -> tuple[int, int]:
    """Return the number of threads that a benchmark used, and that of the task."""
    usual = 1 if results.settings.short else int(getattr(task, "threads", 1))
    return int(results.environment.get("threads", usual)), usual


def _write_command(task: Task, results: Results) -> str:
    """Return the line that runs such a benchmark."""
    settings = results.settings
    threads, usual = _count_threads(task, results)
    budget = task.quick if settings.short else task.budget
    rates = ",".join(f"{rate:g}" for rate in settings.grid)
    options = {
        f"--seeds {len(settings.seeds)}": len(settings.seeds) != budget.seeds,
        f"--epochs {settings.epochs}": settings.epochs != budget.epochs,
        f"--rates {rates}": settings.grid != budget.grid,
        f"--threads {threads}": threads != usual,
        f"--device {settings.device}": settings.device != "cpu",
        "--quick": settings.short,
    }
    command = f"rmsprop race {task.name} --with {','.join(settings.optimizers)}"
    return " ".join([command, *(option for option, holds in options.items() if holds)])


def _list(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' if number != 1 else ''}"


def _write_row(task: Task, row: Row) -> str:
    cells = (
        f"**{row.label}**" if row.optimizer == RMSPROP else row.label,
        f"{row.lr:g}{chr(92) + '*' if row.lr_at_edge_of_grid else ''}",
        row.text(task.metric),
        row.extremes(task.metric),
        format_number(row.train_loss),
        f"{row.step_microseconds:.0f} µs",
        format_number(100 * row.share_in_step, ".0f", " %"),
        "–" if row.memory is None else f"{row.memory.state_per_parameter:.1f}",
        f"{row.diverged} of {row.seeds}" if row.diverged else "",
    )
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> None:
    """Write the page.

    Raises:
        SystemExit: The page has a task of which there are no results.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs") / "races")
    parser.add_argument("--to", type=Path, default=PAGE, metavar="FILE", help="write another file than the page")
    parser.add_argument("--drop", action="store_true", help="write it also if it then has fewer tasks")
    options = parser.parse_args(arguments)
    text = write_page(options.folder)
    old = options.to.read_text(encoding="utf-8") if options.to.exists() else ""
    lost = [name for name in _find_tasks(old) if name not in _find_tasks(text)]
    if lost and not options.drop:
        sys.exit(
            f"{options.to} is unchanged: it has sections about {_list(lost)}, and {options.folder} has no results of "
            "these tasks. --to FILE writes another file; --drop replaces the page nevertheless"
        )
    options.to.parent.mkdir(exist_ok=True)
    options.to.write_text(text, encoding="utf-8")
    print(f"written to {options.to}")


def _find_tasks(text: str) -> list[str]:
    """Return the tasks that a page has sections about."""
    return re.findall(r"^## (\S+)$", text, flags=re.MULTILINE)


if __name__ == "__main__":
    main()
