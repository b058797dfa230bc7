"""Checks of the arguments that torch does not have."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from rmsprop import _advice
from rmsprop.errors import InputError, InputTypeError
from rmsprop.torch.groups import rule_of
from rmsprop.torch.layout import PLAIN_TYPES
from rmsprop.torch.state import STATE_DTYPES

__all__ = ["ROUNDINGS", "check_extras", "check_flag", "check_rounding", "check_seed", "log_advice", "parse_max_norm"]

ROUNDINGS = ("nearest", "stochastic", "compensated")


def check_extras(group: dict[str, Any]) -> None:
    """Raise for values of `param_rounding`, `state_dtype` and `lazy` that do not exist or exclude each other."""
    for name, choices in (("param_rounding", ROUNDINGS), ("state_dtype", STATE_DTYPES)):
        if group[name] not in choices:
            raise InputError(f"{name}={group[name]!r}, expected one of {', '.join(map(repr, choices))}")
    for flag in ("lazy", "capturable", "differentiable"):
        check_flag(flag, group.get(flag, False))
    if group["lazy"] and group["state_dtype"] == "8bit":
        raise InputError(
            'lazy=True with state_dtype="8bit": 256 elements share one maximum, so a row cannot be stepped alone; '
            'use state_dtype="bfloat16" or lazy=False'
        )


def check_flag(name: str, value: object) -> None:
    """Raise for what is not True, False, 0 or 1: the text "no" is true for Python."""
    if not isinstance(value, int) or value not in (0, 1):
        raise InputTypeError(f"{name}={value!r}, expected True or False")


def check_rounding(group: dict[str, Any]) -> None:
    """Raise for compensated rounding of parameters that are not bfloat16."""
    for i, param in enumerate(group["params"]):
        if group["param_rounding"] == "compensated" and param.dtype != torch.bfloat16:
            raise InputTypeError(
                f'params[{i}]: {param.dtype}, expected torch.bfloat16: param_rounding="compensated" keeps the 16 bits '
                "that bfloat16 cuts off a float32"
            )


def log_advice(param_groups: Iterable[dict[str, Any]]) -> None:
    """Log settings that are known to do harm, once in a process; `rmsprop._advice` lists them."""
    for group in param_groups:
        lr = group["lr"]
        if isinstance(lr, Tensor) and (type(lr) is not Tensor or lr.device.type != "cpu"):
            continue  # not read here: reading would wait for the device, or be traced
        _advice.log(_advice.advise(rule_of(group), float(lr)), stacklevel=4)
        if group["param_rounding"] == "nearest":
            for dtype in _advice.SIGNIFICANT_BITS:
                weights = [_sample(p) for p in group["params"] if p.dtype == getattr(torch, dtype) and _is_readable(p)]
                if weights:
                    _advice.log(_advice.advise_rounding(torch.cat(weights).numpy(), dtype, float(lr)), stacklevel=4)


def _is_readable(param: Tensor) -> bool:
    return type(param) in PLAIN_TYPES and param.device.type == "cpu" and param.layout == torch.strided


def _sample(param: Tensor) -> Tensor:
    """Return about a thousand of the elements as float32."""
    flat = param.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // 1024)].float()


def parse_max_norm(max_norm: float | None) -> float:
    """Return the norm to clip to, 0 for no clipping."""
    if max_norm is None:
        return 0.0
    if isinstance(max_norm, bool) or not isinstance(max_norm, (int, float)) or not max_norm > 0:
        raise InputError(f"max_norm={max_norm!r}, expected a number above 0, or None for no clipping")
    return 0.0 if math.isinf(max_norm) else float(max_norm)


def check_seed(seed: int) -> int:
    """Return a seed that the kernel can take."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InputError(f"seed={seed!r}, expected a whole number of at least 0 and below 2**63")
    return seed
