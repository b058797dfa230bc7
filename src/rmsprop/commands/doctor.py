"""`rmsprop doctor`. Cheap to import: a framework is imported only to read one of its files."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rmsprop.doctor import History, Sample

__all__ = ["doctor"]

SHOWN = 40
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
    from rmsprop.commands import words
    from rmsprop.doctor.findings import summarize

    console = words.console()
    console.print(head, style="bold", soft_wrap=True, markup=False)
    last = list({sample.tensor: sample for sample in samples}.values())
    console.print(_build_table(last[:SHOWN], history, is_watch))
    if len(last) > SHOWN:
        console.print(f"and {len(last) - SHOWN} more tensors", soft_wrap=True)
    for note in notes:
        console.print(f"note     {note}", soft_wrap=True, markup=False, style="yellow")
    for line in summarize(history.findings):
        console.print(f"finding  {line}", soft_wrap=True, markup=False, style="red")
    if not samples:
        console.print("nothing to judge: no tensor has had a step", style="yellow")
    elif not history.findings:
        console.print("healthy: no findings", style="green")


def _build_table(samples: list[Sample], history: History, is_watch: bool) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    columns = {"rms of mean_sq": "root_mean_sq", "eps dominates": "eps_share"}
    if is_watch:
        columns |= {"update:weight": "update_to_weight", "g2/mean_sq": "decoupling", "stalled": "stalled_share"}
    else:
        columns |= {"untouched": "untouched_share"}
    for name in ("tensor", "shape"):
        table.add_column(name, no_wrap=True)
    for name in ("step", "effective lr 5 %", "median", "95 %", *columns):
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("findings", no_wrap=True)
    for sample in samples:
        low, _, middle, _, high = sample.effective_lr or (None,) * 5
        shape = "x".join(map(str, sample.shape)) or "scalar"
        step = f"{sample.step:,}" if sample.step else "?"
        cells = [_format(x) for x in (low, middle, high)]
        cells += [_format(getattr(sample, name), is_share=name.endswith("_share")) for name in columns.values()]
        kinds = [finding.kind for finding in history.findings if finding.tensor == sample.tensor]
        table.add_row(sample.tensor, shape, step, *cells, " ".join(kinds))
    return table


def _format(x: float | None, *, is_share: bool = False) -> str:
    if x is None:
        return ""
    return f"{100 * x:.0f} %" if is_share else f"{x:.3g}"
