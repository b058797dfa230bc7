"""From a checkpoint of this class or of torch.optim.RMSprop to groups and state, without touching the optimizer."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from rmsprop.errors import RMSpropWarning, StateError
from rmsprop.torch import groups
from rmsprop.torch import state as _state
from rmsprop.torch.settings import check_rounding
from rmsprop.torch.state import StateTable

__all__ = ["loaded"]

_OWN = ("param_rounding", "state_dtype", "lazy")
"""How the state is stored belongs to the optimizer that loads; what the step does, to the checkpoint."""


def loaded(param_groups: list[dict[str, Any]], state_dict: dict[str, Any]) -> tuple[StateTable, list[dict[str, Any]]]:
    """Return the state and groups of a checkpoint, for these parameters.

    Raises:
        ValueError: Another number of groups or parameters.
        StateError: Missing or misshapen entries, by name.
    """
    saved_groups = state_dict["param_groups"]
    new_groups = _groups(param_groups, saved_groups)
    owners: dict[Any, tuple[Tensor, dict[str, Any]]] = {}
    for group, saved in zip(new_groups, saved_groups):
        owners.update({key: (param, group) for key, param in zip(saved["params"], group["params"])})
    table = StateTable()
    for key, value in state_dict["state"].items():
        if key not in owners:
            table[key] = value
        elif value:  # looking a parameter up in `state` leaves an empty entry
            param, group = owners[key]
            table[param] = _state.entering(value, param, group, groups.rule_of(group), f"state[{key!r}]")
    return table, new_groups


def _groups(param_groups: list[dict[str, Any]], saved_groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return saved groups with the optimizer's parameters, and its settings where the checkpoint has none."""
    if len(saved_groups) != len(param_groups):
        raise ValueError("loaded state dict has a different number of parameter groups")
    new: list[dict[str, Any]] = []
    for mine, saved in zip(param_groups, saved_groups):
        if len(mine["params"]) != len(saved["params"]):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
            )
        theirs = saved.get("dialect", mine["dialect"])
        if theirs != mine["dialect"]:
            warnings.warn(
                f"param_groups[{len(new)}]: a checkpoint of dialect {theirs!r} is loaded into a group of dialect "
                f"{mine['dialect']!r}; as with every torch optimizer the checkpoint's numbers replace the group's",
                RMSpropWarning,
                stacklevel=4,
            )
        group = {key: _copied(value) for key, value in {**mine, **saved}.items() if key != "params"}
        group.update({key: mine[key] for key in _OWN}, params=mine["params"])
        try:
            groups.rule_of(group)
            check_rounding(group)
        except (ValueError, TypeError, AttributeError) as error:
            raise StateError(f"param_groups: {error}") from error
        new.append(group)
    return new


def _copied(value: Any) -> Any:
    if torch.is_tensor(value):
        return value.clone()
    return value.copy() if isinstance(value, (dict, list)) else value
