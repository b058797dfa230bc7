"""The rule: which RMSprop variant a step computes.

One step, for one parameter p with gradient g (arrays of one shape; every operation is elementwise):

    g  <- -g if maximize;  g <- g * grad_scale                          (clipping, loss scale)
    g  <- g + weight_decay * p                                          weight_decay_mode "l2"
    v  <- rho v + (1 - rho) g^2                                         mean_sq
    d  <- sqrt(v) + eps | sqrt(v + eps) | max(sqrt(v), eps)             eps_mode "outside" | "inside" | "max"
    u  <- g / d           (0 where d is 0)
    u  <- u + weight_decay * p                                          weight_decay_mode "in_buffer"
    D  <- lr u                                                          buffer "none"
    b  <- momentum b + u;     D <- lr b   or lr (u + momentum b)        buffer "unit", nesterov "none" | "post"
    b  <- momentum b + lr u;  D <- b      or lr u + momentum b          buffer "lr"
    p  <- (1 - lr weight_decay) p - D                                   weight_decay_mode "decoupled"
    p  <- (1 - lr^2 / lr_max weight_decay) p - D                        weight_decay_mode "decoupled_corrected"

`centered` divides by the standard deviation instead of the root mean square. Other implementations compute v - m^2, the
difference of two nearly equal numbers, which rounding turns negative. This library keeps the variance itself, by the
exact recurrence for an exponentially weighted variance (T. Finch, "Incremental calculation of weighted mean and
variance", 2009, section 9), which cannot become negative:

    e  <- g - m;   m <- m + (1 - rho) e;   s <- rho (s + (1 - rho) e^2)       s = v - m^2 at every step

If the gradient hardly changes, the true variance becomes smaller than the rounding error. So it is kept at s >= u g^2,
where u is the unit roundoff of the arithmetic (2^-24, in float64 2^-53). No step is then longer than
lr |g| / (sqrt(u) |g| + eps).

`bias_correction` divides v and m by 1 - rho^t in the literature. Dividing the recurrence instead gives the same numbers
with one decay per step, rho_t = 1 - (1 - rho) / (1 - rho^t), so the kept statistics are the corrected ones and no
element pays for it. With `centered` the first variance is 0 whatever the gradient; that step divides by |g| instead.

Source: the switches are those of the dialects in `rmsprop.dialects`; the rule itself is G. Hinton, "Neural networks for
machine learning", lecture 6e, and A. Graves, arXiv:1308.0850 (centered).
"""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
from collections.abc import Mapping
from typing import Any, Literal, get_args

from rmsprop.errors import RuleError

__all__ = ["BufferMode", "EpsMode", "Nesterov", "Rule", "WeightDecayMode"]

