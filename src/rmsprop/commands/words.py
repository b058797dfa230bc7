"""Say what a run did: a rule in a line, where it went, a table of a few steps, a curve in eight heights."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from rmsprop.dialects import Dialect
    from rmsprop.rule import Rule
    from rmsprop.trace import Trace

__all__ = [
    "EVIDENCE",
    "apart",
    "columns",
    "console",
    "describe",
    "facts",
    "fate",
    "fit",
    "moments",
    "sparkline",
    "table",
    "write_point",
]

EVIDENCE = {
    "V": "the owner was run and agreed",
    "S": "its source was read",
    "C": "a secondary source",
    "M": "measured by this library",
}
"""What the letter of a dialect or a recipe says."""

_BARS = "▁▂▃▄▅▆▇█"
_PIPED_WIDTH = 200


def console() -> Console:
    """Return where a command prints; what is piped has no width, so that no table is cut there."""
    from rich.console import Console

    found = Console(highlight=False)
    return found if found.is_terminal or "COLUMNS" in os.environ else Console(highlight=False, width=_PIPED_WIDTH)


def describe(rule: Rule) -> str:
    """Write a rule in a line, what is off left out.

    Example:
        >>> from rmsprop import Rule
        >>> describe(Rule(rho=0.99, eps_mode="outside", centered=True))
        'rho 0.99, eps 1e-08 outside the root, centered'
    """
    place = {"outside": "outside the root", "inside": "inside the root", "max": "as a floor"}[rule.eps_mode]
    parts = [f"rho {rule.rho:g}", f"eps {rule.eps:g} {place}" if rule.eps else "no eps"]
    if rule.init_value:
        parts.append(f"mean square from {rule.init_value:g}")
    if rule.var_floor:
        parts.append(f"mean square at least {rule.var_floor:g}")
    parts += [word for flag, word in ((rule.centered, "centered"), (rule.bias_correction, "bias corrected")) if flag]
    if rule.buffer != "none":
        where = "lr inside" if rule.buffer == "lr" else "lr after"
        parts.append(f"momentum {rule.momentum:g} ({where}{', Nesterov' if rule.nesterov != 'none' else ''})")
    if rule.weight_decay:
        parts.append(f"weight decay {rule.weight_decay:g} ({rule.weight_decay_mode})")
    if rule.maximize:
        parts.append("climbing")
    return ", ".join(parts)


def write_point(x: Sequence[float], *, digits: int = 6) -> str:
    """Write a point as a reader writes it.

    Example:
        >>> write_point([-5.0, 1 / 3])
        '(-5, 0.333333)'
    """
    words = [f"{float(value):.{digits}g}" for value in x]
    return words[0] if len(words) == 1 else f"({', '.join(words)})"


def sparkline(values: Sequence[float], width: int = 60, *, among: Sequence[float] | None = None) -> str:
    """Draw a curve in one line of text; a gap where a number is not finite.

    Positive values over more than two decades are drawn on a logarithmic scale.

    Args:
        values: The curve.
        width: Characters at most.
        among: The values that set the scale, such as those of all curves drawn below each other; None: `values`.

    Example:
        >>> sparkline([8.0, 4.0, 2.0, 1.0])
        '█▄▂▁'
        >>> sparkline([2.0, 1.0], among=[8.0, 4.0, 2.0, 1.0])
        '▂▁'
    """
    numbers = [float(v) for v in fit(values, width)]
    finite = [float(v) for v in (numbers if among is None else among) if math.isfinite(v)]
    if not any(map(math.isfinite, numbers)) or not finite:
        return ""
    if min(finite) > 0 and max(finite) > 100 * min(finite):
        numbers = [math.log(v) if math.isfinite(v) else v for v in numbers]
        finite = [math.log(v) for v in finite]
    low, high = min(finite), max(finite)
    # Halves: the span of two huge numbers may be infinite.
    span = high / 2 - low / 2
    top = len(_BARS) - 1
    heights = [
        None if not math.isfinite(v) else 0 if span == 0 else round(top * ((v / 2 - low / 2) / span)) for v in numbers
    ]
    return "".join(" " if height is None else _BARS[height] for height in heights)


def fit(values: Sequence[Any], count: int) -> list[Any]:
    """Return at most so many of the values, evenly spaced, the first and the last among them."""
    if len(values) <= count:
        return list(values)
    return [values[round(i * (len(values) - 1) / (count - 1))] for i in range(count)]


def moments(steps: int) -> list[int]:
    """Steps worth a line: few, and closer at the beginning.

    Example:
        >>> moments(1000)
        [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    """
    round_numbers = [m * 10**p for p in range(7) for m in (1, 2, 5)]
    return sorted({0, steps, *(n for n in round_numbers if n < 0.8 * steps)})


def table(trace: Trace, variables: Sequence[str]) -> Table:
    """Return a table of a few steps: the point, the objective, the gradient, the effective learning rate."""
    from rich import box
    from rich.table import Table

    found = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    heads = ["step", *variables, "f", *(f"df/d{v}" for v in variables), *(f"effective lr {v}" for v in variables)]
    for head in heads:
        found.add_column(head, justify="right", no_wrap=True)
    for t in moments(trace.steps):
        row = [str(t), *(f"{v:.5g}" for v in trace.x[t]), f"{trace.f[t]:.5g}"]
        if t < trace.steps:
            row += [f"{v:.3g}" for v in trace.grad[t]] + [f"{v:.3g}" for v in trace.effective_lr[t]]
        found.add_row(*row)
    return found


def facts(*facts: tuple[str, str]) -> Table:
    """Return a table of what is known of one thing: a name and a text each, those without a text left out."""
    from rich import box
    from rich.table import Table

    found = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    found.add_column(style="dim", no_wrap=True)
    found.add_column(overflow="fold")
    for name, text in facts:
        if text:
            found.add_row(name, text)
    return found


def fate(trace: Trace, *, left: int | None = None, maximize: bool = False) -> str:
    """Say how a run ended if that deserves a sentence: lost, out of the picture, or worse than it began.

    Args:
        trace: The run.
        left: The step after which it is out of the picture for good.
        maximize: Whether climbing was wanted.
    """
    first, last = float(trace.f[0]), float(trace.f[-1])
    gone = "" if left is None else f" It leaves the picture at step {left}."
    worse = last != first and (first < last) is not maximize
    if not math.isfinite(last) or (worse and left is not None):
        return f"It diverged: f is {last:.4g}, and {first:.4g} at the start.{gone}"
    if worse:
        return f"f ends {'lower' if maximize else 'higher'} than it began: {last:.4g}, and {first:.4g} at the start."
    return f"It ends outside of the picture, at {write_point(trace.x[-1])}.{gone}" if left is not None else ""


def columns(row: Dialect) -> dict[str, str]:
    """Return a dialect's cells for a table: plain text under its heading."""
    rule = row.rule
    place = {"outside": "outside", "inside": "inside", "max": "floor"}[rule.eps_mode]
    more = [word for flag, word in ((rule.centered, "centered"), (rule.bias_correction, "bias correction")) if flag]
    if rule.momentum:
        more.append(f"momentum {rule.momentum:g}")
    if row.momentum_buffer != "none":
        more.append(f"lr {'inside' if row.momentum_buffer == 'lr' else 'after'} the buffer")
    return {
        "name": row.name,
        "what": row.title,
        "rho": f"{rule.rho:g}",
        "eps": f"{rule.eps:g}" if rule.eps else "0",
        "where": place if rule.eps else "",
        "from": {0.0: "0", 1.0: "1"}.get(rule.init_value, f"{rule.init_value:g}"),
        "lr": "" if row.lr is None else f"{row.lr:g}",
        "more": ", ".join(more),
        "": row.evidence,
    }


def apart(left: Trace, right: Trace) -> tuple[Any, Any]:
    """Return how far two runs from one start are apart: the distance and its share of the way, shape (steps + 1,) each.

    The way is the larger of the two distances from the start; the share is 0 while neither has moved.
    """
    import numpy as np

    shared = min(left.steps, right.steps) + 1
    a, b = left.x[:shared].astype(float), right.x[:shared].astype(float)
    distance = np.linalg.norm(a - b, axis=1)
    way = np.maximum(np.linalg.norm(a - a[0], axis=1), np.linalg.norm(b - b[0], axis=1))
    return distance, np.divide(distance, way, out=np.zeros_like(distance), where=way > 0)
