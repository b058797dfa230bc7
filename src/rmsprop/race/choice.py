"""Which optimizers a benchmark runs, and how they are made for its framework."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from typing import Any

from rmsprop.errors import InputError
from rmsprop.optimizers import TABLE, Optimizer
from rmsprop.race.stepper import NumpyStepper, Stepper, TorchStepper
from rmsprop.race.task import Framework, nearest

__all__ = ["DEFAULT", "get", "make_stepper", "names", "parse"]

DEFAULT = ("sgd", "momentum", "adagrad", "adam", "rmsprop")
_ALL = {row.short: row for row in TABLE.values()}


def names() -> tuple[str, ...]:
    """Return every optimizer's name on the command line."""
    return tuple(_ALL)


def get(name: str) -> Optimizer:
    """Return the optimizer called `name`.

    Raises:
        InputError: No such optimizer; the message suggests the nearest name.

    Example:
        >>> get("adma")
        Traceback (most recent call last):
        rmsprop.errors.InputError: unknown optimizer 'adma': did you mean 'adam'? known: sgd, momentum, nesterov, \
adagrad, adadelta, adam, adamw, rmsprop, torch-rmsprop
    """
    if name not in _ALL:
        raise InputError(f"unknown optimizer {name!r}{nearest(name, _ALL)}")
    return _ALL[name]


def parse(wanted: str | Sequence[str] | None) -> tuple[str, ...]:
    """Read a list such as "sgd,adam,rmsprop": known names, each once, in the order given. None is the default five.

    Raises:
        InputError: An unknown name, or no name at all.

    Example:
        >>> parse("rmsprop, adam,adam")
        ('rmsprop', 'adam')
    """
    if wanted is None:
        return DEFAULT
    parts = wanted.split(",") if isinstance(wanted, str) else wanted
    found = tuple(dict.fromkeys(get(part.strip().lower()).short for part in parts if part.strip()))
    if not found:
        raise InputError(f"--with names no optimizer; known: {', '.join(_ALL)}")
    return found


def make_stepper(name: str, framework: Framework, params: Any, *, lr: float, sparse: bool = False) -> Stepper:
    """Make the optimizer called `name` for `params`.

    Args:
        name: The optimizer's.
        framework: Of the parameters.
        params: What an optimizer of the framework takes. Written by every step.
        lr: Learning rate.
        sparse: Some gradients will be sparse: choose the form that takes them.

    Raises:
        InputError: It does not exist in that framework.
        MissingDependency: The framework is not installed.
    """
    build = get(name).build(framework)
    module, _, target = build.target.partition(":")
    options = build.sparse if sparse and build.sparse is not None else build.options
    made = getattr(importlib.import_module(module), target)(params, lr=lr, **options)
    if framework == "numpy":
        return NumpyStepper(made)
    return TorchStepper(made, wait=_waits_for(params[0]))


def _waits_for(param: Any) -> Any:
    """Return what waits until the device of a tensor has done its work, or None where calls return when it is done."""
    if param.device.type == "cpu":
        return None
    import torch

    # The parameters' own device: without it torch waits for the current one, which of several is another.
    return functools.partial(torch.accelerator.synchronize, param.device)
