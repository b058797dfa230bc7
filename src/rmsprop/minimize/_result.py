"""The result of `minimize`. Importing this module loads SciPy."""

from __future__ import annotations

import html
from typing import Any

from scipy.optimize import OptimizeResult

from rmsprop._display import embed_image

__all__ = ["Result"]


class Result(OptimizeResult):
    """SciPy's result; a notebook shows its fields and, with `trace=True`, the picture of the run below them."""

    def _repr_html_(self) -> str:
        trace: Any = self.get("trace")
        picture = None if trace is None else trace._repr_png_()
        image = "" if picture is None else embed_image(picture, format="png", text=repr(trace))
        return f'<pre style="font-family:monospace">{html.escape(repr(self))}</pre>{image}'
