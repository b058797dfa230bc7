"""Write docs/why/races.md from the results of races: `python docs/races.py [FOLDER]`, by default runs/races.

FOLDER holds a folder per task, as `rmsprop race all --out FOLDER` (or `make races`) leaves them. Nothing is measured.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from pathlib import Path

from rmsprop.race import Folder, Results, Settings, get, names
from rmsprop.race.run import finished
from rmsprop.race.task import Task
from rmsprop.race.verdict import SUBJECT, Row, rows, sentence, standing

PAGE = Path(__file__).parent / "why" / "races.md"

HEAD = """# Who learns best: RMSprop and its rivals on real data

Written by `docs/races.py` from the results of races, each by the command beside it; [races](../use/races.md) tells what
each task is. `make races` runs all with their full budgets, which takes hours; a section says where less was spent.

Every optimizer chooses its learning rate on validation examples from the same grid, with the same budget; all else is
its own default. Within a seed all start from the same weights and see the same batches. The numbers below are of test
examples after the last epoch, mean ± standard deviation over the seeds. A tie is called where two means lie no further
apart than the typical spread of seeds. Losses are kept: nothing is chosen by who won.
"""


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
    """Count wins, ties and losses, and show every task in one line."""
    places = {task.name: standing(rows(task, results)) for task, results in found}
    counts = Counter(place.split(",")[0].split(";")[0] for place in places.values())
    words = {"won": "won", "tie": "was among the best", "lost": "lost"}
    told = ", ".join(f"{word} {counts[key]}" for key, word in words.items())
    rest = len(found) - sum(counts[key] for key in words)
    without = f"; {rest} had no winner" if rest else ""
    lines = [
        f"Tasks measured: {len(found)}. RMSprop {told}{without}.\n",
        "| task | metric | RMSprop | target | best | RMSprop ... |",
        "|---|---|---|---|---|---|",
    ]
    for task, results in found:
        table, metric = rows(task, results), task.metric
        ours = next((row for row in table if row.rival == SUBJECT), None)
        lines.append(
            f"| [{task.name}](#{task.name}) | {metric.name} | {'–' if ours is None else ours.text(metric)} "
            f"| {_target(task, ours)} | {table[0].label}, {table[0].text(metric)} | {places[task.name]} |"
        )
    return "\n".join(lines) + "\n"


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
            if (value := results.environment.get(key)) and value not in seen[key]:
                seen[key].append(value)
    told = ", ".join(f"{key} {' and '.join(values)}" for key, values in seen.items() if values)
    days = sorted(results.environment.get("date", "")[:10] for _, results in found)
    span = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    return f"Measured {span}: {told}. Times are those of that machine; what else it did at the time is in them.\n"


def _section(task: Task, results: Results) -> str:
    table, settings = rows(task, results), results.settings
    grids = (task.budget.grid, task.quick.grid) if settings.short else (task.budget.grid,)
    usual = str(getattr(task, "threads", 1))
    sparing = [
        "a part of the data" if settings.short else "",
        f"{_counted(settings.epochs)} instead of {task.budget.epochs}" if settings.epochs != task.budget.epochs else "",
        f"the learning rates {_listed(settings.grid)} alone" if settings.grid not in grids else "",
        f"threads: {threads} instead of {usual}"
        if (threads := results.environment.get("threads", usual)) != usual
        else "",
        "" if finished(task, results) else "a race that was broken off",
    ]
    caution = " and ".join(part for part in sparing if part)
    lines = [
        f"## {task.name}\n",
        f"{task.title}: {task.model}. {task.source}.\n",
        *([f"With {caution}: not the task's own budget.\n"] if caution else []),
        f"    {_command(task, settings)}\n",
        f"**{sentence(table, task.metric)}**\n",
        f"| optimizer | learning rate | test {task.metric.name} | worst to best | training loss | step | of training "
        "| bytes kept per weight | diverged |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_line(task, row) for row in table),
        "",
    ]
    if any(row.at_edge for row in table):
        lines.append("\\* at the edge of the grid: a better rate may lie beyond.\n")
    lines += [f"{note}\n" for note in task.notes]
    if results.sample:
        lines.append("What RMSprop's model makes:\n")
        lines += [f"    {line}".rstrip() for line in results.sample.splitlines()]
        lines.append("")
    return "\n".join(lines)


def _command(task: Task, settings: Settings) -> str:
    """Return the line that runs such a race."""
    budget = task.quick if settings.short else task.budget
    words = [f"rmsprop race {task.name} --with {','.join(settings.rivals)}"]
    if len(settings.seeds) != budget.seeds:
        words.append(f"--seeds {len(settings.seeds)}")
    if settings.epochs != budget.epochs:
        words.append(f"--epochs {settings.epochs}")
    if settings.grid != budget.grid:
        words.append(f"--rates {','.join(f'{rate:g}' for rate in settings.grid)}")
    return " ".join([*words, *(["--quick"] if settings.short else [])])


def _listed(rates: tuple[float, ...]) -> str:
    return ", ".join(f"{rate:g}" for rate in rates)


def _counted(epochs: int) -> str:
    return f"{epochs} epoch{'s' if epochs != 1 else ''}"


def _line(task: Task, row: Row) -> str:
    metric = task.metric
    worst, best = sorted((min(row.scores), max(row.scores)), key=metric.goodness) if row.scores else (math.nan,) * 2
    cells = (
        f"**{row.label}**" if row.rival == SUBJECT else row.label,
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


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs") / "races")
    options = parser.parse_args()
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(options.folder), encoding="utf-8")
    print(f"written to {PAGE}")


if __name__ == "__main__":
    main()
