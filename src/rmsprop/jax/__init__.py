"""RMSprop for JAX: an optax gradient transformation, in any dialect.

    tx = rmsprop.jax.rmsprop(1e-3)                          same signature as optax.rmsprop
    tx = rmsprop.jax.rmsprop(1e-3, dialect="tensorflow1")   the numbers of TensorFlow 1

The arithmetic is `rmsprop.formula`, in float32 or float64, in a form that XLA compiles without a temporary array
(`_step.py`). Numbers that are traced (`optax.inject_hyperparams`) stay traced.

Bytes per float32 parameter and step on a CPU, jitted with donation: 28 (XLA writes one array per loop), as optax.
"""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

from rmsprop.errors import MissingDependency

try:
    import jax
    import jax.numpy as jnp
    import optax
except ImportError as error:
    raise MissingDependency.of(str(error.name), extra="jax", purpose="rmsprop.jax") from error

from rmsprop import _advice, formula
from rmsprop.errors import InputError, InputTypeError, RuleError, StateError
from rmsprop.jax._optax import from_optax, to_optax
from rmsprop.jax._state import FIELDS, RMSpropState, state_dtype
from rmsprop.jax._step import complex_step, real_step
from rmsprop.rule import Rule
from rmsprop.select import Selection, check_option_names, select

__all__ = ["RMSpropState", "Transformation", "from_optax", "rmsprop", "scale_by_rms", "scale_by_stddev", "to_optax"]

Array = Any
Tree = Any

_NUMBERS = {"decay": ("rho", 0.5), "eps": ("eps", 1e-8), "initial_scale": ("init", 0.0), "momentum": ("momentum", 0.5)}
"""optax's name of a number -> this library's, and the value used for a traced one while the rule is selected."""
_WORDS = {"rho": "decay", "init": "initial_scale", "eps_mode": "eps_in_sqrt"}


class Transformation(optax.GradientTransformationExtraArgs):
    """An optax gradient transformation that knows its rule.

    Attributes:
        rule: The rule, as far as its numbers are not traced.
        dialect: The dialect's name, "custom" for a `Rule`.
    """

    rule: Rule
    dialect: str

    def __repr__(self) -> str:
        return f"rmsprop.jax.rmsprop(dialect={self.dialect!r}, {self.rule!r})"


