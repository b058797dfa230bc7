"""`rmsprop doctor`: the command. Cheap to import; a framework is imported when one of its files is met."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from rmsprop.doctor import Finding, History, Look

__all__ = ["doctor"]

SHOWN = 40
DOCTOR = """Say what is wrong inside an optimizer, tensor by tensor, and what to do about it.

PATH is a checkpoint of RMSprop in any layout that `rmsprop convert` reads, or the folder that rmsprop.doctor.watch
wrote, whose findings are then those of the whole training, the latest one that wrote there. Nothing in a file is
executed.

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
        float | None, typer.Option(help="Learning rate, where the checkpoint does not say.", metavar="LR", min=0.0)
    ] = None,
    from_: Annotated[str | None, typer.Option("--from", help="Its layout. [recognised]", metavar="NAME")] = None,
    at: Annotated[str | None, typer.Option(help="Which optimizer, if it has several.", metavar="PATH")] = None,
    plot: Annotated[
        str | None, typer.Option(help="Draw the effective lr: .png, .svg or .pdf.", metavar="FILE", show_default=False)
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print looks and findings as JSON.")] = False,
) -> None:

    from rmsprop import checkpoints
    from rmsprop.commands import words
    from rmsprop.doctor import History, examine_checkpoint, picture
    from rmsprop.doctor.writers import LINES, read

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if plot is not None:
        picture.check(plot)  # before the work
    path, notes, history = Path(source), list[str](), History()
    watched = os.path.isfile(path / LINES) or path.suffix == ".jsonl"
    if watched:
        looks = read(path, run=-1)
        head = f"{source}: {len(looks)} looks at {len({look.tensor for look in looks})} tensors"
        if looks[0].run > 1:
            notes.append(f"run {looks[0].run} of this folder; the runs before it are left out")
        history.add(looks)
    else:
        snapshot = checkpoints.read(path, from_, at=at, finite=False)
        checkup = examine_checkpoint(snapshot, lr=lr)
        looks, history, notes = list(checkup.looks), checkup.history, list(checkup.notes)
        step = "step not known" if snapshot.step is None else f"step {snapshot.step:,}"
        head = f"{source}: {snapshot.format}, {len(snapshot.parameters)} tensors, {step}"
    if plot is not None and not picture.drawable(looks):
        notes.append(f"{plot} was not drawn: no tensor has an effective learning rate above 0")
    if json_:
        typer.echo(_json(source, looks, history, notes))
    else:
        _print(words.console(), head, looks, history, notes, watched)
    if plot is not None and picture.drawable(looks):
        picture.draw(looks, plot, troubled=[finding.tensor for finding in history.findings])
    if history.findings:
        raise typer.Exit(1)


doctor.__doc__ = DOCTOR


def _json(source: str, looks: list[Look], history: History, notes: list[str]) -> str:
    import dataclasses
    import json

    def plain(finding: Finding) -> dict[str, Any]:
        worst = history.worst[finding.kind, finding.tensor]
        fields = {**dataclasses.asdict(finding), "worst": worst.value}
        fields["looks"] = history.counts[finding.kind, finding.tensor]
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in fields.items()}

    report = {
        "path": source,
        "looks": [dataclasses.asdict(look) for look in looks],
        "findings": [plain(finding) for finding in history.findings],
        "notes": notes,
    }
    return json.dumps(report, indent=2, allow_nan=False)


def _print(console: Console, head: str, looks: list[Look], history: History, notes: list[str], watched: bool) -> None:
    from rmsprop.doctor.report import told

    console.print(head, style="bold", soft_wrap=True, markup=False)
    last = list({look.tensor: look for look in looks}.values())
    console.print(_table(last, history, watched))
    if len(last) > SHOWN:
        console.print(f"and {len(last) - SHOWN} more tensors", soft_wrap=True)
    for note in notes:
        console.print(f"note     {note}", soft_wrap=True, markup=False, style="yellow")
    for line in told(history.findings):
        console.print(f"finding  {line}", soft_wrap=True, markup=False, style="red")
    if not looks:
        console.print("nothing to judge: no tensor has had a step", style="yellow")
    elif not history.findings:
        console.print("healthy: nothing to say", style="green")


def _table(looks: list[Look], history: History, watched: bool) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    heads = ["tensor", "shape", "step", "effective lr 5 %", "median", "95 %", "rms of mean_sq", "eps rules"]
    heads += ["update:weight", "g2/mean_sq", "stalled"] if watched else ["untouched"]
    for i, name in enumerate([*heads, "findings"]):
        table.add_column(name, no_wrap=True, justify="left" if i in (0, 1, len(heads)) else "right")
    kinds: dict[str, list[str]] = {}
    for finding in history.findings:
        kinds.setdefault(finding.tensor, []).append(finding.kind)
    for look in looks[:SHOWN]:
        low, _, middle, _, high = look.effective_lr or (None,) * 5
        cells = [_size(low), _size(middle), _size(high), _size(look.root_mean_sq), _share(look.eps_share)]
        if watched:
            cells += [_size(look.update_to_weight), _size(look.decoupling), _share(look.stalled_share)]
        else:
            cells.append(_share(look.untouched_share))
        shape = "x".join(map(str, look.shape)) or "scalar"
        step = f"{look.step:,}" if look.step else "?"
        table.add_row(look.tensor, shape, step, *cells, " ".join(kinds.get(look.tensor, [])))
    return table


def _size(x: float | None) -> str:
    return "" if x is None else f"{x:.3g}"


def _share(x: float | None) -> str:
    return "" if x is None else f"{100 * x:.0f} %"
