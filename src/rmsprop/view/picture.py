"""One figure: what stays, drawn once, and what moves, set to any time. `plot` shows one time, `animate` many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rmsprop._theme import open_figure
from rmsprop.errors import InputError
from rmsprop.view.curves import FEW, HEADINGS, SHORT_HEADINGS, compute_curve, compute_limits, needs_log_axis
from rmsprop.view.layout import POINTS, Layout, Rect
from rmsprop.view.moving import Cursor, MapMarks
from rmsprop.view.scene import Scene
from rmsprop.view.style import assign_looks, get_theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Picture"]

LARGEST = 8192


class Picture:
    """A figure of a scene.

    Args:
        scene: What to draw.
        theme: "light" or "dark".
        size: Width and height in pixels.
        dpi: Pixels per inch: how large text and lines are.
        panels: Which curves; see `Layout.of`.
        note: A few words at the right of the title, where an animation has the number of the step.
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
        self.scene, self.theme, self.moving = scene, get_theme(theme), moving
        self.size, self.dpi = _check_size(size), _check_dpi(dpi)
        labels = [track.label for track in scene.tracks]
        has_map = scene.background is not None
        self.layout = Layout.of(self.size, dpi=self.dpi, labels=labels, has_map=has_map, panels=panels)
        self.looks = assign_looks([track.trace.optimizer for track in scene.tracks], self.theme)
        self.cursors: list[Cursor] = []
        self.marks: MapMarks | None = None
        width, height = (pixels / self.dpi for pixels in self.size)
        with open_figure(
            width, height, extra="lab", purpose="pictures", theme=self.theme, points=POINTS, dpi=self.dpi, layout="none"
        ) as figure:
            from matplotlib.backends.backend_agg import FigureCanvasAgg

            self.figure: Figure = figure
            FigureCanvasAgg(figure)
            self._draw_head(note)
            if self.layout.map is not None:
                self._draw_map(self.layout.map)
            for name, place in self.layout.panels:
                self._draw_panel(name, place)
            self.set_time(scene.steps)
            # Ticks are made when they are first needed, with the settings of that moment.
            figure.draw_without_rendering()

    @property
    def artists(self) -> list[Any]:
        """Everything that a change of time changes, in drawing order."""
        marks = [] if self.marks is None else self.marks.artists
        heads = [self._bar, self._note] if self.moving else []
        return [*marks, *(artist for cursor in self.cursors for artist in cursor.artists), *heads]

    def set_time(self, time: float) -> None:
        """Show the scene at `time`, a number of steps."""
        frame = self.scene.frame(time)
        if self.marks is not None:
            self.marks.update(frame)
        for cursor in self.cursors:
            cursor.update(frame.time)
        if self.moving:
            self._note.set_text(f"step {int(frame.time)}")
            self._bar.set_width(frame.time / self.scene.steps if self.scene.steps else 1.0)

    def _draw_head(self, note: str | None) -> None:
        from matplotlib.lines import Line2D
        from matplotlib.patches import Rectangle

        theme, layout, figure = self.theme, self.layout, self.figure
        figure.text(layout.margin, layout.title, self.scene.title, fontsize=POINTS * 1.35, fontweight="bold")
        right: dict[str, Any] = {"ha": "right", "fontsize": POINTS * 1.1, "color": theme.muted}
        self._note = figure.text(1 - layout.margin, layout.title, note or "", **right)
        style: dict[str, Any] = {"linewidth": 2, "markersize": 7.5, "markeredgecolor": theme.halo}
        handles = [
            Line2D([], [], label=track.label, color=look.color, linestyle=look.dash, marker=look.marker, **style)
            for track, look in zip(self.scene.tracks, self.looks)
        ]
        figure.legend(
            handles=handles, loc="upper left", bbox_to_anchor=(layout.margin * 0.6, layout.legend),
            ncols=layout.columns, handlelength=2.4, handletextpad=0.6, columnspacing=1.4, borderpad=0.2,
        )  # fmt: skip
        if self.moving:
            self._bar = Rectangle((0, 0), 0, 3.5 / self.size[1], transform=figure.transFigure, color=theme.muted)
            figure.add_artist(self._bar)

    def _draw_map(self, place: Rect) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        background, box, theme = self.scene.background, self.scene.box, self.theme
        assert background is not None
        assert box is not None
        values, levels = background.values, background.levels
        axes = self.figure.add_axes(place)
        axes.grid(visible=False)
        axes.set_xlim(box.low[0], box.high[0])
        axes.set_xlabel("x", labelpad=1)
        if len(background.axes) == 2:
            axes.set_ylim(box.low[1], box.high[1])
            axes.set_ylabel("y", rotation=0, labelpad=5)
            axes.set_facecolor(theme.high)
            ramp = LinearSegmentedColormap.from_list("background", [theme.low, theme.high])
            colors = [ramp(i / (len(levels) - 1)) for i in range(len(levels) - 1)]
            axes.contourf(*background.axes, values, levels=levels, colors=colors, zorder=0)
            lines: dict[str, Any] = {"colors": theme.contour, "linewidths": 0.7, "zorder": 0.5}
            axes.contour(*background.axes, values, levels=levels[1:], **lines)
        else:
            axes.set_ylim(*levels)
            axes.set_ylabel("f", rotation=0, labelpad=5)
            axes.fill_between(background.axes[0], values, levels[0], color=theme.low, linewidth=0, zorder=0)
            axes.plot(background.axes[0], values, color=theme.contour, linewidth=2.4, zorder=0.5)
        if self.scene.minima is not None:
            x, *rest = self.scene.minima.T
            y = rest[0] if rest else np.interp(x, background.axes[0], values)
            axes.plot(x, y, "+", color=theme.ink, markersize=9, markeredgewidth=1.3, zorder=0.8)
        _set_ticks(axes, count=6)
        self.marks = MapMarks(axes, self.scene, self.looks, theme)

    def _draw_panel(self, name: str, place: Rect) -> None:
        axes = self.figure.add_axes(place)
        curves = [compute_curve(track, name) for track in self.scene.tracks]
        log = needs_log_axis(curves, ratio=30.0 if name == "loss" else 3.0)
        axes.set_xlim(0, max(self.scene.steps, 1))
        if log:
            axes.set_yscale("log")
        axes.set_ylim(*compute_limits(curves, log=log))
        heading, key = HEADINGS[name], ""
        lines = curves[0][1].shape[1]
        if lines > 1:
            names = ("smallest", "median", "largest") if self.scene.coordinates > FEW else ("x", "y", "z")
            key = ", ".join(f"{n} {dash}" for n, dash in zip(names[:lines], ("—", "- -", "···")))
            if place.width * self.size[0] < 0.62 * self.layout.em * len(heading + key):
                heading = SHORT_HEADINGS[name]
            axes.set_title(key, loc="right", pad=4, fontsize=POINTS * 0.9, fontweight="normal", color=self.theme.muted)
        axes.set_title(heading, pad=4, fontsize=POINTS)
        _set_ticks(axes, count=4, log=log)
        if name == self.layout.panels[-1][0]:
            axes.set_xlabel("step", labelpad=1)
        else:
            axes.tick_params(labelbottom=False)
        self.cursors.append(Cursor(axes, curves, self.looks, self.theme, moving=self.moving))


def _set_ticks(axes: Axes, *, count: int, log: bool = False) -> None:
    from matplotlib import ticker

    def write(value: float, _: float) -> str:
        return f"{value:.4g}".replace("-", "−")

    axes.tick_params(length=3, width=0.8, pad=2)
    axes.tick_params(which="minor", length=0)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(count, integer=count == 4))
    axes.xaxis.set_major_formatter(write)
    low, high = axes.get_ylim()
    if log and high / low >= 10**1.5:
        axes.yaxis.set_major_locator(ticker.LogLocator(numticks=4))
    else:
        locator = ticker.LogLocator(subs=(1.0, 2.0, 5.0), numticks=6) if log else ticker.MaxNLocator(count)
        axes.yaxis.set_major_locator(locator)
        axes.yaxis.set_major_formatter(write)
    axes.yaxis.set_minor_locator(ticker.NullLocator())


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
