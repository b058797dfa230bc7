"""`rmsprop convert`: the command. Cheap to import; a framework is imported when one of its files is met."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from rmsprop.checkpoints import Report, Snapshot

__all__ = ["convert"]

SHOWN = 20
CONVERT = """Move an optimizer's state from one framework's checkpoint into another's.

Without OUT it says what is in IN. Layouts: torch, timm, sb3, bitsandbytes, keras3, tf-keras, tf-keras-legacy,
tensorflow1, optax, paddle, rmsprop. Weights are not moved. Nothing in a file is executed.

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


def _list(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def convert(  # noqa: D103 (CONVERT is the docstring)
    source: Annotated[str, typer.Argument(metavar="IN", help="A checkpoint; of TensorFlow its prefix.")],
    target: Annotated[str | None, typer.Argument(metavar="[OUT]", help="What to write.", show_default=False)] = None,
    to: Annotated[str | None, typer.Option(help="The layout of OUT. [that of --like]", metavar="NAME")] = None,
    from_: Annotated[str | None, typer.Option("--from", help="The layout of IN. [recognised]", metavar="NAME")] = None,
    like: Annotated[str | None, typer.Option(help="A checkpoint of the run that is to go on.", metavar="FILE")] = None,
    names: Annotated[str | None, typer.Option("--map", help="Which parameter is which.", metavar="JSON")] = None,
    lr: Annotated[
        float | None, typer.Option(help="lr of the last steps, to convert a momentum buffer.", metavar="LR")
    ] = None,
    step: Annotated[int | None, typer.Option(help="Steps done, where IN does not say.", min=0, metavar="N")] = None,
    buffer: Annotated[
        str | None, typer.Option(help="What OUT's momentum buffer sums.", metavar="none|unit|lr", show_default=False)
    ] = None,
    slots: Annotated[
        str | None, typer.Option(help="What IN's arrays are, where they have no names.", metavar="A,B,...")
    ] = None,
    schedule: Annotated[
        bool | None,
        typer.Option(
            "--schedule/--no-schedule", help="Whether lr is a schedule, where IN does not say.", show_default=False
        ),
    ] = None,
    at: Annotated[str | None, typer.Option(help="Which optimizer, if IN has several.", metavar="PATH")] = None,
    like_slots: Annotated[str | None, typer.Option(help="--slots of --like.", metavar="A,B,...")] = None,
    like_at: Annotated[str | None, typer.Option(help="--at of --like.", metavar="PATH")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what stands at OUT.")] = False,
) -> None:
    import os

    from rmsprop import checkpoints
    from rmsprop.commands import words
    from rmsprop.errors import InputError

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if buffer not in (None, "none", "unit", "lr"):
        raise InputError(f"--buffer {buffer}: expected none, unit or lr")
    console = words.console()
    told: dict[str, Any] = {"slots": _list(slots), "schedule": schedule, "at": at}
    if target is None:
        snapshot = checkpoints.read(source, from_, **told)
        _describe(console, source, snapshot)
        for note in snapshot.notes:
            console.print(f"note   {note}", soft_wrap=True, markup=False, style="yellow")
        return
    try:
        report = checkpoints.convert(
            source,
            target,
            to=to,
            from_=from_,
            like=like,
            names=names,
            lr=lr,
            step=step,
            buffer=buffer,  # type: ignore[arg-type]
            force=force,
            like_slots=_list(like_slots),
            like_at=like_at,
            **told,
        )
    except OSError as error:
        raise InputError(str(error)) from error
    _describe(console, source, report.source)
    _written(console, target, report)


convert.__doc__ = CONVERT


def _describe(console: Console, path: str, snapshot: Snapshot) -> None:
    from rich import box
    from rich.table import Table

    steps = "step not known" if snapshot.step is None else f"step {snapshot.step:,}"
    buffer = {"none": "", "unit": " (lr outside)", "lr": " (lr inside)"}[snapshot.buffer]
    kept = ", ".join(name + (buffer if name == "momentum_buf" else "") for name in snapshot.statistics)
    count = len(snapshot.parameters)
    console.print(f"found  {snapshot.format}: {path}", style="bold", soft_wrap=True, markup=False)
    size = f"{count} tensor{'' if count == 1 else 's'}, {snapshot.elements:,} elements"
    console.print(f"       {size}, {steps}; {kept or 'no statistics yet'}", soft_wrap=True, markup=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("parameter", "shape", "dtype", "mean_sq"):
        table.add_column(head, no_wrap=head != "parameter", overflow="fold")
    for parameter in snapshot.parameters[:SHOWN]:
        square = parameter.mean_sq
        span = (
            "none yet" if square is None or not square.size else f"{abs(square).min():.3g} to {abs(square).max():.3g}"
        )
        shape = "?" if parameter.shape is None else "x".join(map(str, parameter.shape)) or "scalar"
        table.add_row(parameter.name, shape, parameter.dtype or "?", span)
    console.print(table)
    if count > SHOWN:
        console.print(f"       and {count - SHOWN} more", soft_wrap=True)


def _written(console: Console, path: str, report: Report) -> None:
    for note in report.notes:
        console.print(f"note   {note}", soft_wrap=True, markup=False, style="yellow")
    statistics = ", ".join(report.written.statistics)
    console.print(f"wrote  {path}: {statistics}", style="bold", soft_wrap=True, markup=False)
