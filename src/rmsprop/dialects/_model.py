"""What a row of the table holds, and how a row applies a change.

A framework's switches depend on each other: in torch a momentum above 0 brings a buffer without lr, in TensorFlow a
buffer with lr inside, and in tf_keras's legacy optimizer it also moves eps under the root. `Dialect.resolve` applies
the changes that a user names and then what each of them brings along in that framework. A change that the framework has
no option for raises with the reason; it is never ignored.

No row has a momentum buffer while momentum is 0, even where the framework allocates one: the numbers are the same and
the memory is not. `buffer_when` says what the framework's own checkpoints contain.
"""

from __future__ import annotations

import dataclasses
import difflib
import numbers
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal

from rmsprop.errors import RuleError
from rmsprop.rule import BufferMode, Rule, WeightDecayMode

__all__ = ["BufferWhen", "Complex", "Dialect", "Evidence", "PreOrder", "Sparse", "When"]

Evidence = Literal["V", "S", "C"]
"""How far the row is verified: see `Dialect.evidence`."""
Sparse = Literal["error", "dense", "lazy", "none"]
"""What is done with sparse gradients: see `Dialect.sparse`."""
Complex = Literal["components", "abs2", "square", "none"]
"""What is done with complex parameters: see `Dialect.complex`."""
BufferWhen = Literal["momentum", "always", "never"]
"""When the momentum buffer is allocated: see `Dialect.buffer_when`."""
PreOrder = Literal["clip-decay", "decay-clip", "none"]
"""The order of clipping and weight decay: see `Dialect.pre_order`."""

_SWITCHES = tuple(field.name for field in dataclasses.fields(Rule))


