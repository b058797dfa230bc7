"""Parameter groups: torch's names of the hyperparameters in front of this library's rule.

A group keeps what torch.optim.RMSprop keeps (`alpha`, `eps`, `momentum`, `centered`, `weight_decay`, `maximize`, ...),
so that schedulers and checkpoints work. Switches that torch does not have are under "switches", the dialect's name is
under "dialect"; in a `ParamGroup` these are entries only if they are not torch's.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from rmsprop.errors import InputTypeError, RuleError
from rmsprop.rule import Rule
from rmsprop.select import describe_unknown, select, translate_words

__all__ = ["TORCH_SWITCHES", "WORDS", "ParamGroup", "check_numbers", "param_groups", "resolve", "rule_of"]

WORDS = {
    "alpha": "rho",
    "eps": "eps",
    "momentum": "momentum",
    "centered": "centered",
    "weight_decay": "weight_decay",
    "maximize": "maximize",
}
"""torch's name of a hyperparameter in a parameter group -> the rule's."""

RULE_WORDS = {switch: word for word, switch in WORDS.items()}

TORCH_SWITCHES = {
    "eps_mode": "outside",
    "init": "zeros",
    "var_floor": 0.0,
    "bias_correction": False,
    "buffer": "unit",
    "nesterov": "none",
    "weight_decay_mode": "l2",
}
"""The other switches of torch.optim.RMSprop. "buffer" and "weight_decay_mode" act only if their number is above 0."""

_STOCK = {
    "switches": TORCH_SWITCHES,
    "dialect": "torch",
    "param_rounding": "nearest",
    "state_dtype": "float32",
    "lazy": False,
}
"""What torch.optim.RMSprop does, by this library's keys."""


class ParamGroup(dict[str, Any]):
    """A group that has torch's keys alone, as long as it asks for nothing that torch does not have.

    torch.distributed.checkpoint looks for every key of a group in a flattened checkpoint.
    """

    def __init__(self, group: Mapping[str, Any]) -> None:
        super().__init__({key: value for key, value in group.items() if key not in _STOCK or value != _STOCK[key]})

    def __missing__(self, key: str) -> Any:
        return copy.copy(_STOCK[key])

    def __reduce__(self) -> tuple[Any, ...]:
        return ParamGroup, (dict(self),)

    def complete(self) -> dict[str, Any]:
        """Return all entries, those of torch too."""
        return {**copy.deepcopy(_STOCK), **self}


_OF_THE_OPTIMIZER = ("max_norm", "seed", "eager_state")
_OF_OTHERS = {"epsilon", "decay", "learning_rate", *(field.name for field in dataclasses.fields(Rule))}
"""Without effect in a group, so they raise. Other unknown keys belong to schedulers and trainers."""

_OF_SAM = "adaptive"
"""Sharpness-aware wrappers (SAM, ASAM, WSAM) put this into the groups beside their radius, which they call `rho`."""


_UNDECAYED = (
    nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.BatchNorm1d, nn.BatchNorm2d,
    nn.BatchNorm3d, nn.SyncBatchNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
)  # fmt: skip


