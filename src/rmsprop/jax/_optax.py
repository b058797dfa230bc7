"""The state in optax's layout and back, wherever it is in a tree of states."""

from __future__ import annotations

from collections.abc import Callable
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


def to_optax(state: Tree, rule: Rule, *, schedule: bool = False) -> Tree:
    """Return a state with the states of optax.rmsprop in the place of this transformation's: nu and mu, count, trace.

    nu and mu are those of the state (centered: nu = grad_var + mu**2), without the correction for the start;
    trace = -momentum_buf.

    Args:
        state: An `RMSpropState`, or the state of a chain, of inject_hyperparams, MultiSteps and so on, with such states
            anywhere in it. Read.
        rule: The rule of these states: buffer "lr" or none, what optax can have.
        schedule: Whether the target's learning rate is a schedule, which keeps its count in the state.

    Raises:
        StateError: The rule's momentum buffer is not optax's, or there is no `RMSpropState` in the state.

    Example:
        >>> import jax.numpy as jnp, rmsprop.jax
        >>> rmsprop.jax.to_optax(rmsprop.jax.rmsprop(0.1).init(jnp.zeros(2)), rmsprop.dialect("optax"))[0].nu.tolist()
        [0.0, 0.0]

    Source: google-deepmind/optax, optax/_src/transform.py, 0.2.8.
    """
    _check_buffer(rule)

    def convert(node: Any, count: Any) -> Any:
        return _to_optax(node, rule, schedule) if isinstance(node, RMSpropState) else None

    return _exchange(state, convert, None, "RMSpropState")


def from_optax(state: Tree, rule: Rule, *, count: int | None = None) -> Tree:
    """Return a state with this transformation's states in the place of those of optax.rmsprop: `to_optax` reversed.

    grad_var = max(nu - mu**2, 0), as exact as that difference is.

    Args:
        state: What optax.rmsprop keeps, or the state of a chain, of inject_hyperparams, MultiSteps and so on, with such
            states anywhere in it; also as flax or Orbax restore it without a target, in dicts and lists. Read.
            Injected hyperparameters stay as they are: inject the same ones here.
        rule: The rule to go on with: the switches that the state was made with.
        count: Steps done, if the state does not hold it (no schedule, no bias correction). Default: 0.

    Raises:
        StateError: There is no state of optax.rmsprop in it, or one of another rule.

    Source: google-deepmind/optax, optax/_src/transform.py, 0.2.8.
    """
    _check_buffer(rule)

    def convert(node: Any, counted: Any) -> Any:
        parts = _as_parts(node)
        return None if parts is None else _from_optax(parts, rule, counted)

    return _exchange(state, convert, count, "state of optax.rmsprop")


def _exchange(state: Tree, convert: Callable[[Any, Any], Any], count: Any, wanted: str) -> Tree:
    """Rebuild a state tree with every node exchanged for which `convert(node, count)` is not None."""
    found = 0

    def walk(node: Any, count: Any) -> Any:
        nonlocal found
        converted = convert(node, count)
        if converted is not None:
            found += 1
            return converted
        if isinstance(node, dict):
            return {key: walk(child, count) for key, child in node.items()}
        if not isinstance(node, (tuple, list)):
            return node
        # The counters of inject_hyperparams and MultiSteps. A tuple without the field has a method `count`.
        for inner, name in (("inner_state", "count"), ("inner_opt_state", "gradient_step")):
            if count is None and {inner, name} <= {*_fields(node)}:
                count = getattr(node, name)
        children = [walk(child, count) for child in node]
        return type(node)(*children) if hasattr(node, "_fields") else type(node)(children)

    exchanged = walk(state, count)
    if not found:
        raise StateError(f"state: no {wanted} in a {type(state).__name__}")
    return exchanged


def _as_parts(node: Any) -> tuple[dict[str, Any], ...] | None:
    """Return the fields of the three states of optax.rmsprop, or of scale_by_rms alone; None for anything else."""
    if "nu" in _fields(node):
        names = set(node._fields)
        return None if type(node).__name__ == "ScaleByAdamState" else ({name: getattr(node, name) for name in names},)
    if isinstance(node, dict) and set(node) == {"0", "1", "2"}:
        node = [node["0"], node["1"], node["2"]]
    if not isinstance(node, (tuple, list)) or _fields(node) or len(node) != 3:
        return None
    parts = tuple(part if isinstance(part, dict) else {n: getattr(part, n) for n in _fields(part)} for part in node)
    return parts if "nu" in parts[0] and set(parts[2]) <= {"trace"} and set(parts[1]) <= {"count"} else None


def _to_optax(state: RMSpropState, rule: Rule, schedule: bool) -> tuple[Any, ...]:
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


def _from_optax(parts: tuple[dict[str, Any], ...], rule: Rule, count: Any) -> RMSpropState:
    first, scheduled, last = parts if len(parts) == 3 else (*parts, {}, {})
    for switch, there in (
        ("centered", "mu" in first),
        ("bias_correction", "count" in first),
        ("buffer", "trace" in last),
    ):
        if there != (getattr(rule, switch) not in (False, "none")):
            raise StateError(f"state: made {'with' if there else 'without'} {switch}, but the rule is {rule!r}")
    counted = [part["count"] for part in (first, scheduled) if "count" in part]
    steps = jnp.asarray(counted[0] if counted else 0 if count is None else count, jnp.int32)
    raw = jnp.where(steps > 0, _raw(rule, steps), 1.0) if rule.bias_correction else 1.0

    def widen(leaf: Array) -> Array:
        return jnp.asarray(leaf, state_dtype(leaf))

    buffers: dict[str, Tree] = {}
    if rule.centered:
        buffers["mu"] = jax.tree.map(lambda m: widen(m) / raw, first["mu"])
        buffers["grad_var"] = jax.tree.map(
            lambda v, m: jnp.maximum(widen(v) / raw - m * m, 0.0), first["nu"], buffers["mu"]
        )
    else:
        buffers["nu"] = jax.tree.map(lambda v: widen(jnp.real(v)) / raw, first["nu"])
    if rule.buffer != "none":
        buffers["momentum_buf"] = jax.tree.map(lambda t: -jnp.asarray(t, state_dtype(t, "momentum_buf")), last["trace"])
    return RMSpropState(steps, **buffers)


def _fields(part: Any) -> tuple[str, ...]:
    """Return the names of a NamedTuple; other values have none."""
    return getattr(part, "_fields", ())


def _check_buffer(rule: Rule) -> None:
    if rule.buffer == "unit":
        raise StateError("rule: buffer='unit', expected 'lr' or 'none': optax's trace has the learning rate inside")


def _raw(rule: Rule, count: Array) -> Any:
    """1 - rho**t, which optax divides by and this library has divided by already; 1 without bias correction."""
    return bias_divisor(rule.rho, count) if rule.bias_correction else 1.0
