"""What the lab's page takes from the library's tables, as JSON: `python -m rmsprop.lab.tables` writes it for the build.

Landscapes, dialects with what each switch brings along, optimizers, the default rule, the words of the language of
typed functions, and the constants of NumPy's normal numbers.
"""

from __future__ import annotations

import dataclasses
import json
import math
import unicodedata
from decimal import Decimal, localcontext
from typing import Any

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
        "ziggurat": build_ziggurat(),
    }


def _describe_dialect(row: dialects.Dialect) -> dict[str, Any]:
    return {
        **{key: getattr(row, key) for key in _DIALECT},
        **{key: dict(getattr(row, key)) for key in ("choices", "refuses", "nonzero", "needs")},
        "when": [{"switch": bond.switch, "then": dict(bond.then)} for bond in row.when],
        "rule": dataclasses.asdict(row.rule),
    }


def build_ziggurat() -> dict[str, list[float]]:
    """Return NumPy's tables for normal numbers: 256 layers of equal area under exp(-x^2 / 2), correctly rounded.

    Source: J. Doornik, "An Improved Ziggurat Method to Generate Normal Random Samples" (2005), as in
    numpy/random/src/distributions.
    """
    with localcontext() as context:
        context.prec = 60
        last = Decimal("3.6541528853610088")
        tail = Decimal(0)
        for k in range(400, 0, -1):
            tail = k / (last + tail)
        height = (-last * last / 2).exp()
        area = last * height + height / (last + tail)  # the tail by the continued fraction of Mills' ratio
        x, f = [last], [height]
        while len(x) < 255:
            f.append(area / x[-1] + f[-1])
            x.append((-2 * f[-1].ln()).sqrt())
        widths = [area / height, *x[::-1]]
        whole = Decimal(2) ** 52
        inside = [last / widths[0], Decimal(0), *(a / b for a, b in zip(widths[1:], widths[2:]))]
        return {
            "inside": [int(part * whole) for part in inside],
            "width": [float(width / whole) for width in widths],
            "height": [1.0, *map(float, f[::-1])],
        }


if __name__ == "__main__":
    print(json.dumps(build_tables(), allow_nan=False))
