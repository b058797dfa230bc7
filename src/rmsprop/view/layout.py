"""Where things stand in a picture of so many pixels: the map on the left, the curves in a column beside it.

Everything is measured in the height of the text, so a picture of another size or dpi keeps its proportions and no two
parts overlap.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from rmsprop.errors import InputError

__all__ = ["PANELS", "POINTS", "Layout", "Rect"]

PANELS = ("loss", "effective_lr", "step_length", "accumulator")
POINTS = 9.0
"""Size of ordinary text, in points: 12.5 pixels at 100 dpi."""

_ROW, _LABELS, _AXIS, _TITLE, _GAP = 1.75, 4.2, 3.1, 2.2, 1.1
_PANEL_HEIGHT = 10.0
_SMALLEST = (24.0, 16.0)


@dataclasses.dataclass(frozen=True)
class Rect:
    """A rectangle in parts of the picture, from the lower left corner, as matplotlib places axes."""

    left: float
    bottom: float
    width: float
    height: float

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The four numbers."""
        return (self.left, self.bottom, self.width, self.height)

    def overlaps(self, other: Rect) -> bool:
        """Whether the two share more than an edge."""
        return (
            self.left < other.left + other.width
            and other.left < self.left + self.width
            and self.bottom < other.bottom + other.height
            and other.bottom < self.bottom + self.height
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """The places of one picture; build it with `Layout.of`.

    Attributes:
        em: Height of the text in pixels.
        map: Where the map or curve is drawn, or None.
        panels: Name and place of each curve, top first.
        title: Height of the title's baseline, in parts of the picture.
        legend: Height of the legend's top.
        columns: Entries of the legend per row.
        margin: Left and right margin, in parts of the picture.
    """

    em: float
    map: Rect | None
    panels: tuple[tuple[str, Rect], ...]
    title: float
    legend: float
    columns: int
    margin: float

    @classmethod
    def of(
        cls, size: tuple[int, int], *, dpi: float, labels: Sequence[str], has_map: bool, panels: Sequence[str] | None
    ) -> Layout:
        """Divide a picture.

        Args:
            size: Width and height in pixels.
            dpi: Pixels per inch: how large text and lines are.
            labels: What the legend says.
            has_map: Whether there is a map.
            panels: Which curves, of `PANELS`. Default: as many as fit, the first ones first.

        Raises:
            InputError: An unknown curve, or a picture too small for its text.
        """
        width, height = size
        em = POINTS * dpi / 72
        if width < _SMALLEST[0] * em or height < _SMALLEST[1] * em:
            least = tuple(math.ceil(part * em) for part in _SMALLEST)
            raise InputError(f"size={size}, expected at least {least} at dpi={dpi:g}, or the text would not fit")
        for name in panels or ():
            if name not in PANELS:
                raise InputError(f"panels: {name!r}, expected some of {', '.join(PANELS)}")
        columns, rows = _legend(labels, width / em - 2.4)
        top = 1 - (2.6 + rows * _ROW) * em / height
        bottom = _AXIS * em / height
        tall = (top - bottom) * height / em
        wide = width / em
        beside = has_map and wide >= 38
        most = max(1, int((tall + _GAP) / _PANEL_HEIGHT)) if beside or not has_map else 0
        chosen = tuple(panels) if panels is not None else PANELS[: min(most, len(PANELS) - (1 if has_map else 0))]
        if has_map and not beside:
            chosen = ()
        share = 1.0 if not has_map else 0.37 if chosen else 0.0
        split = width * (1 - share) / em
        place = None
        if has_map:
            right = split - 0.6 if chosen else wide - 1.2
            place = Rect(_LABELS * em / width, bottom, (right - _LABELS) * em / width, top - bottom)
        left = (split if has_map else 0.0) + _LABELS
        each = (tall - _TITLE * max(len(chosen) - 1, 0) - 0.4) / max(len(chosen), 1) if chosen else 0.0
        places = []
        for i, name in enumerate(chosen):
            foot = bottom + (len(chosen) - 1 - i) * (each + _TITLE) * em / height
            places.append((name, Rect(left * em / width, foot, (wide - 1.2 - left) * em / width, each * em / height)))
        return cls(
            em=em,
            map=place,
            panels=tuple(places),
            title=1 - 1.6 * em / height,
            legend=1 - 2.0 * em / height,
            columns=columns,
            margin=1.2 * em / width,
        )


def _legend(labels: Sequence[str], room: float) -> tuple[int, int]:
    """How many entries fit in a row of `room` ems, and how many rows that makes."""
    widest = max((0.62 * len(label) for label in labels), default=0.0) + 4.2
    columns = max(1, min(len(labels), int(room / widest)))
    return columns, math.ceil(len(labels) / columns)
