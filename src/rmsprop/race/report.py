"""Write a race's folder: report.html, curves.png, results.json.

The page stands alone: styles and pictures are inside it, and its policy forbids it to load anything.
"""

from __future__ import annotations

import html
import math
from pathlib import Path

from rmsprop.optimizers import TABLE
from rmsprop.race import choice
from rmsprop.race.folder import Folder
from rmsprop.race.picture import PANELS, draw_png, draw_svg
from rmsprop.race.record import Results
from rmsprop.race.run import finished
from rmsprop.race.style import CSS
from rmsprop.race.task import Task
from rmsprop.race.verdict import Row, facts, rows, sentence, step_note

__all__ = ["document", "draw", "page", "write"]

_MARKS = {
    "o": '<circle cx="19" cy="7" r="3.6"/>',
    "s": '<rect x="15.8" y="3.8" width="6.4" height="6.4"/>',
    "^": '<path d="M19 2.8l4.2 7.6h-8.4z"/>',
    "v": '<path d="M19 11.2l4.2-7.6h-8.4z"/>',
    "D": '<path d="M19 2.6l4.4 4.4-4.4 4.4-4.4-4.4z"/>',
    "p": '<path d="M19 2.6l4.4 3.2-1.7 5.2h-5.4l-1.7-5.2z"/>',
    "h": '<path d="M19 2.6l3.8 2.2v4.4L19 11.4l-3.8-2.2V4.8z"/>',
    "P": '<path d="M17.6 3h2.8v2.6H23v2.8h-2.6V11h-2.8V8.4H15V5.6h2.6z"/>',
    "X": '<path d="M16 4l6 6m0-6l-6 6" stroke-width="2.6"/>',
}
_SPLITS = {"train": "training", "valid": "validation"}


def document(task: Task, results: Results) -> str:
    """Return results.json: the trials and what follows from them."""
    about = {
        "task": {"name": task.name, "title": task.title, "model": results.model or task.model},
        "source": task.source,
        "licence": task.license,
        "complete": finished(task, results),
    }
    return results.to_json({**about, **facts(task, results)})


def write(task: Task, results: Results, folder: Folder) -> list[Path]:
    """Write results.json, and, if every optimizer has finished a seed, the picture and the report.

    Returns:
        The files written, the report last.

    Raises:
        FileError: The disk is full or the folder is not writable; results.json is written first.
        MissingDependency: matplotlib is not installed.
    """
    return [folder.write(Folder.results_name, document(task, results)), *draw(task, results, folder)]


def draw(task: Task, results: Results, folder: Folder) -> list[Path]:
    """Write the picture and the report, if every optimizer has finished a seed.

    Returns:
        The files written, the report last.

    Raises:
        FileError: The disk is full or the folder is not writable.
        MissingDependency: matplotlib is not installed.
    """
    table = rows(task, results)
    if not table:
        return []
    picture = draw_png(task, results, sentence(table, task.metric))
    return [folder.write("curves.png", picture), folder.write("report.html", page(task, results))]


