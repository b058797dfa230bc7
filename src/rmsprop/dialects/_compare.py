"""How two rules differ, in sentences, and what that does to a step.

Two numbers carry it: how far the first step goes, and how far every step goes in the end under a gradient that does not
change; both as a multiple of lr, at a parameter of 0, so without weight decay.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from rmsprop import formula
from rmsprop.errors import InputError
from rmsprop.rule import Rule

__all__ = ["Comparison", "Difference", "compare_rules", "first_step", "steady_step"]


@dataclasses.dataclass(frozen=True)
class Difference:
    """One switch in which two rules differ.

    Attributes:
        switch: The name in `Rule`.
        left: Its value on the left.
        right: Its value on the right.
        sentence: What that means.
    """

    switch: str
    left: Any
    right: Any
    sentence: str


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two rules side by side; `print` it, or read the parts.

    Attributes:
        left: What the left rule is called.
        right: What the right rule is called.
        left_rule: The left rule.
        right_rule: The right rule.
        differences: The switches that differ, in the order of `Rule`.
        consequences: What follows for the steps, as sentences with numbers.
        remarks: What differs besides the rule: default lr, rows, complex numbers.
    """

    left: str
    right: str
    left_rule: Rule
    right_rule: Rule
    differences: tuple[Difference, ...]
    consequences: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.differences:
            head = [f"{self.left} and {self.right}: the same rule"]
        else:
            many = len(self.differences)
            head = [f"{self.left} and {self.right} differ in {many} switch{'es' if many > 1 else ''}"]
        body = [f"  {item.switch}: {item.sentence}" for item in self.differences]
        return "\n".join([*head, *body, *(f"  {line}" for line in (*self.consequences, *self.remarks))])


def first_step(rule: Rule, *, grad: float = 1.0) -> float:
    """Return the length of the very first step, as a multiple of lr.

    Args:
        rule: The rule.
        grad: Size of the gradient, above 0, in units of grad.

    Raises:
        InputError: A gradient that is not a finite number above 0.

    Example:
        >>> from rmsprop import dialects
        >>> round(dialects.first_step(dialects.dialect("torch")), 3)
        10.0
        >>> round(dialects.first_step(dialects.dialect("tensorflow1")), 3)
        1.0
    """
    return formula.step_lengths(rule, grad=_size(grad))[0]


def steady_step(rule: Rule, *, grad: float = 1.0) -> float:
    """Return the length that the steps tend to under a gradient that never changes, as a multiple of lr.

    Args:
        rule: The rule.
        grad: Size of the gradient, above 0, in units of grad.

    Raises:
        InputError: A gradient that is not a finite number above 0.

    Example:
        >>> from rmsprop import dialects
        >>> round(dialects.steady_step(dialects.dialect("torch", momentum=0.9)), 3)
        10.0
    """
    return formula.steady_length(rule, grad=_size(grad))


def _size(grad: float) -> float:
    if isinstance(grad, bool) or not isinstance(grad, (int, float)) or not math.isfinite(grad) or grad <= 0:
        raise InputError(f"grad={grad!r}, expected a finite number above 0")
    return float(grad)


def compare_rules(
    left: str, left_rule: Rule, right: str, right_rule: Rule, remarks: tuple[str, ...] = ()
) -> Comparison:
    """Say how two named rules differ, switch by switch, and what that does to a step."""
    names = (left, right)
    differences = tuple(
        Difference(switch, mine, theirs, _SENTENCES[switch](names, left_rule, right_rule))
        for switch, (mine, theirs) in left_rule.difference(right_rule).items()
    )
    consequences = _consequences(names, left_rule, right_rule) if differences else ()
    return Comparison(left, right, left_rule, right_rule, differences, consequences, remarks)


def _consequences(names: tuple[str, str], left: Rule, right: Rule) -> tuple[str, ...]:
    """The numbers that differ by more than one part in a thousand."""
    lines = []
    for what, measure in (("first step", first_step), ("a gradient that never changes, every step", steady_step)):
        for size in (1.0, 1e-3, 1e-6):
            mine, theirs = measure(left, grad=size), measure(right, grad=size)
            if not math.isclose(mine, theirs, rel_tol=1e-3):
                lines.append(f"{what}, |grad| = {size:g}: {_both(names, f'{mine:.3g} x lr', f'{theirs:.3g} x lr')}")
    if len(left.buffers) != len(right.buffers):
        kept = [f"{len(rule.buffers)} ({', '.join(rule.buffers)})" for rule in (left, right)]
        lines.append(f"arrays kept for each parameter: {_both(names, *kept)}")
    return tuple(lines)


