"""`rmsprop doctor`. Cheap to import: a framework is imported only to read one of its files."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rmsprop.doctor import History, Sample

__all__ = ["doctor"]

DOCTOR = """Find what is wrong inside an optimizer, tensor by tensor, and what to do about it.

PATH is a checkpoint of RMSprop in any layout that `rmsprop convert` reads, or a folder that rmsprop.doctor.watch wrote:
then the findings are those of the whole training, the latest one in that folder. Nothing in a file is executed.

The effective lr is lr / denominator, the factor of the gradient in a step: 5 %, median and 95 % of a tensor's elements.
Exit code: 0 healthy, 1 findings, 2 refused.

Examples:

\b
  rmsprop doctor run.pt
  rmsprop doctor run.pt --plot rates.png
  rmsprop doctor state.msgpack --lr 0.001
  rmsprop doctor gan.pt --at optimizer_g --json
  rmsprop doctor runs/x
"""


def doctor(  # noqa: D103 (DOCTOR is the docstring)
    source: Annotated[str, typer.Argument(metavar="PATH", help="A checkpoint, or the folder of a watch.")],
    lr: Annotated[
        float | None, typer.Option(help="Learning rate, if the checkpoint has none.", metavar="LR", min=0.0)
    ] = None,
    from_: Annotated[str | None, typer.Option("--from", help="Its layout. [recognised]", metavar="NAME")] = None,
    at: Annotated[str | None, typer.Option(help="Which optimizer, if it has several.", metavar="PATH")] = None,
    plot: Annotated[
        str | None, typer.Option(help="Draw the effective lr: .png, .svg or .pdf.", metavar="FILE", show_default=False)
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print samples and findings as JSON.")] = False,
) -> None:

    from rmsprop import checkpoints
    from rmsprop.doctor import History, examine_checkpoint, picture
    from rmsprop.doctor.writers import LINES, read

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if plot is not None:
        picture.check_path(plot)  # before the work
    path, notes, history = Path(source), list[str](), History()
    is_watch = os.path.isfile(path / LINES) or path.suffix == ".jsonl"
    if is_watch:
        samples = read(path, run=-1)
        head = f"{source}: {len(samples)} samples of {len({sample.tensor for sample in samples})} tensors"
        if samples[0].run > 1:
            notes.append(f"run {samples[0].run} of this folder; earlier runs are left out")
        history.add(samples)
    else:
        snapshot = checkpoints.read(path, from_, at=at, finite=False)
        checkup = examine_checkpoint(snapshot, lr=lr)
        samples, history, notes = list(checkup.samples), checkup.history, list(checkup.notes)
        step = "step not known" if snapshot.step is None else f"step {snapshot.step:,}"
        head = f"{source}: {snapshot.format}, {len(snapshot.parameters)} tensors, {step}"
    is_drawable = bool(picture.select_drawable(samples))
    if plot is not None and not is_drawable:
        notes.append(f"{plot} was not drawn: no tensor has an effective learning rate above 0")
    if json_:
        typer.echo(_write_json(source, samples, history, notes))
    else:
        _print(head, samples, history, notes, is_watch)
    if plot is not None and is_drawable:
        picture.draw(samples, plot, marked={finding.tensor for finding in history.findings})
    if history.findings:
        raise typer.Exit(1)


doctor.__doc__ = DOCTOR


def _write_json(source: str, samples: list[Sample], history: History, notes: list[str]) -> str:
    findings = []
    for finding in history.findings:
        key = finding.kind, finding.tensor
        fields = {**finding.__dict__, "worst": history.worst[key].value, "samples": history.counts[key]}
        findings.append({k: None if x == math.inf else x for k, x in fields.items()})
    report = {"path": source, "samples": [sample.__dict__ for sample in samples], "findings": findings, "notes": notes}
    return json.dumps(report, indent=2, allow_nan=False)


def _print(head: str, samples: list[Sample], history: History, notes: list[str], is_watch: bool) -> None:
    from rich import box
    from rich.table import Table

    from rmsprop.commands import words
    from rmsprop.doctor import report

    console = words.console()
    console.print(head, style="bold", soft_wrap=True, markup=False)
    last = list({sample.tensor: sample for sample in samples}.values())
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    heads, rows = report.make_rows(last, history.findings, is_watch=is_watch)
    for name in heads:
        table.add_column(name, no_wrap=True, justify="left" if name in ("tensor", "shape", "findings") else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if len(last) > len(rows):
        console.print(f"and {len(last) - len(rows)} more tensors", soft_wrap=True)
    for note in notes:
        console.print(f"note     {note}", soft_wrap=True, markup=False, style="yellow")
    for line in report.write_lines(samples, history.findings):
        if history.findings:
            console.print(f"finding  {line}", soft_wrap=True, markup=False, style="red")
        else:
            console.print(line, style="green" if samples else "yellow")
