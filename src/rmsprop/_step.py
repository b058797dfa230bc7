"""The compiled step, or the plain one in its place: one calling form for the front ends."""

from __future__ import annotations

import dataclasses
import importlib
import os
import warnings
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

__all__ = ["StepArgs", "accept_tensors", "handle", "is_compiled", "set_threads", "threads"]

Array = NDArray[Any]


def is_compiled() -> bool:
    """Whether the compiled module is in use; `RMSPROP_PURE_PYTHON=1` in the environment prevents it."""
    return core.__name__ == "rmsprop._core"


def accept_tensors(*types: Any) -> bool:
    """Let tensors of exactly these types into the step, by their DLPack C exchange API; return whether that went."""
    apis = [getattr(kind, "__dlpack_c_exchange_api__", None) for kind in types]
    if not is_compiled() or None in apis:
        return False
    for kind, api in zip(types, apis):
        core.register_tensor_type(kind, api)
    return True


def handle(rule: Rule, *, rounding: str = "nearest") -> Any:
    """Return the rule as the step wants it."""
    switches = dataclasses.asdict(rule)
    init = switches.pop("init")
    made = core.Rule(**switches, rounding=rounding)
    if not is_compiled():
        made.rule = rule.replace(init=init)
    return made


class StepArgs:
    """What changes from step to step.

    Attributes:
        lr: Learning rate; `lr_max` the largest so far. Tensors where a graph or autograd wants to see them.
        scale: Multiplies every gradient.
        max_norm: Clip the gradients to this global norm; 0: no clipping. `norm_eps` is added to the norm.
        check_finite: Refuse gradients with NaN or infinity.
        seed: Of stochastic rounding.
        threads: Of this step; 0: the default.
    """

    __slots__ = ("check_finite", "lr", "lr_max", "max_norm", "norm_eps", "scale", "seed", "threads")

    def __init__(
        self,
        lr: Any = 0.0,
        lr_max: Any = 0.0,
        *,
        scale: float = 1.0,
        max_norm: float = 0.0,
        norm_eps: float = 0.0,
        check_finite: bool = False,
        seed: int = 0,
        threads: int = 0,
    ) -> None:
        self.lr, self.lr_max = lr, lr_max
        self.scale, self.max_norm, self.norm_eps = scale, max_norm, norm_eps
        self.check_finite, self.seed, self.threads = check_finite, seed, threads


def set_threads(threads: int) -> None:
    """Set the default number of threads of a step; 0: one per core. The bits of the results do not depend on it."""
    core.set_threads(threads)


def threads() -> int:
    """Return the default number of threads of a step."""
    return core.threads()