def _both(names: tuple[str, str], left: str, right: str) -> str:
    return f"{names[0]} {left}, {names[1]} {right}"


def _told(describe: Callable[[Rule], str]) -> Callable[[tuple[str, str], Rule, Rule], str]:
    """Make a sentence of what a switch means in each of two rules."""

    def sentence(names: tuple[str, str], left: Rule, right: Rule) -> str:
        return f"{names[0]} {describe(left)}; {names[1]} {describe(right)}"

    return sentence


def _rho(rule: Rule) -> str:
    memory = f"about {1 / (1 - rule.rho):.0f} steps" if rule.rho < 1 else "no step, for it never learns"
    return f"decays by {rule.rho:g}, so it remembers {memory}"


def _eps(rule: Rule) -> str:
    """Give eps with its unit, and the size of gradient at which it takes over."""
    if rule.eps == 0.0:
        return "has no eps"
    threshold = math.sqrt(rule.eps) if rule.eps_mode == "inside" else rule.eps
    unit = "grad**2" if rule.eps_mode == "inside" else "grad"
    return f"has eps {rule.eps:g} in units of {unit}, which rules where |grad| is below {threshold:g}"


def _eps_mode(rule: Rule) -> str:
    form = {
        "outside": "divides by sqrt(mean_sq) + eps, small gradients by eps",
        "inside": "divides by sqrt(mean_sq + eps), small gradients by sqrt(eps)",
        "max": "divides by the larger of sqrt(mean_sq) and eps, small gradients by eps",
    }[rule.eps_mode]
    least = math.sqrt(rule.eps) if rule.eps_mode == "inside" else rule.eps
    return f"{form} = {least:g}"


def _init(rule: Rule) -> str:
    if rule.init_value == 0.0:
        start = "starts mean_sq at 0"
        return start if rule.bias_correction else f"{start}, so the first steps are long"
    if 0 < rule.rho < 1:
        forgotten = f"{math.log(0.01) / math.log(rule.rho):.0f} steps"
        return f"starts mean_sq at {rule.init_value:g}, of which 1 % is left after {forgotten}"
    return f"starts mean_sq at {rule.init_value:g}"


def _centered(rule: Rule) -> str:
    return f"divides by the {'standard deviation' if rule.centered else 'root mean square'} of the gradient"


def _bias(rule: Rule) -> str:
    return "corrects the averages for their start at zero" if rule.bias_correction else "does not correct the averages"


def _buffer(rule: Rule) -> str:
    return {
        "none": "keeps no momentum buffer",
        "unit": "gathers grad / denominator and applies lr after: a new lr acts on the whole buffer at once",
        "lr": "gathers lr * grad / denominator: a new lr acts on new gradients only, the old ones keep theirs",
    }[rule.buffer]


def _momentum(rule: Rule) -> str:
    if rule.momentum == 0.0:
        return "has no momentum"
    return f"has momentum {rule.momentum:g}, up to {1 / (1 - rule.momentum):.3g} times the step where gradients agree"


def _nesterov(rule: Rule) -> str:
    return "adds momentum * buffer once more" if rule.nesterov == "post" else "takes the buffer as it is"


def _decay_mode(rule: Rule) -> str:
    return {
        "none": "has no weight decay",
        "l2": "adds weight_decay * p to the gradient, where the denominator divides it too",
        "decoupled": "multiplies p by 1 - lr * weight_decay, beside the step",
        "decoupled_corrected": "multiplies p by 1 - lr**2 / lr_max * weight_decay, beside the step",
        "in_buffer": "adds weight_decay * p to the buffer, after the division",
    }[rule.weight_decay_mode]


_SENTENCES: dict[str, Callable[[tuple[str, str], Rule, Rule], str]] = {
    "rho": _told(_rho),
    "eps": _told(_eps),
    "eps_mode": _told(_eps_mode),
    "init": _told(_init),
    "centered": _told(_centered),
    "var_floor": _told(lambda rule: f"keeps mean_sq at least {rule.var_floor:g} in the denominator"),
    "bias_correction": _told(_bias),
    "buffer": _told(_buffer),
    "momentum": _told(_momentum),
    "nesterov": _told(_nesterov),
    "weight_decay": _told(lambda rule: f"decays weights by {rule.weight_decay:g}"),
    "weight_decay_mode": _told(_decay_mode),
    "maximize": _told(lambda rule: "climbs" if rule.maximize else "descends"),
}
