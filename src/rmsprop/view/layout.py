"""The places of the parts of a picture: the map on the left, the curves in a column beside it.

Everything is measured in the height of the text, so a picture of another size or dpi keeps its proportions and no two
parts overlap.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

from rmsprop.errors import InputError
from rmsprop.view.curves import HEADINGS

__all__ = ["PANELS", "POINTS", "Layout", "Rect"]

PANELS = tuple(HEADINGS)
POINTS = 9.0
"""Size of ordinary text, in points: 12.5 pixels at 100 dpi."""

# In heights of the text: a row of the legend, the labels left of an axis and below it, a panel's heading, the gap
# between two panels, the least height of a panel, the edge of the picture, and the smallest picture.
_ROW, _LEFT, _BELOW, _HEADING, _GAP, _PANEL, _EDGE = 1.75, 4.2, 3.1, 2.2, 1.1, 10.0, 1.2
_SMALLEST = (24.0, 16.0)


class Rect(NamedTuple):
    """A rectangle in parts of the picture, from the lower left corner, as matplotlib places axes."""

    left: float
    bottom: float
    width: float
    height: float


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
        """Divide a picture of `size` pixels.

        Args:
            size: Width and height in pixels.
            dpi: Pixels per inch: how large text and lines are.
            labels: The entries of the legend.
            has_map: Whether there is a map.
            panels: Which curves, of `PANELS`. Default: as many as fit, the first ones first.

        Raises:
            InputError: An unknown curve, or a picture too small for its text.
        """
        em = POINTS * dpi / 72
        width, height = size[0] / em, size[1] / em
        if width < _SMALLEST[0] or height < _SMALLEST[1]:
            least = tuple(math.ceil(part * em) for part in _SMALLEST)
            raise InputError(f"size={size}, expected at least {least} at dpi={dpi:g}, or the text would not fit")
        for name in panels or ():
            if name not in PANELS:
                raise InputError(f"panels: {name!r}, expected some of {', '.join(PANELS)}")
        widest = max((0.62 * len(label) for label in labels), default=0.0) + 4.2
        columns = max(1, min(len(labels), int((width - 2 * _EDGE) / widest)))
        tall = height - 2.6 - _ROW * math.ceil(len(labels) / columns) - _BELOW
        names = tuple(PANELS[: max(1, int((tall + _GAP) / _PANEL))] if panels is None else panels)
        if has_map:
            names = names[: len(PANELS) - 1] if panels is None else names
            names = names if width >= 38 else ()
        split = (0.63 * width if names else width) if has_map else 0.0

        def place(left: float, bottom: float, right: float, high: float) -> Rect:
            return Rect(left / width, bottom / height, (right - left) / width, high / height)

        count = len(names)
        high = (tall - _HEADING * (count - 1) - 1.6) / count if count else 0.0
        rows = [
            place(split + _LEFT, _BELOW + (count - 1 - i) * (high + _HEADING), width - _EDGE, high)
            for i in range(count)
        ]
        return cls(
            em=em,
            map=place(_LEFT, _BELOW, split - (0.6 if names else _EDGE), tall) if has_map else None,
            panels=tuple(zip(names, rows)),
            title=1 - 1.6 / height,
            legend=1 - 2.0 / height,
            columns=columns,
            margin=_EDGE / width,
        )
