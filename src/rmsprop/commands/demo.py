"""`rmsprop demo`. Cheap to import; everything heavy waits until it runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the page.", metavar="DIR")] = Path("runs/demo"),
    browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page, where there is a display.")] = True,
) -> None:
    """Take a tour in five parts: each prints a sentence, and has its figure in one page.

    One step by hand; lr and rho; five optimizers on a real task; two dialects; bfloat16 weights. Takes about ten
    seconds on two cores. Writes index.html, which loads nothing, and the results of the task in the folder race.

    Examples:

    \b
      rmsprop demo
      rmsprop demo --out tour --no-open
    """  # noqa: D301, D412 (the backspace keeps the line breaks in --help)
    import webbrowser

    from rmsprop.commands import words
    from rmsprop.commands.tour import PARTS, render_tour
    from rmsprop.race.folder import Folder

    folder, console, parts = Folder(out), words.console(), []
    for place, make_part in enumerate(PARTS, 1):
        part = make_part(folder.path, console)
        parts.append(part)
        console.print(f"[{place} of {len(PARTS)}] {part.title}", style="bold", markup=False, soft_wrap=True)
        console.print(part.sentence, markup=False, soft_wrap=True)
    page = folder.write("index.html", render_tour(parts))
    console.print(f"Page: {page}", soft_wrap=True)
    if browser and has_display():
        webbrowser.open(page.resolve().as_uri())


def has_display() -> bool:
    """Whether a browser's window can be shown."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
