"""One figure: what stays, drawn once, and what moves, set to any time. `plot` shows one time, `animate` many.

Only this file and `writers` touch matplotlib and Pillow, and only when a picture is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rmsprop.errors import InputError, MissingDependency
from rmsprop.view import curves
from rmsprop.view.layout import POINTS, Layout
from rmsprop.view.moving import Counter, Cursor, MapMarks
from rmsprop.view.scene import Scene
from rmsprop.view.style import Look, Theme, looks, theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Picture", "style"]

Array = NDArray[Any]
LARGEST = 8192


class Picture:
    """A figure of a scene.

    Args:
        scene: What to draw.
        theme: "light" or "dark".
        size: Width and height in pixels.
        dpi: Pixels per inch: how large text and lines are.
        panels: Which curves; see `Layout.of`.
        note: A few words at the right of the title, where a moving picture has the number of the step.
        moving: Whether the time will change: the future of the curves is then dimmed, and a bar below shows the time.

    Attributes:
        figure: matplotlib's Figure.
    """

    def __init__(
        self,
        scene: Scene,
        *,
        theme: str = "light",
        size: tuple[int, int] = (1280, 800),
        dpi: float = 100.0,
        panels: Sequence[str] | None = None,
        note: str | None = None,
        moving: bool = False,
    ) -> None:
        self.scene, self.colors, self.size, self.dpi = scene, _theme(theme), _check_size(size), _check_dpi(dpi)
        self.layout = Layout.of(
            self.size,
            dpi=self.dpi,
            labels=[t.label for t in scene.tracks],
            has_map=scene.ground is not None,
            panels=panels,
        )
        self.looks = looks([track.trace.optimizer for track in scene.tracks], self.colors)
        self.moving = moving
        figure_class = _figure_class()
        width, height = self.size
        self.figure: Figure = figure_class(
            figsize=(width / self.dpi, height / self.dpi), dpi=self.dpi, facecolor=self.colors.paper
        )
        self._cursors: list[Cursor] = []
        self._marks: MapMarks | None = None
        with style(self.colors):
            self._head(note)
            if self.layout.map is not None:
                self._map()
            for name, place in self.layout.panels:
                last = name == self.layout.panels[-1][0]
                self._panel(name, self.figure.add_axes(place.bounds), last=last)
            self.set_time(scene.steps)
            # Ticks are made when they are first needed, with the settings of that moment.
            self.figure.draw_without_rendering()

    @property
    def artists(self) -> list[Any]:
        """Everything that a change of time changes, in the order in which it is drawn."""
        marks = [] if self._marks is None else self._marks.artists
        heads = [self._bar, self._counter.artist] if self.moving else []
        return [*marks, *(artist for cursor in self._cursors for artist in cursor.artists), *heads]

    def set_time(self, time: float) -> None:
        """Show the scene at `time`, a number of steps."""
        frame = self.scene.frame(time)
        if self._marks is not None:
            self._marks.set(frame)
        for cursor in self._cursors:
            cursor.set(time)
        if self.moving:
            self._counter.set(int(time))
            self._bar.set_width(time / self.scene.steps if self.scene.steps else 1.0)

    def _head(self, note: str | None) -> None:
        from matplotlib.lines import Line2D
        from matplotlib.patches import Rectangle

        colors, layout, figure = self.colors, self.layout, self.figure
        figure.text(
            layout.margin, layout.title, self.scene.title, fontsize=POINTS * 1.35, fontweight="bold", color=colors.ink
        )
        if note is not None:
            figure.text(1 - layout.margin, layout.title, note, ha="right", fontsize=POINTS * 1.1, color=colors.muted)
        handles = [
            Line2D([], [], label=track.label, markersize=7.5, linewidth=2, **_line(look), **_ball(look, colors))
            for track, look in zip(self.scene.tracks, self.looks)
        ]
        figure.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(layout.margin * 0.6, layout.legend),
            ncols=layout.columns,
            labelcolor=colors.ink,
            fontsize=POINTS,
            frameon=False,
            handlelength=2.4,
            handletextpad=0.6,
            columnspacing=1.4,
            borderpad=0.2,
        )
        if self.moving:
            self._bar = Rectangle((0, 0), 0, 3.5 / self.size[1], transform=figure.transFigure, color=colors.muted)
            figure.add_artist(self._bar)
            corner = ((1 - layout.margin) * self.size[0], layout.title * self.size[1])
            self._counter = Counter(figure, corner, layout.em * 1.1, colors.muted)

    def _map(self) -> None:
        from matplotlib.colors import LinearSegmentedColormap, to_rgb

        assert self.layout.map is not None
        assert self.scene.ground is not None
        assert self.scene.box is not None
        ground, box, colors = self.scene.ground, self.scene.box, self.colors
        axes = self.figure.add_axes(self.layout.map.bounds)
        axes.set_xlim(box.low[0], box.high[0])
        axes.set_xlabel("x", labelpad=1)
        if len(ground.axes) == 2:
            axes.set_ylim(box.low[1], box.high[1])
            axes.set_ylabel("y", rotation=0, labelpad=5)
            ramp = LinearSegmentedColormap.from_list("ground", [colors.low, colors.high])
            bands = [ramp(i / (len(ground.levels) - 1)) for i in range(len(ground.levels) - 1)]
            axes.set_facecolor(to_rgb(colors.high))
            axes.contourf(*ground.axes, ground.values, levels=ground.levels, colors=bands, zorder=0)
            axes.contour(
                *ground.axes, ground.values, levels=ground.levels[1:], colors=colors.contour, linewidths=0.7, zorder=0.5
            )
        else:
            axes.set_ylim(*ground.levels)
            axes.set_ylabel("f", rotation=0, labelpad=5)
            axes.fill_between(ground.axes[0], ground.values, ground.levels[0], color=colors.low, linewidth=0, zorder=0)
            axes.plot(ground.axes[0], ground.values, color=colors.contour, linewidth=2.4, zorder=0.5)
        if self.scene.minima is not None:
            x, *rest = self.scene.minima.T
            y = rest[0] if rest else np.interp(x, ground.axes[0], ground.values)
            axes.plot(x, y, "+", color=colors.ink, markersize=9, markeredgewidth=1.3, zorder=0.8)
        _tidy(axes, colors, ticks=5)
        self._marks = MapMarks(axes, self.scene, self.looks, colors, self.layout, self.size)

    def _panel(self, name: str, axes: Axes, *, last: bool) -> None:
        colors = self.colors
        lines = [curves.curve(track, name) for track in self.scene.tracks]
        log = curves.logarithmic(lines, always=name != "loss")
        axes.set_xlim(0, max(self.scene.steps, 1))
        if log:
            axes.set_yscale("log")
        axes.set_ylim(*curves.limits(lines, log=log))
        several = name in ("effective_lr", "accumulator") and self.scene.coordinates > 1
        names = ("least", "median", "largest") if self.scene.coordinates > curves.FEW else ("x", "y", "z")
        told = ", ".join(f"{n} {d}" for n, d in zip(names[: lines[0][1].shape[1]], ("—", "- -", "···")))
        narrow = axes.get_position().width * self.size[0] < 0.62 * self.layout.em * len(curves.HEADINGS[name] + told)
        heading = curves.SHORT[name] if narrow and several else curves.HEADINGS[name]
        axes.set_title(heading, loc="left", pad=4, fontsize=POINTS, fontweight="bold", color=colors.ink)
        if several:
            axes.set_title(told, loc="right", pad=4, fontsize=POINTS * 0.9, color=colors.muted)
        _tidy(axes, colors, ticks=3, log=log)
        axes.grid(visible=True, color=colors.grid, linewidth=0.7)
        if last:
            axes.set_xlabel("step", labelpad=1)
        else:
            axes.tick_params(labelbottom=False)
        self._cursors.append(Cursor(axes, self.scene, lines, self.looks, colors, moving=self.moving))


def _tidy(axes: Axes, colors: Theme, *, ticks: int, log: bool = False) -> None:
    from matplotlib import ticker

    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(colors.muted)
        axes.spines[side].set_linewidth(0.8)
    axes.tick_params(length=3, width=0.8, color=colors.muted, labelcolor=colors.muted, labelsize=POINTS * 0.9, pad=2)
    axes.tick_params(which="minor", length=0)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(ticks + 1, integer=ticks == 3))
    if log:
        axes.yaxis.set_major_locator(ticker.LogLocator(numticks=4))
        axes.yaxis.set_minor_locator(ticker.NullLocator())
        low, high = axes.get_ylim()
        if np.log10(high / low) < 1.5:
            axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0), numticks=6))
            axes.yaxis.set_major_formatter(ticker.FuncFormatter(_number))
    else:
        axes.yaxis.set_major_locator(ticker.MaxNLocator(ticks + 1))
        axes.yaxis.set_major_formatter(ticker.FuncFormatter(_number))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(_number))
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_color(colors.muted)
        axis.label.set_fontsize(POINTS)


def _number(value: float, _: int | None = None) -> str:
    return f"{value:.4g}".replace("-", "−")


def _line(look: Look) -> dict[str, Any]:
    return {"color": look.color, "linestyle": look.dash}


def _ball(look: Look, colors: Theme) -> dict[str, Any]:
    return {
        "marker": look.marker,
        "markerfacecolor": look.color,
        "markeredgecolor": colors.halo,
        "markeredgewidth": 1.0,
    }


def _theme(name: str) -> Theme:
    return theme(name)


def _check_size(size: Any) -> tuple[int, int]:
    try:
        width, height = (int(part) for part in size)
    except (TypeError, ValueError):
        raise InputError(f"size={size!r}, expected (width, height) in pixels") from None
    if not (0 < width <= LARGEST and 0 < height <= LARGEST):
        raise InputError(f"size={size!r}, expected (width, height) of 1 to {LARGEST} pixels")
    return width, height


def _check_dpi(dpi: Any) -> float:
    if isinstance(dpi, bool) or not isinstance(dpi, (int, float)) or not 20 <= dpi <= 1200:
        raise InputError(f"dpi={dpi!r}, expected a number in [20, 1200]")
    return float(dpi)


def _figure_class() -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency.of("matplotlib", extra="lab", purpose="pictures") from error

    def make(**options: Any) -> Figure:
        figure = Figure(**options)
        FigureCanvasAgg(figure)
        return figure

    return make


def style(colors: Theme) -> Any:
    """Return a context in which matplotlib has its own defaults: a user's settings must not reach these pictures."""
    import matplotlib

    own = {name: value for name, value in matplotlib.rcParamsDefault.items() if name.split(".")[0] in _GROUPS}
    changed = {"axes.facecolor": "none", "text.color": colors.ink, "mathtext.default": "regular"}
    return matplotlib.rc_context({**own, **changed})


_GROUPS = {
    "axes", "contour", "figure", "font", "grid", "image", "legend", "lines", "markers", "mathtext", "patch", "path",
    "pdf", "savefig", "scatter", "svg", "text", "xtick", "ytick",
}  # fmt: skip
