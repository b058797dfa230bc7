"""A picture of runs at one time, and an animation of all times."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from rmsprop._display import embed_image
from rmsprop._files import write_atomically
from rmsprop._theme import save_figure
from rmsprop.errors import InputError, MissingDependency
from rmsprop.trace import Trace
from rmsprop.view import writers
from rmsprop.view.picture import Picture
from rmsprop.view.scene import Domain, Function, Scene

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SUFFIXES", "Animation", "FrameRenderer", "animate", "check_path", "plot"]

SUFFIXES = (".png", ".svg", ".pdf", ".jpg")
MOST_FRAMES = 10_000


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
        function: What was minimized. Default: the typed function of the runs, if there is one.
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
        matplotlib's Figure, which a notebook shows, with or without `%matplotlib inline`; pyplot is not used.

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
        with write_atomically(target) as temporary:
            save_figure(picture.figure, temporary, format=target.suffix[1:].lower(), dpi=picture.dpi)
    return picture.figure


def animate(
    traces: Trace | Iterable[Trace],
    path: str | os.PathLike[str] | None = None,
    *,
    function: Function | None = None,
    labels: Sequence[str] | None = None,
    domain: Domain | None = None,
    title: str | None = None,
    panels: Sequence[str] | None = None,
    seconds: float = 4.0,
    fps: float = 50.0,
    theme: str = "light",
    size: tuple[int, int] = (640, 480),
    dpi: float = 100.0,
) -> Path | Animation:
    """Animate runs, for a notebook or in a file: .gif, .png or .apng (animated PNG), .webp, .mp4.

    It has seconds * fps frames, evenly spaced over the steps; between two steps the balls move on a straight line.

    Args:
        traces: One run or several; see `Scene.of`, also for `function`, `labels`, `domain` and `title`.
        path: The file; its suffix selects the format. Default: none, for a notebook.
        function: What was minimized. Default: the typed function of the runs, if there is one.
        labels: A name for each run.
        domain: (low, high) of each coordinate.
        title: The heading.
        panels: Which curves; see `plot`.
        seconds: Its duration, above 0.
        fps: Frames per second, in [0.02, 120]; at most 50 for a GIF, because viewers slow down faster ones.
        theme: "light" or "dark".
        size: Width and height in pixels.
        dpi: Pixels per inch: how large text and lines are.

    Returns:
        The path, or without one an `Animation`, which plays in a notebook as a GIF.

    Raises:
        InputError: An option out of its range, or a path that cannot be written.
        MissingDependency: matplotlib, Pillow (extra `lab`) or imageio-ffmpeg (extra `video`) is not installed.

    Example:
        >>> import pathlib, tempfile, rmsprop
        >>> from rmsprop import expression, view
        >>> f = expression.parse("x - x^3")
        >>> run = rmsprop.minimize(f, [-1.0], jac=f.grad, lr=0.01, steps=100, trace=True)
        >>> path = view.animate(run.trace, pathlib.Path(tempfile.mkdtemp()) / "x.gif", function=f, seconds=0.2)
        >>> path.read_bytes()[:6]
        b'GIF89a'
    """
    target = None if path is None else check_path(path, writers.FORMATS)
    count = _count_frames(seconds, fps)
    writers.check_timing(".gif" if target is None else target.suffix.lower(), fps=fps)
    scene = Scene.of(traces, function=function, labels=labels, domain=domain, title=title)
    renderer = FrameRenderer(Picture(scene, theme=theme, size=size, dpi=dpi, panels=panels, moving=True))
    animation = Animation(renderer, scene.times(count).tolist(), fps=fps)
    return animation if target is None else animation.save(target)


class Animation:
    """An animation of runs, made by `animate`: a notebook plays it, `save` writes it.

    Args:
        renderer: Renders a frame.
        times: The time of each frame, in steps.
        fps: Frames per second.

    Example:
        >>> import rmsprop
        >>> run = rmsprop.minimize("x - x^3", -1.0, steps=100, trace=True)
        >>> rmsprop.view.animate(run.trace, seconds=2, fps=10)
        Animation(20 frames, 2 s)
    """

    def __init__(self, renderer: FrameRenderer, times: Sequence[float], *, fps: float) -> None:
        self._renderer, self._times, self._fps = renderer, times, fps

    def __repr__(self) -> str:
        return f"Animation({len(self._times)} frames, {len(self._times) / self._fps:g} s)"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it: .gif, .png or .apng (animated PNG), .webp or .mp4. Return the path.

        Raises:
            InputError: Another suffix, a rate that the format cannot store, or a folder that does not exist.
            MissingDependency: Pillow (extra `lab`) or, for an MP4, imageio-ffmpeg (extra `video`) is not installed.
        """
        target = check_path(path, writers.FORMATS)
        writers.check_timing(target.suffix.lower(), fps=self._fps)
        with write_atomically(target) as temporary:
            self._write(temporary, target.suffix.lower())
        return target

    def _write(self, file: Path | IO[bytes], suffix: str) -> None:
        writers.write_frames(file, self._renderer.render, self._times, fps=self._fps, suffix=suffix)

    def _repr_html_(self) -> str | None:
        buffer = io.BytesIO()
        try:
            self._write(buffer, ".gif")
        except MissingDependency:  # Pillow
            return None
        return embed_image(buffer.getvalue(), format="gif", text=repr(self))


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


class FrameRenderer:
    """Render a picture at any time: its background is drawn once, and per frame only what moves."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        # The methods of FigureCanvasAgg, which `Figure.canvas` does not promise.
        self.canvas = cast(Any, picture.figure.canvas)
        for artist in picture.artists:
            artist.set_animated(True)
        self.canvas.draw()
        self._background = self.canvas.copy_from_bbox(picture.figure.bbox)

    def render(self, time: float) -> NDArray[np.uint8]:
        """Return the pixels at `time`, shape (height, width, 4), RGBA; overwritten by the next call."""
        self.canvas.restore_region(self._background)
        self.picture.set_time(time)
        renderer = self.canvas.get_renderer()
        for artist in self.picture.artists:
            artist.draw(renderer)
        pixels: NDArray[np.uint8] = np.asarray(self.canvas.buffer_rgba())
        return pixels


def _count_frames(seconds: Any, fps: Any) -> int:
    # A PNG shows a frame for at most 65 seconds.
    for name, value, least, most in (("seconds", seconds, 1e-3, 1e6), ("fps", fps, 0.02, 120.0)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            raise InputError(f"{name}={value!r}, expected a number in [{least:g}, {most:g}]")
    count = max(1, round(seconds * fps))
    if count > MOST_FRAMES:
        raise InputError(f"seconds={seconds:g} at fps={fps:g} are {count} frames, expected at most {MOST_FRAMES}")
    return count
