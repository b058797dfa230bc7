"""RMSprop, whole: one update rule for every dialect, one compiled kernel, thin front ends.

    import numpy as np, rmsprop
    params = {"w": np.zeros(3)}
    optimizer = rmsprop.RMSprop(params, lr=0.01)
    optimizer.step({"w": np.ones(3)})

`rmsprop.torch`, `rmsprop.jax` and `rmsprop.keras` are the front ends of those frameworks; importing `rmsprop` loads
none of them.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

from rmsprop import errors, formula
from rmsprop._step import compiled, set_threads, threads
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
    "compiled",
    "dialect",
    "errors",
    "formula",
    "minimize",
    "recipe",
    "scipy_method",
    "set_threads",
    "threads",
    "tune",
]


class _Package(types.ModuleType):
    """This module's class: `rmsprop.minimize` and `rmsprop.tune` are functions, also once their submodules are loaded.

    The import system binds a loaded submodule to its name in the package; a property cannot be covered up like that.
    """

    @property
    def minimize(self) -> Any:
        return importlib.import_module("rmsprop.minimize").minimize

    @minimize.setter
    def minimize(self, submodule: types.ModuleType) -> None: ...

    @property
    def tune(self) -> Any:
        return importlib.import_module("rmsprop.tune").tune

    @tune.setter
    def tune(self, submodule: types.ModuleType) -> None: ...


sys.modules[__name__].__class__ = _Package

# Loaded when first asked for, so that `import rmsprop` costs little more than NumPy.
_LAZY = {
    "Trace": "rmsprop.trace",
    "dialect": "rmsprop.dialects",
    "recipe": "rmsprop.recipes",
    "scipy_method": "rmsprop.minimize",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'rmsprop' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, "minimize", "tune"})
