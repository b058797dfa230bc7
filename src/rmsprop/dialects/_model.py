"""What one row of the table holds, and how a row answers a change.

A host's switches hang together: in torch a momentum above 0 brings a buffer that lr stays out of, in TensorFlow one
that lr goes into, and in tf_keras's legacy optimizer it also moves eps under the root. `Dialect.resolve` applies the
changes that a user names and then what each of them brings along in that host. A change that the host has no option
for is refused with the reason, never ignored.

Every row keeps no momentum buffer while momentum is 0, also where the host allocates one anyway: the numbers are the
same and the memory is not. `buffer_when` says what the host's own checkpoints contain.
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
Sparse = Literal["error", "dense", "lazy", "none"]
Complex = Literal["components", "abs2", "square", "none"]
BufferWhen = Literal["momentum", "always", "never"]
PreOrder = Literal["clip-decay", "decay-clip", "none"]

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
    """One host's RMSprop: its rule, its defaults, its words, its bugs, and where all that is written.

    Attributes:
        name: The key: lower case, hyphens.
        title: The host and its optimizer, as people say it.
        rule: The rule at the host's defaults.
        source: Repository, file and version that the row was read from.
        evidence: "V": the owner was run and agreed; "S": its source was read; "C": a secondary source.
        aliases: Other names that `get` takes.
        lr: The host's default learning rate, or None where the host requires one.
        offers: The switches of `Rule` that the host lets its user set.
        choices: For a switch of few values, those the host has.
        momentum_buffer: The kind of buffer that a momentum above 0 brings.
        weight_decay_modes: Where weight decay can act in the host; the first is what `weight_decay` brings.
        when: What else a switch brings along.
        refuses: Switches the host takes and does not honour, or rejects: {switch: what happens there}.
        nonzero: Switches that the host cannot have at 0: {switch: what happens there}.
        needs: Switches the host reads only while another is on: {switch: the other}.
        words: The host's names, under this library's words.
        bugs: Upstream bugs and traps, with where they are.
        differs: Where this library leaves the host, and what it does instead.
        sparse: A gradient that names rows: "error", "dense" (as if zeros were given), "lazy" (other rows rest),
            "none" (the host has no such gradients).
        complex: Complex parameters: "components" (real and imaginary parts apart), "abs2" (|g|**2), "square" (g * g),
            "none".
        buffer_when: When the host allocates a momentum buffer: with "momentum" above 0, "always", "never".
        pre_order: "clip-decay" clips the gradient (or leaves that to the caller) before it adds weight decay,
            "decay-clip" after; "none" has no weight decay.
        notes: Everything else a port has to know.
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
        """Return this host's rule with some switches changed, and with all that they bring along there.

        Args:
            **changes: Switches of `Rule`, in this library's words. A value the host has anyway is always accepted.

        Raises:
            RuleError: A switch that `Rule` does not know, that the host has no option for, or a value it cannot have.

        Example:
            >>> from rmsprop import dialects
            >>> dialects.get("tf-keras-legacy").resolve().eps_mode
            'outside'
            >>> dialects.get("tf-keras-legacy").resolve(momentum=0.9).eps_mode
            'inside'
        """
        for switch in changes:
            if switch not in _SWITCHES:
                raise RuleError(self._unknown(switch))
        base = dataclasses.asdict(self.rule)
        implied = self._implied({**base, **changes}, given=changes)
        for switch, value in changes.items():
            if value != {**base, **implied}[switch]:
                self._permit(switch, value, {**base, **implied, **changes})
            if switch in self.nonzero and value == 0:
                raise RuleError(
                    f"dialect {self.name!r}: {switch}={value!r}, expected more than 0: {self.nonzero[switch]}"
                )
        return Rule(**{**base, **implied, **changes})

    def _implied(self, settings: Mapping[str, Any], *, given: Mapping[str, Any]) -> dict[str, Any]:
        """What the settings bring along in this host."""
        implied: dict[str, Any] = {}
        for bond in self.when:
            if _is_on(settings[bond.switch]):
                implied.update(bond.then)
        if _is_on(settings["weight_decay"]) and self.weight_decay_modes:
            implied["weight_decay_mode"] = self.weight_decay_modes[0]
        momentum = given.get("momentum", implied.get("momentum", self.rule.momentum))
        kept = _is_on(momentum) or implied.get("weight_decay_mode") == "in_buffer"
        return {**implied, "buffer": self.momentum_buffer if kept else "none"}

    def _permit(self, switch: str, value: Any, settings: Mapping[str, Any]) -> None:
        """Raise RuleError unless the host can set `switch` to `value`."""
        if switch in self.refuses:
            raise RuleError(
                f"dialect {self.name!r}: {switch}={value!r}, but {self.refuses[switch]}; {self._way_out(switch, value)}"
            )
        other = self.needs.get(switch)
        if other is not None and not _is_on(settings[other]):
            raise RuleError(
                f"dialect {self.name!r}: {switch}={value!r}, but {self.title} reads it only with {other}=True"
            )
        if switch == "buffer" and self.momentum_buffer != "none":
            choices: tuple[Any, ...] = ("none", self.momentum_buffer, *self.choices.get("buffer", ()))
        elif switch == "weight_decay_mode" and self.weight_decay_modes:
            choices = ("none", *self.weight_decay_modes)
        elif switch in self.offers:
            choices = self.choices.get(switch, (value,))
        else:
            raise RuleError(
                f"dialect {self.name!r}: {switch}={value!r}, but {self.title} has no such option; "
                f"{self._way_out(switch, value)}"
            )
        if value not in choices:
            expected = ", ".join(map(repr, choices))
            raise RuleError(
                f"dialect {self.name!r}: {switch}={value!r}, expected one of {expected}; {self._way_out(switch, value)}"
            )

    def _way_out(self, switch: str, value: Any) -> str:
        offers = f"it offers {', '.join(self.offers)}" if self.offers else "it offers nothing to set"
        return f"{offers}. To change it all the same, pass rmsprop.dialect({self.name!r}).replace({switch}={value!r})"

    def _unknown(self, switch: str) -> str:
        if switch in ("lr", "learning_rate"):
            default = "requires one" if self.lr is None else f"defaults to {self.lr:g}"
            return (
                f"dialect {self.name!r}: {switch} is not part of a rule, give it to the step or the optimizer "
                f"({self.title} {default})"
            )
        ours = next((mine for mine, theirs in self.words.items() if theirs == switch and mine in _SWITCHES), None)
        if ours is not None:
            return f"dialect {self.name!r}: unknown option {switch!r}; use {ours!r}"
        return f"dialect {self.name!r}: unknown option {switch!r}; {nearest(switch, _SWITCHES)}"


def _is_on(value: Any) -> bool:
    """True for True and for a number above 0; what is neither is left for `Rule` to refuse."""
    return isinstance(value, numbers.Real) and float(value) > 0


def nearest(word: str, known: Iterable[str], *, also: Iterable[str] = ()) -> str:
    """Say which known words are near to an unknown one: `did you mean 'torch'?`; `also` is matched, never listed."""
    known = list(known)
    close = difflib.get_close_matches(word, [*known, *also], n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    return f"expected one of {', '.join(known)}"
