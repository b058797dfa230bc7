"""Every RMSprop variant in one library: one update rule, one compiled kernel, thin front ends.

    import numpy as np, rmsprop
    params = {"w": np.zeros(3)}
    optimizer = rmsprop.RMSprop(params, lr=0.01)
    optimizer.step({"w": np.ones(3)})

`rmsprop.torch`, `rmsprop.jax` and `rmsprop.keras` are the front ends of those frameworks. They, `rmsprop.view`,
`rmsprop.doctor` and every other module are loaded when they are first used; `import rmsprop` loads no framework. Where
a framework is not installed, its front end raises MissingDependency, also in `hasattr`, and `dir(rmsprop)` omits it.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from typing import TYPE_CHECKING, Any

from rmsprop import errors, formula
from rmsprop._step import is_compiled, set_threads, threads
from rmsprop.errors import RMSpropError
from rmsprop.numpy import RMSprop
from rmsprop.rule import Rule

if TYPE_CHECKING:
    from rmsprop.dialects import dialect
    from rmsprop.minimize import minimize, scipy_method
    from rmsprop.recipes import recipe
    from rmsprop.trace import Trace
    from rmsprop.tune import tune

__version__ = "0.1.0"

__all__ = [
    "RMSprop",
    "RMSpropError",
    "Rule",
    "Trace",
    "dialect",
    "errors",
    "formula",
    "is_compiled",
    "minimize",
    "recipe",
    "scipy_method",
    "set_threads",
    "threads",
    "tune",
]

_LAZY = {
    "Trace": "trace",
    "dialect": "dialects",
    "minimize": "minimize",
    "recipe": "recipes",
    "scipy_method": "minimize",
    "tune": "tune",
}
"""Name -> the module that it is taken from when first asked for."""

_NEEDS = {"jax": ("jax", "optax"), "keras": ("keras",), "torch": ("torch",)}
_MODULES = {
    *("baselines", "checkpoints", "dialects", "doctor", "expression", "lab", "landscapes", "optimizers", "race"),
    *("recipes", "trace", "view", *_NEEDS),
}
"""Loaded when first asked for. `_NEEDS`: the packages that a module cannot be loaded without."""


class _Package(types.ModuleType):
    """This module's class: `rmsprop.minimize` and `rmsprop.tune` stay functions when the modules of that name load."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _LAZY and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def _find_missing(module: str) -> list[str]:
    return [package for package in _NEEDS.get(module, ()) if importlib.util.find_spec(package) is None]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(f"rmsprop.{_LAZY[name]}"), name)
        globals()[name] = value
        return value
    if name not in _MODULES:
        raise AttributeError(f"module 'rmsprop' has no attribute {name!r}")
    for package in _find_missing(name):
        raise errors.MissingDependency.of(package, extra=name, purpose=f"rmsprop.{name}")
    return importlib.import_module(f"rmsprop.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *(name for name in _MODULES if not _find_missing(name))})
