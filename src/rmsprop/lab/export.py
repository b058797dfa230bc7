"""The built page: one file without a request to anywhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

from rmsprop.errors import FileError, InputError

__all__ = ["PAGE", "read_page"]

PAGE = Path(__file__).parent / "page" / "index.html"
_STATE = re.compile(r'(<script type="application/json" id="saved">)[^<]*')


def read_page(link: str = "") -> str:
    """Return the page as HTML.

    Args:
        link: What it opens with: a link from its Share dialog, or the part of one from "#" on. Default: its own start.

    Raises:
        FileError: The page is not built.
        InputError: The text is no such link.
    """
    try:
        page = PAGE.read_text("utf-8")
    except FileNotFoundError as error:
        raise FileError(f"{PAGE.parent}: the page is not built; in a checkout run: make lab") from error
    if not link:
        return page
    fragment = link[link.find("#") :]
    if not fragment.startswith("#v="):
        raise InputError(f"link: {link[:60]!r}, expected a link from the page's Share dialog, with #v=...")
    state = json.dumps(fragment).replace("<", "\\u003c")
    return _STATE.sub(lambda match: match[1] + state, page, count=1)
