"""How two rules differ, in sentences, and what that does to a step.

Two numbers describe a step: the length of the first one, and the length that the steps tend to if the gradient never
changes; both as a multiple of lr, at a parameter of 0, so without weight decay.
"""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Callable
from typing import Any

from rmsprop import formula
from rmsprop._display import make_list, make_table
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


@dataclasses.dataclass(frozen=True, repr=False)
class Comparison:
    """Two rules side by side; `print` it, look at it in a notebook, or read the parts.

    Attributes:
        left: What the left rule is called.
        right: What the right rule is called.
        left_rule: The left rule.
        right_rule: The right rule.
        differences: The switches that differ, in the order of `Rule`.
        consequences: What follows for the steps, as sentences with numbers.
        remarks: What differs besides the rule: default lr, sparse gradients, complex numbers.
    """

    left: str
    right: str
    left_rule: Rule
    right_rule: Rule
    differences: tuple[Difference, ...]
    consequences: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    def _get_head(self) -> str:
        if not self.differences:
            return f"{self.left} and {self.right}: the same rule"
        many = len(self.differences)
        return f"{self.left} and {self.right} differ in {many} switch{'es' if many > 1 else ''}"

    def __repr__(self) -> str:
        body = [f"  {item.switch}: {item.sentence}" for item in self.differences]
        return "\n".join([self._get_head(), *body, *(f"  {line}" for line in (*self.consequences, *self.remarks))])

    def _repr_html_(self) -> str:
        rows = [(item.switch, str(item.left), str(item.right), item.sentence) for item in self.differences]
        table = make_table(("switch", self.left, self.right, "meaning"), rows) if rows else ""
        return f"<p>{html.escape(self._get_head())}</p>{table}{make_list((*self.consequences, *self.remarks))}"


def first_step(rule: Rule, *, grad: float = 1.0) -> float:
    """Return the length of the very first step, as a multiple of lr.

    Args:
        rule: The rule.
        grad: Size of the gradient, above 0, in units of grad.

    Raises:
        InputError: `grad` is not a finite number above 0.

    Example:
        >>> from rmsprop import dialects
        >>> round(dialects.first_step(dialects.dialect("torch")), 3)
        10.0
        >>> round(dialects.first_step(dialects.dialect("tensorflow1")), 3)
        1.0
    """
    return formula.step_lengths(rule, grad=_check_size(grad))[0]


def steady_step(rule: Rule, *, grad: float = 1.0) -> float:
    """Return the length that the steps tend to under a gradient that never changes, as a multiple of lr.

    Args:
        rule: The rule.
        grad: Size of the gradient, above 0, in units of grad.

    Raises:
        InputError: `grad` is not a finite number above 0.

    Example:
        >>> from rmsprop import dialects
        >>> round(dialects.steady_step(dialects.dialect("torch", momentum=0.9)), 3)
        10.0
    """
    return formula.steady_length(rule, grad=_check_size(grad))


def _check_size(grad: float) -> float:
    if isinstance(grad, bool) or not isinstance(grad, (int, float)) or not math.isfinite(grad) or grad <= 0:
        raise InputError(f"grad={grad!r}, expected a finite number above 0")
    return float(grad)


def compare_rules(
    left: str, left_rule: Rule, right: str, right_rule: Rule, remarks: tuple[str, ...] = ()
) -> Comparison:
    """Describe how two named rules differ, switch by switch, and what that does to a step."""
    names, rules = (left, right), (left_rule, right_rule)
    differences = []
    for switch, values in left_rule.difference(right_rule).items():
        parts = [f"{name} {_MEANINGS[switch](rule)}" for name, rule in zip(names, rules)]
        differences.append(Difference(switch, *values, "; ".join(parts)))
    consequences = _list_consequences(names, rules) if differences else ()
    return Comparison(left, right, left_rule, right_rule, tuple(differences), consequences, remarks)


