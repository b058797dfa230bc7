"""The parts of a figure that depend on the time: balls, trails and squares on the map, cursors in the curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rmsprop._theme import Theme
from rmsprop.view.curves import Curve
from rmsprop.view.layout import POINTS
from rmsprop.view.scene import Frame, Scene
from rmsprop.view.style import Look
from rmsprop.view.track import Track

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Cursor", "MapMarks", "compute_square"]

Array = NDArray[Any]

LARGEST_SQUARE = 0.24
"""Side of the largest square of all steps, as a part of the map's shorter edge."""
_DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)))


def compute_square(center: Array, side: float, axis: int, direction: float, unit: Array) -> Array:
    """Return the corners of a square that touches the ball, shape (4, 2), in units of the map's axes.

    Args:
        center: The ball, shape (2,).
        side: In parts of the largest square.
        axis: 0: the square lies to the left or right of the ball; 1: above or below.
        direction: On which side: its sign.
        unit: Width and height of the largest square in units of the axes, shape (2,).
    """
    along = np.array([0.0, 1.0, 1.0, 0.0]) * (direction or 1.0)
    across = np.array([-0.5, -0.5, 0.5, 0.5])
    corners: Array = center + side * unit * np.stack((along, across) if axis == 0 else (across, along), axis=1)
    return corners


class MapMarks:
    """Balls, trails and squares, and a note where a run left the picture.

    Attributes:
        artists: In drawing order.
    """

    def __init__(self, axes: Axes, scene: Scene, looks: Sequence[Look], theme: Theme) -> None:
        from matplotlib.collections import LineCollection, PolyCollection

        self.scene = scene
        self.low, self.high = np.array([axes.get_xlim(), axes.get_ylim()]).T
        pixels = np.array(axes.bbox.size)
        self.unit = LARGEST_SQUARE * pixels.min() / pixels * (self.high - self.low)
        colors = [look.color for look in looks]
        k, fills = len(looks), np.repeat(colors, scene.coordinates).tolist()
        # One collection for all lines, and one for all squares: each draws a frame in the time of one artist.
        self.trails = LineCollection(
            [], colors=[(theme.halo, 0.75)] * k + colors, linewidths=[3.4] * k + [1.9] * k,
            capstyle="round", joinstyle="round", zorder=2,
        )  # fmt: skip
        transparent, alpha = ["none"] * len(fills), 0.3 if theme.name == "dark" else 0.2
        self.squares = PolyCollection(
            [], facecolors=[*((color, alpha) for color in fills), *transparent], edgecolors=transparent + fills,
            linewidths=1.1, zorder=3,
        )  # fmt: skip
        for collection in (self.trails, self.squares):
            axes.add_collection(collection, autolim=False)
        edge: dict[str, Any] = {"markeredgecolor": theme.halo, "markeredgewidth": 1.1, "clip_on": False, "zorder": 4}
        self.balls = [axes.plot([], [], look.marker, color=look.color, markersize=9.5, **edge)[0] for look in looks]
        starts = np.array([self._place(track.get_point(0.0)) for track in scene.tracks])
        axes.plot(*starts.T, "o", color="none", markeredgecolor=theme.ink, markersize=5, zorder=1.9)
        self.exits = self._annotate_exits(axes, looks, theme)
        self.artists: list[Any] = [self.trails, self.squares, *self.balls, *(text for _, text in self.exits)]

    def _annotate_exits(self, axes: Axes, looks: Sequence[Look], theme: Theme) -> list[tuple[Track, Any]]:
        from matplotlib import patheffects

        exits: list[tuple[Track, Any]] = []
        places: list[Array] = []
        for track, look in zip(self.scene.tracks, looks):
            if track.exit_point is None:
                continue
            place, size = self._place(track.exit_point), self.high - self.low
            is_right, is_top = place > self.low + 0.5 * size
            # Notes of runs that leave at the same place stand below each other.
            rows = sum(bool((np.abs(place - other) < 0.08 * size).all()) for other in places)
            distance = 7 + 1.3 * POINTS * rows
            places.append(place)
            text = axes.annotate(
                f"{track.label} leaves at step {track.exit_step}", (place[0], place[1]), color=look.color, zorder=5,
                xytext=(-9 if is_right else 9, -distance if is_top else distance), textcoords="offset points",
                ha="right" if is_right else "left", va="top" if is_top else "bottom",
                path_effects=[patheffects.withStroke(linewidth=2.5, foreground=theme.halo)],
            )  # fmt: skip
            exits.append((track, text))
        return exits

    def update(self, frame: Frame) -> None:
        """Move everything to the time of `frame`."""
        trails = [self._project(points) for points in frame.trails]
        self.trails.set_segments([*trails, *trails])
        fills: list[Array] = []
        outlines: list[Array] = []
        for i, ball in enumerate(self.balls):
            place = self._place(frame.points[i])
            ball.set_data(place[:1], place[1:])
            is_shown = frame.inside[i] and np.isfinite(frame.sides[i]).all()
            for axis, direction in enumerate(frame.directions[i]):
                for squares, sides in ((fills, frame.sides), (outlines, frame.outlines)):
                    side = sides[i, axis] if is_shown else 0.0
                    squares.append(compute_square(place, side, axis, direction, self.unit))
        self.squares.set_verts([*fills, *outlines])
        for track, text in self.exits:
            text.set_visible(track.has_left(frame.time))

    def _place(self, point: Array) -> Array:
        """Return a ball's place in the map, shape (2,), inside or not."""
        return point if len(point) == 2 else self._add_height(point[None])[0]

    def _project(self, points: Array) -> Array:
        """Return a trail's points in the map, shape (m, 2), near enough to its edges to be drawn."""
        if points.shape[1] == 1:
            return self._add_height(np.clip(points, self.low[0], self.high[0]))
        room = 20 * (self.high - self.low)
        return np.clip(points.astype(float), self.low - room, self.high + room)

    def _add_height(self, x: Array) -> Array:
        """Return points of a function of one variable on its curve, shape (m, 2)."""
        background = self.scene.background
        assert background is not None
        return np.concatenate([x, np.interp(x, background.axes[0], background.values)], axis=1)


