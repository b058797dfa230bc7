"""Rules, arrays and trees that several tests use as inputs, and the unit of every tolerance."""

from __future__ import annotations

import itertools
from collections import namedtuple
from collections.abc import Iterator
from typing import Any

import numpy as np

from rmsprop import Rule
from rmsprop.dialects import dialect
from rmsprop.errors import RuleError

ULP = {"float32": 2.0**-23, "float64": 2.0**-52}
"""The spacing of the numbers just above 1: every tolerance is a small multiple of it, with the multiple explained."""

DTYPES = ("float32", "float64")
LENGTHS = (*range(66), 97, 1000, 10**6 + 3)
MANY = 70_001
"""A length at which the kernel uses several threads; not a multiple of a vector length."""

SWITCHES: dict[str, tuple[Any, ...]] = {
    "init": ("zeros", "ones", "eps", 0.37),
    "eps_mode": ("outside", "inside", "max"),
    "centered": (False, True),
    "var_floor": (0.0, 1e-3),
    "bias_correction": (False, True),
    "buffer": ("none", "unit", "lr"),
    "momentum": (0.0, 0.9),
    "nesterov": ("none", "post"),
    "weight_decay_mode": ("none", "l2", "decoupled", "decoupled_corrected", "in_buffer"),
    "maximize": (False, True),
}


def every_rule(**fixed: Any) -> Iterator[Rule]:
    """Yield every valid combination of the switches."""
    domains = {**SWITCHES, **{name: (value,) for name, value in fixed.items()}}
    for values in itertools.product(*domains.values()):
        switches = dict(zip(domains, values))
        decay = 0.0 if switches["weight_decay_mode"] == "none" else 0.03
        try:
            yield Rule(rho=0.93, eps=1e-4, weight_decay=decay, **switches)
        except RuleError:
            continue


COVERING = {
    "plain": Rule(),
    "outside": Rule(rho=0.99, eps_mode="outside"),
    "no eps": Rule(eps=0.0),
    "max": Rule(eps=1e-6, eps_mode="max", bias_correction=True, weight_decay=0.1, weight_decay_mode="decoupled"),
    "torch": Rule(rho=0.99, eps_mode="outside", buffer="unit", momentum=0.9, weight_decay=1e-2, weight_decay_mode="l2"),
    "tensorflow": Rule(eps=1e-10, init="ones", buffer="lr", momentum=0.9),
    "nesterov": Rule(buffer="lr", momentum=0.8, nesterov="post", bias_correction=True),
    "nesterov unit": Rule(buffer="unit", momentum=0.8, nesterov="post", maximize=True),
    "graves": Rule(rho=0.95, eps=1e-4, centered=True, buffer="lr", momentum=0.9),
    "centered": Rule(rho=0.99, eps_mode="outside", centered=True),
    "centered corrected": Rule(centered=True, bias_correction=True, eps=0.0),
    "centered floor": Rule(centered=True, var_floor=1e-3, init=0.5, eps_mode="max"),
    "floor": Rule(var_floor=1e-2, init="eps", maximize=True),
    "in buffer": Rule(
        centered=True, buffer="lr", momentum=0.9, weight_decay=0.01, weight_decay_mode="in_buffer", eps=1e-4
    ),
    "corrected decay": Rule(init="ones", weight_decay=0.1, weight_decay_mode="decoupled_corrected"),
    "forgets at once": Rule(rho=0.0),
    "never forgets": Rule(rho=1.0, init="ones"),
}
"""Each value of each switch, and common combinations."""

MINGLED = (
    dialect("tensorflow1", momentum=0.9),
    dialect("torch", momentum=0.9, centered=True, weight_decay=0.01),
    dialect("graves2013"),
    dialect("dqn"),
    dialect("heavyball", weight_decay=0.1),
    Rule(bias_correction=True, centered=True),
    Rule(buffer="lr", momentum=0.5, weight_decay=0.1, weight_decay_mode="in_buffer", nesterov="post"),
    Rule(weight_decay=0.1, weight_decay_mode="decoupled_corrected", maximize=True),
)
"""Every switch in a few rules, most of them dialects, for front ends whose steps are slow to compile."""


def edges(dtype: str) -> np.ndarray:
    """Return the finite limits of floating-point arithmetic, in both signs."""
    info = np.finfo(dtype)
    cut = 62 if dtype == "float32" else 510  # gradients are clipped to 2**cut, so that squares stay finite
    powers = [0, 1, -1, 23, -24, cut - 1, cut, cut + 1, info.minexp, info.minexp - 10, -cut - 1]
    values = [0.0, 1.0 + info.eps, 1e-30, 1e30, info.max, info.tiny]
    values += [info.smallest_subnormal, 3 * info.smallest_subnormal, *(2.0**k for k in powers)]
    positive = np.array(values, dtype)
    above = np.nextafter(np.array([2.0**cut, 2.0 ** (cut + 1)], dtype), np.array(np.inf, dtype))
    positive = np.append(positive, above)
    return np.concatenate([positive, -positive])


def random_arrays(
    rule: Rule, shape: Any, dtype: str, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return a parameter, a gradient and buffers, over ten orders of magnitude."""
    rng = np.random.default_rng(seed)

    def draw() -> np.ndarray:
        return np.asarray(rng.standard_normal(shape) * 10.0 ** rng.uniform(-5, 5, shape), dtype=dtype)

    buffers = {name: draw() for name in rule.buffers}
    for name in ("mean_sq", "grad_var"):
        if name in buffers:
            buffers[name] = np.abs(buffers[name])
    return draw(), draw(), buffers


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether two arrays are equal bit for bit; all NaN are equal."""
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    bits = [np.ascontiguousarray(array).reshape(-1).view(f"u{a.itemsize}") for array in (a, b)]
    return bool(((bits[0] == bits[1]) | (np.isnan(a) & np.isnan(b)).reshape(-1)).all())


# ---- a tree of parameters -------------------------------------------------------------------------------------------

Layer = namedtuple("Layer", "weight bias")


def tree(seed: int = 0, dtype: str = "float32") -> Any:
    """Return four arrays in dicts, a list and a named tuple."""
    rng = np.random.default_rng(seed)

    def array(*shape: int) -> np.ndarray:
        return np.asarray(rng.standard_normal(shape), dtype=dtype)

    return {"body": [array(3, 4), {"scale": array(4)}], "head": Layer(array(4, 2), array())}


def leaves(tree: Any) -> list[np.ndarray]:
    """Return the arrays of such a tree in order."""
    return [tree["body"][0], tree["body"][1]["scale"], tree["head"].weight, tree["head"].bias]
