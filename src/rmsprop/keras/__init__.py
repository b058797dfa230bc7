"""RMSprop for Keras 3: an optimizer for all three backends, in any dialect.

    model.compile(optimizer=rmsprop.keras.RMSprop(1e-3), ...)                        same signature as Keras
    model.compile(optimizer=rmsprop.keras.RMSprop(2.5e-4, dialect="tensorflow1"))    the numbers of TensorFlow 1

The arithmetic is `rmsprop.formula` in Keras's operations; on the torch backend, variables on the CPU take the
compiled step. Statistics are float32, also for 16-bit variables, or float64.

Variables, in Keras's order and under Keras's names: `<w>_velocity` (mean_sq), `<w>_momentum` and
`<w>_average_gradient`. A centered rule keeps `<w>_variance` in place of the velocity: what Keras computes as
velocity - average_gradient**2, which rounding turns negative. Saved uncentered states are Keras's own, both ways. A
centered state carries a mark, so that Keras does not load it as its own. A centered state of Keras is converted when
it is loaded; `keras_weights` converts the other way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rmsprop.errors import MissingDependency

try:
    import keras
except ImportError as error:
    raise MissingDependency.of("keras", extra="keras", purpose="rmsprop.keras") from error

from rmsprop import _advice, _xla, formula
from rmsprop.errors import InputTypeError
from rmsprop.keras._ops import OPS, dense
from rmsprop.keras._saving import Saved, add_weight_decay
from rmsprop.rule import Rule
from rmsprop.select import check_option_names, select

__all__ = ["RMSprop"]

_NAMES = {"mean_sq": "velocity", "grad_var": "variance", "momentum_buf": "momentum", "mean_grad": "average_gradient"}


@keras.saving.register_keras_serializable(package="rmsprop")
class RMSprop(Saved):
    """Keras's RMSprop, or the one that `dialect` names.

    v <- rho v + (1 - rho) g^2;  w <- w - lr g / sqrt(v + epsilon), and what the switches of `rmsprop.Rule` add.

    Args:
        learning_rate: A float, at least 0, a `keras.optimizers.schedules.LearningRateSchedule`, or a function without
            arguments. None, here and below: the dialect's own (0.001 where the dialect has no default). Without a
            dialect these are Keras's defaults.
        rho: Decay of the moving averages, in [0, 1] (Keras: 0.9).
        momentum: Decay of the momentum buffer, in [0, 1).
        epsilon: In units of grad**2 inside the root, of grad outside; the dialect decides where (Keras: 1e-7).
        centered: Divide by the standard deviation of the gradient instead of its root mean square.
        weight_decay: Strength; where it acts is the dialect's (Keras: times the learning rate, off the weight).
        clipnorm: Clip each gradient to this norm.
        clipvalue: Clip each element to this magnitude.
        global_clipnorm: Clip all gradients together to this norm.
        use_ema: Keep a moving average of the weights.
        ema_momentum: Decay of that average.
        ema_overwrite_frequency: Steps after which it replaces the weights; None: at the end of `fit`.
        loss_scale_factor: Multiplies the loss, divides the gradients.
        gradient_accumulation_steps: Batches whose gradients are averaged for one step.
        name: Name of the optimizer.
        dialect: A name of `rmsprop.dialects` or a `Rule`: what decides rho, momentum, epsilon, centered and
            weight_decay where they are None. An option that the dialect does not have raises, and so does one that
            contradicts a `Rule`. Default: "keras3".

    Attributes:
        rule: The `Rule`. Read only, with `rho`, `momentum`, `epsilon` and `centered`.

    Raises:
        RuleError: A rule that cannot exist, or an option that the dialect does not have.
        InputTypeError: In `build`: a variable that is not floating; in `apply`: a sparse gradient, for a dialect
            that updates only its rows.

    Example:
        >>> import keras, numpy as np, rmsprop.keras
        >>> weights = keras.Variable([0.2, 0.4, 0.6])
        >>> optimizer = rmsprop.keras.RMSprop(0.01)
        >>> _ = optimizer.apply([keras.ops.array([-0.5, 0.3, 0.24])], [weights])
        >>> print(np.round(keras.ops.convert_to_numpy(weights), 4))
        [0.2316 0.3684 0.5684]

    Differs: `centered` is never NaN; rows that a gradient names twice are summed before they are squared, also on the
    TensorFlow backend, and before clipping; weight decay is not rounded to float32.

    Source: keras-team/keras, keras/src/optimizers/rmsprop.py, 3.15.1, for the signature; the rules: `rmsprop.dialects`.
    """

    @check_option_names
    def __init__(
        self,
        learning_rate: Any = None,
        rho: float | None = None,
        momentum: float | None = None,
        epsilon: float | None = None,
        centered: bool | None = None,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        *,
        dialect: str | Rule | None = None,
    ) -> None:
        options = {"rho": rho, "momentum": momentum, "eps": epsilon, "centered": centered, "weight_decay": weight_decay}
        rule, dialect, row, lr = select(dialect, options, default="keras3", words={"eps": "epsilon"})
        learning_rate = lr if learning_rate is None else learning_rate
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=rule.weight_decay or None,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            ema_overwrite_frequency=ema_overwrite_frequency,
            loss_scale_factor=loss_scale_factor,
            gradient_accumulation_steps=gradient_accumulation_steps,
            name=name,
        )
        self._rule, self._dialect = rule, dialect
        self._compiled: dict[tuple[Any, ...], Any] = {}
        self._lazy = row is not None and row.sparse == "lazy"
        if isinstance(learning_rate, (int, float)):
            _advice.log(_advice.advise(rule, float(learning_rate)), stacklevel=3)

    def __repr__(self) -> str:
        return f"RMSprop(dialect={self._dialect!r}, {self.rule!r})"

    rho = property(lambda self: self._rule.rho)
    momentum = property(lambda self: self._rule.momentum)
    epsilon = property(lambda self: self._rule.eps)
    centered = property(lambda self: self._rule.centered)

    def build(self, var_list: Sequence[Any]) -> None:
        """Create the statistics of these variables."""
        if self.built:
            return
        for variable in var_list:
            dtype = keras.backend.standardize_dtype(variable.dtype)
            if dtype not in ("float16", "bfloat16", "float32", "float64"):
                raise InputTypeError(f"variable {variable.name!r}: {dtype}, expected a floating dtype")
        super().build(var_list)
        rule = self._rule
        square = "grad_var" if rule.centered else "mean_sq"
        self._squares = self._statistics(var_list, square)
        self._momentums = self._statistics(var_list, "momentum_buf") if rule.buffer != "none" else []
        self._average_gradients = self._statistics(var_list, "mean_grad") if rule.centered else []
        if rule.weight_decay_mode == "decoupled_corrected":
            self._lr_max = self.add_variable((), dtype="float32", name="lr_max")

    def _statistics(self, var_list: Sequence[Any], buffer: str) -> list[Any]:
        start = self._rule.init_value if buffer in ("mean_sq", "grad_var") else 0.0
        initializer = keras.initializers.Constant(start)
        made: list[Any] = []
        for variable in var_list:
            if self._overwrite_variable_with_gradient(variable):
                made.append(None)
            elif keras.backend.standardize_dtype(variable.dtype) in ("float32", "float64"):
                made.append(self.add_variable_from_reference(variable, name=_NAMES[buffer], initializer=initializer))
            else:
                path = getattr(variable, "path", variable.name).replace("/", "_").replace(":", "_")
                made.append(
                    self.add_variable(
                        variable.shape, initializer=initializer, dtype="float32", name=f"{path}_{_NAMES[buffer]}"
                    )
                )
        return made

    def _buffers(self, variable: Any) -> dict[str, Any]:
        i = self._get_variable_index(variable)
        lists = {"mean_sq": self._squares, "grad_var": self._squares, "momentum_buf": self._momentums}
        return {name: lists.get(name, self._average_gradients)[i] for name in self._rule.buffers}

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Do one step; `grads` are read, variables written."""
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        if len(variables) == len(grads):  # else Keras has its own message
            grads = [self._dense(grad, variable) for grad, variable in zip(grads, variables)]
        return super().apply(grads, trainable_variables)

    def _dense(self, grad: Any, variable: Any) -> Any:
        full = dense(grad, variable)
        if self._lazy and full is not grad:
            raise InputTypeError(
                f"grads: rows of {variable.name!r}, and {self._dialect!r} updates these rows only, which this front "
                f"end does not; to update all rows, as if the others had gradient 0, pass dialect=rmsprop.dialect("
                f"{self._dialect!r}), a Rule"
            )
        return full

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Nothing: the step decays, in the place that the rule names."""

    def _rule_of(self, variable: Any) -> Rule:
        rule = self.rule
        return rule if not rule.weight_decay or self._use_weight_decay(variable) else add_weight_decay(rule, 0.0)

    def _backend_update_step(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        if self._rule.weight_decay_mode == "decoupled_corrected":
            self._lr_max.assign(keras.ops.maximum(self._lr_max, keras.ops.cast(learning_rate, "float32")))
        if keras.backend.backend() == "tensorflow":
            from rmsprop.keras._tensorflow import can_compile, compile_update

            if can_compile():
                key = (self.rule, *map(id, trainable_variables))  # weight_decay may be assigned
                if key not in self._compiled:
                    self._compiled[key] = compile_update(self.update_step, trainable_variables)
                self._compiled[key](grads, learning_rate)
                return
        if keras.backend.backend() != "torch":
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            return
        import torch

        from rmsprop.keras._torch import is_plain, kernel_step

        groups: dict[Rule, list[tuple[Any, Any, tuple[Any, ...]]]] = {}
        with torch.no_grad():
            for grad, variable in zip(grads, trainable_variables):
                buffers = self._buffers(variable)
                if is_plain(variable, grad, tuple(buffers.values())):
                    groups.setdefault(self._rule_of(variable), []).append((variable, grad, tuple(buffers.values())))
                else:
                    self.update_step(grad, variable, learning_rate)
            for rule, members in groups.items():
                variables, its_grads, its_buffers = zip(*members)
                corrected = rule.weight_decay_mode == "decoupled_corrected"
                kernel_step(
                    rule,
                    variables,
                    its_grads,
                    its_buffers,
                    lr=keras.ops.convert_to_numpy(learning_rate),
                    lr_max=float(keras.ops.convert_to_numpy(self._lr_max)) if corrected else 0.0,
                    step=int(self.iterations) + 1,
                )

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Do one step of one variable."""
        ops = keras.ops
        kept = self._buffers(variable)
        buffers = {name: ops.convert_to_tensor(buffer) for name, buffer in kept.items()}
        dtype = keras.backend.standardize_dtype(next(iter(kept.values())).dtype)
        rule = self._rule_of(variable)
        corrected = rule.weight_decay_mode == "decoupled_corrected"
        n = formula.numbers_of(
            rule,
            lr=ops.cast(learning_rate, dtype),
            step=ops.cast(self.iterations, dtype) + 1.0 if rule.bias_correction else 1,
            lr_max=ops.cast(self._lr_max, dtype) if corrected else None,
        )
        param = ops.cast(variable, dtype)
        new, statistics = _xla.step(param, ops.cast(gradient, dtype), buffers, rule, n, xp=OPS)
        self.assign(variable, ops.cast(new, variable.dtype))
        for name, buffer in kept.items():
            self.assign(buffer, statistics[name])
