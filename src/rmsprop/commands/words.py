"""What the commands print: tables, a rule in a line, how a run ended, a curve in eight heights."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from rmsprop.dialects import Dialect
    from rmsprop.rule import Rule
    from rmsprop.trace import Trace

EVIDENCE = {
    "V": "upstream was run and agreed",
    "S": "its source was read",
    "C": "a secondary source",
    "M": "measured by this library",
}
"""The meaning of the evidence letter of a dialect or a recipe."""

_BARS = "▁▂▃▄▅▆▇█"
_PIPED_WIDTH = 200


def console() -> Console:
    """Return where a command prints; piped output has no width, so no table is cut there."""
    from rich.console import Console

    found = Console(highlight=False)
    return found if found.is_terminal or "COLUMNS" in os.environ else Console(highlight=False, width=_PIPED_WIDTH)


def escape(text: object) -> str:
    r"""Write control characters, such as those of a file's name, as \x1b; line breaks stay.

    Example:
        >>> escape("a\x1b[2Jb.csv")
        'a\\x1b[2Jb.csv'
    """
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in str(text))


def print_written(path: object) -> None:
    """Print the line that names a file that was written."""
    console().print(f"written  {escape(path)}", soft_wrap=True, markup=False)


def make_table(
    heads: Iterable[str], rows: Iterable[Iterable[str]], *, left: Collection[str] = (), wrap: Collection[str] = (),
    padding: int = 1,
) -> Table:  # fmt: skip
    """Return a table; columns are aligned to the right and not wrapped, except those whose heads are named."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, padding))
    for head in heads:
        justify: Any = "left" if head in left else "right"
        table.add_column(head, justify=justify, no_wrap=head not in wrap, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def make_facts(*facts: tuple[str, str]) -> Table:
    """Return a table of names and texts, without those that have no text."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in facts:
        if text:
            table.add_row(name, text)
    return table


def describe(rule: Rule) -> str:
    """Write a rule in a line, without what is off.

    Example:
        >>> from rmsprop import Rule
        >>> describe(Rule(rho=0.99, eps_mode="outside", centered=True))
        'rho 0.99, eps 1e-08 outside the root, centered'
    """
    place = {"outside": "outside the root", "inside": "inside the root", "max": "as a floor"}[rule.eps_mode]
    buffer = f"lr {'inside' if rule.buffer == 'lr' else 'after'}{', Nesterov' if rule.nesterov != 'none' else ''}"
    parts = {
        f"rho {rule.rho:g}": True,
        f"eps {rule.eps:g} {place}" if rule.eps else "no eps": True,
        f"mean square from {rule.init_value:g}": rule.init_value,
        f"mean square at least {rule.var_floor:g}": rule.var_floor,
        "centered": rule.centered,
        "bias corrected": rule.bias_correction,
        f"momentum {rule.momentum:g} ({buffer})": rule.buffer != "none",
        f"weight decay {rule.weight_decay:g} ({rule.weight_decay_mode})": rule.weight_decay,
        "maximize": rule.maximize,
    }
    return ", ".join(part for part, is_on in parts.items() if is_on)


def list_cells(row: Dialect) -> dict[str, str]:
    """Return a dialect's cells in the table of all, under their headings."""
    rule = row.rule
    more = {
        "centered": rule.centered,
        "bias correction": rule.bias_correction,
        f"momentum {rule.momentum:g}": rule.momentum,
        f"lr {'inside' if row.momentum_buffer == 'lr' else 'after'} the buffer": row.momentum_buffer != "none",
    }
    return {
        "name": row.name,
        "what": row.title,
        "rho": f"{rule.rho:g}",
        "eps": f"{rule.eps:g}",
        "where": {"max": "floor"}.get(rule.eps_mode, rule.eps_mode) if rule.eps else "",
        "from": f"{rule.init_value:g}",
        "lr": "" if row.lr is None else f"{row.lr:g}",
        "more": ", ".join(text for text, is_on in more.items() if is_on),
        "": row.evidence,
    }


def write_point(x: Sequence[float], *, digits: int = 6) -> str:
    """Write a point as a reader writes it.

    Example:
        >>> write_point([-5.0, 1 / 3])
        '(-5, 0.333333)'
    """
    numbers = [f"{float(value):.{digits}g}" for value in x]
    return numbers[0] if len(numbers) == 1 else f"({', '.join(numbers)})"


def sparkline(values: Sequence[float], width: int = 60, *, among: Sequence[float] | None = None) -> str:
    """Draw a curve in at most `width` characters; a gap where a number is not finite.

    `among` sets the scale, such as the values of all curves drawn below each other; its default is `values`. Positive
    values over more than two decades are drawn on a logarithmic scale.

    Example:
        >>> sparkline([8.0, 4.0, 2.0, 1.0])
        '█▄▂▁'
        >>> sparkline([2.0, 1.0], among=[8.0, 4.0, 2.0, 1.0])
        '▂▁'
    """
    numbers = [float(v) for v in sample_evenly(values, width)]
    finite = [float(v) for v in (numbers if among is None else among) if math.isfinite(v)]
    if not any(map(math.isfinite, numbers)) or not finite:
        return ""
    if min(finite) > 0 and max(finite) > 100 * min(finite):
        numbers = [math.log(v) if math.isfinite(v) else v for v in numbers]
        finite = [math.log(v) for v in finite]
    low, high = min(finite), max(finite)
    # Halves: the span of two huge numbers may be infinite.
    span = (high / 2 - low / 2) or 1.0
    top = len(_BARS) - 1
    return "".join(_BARS[round(top * ((v / 2 - low / 2) / span))] if math.isfinite(v) else " " for v in numbers)


def sample_evenly(values: Sequence[Any], count: int) -> list[Any]:
    """Return at most so many of the values, evenly spaced, the first and the last among them."""
    if len(values) <= count:
        return list(values)
    return [values[round(i * (len(values) - 1) / (count - 1))] for i in range(count)]


def choose_steps(steps: int) -> list[int]:
    """Return the steps that a table shows: few, and closer at the beginning.

    Example:
        >>> choose_steps(1000)
        [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    """
    round_numbers = [m * 10**p for p in range(7) for m in (1, 2, 5)]
    return sorted({0, steps, *(n for n in round_numbers if n < 0.8 * steps)})


def describe_end(trace: Trace, *, exit_step: int | None = None, maximize: bool = False) -> str:
    """Return a sentence on how a run ended, or "" if it ended well.

    After `exit_step` it is outside of the picture for good.
    """
    first, last = float(trace.f[0]), float(trace.f[-1])
    values = f"{last:.4g}, and {first:.4g} at the start"
    leaves = "" if exit_step is None else f" It leaves the picture at step {exit_step}."
    is_worse = last != first and (first < last) is not maximize
    if not math.isfinite(last) or (is_worse and exit_step is not None):
        return f"It diverged: f is {values}.{leaves}"
    if is_worse:
        return f"f ends {'lower' if maximize else 'higher'} than it began: {values}."
    return "" if exit_step is None else f"It ends outside of the picture, at {write_point(trace.x[-1])}.{leaves}"


def measure_distance(left: Trace, right: Trace) -> tuple[Any, Any]:
    """Return the distance of two runs from one start, and its share of the way, shape (steps + 1,) each.

    The way is the larger of the two distances from the start; the share is 0 while neither has moved.
    """
    import numpy as np

    shared = min(left.steps, right.steps) + 1
    a, b = left.x[:shared].astype(float), right.x[:shared].astype(float)
    distance = np.linalg.norm(a - b, axis=1)
    way = np.maximum(np.linalg.norm(a - a[0], axis=1), np.linalg.norm(b - b[0], axis=1))
    return distance, np.divide(distance, way, out=np.zeros_like(distance), where=way > 0)
