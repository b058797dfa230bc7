"""The doctor for Keras: a callback for `fit`, on all three backends.

Keras gives a callback no gradients. Their size is estimated from the statistics before and after a step. Where several
steps make one call (steps_per_execution) that is not possible, and a sample shows only the statistics.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from rmsprop import _advice, dialects
from rmsprop.doctor.base import BaseWatch, logger
from rmsprop.doctor.measure import Grid, choose_grid, measure
from rmsprop.doctor.sample import Sample
from rmsprop.errors import InputError, InputTypeError
from rmsprop.keras import RMSprop
from rmsprop.rule import Rule

__all__ = ["Watch"]

Array = NDArray[Any]


class Watch(BaseWatch, keras.callbacks.Callback):
    """Take a sample of every variable of an RMSprop at regular batches, and log what is wrong.

    A second `fit` of the same model continues; one of another optimizer starts a new run in the folder.

    Args:
        every: Batches between samples, at least 1; the first one is sampled too.
        to: A folder for lines of JSON (doctor.jsonl) and TensorBoard's event files; None: nothing is written.
        budget: The share of the time that samples may take; a sample that comes too early waits. None: none waits.
        seed: Of the choice of elements in large variables.
        tensorboard: Whether to write event files. Default: if the package is installed.

    Attributes:
        samples: The latest sample of each variable, by its path.
        history: All findings, with how often each came.

    Raises:
        InputError: A number out of its domain; when training begins: the model is not compiled.
        InputTypeError: When training begins: the model's optimizer is not an RMSprop.

    Example:
        >>> import keras, numpy as np
        >>> from rmsprop.doctor.keras import Watch
        >>> model = keras.Sequential([keras.layers.Dense(1)])
        >>> model.compile(optimizer="rmsprop", loss="mse")
        >>> watch = Watch(every=2, budget=None)
        >>> _ = model.fit(np.ones((8, 3)), np.ones(8), batch_size=2, verbose=0, callbacks=[watch])
        >>> sorted({sample.step for sample in watch.samples.values()}), watch.findings
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
        keras.callbacks.Callback.__init__(self)
        BaseWatch.__init__(self, every=every, to=to, budget=budget, tensorboard=tensorboard)
        self._seed = seed
        self._grids: dict[tuple[str, tuple[int, ...]], Grid] = {}
        self._optimizer: Any = None
        self._has_warned = False
        self._before: tuple[int, dict[int, dict[str, Array]]] | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Check the optimizer, and open the files."""
        optimizer = _unwrap(getattr(self.model, "optimizer", None))
        if optimizer is None:
            raise InputError("model: not compiled, expected model.compile(optimizer=...) before the training")
        if not isinstance(optimizer, (RMSprop, keras.optimizers.RMSprop)):
            kind = type(optimizer)
            raise InputTypeError(
                f"optimizer: {kind.__module__}.{kind.__qualname__}, expected keras.optimizers.RMSprop or "
                "rmsprop.keras.RMSprop"
            )
        self.first = frozenset({1, _advice.measure_start(_rule_of(optimizer)).at})
        self.reopen(new_run=self._optimizer not in (None, optimizer))
        self._optimizer, self._before = optimizer, None

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Gather what the step is going to change."""
        if self._is_due():
            with self._measure_time():
                optimizer = _unwrap(self.model.optimizer)  # on JAX, `self.model` updates the variables
                # TensorFlow builds the optimizer inside the first step, which then has nothing to compare with.
                self._before = int(optimizer.iterations), self._gather(optimizer) if optimizer.built else {}

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Compare."""
        if self._before is not None:
            with self._measure_time():
                optimizer = _unwrap(self.model.optimizer)
                (done, before), self._before = self._before, None
                steps = int(optimizer.iterations) - done
                if steps > 1 and not self._has_warned:
                    self._has_warned = True
                    logger.warning(
                        "%d steps make one call (steps_per_execution): samples show the statistics after it, not what "
                        "a step changes",
                        steps,
                    )
                if steps:
                    self._add(self._measure_after(optimizer, before, is_single=steps == 1))
                else:  # gradients are being accumulated: the next batch is sampled instead
                    self._is_waiting = True

    def on_train_end(self, logs: Any = None) -> None:
        """Close the files."""
        self.close()

    def _measure_after(self, optimizer: Any, before: dict[int, dict[str, Array]], *, is_single: bool) -> list[Sample]:
        rule, lr = _rule_of(optimizer), float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        samples = []
        for i, statistics in self._gather(optimizer).items():
            variable, after = optimizer._trainable_variables[i], statistics.pop("param")
            old = before.get(i) or _start_statistics(rule, statistics)
            param = old.pop("param", None) if is_single else None
            samples.append(
                measure(
                    variable.path,
                    rule,
                    statistics,
                    shape=tuple(variable.shape),
                    dtype=keras.backend.standardize_dtype(variable.dtype),
                    step=int(optimizer.iterations),
                    lr=lr,
                    param=param,
                    change=None if param is None else after - param,
                    before=old if is_single else None,
                )
            )
        return samples

    def _gather(self, optimizer: Any) -> dict[int, dict[str, Array]]:
        """Return {position: the parameter and the statistics}, their sampled elements."""
        is_own = isinstance(optimizer, RMSprop)
        squares = optimizer._squares if is_own else optimizer._velocities
        found = {}
        for i, variable in enumerate(optimizer._trainable_variables):
            if squares[i] is None or 0 in variable.shape:
                continue
            arrays = {"param": variable, "grad_var" if is_own and optimizer.centered else "mean_sq": squares[i]}
            if optimizer.centered:
                arrays["mean_grad"] = optimizer._average_gradients[i]
            key = variable.path, tuple(variable.shape)
            if key not in self._grids:
                self._grids[key] = choose_grid(key[1], variable.path, seed=self._seed)
            found[i] = {name: self._grids[key].take(array, keras.ops, _to_numpy) for name, array in arrays.items()}
        return found


def _to_numpy(x: Any) -> Array:
    wide = "float64" if keras.backend.standardize_dtype(x.dtype) == "float64" else "float32"
    return np.array(keras.ops.convert_to_numpy(keras.ops.cast(x, wide)))


def _unwrap(optimizer: Any) -> Any:
    """Return the optimizer inside a loss-scaling one."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _rule_of(optimizer: Any) -> Rule:
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


def _start_statistics(rule: Rule, like: dict[str, Array]) -> dict[str, Array]:
    """Return the statistics before the first step."""
    return {name: np.full_like(x, 0.0 if name == "mean_grad" else rule.init_value) for name, x in like.items()}
