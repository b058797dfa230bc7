"""The step of tensors without a kernel: the stages of `rmsprop.formula` over lists of tensors, by torch._foreach_*.

`Lists` gives a list of tensors the operators that the formula uses. A factor, a product and a quotient wait until they
are added to something, so that `rho * v + (1 - rho) * (g * g)` becomes `_foreach_mul_` and `_foreach_addcmul_`. The
rules that torch has thus become torch's own sequence, with its temporaries: one array of the parameters' size.

Two of the formula's guards are left out here. Rules that torch has treat a gradient beyond 2**62 as torch does: above
2**64 its square is infinite, and the parameter stands still. A centered mean may stop before it reaches the gradient;
`takes` lets only those rules in for which that gap is smaller than the floor of the variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rmsprop import formula
from rmsprop.rule import Rule
from rmsprop.torch.groups import TORCH_SWITCHES

__all__ = ["Lists", "Piece", "step", "takes"]

_ONE = torch.ones(())


class Piece(NamedTuple):
    """Real, local tensors of one parameter; `count` is its state's `step`."""

    param: Tensor
    grad: Tensor
    buffers: tuple[Tensor, ...]
    count: Tensor


class Lists:
    """Lists of tensors as one array: scale * tensors, scale * tensors * other, or scale * tensors / other.

    A stage of the formula overwrites the left side of `+`, and what it takes the root of, if it is `writable`: what the
    stage has made itself, and what it is given to update.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        scale: Any = 1.0,
        other: Sequence[Tensor] | None = None,
        *,
        divide: bool = False,
        writable: bool = False,
    ) -> None:
        self.tensors, self.scale, self.other, self.divide, self.writable = tensors, scale, other, divide, writable
        self.dtype = tensors[0].dtype

    def __mul__(self, factor: Any) -> Lists:
        if isinstance(factor, Lists):
            return Lists(self.tensors, _multiply(self.scale, factor.scale), factor.tensors)
        return Lists(
            self.tensors, _multiply(self.scale, factor), self.other, divide=self.divide, writable=self.writable
        )

    __rmul__ = __mul__

    def __truediv__(self, divisor: Lists) -> Lists:
        return Lists(self.tensors, self.scale, divisor.evaluate().tensors, divide=True)

    def __sub__(self, right: Lists) -> Lists:
        return self + -1.0 * right

    def __add__(self, right: Any) -> Lists:
        left = self.evaluate()
        if not isinstance(right, Lists):
            return left.call("add", right)
        on_device = isinstance(right.scale, Tensor)  # a scale on the device cannot be an argument: it would be read
        if right.other is None:
            if on_device:
                return left.call("add", right.copy().evaluate().tensors)
            return left.call("add", right.tensors, alpha=right.scale)
        if right.divide:
            other = torch._foreach_div(right.other, right.scale) if on_device else right.other
            return left.call("addcdiv", right.tensors, other, value=1.0 if on_device else right.scale)
        if on_device:
            return left.call("add", right.evaluate().tensors)
        return left.call("addcmul", right.tensors, right.other, value=right.scale)

    def __lt__(self, least: Any) -> Any:
        return least  # the condition of a floor, the only one that the formula has for lists: `_where`

    def copy(self) -> Lists:
        """Return the same lists, not to be overwritten."""
        return Lists(self.tensors, self.scale, self.other, divide=self.divide)

    def call(self, name: str, *args: Any, **kwargs: Any) -> Lists:
        """Return torch._foreach_NAME of the tensors, in their memory if they are writable."""
        if self.writable:
            getattr(torch, f"_foreach_{name}_")(self.tensors, *args, **kwargs)
            return Lists(self.tensors, writable=True)
        return Lists(getattr(torch, f"_foreach_{name}")(self.tensors, *args, **kwargs), writable=True)

    def evaluate(self) -> Lists:
        """Return the same numbers without a factor, product or quotient that waits."""
        done = self
        if self.other is not None:
            done = self.copy().call("div" if self.divide else "mul", self.other)
        return done if isinstance(self.scale, float) and self.scale == 1.0 else done.call("mul", self.scale)


def _multiply(scale: Any, factor: Any) -> Any:
    """Return the product of two scales; 1.0 costs no operation on a device."""
    return factor if isinstance(scale, float) and scale == 1.0 else scale * factor


def _where(condition: Any, then: Any, otherwise: Any) -> Any:
    """Return max(otherwise, then) for lists, NaN where `otherwise` is NaN; torch.where for the learning rate."""
    if not isinstance(otherwise, Lists):
        return torch.where(condition, then, otherwise)
    if isinstance(then, Lists):
        return otherwise.evaluate().call("maximum", then.evaluate().tensors)
    return otherwise.evaluate().call("clamp_min", then)


_LISTS = SimpleNamespace(sqrt=lambda x: x.evaluate().call("sqrt"), where=_where)


def takes(rule: Rule, count: Tensor) -> bool:
    """Whether the step of a rule needs no guard that lists lack, and no number that is on a device."""
    return (
        rule.eps >= formula.LEAST_EPS
        and (not rule.centered or 1.0 - rule.rho >= 2.0**-12)
        and (not rule.bias_correction or count.device.type == "cpu")
    )


def step(pieces: Sequence[Piece], rule: Rule, *, lr: Any, lr_max: Any, scale: Any) -> None:
    """Step parameters in place, one sequence of operations for each combination of device, dtypes and step count."""
    kinds: dict[Any, list[Piece]] = {}
    for piece in pieces:
        count = int(piece.count) if rule.bias_correction else 0
        dtypes = (piece.param.dtype, piece.grad.dtype, piece.buffers[0].dtype)
        kinds.setdefault((piece.param.device, piece.count.device, dtypes, count), []).append(piece)
    for (_, device, (dtype, grad_dtype, work), count), members in kinds.items():
        params, grads, buffers, counts = zip(*members)
        if device.type == "cpu":  # of a number torch would make a tensor for each count
            torch._foreach_add_(counts, _ONE, alpha=1.0)
        else:
            torch._foreach_add_(counts, 1)
        n = formula.numbers_of(rule, lr=lr, step=count + 1, lr_max=lr_max, grad_scale=scale)
        param = Lists(params if dtype == work else [p.to(work) for p in params], writable=True)
        grad = Lists(grads if grad_dtype == work else [g.to(work) for g in grads])
        state = {name: Lists(kind, writable=True) for name, kind in zip(rule.buffers, zip(*buffers))}
        moved = _step_lists(param, grad, state, rule, n)
        if dtype != work:
            torch._foreach_copy_(params, moved.tensors)


def _step_lists(param: Lists, grad: Lists, state: dict[str, Lists], rule: Rule, n: formula.Numbers) -> Lists:
    """Step lists of one dtype in place; return the parameters."""
    grad = formula.scale_grad(param.copy(), grad, rule, n).copy()
    if isinstance(grad.scale, Tensor) or abs(grad.scale) != 1.0:  # a sign may wait, a scale would be squared
        grad = grad.evaluate().copy()
    if not _is_torchs(rule):
        limit = formula.LIMIT["float64" if grad.dtype == torch.float64 else "float32"]
        cut = grad.evaluate().copy().call("clamp_min", -limit).call("clamp_max", limit)
        grad = (cut + 0.0 * grad).copy()  # infinity becomes NaN
    new = formula.statistics(grad, state, rule, n, xp=_LISTS, nudge=False)
    divisor = formula.denominator({name: lists.copy() for name, lists in new.items()}, rule, n, xp=_LISTS)
    return formula.apply(param, grad, divisor.copy(), state, rule, n, xp=_LISTS)[0]


def _is_torchs(rule: Rule) -> bool:
    """Whether torch.optim.RMSprop has the rule, and computes it in the same way."""
    switches = {name: value for name, value in TORCH_SWITCHES.items() if name != "init"}
    return not rule.centered and all(getattr(rule, name) in (value, "none") for name, value in switches.items())