@check_option_names
def rmsprop(
    learning_rate: optax.ScalarOrSchedule | None = None,
    decay: Any = None,
    eps: Any = None,
    initial_scale: Any = None,
    eps_in_sqrt: bool | None = None,
    centered: bool | None = None,
    momentum: Any = None,
    nesterov: bool | None = None,
    bias_correction: bool | None = None,
    *,
    dialect: str | Rule | None = None,
) -> Transformation:
    """Return optax.rmsprop, or the RMSprop that `dialect` names, as a gradient transformation.

    v <- decay v + (1 - decay) g^2;  update = -lr g / sqrt(v + eps), and what the switches of `rmsprop.Rule` add.

    Args:
        learning_rate: A number, a traced scalar, or an optax schedule of the step counted from 0. None: the
            dialect's own, if it has one; "optax" has none.
        decay: Decay of the moving averages, in [0, 1]. None, here and below: the dialect's own (optax: 0.9).
        eps: In units of grad**2 inside the root, of grad outside (optax: 1e-8).
        initial_scale: The mean square before the first step, in units of grad**2 (optax: 0).
        eps_in_sqrt: Whether eps is inside the root (optax: True).
        centered: Divide by the standard deviation of the gradient instead of its root mean square.
        momentum: Decay of the momentum buffer (optax: no buffer).
        nesterov: Add momentum * buffer once more.
        bias_correction: Correct the averages for their start at zero.
        dialect: A name of `rmsprop.dialects` or a `Rule`: what decides every argument that is None. An option that the
            dialect does not have raises, and so does one that contradicts a `Rule`. Default: "optax".

    Returns:
        `init(params)` -> `RMSpropState`, float32 statistics for 16-bit parameters; `update(grads, state, params=None)`
        -> updates of the gradients' dtype, to add to the parameters, and the new state. Only weight decay reads
        `params`. A gradient of None leaves its parameter and statistics unchanged.

    Raises:
        RuleError: A rule that cannot exist, or an option that the dialect does not have.
        InputError: lr is not finite; in `update`: params missing, another structure or shape.
        InputTypeError: A leaf that is not floating, or complex with a rule that is not defined for it.

    Example:
        >>> import jax.numpy as jnp, numpy as np, optax, rmsprop.jax
        >>> tx = rmsprop.jax.rmsprop(0.01)
        >>> theta = jnp.array([0.2, 0.4, 0.6])
        >>> state = tx.init(theta)
        >>> updates, state = tx.update(jnp.array([-0.5, 0.3, 0.24]), state)
        >>> print(np.round(np.asarray(optax.apply_updates(theta, updates)), 4))
        [0.2316 0.3684 0.5684]

    Differs: `centered` is never NaN (optax: at step 133 of a constant gradient); with `bias_correction` its first step
    divides by |grad| (optax: by 0). bias_correction with initial_scale above 0, and nesterov without momentum, raise.

    Source: google-deepmind/optax, optax/_src/alias.py, 0.2.8, for the signature; the rules: `rmsprop.dialects`.
    """
    numbers_ = {"decay": decay, "eps": eps, "initial_scale": initial_scale, "momentum": momentum}
    switches = {
        "eps_mode": _choose("eps_in_sqrt", eps_in_sqrt, "inside", "outside"),
        "centered": centered,
        "nesterov": _choose("nesterov", nesterov, "post", "none"),
        "bias_correction": bias_correction,
        # optax keeps a trace for every momentum but None
        "buffer": "lr" if momentum is not None and dialect is None else None,
    }
    options, traced = _split_traced(numbers_, dialect)
    selection = select(dialect, {**options, **switches}, default="optax", words=_WORDS)
    if learning_rate is None and selection.lr is None:
        raise InputTypeError(f"learning_rate: None, expected a number: dialect {selection.dialect!r} has no default")
    return _transformation(selection, selection.lr if learning_rate is None else learning_rate, traced)


@check_option_names
def scale_by_rms(
    decay: Any = None,
    eps: Any = None,
    initial_scale: Any = None,
    eps_in_sqrt: bool | None = None,
    bias_correction: bool | None = None,
    *,
    dialect: str | Rule | None = None,
) -> Transformation:
    """Return optax.scale_by_rms: the gradient divided by the root of its mean square, without a learning rate.

    update = g / sqrt(nu + eps). The arguments are those of `rmsprop`; a dialect's momentum and weight decay, which come
    after the division, raise.

    Example:
        >>> import jax.numpy as jnp, optax, rmsprop.jax
        >>> tx = optax.chain(rmsprop.jax.scale_by_rms(decay=0.75), optax.scale(-0.1))
        >>> updates, _ = tx.update(jnp.array([3.0]), tx.init(jnp.zeros(1)))
        >>> print(updates)
        [-0.2]

    Source: google-deepmind/optax, optax/_src/transform.py, 0.2.8.
    """
    return _as_scaling(rmsprop(1.0, decay, eps, initial_scale, eps_in_sqrt, None, None, None, bias_correction,
                            dialect=dialect), "scale_by_rms")  # fmt: skip


@check_option_names
def scale_by_stddev(
    decay: Any = None,
    eps: Any = None,
    initial_scale: Any = None,
    eps_in_sqrt: bool | None = None,
    bias_correction: bool | None = None,
    *,
    dialect: str | Rule | None = None,
) -> Transformation:
    """Return optax.scale_by_stddev: the gradient divided by its standard deviation, without a learning rate.

    As `scale_by_rms`, with centered=True.
    """
    return _as_scaling(rmsprop(1.0, decay, eps, initial_scale, eps_in_sqrt, True, None, None, bias_correction,
                            dialect=dialect), "scale_by_stddev")  # fmt: skip


