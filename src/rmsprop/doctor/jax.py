"""The doctor for JAX: from the state of an optimizer to findings.

    updates, state = tx.update(grads, state, params)
    for finding in rmsprop.doctor.jax.examine(params, grads, state, lr=0.01, updates=updates): print(finding)

Outside `jit`: at most 4096 elements of each tensor are copied to the host.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from rmsprop import dialects
from rmsprop.doctor.findings import Finding, History
from rmsprop.doctor.measure import choose_grid, measure
from rmsprop.doctor.sample import Sample
from rmsprop.errors import InputError, StateError
from rmsprop.jax import RMSpropState
from rmsprop.rule import Rule

__all__ = ["examine", "take_samples"]

Tree = Any


def examine(params: Tree, grads: Tree, state: Any, *, history: History | None = None, **options: Any) -> list[Finding]:
    """Return what is wrong, tensor by tensor.

    Args:
        params: As for `take_samples`. Read.
        grads: As for `take_samples`. Read.
        state: As for `take_samples`. Read.
        history: Of the samples before: with it, only new findings are returned, and lag can be found.
        **options: `lr`, `updates`, `rule`, `step`, `seed`, as for `take_samples`.

    Raises:
        StateError: The state of another optimizer, by its name.
        InputError: Trees of different structure, or arrays of other shapes.

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
    return (history or History()).add(take_samples(params, grads, state, **options))


def take_samples(
    params: Tree,
    grads: Tree,
    state: Any,
    *,
    lr: float = math.nan,
    updates: Tree = None,
    rule: Rule | None = None,
    step: int | None = None,
    seed: int = 0,
) -> list[Sample]:
    """Return what `examine` judges, one sample for each tensor.

    Args:
        params: The parameters before the step. Read.
        grads: Their gradients, a tree like `params`. Read.
        state: The state after `tx.update`: of rmsprop.jax.rmsprop or optax.rmsprop, alone or inside a chain,
            optax.masked, optax.multi_transform (parameters of other optimizers are left out) or optax.MultiSteps
            (whose calls that only accumulate give no sample, and whose accumulated gradient is not known). Read.
        lr: Learning rate of the step; NaN: not known.
        updates: What `tx.update` returned, a tree like `params`; without it the step itself is not judged.
        rule: The rule. Default: "optax", with the centering and correction that the state shows. No state holds decay,
            eps or initial_scale: if they differ from optax's defaults, give the rule, or the findings are wrong.
        step: Steps done, where the state has no count.
        seed: Of the choice of elements in large tensors.
    """
    parts = list(_walk(state))
    states = _find_rmsprop(parts, state)
    accumulating = [part for part in parts if type(part).__name__ == "MultiStepsState"]
    if any(int(part.mini_step) for part in accumulating):
        return []  # no step was done
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    shapes = {path: jnp.shape(param) for path, param in leaves}
    all_grads = _align(structure, grads, "grads", shapes)
    all_updates = [None] * len(leaves) if updates is None else _align(structure, updates, "updates", shapes)
    known: dict[Any, dict[str, Any]] = {}
    for part in states:
        options = _read_state(part, rule, step)
        for path, statistics in _split_by_path(options.pop("statistics"), shapes).items():
            known[path] = {"statistics": statistics, **options}
    samples = []
    for (path, param), grad, update in zip(leaves, all_grads, all_updates):
        if grad is None or not jnp.size(param) or path not in known:
            continue
        options, name = dict(known[path]), _name(path)
        grid = choose_grid(jnp.shape(param), name, seed=seed)
        before = grid.take(param, jnp, _to_numpy)
        change = None
        if update is not None:  # as optax.apply_updates rounds it
            change = grid.take(param + update.astype(param.dtype), jnp, _to_numpy) - before
        finite = {"the gradient": jnp.isfinite(grad).all(), "the parameter": jnp.isfinite(param).all()}
        statistics = {key: grid.take(x, jnp, _to_numpy) for key, x in options.pop("statistics").items()}
        samples.append(
            measure(
                name,
                statistics=statistics,
                shape=jnp.shape(param),
                dtype=str(param.dtype),
                lr=float(lr),
                param=before,
                change=change,
                grad=None if accumulating else grid.take(grad, jnp, _to_numpy),
                not_finite=[words for words, is_good in finite.items() if not is_good],
                **options,
            )
        )
    return samples


