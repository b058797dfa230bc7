"""The state in optax's layout and back."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from rmsprop.errors import StateError
from rmsprop.formula import bias_divisor
from rmsprop.jax._state import RMSpropState, state_dtype
from rmsprop.rule import Rule

__all__ = ["from_optax", "to_optax"]

Array = Any
Tree = Any


def to_optax(state: RMSpropState, rule: Rule, *, schedule: bool = False) -> tuple[Any, ...]:
    """Return the state that optax.rmsprop would hold: (nu and mu, count of a schedule, trace).

    nu and mu are those of the state (centered: nu = grad_var + mu**2), without the correction for the start;
    trace = -momentum_buf.

    Args:
        state: A state of this transformation. Read.
        rule: Its rule: buffer "lr" or none, what optax can have.
        schedule: Whether the target's learning rate is a schedule, which keeps its count in the state.

    Raises:
        StateError: The rule's momentum buffer is not optax's.

    Example:
        >>> import jax.numpy as jnp, rmsprop.jax
        >>> rmsprop.jax.to_optax(rmsprop.jax.rmsprop(0.1).init(jnp.zeros(2)), rmsprop.dialect("optax"))[0].nu.tolist()
        [0.0, 0.0]

    Source: google-deepmind/optax, optax/_src/transform.py, 0.2.8.
    """
    _check_buffer(rule)
    raw = _raw(rule, state.count)
    if rule.centered:
        mu = jax.tree.map(lambda m: m * raw, state.mu)
        nu = jax.tree.map(lambda s, m: (s + m * m) * raw, state.grad_var, state.mu)
        scale = optax.scale_by_stddev
        statistics = {"mu": mu, "nu": nu}
    else:
        scale = optax.scale_by_rms
        statistics = {"nu": jax.tree.map(lambda v: v * raw, state.nu)}
    if rule.bias_correction:
        statistics["count"] = state.count
    # The classes of the states with a count have no public name.
    kind = type(scale(bias_correction=rule.bias_correction).init(()))
    return (
        kind(**statistics),
        optax.ScaleByScheduleState(count=state.count) if schedule else optax.EmptyState(),
        optax.EmptyState()
        if rule.buffer == "none"
        else optax.TraceState(jax.tree.map(jnp.negative, state.momentum_buf)),
    )


def from_optax(state: tuple[Any, ...], rule: Rule, *, count: int | None = None) -> RMSpropState:
    """Return the state of this transformation from one of optax.rmsprop: the inverse of `to_optax`.

    grad_var = max(nu - mu**2, 0), as exact as that difference is.

    Args:
        state: What optax.rmsprop keeps: three states in a tuple. Read.
        rule: The rule to go on with: the switches that the state was made with.
        count: Steps done, where the state does not say (no schedule, no bias correction). Default: 0.

    Raises:
        StateError: A state of something else, or of another rule.

    Source: google-deepmind/optax, optax/_src/transform.py, 0.2.8.
    """
    _check_buffer(rule)
    if not (isinstance(state, tuple) and len(state) == 3 and "nu" in _fields(state[0])):
        raise StateError(f"state: a {type(state).__name__}, expected the three states of optax.rmsprop")
    first, scheduled, last = state
    for switch, there in (
        ("centered", "mu" in _fields(first)),
        ("bias_correction", "count" in _fields(first)),
        ("buffer", "trace" in _fields(last)),
    ):
        if there != (getattr(rule, switch) not in (False, "none")):
            raise StateError(f"state: made {'with' if there else 'without'} {switch}, but the rule is {rule!r}")
    counted = [part.count for part in (first, scheduled) if "count" in _fields(part)]
    steps = jnp.asarray(counted[0] if counted else count or 0, jnp.int32)
    raw = jnp.where(steps > 0, _raw(rule, steps), 1.0) if rule.bias_correction else 1.0

    def wide(leaf: Array) -> Array:
        return leaf.astype(state_dtype(leaf))

    buffers: dict[str, Tree] = {}
    if rule.centered:
        buffers["mu"] = jax.tree.map(lambda m: wide(m) / raw, first.mu)
        buffers["grad_var"] = jax.tree.map(
            lambda v, m: jnp.maximum(wide(v) / raw - m * m, 0.0), first.nu, buffers["mu"]
        )
    else:
        buffers["nu"] = jax.tree.map(lambda v: wide(jnp.real(v)) / raw, first.nu)
    if rule.buffer != "none":
        buffers["momentum_buf"] = jax.tree.map(lambda t: -t.astype(state_dtype(t, "momentum_buf")), last.trace)
    return RMSpropState(steps, **buffers)


def _fields(part: Any) -> tuple[str, ...]:
    """The names of a NamedTuple; a tuple without names has none (and a method `count`)."""
    return getattr(part, "_fields", ())


def _check_buffer(rule: Rule) -> None:
    if rule.buffer == "unit":
        raise StateError("rule: buffer='unit', expected 'lr' or 'none': optax's trace has the learning rate inside")


def _raw(rule: Rule, count: Array) -> Any:
    """1 - rho**t, which optax divides by and this library has divided by already; 1 without bias correction."""
    return bias_divisor(rule.rho, count) if rule.bias_correction else 1.0
