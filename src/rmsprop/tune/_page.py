"""What the pictures of this package share: a blank page in their colours, and its way into a PNG file."""

from __future__ import annotations

import io
from typing import Any

from rmsprop.errors import MissingDependency

__all__ = ["INK", "MUTED", "PAPER", "page", "png"]

INK, MUTED, PAPER = "#1c1e21", "#5c6169", "#ffffff"


def page(width: float, height: float) -> tuple[Any, Any]:
    """Return a figure of that many inches, and its one pair of axes.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency.of("matplotlib", extra="tune", purpose="the pictures of a search") from error
    figure = Figure(figsize=(width, height), layout="constrained", facecolor=PAPER)
    ax = figure.subplots()
    ax.spines[["top", "right"]].set_visible(False)
    return figure, ax


def png(figure: Any) -> bytes:
    """Return the figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()
