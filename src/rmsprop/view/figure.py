"""A picture of runs at one time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rmsprop._files import replacing
from rmsprop._theme import save_figure
from rmsprop.errors import InputError
from rmsprop.trace import Trace
from rmsprop.view.picture import Picture
from rmsprop.view.scene import Domain, Function, Scene

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_path", "plot"]

SUFFIXES = (".png", ".svg", ".pdf", ".jpg")


def plot(
    traces: Trace | Iterable[Trace],
    path: str | os.PathLike[str] | None = None,
    *,
    function: Function | None = None,
    labels: Sequence[str] | None = None,
    domain: Domain | None = None,
    title: str | None = None,
    note: str | None = None,
    time: float | None = None,
    panels: Sequence[str] | None = None,
    theme: str = "light",
    size: tuple[int, int] = (1280, 800),
    dpi: float = 100.0,
) -> Figure:
    """Draw runs: a map with their trails and the squares of their accumulators, and curves beside it.

    Args:
        traces: One run or several; see `Scene.of`, also for `function`, `labels`, `domain` and `title`.
        path: The file to save it in: .png, .svg, .pdf or .jpg. Default: none.
        function: What was minimized.
        labels: A name for each run.
        domain: (low, high) of each coordinate.
        title: The heading.
        note: A few words at the right of it.
        time: The time to show, in steps. Default: the end.
        panels: Which curves: some of "loss", "effective_lr", "step_length", "accumulator". Default: what fits.
        theme: "light" or "dark".
        size: Width and height in pixels.
        dpi: Pixels per inch: how large text and lines are.

    Returns:
        matplotlib's Figure, which a notebook shows; pyplot is not used.

    Raises:
        InputError: An option out of its range, or a path that cannot be written.
        MissingDependency: matplotlib is not installed.

    Example:
        >>> import rmsprop
        >>> from rmsprop import expression, view
        >>> f = expression.parse("0.1x^2 + 2y^2")
        >>> run = rmsprop.minimize(f, [-5.0, -2.0], jac=f.grad, lr=0.4, steps=20, trace=True)
        >>> figure = view.plot(run.trace, function=f, theme="dark", size=(640, 480))
        >>> len(figure.axes)
        4
    """
    target = None if path is None else check_path(path, SUFFIXES)
    scene = Scene.of(traces, function=function, labels=labels, domain=domain, title=title)
    picture = Picture(scene, theme=theme, size=size, dpi=dpi, panels=panels, note=note)
    if time is not None:
        picture.set_time(time)
    if target is not None:
        with replacing(target) as temporary:
            save_figure(picture.figure, temporary, format=target.suffix[1:].lower(), dpi=picture.dpi)
    return picture.figure


def check_path(path: str | os.PathLike[str], suffixes: Iterable[str]) -> Path:
    """Return the path if a file of one of these kinds can be written there.

    Raises:
        InputError: Another suffix, or a folder that does not exist.
    """
    target = Path(path)
    if target.suffix.lower() not in suffixes:
        raise InputError(f"{target}: suffix {target.suffix!r}, expected {', '.join(suffixes)}")
    if not target.parent.is_dir():
        raise InputError(f"{target}: there is no folder {target.parent}; create it first")
    return target