@dataclasses.dataclass(frozen=True)
class When:
    """A switch that brings others along: while `switch` is on (true, or above 0), the settings in `then` hold."""

    switch: str
    then: Mapping[str, Any] = dataclasses.field(hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "then", MappingProxyType(dict(self.then)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dialect:
    """A framework's RMSprop: its rule, defaults, words and bugs, and where all that is written.

    Attributes:
        name: The key: lower case, hyphens.
        title: The framework and its optimizer, as people say it.
        rule: The rule with the framework's defaults.
        source: Repository, file and version that the row was read from.
        evidence: "V": upstream was run and agreed; "S": its source was read; "C": a secondary source.
        aliases: Other names that `get` takes.
        lr: The default learning rate, or None where it must be given.
        offers: The switches of `Rule` that the framework lets its user set.
        choices: For a switch of few values, those that the framework has.
        momentum_buffer: The kind of buffer that a momentum above 0 brings.
        weight_decay_modes: Where weight decay can act; the first is what `weight_decay` brings.
        when: What else a switch brings along.
        refuses: Switches that the framework takes and ignores, or rejects: {switch: what happens there}.
        nonzero: Switches that cannot be 0 there: {switch: what happens there}.
        needs: Switches that are read only while another is on: {switch: the other}.
        words: The framework's names, under this library's words.
        bugs: Upstream bugs and surprises, with where they are.
        differs: Where this library differs on purpose, and what it does instead.
        sparse: Sparse gradients: "error", "dense" (as if zeros were given), "lazy" (only the rows given are updated),
            "none" (the framework has no sparse gradients).
        complex: Complex parameters: "components" (real and imaginary parts apart), "abs2" (|g|**2), "square" (g * g),
            "none".
        buffer_when: When the framework allocates a momentum buffer: with "momentum" above 0, "always", "never".
        pre_order: "clip-decay" clips the gradient (or leaves that to the caller) before it adds weight decay,
            "decay-clip" after; "none" has no weight decay.
        notes: Everything else that a port has to know.
    """

    name: str
    title: str
    rule: Rule
    source: str
    evidence: Evidence
    aliases: tuple[str, ...] = ()
    lr: float | None = None
    offers: tuple[str, ...] = ("rho", "eps")
    choices: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict, hash=False)
    momentum_buffer: BufferMode = "none"
    weight_decay_modes: tuple[WeightDecayMode, ...] = ()
    when: tuple[When, ...] = ()
    refuses: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    nonzero: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    needs: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    words: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    bugs: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()
    sparse: Sparse = "none"
    complex: Complex = "none"
    buffer_when: BufferWhen = "never"
    pre_order: PreOrder = "none"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in ("choices", "refuses", "nonzero", "needs", "words"):
            object.__setattr__(self, field, MappingProxyType(dict(getattr(self, field))))

    def resolve(self, **changes: Any) -> Rule:
        """Return this framework's rule with some switches changed, and with all that they bring along there.

        Args:
            **changes: Switches of `Rule`, in this library's words. The framework's own value is always accepted.

        Raises:
            RuleError: A switch that `Rule` does not know or the framework has no option for, or an impossible value.

        Example:
            >>> from rmsprop import dialects
            >>> dialects.get("tf-keras-legacy").resolve().eps_mode
            'outside'
            >>> dialects.get("tf-keras-legacy").resolve(momentum=0.9).eps_mode
            'inside'
        """
        for switch in changes:
            if switch not in _SWITCHES:
                raise RuleError(f"dialect {self.name!r}: {self._explain_unknown(switch)}")
        base = dataclasses.asdict(self.rule)
        base |= self._imply({**base, **changes}, changes)
        for switch, value in changes.items():
            reason = "" if value == base[switch] else self._find_objection(switch, value, {**base, **changes})
            if switch in self.nonzero and value == 0:
                reason = reason or f"expected more than 0: {self.nonzero[switch]}"
            if reason:
                raise RuleError(f"dialect {self.name!r}: {switch}={value!r}, {reason}")
        return Rule(**{**base, **changes})

    def _imply(self, settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the settings bring along in this framework."""
        implied: dict[str, Any] = {}
        for bond in self.when:
            if _is_on(settings[bond.switch]):
                implied.update(bond.then)
        if _is_on(settings["weight_decay"]) and self.weight_decay_modes:
            implied["weight_decay_mode"] = self.weight_decay_modes[0]
        momentum = changes.get("momentum", implied.get("momentum", self.rule.momentum))
        has_buffer = _is_on(momentum) or implied.get("weight_decay_mode") == "in_buffer"
        return {**implied, "buffer": self.momentum_buffer if has_buffer else "none"}

    def _find_objection(self, switch: str, value: Any, settings: Mapping[str, Any]) -> str:
        """Return why the framework cannot set `switch` to `value`, or ""."""
        offers = f"it offers {', '.join(self.offers)}" if self.offers else "it offers nothing to set"
        hint = f"{offers}. To change it all the same, pass rmsprop.dialect({self.name!r}).replace({switch}={value!r})"
        if switch in self.refuses:
            return f"but {self.refuses[switch]}; {hint}"
        other = self.needs.get(switch)
        if other is not None and not _is_on(settings[other]):
            return f"but {self.title} reads it only with {other}=True"
        if switch == "buffer" and self.momentum_buffer != "none":
            choices: tuple[Any, ...] = ("none", self.momentum_buffer, *self.choices.get("buffer", ()))
        elif switch == "weight_decay_mode" and self.weight_decay_modes:
            choices = ("none", *self.weight_decay_modes)
        elif switch in self.offers:
            choices = self.choices.get(switch, (value,))
        else:
            return f"but {self.title} has no such option; {hint}"
        return "" if value in choices else f"expected one of {', '.join(map(repr, choices))}; {hint}"

    def _explain_unknown(self, switch: str) -> str:
        if switch in ("lr", "learning_rate"):
            default = "requires one" if self.lr is None else f"defaults to {self.lr:g}"
            return f"{switch} is not part of a rule, pass it to the optimizer ({self.title} {default})"
        ours = next((mine for mine, theirs in self.words.items() if theirs == switch and mine in _SWITCHES), None)
        return f"unknown option {switch!r}; {f'use {ours!r}' if ours else nearest(switch, _SWITCHES)}"


def _is_on(value: Any) -> bool:
    """Return True for True and for a number above 0; `Rule` raises for what is neither."""
    return isinstance(value, numbers.Real) and float(value) > 0


def nearest(word: str, known: Iterable[str], *, also: Iterable[str] = ()) -> str:
    """Return a hint: `did you mean 'torch'?`, or all known words; `also` is matched but never listed."""
    known = list(known)
    close = difflib.get_close_matches(word, [*known, *also], n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    return f"expected one of {', '.join(known)}"
