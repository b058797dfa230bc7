"""The frameworks' packages, imported when one of their files is met."""

from __future__ import annotations

import importlib
from typing import Any

from rmsprop.errors import MissingDependency

__all__ = ["needed"]


def needed(module: str, *, extra: str, purpose: str) -> Any:
    """Import a module, or say which extra brings it.

    Raises:
        MissingDependency: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.replace(".", "-")
        raise MissingDependency.of(package, extra=extra, purpose=purpose) from None