EpsMode = Literal["outside", "inside", "max"]
"""The denominator: sqrt(v) + eps, sqrt(v + eps) or max(sqrt(v), eps)."""
BufferMode = Literal["none", "unit", "lr"]
"""The momentum buffer: none, of g / d, or of lr g / d."""
Nesterov = Literal["none", "post"]
"""Whether the momentum buffer is added once more before the step."""
WeightDecayMode = Literal["none", "l2", "decoupled", "decoupled_corrected", "in_buffer"]
"""Where weight decay acts: on the gradient, on the parameter, or in the momentum buffer."""
Init = float | Literal["zeros", "ones", "eps"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "eps_mode": get_args(EpsMode),
    "buffer": get_args(BufferMode),
    "nesterov": get_args(Nesterov),
    "weight_decay_mode": get_args(WeightDecayMode),
}
_FLAGS = ("centered", "bias_correction", "maximize")


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Rule:
    """The switches of one RMSprop variant; immutable, hashable, comparable.

    Attributes:
        rho: Decay of the moving averages, in [0, 1]; their memory is about 1 / (1 - rho) steps.
        eps: Added to the denominator, at least 0. Its unit is that of grad, or of grad**2 when `eps_mode` is "inside".
        eps_mode: Where: "outside" the root, "inside" it, or "max" (a floor under the root).
        init: mean_sq before the first step: "zeros", "ones", "eps" or a number, at least 0, in units of grad**2.
        centered: Divide by the standard deviation of the gradient instead of its root mean square.
        var_floor: The least value mean_sq (or the variance) may take in the denominator, in units of grad**2.
        bias_correction: Correct the averages for their start at zero.
        buffer: Momentum buffer: "none"; "unit" accumulates u, lr applied after; "lr" accumulates lr * u.
        momentum: Decay of that buffer, in [0, 1).
        nesterov: "post" adds momentum * buffer once more after the buffer's update.
        weight_decay: Strength, at least 0; per step for "l2" and "in_buffer", times lr for the decoupled modes.
        weight_decay_mode: Where it acts: see the module's formula.
        maximize: Ascend instead of descend.

    Raises:
        RuleError: A number outside its domain, an unknown choice, or switches that contradict each other.

    Example:
        >>> from rmsprop import Rule
        >>> Rule(rho=0.99, eps_mode="outside")
        Rule(rho=0.99, eps=1e-08, eps_mode='outside')
        >>> Rule(buffer="unit", momentum=0.9, centered=True).buffers
        ('mean_grad', 'grad_var', 'momentum_buf')
        >>> Rule(momentum=0.9)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        rmsprop.errors.RuleError: momentum=0.9 needs a buffer: buffer="unit" (lr applied after) or buffer=...

    Differs: torch, MLX and most Julia and Rust libraries put eps outside the root; TensorFlow 1 starts mean_sq at one.
    """

    rho: float = 0.9
    eps: float = 1e-8
    eps_mode: EpsMode = "inside"
    init: Init = "zeros"
    centered: bool = False
    var_floor: float = 0.0
    bias_correction: bool = False
    buffer: BufferMode = "none"
    momentum: float = 0.0
    nesterov: Nesterov = "none"
    weight_decay: float = 0.0
    weight_decay_mode: WeightDecayMode = "none"
    maximize: bool = False

    def __post_init__(self) -> None:
        for name, lower, upper, open_above in (
            ("rho", 0.0, 1.0, False),
            ("eps", 0.0, math.inf, True),
            ("var_floor", 0.0, math.inf, True),
            ("momentum", 0.0, 1.0, True),
            ("weight_decay", 0.0, math.inf, True),
        ):
            self._set(name, _number(name, getattr(self, name), lower, upper, open_above))
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if not isinstance(value, str) or value not in choices:
                raise RuleError(f"{name}={value!r}, expected one of {', '.join(map(repr, choices))}")
        for name in _FLAGS:
            value = getattr(self, name)
            if not isinstance(value, (bool, numbers.Integral)) or value not in (0, 1):
                raise RuleError(f"{name}={value!r}, expected True or False")
            self._set(name, bool(value))
        if isinstance(self.init, str):
            if self.init not in ("zeros", "ones", "eps"):
                raise RuleError(f"init={self.init!r}, expected 'zeros', 'ones', 'eps' or a number")
        else:
            value = _number("init", self.init, 0.0, math.inf, True)
            self._set("init", {0.0: "zeros", 1.0: "ones"}.get(value, value))
        self._refuse_contradictions()

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _refuse_contradictions(self) -> None:
        if self.momentum > 0 and self.buffer == "none":
            raise RuleError(
                f"momentum={self.momentum:g} needs a buffer: "
                'buffer="unit" (lr applied after) or buffer="lr" (lr inside)'
            )
        if self.nesterov != "none" and self.buffer == "none":
            raise RuleError(f"nesterov={self.nesterov!r} needs a momentum buffer, but buffer='none'")
        if self.weight_decay > 0 and self.weight_decay_mode == "none":
            raise RuleError(
                f"weight_decay={self.weight_decay:g} needs a weight_decay_mode: "
                "'l2', 'decoupled', 'decoupled_corrected' or 'in_buffer'"
            )
        if self.weight_decay_mode == "in_buffer" and self.buffer == "none":
            raise RuleError("weight_decay_mode='in_buffer' needs a momentum buffer, but buffer='none'")
        if self.bias_correction and self.rho == 1.0:
            raise RuleError("bias_correction=True divides by 1 - rho**t, which is 0 at rho=1")
        if self.bias_correction and self.init_value != 0.0:
            raise RuleError(
                f"bias_correction=True corrects a start at zero, but init={self.init!r}: choose one of the two"
            )

    @property
    def buffers(self) -> tuple[str, ...]:
        """The arrays this rule keeps for each parameter, each of the parameter's shape, in the kernel's order."""
        statistics = ("mean_grad", "grad_var") if self.centered else ("mean_sq",)
        return statistics if self.buffer == "none" else (*statistics, "momentum_buf")

    @property
    def init_value(self) -> float:
        """What mean_sq (or grad_var) holds before the first step; the other buffers start at 0."""
        match self.init:
            case "zeros":
                return 0.0
            case "ones":
                return 1.0
            case "eps":
                return self.eps
            case value:
                return float(value)

    def replace(self, **changes: Any) -> Rule:
        """Return a copy with some switches changed; validated like a new one.

        Example:
            >>> Rule().replace(rho=0.99).rho
            0.99
        """
        known = {field.name for field in dataclasses.fields(self)}
        unknown = sorted(set(changes) - known)
        if unknown:
            raise RuleError(f"unknown switch {unknown[0]!r}, expected one of {', '.join(sorted(known))}")
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """Write every switch as a JSON object; numbers keep all their digits."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Rule:
        """Read what `to_json` wrote. A missing switch takes its default; an unknown one raises.

        Raises:
            RuleError: Not a JSON object, an unknown switch, or a rule that cannot exist.
        """
        try:
            fields = json.loads(text)
        except (TypeError, ValueError) as error:
            raise RuleError(f"not JSON: {error}") from error
        if not isinstance(fields, Mapping):
            raise RuleError(f"expected a JSON object of switches, got {type(fields).__name__}")
        return cls().replace(**fields)

    def difference(self, other: Rule) -> dict[str, tuple[Any, Any]]:
        """Return the switches in which two rules differ, as {name: (mine, theirs)}."""
        pairs = ((f.name, getattr(self, f.name), getattr(other, f.name)) for f in dataclasses.fields(self))
        return {name: (mine, theirs) for name, mine, theirs in pairs if mine != theirs}

    def __repr__(self) -> str:
        always = ("rho", "eps", "eps_mode")
        shown = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if field.name in always or getattr(self, field.name) != field.default
        ]
        return f"Rule({', '.join(shown)})"


def _number(name: str, value: object, lower: float, upper: float, open_above: bool) -> float:
    """Return `value` as a float in [lower, upper] or [lower, upper), or raise RuleError."""
    domain = f"a finite number in [{lower:g}, {upper:g}{')' if open_above else ']'}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise RuleError(f"{name}={value!r}, expected {domain}")
    try:
        number = float(value) + 0.0  # -0.0 becomes 0.0
    except OverflowError:
        raise RuleError(f"{name}: too large for a float, expected {domain}") from None
    if not math.isfinite(number) or number < lower or number > upper or (open_above and number == upper):
        raise RuleError(f"{name}={number!r}, expected {domain}")
    return number
