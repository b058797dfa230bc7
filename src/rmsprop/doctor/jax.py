"""The doctor for JAX: a state goes in, findings come out.

    updates, state = tx.update(grads, state, params)
    for finding in rmsprop.doctor.jax.examine(params, grads, state, lr=0.01, updates=updates): print(finding)

Outside `jit`: arrays are copied to the host, at most 4096 elements of each tensor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from rmsprop import dialects, formula
from rmsprop.doctor.findings import Finding, History
from rmsprop.doctor.findings import examine as _examine
from rmsprop.doctor.measure import Look, Sample, measure
from rmsprop.doctor.sample import Grid, grid, units_last
from rmsprop.errors import InputError, StateError
from rmsprop.jax import RMSpropState
from rmsprop.jax._state import FIELDS
from rmsprop.rule import Rule

__all__ = ["examine", "look"]

Tree = Any


def examine(
    params: Tree,
    grads: Tree,
    state: Any,
    *,
    lr: float = math.nan,
    updates: Tree = None,
    rule: Rule | None = None,
    step: int | None = None,
    seed: int = 0,
    history: History | None = None,
) -> list[Finding]:
    """Return what is wrong, tensor by tensor.

    Args:
        params: The parameters before the step. Read.
        grads: Their gradients, a tree like `params`. Read.
        state: The state after `tx.update`: of rmsprop.jax.rmsprop or optax.rmsprop, alone or inside a chain,
            optax.masked, optax.multi_transform (parameters of other optimizers are left out) or optax.MultiSteps
            (whose calls that only collect show nothing, and whose collected gradient is not known). Read.
        lr: Learning rate of the step; NaN: not known.
        updates: What `tx.update` returned, a tree like `params`: without it nothing is said of the step itself.
        rule: The rule. Default: "optax", with the centering and correction that the state shows. No state holds decay,
            eps or initial_scale: with others than optax's defaults give the rule, or findings rest on the wrong ones.
        step: Steps done, where the state has no count.
        seed: Of the choice of elements in large tensors.
        history: Of the looks before: it remembers, so that only what is new is returned, and lag can be told.

    Raises:
        StateError: The state of another optimizer, by its name.
        InputError: Trees that are not built alike, or arrays of other shapes.

    Example:
        >>> import jax.numpy as jnp, rmsprop, rmsprop.jax
        >>> from rmsprop.doctor.jax import examine
        >>> rule = rmsprop.Rule(rho=0.999)
        >>> params, grads = {"w": jnp.ones(3)}, {"w": jnp.ones(3)}
        >>> tx = rmsprop.jax.rmsprop(0.01, dialect=rule.replace(bias_correction=True))
        >>> updates, state = tx.update(grads, tx.init(params))
        >>> examine(params, grads, state, lr=0.01, updates=updates, rule=rule.replace(bias_correction=True))
        []
        >>> [finding.kind for finding in examine(params, grads, state, lr=0.01, updates=updates, rule=rule)]
        ['start']
    """
    looks = look(params, grads, state, lr=lr, updates=updates, rule=rule, step=step, seed=seed)
    if history is not None:
        return history.add(looks)
    return [finding for one in looks for finding in _examine(one)]


def look(
    params: Tree,
    grads: Tree,
    state: Any,
    *,
    lr: float = math.nan,
    updates: Tree = None,
    rule: Rule | None = None,
    step: int | None = None,
    seed: int = 0,
) -> list[Look]:
    """Return what `examine` judges, one look for each tensor; `Look.to_json` makes a line of a log of it."""
    parts = list(_parts(state))
    states = _found(parts, state)
    collecting = [part for part in parts if type(part).__name__ == "MultiStepsState"]
    if any(int(part.mini_step) for part in collecting):
        return []  # no step was done
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    shapes = {path: jnp.shape(param) for path, param in leaves}
    flat = {
        name: _like(structure, tree, name, shapes)
        for name, tree in {"grads": grads, "updates": updates}.items()
        if tree is not None
    }
    known: dict[Any, tuple[dict[str, Any], Rule, int]] = {}
    for found in states:
        statistics, own, count = _statistics(found, rule, step)
        for path, arrays in _by_path(statistics, shapes).items():
            known[path] = arrays, own, count
    looks = []
    for i, (path, param) in enumerate(leaves):
        grad = flat["grads"][i]
        if grad is None or not jnp.size(param) or path not in known:
            continue
        arrays, own, count = known[path]
        name, shape = _name(path), jnp.shape(param)
        last = units_last(name) and len(shape) > 1
        chosen = grid((shape[-1], *shape[:-1]) if last else shape, seed=seed)
        start = _taken(param, chosen, last)
        update = None
        if updates is not None:
            moved = param + flat["updates"][i].astype(param.dtype)  # as optax.apply_updates rounds it
            update = _taken(moved, chosen, last) - start
        looks.append(
            measure(
                Sample(
                    tensor=name,
                    shape=shape,
                    dtype=str(param.dtype),
                    step=count,
                    lr=float(lr),
                    rule=own,
                    buffers={kind: _taken(array, chosen, last) for kind, array in arrays.items()},
                    param=start,
                    update=update,
                    grad=None if collecting else _taken(grad, chosen, last),
                    finite=bool(jnp.isfinite(grad).all()),
                    not_finite=() if bool(jnp.isfinite(param).all()) else ("the parameter",),
                )
            )
        )
    return looks


def _found(parts: list[Any], state: Any) -> list[Any]:
    """Return the parts of a state that belong to RMSprop; optax.multi_transform has one for each label.

    Raises:
        StateError: There is none, or another optimizer's.
    """
    kinds = [type(part).__name__ for part in parts]
    wanted = ("ScaleByRms", "ScaleByRStdDev")
    own = [part for part, kind in zip(parts, kinds) if isinstance(part, RMSpropState) or kind.startswith(wanted)]
    if own:
        return own
    other = next((kind for kind in kinds if kind.startswith("ScaleBy")), kinds[0] if kinds else type(state).__name__)
    raise StateError(f"state: {other}, expected the state of rmsprop.jax.rmsprop or optax.rmsprop")


def _parts(state: Any) -> Iterator[Any]:
    if isinstance(state, tuple):
        if hasattr(state, "_fields"):
            yield state
        for part in state:
            yield from _parts(part)
    elif isinstance(state, Mapping):
        for part in state.values():
            yield from _parts(part)


def _statistics(found: Any, rule: Rule | None, step: int | None) -> tuple[dict[str, Tree], Rule, int]:
    """Return the statistics as this library keeps them, the rule, and the steps done."""
    fields = set(found._fields)
    count = int(found.count) if "count" in fields else int(step or 0)
    own = isinstance(found, RMSpropState)
    centered = found.mu is not None if own else "mu" in fields
    if rule is None:
        rule = dialects.dialect("optax", centered=centered, bias_correction=not own and "count" in fields)
    if rule.centered != centered:
        raise StateError(f"state: {'centered' if centered else 'not centered'}, but the rule is {rule!r}")
    if own:
        kept = ("mean_grad", "grad_var") if centered else ("mean_sq",)
        return {name: getattr(found, FIELDS[name]) for name in kept}, rule, count
    weight = formula.bias_divisor(rule.rho, count) if "count" in fields and count else 1.0
    if not centered:
        return {"mean_sq": jax.tree.map(lambda v: v / weight, found.nu)}, rule, count
    mean = jax.tree.map(lambda m: m / weight, found.mu)
    variance = jax.tree.map(lambda v, m: jnp.maximum(v / weight - m * m, 0), found.nu, mean)
    return {"mean_grad": mean, "grad_var": variance}, rule, count


def _like(structure: Any, tree: Tree, name: str, shapes: Mapping[Any, tuple[int, ...]]) -> list[Any]:
    try:
        leaves = list(structure.flatten_up_to(tree))
    except (ValueError, TypeError) as error:
        raise InputError(f"{name}: another structure, expected that of params: {error}") from error
    for leaf, (path, shape) in zip(leaves, shapes.items()):
        if leaf is not None and jnp.shape(leaf) != shape:
            raise InputError(f"{name}[{_name(path)!r}]: shape {jnp.shape(leaf)}, expected {shape} like params")
    return leaves


def _masked(x: Any) -> bool:
    return type(x).__name__ == "MaskedNode"


def _by_path(statistics: Mapping[str, Tree], shapes: Mapping[Any, tuple[int, ...]]) -> dict[Any, dict[str, Any]]:
    """Return {path: statistics} of the parameters that the state knows; a mask may cut off whole branches.

    Raises:
        InputError: The state of other parameters.
    """
    found: dict[Any, dict[str, Any]] = {}
    for kind, tree in statistics.items():
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree, is_leaf=_masked)[0]:
            if _masked(leaf):
                continue
            if path not in shapes or jnp.shape(leaf) != shapes[path]:
                expected = f"shape {shapes[path]} like params" if path in shapes else "the structure of params"
                raise InputError(f"state: {kind}[{_name(path)!r}] of shape {jnp.shape(leaf)}, expected {expected}")
            found.setdefault(path, {})[kind] = leaf
    return found


def _name(path: Any) -> str:
    return "/".join(str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path) or "0"


def _taken(x: Any, chosen: Grid, last: bool) -> NDArray[Any]:
    """Return the elements that are looked at, float32 or float64; gathered on the device."""
    matrix = jnp.reshape(jnp.moveaxis(x, -1, 0) if last else x, chosen.shape)
    if not chosen.whole:
        matrix = matrix[jnp.asarray(chosen.rows)[:, None], jnp.asarray(chosen.columns)]
    wide = matrix if matrix.dtype == jnp.float64 else matrix.astype(jnp.float32)
    return np.asarray(wide)
