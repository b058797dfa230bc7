"""Which optimizers a benchmark runs, and how they are made for its framework."""

from __future__ import annotations

import functools
import importlib
from typing import Any

from rmsprop.errors import InputError
from rmsprop.optimizers import TABLE, Optimizer
from rmsprop.race.stepper import NumpyStepper, Stepper, TorchStepper
from rmsprop.race.task import Framework, nearest

__all__ = ["DEFAULT", "get", "make_stepper", "names", "parse"]

DEFAULT = ("sgd", "momentum", "adagrad", "adam", "rmsprop")
_ALL = {row.short: row for row in TABLE.values()}


def names() -> tuple[str, ...]:
    """Return the optimizers' names on the command line."""
    return tuple(_ALL)


def get(name: str) -> Optimizer:
    """Return the optimizer called `name`; for an unknown one the error suggests the nearest name."""
    if name not in _ALL:
        raise InputError(f"unknown optimizer {name!r}{nearest(name, _ALL)}")
    return _ALL[name]


def parse(text: str) -> tuple[str, ...]:
    """Read a list such as "sgd,adam,rmsprop": known names, in the order given, without duplicates."""
    found = tuple(dict.fromkeys(get(part.strip().lower()).short for part in text.split(",") if part.strip()))
    if not found:
        raise InputError(f"--with names no optimizer; known: {', '.join(_ALL)}")
    return found


def make_stepper(name: str, framework: Framework, params: Any, *, lr: float, sparse: bool = False) -> Stepper:
    """Make the optimizer called `name` for `params`, in the form for sparse gradients if some are `sparse`."""
    build = get(name).build(framework)
    module, _, target = build.target.partition(":")
    options = build.sparse if sparse and build.sparse is not None else build.options
    optimizer = getattr(importlib.import_module(module), target)(params, lr=lr, **options)
    if framework == "numpy":
        return NumpyStepper(optimizer)
    wait = None
    if params[0].device.type != "cpu":
        import torch

        # Calls return before the device has finished. Without the device's name torch waits for the current device.
        wait = functools.partial(torch.accelerator.synchronize, params[0].device)
    return TorchStepper(optimizer, wait=wait)
