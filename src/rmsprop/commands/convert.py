"""`rmsprop convert`: the command. Cheap to import; a framework is imported only for one of its files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

if TYPE_CHECKING:
    from rich.console import Console

    from rmsprop.checkpoints import Snapshot

__all__ = ["convert"]

SHOWN = 20
CONVERT = """Convert an optimizer's state from one framework's checkpoint to another's.

Without OUT it says what is in IN. Layouts: torch, timm, sb3, bitsandbytes, keras3, tf-keras, tf-keras-legacy,
tensorflow1, optax, paddle, rmsprop. Weights are not converted. Nothing in a file is executed.

--like names a checkpoint of the run that is to go on, from before its first step or after: OUT is a copy of it with the
optimizer's state replaced. --map is a JSON file: a list of IN's names in the target's order, or an object from IN's
names to the target's names, to positions, to null (left out), or to {"to": NAME, "transpose": true}.

Examples:

\b
  rmsprop convert model.ckpt-1000
  rmsprop convert model.ckpt-1000 run.pt --like fresh.pt --map names.json
  rmsprop convert trained.keras run.pt --like fresh.pt
  rmsprop convert run.pt state.msgpack --to optax --map names.json --lr 0.01
  rmsprop convert run8bit.pt run.pt --to torch
"""
Text = str | None


def convert(  # noqa: D103 (CONVERT is the docstring)
    source: Annotated[str, typer.Argument(metavar="IN", help="A checkpoint; of TensorFlow its prefix.")],
    target: Annotated[Text, typer.Argument(metavar="[OUT]", help="What to write.", show_default=False)] = None,
    to: Annotated[Text, Option(help="The layout of OUT. [that of --like]", metavar="NAME")] = None,
    from_: Annotated[Text, Option("--from", help="The layout of IN. [recognized]", metavar="NAME")] = None,
    like: Annotated[Text, Option(help="A checkpoint of the run that is to go on.", metavar="FILE")] = None,
    names: Annotated[Text, Option("--map", help="Which parameter is which.", metavar="JSON")] = None,
    lr: Annotated[float | None, Option(help="lr of the last steps, for a momentum buffer.", metavar="LR")] = None,
    step: Annotated[int | None, Option(help="Steps done, if IN does not say.", min=0, metavar="N")] = None,
    buffer: Annotated[Text, Option(help="What OUT's momentum buffer sums.", metavar="none|unit|lr")] = None,
    slots: Annotated[Text, Option(help="What IN's arrays are, if they have no names.", metavar="A,B,...")] = None,
    schedule: Annotated[
        bool | None, Option("--schedule/--no-schedule", help="Whether lr is a schedule, if IN does not say.")
    ] = None,
    at: Annotated[Text, Option(help="Which optimizer, if IN has several.", metavar="PATH")] = None,
    like_slots: Annotated[Text, Option(help="--slots of --like.", metavar="A,B,...")] = None,
    like_at: Annotated[Text, Option(help="--at of --like.", metavar="PATH")] = None,
    force: Annotated[bool, Option("--force", help="Replace an existing OUT.")] = False,
) -> None:
    from rmsprop import checkpoints
    from rmsprop.commands import words
    from rmsprop.errors import InputError

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if buffer not in (None, "none", "unit", "lr"):
        raise InputError(f"--buffer {buffer}: expected none, unit or lr")
    console = words.console()
    of_source: dict[str, Any] = {"slots": _split(slots), "schedule": schedule, "at": at}
    if target is None:
        snapshot = checkpoints.read(source, from_, **of_source)
        notes = snapshot.notes
    else:
        options: dict[str, Any] = {"to": to, "from_": from_, "like": like, "names": names, "lr": lr, "step": step}
        options |= {"buffer": buffer, "force": force, "like_slots": _split(like_slots), "like_at": like_at, **of_source}
        try:
            report = checkpoints.convert(source, target, **options)
        except OSError as error:
            raise InputError(str(error)) from error
        snapshot, notes = report.source, report.notes
    _print_snapshot(console, source, snapshot)
    for note in notes:
        console.print(f"note   {note}", soft_wrap=True, markup=False, style="yellow")
    if target is not None:
        statistics = ", ".join(report.written.statistics)
        console.print(f"wrote  {target}: {statistics}", style="bold", soft_wrap=True, markup=False)


convert.__doc__ = CONVERT


def _split(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _print_snapshot(console: Console, path: str, snapshot: Snapshot) -> None:
    from rich import box
    from rich.table import Table

    steps = "step not known" if snapshot.step is None else f"step {snapshot.step:,}"
    buffer = {"none": "", "unit": " (lr outside)", "lr": " (lr inside)"}[snapshot.buffer]
    statistics = ", ".join(name + (buffer if name == "momentum_buf" else "") for name in snapshot.statistics)
    count = len(snapshot.parameters)
    console.print(f"found  {snapshot.format}: {path}", style="bold", soft_wrap=True, markup=False)
    size = f"{count} tensor{'' if count == 1 else 's'}, {snapshot.elements:,} elements"
    console.print(f"       {size}, {steps}; {statistics or 'no statistics yet'}", soft_wrap=True, markup=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("parameter", "shape", "dtype", "mean_sq"):
        table.add_column(head, no_wrap=head != "parameter", overflow="fold")
    for p in snapshot.parameters[:SHOWN]:
        span = "none yet"
        if p.mean_sq is not None and p.mean_sq.size:
            span = f"{abs(p.mean_sq).min():.3g} to {abs(p.mean_sq).max():.3g}"
        table.add_row(p.name, "?" if p.shape is None else "x".join(map(str, p.shape)) or "scalar", p.dtype or "?", span)
    console.print(table)
    if count > SHOWN:
        console.print(f"       and {count - SHOWN} more", soft_wrap=True)
