"""The parts of a figure that depend on the time: balls, trails and squares on the map, cursors in the curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rmsprop.view.curves import Curve
from rmsprop.view.layout import POINTS, Layout
from rmsprop.view.scene import Frame, Scene
from rmsprop.view.style import Look, Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Counter", "Cursor", "MapMarks", "square_corners"]

Array = NDArray[Any]

LARGEST_SQUARE = 0.24
"""Side of the largest square of a whole run, as a part of the map's shorter edge."""
_DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)))


def square_corners(centre: Array, side: float, axis: int, direction: float, unit: Array) -> Array:
    """Return the corners of a square that touches the ball, shape (4, 2), in units of the map's axes.

    Args:
        centre: The ball, shape (2,).
        side: In parts of the largest square.
        axis: 0: the square lies to the left or right of the ball; 1: above or below.
        direction: On which side: its sign.
        unit: Width and height of the largest square in units of the axes, shape (2,).
    """
    along = np.array([0.0, 1.0, 1.0, 0.0]) * (direction or 1.0)
    across = np.array([-0.5, -0.5, 0.5, 0.5])
    columns = (along, across) if axis == 0 else (across, along)
    corners: Array = centre + side * unit * np.stack(columns, axis=1)
    return corners


class MapMarks:
    """Balls, trails, squares, and the words where a run left the picture."""

    def __init__(
        self, axes: Axes, scene: Scene, looks: Sequence[Look], colors: Theme, layout: Layout, size: tuple[int, int]
    ) -> None:
        from matplotlib import patheffects
        from matplotlib.collections import LineCollection, PolyCollection

        assert layout.map is not None
        self.scene, self.looks = scene, looks
        pixels = np.array([layout.map.width * size[0], layout.map.height * size[1]])
        low, high = np.array([axes.get_xlim(), axes.get_ylim()]).T
        self.low, self.high = low, high
        self.unit = LARGEST_SQUARE * pixels.min() / pixels * (high - low)
        shades = [look.color for look in looks]
        n = scene.coordinates
        k, own = len(looks), np.repeat(shades, n).tolist()
        # One collection for all lines, and one for all squares: each draws a frame in the time of one artist.
        self.trails = LineCollection(
            [],
            colors=[(colors.halo, 0.75)] * k + shades,
            linewidths=[3.4] * k + [1.9] * k,
            capstyle="round",
            joinstyle="round",
            zorder=2,
        )
        self.squares = PolyCollection(
            [],
            facecolors=[(shade, colors.fill) for shade in own] + ["none"] * len(own),
            edgecolors=["none"] * len(own) + own,
            linewidths=1.1,
            zorder=3,
        )
        for collection in (self.trails, self.squares):
            axes.add_collection(collection, autolim=False)
        edge: dict[str, Any] = {
            "markeredgecolor": colors.halo,
            "markeredgewidth": 1.1,
            "linestyle": "",
            "zorder": 4,
            "clip_on": False,
        }
        self.balls = [axes.plot([], [], look.marker, color=look.color, markersize=9.5, **edge)[0] for look in looks]
        starts = np.array([self._place(track.point(0.0)) for track in scene.tracks])
        axes.plot(*starts.T, "o", color="none", markeredgecolor=colors.ink, markersize=5, linestyle="", zorder=1.9)
        self.leaving = []
        places: list[Array] = []
        for track, look in zip(scene.tracks, looks):
            if track.left is None or track.exit is None:
                continue
            place = self._place(track.exit)
            words = f"{track.label} leaves at step {track.left}"
            right, top = place > low + 0.5 * (high - low)
            # Runs that leave at the same place: a line for each.
            rows = sum(bool((np.abs(place - other) < 0.08 * (high - low)).all()) for other in places)
            away = 7 + 1.3 * POINTS * rows
            places.append(place)
            text = axes.annotate(
                words,
                (place[0], place[1]),
                xytext=(-9 if right else 9, -away if top else away),
                textcoords="offset points",
                ha="right" if right else "left",
                va="top" if top else "bottom",
                color=look.color,
                fontsize=POINTS,
                zorder=5,
                path_effects=[patheffects.withStroke(linewidth=2.5, foreground=colors.halo)],
            )
            self.leaving.append((track, text))

    @property
    def artists(self) -> list[Any]:
        """In drawing order."""
        texts = [text for _, text in self.leaving]
        return [self.trails, self.squares, *self.balls, *texts]

    def set(self, frame: Frame) -> None:
        """Move everything to the time of `frame`."""
        tracks = self.scene.tracks
        trails = [self._on_map(points) for points in frame.trails]
        self.trails.set_segments([*trails, *trails])
        filled: list[Array] = []
        outlined: list[Array] = []
        for i in range(len(tracks)):
            place = self._place(frame.points[i])
            self.balls[i].set_data(place[:1], place[1:])
            shown = frame.inside[i] and np.isfinite(frame.sides[i])
            for axis, way in enumerate(frame.directions[i]):
                sides = (frame.sides[i, axis], frame.outlines[i, axis]) if np.all(shown) else (0.0, 0.0)
                for squares, side in zip((filled, outlined), sides):
                    squares.append(square_corners(place, side, axis, way, self.unit))
        self.squares.set_verts([*filled, *outlined])
        for track, text in self.leaving:
            text.set_visible(track.left is not None and frame.time >= track.left)

    def _place(self, point: Array) -> Array:
        """A ball's place in the map: of one variable, on the curve."""
        return self._on_map(point[None])[0] if len(point) == 2 else self._on_curve(point)

    def _on_curve(self, point: Array) -> Array:
        ground = self.scene.ground
        assert ground is not None
        return np.array([point[0], np.interp(point[0], ground.axes[0], ground.values)])

    def _on_map(self, points: Array) -> Array:
        if points.shape[1] == 1:
            ground = self.scene.ground
            assert ground is not None
            inside = np.clip(points[:, 0], self.low[0], self.high[0])
            return np.stack([inside, np.interp(inside, ground.axes[0], ground.values)], axis=1)
        # A detour far out of the picture and back is drawn as lines to beyond its edge.
        room = 20 * (self.high - self.low)
        near: Array = np.clip(points.astype(float), self.low - room, self.high + room)
        return near


