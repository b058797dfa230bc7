"""Write what a benchmark leaves behind: results.json while it runs, curves.png and report.html at its end; and what a
notebook shows of its results.

The page loads nothing: styles and pictures are inside it, and its content policy forbids the rest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rmsprop import _display
from rmsprop._theme import css_variables
from rmsprop.errors import FileError, MissingDependency
from rmsprop.optimizers import TABLE, Optimizer
from rmsprop.race import choice
from rmsprop.race.folder import Folder
from rmsprop.race.picture import PANELS, draw_png, draw_svg
from rmsprop.race.record import Results
from rmsprop.race.run import is_complete
from rmsprop.race.task import Task, get, import_package, names
from rmsprop.race.verdict import LEVEL, describe_verdict, explain_step_time, format_number, make_table

__all__ = ["ResultsWriter", "render_json", "render_page", "render_template", "write_html", "write_text"]

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

# The markers of `rmsprop.optimizers` as SVG, at the middle of a line of 38 x 14.
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


class ResultsWriter:
    """Writes the folder of a benchmark.

    A new benchmark leaves the folder unchanged until its first trial is finished: then earlier results are renamed. If
    a write fails while it runs, the trials stay in memory and the next save tries again.

    `resumed` is how many trials the folder already holds of this benchmark, None for a new one; `log` is called with a
    line for the user.
    """

    def __init__(self, task: Task, folder: Folder, *, resumed: int | None, log: Callable[[str], None]) -> None:
        self._task, self._folder, self._log = task, folder, log
        self._is_new, self._written = resumed is None, resumed or 0
        self._failed = False

    def save(self, results: Results) -> None:
        """Write results.json, unless that was done a moment ago; a failure is logged once."""
        if not self._folder.is_save_due():
            return
        try:
            self._write_results(results)
        except FileError as error:
            if not self._failed:
                self._log(f"Not saved, training continues: {error}.")
            self._failed = True

    def finish(self, results: Results) -> list[Path]:
        """Write results.json, and, if all optimizers have finished a seed, the picture and the report.

        Returns:
            The files written, the report last; none if no trial was finished.

        Raises:
            FileError: Something could not be written: the message says what is lost.
            MissingDependency: matplotlib or Jinja2 is not installed; results.json is written.
        """
        if not results.trials:
            return []
        try:
            files = [self._write_results(results)]
        except FileError as error:
            trials = len(results.trials)
            raise FileError(
                f"{error}. Not written: {trials - self._written} of {trials} finished trials, and the report"
            ) from error
        table = make_table(self._task, results)
        if not table:
            return files
        try:
            picture = draw_png(self._task, results, describe_verdict(table, self._task.metric))
            files.append(self._folder.write("curves.png", picture))
            return [*files, self._folder.write("report.html", render_page(self._task, results))]
        except FileError as error:
            raise FileError(f"{error}. All trials are in {files[0]}; the report is incomplete") from error

    def _write_results(self, results: Results) -> Path:
        if self._is_new:
            if previous := self._folder.set_aside():
                self._log(f"The earlier results are kept as {previous}.")
            self._is_new = False
        path = self._folder.write(Folder.results_name, render_json(self._task, results))
        self._written, self._failed = len(results.trials), False
        return path


def render_json(task: Task, results: Results) -> str:
    """Return results.json: the trials, and what follows from them for readers."""
    table = make_table(task, results)
    rows = []
    for row in table:
        fields = dataclasses.asdict(row) | {"mean": row.mean, "spread": row.spread}
        del fields["memory"]
        fields["state_bytes_per_parameter"] = row.memory and row.memory.state_per_parameter
        fields["step_bytes_per_parameter"] = row.memory and row.memory.step_per_parameter
        # JSON has no NaN.
        rows.append({key: None if isinstance(x, float) and math.isnan(x) else x for key, x in fields.items()})
    summary = {
        "task": {"name": task.name, "title": task.title, "model": results.model or task.model},
        "source": task.source,
        "licence": task.license,
        "complete": is_complete(task, results),
        "verdict": describe_verdict(table, task.metric),
        "metric": {"name": task.metric.name, "better": task.metric.better},
        "table": rows,
    }
    return results.to_json(summary)


def render_page(task: Task, results: Results) -> str:
    """Return report.html; at least one seed must be finished by all optimizers."""
    table = make_table(task, results)
    return render_template(
        "report.html",
        task=task,
        metric=task.metric,
        settings=results.settings,
        sample=results.sample,
        environments=results.environments,
        sizes=results.data.get("sizes", {}),
        complete=is_complete(task, results),
        table=table,
        verdict=describe_verdict(table, task.metric),
        step_time=explain_step_time(results, task.framework),
        level=LEVEL,
        figures=[(draw_svg(name, task, results), caption) for name, (_, caption) in PANELS.items()],
        choice=choice,
        marks=_MARKS,
        dash=_format_dash,
        number=format_number,
    )


def render_template(name: str, *, policy: str = POLICY, **values: Any) -> str:
    """Return a page of this package's templates; `policy` is its content policy."""
    jinja2 = import_package("jinja2", extra="lab", purpose="the report")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rmsprop.race"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(
        policy=policy, css_variables=css_variables(), optimizers=TABLE.values(), **values
    )


def _format_dash(entry: Optimizer) -> str:
    return "" if isinstance(entry.dash, str) else " ".join(f"{1.8 * length:g}" for length in entry.dash[1])


def write_text(results: Results) -> str:
    """Return the benchmark in a line, and the verdict in another if the task is one of this library's."""
    head = f"Results({results.settings.task}, {len(results.trials)} trials)"
    if results.settings.task not in names():
        return head
    task = get(results.settings.task)
    return f"{head}\n{describe_verdict(make_table(task, results), task.metric)}"


def write_html(results: Results) -> str | None:
    """Return the verdict, the table and, if matplotlib is there, the curves; None if the task is not this library's."""
    if results.settings.task not in names():
        return None
    task = get(results.settings.task)
    table = make_table(task, results)
    verdict = describe_verdict(table, task.metric)
    parts = [_display.make_list([f"{task.title}: {verdict}"])]
    if table:
        heads = ("optimizer", "learning rate", f"test {task.metric.name}", "worst to best", "loss", "diverged")
        rows = [
            (row.label, f"{row.lr:g}", row.text(task.metric), row.extremes(task.metric), format_number(row.loss),
             f"{row.diverged} of {row.seeds}")
            for row in table
        ]  # fmt: skip
        parts.append(_display.make_table(heads, rows))
        with contextlib.suppress(MissingDependency):
            parts.append(_display.embed_image(draw_png(task, results, verdict), format="png", text=verdict))
    return "".join(parts)
