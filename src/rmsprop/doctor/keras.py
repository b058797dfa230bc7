"""The doctor for Keras: a callback for `fit`, on all three backends.

Keras hands a callback no gradients. Their size is read off the statistics before and after a step,
g^2 = (v' - rho v) / (1 - rho), and where the rule is centered g itself off the mean. Where several steps make one call
(steps_per_execution) that cannot be told, and a look sees the statistics alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from rmsprop import _advice, dialects, formula
from rmsprop.doctor.findings import Finding, History
from rmsprop.doctor.look import Look, Sample
from rmsprop.doctor.measure import measure
from rmsprop.doctor.sample import Grid, grid, units_last
from rmsprop.doctor.watching import Watching
from rmsprop.errors import InputError, InputTypeError
from rmsprop.keras import RMSprop
from rmsprop.rule import Rule

__all__ = ["Watch"]

Array = NDArray[Any]
_ROUNDING = 1e-5
"""g^2 below this share of v cannot be told from the rounding of v in float32: taken as 0."""


class Watch(keras.callbacks.Callback):
    """Look at every variable of an RMSprop every so many batches, and say what is wrong.

    A second `fit` of the same model goes on; one of another optimizer begins anew, as another run in the folder.

    Args:
        every: Batches from look to look, at least 1; the first one is looked at too.
        to: A folder for lines of JSON (doctor.jsonl) and TensorBoard's event files; None: nothing is written.
        budget: The share of the time that looks may take; a look that comes too early waits. None: none waits.
        seed: Of the choice of elements in large variables.
        tensorboard: Whether to write event files. Default: if the package is installed.

    Raises:
        InputError: A number out of its domain; when training begins: the model is not compiled.
        InputTypeError: When training begins: the model's optimizer is no RMSprop.

    Example:
        >>> import keras, numpy as np
        >>> from rmsprop.doctor.keras import Watch
        >>> model = keras.Sequential([keras.layers.Dense(1)])
        >>> model.compile(optimizer="rmsprop", loss="mse")
        >>> watch = Watch(every=2, budget=None)
        >>> _ = model.fit(np.ones((8, 3)), np.ones(8), batch_size=2, verbose=0, callbacks=[watch])
        >>> sorted({look.step for look in watch.looks.values()}), watch.findings
        ([4], [])
    """

    def __init__(
        self,
        every: int = 100,
        to: str | Path | None = None,
        *,
        budget: float | None = 0.01,
        seed: int = 0,
        tensorboard: bool | None = None,
    ) -> None:
        super().__init__()
        self._watching = Watching(every=every, to=to, budget=budget, tensorboard=tensorboard)
        self._seed = seed
        self._grids: dict[tuple[tuple[int, ...], bool], Grid] = {}
        self._optimizer: Any = None
        self._said = False
        self._before: tuple[int, dict[int, tuple[Array, dict[str, Array]]]] | None = None

    @property
    def looks(self) -> dict[str, Look]:
        """The latest look of each variable, by its path."""
        return self._watching.looks

    @property
    def history(self) -> History:
        """All findings, with how often each came."""
        return self._watching.history

    @property
    def findings(self) -> list[Finding]:
        """The first finding of each kind and variable."""
        return self._watching.findings

    def on_train_begin(self, logs: Any = None) -> None:
        """Refuse what is no RMSprop, and open the files."""
        optimizer = _inner(getattr(self.model, "optimizer", None))
        if optimizer is None:
            raise InputError("model: not compiled, expected model.compile(optimizer=...) before the training")
        if not isinstance(optimizer, (RMSprop, keras.optimizers.RMSprop)):
            kind = type(optimizer)
            raise InputTypeError(
                f"optimizer: {kind.__module__}.{kind.__qualname__}, expected keras.optimizers.RMSprop or "
                "rmsprop.keras.RMSprop"
            )
        self._watching.first = frozenset({1, _advice.start(_rule(optimizer)).at})
        self._watching.begin(anew=self._optimizer not in (None, optimizer))
        self._optimizer, self._before = optimizer, None

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Keep what the step is going to change."""
        if self._watching.due():
            self._watching.timed(self._look)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Compare."""
        if self._before is not None:
            self._watching.timed(self._judge)

    def on_train_end(self, logs: Any = None) -> None:
        """Close the files."""
        self._watching.close()

    def _look(self) -> None:
        optimizer = _inner(self.model.optimizer)  # on JAX, `self.model` brings the variables up to date
        # TensorFlow's is built inside the first step, whose length is then not measured.
        self._before = (int(optimizer.iterations), self._values(optimizer)) if optimizer.built else (0, {})

    def _judge(self) -> None:
        assert self._before is not None
        (done, before), self._before = self._before, None
        optimizer = _inner(self.model.optimizer)
        step = int(optimizer.iterations)
        if step == done:  # gradients are being accumulated
            self._watching.again()
            return
        whole = step == done + 1
        if not whole and not self._said:
            self._said = True
            self._watching.say(
                f"{step - done} steps make one call (steps_per_execution): looks see the statistics after it, not "
                "what a step does"
            )
        rule, lr = _rule(optimizer), float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        looks = []
        for i, (param, buffers) in self._values(optimizer).items():
            variable = optimizer._trainable_variables[i]
            start, old = before[i] if before else (None, _started(rule, buffers))
            if not whole:
                start = None
            sample = Sample(
                tensor=variable.path,
                shape=tuple(variable.shape),
                dtype=keras.backend.standardize_dtype(variable.dtype),
                step=step,
                lr=lr,
                rule=rule,
                buffers=buffers,
                param=start,
                update=None if start is None else param - start,
                grad=_gradient(rule, step, old, buffers) if whole else None,
                before=formula.mean_square(old) if whole else None,
            )
            looks.append(measure(sample))
        self._watching.take(looks)

    def _values(self, optimizer: Any) -> dict[int, tuple[Array, dict[str, Array]]]:
        """Return {position: (parameter, statistics)}, the elements that are looked at."""
        squares = optimizer._squares if isinstance(optimizer, RMSprop) else optimizer._velocities
        found = {}
        for i, variable in enumerate(optimizer._trainable_variables):
            if squares[i] is None or 0 in variable.shape:
                continue
            square = self._taken(variable, squares[i])
            if not optimizer.centered:
                buffers = {"mean_sq": square}
            else:
                mean = self._taken(variable, optimizer._average_gradients[i])
                own = isinstance(optimizer, RMSprop)
                buffers = {"mean_grad": mean, "grad_var": square if own else np.maximum(square - mean * mean, 0)}
            found[i] = self._taken(variable, variable), buffers
        return found

    def _taken(self, variable: Any, array: Any) -> Array:
        """Return a copy of the elements of `array` that are looked at, float32 or float64; gathered on the device."""
        shape = tuple(variable.shape)
        last = units_last(variable.path) and len(shape) > 1
        if (shape, last) not in self._grids:
            self._grids[shape, last] = grid((shape[-1], *shape[:-1]) if last else shape, seed=self._seed)
        chosen = self._grids[shape, last]
        matrix = keras.ops.reshape(array, chosen.shape[::-1] if last else chosen.shape)
        if not chosen.whole:
            rows, columns = (chosen.columns, chosen.rows) if last else (chosen.rows, chosen.columns)
            matrix = keras.ops.take(keras.ops.take(matrix, rows, axis=0), columns, axis=1)
        wide = "float64" if keras.backend.standardize_dtype(array.dtype) == "float64" else "float32"
        found = keras.ops.convert_to_numpy(keras.ops.cast(matrix, wide))
        return np.array(found.T if last else found)


def _inner(optimizer: Any) -> Any:
    """Return the optimizer inside a loss-scaling one."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _rule(optimizer: Any) -> Rule:
    if isinstance(optimizer, RMSprop):
        return optimizer.rule
    changes = {"momentum": float(optimizer.momentum), "weight_decay": float(optimizer.weight_decay or 0.0)}
    return dialects.dialect(
        "keras3",
        rho=float(optimizer.rho),
        eps=float(optimizer.epsilon),
        centered=bool(optimizer.centered),
        **{name: value for name, value in changes.items() if value},
    )


def _started(rule: Rule, buffers: dict[str, Array]) -> dict[str, Array]:
    """Return the statistics before the first step."""
    start = {"mean_sq": rule.init_value, "grad_var": rule.init_value}
    return {name: np.full_like(array, start.get(name, 0.0)) for name, array in buffers.items()}


def _gradient(rule: Rule, step: int, old: dict[str, Array], new: dict[str, Array]) -> Array | None:
    """Return the gradient of the step, for what is not centered without its sign."""
    rho, fresh = formula.decay(rule.rho, step if rule.bias_correction else None)
    if not fresh:
        return None
    if rule.centered:
        move = new["mean_grad"].astype(np.float64) - old["mean_grad"]
        return move / fresh + old["mean_grad"]
    square = (new["mean_sq"].astype(np.float64) - rho * old["mean_sq"]) / fresh
    return np.sqrt(np.where(square > _ROUNDING * new["mean_sq"], square, 0.0))
