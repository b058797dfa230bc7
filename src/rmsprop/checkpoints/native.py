"""This library's own safetensors, which rmsprop.RMSprop.save writes and load reads.

    params<leaf>, mean_sq<leaf>, mean_grad<leaf>, grad_var<leaf>, momentum_buf<leaf>, steps, and the rule as metadata

A leaf ['layer'][0] has the name "layer/0" here. The file holds the parameters too, so one is written as a copy of
another (of the run that is to go on) with the state replaced.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from rmsprop import _state
from rmsprop.checkpoints._snapshot import STATISTICS, Group, Parameter, Snapshot, kept, raw
from rmsprop.errors import FileError, StateError
from rmsprop.rule import Rule

__all__ = ["read", "write"]

_KEY = re.compile(r"\['((?:[^'\\]|\\.)*)'\]|\[\"((?:[^\"\\]|\\.)*)\"\]|\[(\d+)\]")


def read(path: Path) -> Snapshot:
    """Read a file of rmsprop.RMSprop.save.

    Raises:
        FileError: Truncated, corrupt, or of another kind.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[Snapshot, Rule, dict[str, Any], dict[str, Any], list[str]]:
    try:
        state, params = _state.read(path)
        rule = Rule.from_json(state["rule"])
    except FileNotFoundError as error:
        raise FileError(str(error)) from error
    leaves = [key.removeprefix("params") for key in params]
    buffers, steps = state["buffers"], state["steps"]
    order = _order(leaves)
    steps = _steps(steps, leaves, rule, path)
    parameters = []
    for i, leaf in enumerate(order):
        arrays = {name: buffers[name + leaf] for name in STATISTICS if name + leaf in buffers}
        parameter = Parameter.of(_name(leaf), arrays, steps[i])
        parameters.append(raw(parameter, rule.rho) if rule.bias_correction else parameter)
    snapshot = Snapshot(
        format="rmsprop",
        parameters=tuple(parameters),
        centered=rule.centered,
        buffer=rule.buffer,
        ordered=all(p.name == str(i) for i, p in enumerate(parameters)) or len(parameters) == 1,
        named=not all(p.name.isdigit() for p in parameters),
        init=rule.init_value,
        bias_correction=rule.bias_correction,
        eps_mode=rule.eps_mode,
        groups=(
            Group(
                size=len(parameters), numbers={"rho": rule.rho, "eps": rule.eps, "momentum": rule.momentum}, rule=rule
            ),
        ),
    )
    return snapshot, rule, state, params, order


def _order(leaves: list[str]) -> list[str]:
    """Return leaves in the order of their names, [2] before [10]: their order in the tree the file does not keep."""
    return sorted(leaves, key=lambda leaf: [(int(number or 0), a or b) for a, b, number in _KEY.findall(leaf)])


def _steps(steps: Any, leaves: list[str], rule: Rule, path: Path) -> list[int]:
    """Return the steps of each leaf. The file has them in the tree's order, which tells only in lists, or if all agree.

    Raises:
        StateError: They differ, cannot be told apart, and the rule's numbers depend on them.
    """
    found = [int(step) for step in steps]
    if len(set(found)) <= 1 or all(re.fullmatch(r"\[\d+\]", leaf) for leaf in leaves):
        return found
    if rule.bias_correction:
        raise StateError(f"{path}: its leaves have done different numbers of steps, and which is which is not kept")
    return [max(found)] * len(found)


def _name(leaf: str) -> str:
    """Return "layer/0" for "['layer'][0]"; a tree that is one array has the name "0"."""
    return "/".join(a or b or number for a, b, number in _KEY.findall(leaf)) or "0"


def write(path: Path, snapshot: Snapshot, *, like: Path) -> None:
    """Write a copy of `like` with the statistics and steps replaced.

    Raises:
        StateError: The rule corrects the start, and the step is not known.
    """
    _, rule, state, params, leaves = _read(like)
    steps = []
    for parameter, leaf in zip(snapshot.parameters, leaves, strict=True):
        dtype = params["params" + leaf].dtype
        for name, array in kept(parameter, rule).items():
            if name + leaf in state["buffers"]:
                state["buffers"][name + leaf] = np.ascontiguousarray(array, dtype).reshape(array.shape)
        steps.append(parameter.step or 0)
    state["steps"] = np.asarray(_steps(steps, leaves, rule, path), np.int64)
    state["count"] = max(steps)
    _state.write(path, state, params)
