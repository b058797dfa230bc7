"""The theme of every picture and page: colors, fonts, axes, and files that are the same each time.

    with open_figure(8.4, 5.6, extra="tune", purpose="pictures of a study") as figure:
        axes = figure.subplots()
        ...
        return save_png(figure)

The colors of the optimizers are in `rmsprop.optimizers`. Importing this module does not load matplotlib.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from rmsprop.errors import MissingDependency

__all__ = ["DARK", "LIGHT", "Theme", "css_variables", "open_figure", "save_figure", "save_png"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Theme:
    """Colors, as #rrggbb."""

    name: str
    paper: str  # background of a picture or table
    page: str  # background of the page around it
    ink: str  # titles and important marks
    muted: str  # labels, ticks, axes
    grid: str  # grid lines and borders
    accent: str  # bars and boxes that do not stand for an optimizer
    alarm: str  # errors and findings
    highlight: str  # background of a highlighted table row
    low: str  # a map where the function is low
    high: str  # a map where the function is high
    contour: str  # contour lines, and lines of less weight than `accent`
    halo: str  # edges around marks on a map
    cycle: tuple[str, ...]  # lines that do not stand for an optimizer; distinct in all forms of color blindness


LIGHT = Theme(
    name="light", paper="#ffffff", page="#f6f7f9", ink="#1c1e21", muted="#5c6169", grid="#e2e4e8", accent="#3f78a8",
    alarm="#a3260f", highlight="#e9f6f1", low="#eff4f9", high="#bfccda", contour="#a3b3c4", halo="#ffffff",
    cycle=("#302fe8", "#e82605", "#c2189b", "#2aa7c9", "#101216", "#c89800", "#7a3b10", "#6d6f78", "#7d4fc9"),
)  # fmt: skip
DARK = Theme(
    name="dark", paper="#12151a", page="#0b0e12", ink="#eceef1", muted="#a4aab4", grid="#2a3038", accent="#7fb2dd",
    alarm="#ff9c85", highlight="#17332b", low="#16212d", high="#42586f", contour="#56708a", halo="#0b0e12",
    cycle=("#857fff", "#f94212", "#cc61af", "#09e3ff", "#ffffff", "#fcdc4f", "#c58a5c", "#a3a8b4", "#b595ff"),
)  # fmt: skip


@contextlib.contextmanager
def open_figure(
    width: float, height: float, *, extra: str, purpose: str, theme: Theme = LIGHT, points: float = 10.0, **options: Any
) -> Iterator[Any]:
    """Yield an empty matplotlib figure of so many inches, with the theme's settings in place of the user's.

    `extra` and `purpose` are for the MissingDependency error without matplotlib; `points` is the font size of labels;
    `options` go to `matplotlib.figure.Figure`. A notebook shows the figure, with or without `%matplotlib inline`.
    """
    try:
        import matplotlib.style
        from cycler import cycler

        figure_class = _get_figure_class()
    except ImportError as error:
        raise MissingDependency.of("matplotlib", extra=extra, purpose=purpose) from error
    settings = {
        "font.size": points, "axes.labelsize": points, "axes.titlesize": 1.1 * points, "legend.fontsize": points,
        "text.color": theme.ink, "axes.titlecolor": theme.ink, "axes.labelcolor": theme.muted,
        "axes.edgecolor": theme.muted, "axes.facecolor": "none", "axes.linewidth": 0.8,
        "axes.prop_cycle": cycler(color=theme.cycle), "axes.titleweight": "bold",
        "axes.titlelocation": "left", "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
        "axes.grid": True, "grid.color": theme.grid, "grid.linewidth": 0.8, "legend.frameon": False,
        "lines.solid_capstyle": "round", "mathtext.default": "regular",
    }  # fmt: skip
    for axis in ("xtick", "ytick"):
        settings |= {f"{axis}.color": theme.muted, f"{axis}.labelsize": 0.9 * points}
    with matplotlib.style.context(["default", settings]):
        yield figure_class(figsize=(width, height), facecolor=theme.paper, **{"layout": "constrained", **options})


@functools.cache
def _get_figure_class() -> Any:
    from matplotlib import figure

    class Figure(figure.Figure):
        def _repr_png_(self) -> bytes:
            return save_png(self, dpi=self.dpi)

    return Figure


def save_figure(figure: Any, file: Path | IO[Any], *, format: str, **options: Any) -> None:
    """Write a figure as "png", "svg", "pdf" or "jpg", without a date: equal figures give equal bytes.

    `options` go to `Figure.savefig`, such as `dpi` or `transparent`. The text of an SVG stays text.
    """
    import matplotlib.style

    dates = {"png": ["Software"], "svg": ["Date", "Creator", "Format", "Type"], "pdf": ["CreationDate", "Producer"]}
    metadata = dict.fromkeys(dates.get(format, ())) or None
    with matplotlib.style.context(["default", {"svg.hashsalt": "rmsprop", "svg.fonttype": "none"}]):
        figure.savefig(file, format=format, metadata=metadata, **options)


def save_png(figure: Any, *, dpi: float = 150.0) -> bytes:
    """Return the figure as a PNG file."""
    buffer = io.BytesIO()
    save_figure(figure, buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def css_variables() -> str:
    """Return CSS that defines `--paper`, `--ink` and so on, `--sans` and `--mono`, for light and dark pages."""
    light, dark = (
        "".join(f"--{key}:{value};" for key, value in dataclasses.asdict(theme).items() if key not in ("name", "cycle"))
        for theme in (LIGHT, DARK)
    )
    fonts = (
        '--sans:system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif;'
        '--mono:ui-monospace,"DejaVu Sans Mono",monospace;'
    )
    return f":root{{color-scheme:light dark;{fonts}{light}}}\n@media (prefers-color-scheme: dark){{:root{{{dark}}}}}\n"
