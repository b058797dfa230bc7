"""What the lab's page takes from the library's tables, as JSON: `python -m rmsprop.lab.tables` writes it for the build.

Landscapes, dialects with what each switch brings along, optimizers, the default rule, the words of the language of
typed functions, and the widths of the ziggurat that NumPy's normal numbers are multiples of.
"""

from __future__ import annotations

import dataclasses
import json
import math
import unicodedata
from typing import Any

import numpy as np

from rmsprop import __version__, dialects, expression, landscapes
from rmsprop.expression import dual, parser
from rmsprop.optimizers import TABLE
from rmsprop.rule import Rule

__all__ = ["build_tables"]

SHOWN = (
    "torch",
    "tensorflow1",
    "keras3",
    "tf-keras-legacy",
    "optax",
    "hinton",
    "graves2013",
    "dqn",
    "timm",
    "heavyball",
)
"""The dialects that the page offers."""
LIMITS = {"steps": 5000, "runs": 8, "cells": 64}

_SCENE = ("name", "title", "text", "domain", "start", "lr", "steps", "teaches", "log_scale")
_DIALECT = ("name", "title", "lr", "offers", "momentum_buffer", "weight_decay_modes")
_OPTIMIZER = ("name", "label", "light", "dark", "marker", "lr_scale", "hyperparameters")


def build_tables() -> dict[str, Any]:
    """Return the tables as what JSON can store."""
    scenes: list[dict[str, Any]] = []
    for name in landscapes.names(variables=2):
        item = landscapes.get(name)
        known = {"minima": item.minima.tolist(), "minimum": item.minimum if math.isfinite(item.minimum) else None}
        scenes.append({**{key: getattr(item, key) for key in _SCENE}, **known})
    return {
        "scenes": scenes,
        "dialects": [_describe_dialect(dialects.get(name)) for name in SHOWN],
        "optimizers": [
            {**{key: getattr(row, key) for key in _OPTIMIZER}, "class": row.builds["numpy"].target.partition(":")[2]}
            for row in TABLE.values()
            if "numpy" in row.builds
        ],
        "rule": dataclasses.asdict(Rule()),
        "limits": LIMITS,
        "version": __version__,
        "language": {
            "functions": expression.FUNCTIONS,
            "aliases": dual.ALIASES,
            "constants": {name: float(value) for name, value in dual.CONSTANTS.items()},
            "hints": {c: [unicodedata.name(c), hint] for chars, hint in parser.HINTS.items() for c in chars},
        },
        "ziggurat": [_draw_normal(layer | 1 << 9) for layer in range(256)],
    }


def _describe_dialect(row: dialects.Dialect) -> dict[str, Any]:
    return {
        **{key: getattr(row, key) for key in _DIALECT},
        **{key: dict(getattr(row, key)) for key in ("choices", "refuses", "nonzero", "needs")},
        "when": [{"switch": bond.switch, "then": dict(bond.then)} for bond in row.when],
        "rule": dataclasses.asdict(row.rule),
    }


def _draw_normal(bits: int) -> float:
    """Return the normal number that NumPy makes of 64 random bits, by a state of PCG64 whose next output they are."""
    generator = np.random.PCG64()
    multiplier, increment, modulus = 0x2360ED051FC65DA44385DF649FCCF645, 1, 2**128
    before = (bits - increment) * pow(multiplier, -1, modulus) % modulus
    generator.state = {**generator.state, "state": {"state": before, "inc": increment}}
    return float(np.random.Generator(generator).standard_normal())


if __name__ == "__main__":
    print(json.dumps(build_tables(), allow_nan=False))