def _as_scaling(transformation: Transformation, name: str) -> Transformation:
    """Turn a step down of length 1 into the scaled gradient."""
    rule = transformation.rule
    if rule.buffer != "none" or rule.weight_decay or rule.maximize:
        raise InputError(f"dialect: {rule!r} has more than {name} does; use rmsprop.jax.rmsprop")

    def update(updates: Tree, state: RMSpropState, params: Tree = None, **extra: Any) -> tuple[Tree, RMSpropState]:
        updates, state = transformation.update(updates, state, params, **extra)
        return jax.tree.map(jnp.negative, updates), state

    return _make_transformation(transformation.init, update, rule, transformation.dialect)


def _make_transformation(init: Any, update: Any, rule: Rule, dialect: str) -> Transformation:
    transformation = Transformation(init, update)
    transformation.rule, transformation.dialect = rule, dialect
    return transformation


def _transformation(selection: Selection, learning_rate: Any, numbers_: dict[str, Array]) -> Transformation:
    rule, row = selection.rule, selection.row
    lr = learning_rate if callable(learning_rate) else _check_lr(learning_rate)
    if isinstance(lr, float) and not numbers_:
        _advice.log(_advice.advise(rule, lr), stacklevel=4)
    # Numbers in arrays are arguments of the compiled update: other values compile nothing again.
    stand_ins = {switch: stand_in for switch, stand_in in _NUMBERS.values() if switch in numbers_}
    compiled = _compile_update(rule.replace(**stand_ins), row is None or row.complex == "abs2")

    def init(params: Tree) -> RMSpropState:
        def zeros(buffer: str) -> Callable[[Array], Array]:
            start = numbers_.get("init", rule.init_value) if buffer in ("mean_sq", "grad_var") else 0.0
            return lambda param: jnp.full_like(param, start, dtype=state_dtype(param, buffer))

        buffers = {FIELDS[name]: jax.tree.map(zeros(name), params) for name in rule.buffers}
        corrected = rule.weight_decay_mode == "decoupled_corrected"
        return RMSpropState(jnp.zeros([], jnp.int32), **buffers, lr_max=jnp.zeros([]) if corrected else None)

    def update(updates: Tree, state: RMSpropState, params: Tree = None, **_: Any) -> tuple[Tree, RMSpropState]:
        if not isinstance(state, RMSpropState):
            raise StateError(
                f"state: a {type(state).__name__}, expected the RMSpropState that init returned; "
                "rmsprop.jax.from_optax(state, rule) converts the state of optax.rmsprop"
            )
        if rule.weight_decay_mode == "none":
            params = None
        elif params is None:
            raise InputError(
                f"params: None, expected the parameters: weight decay of the mode {rule.weight_decay_mode!r} reads "
                "them; call update(grads, state, params)"
            )
        return compiled(updates, state, params, lr(state.count) if callable(lr) else lr, numbers_)

    return _make_transformation(init, update, rule, selection.dialect)


@functools.lru_cache(maxsize=256)
def _compile_update(rule: Rule, complex_fits: bool) -> Callable[..., tuple[Tree, RMSpropState]]:
    """Return the update of a rule as one compiled call; inside another jit it is a part of that one."""

    def update(
        updates: Tree, state: RMSpropState, params: Tree, lr: Any, numbers_: dict[str, Array]
    ) -> tuple[Tree, RMSpropState]:
        count = jnp.where(state.count < jnp.iinfo(jnp.int32).max, state.count + 1, state.count)
        lr_max = None if state.lr_max is None else jnp.maximum(state.lr_max, lr)
        paths, structure = jax.tree_util.tree_flatten_with_path(updates, is_leaf=lambda leaf: leaf is None)
        kept = [_like(structure, getattr(state, FIELDS[name]), f"state.{FIELDS[name]}") for name in rule.buffers]
        leaves = [None] * len(paths) if params is None else _like(structure, params, "params")
        deltas, news = [], []
        for (path, grad), param, *arrays in zip(paths, leaves, *kept):
            buffers = dict(zip(rule.buffers, arrays))
            if grad is not None:
                name = f"updates{jax.tree_util.keystr(path)}"
                if jnp.iscomplexobj(grad):
                    _check_complex(name, rule, complex_fits)
                _check_grad(name, grad, param, buffers)
                dtype = buffers[rule.buffers[0]].dtype
                given = {switch: _cast(value, dtype) for switch, value in numbers_.items() if switch != "init"}
                n = formula.numbers_of(rule, lr=_cast(lr, dtype), step=count, lr_max=_cast(lr_max, dtype), **given)
                step = complex_step if jnp.iscomplexobj(grad) else real_step
                delta, buffers = step(grad, param, buffers, rule, n)
            deltas.append(None if grad is None else delta.astype(grad.dtype))
            news.append(buffers)
        trees = {FIELDS[name]: structure.unflatten([new[name] for new in news]) for name in rule.buffers}
        return structure.unflatten(deltas), RMSpropState(count, **trees, lr_max=lr_max)

    return jax.jit(update, inline=True)


