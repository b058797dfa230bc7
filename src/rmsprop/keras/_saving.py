"""What an optimizer for Keras writes and reads: its configuration, its state, Keras's own state."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from rmsprop.errors import StateError
from rmsprop.formula import bias_divisor
from rmsprop.rule import Rule

__all__ = ["Saved", "add_weight_decay"]

_MARK = "rule"


@functools.lru_cache(maxsize=64)
def add_weight_decay(rule: Rule, strength: float) -> Rule:
    """Return the rule with this weight decay, where the rule applies it, or where Keras does if the rule has none."""
    if rule.weight_decay == strength:
        return rule
    mode = "decoupled" if rule.weight_decay_mode == "none" else rule.weight_decay_mode
    return rule.replace(weight_decay=strength, weight_decay_mode=mode)


class Saved(keras.optimizers.Optimizer):
    """The part of `rmsprop.keras.RMSprop` that saves and loads."""

    _rule: Rule
    _dialect: str
    _squares: list[Any]
    _average_gradients: list[Any]

    @property
    def rule(self) -> Rule:
        """The rule that a step of a variable with weight decay follows."""
        return add_weight_decay(self._rule, float(self.weight_decay or 0.0))

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs for the same optimizer without its state."""
        rule = self.rule
        words = {"rho": rule.rho, "momentum": rule.momentum, "epsilon": rule.eps, "centered": rule.centered}
        return {
            **super().get_config(),
            **words,
            "dialect": rule.to_json() if self._dialect == "custom" else self._dialect,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """Return the optimizer that `get_config` described, or one of Keras's RMSprop."""
        dialect = config.get("dialect")
        if isinstance(dialect, str) and dialect.startswith("{"):
            config = {**config, "dialect": Rule.from_json(dialect)}
        return super().from_config(config, custom_objects)

    def save_own_variables(self, store: Any) -> None:
        """Write the state, in Keras's layout where it has one for it."""
        super().save_own_variables(store)
        if self._rule.centered or self._rule.bias_correction:
            store[_MARK] = np.frombuffer(self._rule.to_json().encode(), np.uint8)

    def load_own_variables(self, store: Any) -> None:
        """Read a state of this optimizer, or of Keras's RMSprop with the same options.

        Raises:
            StateError: A state of a rule that keeps other statistics. Nothing has changed then.
        """
        keys = list(store.keys())
        plain = {key: store[key] for key in keys if key != _MARK}
        marked = len(plain) < len(keys)
        if marked:
            theirs = Rule.from_json(bytes(np.asarray(store[_MARK])).decode())
            for switch in ("centered", "bias_correction"):
                if getattr(theirs, switch) != getattr(self._rule, switch):
                    raise StateError(
                        f"state: saved with {switch}={getattr(theirs, switch)}, but this optimizer has "
                        f"{switch}={getattr(self._rule, switch)}"
                    )
        super().load_own_variables(plain)
        if not marked and len(plain) == len(self.variables):
            self._translate(lambda v, m, raw: (np.maximum(v / raw - (m / raw) ** 2, 0), m / raw))

    def keras_weights(self) -> list[np.ndarray[Any, Any]]:
        """Return the state as Keras's RMSprop keeps it, for its `set_weights`; arrays are copies.

        velocity = variance + average_gradient**2, without the correction for the start.

        Raises:
            StateError: Keras has no place for it: a momentum buffer without the learning rate inside.
        """
        if self._rule.buffer == "unit" or self._rule.weight_decay_mode == "decoupled_corrected":
            raise StateError(f"Keras has no place for the state of {self._rule!r}")
        mine = {id(variable): np.array(keras.ops.convert_to_numpy(variable)) for variable in self.variables}

        def put(variable: Any, array: Any) -> None:
            mine[id(variable)] = array

        self._translate(lambda s, m, raw: ((s + m**2) * raw, m * raw), put=put)
        return [mine[id(variable)] for variable in self.variables]

    def _translate(self, change: Callable[..., tuple[Any, Any]], put: Any = None) -> None:
        """Put change(squares, means, 1 - rho**t) in place of the statistics that Keras keeps in another form."""
        rule, steps = self._rule, int(keras.ops.convert_to_numpy(self.iterations))
        if not rule.centered and not (rule.bias_correction and steps):
            return
        raw = bias_divisor(rule.rho, steps) if rule.bias_correction and steps else 1.0
        put = put or (lambda variable, array: variable.assign(array))
        for i, square in enumerate(self._squares):
            if square is None:
                continue
            mean = self._average_gradients[i] if rule.centered else None
            old = keras.ops.convert_to_numpy(square)
            new_square, new_mean = change(old, 0.0 if mean is None else keras.ops.convert_to_numpy(mean), raw)
            put(square, np.asarray(new_square, old.dtype))
            if mean is not None:
                put(mean, np.asarray(new_mean, old.dtype))