class Cursor:
    """The past of every run in one panel, a line at the time, and a dot on each curve.

    Attributes:
        artists: In drawing order.
    """

    def __init__(
        self, axes: Axes, curves: Sequence[Curve], looks: Sequence[Look], theme: Theme, *, moving: bool
    ) -> None:
        from matplotlib.collections import LineCollection

        self.lines = [(steps, _clip_values(column, axes)) for steps, values in curves for column in values.T]
        count = curves[0][1].shape[1]
        colors, dashes = [look.color for look in looks for _ in range(count)], list(_DASHES[:count]) * len(looks)
        full = [np.stack(line, axis=1) for line in self.lines]
        alpha = 0.28 if moving else 0.0
        future = LineCollection(full, colors=colors, linestyles=dashes, linewidths=1.2, alpha=alpha, zorder=2)
        # The first line marks the time, the others are the past of each curve.
        self.past = LineCollection(
            [], colors=[theme.muted if moving else "none", *colors], linestyles=["-", *dashes],
            linewidths=[0.9] + [1.7] * len(full), zorder=3,
        )  # fmt: skip
        for collection in (future, self.past):
            axes.add_collection(collection, autolim=False)
        self.limits = axes.get_ylim()
        zeros = np.zeros(len(full))
        self.dots = axes.scatter(zeros, zeros, s=15, zorder=4, visible=moving, linewidths=0, c=colors)
        self.artists: list[Any] = [self.past, self.dots]

    def update(self, time: float) -> None:
        """Move to `time`, a number of steps."""
        segments, ends = [], []
        for steps, values in self.lines:
            count = int(np.searchsorted(steps, time, side="right"))
            segment = np.stack([steps[:count], values[:count]], axis=1).astype(float)
            if 0 < count < len(steps) and time > steps[count - 1]:
                segment = np.append(segment, [[time, np.interp(time, steps, values)]], axis=0)
            segments.append(segment)
            ends.append(segment[-1] if len(segment) else (np.nan, np.nan))
        self.past.set_segments([np.array([[time, limit] for limit in self.limits]), *segments])
        self.dots.set_offsets(np.array(ends, float))


def _clip_values(values: Array, axes: Axes) -> Array:
    """Return numbers that matplotlib can transform: those beyond the axis end beyond its edge, NaN stays."""
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        return np.clip(values, low / 1e6, high * 1e6)
    return np.clip(values, low - 10 * (high - low), high + 10 * (high - low))
