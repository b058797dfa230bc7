"""Read a checkpoint of this class or of torch.optim.RMSprop into groups and state, without touching the optimizer."""

from __future__ import annotations

import copy
import warnings
from typing import Any

from torch import Tensor

from rmsprop.errors import RMSpropWarning, StateError
from rmsprop.torch.groups import ParamGroup, rule_of
from rmsprop.torch.settings import check_rounding
from rmsprop.torch.state import ParamState, StateTable, import_state

__all__ = ["read_state_dict"]

_OWN = ("param_rounding", "state_dtype", "lazy", "params")
"""What the optimizer that loads decides: how the state is stored. What the step does is the checkpoint's."""


def read_state_dict(
    param_groups: list[dict[str, Any]], state_dict: dict[str, Any]
) -> tuple[StateTable, list[dict[str, Any]]]:
    """Return the state and groups of a checkpoint, for the parameters of `param_groups`.

    Raises:
        ValueError: Another number of groups or parameters.
        StateError: Missing or misshapen entries, by name.
    """
    saved_groups = state_dict["param_groups"]
    new_groups = _merge_groups(param_groups, saved_groups)
    by_key: dict[Any, tuple[Tensor, dict[str, Any]]] = {}
    for group, saved in zip(new_groups, saved_groups):
        by_key.update({key: (param, group) for key, param in zip(saved["params"], group["params"])})
    table = StateTable()
    for key, value in state_dict["state"].items():
        if key not in by_key:
            table[key] = value
        elif value:  # looking a parameter up in `state` leaves an empty entry
            param, group = by_key[key]
            table[param] = ParamState(import_state(value, param, group, rule_of(group), f"state[{key!r}]"))
    return table, new_groups


def _merge_groups(param_groups: list[dict[str, Any]], saved_groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return saved groups with the optimizer's parameters, and its settings where the checkpoint has none."""
    if len(saved_groups) != len(param_groups):
        raise ValueError("loaded state dict has a different number of parameter groups")
    new: list[dict[str, Any]] = []
    for mine, saved in zip(param_groups, saved_groups):
        if len(mine["params"]) != len(saved["params"]):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
            )
        if "dialect" in saved:  # else torch's, or converted from elsewhere: its numbers, by this group's switches
            saved = ParamGroup(saved).complete()  # noqa: PLW2901
        theirs = saved.get("dialect", mine["dialect"])
        if theirs != mine["dialect"]:
            warnings.warn(
                f"param_groups[{len(new)}]: a checkpoint of dialect {theirs!r} is loaded into a group of dialect "
                f"{mine['dialect']!r}; as with every torch optimizer the checkpoint's numbers replace the group's",
                RMSpropWarning,
                stacklevel=4,
            )
        group = {**ParamGroup(mine).complete(), **copy.deepcopy(saved), **{key: mine[key] for key in _OWN}}
        try:
            rule_of(group)
            check_rounding(group)
        except (ValueError, TypeError, AttributeError) as error:
            raise StateError(f"param_groups: {error}") from error
        new.append(group)
    return new
