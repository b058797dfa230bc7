"""How each run looks: a color, a marker and a line style, so that runs differ by more than color."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from rmsprop._theme import DARK, LIGHT, Theme
from rmsprop.errors import InputError
from rmsprop.optimizers import TABLE, Dash

__all__ = ["THEMES", "Look", "assign_looks", "get_theme"]

THEMES = {theme.name: theme for theme in (LIGHT, DARK)}

_MARKERS = ("X", "v", "^", "s", "D", "P", "p", "h", "*")
_DASHES: tuple[Dash, ...] = ((0, (6, 1.6)), (0, (1.4, 1.2)), (0, (3, 1.2)), (0, (6, 1.4, 1.4, 1.4)), "-")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """Color, marker and line style of one run, as matplotlib writes them."""

    color: str
    marker: str
    dash: Dash


def get_theme(name: str) -> Theme:
    """Return the theme of this name.

    Raises:
        InputError: An unknown name.
    """
    if name not in THEMES:
        raise InputError(f"theme={name!r}, expected {' or '.join(map(repr, THEMES))}")
    return THEMES[name]


def assign_looks(optimizers: Sequence[str], theme: Theme) -> tuple[Look, ...]:
    """Return a look for each run: the optimizer's own for its first run, then looks that are still free.

    Example:
        >>> [look.marker for look in assign_looks(["adagrad", "rmsprop", "rmsprop"], DARK)]
        ['D', 'o', 'X']
    """
    looks: list[Look] = []
    for name in map(str.lower, optimizers):
        row = TABLE.get(name)
        look = None if row is None else Look(color=getattr(row, theme.name), marker=row.marker, dash=row.dash)
        if look is None or look in looks:
            used = {other.color for other in looks}
            # When all colors are used, the marker and the line style tell the runs apart.
            i = next((i for i, color in enumerate(theme.cycle) if color not in used), len(looks))
            look = Look(
                color=theme.cycle[i % len(theme.cycle)],
                marker=_MARKERS[i % len(_MARKERS)],
                dash=_DASHES[i % len(_DASHES)],
            )
        looks.append(look)
    return tuple(looks)