class Cursor:
    """The past of every run in one panel, a line at the time, and a dot on each curve."""

    def __init__(
        self, axes: Axes, scene: Scene, lines: Sequence[Curve], looks: Sequence[Look], colors: Theme, *, moving: bool
    ) -> None:
        from matplotlib.collections import LineCollection

        self.curves = [
            (steps, _drawable(values[:, j], axes), look, j)
            for (steps, values), look in zip(lines, looks)
            for j in range(values.shape[1])
        ]
        style: dict[str, list[Any]] = {
            "colors": [look.color for *_, look, _ in self.curves],
            "linestyles": [_DASHES[j % len(_DASHES)] for *_, j in self.curves],
        }
        whole = [np.stack([steps, values], axis=1) for steps, values, *_ in self.curves]
        self.moving = moving
        future = LineCollection(whole, linewidths=1.2, alpha=0.28 if moving else 0.0, zorder=2, **style)
        axes.add_collection(future, autolim=False)
        # The first line is that of the time, the others are the past of each curve.
        self.past = LineCollection(
            [],
            colors=[colors.muted if moving else "none", *style["colors"]],
            linestyles=["-", *style["linestyles"]],
            linewidths=[0.9] + [1.7] * len(whole),
            zorder=3,
        )
        axes.add_collection(self.past, autolim=False)
        self.limits = axes.get_ylim()
        self.dots = axes.scatter(
            np.zeros(len(self.curves)), np.zeros(len(self.curves)), s=15, zorder=4, visible=moving, linewidths=0,
            c=style["colors"],
        )  # fmt: skip

    @property
    def artists(self) -> list[Any]:
        """In drawing order."""
        return [self.past, self.dots]

    def set(self, time: float) -> None:
        """Move to `time`, a number of steps."""
        segments, ends = [], []
        for steps, values, *_ in self.curves:
            whole = int(np.searchsorted(steps, time, side="right"))
            segment = np.stack([steps[:whole], values[:whole]], axis=1).astype(float)
            if whole < len(steps) and whole and time > steps[whole - 1]:
                segment = np.append(segment, [[time, np.interp(time, steps, values)]], axis=0)
            segments.append(segment)
            ends.append(segment[-1] if len(segment) else (np.nan, np.nan))
        line = np.array([[time, limit] for limit in self.limits])
        self.past.set_segments([line, *segments])
        self.dots.set_offsets(np.array(ends, float))


class Counter:
    """The number of the step, right-aligned at a corner in pixels.

    It is drawn from outlines made once: laying out a text anew for each frame would take as long as all the rest.
    """

    def __init__(self, figure: Figure, corner: tuple[float, float], height: float, color: str) -> None:
        from matplotlib.font_manager import FontProperties
        from matplotlib.patches import PathPatch
        from matplotlib.textpath import TextPath, text_to_path
        from matplotlib.transforms import IdentityTransform

        font = FontProperties(family="DejaVu Sans", size=height)
        self._outlines = {word: TextPath((0, 0), word, prop=font) for word in ("step", *"0123456789")}
        self._advance = text_to_path.get_text_width_height_descent("0", font, ismath=False)[0]
        self._space = text_to_path.get_text_width_height_descent("step ", font, ismath=False)[0]
        self._corner = np.array(corner)
        self.artist = PathPatch(self._outlines["0"], color=color, linewidth=0, transform=IdentityTransform())
        figure.add_artist(self.artist)

    def set(self, step: int) -> None:
        """Show a number, at least 0."""
        from matplotlib.path import Path

        digits = str(step)
        left = self._corner - [len(digits) * self._advance, 0]
        parts = [(self._outlines["step"], left - [self._space, 0])]
        parts += [(self._outlines[digit], left + [i * self._advance, 0]) for i, digit in enumerate(digits)]
        vertices = np.concatenate([outline.vertices + place for outline, place in parts])
        self.artist.set_path(Path(vertices, np.concatenate([outline.codes for outline, _ in parts])))


def _drawable(values: Array, axes: Axes) -> Array:
    """Numbers that matplotlib can transform: what is beyond the axis ends beyond its edge, what has no place is NaN."""
    low, high = axes.get_ylim()
    values = np.where(np.isnan(values), np.nan, values)
    if axes.get_yscale() == "log":
        return np.where(
            values > 0, np.clip(values, low / 1e6, high * 1e6), np.where(np.isnan(values), np.nan, low / 1e6)
        )
    room = 10 * (high - low)
    return np.clip(values, low - room, high + room)