def _list_consequences(names: tuple[str, str], rules: tuple[Rule, Rule]) -> tuple[str, ...]:
    """Return the numbers that differ by more than one part in a thousand."""
    lines = []
    for what, measure in (("first step", first_step), ("a gradient that never changes, every step", steady_step)):
        for size in (1.0, 1e-3, 1e-6):
            lengths = [measure(rule, grad=size) for rule in rules]
            if not math.isclose(*lengths, rel_tol=1e-3):
                parts = [f"{name} {length:.3g} x lr" for name, length in zip(names, lengths)]
                lines.append(f"{what}, |grad| = {size:g}: {', '.join(parts)}")
    if len(rules[0].buffers) != len(rules[1].buffers):
        parts = [f"{name} {len(rule.buffers)} ({', '.join(rule.buffers)})" for name, rule in zip(names, rules)]
        lines.append(f"arrays stored for each parameter: {', '.join(parts)}")
    return tuple(lines)


def _describe_rho(rule: Rule) -> str:
    memory = f"about {1 / (1 - rule.rho):.0f} steps" if rule.rho < 1 else "no step, as it never learns"
    return f"decays by {rule.rho:g}, so it remembers {memory}"


def _threshold(rule: Rule) -> float:
    """Return the size of the gradient below which eps dominates."""
    return math.sqrt(rule.eps) if rule.eps_mode == "inside" else rule.eps


def _describe_eps(rule: Rule) -> str:
    if rule.eps == 0.0:
        return "has no eps"
    unit = "grad**2" if rule.eps_mode == "inside" else "grad"
    return f"has eps {rule.eps:g} in units of {unit}, which dominates where |grad| is below {_threshold(rule):g}"


def _describe_eps_mode(rule: Rule) -> str:
    form = {
        "outside": "divides by sqrt(mean_sq) + eps, small gradients by eps",
        "inside": "divides by sqrt(mean_sq + eps), small gradients by sqrt(eps)",
        "max": "divides by the larger of sqrt(mean_sq) and eps, small gradients by eps",
    }[rule.eps_mode]
    return f"{form} = {_threshold(rule):g}"


def _describe_init(rule: Rule) -> str:
    start = f"starts mean_sq at {rule.init_value:g}"
    if rule.init_value == 0.0:
        return start if rule.bias_correction else f"{start}, so the first steps are long"
    if 0 < rule.rho < 1:
        return f"{start}, of which 1 % is left after {math.log(0.01) / math.log(rule.rho):.0f} steps"
    return start


def _describe_momentum(rule: Rule) -> str:
    if rule.momentum == 0.0:
        return "has no momentum"
    return f"has momentum {rule.momentum:g}, up to {1 / (1 - rule.momentum):.3g} times the step where gradients agree"


_BUFFERS = {
    "none": "has no momentum buffer",
    "unit": "sums grad / denominator and applies lr after: a new lr acts on the whole buffer at once",
    "lr": "sums lr * grad / denominator: a new lr acts on new gradients only, the old ones keep theirs",
}
_DECAY_MODES = {
    "none": "has no weight decay",
    "l2": "adds weight_decay * p to the gradient, where the denominator divides it too",
    "decoupled": "multiplies p by 1 - lr * weight_decay, beside the step",
    "decoupled_corrected": "multiplies p by 1 - lr**2 / lr_max * weight_decay, beside the step",
    "in_buffer": "adds weight_decay * p to the buffer, after the division",
}
_MEANINGS: dict[str, Callable[[Rule], str]] = {
    "rho": _describe_rho,
    "eps": _describe_eps,
    "eps_mode": _describe_eps_mode,
    "init": _describe_init,
    "centered": lambda rule: (
        f"divides by the {'standard deviation' if rule.centered else 'root mean square'} of the gradient"
    ),
    "var_floor": lambda rule: f"keeps mean_sq at least {rule.var_floor:g} in the denominator",
    "bias_correction": lambda rule: (
        "corrects the averages for their start at zero" if rule.bias_correction else "does not correct the averages"
    ),
    "buffer": lambda rule: _BUFFERS[rule.buffer],
    "momentum": _describe_momentum,
    "nesterov": lambda rule: (
        "adds momentum * buffer once more" if rule.nesterov == "post" else "takes the buffer as it is"
    ),
    "weight_decay": lambda rule: f"decays weights by {rule.weight_decay:g}",
    "weight_decay_mode": lambda rule: _DECAY_MODES[rule.weight_decay_mode],
    "maximize": lambda rule: "maximizes" if rule.maximize else "minimizes",
}
