"""The HTML of what shows itself in a notebook: an image inside the page, and a table.

Jupyter calls `_repr_html_` and `_repr_png_` of the last value in a cell, and shows its `repr` where they return None.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable

__all__ = ["embed_image", "make_list", "make_table"]


def embed_image(content: bytes, *, format: str, text: str) -> str:
    """Return an `<img>` that holds the whole file; `text` is for readers who do not see it.

    Example:
        >>> embed_image(b"GIF89a", format="gif", text="a run")
        '<img src="data:image/gif;base64,R0lGODlh" alt="a run" style="max-width:100%">'
    """
    data = base64.b64encode(content).decode("ascii")
    return f'<img src="data:image/{format};base64,{data}" alt="{html.escape(text)}" style="max-width:100%">'


def make_table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table of texts, which are escaped."""
    lines = [_make_row(heads, "th"), *(_make_row(row, "td") for row in rows)]
    return f'<div style="overflow-x:auto"><table>{"".join(lines)}</table></div>'


def make_list(lines: Iterable[str]) -> str:
    """Return a list of sentences, which are escaped; nothing for none."""
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return items and f"<ul>{items}</ul>"


def _make_row(cells: Iterable[str], tag: str) -> str:
    style = ' style="text-align:left"'
    return f"<tr>{''.join(f'<{tag}{style}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"