def _walk(state: Any) -> Iterator[Any]:
    """Yield every named tuple inside a state."""
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        yield state
    if isinstance(state, (tuple, Mapping)):
        for part in state.values() if isinstance(state, Mapping) else state:
            yield from _walk(part)


def _find_rmsprop(parts: list[Any], state: Any) -> list[Any]:
    """Return the parts of a state that belong to RMSprop; optax.multi_transform has one for each label."""
    kinds = [type(part).__name__ for part in parts]
    wanted = ("ScaleByRms", "ScaleByRStdDev")
    found = [part for part, kind in zip(parts, kinds) if isinstance(part, RMSpropState) or kind.startswith(wanted)]
    if found:
        return found
    other = next((kind for kind in kinds if kind.startswith("ScaleBy")), kinds[0] if kinds else type(state).__name__)
    raise StateError(f"state: {other}, expected the state of rmsprop.jax.rmsprop or optax.rmsprop")


def _read_state(state: Any, rule: Rule | None, step: int | None) -> dict[str, Any]:
    """Return the arguments of `measure` that a state holds; each of the statistics is a tree."""
    statistics = {"mean_sq": "nu", "mean_grad": "mu", "grad_var": "grad_var"}
    trees = {name: getattr(state, field, None) for name, field in statistics.items()}
    has_count = "count" in state._fields
    is_uncorrected = has_count and not isinstance(state, RMSpropState)
    centered = trees["mean_grad"] is not None
    if rule is None:
        rule = dialects.dialect("optax", centered=centered, bias_correction=is_uncorrected)
    if rule.centered != centered:
        raise StateError(f"state: {'centered' if centered else 'not centered'}, but the rule is {rule!r}")
    return {
        "statistics": {name: tree for name, tree in trees.items() if tree is not None},
        "rule": rule,
        "step": int(state.count) if has_count else int(step or 0),
        "is_corrected": not is_uncorrected,
    }


def _align(structure: Any, tree: Tree, name: str, shapes: Mapping[Any, tuple[int, ...]]) -> list[Any]:
    """Return the leaves of a tree that is built like params."""
    try:
        leaves = list(structure.flatten_up_to(tree))
    except (ValueError, TypeError) as error:
        raise InputError(f"{name}: another structure, expected that of params: {error}") from error
    for leaf, (path, shape) in zip(leaves, shapes.items()):
        if leaf is not None and jnp.shape(leaf) != shape:
            raise InputError(f"{name}[{_name(path)!r}]: shape {jnp.shape(leaf)}, expected {shape} like params")
    return leaves


def _is_masked(x: Any) -> bool:
    return type(x).__name__ == "MaskedNode"


def _split_by_path(statistics: Mapping[str, Tree], shapes: Mapping[Any, tuple[int, ...]]) -> dict[Any, dict[str, Any]]:
    """Return {path: statistics} of the parameters that the state knows; a mask may cut off whole branches."""
    found: dict[Any, dict[str, Any]] = {}
    for kind, tree in statistics.items():
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_masked)[0]:
            if _is_masked(leaf):
                continue
            if path not in shapes or jnp.shape(leaf) != shapes[path]:
                expected = f"shape {shapes[path]} like params" if path in shapes else "the structure of params"
                raise InputError(f"state: {kind}[{_name(path)!r}] of shape {jnp.shape(leaf)}, expected {expected}")
            found.setdefault(path, {})[kind] = leaf
    return found


def _name(path: Any) -> str:
    return "/".join(str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path) or "0"


def _to_numpy(x: Any) -> NDArray[Any]:
    return np.asarray(x if x.dtype == jnp.float64 else x.astype(jnp.float32))
