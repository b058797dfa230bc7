"""A sample: what the doctor measured of one tensor at one step, and its line of JSON."""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import Any

from rmsprop.rule import Rule

__all__ = ["QUANTILES", "Sample", "has_units_last"]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_JSON_TYPES: dict[Any, Any] = {
    "str": str,
    "int": int,
    "float | None": (int, float, type(None)),
    "tuple[int, ...]": list,
    "tuple[float, ...] | None": (list, type(None)),
    "dict[str, Any]": dict,
}
"""The annotation of a field -> its types in a line of JSON."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """What was measured of one tensor at one step; None: it could not be measured.

    Attributes:
        tensor: Name of the tensor.
        shape: Its shape.
        dtype: Dtype of the parameter: "float32", "bfloat16", ...
        step: Steps done, this one included; 0: not known.
        lr: Learning rate; None: not known.
        rule: The switches that differ from those of `Rule()`.
        effective_lr: Quantiles 0.05, 0.25, 0.5, 0.75, 0.95 of lr / denominator (of 1 / denominator without lr).
        root_mean_sq: Root of the mean of mean_sq, in units of grad.
        grad_rms: Root mean square of the gradient.
        weight_rms: Root mean square of the parameter.
        update_to_weight: rms(change) / rms(parameter).
        step_over_lr: Largest change of an element, in units of lr.
        decoupling: sum of grad**2 / sum of mean_sq before the step.
        eps_share: Share of elements where eps dominates the root of mean_sq.
        eps_root: Root of mean_sq that 95 % of these elements exceed, in units of grad.
        stalled_share: Share of elements that rounding kept from changing.
        collapsed_share: Share of elements without variance; centered rules only.
        untouched_share: Share of elements without any gradient so far.
        rows: Rows sampled; 0: a vector.
        dead_rows: Rows without a gradient for 20 / (1 - rho) steps, or without any in at least 100.
        exploding_rows: Rows with gradients 1000 times those of the median row.
        active_rows: Share of the rows that ever had a gradient that have one in this step.
        not_finite: What has NaN or infinity, in words; "": nothing.
        start_lr: Learning rate of the first steps, where it is known and differs from `lr`.
        run: The number of the training in its folder, from 1: a second watch that writes there is run 2.
    """

    tensor: str
    shape: tuple[int, ...]
    dtype: str
    step: int
    lr: float | None
    rule: dict[str, Any]
    effective_lr: tuple[float, ...] | None = None
    root_mean_sq: float | None = None
    grad_rms: float | None = None
    weight_rms: float | None = None
    update_to_weight: float | None = None
    step_over_lr: float | None = None
    decoupling: float | None = None
    eps_share: float | None = None
    eps_root: float | None = None
    stalled_share: float | None = None
    collapsed_share: float | None = None
    untouched_share: float | None = None
    rows: int = 0
    dead_rows: int = 0
    exploding_rows: int = 0
    active_rows: float | None = None
    not_finite: str = ""
    start_lr: float | None = None
    run: int = 1

    @property
    def full_rule(self) -> Rule:
        """The rule with all its switches."""
        return _build_rule(tuple(self.rule.items()))

    def to_json(self) -> str:
        """Return the sample as one line of JSON."""
        return json.dumps(self.__dict__, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Sample:
        """Read what `to_json` wrote; fields of other versions are left out.

        Raises:
            ValueError: The line is not a sample.
        """
        content = json.loads(line)
        known = content.items() if isinstance(content, dict) else ()
        types = {field.name: _JSON_TYPES[field.type] for field in dataclasses.fields(cls)}
        fields: Any = {name: tuple(x) if isinstance(x, list) else x for name, x in known if name in types}
        for name, value in known:
            if name in types and (isinstance(value, bool) or not isinstance(value, types[name])):
                raise ValueError(f"not a sample: {name} is {value!r}")
        try:
            sample = cls(**fields)
            _ = sample.full_rule
        except TypeError as error:
            raise ValueError(f"not a sample: {error}") from error
        if sample.effective_lr is not None and len(sample.effective_lr) != len(QUANTILES):
            raise ValueError(f"not a sample: effective_lr has {len(sample.effective_lr)} numbers")
        return sample


@functools.lru_cache(maxsize=256)
def _build_rule(switches: tuple[tuple[str, Any], ...]) -> Rule:
    return Rule().replace(**dict(switches))


def has_units_last(name: str) -> bool:
    """Return whether a tensor of this name has its units on the last axis."""
    last = name.rpartition("/")[2].partition(":")[0]
    return last == "w" or last.endswith("kernel")
