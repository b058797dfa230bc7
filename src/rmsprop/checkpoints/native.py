"""This library's own safetensors files, which rmsprop.RMSprop.save writes and load reads.

    params<leaf>, mean_sq<leaf>, mean_grad<leaf>, grad_var<leaf>, momentum_buf<leaf>, steps, and the rule as metadata

A leaf ['layer'][0] has the name "layer/0" here. As the file also holds the parameters, it is written as a copy of
another one (of the run that is to go on) with the state replaced.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from rmsprop import _state
from rmsprop.checkpoints._shared import Options, State, make_state
from rmsprop.checkpoints._snapshot import STATISTICS, Snapshot
from rmsprop.errors import StateError
from rmsprop.rule import Rule

__all__ = ["read", "recognize", "write"]

_KEY = re.compile(r"\['((?:[^'\\]|\\.)*)'\]|\[\"((?:[^\"\\]|\\.)*)\"\]|\[(\d+)\]")


def recognize(path: Path, head: bytes) -> bool:
    """Tell whether a file starts like a safetensors file: the length of the header, and the header."""
    return len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size


def read(path: Path, options: Options) -> Snapshot:
    """Read a file of rmsprop.RMSprop.save."""
    return _load(path)[0].snapshot


def write(path: Path, snapshot: Snapshot, format: str, like: Path, options: Options) -> None:
    """Write a copy of `like` with the statistics and steps replaced."""
    state, packed, params = _load(like)
    state.replace_statistics(snapshot)
    steps = [parameter.step or 0 for parameter in snapshot.parameters]
    steps = _align_steps(steps, list(params), Rule.from_json(packed["rule"]), like)
    _state.write(path, {**packed, "steps": np.asarray(steps, np.int64), "count": max(steps)}, params)


def _load(path: Path) -> tuple[State, dict[str, Any], dict[str, Any]]:
    """Return the state, and (state, params) of `_state.read`."""
    packed, params = _state.read(path)
    rule, buffers = Rule.from_json(packed["rule"]), packed["buffers"]
    # The file does not keep the tree's order: [2] before [10].
    keys = [key.removeprefix("params") for key in params]
    keys.sort(key=lambda leaf: [(int(number or 0), a or b) for a, b, number in _KEY.findall(leaf)])
    names = ["/".join(a or b or number for a, b, number in _KEY.findall(leaf)) or "0" for leaf in keys]
    if len(set(names)) < len(names):
        raise StateError(f"{path}: two leaves have the same name among {', '.join(names)}")
    state = make_state(
        buffers,
        {name: {k: k + leaf for k in STATISTICS if k + leaf in buffers} for name, leaf in zip(names, keys)},
        str(path),
        format="rmsprop",
        named=not all(name.isdigit() for name in names),
        ordered=names == [str(i) for i in range(len(names))],
        step=_align_steps([int(step) for step in packed["steps"]], keys, rule, path),
        numbers={"rho": rule.rho, "eps": rule.eps, "momentum": rule.momentum},
        rule=rule,
    )
    return state, packed, params


def _align_steps(steps: list[int], keys: list[str], rule: Rule, path: Path) -> list[int]:
    """Return the step of each leaf. The file has them in the tree's order, which is known only of a list of arrays."""
    if len(set(steps)) <= 1 or all(re.fullmatch(r"(params)?\[\d+\]", key) for key in keys):
        return steps
    if rule.bias_correction:
        raise StateError(f"{path}: its leaves have done different numbers of steps, and which is which is not kept")
    return [max(steps)] * len(steps)