def _choose(word: str, flag: bool | None, on: str, off: str) -> str | None:
    """Return the switch that a flag of optax sets."""
    if flag not in (None, True, False):
        raise RuleError(f"{word}={flag!r}, expected True or False")
    return None if flag is None else on if flag else off


def _split_traced(given: Mapping[str, Any], dialect: str | Rule | None) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return numbers to select the rule by, in this library's words, and the traced ones that replace them."""
    options: dict[str, Any] = {}
    traced: dict[str, Array] = {}
    for word, (switch, stand_in) in _NUMBERS.items():
        value = given[word]
        if isinstance(value, jax.core.Tracer):
            traced[switch] = value
            value = getattr(dialect, switch) if isinstance(dialect, Rule) else stand_in
        elif isinstance(value, jax.Array):
            traced[switch] = value
            value = value.item()
        options[switch] = value
    if "momentum" in traced and isinstance(dialect, Rule) and dialect.buffer == "none":
        raise InputError("momentum: traced, but the given Rule keeps no momentum buffer")
    return options, traced


def _check_lr(lr: Any) -> Any:
    if isinstance(lr, bool) or not (isinstance(lr, (numbers.Real, jax.Array)) or getattr(lr, "shape", None) == ()):
        raise InputTypeError(f"learning_rate: {lr!r}, expected a number, a scalar array or a schedule")
    if isinstance(lr, jax.Array):
        return lr
    lr = float(lr)
    if not math.isfinite(lr):
        raise InputError(f"learning_rate: {lr}, expected a finite number")
    return lr


def _like(structure: Any, tree: Tree, name: str) -> list[Any]:
    try:
        return list(structure.flatten_up_to(tree))
    except (ValueError, TypeError) as error:
        raise InputError(f"{name}: another structure, expected that of updates: {error}") from error


def _check_grad(name: str, grad: Array, param: Array | None, buffers: Mapping[str, Array]) -> None:
    statistic = next(iter(buffers.values()))
    if not jnp.issubdtype(jnp.result_type(grad), jnp.inexact):
        raise InputTypeError(f"{name}: {jnp.result_type(grad)}, expected a floating or complex dtype")
    for other, array in (("the state", statistic), ("params", param)):
        if array is not None and jnp.shape(grad) != jnp.shape(array):
            raise InputError(f"{name}: shape {jnp.shape(grad)}, expected {jnp.shape(array)} like {other}")
    if statistic.dtype not in (jnp.float32, jnp.float64):
        raise StateError(f"state: statistics in {statistic.dtype}, expected float32 or float64")


def _check_complex(name: str, rule: Rule, fits: bool) -> None:
    if not fits or rule.centered or rule.maximize or rule.weight_decay_mode == "l2":
        raise InputTypeError(
            f"{name}: complex, and {'this dialect' if not fits else 'this rule'} is not defined here for complex "
            "parameters: expected optax's, |g|**2 without centered, l2 weight decay or maximize; or optimize real and "
            "imaginary parts apart (optax.contrib.split_real_and_imaginary)"
        )


def _cast(value: Any, dtype: Any) -> Any:
    return value.astype(dtype) if isinstance(value, jax.Array) else value
