"""Two themes, and how each run looks: a color, a marker and a dash, so that no run is told apart by color alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from rmsprop.errors import InputError
from rmsprop.optimizers import TABLE, Dash

__all__ = ["THEMES", "Look", "Theme", "looks", "theme"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Theme:
    """The colours of a picture, as #rrggbb.

    Attributes:
        paper: Behind everything.
        ink: Titles and the marks that matter.
        muted: Labels, ticks, axes.
        grid: Lines that may be overlooked.
        low: The map where the function is low.
        high: The map where it is high.
        contour: The lines between.
        fill: How opaque the squares are, in [0, 1].
        halo: Around a trail and a ball, so that they stand out on any ground.
        runs: The colour of each optimizer, by name.
        cycle: Colours for runs of the same optimizer, after the first.
    """

    paper: str
    ink: str
    muted: str
    grid: str
    low: str
    high: str
    contour: str
    fill: float
    halo: str
    runs: dict[str, str]
    cycle: tuple[str, ...]


THEMES: dict[str, Theme] = {
    "light": Theme(
        paper="#ffffff",
        ink="#1b1e23",
        muted="#5a616b",
        grid="#e4e7ec",
        low="#eff4f9",
        high="#bfccda",
        contour="#a3b3c4",
        fill=0.2,
        halo="#ffffff",
        runs={row.name: row.light for row in TABLE.values()},
        cycle=("#302fe8", "#e82605", "#c2189b", "#2aa7c9", "#101216", "#c89800", "#7a3b10", "#6d6f78", "#7d4fc9"),
    ),
    "dark": Theme(
        paper="#12151a",
        ink="#eef1f5",
        muted="#9aa3af",
        grid="#2a3038",
        low="#16212d",
        high="#42586f",
        contour="#56708a",
        fill=0.3,
        halo="#0b0e12",
        runs={row.name: row.dark for row in TABLE.values()},
        cycle=("#857fff", "#f94212", "#cc61af", "#09e3ff", "#ffffff", "#fcdc4f", "#c58a5c", "#a3a8b4", "#b595ff"),
    ),
}

_MARKER_CYCLE = ("X", "v", "^", "s", "D", "P", "p", "h", "*")
_DASH_CYCLE: tuple[Dash, ...] = ((0, (6, 1.6)), (0, (1.4, 1.2)), (0, (3, 1.2)), (0, (6, 1.4, 1.4, 1.4)), "-")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """How one run is drawn: colour, marker and dash in matplotlib's words."""

    color: str
    marker: str
    dash: Dash


def theme(name: str) -> Theme:
    """Return the theme of this name.

    Raises:
        InputError: An unknown name.
    """
    if name not in THEMES:
        raise InputError(f"theme={name!r}, expected {' or '.join(map(repr, THEMES))}")
    return THEMES[name]


def looks(optimizers: Sequence[str], colors: Theme) -> tuple[Look, ...]:
    """Return one look per run; the first run of an optimizer has the optimizer's own, the next ones the cycle's.

    Example:
        >>> from rmsprop.view.style import looks, theme
        >>> [look.color for look in looks(["adagrad", "rmsprop"], theme("dark"))]
        ['#ffffff', '#2ec789']
    """
    found: list[Look] = []
    for name in map(str.lower, optimizers):
        row = TABLE.get(name)
        own = None if row is None else Look(color=colors.runs[name], marker=row.marker, dash=row.dash)
        found.append(own if own is not None and own not in found else _next(found, colors))
    return tuple(found)


def _next(found: Sequence[Look], colors: Theme) -> Look:
    """The first of the cycle that is free; after the last one the marker alone tells runs apart."""
    taken = {look.color for look in found}
    free = [i for i, color in enumerate(colors.cycle) if color not in taken]
    i = free[0] if free else len(found)
    return Look(
        color=colors.cycle[i % len(colors.cycle)],
        marker=_MARKER_CYCLE[i % len(_MARKER_CYCLE)],
        dash=_DASH_CYCLE[i % len(_DASH_CYCLE)],
    )