def param_groups(model: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Return two parameter groups of a model: weights, which decay, and biases, norms and embeddings, which do not.

    A parameter decays if it has at least two dimensions and no embedding or normalization layer holds it. Names are not
    looked at. So the biases and scales of your own modules do not decay either, and a weight that an embedding shares
    with another layer does not.

    Args:
        model: A module. Every parameter of it is in one of the two groups, frozen ones too.
        weight_decay: The strength for the first group; the second has 0.

    Returns:
        `[{"params": [...], "weight_decay": weight_decay}, {"params": [...], "weight_decay": 0.0}]`, for any torch
        optimizer; a group without parameters is left out.

    Raises:
        InputTypeError: `model` is not a module.

    Example:
        >>> import torch, rmsprop
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 1))
        >>> groups = rmsprop.torch.param_groups(model, weight_decay=0.01)
        >>> [(len(group["params"]), group["weight_decay"]) for group in groups]
        [(2, 0.01), (4, 0.0)]
        >>> optimizer = rmsprop.torch.RMSprop(groups, lr=1e-3)
    """
    if not isinstance(model, nn.Module):
        raise InputTypeError(f"model: a {type(model).__name__}, expected a torch.nn.Module")
    undecayed = {p for module in model.modules() if isinstance(module, _UNDECAYED) for p in module.parameters(False)}
    split: tuple[list[Tensor], list[Tensor]] = ([], [])
    for param in model.parameters():
        split[param.ndim < 2 or param in undecayed].append(param)
    return [{"params": params, "weight_decay": decay} for params, decay in zip(split, (weight_decay, 0.0)) if params]


def check_numbers(given: Mapping[str, Any]) -> None:
    """Raise torch's own errors for numbers that torch rejects."""
    titles = {"lr": "learning rate", "eps": "epsilon value"}
    for word in ("lr", "eps", "momentum", "weight_decay", "alpha"):
        value = given.get(word)
        if value is not None and not isinstance(value, (Tensor, str)) and not value >= 0.0:
            raise ValueError(f"Invalid {titles.get(word, f'{word} value')}: {value}")


def resolve(group: Mapping[str, Any], given: Mapping[str, Any], dialect: str | Rule | None) -> dict[str, Any]:
    """Return the entries of a new group that describe its rule.

    Args:
        group: The group as the caller wrote it. Read.
        given: The constructor's numbers, for what the group does not set.
        dialect: The constructor's dialect, likewise.

    Raises:
        InputTypeError: A key that is another implementation's name of one of these numbers.
        InputError, RuleError: As `rmsprop.select.select`.
    """
    known = ["lr", *WORDS]
    for key in group:
        if key in _OF_THE_OPTIMIZER:
            raise InputTypeError(f"param_groups: {key!r} is an argument of the optimizer, not of a group")
        if key == "rho" and _OF_SAM in group:
            continue
        if key not in known and (key in _OF_OTHERS or difflib.get_close_matches(key, known, cutoff=0.8)):
            raise InputTypeError(f"param_groups: {describe_unknown(key, known)}")
    alpha = group.get("alpha")
    if isinstance(alpha, float) and alpha > 1.0:
        raise RuleError(
            f"param_groups: alpha={alpha!r}, expected a finite number in [0, 1]: in a group it is RMSprop's decay; "
            "a wrapper with an alpha of its own, such as WSAM, needs another key for it"
        )
    numbers = {**given, **{word: group[word] for word in known if group.get(word) is not None}}
    options = {switch: numbers.get(word) for word, switch in WORDS.items()}
    chosen = select(group.get("dialect", dialect), options, default="torch", words=RULE_WORDS)
    switches = {name: getattr(chosen.rule, name) for name in TORCH_SWITCHES}
    if chosen.row is not None:
        # What the dialect does if momentum or weight decay is switched on later, for example by a scheduler.
        if switches["buffer"] == "none":
            switches["buffer"] = chosen.row.momentum_buffer
        if switches["weight_decay_mode"] == "none" and chosen.row.weight_decay_modes:
            switches["weight_decay_mode"] = chosen.row.weight_decay_modes[0]
    return {
        "lr": numbers.get("lr", chosen.lr),
        **{word: getattr(chosen.rule, switch) for word, switch in WORDS.items()},
        "switches": switches,
        "dialect": chosen.dialect,
    }


def rule_of(group: dict[str, Any]) -> Rule:
    """Return the rule of a group as its numbers are now.

    Raises:
        RuleError: A number out of its domain.
    """
    switches = dict(group["switches"])
    numbers = {switch: group[word] for word, switch in WORDS.items()}
    if not numbers["momentum"] > 0:
        switches["nesterov"] = switches["buffer"] = "none"
    if not numbers["weight_decay"] > 0:
        switches["weight_decay_mode"] = "none"
    for flag in ("centered", "maximize"):
        numbers[flag] = bool(numbers[flag])
    try:
        return Rule(**numbers, **switches)
    except RuleError as error:
        raise translate_words(error, RULE_WORDS) from None
