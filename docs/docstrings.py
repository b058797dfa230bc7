"""How mkdocstrings reads the docstrings of this library."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Docstrings(griffe.Extension):
    """Reads `Example:` as the section of examples that it is, and a list right below its sentence as a list."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Edit the docstring of an object before it is parsed."""
        if obj.docstring:
            text = re.sub(r"(?m)^Example:$", "Examples:", obj.docstring.value)
            obj.docstring.value = re.sub(r"(?m)^(.*:)\n(?=\* )", r"\1\n\n", text)
