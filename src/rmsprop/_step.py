"""The compiled step, or the plain one in its place: one calling form for the front ends."""

from __future__ import annotations

import dataclasses
import importlib
import os
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from numpy.typing import NDArray

from rmsprop.rule import Rule

_PURE = os.environ.get("RMSPROP_PURE_PYTHON", "") not in ("", "0")
core: Any
try:
    if _PURE:
        raise ImportError
    core = importlib.import_module("rmsprop._core")
except ImportError:
    from rmsprop import _plain as core

    if not _PURE:
        warnings.warn(
            "rmsprop runs without its compiled module: the same results, several times slower. To build it, install "
            "a C++17 compiler and reinstall: pip install --force-reinstall --no-cache-dir rmsprop",
            RuntimeWarning,
            stacklevel=2,
        )

__all__ = ["accept_tensors", "bind", "check", "compiled", "handle", "set_threads", "threads"]

Array = NDArray[Any]


def compiled() -> bool:
    """Whether the compiled module is in use; `RMSPROP_PURE_PYTHON=1` in the environment prevents it."""
    return core.__name__ == "rmsprop._core"


def accept_tensors(*types: Any) -> bool:
    """Let tensors of exactly these types into the step, by their DLPack C exchange API; return whether that went."""
    apis = [getattr(kind, "__dlpack_c_exchange_api__", None) for kind in types]
    if not compiled() or None in apis:
        return False
    for kind, api in zip(types, apis):
        core.register_tensor_type(kind, api)
    return True


def handle(rule: Rule, *, rounding: str = "nearest") -> Any:
    """Return the rule as the step wants it."""
    switches = dataclasses.asdict(rule)
    init = switches.pop("init")
    made = core.Rule(**switches, rounding=rounding)
    if not compiled():
        made.rule = rule.replace(init=init)
    return made


def bind(rule: Rule) -> Callable[..., float]:
    """Return the step of one rule: step(params, grads, buffers, steps, lr, lr_max, ...) -> norm of the gradients.

    The arguments are those of `_core.step`; arrays are lists in one order, written in place.
    """
    return partial(core.step, handle(rule))


def check(rule: Rule, params: list[Array], buffers: tuple[list[Array], ...], names: list[str]) -> None:
    """Refuse parameters and buffers that no step could take. Reads and writes no element."""
    core.check(handle(rule), params, buffers, names)


def set_threads(threads: int) -> None:
    """Set the default number of threads of a step; 0: one per core. The bits of the results do not depend on it."""
    core.set_threads(threads)


def threads() -> int:
    """Return the default number of threads of a step."""
    return core.threads()
