"""What goes into a measurement and what comes out: plain arrays, plain numbers, lines of JSON."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from rmsprop.rule import Rule

__all__ = ["QUANTILES", "Look", "Sample"]

Array = NDArray[Any]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_NUMBER = (int, float, type(None))
_WANTED: dict[str, Any] = {
    "tensor": str,
    "dtype": str,
    "not_finite": str,
    "shape": list,
    "effective_lr": (list, type(None)),
    "rule": dict,
    "finite": bool,
    **dict.fromkeys(("step", "rows", "dead_rows", "exploding_rows", "run"), int),
}
"""The types of a line of JSON; all else is a number or null."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """The elements of one tensor that are looked at, each array a matrix (rows, columns), float32 or float64. Read.

    Attributes:
        tensor: Its name.
        shape: Shape of the whole tensor.
        dtype: Of the parameter: "float32", "bfloat16", ...
        step: Steps done, this one included; 0: not known.
        lr: Learning rate of this step; NaN: not known.
        rule: The rule.
        buffers: The statistics after the step, under the names of `rule.buffers`.
        param: The parameter before the step, or None.
        update: Its change in this step, or None.
        grad: The gradient, or None.
        before: mean_sq before the step, where it is known, or None.
        nearest: Whether the parameter is rounded to nearest: what did not move then has lost its update for good.
        finite: Whether the whole gradient is finite.
        not_finite: What else of the whole tensor has NaN or infinity, in words: "the parameter".
        start_lr: Learning rate of the first steps, where that is another one and known; else NaN.
    """

    tensor: str
    shape: tuple[int, ...]
    dtype: str
    step: int
    lr: float
    rule: Rule
    buffers: Mapping[str, Array]
    param: Array | None = None
    update: Array | None = None
    grad: Array | None = None
    before: Array | None = None
    nearest: bool = True
    finite: bool = True
    not_finite: tuple[str, ...] = ()
    start_lr: float = math.nan


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """What was measured; None: could not be.

    Attributes:
        tensor: Name of the tensor.
        shape: Its shape.
        dtype: Its dtype.
        step: Steps done, this one included; 0: not known.
        lr: Learning rate; None: not known.
        rule: The rule, as the switches that are not `Rule()`'s.
        effective_lr: Quantiles 0.05, 0.25, 0.5, 0.75, 0.95 of lr / denominator (of 1 / denominator without lr).
        root_mean_sq: Root of the mean of mean_sq, in units of grad.
        grad_rms: Root mean square of the gradient.
        weight_rms: Root mean square of the parameter.
        update_to_weight: rms(update) / rms(parameter).
        step_over_lr: Largest change of an element, in units of lr.
        decoupling: sum of grad**2 / sum of mean_sq before it.
        eps_share: Share where eps rules.
        stalled_share: Share that rounding held in place.
        collapsed_share: Share whose variance is gone; centered rules only.
        untouched_share: Share that has had no gradient so far.
        rows: Rows that were looked at; 0: a vector.
        dead_rows: Of these, without a gradient for 20 / (1 - rho) steps, or without any in at least 100.
        exploding_rows: Of these, with gradients 1000 times those of the median row.
        finite: Whether all that was looked at is finite: the gradient, the statistics, the parameter, its change.
        not_finite: What is not, in words; "" where it is not known.
        eps_root: Root of the mean square that all but 5 % of the elements that eps rules are above, in units of grad.
        coming_rows: Of the rows that ever had a gradient, the share that has one in this step.
        start_lr: Learning rate of the first steps, where it is another one than `lr` and known.
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
    stalled_share: float | None = None
    collapsed_share: float | None = None
    untouched_share: float | None = None
    rows: int = 0
    dead_rows: int = 0
    exploding_rows: int = 0
    finite: bool = True
    not_finite: str = ""
    eps_root: float | None = None
    coming_rows: float | None = None
    start_lr: float | None = None
    run: int = 1

    def to_json(self) -> str:
        """Return the look as one line of JSON."""
        return json.dumps(self.__dict__, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Look:
        """Read what `to_json` wrote.

        Raises:
            ValueError: Not one.
        """
        fields = json.loads(line)
        if not isinstance(fields, dict) or "tensor" not in fields:
            raise ValueError("not a look")
        for name, value in fields.items():
            wanted = _WANTED.get(name, _NUMBER)
            if isinstance(value, bool) is not (wanted is bool) or not isinstance(value, wanted):
                raise ValueError(f"not a look: {name} is {value!r}")
        try:
            fields["shape"] = tuple(fields["shape"])
            if fields.get("effective_lr") is not None:
                fields["effective_lr"] = tuple(fields["effective_lr"])
                if len(fields["effective_lr"]) != len(QUANTILES):
                    raise TypeError(f"effective_lr has {len(fields['effective_lr'])} numbers")
            look = cls(**fields)
            look.full_rule()
        except (TypeError, KeyError) as error:
            raise ValueError(f"not a look: {error}") from error
        return look

    def full_rule(self) -> Rule:
        """Return the rule.

        Raises:
            RuleError: The line was written by hand.
        """
        return _rule(tuple(self.rule.items()))


@functools.lru_cache(maxsize=256)
def _rule(switches: tuple[tuple[str, Any], ...]) -> Rule:
    return Rule().replace(**dict(switches))
