"""`rmsprop doctor`: the command. Cheap to import; a framework is imported when one of its files is met."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from rmsprop.checkpoints import Parameter, Snapshot
    from rmsprop.doctor import Finding, History, Look
    from rmsprop.rule import Rule

__all__ = ["doctor"]

SHOWN = 40
ELEMENTS = 2**20
DOCTOR = """Say what is wrong inside an optimizer, tensor by tensor, and what to do about it.

PATH is a checkpoint of RMSprop in any layout that `rmsprop convert` reads, or the folder that rmsprop.doctor.watch
wrote, whose findings are then those of the whole training. Nothing in a file is executed.

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
    import os

    from rich.console import Console

    from rmsprop.doctor import History, measure
    from rmsprop.doctor.writers import LINES, read

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    path, notes, history = Path(source), list[str](), History()
    watched = (path / LINES).is_file() or path.suffix == ".jsonl"
    if watched:
        looks = read(path)
        head = f"{source}: {len(looks)} looks at {len({look.tensor for look in looks})} tensors"
    else:
        from rmsprop import checkpoints

        snapshot = checkpoints.read(source, from_, at=at)
        looks = [measure(sample) for sample in _samples(snapshot, lr, notes)]
        step = "step not known" if snapshot.step is None else f"step {snapshot.step:,}"
        head = f"{source}: {snapshot.format}, {len(snapshot.parameters)} tensors, {step}"
    history.add(looks)
    if plot is not None:
        from rmsprop.doctor.picture import draw

        draw(looks, plot, troubled=[finding.tensor for finding in history.findings])
    if json_:
        typer.echo(_json(source, looks, history, notes))
    else:
        _print(Console(highlight=False), head, looks, history, notes, watched)
    if history.findings:
        raise typer.Exit(1)


doctor.__doc__ = DOCTOR


def _samples(snapshot: Snapshot, lr: float | None, notes: list[str]) -> Any:
    """Yield what a checkpoint shows of each parameter; what it does not say goes to `notes`."""
    from rmsprop.doctor.measure import Sample

    rules = _rules(snapshot, lr, notes)
    idle = 0
    for parameter, (rule, rate) in zip(snapshot.parameters, rules):
        if parameter.mean_sq is None:
            idle += 1
            continue
        yield Sample(
            tensor=parameter.name,
            shape=parameter.shape or (),
            dtype=parameter.dtype or "",
            step=parameter.step or 0,
            lr=rate,
            rule=rule,
            buffers=_buffers(parameter, rule),
        )
    if idle:
        notes.append(f"{idle} of {len(snapshot.parameters)} tensors have had no step yet")


def _rules(snapshot: Snapshot, lr: float | None, notes: list[str]) -> list[tuple[Rule, float]]:
    """Return (rule, lr) of each parameter."""
    from rmsprop import dialects

    host = dialects.get("torch" if snapshot.format == "rmsprop" else snapshot.format).resolve()
    groups = [group.numbers for group in snapshot.groups for _ in range(group.size)]
    if len(groups) != len(snapshot.parameters):
        groups = [snapshot.groups[0].numbers if snapshot.groups else {}] * len(snapshot.parameters)
    assumed: set[str] = set()
    found = []
    for numbers in groups:
        for name in ("rho", "eps"):
            if name not in numbers:
                assumed.add(f"{name} {getattr(host, name):g}")
        rate = numbers.get("lr", math.nan) if lr is None else lr
        momentum = numbers.get("momentum", 0.0) if snapshot.buffer != "none" else 0.0
        rule = host.replace(
            rho=numbers.get("rho", host.rho),
            eps=numbers.get("eps", host.eps),
            eps_mode=snapshot.eps_mode or host.eps_mode,
            init=snapshot.init,
            centered=bool(snapshot.centered),
            bias_correction=snapshot.bias_correction,
            buffer=snapshot.buffer,
            momentum=momentum,
            nesterov="none",
            weight_decay=0.0,
            weight_decay_mode="none",
        )
        found.append((rule, float(rate)))
    if assumed:
        notes.append(f"not in the file, taken from {snapshot.format}'s defaults: {', '.join(sorted(assumed))}")
    if any(math.isnan(rate) for _, rate in found):
        notes.append("lr is not in the file: the table shows 1 / denominator; give --lr")
    return found


def _buffers(parameter: Parameter, rule: Rule) -> dict[str, Any]:
    """Return the statistics as this library keeps them, as matrices of rows, not more than a million elements."""
    import numpy as np

    from rmsprop.doctor.sample import grid, units_last

    square, mean = parameter.mean_sq, parameter.mean_grad
    assert square is not None
    weight = 1.0 - rule.rho**parameter.step if rule.bias_correction and parameter.step else 1.0
    arrays = {"mean_sq": square / weight}
    if rule.centered:
        mean = np.zeros_like(square) if mean is None else mean / weight
        variance = parameter.variance() if weight == 1.0 else None
        arrays = {
            "mean_grad": mean,
            "grad_var": np.maximum(square / weight - mean * mean, 0) if variance is None else variance,
        }
    taken = {}
    for name, array in arrays.items():
        if np.iscomplexobj(array):
            array = np.stack([array.real, array.imag], -1)  # noqa: PLW2901
        if array.ndim > 1 and units_last(parameter.name):
            array = np.moveaxis(array, -1, 0)  # noqa: PLW2901
        taken[name] = grid(array.shape, limit=ELEMENTS).take(array)
    return taken


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
    if not history.findings:
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
