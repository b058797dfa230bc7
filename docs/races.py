"""Write docs/why/races.md from the results of races: `python docs/races.py [FOLDER]`, by default runs/races.

FOLDER holds a folder per task, as `rmsprop race all --out FOLDER` (or `make races`) leaves them. Nothing is measured. A
page that tells of more tasks than FOLDER holds is left as it is: `--drop` writes it all the same, `--to FILE` another.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import textwrap
from collections import Counter
from pathlib import Path

from rmsprop.race import Folder, Results, choice, get, names
from rmsprop.race.record import changes
from rmsprop.race.run import finished
from rmsprop.race.task import Task
from rmsprop.race.verdict import RMSPROP, Row, rows, sentence, standing

PAGE = Path(__file__).parent / "why" / "races.md"

HEAD = """# Who learns best: RMSprop and its baselines on real data

Written by `docs/races.py` from the results of races, each by the command beside it; [races](../use/races.md) tells what
each task is. `make races` runs all with their full budgets, which takes hours; a section says where less was spent.

Every optimizer chooses its learning rate on validation examples from the same grid, with the same budget; all else is
its own default. Within a seed all start from the same weights and see the same batches. The numbers below are of test
examples after the last epoch, mean ± standard deviation over the seeds. Somebody won or lost only where two means lie
further apart than chance brings about between equals in 95 % of the races (Games' and Howell's test, over all pairs);
whatever is closer is a tie. Losses are kept; one race was run again with other learning rates after RMSprop had come
last in it, and its section ([cartpole](#cartpole)) says so.
"""

SEEDS = 3
"""Fewer say too little for a race to be counted."""


_SEEDS_ADDED = (
    "Raced with three seeds first, which gave a tie; the two others of the task's own five were added after that{then}."
)
REMARKS = {
    **dict.fromkeys(("sentiment", "speech", "diamonds"), (_SEEDS_ADDED.format(then=", and left it one"),)),
    "ratings": (_SEEDS_ADDED.format(then=", and made it a win"),),
    "cartpole": (
        "Policies that balance the pole unlearn it here: RMSprop, gradient descent, AdaGrad and AdamW each end low on "
        "one or two seeds of eight. This race ran first with the learning rates 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1: "
        "tuning chose 0.003, one seed of three fell from 500 to 34 in the last epoch, and RMSprop came last with a "
        "mean of 344.6 ± 269, while four baselines had 500. The rates of the table, 1-2-5 per decade, were set after "
        "that result. With them RMSprop had 500 on each of three seeds; the five other seeds were run afterwards, to "
        "see whether that would last, and one of them ended at 146.",
    ),
}
"""What a reader must know of how a race came about, which its results do not say."""


DEMONSTRATIONS = ("digits-speech",)
"""Tested on so few examples that no optimizers can be told apart: shown, not counted."""


def page(folder: Path) -> str:
    """Return the page.

    Args:
        folder: A folder per task, named like it.
    """
    found, absent = [], []
    for name in names():
        path = folder / name
        results = Folder(path).load() if (path / Folder.results_name).exists() else None
        if results is None or not rows(get(name), results):
            absent.append(name)
        else:
            found.append((get(name), results))
    parts = [HEAD]
    if found:
        parts += [_summary(found), _machines(found)]
    if absent:
        parts.append(f"Not measured here: {', '.join(absent)}.\n")
    parts += [_section(task, results) for task, results in found]
    return "\n".join(parts).rstrip() + "\n"


def _summary(found: list[tuple[Task, Results]]) -> str:
    """Count wins, ties and losses of the races that spared nothing, and show every task in one line."""
    places = {task.name: standing(rows(task, results)) for task, results in found}
    counted = [task.name for task, results in found if task.name not in DEMONSTRATIONS and _whole(task, results)]
    counts = Counter(places[name].split(",")[0].split(";")[0] for name in counted)
    words = {"won": "won", "tie": "was among the best", "lost": "lost"}
    told = ", ".join(f"{word} {counts[key]}" for key, word in words.items())
    rest = len(counted) - sum(counts[key] for key in words)
    without = f"; {rest} had no winner" if rest else ""
    summary = (
        f"Tasks measured: {len(found)}, counted with the whole budget {len(counted)}: each of the five default "
        f"optimizers, every learning rate, every epoch, at least {SEEDS} seeds. "
        + (f"Of these RMSprop {told}{without}." if counted else "None is counted.")
        + (" Those marked ° spent less or are demonstrations: not counted." if len(counted) < len(found) else "")
    )
    lines = [
        textwrap.fill(summary, width=120) + "\n",
        "| task | metric | RMSprop | target | best | RMSprop ... |",
        "|---|---|---|---|---|---|",
    ]
    for task, results in found:
        table, metric = rows(task, results), task.metric
        ours = next((row for row in table if row.optimizer == RMSPROP), None)
        lines.append(
            f"| [{task.name}](#{task.name}) | {metric.name} | {'–' if ours is None else ours.text(metric)} "
            f"| {_target(task, ours)} | {table[0].label}, {table[0].text(metric)} "
            f"| {places[task.name]}{'' if task.name in counted else ' °'} |"
        )
    return "\n".join(lines) + "\n"


def _whole(task: Task, results: Results) -> bool:
    """Whether a race spent what the task's own budget is, with enough seeds to count."""
    settings, budget = results.settings, task.budget
    return (
        not settings.short
        and settings.epochs == budget.epochs
        and set(choice.DEFAULT) <= set(settings.optimizers)
        and set(budget.grid) <= set(settings.grid)
        and len(settings.tuning_seeds) >= budget.tuning_seeds
        and len(settings.seeds) >= SEEDS
        and finished(task, results)
    )


def _target(task: Task, ours: Row | None) -> str:
    """Write the target, and whether it was reached."""
    metric = task.metric
    if ours is None or not ours.scores:
        return metric.text(metric.target)
    reached = metric.goodness(ours.mean) >= metric.goodness(metric.target)
    return f"{metric.text(metric.target)}, {'reached' if reached else 'MISSED'}"


def _machines(found: list[tuple[Task, Results]]) -> str:
    """Write where and when: once if it is the same for all."""
    keys = ("system", "cores", "python", "torch", "rmsprop", "kernel")
    seen: dict[str, list[str]] = {key: [] for key in keys}
    for _, results in found:
        for key in keys:
            for environment in results.environments:
                if (value := environment.get(key)) and value not in seen[key]:
                    seen[key].append(value)
    told = ", ".join(f"{key} {' and '.join(values)}" for key, values in seen.items() if values)
    days = sorted(
        environment[key][:10]
        for _, results in found
        for environment in results.environments
        for key in ("date", "until")
        if environment.get(key)
    ) or ["on an unknown day"]
    span = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    return f"Measured {span}: {told}. Times are those of that machine; what else it did at the time is in them.\n"


def _section(task: Task, results: Results) -> str:
    table, caution = rows(task, results), _listed(_sparing(task, results))
    lines = [
        f"## {task.name}\n",
        f"{task.title}: {task.model}. Data: {task.source}.\n",
        *([f"With {caution}: not the task's own budget.\n"] if caution else []),
        f"    {_command(task, results)}\n",
        f"**{sentence(table, task.metric)}**\n",
        f"| optimizer | learning rate | test {task.metric.name} | worst to best | training loss | step | of training "
        "| bytes kept per weight | diverged |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_line(task, row) for row in table),
        "",
    ]
    if any(row.at_edge for row in table):
        lines.append("\\* at the edge of the grid: a better rate may lie beyond.\n")
    if different := [part for a, b in zip(results.environments, results.later) for part in changes(a, b)]:
        lines.append(f"Trials were added in another environment: {'; '.join(different)}.\n")
    lines += [f"{note}\n" for note in (*task.notes, *REMARKS.get(task.name, ()))]
    if results.sample:
        lines.append("What RMSprop's model makes:\n")
        lines += [f"    {line}".rstrip() for line in results.sample.splitlines()]
        lines.append("")
    return "\n".join(lines)


def _sparing(task: Task, results: Results) -> list[str]:
    """Say what was less than the task's own budget, or other."""
    settings, budget = results.settings, task.budget
    grid = task.quick.grid if settings.short else budget.grid
    rates = ", ".join(f"{rate:g}" for rate in settings.grid)
    part = set(settings.grid) < set(budget.grid)
    here = [choice.get(optimizer).label for optimizer in settings.optimizers if optimizer != RMSPROP]
    optimizers = f"{_listed(here)} as the only baseline{'s' if len(here) > 1 else ''}" if here else "no baseline"
    seeds = len(settings.seeds)
    threads, usual = _threads(task, results)
    sparing = {
        "a part of the data": settings.short,
        optimizers: not set(choice.DEFAULT) - {RMSPROP} <= set(settings.optimizers),
        f"{seeds} seed{'s' if seeds != 1 else ''} instead of {budget.seeds}": seeds < budget.seeds,
        f"{_counted(settings.epochs)} instead of {budget.epochs}": settings.epochs != budget.epochs,
        f"the learning rates {rates} {'alone' if part else 'instead of its own'}": settings.grid != grid,
        f"threads: {threads} instead of {usual}": threads != usual,
        "a race that was broken off": not finished(task, results),
    }
    return [words for words, holds in sparing.items() if holds]


def _threads(task: Task, results: Results) -> tuple[int, int]:
    """Return on how many threads a race ran, and on how many it does by itself."""
    usual = 1 if results.settings.short else int(getattr(task, "threads", 1))
    return int(results.environment.get("threads", usual)), usual


def _command(task: Task, results: Results) -> str:
    """Return the line that runs such a race."""
    settings = results.settings
    threads, usual = _threads(task, results)
    budget = task.quick if settings.short else task.budget
    words = [f"rmsprop race {task.name} --with {','.join(settings.optimizers)}"]
    if len(settings.seeds) != budget.seeds:
        words.append(f"--seeds {len(settings.seeds)}")
    if settings.epochs != budget.epochs:
        words.append(f"--epochs {settings.epochs}")
    if settings.grid != budget.grid:
        words.append(f"--rates {','.join(f'{rate:g}' for rate in settings.grid)}")
    if threads != usual:
        words.append(f"--threads {threads}")
    if settings.device != "cpu":
        words.append(f"--device {settings.device}")
    return " ".join([*words, *(["--quick"] if settings.short else [])])


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _counted(epochs: int) -> str:
    return f"{epochs} epoch{'s' if epochs != 1 else ''}"


def _line(task: Task, row: Row) -> str:
    metric = task.metric
    worst, best = sorted((min(row.scores), max(row.scores)), key=metric.goodness) if row.scores else (math.nan,) * 2
    cells = (
        f"**{row.label}**" if row.optimizer == RMSPROP else row.label,
        f"{row.lr:g}{chr(92) + '*' if row.at_edge else ''}",
        row.text(metric),
        f"{metric.text(worst)} to {metric.text(best)}" if row.scores else "–",
        f"{row.train_loss:.3g}" if math.isfinite(row.train_loss) else "–",
        f"{row.step_us:.0f} µs",
        "–" if math.isnan(row.share) else f"{100 * row.share:.0f} %",
        "–" if row.memory is None else f"{row.memory.state_per_parameter:.1f}",
        f"{row.diverged} of {row.seeds}" if row.diverged else "",
    )
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> None:
    """Write the page.

    Raises:
        SystemExit: It would lose what it tells of a task.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs") / "races")
    parser.add_argument("--to", type=Path, default=PAGE, metavar="FILE", help="write another file than the page")
    parser.add_argument("--drop", action="store_true", help="write it also if it then tells of fewer tasks")
    options = parser.parse_args(arguments)
    text = page(options.folder)
    old = options.to.read_text(encoding="utf-8") if options.to.exists() else ""
    if (lost := [name for name in _told(old) if name not in _told(text)]) and not options.drop:
        sys.exit(
            f"{options.to} stays as it is: it also tells of {_listed(lost)}, of which {options.folder} holds no race. "
            "--to FILE writes elsewhere; --drop writes it all the same"
        )
    options.to.parent.mkdir(exist_ok=True)
    options.to.write_text(text, encoding="utf-8")
    print(f"written to {options.to}")


def _told(text: str) -> list[str]:
    """Return the tasks that a page has sections of."""
    return re.findall(r"^## (\S+)$", text, flags=re.MULTILINE)


if __name__ == "__main__":
    main()
