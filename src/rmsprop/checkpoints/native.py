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
from rmsprop.checkpoints._shared import ROOM, Options, Slots, make_snapshot, replace_statistics
from rmsprop.checkpoints._snapshot import STATISTICS, Snapshot
from rmsprop.errors import FileError, StateError
from rmsprop.rule import Rule

__all__ = ["LIBRARY", "ROOM", "read", "recognize", "write"]

LIBRARY = ""
_KEY = re.compile(r"\['((?:[^'\\]|\\.)*)'\]|\[\"((?:[^\"\\]|\\.)*)\"\]|\[(\d+)\]")


def recognize(path: Path, head: bytes) -> bool:
    """Tell whether a file starts like a safetensors file: the length of the header, and the header."""
    return len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size


def read(path: Path, options: Options) -> Snapshot:
    """Read a file of rmsprop.RMSprop.save."""
    slots, state, _ = _load(path)
    return make_snapshot(slots, state["buffers"], str(path))


def write(path: Path, snapshot: Snapshot, format: str, like: Path, options: Options) -> None:
    """Write a copy of `like` with the statistics and steps replaced."""
    slots, state, params = _load(like)
    assert slots.rule is not None
    replace_statistics(state["buffers"], slots, snapshot)
    steps = [parameter.step or 0 for parameter in snapshot.parameters]
    state["steps"] = np.asarray(_align_steps(steps, _sort_leaves(params), slots.rule, like), np.int64)
    state["count"] = max(steps)
    _state.write(path, state, params)


def _load(path: Path) -> tuple[Slots, dict[str, Any], dict[str, Any]]:
    try:
        state, params = _state.read(path)
    except FileNotFoundError as error:
        raise FileError(str(error)) from error
    rule, buffers, leaves = Rule.from_json(state["rule"]), state["buffers"], _sort_leaves(params)
    names = ["/".join(a or b or number for a, b, number in _KEY.findall(leaf)) or "0" for leaf in leaves]
    slots = Slots(
        format="rmsprop",
        names=names,
        keys=[{name: name + leaf for name in STATISTICS if name + leaf in buffers} for leaf in leaves],
        named=not all(name.isdigit() for name in names),
        ordered=names == [str(i) for i in range(len(names))],
        step=_align_steps([int(step) for step in state["steps"]], leaves, rule, path),
        numbers={"rho": rule.rho, "eps": rule.eps, "momentum": rule.momentum},
        rule=rule,
        by_rule=True,
    )
    return slots, state, params


def _sort_leaves(params: dict[str, Any]) -> list[str]:
    """Return the leaves in the order of their names, [2] before [10]; the file does not keep the tree's order."""
    leaves = [key.removeprefix("params") for key in params]
    return sorted(leaves, key=lambda leaf: [(int(number or 0), a or b) for a, b, number in _KEY.findall(leaf)])


def _align_steps(steps: list[int], leaves: list[str], rule: Rule, path: Path) -> list[int]:
    """Return the step of each leaf. The file has them in the tree's order, which is known only of a list of arrays."""
    if len(set(steps)) <= 1 or all(re.fullmatch(r"\[\d+\]", leaf) for leaf in leaves):
        return steps
    if rule.bias_correction:
        raise StateError(f"{path}: its leaves have done different numbers of steps, and which is which is not kept")
    return [max(steps)] * len(steps)