def page(task: Task, results: Results) -> str:
    """Return the report."""
    table = rows(task, results)
    verdict = sentence(table, task.metric)
    figures = "".join(
        f"<figure>{draw_svg(name, task, results)}<figcaption>{_safe(caption)}</figcaption></figure>"
        for name, (_, caption) in PANELS.items()
    )
    partial = (
        ""
        if finished(task, results)
        else '<p class="partial">This race was broken off. Add <code>--resume</code> to go on; so far:</p>'
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="color-scheme" content="light dark">
<title>{_safe(task.title)}: a race of optimizers</title>
<style>{CSS}{_colours()}</style>
</head>
<body>
<main>
<header>
<p class="kicker">rmsprop race {_safe(task.name)}</p>
<h1>{_safe(task.title)}: who learns best?</h1>
{partial}<p class="verdict">{_safe(verdict)}</p>
</header>
{_table(task, table)}
<ul class="notes">
<li>{_safe(step_note(results, task.framework))}</li>
{_memory_note(table)}{_edge_note(table)}{_precision_note(task, results)}</ul>
<h2>Curves</h2>
{_legend(results)}
<div class="figures">{figures}</div>
{_sample(results)}<h2>How it was run</h2>
{_protocol(task, results)}
<h2>With what</h2>
{_environment(task, results)}
<footer><p>Every curve of every trial is in <code>results.json</code> beside this page; <code>rmsprop race \
{_safe(task.name)} --resume</code> with the same <code>--out</code> draws this page again from it.</p></footer>
</main>
</body>
</html>
"""


def _table(task: Task, table: list[Row]) -> str:
    metric = task.metric
    head = (
        "Optimizer", "Learning rate", f"Test {metric.name}", "Test loss", "Time in step", "Bytes per weight", "Trial",
    )  # fmt: skip
    lines = []
    for row in table:
        worst, best = sorted((min(row.scores), max(row.scores)), key=metric.goodness) if row.scores else (0.0, 0.0)
        extremes = f"{metric.text(worst)} to {metric.text(best)}" if row.scores else "–"
        diverged = f' <span class="bad">{row.diverged} of {row.seeds} diverged</span>' if row.diverged else ""
        cells = (
            f"{row.lr:g}{'*' if row.at_edge else ''}",
            f"<strong>{_safe(row.text(metric))}</strong>{diverged}<small>{_safe(extremes)}</small>",
            f"{_number(row.loss)}<small>training {_number(row.train_loss)}</small>",
            f"{row.step_us:.1f} µs{_share(row)}",
            _memory(row),
            f"{row.seconds:.2f} s",
        )
        own = ' class="own"' if row.optimizer == "rmsprop" else ""
        lines.append(
            f'<tr{own}><th scope="row">{_key(row.optimizer)}{_safe(row.label)}'
            f"<small>{_safe(choice.get(row.optimizer).settings(task.framework))}</small></th>"
            + "".join(f"<td>{cell}</td>" for cell in cells)
            + "</tr>"
        )
    heads = "".join(f'<th scope="col">{_safe(word)}</th>' for word in head)
    seeds = f"{table[0].seeds} seed{'s' if table[0].seeds > 1 else ''}" if table else "no seed"
    # A region that scrolls must be reachable by keyboard, and then it needs a name.
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="The table"><table>'
        "<caption>After the last epoch; mean ± standard deviation over "
        f"{seeds}, and from the worst seed to the best. Best first.</caption><thead><tr>{heads}"
        f"</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _share(row: Row) -> str:
    return "" if math.isnan(row.share) else f"<small>{100 * row.share:.1f} % of training</small>"


def _memory(row: Row) -> str:
    if row.memory is None:
        return "–"
    taken = row.memory.step_per_parameter
    step = "" if taken is None else f"<small>+ {taken:.1f} in a step</small>"
    return f"{row.memory.state_per_parameter:.1f}{step}"


def _sample(results: Results) -> str:
    if not results.sample:
        return ""
    return f"<h2>What RMSprop's model makes</h2>\n<pre>{_safe(results.sample)}</pre>\n"


def _edge_note(table: list[Row]) -> str:
    edge = [row.label for row in table if row.at_edge]
    return f"<li>* at the edge of the grid: {_safe(', '.join(edge))} might do better beyond it.</li>\n" if edge else ""


def _memory_note(table: list[Row]) -> str:
    if all(row.memory is None for row in table):
        return ""
    return (
        "<li>Bytes per weight: what the optimizer keeps beside the weight itself, and below it what one step borrows "
        "from the framework's allocator. Measured in a training of its own, outside of the timed ones.</li>\n"
    )


def _precision_note(task: Task, results: Results) -> str:
    count = int(results.data.get("sizes", {}).get("test", 0))
    if not (task.metric.percent and count):
        return ""
    one = task.metric.gap_text(1 / count)
    return (
        f"<li>One of the {count:,} test examples is {one}. The spread is that of seeds (weights and order of the "
        "batches); other test examples would move all numbers together.</li>\n"
    )


def _protocol(task: Task, results: Results) -> str:
    settings, sizes = results.settings, results.data.get("sizes", {})
    grid = ", ".join(f"{lr:g}" for lr in settings.grid)
    parts = [f"{count:,} {_SPLITS.get(name, name)}" for name, count in sizes.items()]
    tuning = len(settings.grid) * len(settings.tuning_seeds)
    points = [
        f"Data: {task.source}. {task.license}.",
        f"Split, the same for all: {', '.join(parts)} examples.",
        f"Model: {task.model}.",
        f"Tuning: each optimizer trained at each of the learning rates {grid}, with seeds that are not "
        f"raced ({', '.join(map(str, settings.tuning_seeds))}), {tuning} trials each, and kept the rate with the "
        "best mean validation score over the last quarter of the epochs. The test examples had no part in that.",
        f"Racing: {settings.epochs} epochs per trial, seeds {', '.join(map(str, settings.seeds))}. Within a seed all "
        "start from the same weights and see the same batches. The last epoch counts, not the best one.",
        "Somebody won or lost only where two means lie further apart than chance brings about between equals in 19 of "
        "20 races (Games' and Howell's test of all pairs). Whatever is closer is a tie.",
        *([f"CPU threads, as asked for: {settings.threads}."] if settings.threads else []),
        *task.notes,
    ]
    return f"<ul>{''.join(f'<li>{_safe(point)}</li>' for point in points)}</ul>"


def _environment(task: Task, results: Results) -> str:
    lists = []
    for place, environment in enumerate(results.environments):
        items = "".join(f"<dt>{_safe(name)}</dt><dd>{_safe(text)}</dd>" for name, text in environment.items())
        lists.append(("<p>Trials were added later with:</p>" if place else "") + f"<dl>{items}</dl>")
    return "\n".join(lists)


def _legend(results: Results) -> str:
    keys = "".join(f"<li>{_key(name)}{_safe(choice.get(name).label)}</li>" for name in results.settings.optimizers)
    return f'<ul class="legend" aria-label="Line styles">{keys}</ul>'


def _key(optimizer: str) -> str:
    """Return a bit of the line as it is drawn: colour, dash, marker."""
    entry = choice.get(optimizer)
    dash = "" if isinstance(entry.dash, str) else " ".join(f"{1.8 * n:g}" for n in entry.dash[1])
    return (
        f'<svg class="key" viewBox="0 0 38 14" aria-hidden="true" style="color:var(--{entry.name})">'
        f'<path d="M1 7h36" stroke-dasharray="{dash}"/><g class="mark">{_MARKS[entry.marker]}</g></svg>'
    )


def _colours() -> str:
    light = "".join(f"--{entry.name}:{entry.light};" for entry in TABLE.values())
    dark = "".join(f"--{entry.name}:{entry.dark};" for entry in TABLE.values())
    return f":root{{{light}}}@media (prefers-color-scheme: dark){{:root{{{dark}}}}}"


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "–"


def _safe(text: str) -> str:
    return html.escape(text)
