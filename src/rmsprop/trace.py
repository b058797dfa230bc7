"""What a run leaves behind: plain arrays, a row per step.

Row t of `x` is the point before step t + 1, so x[0] is the start and x[-1] the end: one row more than there are steps.
`f` belongs to the points and has their rows; everything else belongs to the steps:

    update[t] = x[t + 1] - x[t]          grad[t], mean_sq[t], effective_lr[t]: what step t + 1 used at x[t]

`mean_sq` is the statistic that the step divided by, whatever the optimizer calls it: RMSprop's mean square, AdaGrad's
sum of squares, NaN for gradient descent and momentum, which keep none. Of a centered rule it is the mean square too,
grad_var + mean_grad^2, so that all runs can be drawn on one axis.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmsprop._files import write_atomically
from rmsprop.errors import FileError, InputError
from rmsprop.rule import Rule

__all__ = ["Recorder", "Trace"]

Array = NDArray[Any]
Path = str | os.PathLike[str]

_OF_POINTS = ("x", "f")
_OF_STEPS = ("grad", "mean_sq", "update", "effective_lr", "lr")
_SCALAR = ("f", "lr")
_FORMAT = "rmsprop-trace-1"
_FIRST_CAPACITY = 1024


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Trace:
    """Hold a run step by step; n is the number of parameters.

    A run of k starts at once has one axis more: (steps + 1, k, n) for (steps + 1, n), (steps + 1, k) for (steps + 1,).

    Attributes:
        x: The points, shape (steps + 1, n), each flattened.
        f: The objective at them, shape (steps + 1,); NaN where it was not computed.
        grad: The gradient at the point before the step, shape (steps, n).
        mean_sq: The statistic after it took in this gradient, shape (steps, n), in units of grad**2.
        update: What the step added to x, shape (steps, n).
        effective_lr: What the step multiplied the gradient (or its average) by, shape (steps, n).
        lr: The learning rate of each step, shape (steps,).
        optimizer: Its name: "rmsprop" or one of `rmsprop.baselines.names()`.
        rule: RMSprop's rule; None for a baseline.
        shape: The shape that one point had before it was flattened.

    Raises:
        InputError: Arrays whose shapes do not belong together.

    Example:
        >>> import rmsprop
        >>> run = rmsprop.minimize(lambda x: x @ x, [1.0, -2.0], jac=lambda x: 2 * x, lr=0.1, steps=50, trace=True)
        >>> run.trace
        Trace(rmsprop, 50 steps, n=2)
        >>> run.trace.x.shape, run.trace.grad.shape
        ((51, 2), (50, 2))
    """

    x: Array
    f: Array
    grad: Array
    mean_sq: Array
    update: Array
    effective_lr: Array
    lr: Array
    optimizer: str = "rmsprop"
    rule: Rule | None = None
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.x.ndim not in (2, 3) or not len(self.x):
            raise InputError(f"x: shape {self.x.shape}, expected (steps + 1, n) or (steps + 1, starts, n)")
        for name in _OF_POINTS + _OF_STEPS:
            expected = self._shape_of(name, self.steps)
            if (got := getattr(self, name).shape) != expected:
                raise InputError(f"{name}: shape {got}, expected {expected} like x: {self.x.shape}")

    def _shape_of(self, name: str, steps: int) -> tuple[int, ...]:
        rows = steps + 1 if name in _OF_POINTS else steps
        tail = () if name == "lr" else self.x.shape[1:-1] if name == "f" else self.x.shape[1:]
        return (rows, *tail)

    @property
    def steps(self) -> int:
        """How many steps were done."""
        return len(self.x) - 1

    def __len__(self) -> int:
        return self.steps

    def __repr__(self) -> str:
        starts = f", {self.x.shape[1]} starts" if self.x.ndim == 3 else ""
        return f"Trace({self.optimizer}, {self.steps} steps, n={self.x.shape[-1]}{starts})"

    def start(self, index: int) -> Trace:
        """Return the run of one start out of many, its arrays being views."""
        if self.x.ndim != 3:
            raise InputError("start: this run has one start only")
        arrays = {name: getattr(self, name) for name in _OF_POINTS + _OF_STEPS}
        return dataclasses.replace(self, **{k: a if k == "lr" else a[:, index] for k, a in arrays.items()})

    def to_dict(self) -> dict[str, Any]:
        """Return lists and plain values only, as `to_json` writes them; what JSON has no number for becomes text."""
        arrays = {name: _to_lists(getattr(self, name)) for name in _OF_POINTS + _OF_STEPS}
        return {**self._describe(), **arrays}

    def _describe(self) -> dict[str, Any]:
        rule = None if self.rule is None else dataclasses.asdict(self.rule)
        about = {"format": _FORMAT, "optimizer": self.optimizer, "rule": rule, "shape": list(self.shape)}
        return {**about, "dtype": self.x.dtype.name}

    def to_json(self, path: Path) -> None:
        """Write every array and the metadata, all digits kept; NaN and infinities as text ("nan", "inf", "-inf").

        A file that stood there before is replaced only when the new one is whole.
        """
        text = json.dumps(self.to_dict(), allow_nan=False)
        with write_atomically(_path(path)) as whole:
            whole.write_text(text, encoding="ascii")

    def to_npz(self, path: Path) -> None:
        """Write every array and the metadata in NumPy's own format, without pickle; replaced only when whole."""
        arrays = {name: getattr(self, name) for name in _OF_POINTS + _OF_STEPS}
        about = np.array(json.dumps(self._describe()))
        with write_atomically(_path(path)) as whole, open(whole, "wb") as file:
            np.savez(file, about=about, **arrays)

    def to_csv(self, path: Path) -> None:
        """Write a line per point: step, f, lr, x[0].., grad[0].., mean_sq[0].., update[0].., effective_lr[0]..

        The last point has no step, so its columns after f are empty. A run of many starts has a line per point and
        start, and a column `start`. All digits are kept; replaced only when whole.
        """
        import csv

        with write_atomically(_path(path)) as whole, open(whole, "w", encoding="ascii", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(self._lines())

    def _lines(self) -> Iterator[list[Any]]:
        many = self.x.ndim == 3
        per_step = ("grad", "mean_sq", "update", "effective_lr")
        columns = [f"{name}[{i}]" for name in ("x", *per_step) for i in range(self.x.shape[-1])]
        yield ["step", *(["start"] if many else []), "f", "lr", *columns]
        for start in range(self.x.shape[1]) if many else (None,):
            run = self if start is None else self.start(start)
            blank = [""] * (len(per_step) * run.x.shape[-1])
            for t in range(run.steps + 1):
                done = t == run.steps
                line = [t, *([start] if many else []), repr(float(run.f[t])), "" if done else repr(float(run.lr[t]))]
                values = blank if done else [_digits(v) for name in per_step for v in getattr(run, name)[t]]
                yield [*line, *(_digits(v) for v in run.x[t]), *values]

    @classmethod
    def from_json(cls, path: Path) -> Trace:
        """Read what `to_json` wrote.

        Raises:
            FileError: Not such a file, or one cut short.
            OSError: No file there, or one that may not be read.
        """
        with open(path, "rb") as file:
            content = file.read()
        try:
            about = json.loads(content)
            kinds = {
                name: np.float64 if name in _SCALAR else np.dtype(about["dtype"]) for name in _OF_POINTS + _OF_STEPS
            }
            return cls._build(about, {name: _from_lists(about[name], kind) for name, kind in kinds.items()})
        except _BROKEN as error:
            raise FileError(f"{os.fspath(path)}: not a trace written by to_json ({_reason(error)})") from error

    @classmethod
    def from_npz(cls, path: Path) -> Trace:
        """Read what `to_npz` wrote.

        Raises:
            FileError: Not such a file, or one cut short.
            OSError: No file there, or one that may not be read.
        """
        import zipfile

        with open(path, "rb") as file:
            try:
                # NpzFile is a context manager; a .npy file gives an array, which has no such method.
                with np.load(file, allow_pickle=False) as arrays:
                    about = json.loads(str(arrays["about"]))
                    return cls._build(about, {name: arrays[name] for name in _OF_POINTS + _OF_STEPS})
            except (*_BROKEN, zipfile.BadZipFile) as error:
                raise FileError(f"{os.fspath(path)}: not a trace written by to_npz ({_reason(error)})") from error

    @classmethod
    def _build(cls, about: dict[str, Any], arrays: dict[str, Array]) -> Trace:
        if about["format"] != _FORMAT:
            raise ValueError(f"format {about['format']!r}, expected {_FORMAT!r}")
        rule = None if about["rule"] is None else Rule().replace(**about["rule"])
        if len(arrays["x"]) == 1:
            # A list of no rows cannot say how long its rows are.
            row = arrays["x"].shape[1:]
            arrays |= {name: arrays[name].reshape((0, *row)) for name in _OF_STEPS if name != "lr"}
        return cls(**arrays, optimizer=str(about["optimizer"]), rule=rule, shape=tuple(map(int, about["shape"])))


class Recorder:
    """Fill a `Trace` while a run goes on: preallocated arrays that double when they are full.

    Args:
        x: The first point or points, shape (n,) or (starts, n); gives shape and dtype. Read.
        steps: How many steps to expect; more are allowed.

    Example:
        >>> import numpy as np
        >>> x = np.array([1.0, 2.0])
        >>> record = Recorder(x, steps=1)
        >>> record.point(x, f=5.0)
        >>> record.step(grad=2 * x, mean_sq=4 * x * x, effective_lr=0.05, lr=0.1)
        >>> record.point(x - 0.1 * x, f=4.05)
        >>> record.finish(optimizer="rmsprop").update
        array([[-0.1, -0.2]])
    """

    def __init__(self, x: Array, *, steps: int) -> None:
        self._points = self._steps = 0
        capacity = min(max(int(steps), 1), _FIRST_CAPACITY)
        self._arrays: dict[str, Array] = {
            name: np.empty(
                (capacity, *(() if name == "lr" else x.shape[:-1] if name == "f" else x.shape)), self._kind(name, x)
            )
            for name in _OF_POINTS + _OF_STEPS
            if name != "update"
        }

    @staticmethod
    def _kind(name: str, x: Array) -> Any:
        return np.float64 if name in _SCALAR else x.dtype

    def point(self, x: ArrayLike, *, f: ArrayLike = np.nan) -> None:
        """Add a point, of any shape with as many elements, and the objective there. Both are copied."""
        self._put(self._points, x=x, f=f)
        self._points += 1

    def step(self, *, grad: ArrayLike, mean_sq: ArrayLike, effective_lr: ArrayLike, lr: float) -> None:
        """Add what the step from the last point used. The arrays are copied; a number stands for all elements."""
        self._put(self._steps, grad=grad, mean_sq=mean_sq, effective_lr=effective_lr, lr=lr)
        self._steps += 1

    def _put(self, row: int, **values: ArrayLike) -> None:
        for name, value in values.items():
            array = self._arrays[name]
            if row == len(array):
                grown = np.empty((2 * row, *array.shape[1:]), array.dtype)
                grown[:row] = array
                self._arrays[name] = array = grown
            array[row] = value if np.ndim(value) == 0 else np.reshape(value, array.shape[1:])

    def finish(self, *, optimizer: str, rule: Rule | None = None, shape: tuple[int, ...] | None = None) -> Trace:
        """Return the trace of all points so far and of the steps between them."""
        steps = self._points - 1
        arrays = {n: a[: steps + 1 if n in _OF_POINTS else steps].copy() for n, a in self._arrays.items()}
        update = np.diff(arrays["x"], axis=0)
        shape = arrays["x"].shape[-1:] if shape is None else shape
        return Trace(**arrays, update=update, optimizer=optimizer, rule=rule, shape=shape)


_BROKEN = (ValueError, TypeError, KeyError, AttributeError, EOFError, zlib.error)
"""What reading a file of another kind, or half a file, raises."""


def _path(path: Path) -> pathlib.Path:
    return pathlib.Path(os.fspath(path))


def _reason(error: Exception) -> str:
    return f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)


def _digits(value: Any) -> str:
    """The shortest text that reads back to this value in its own dtype."""
    return str(value) if value.dtype == np.float32 else repr(float(value))


def _to_lists(array: Array) -> Any:
    if np.isfinite(array).all():
        return array.tolist()
    values = array.astype(object)
    values[~np.isfinite(array)] = [str(v) for v in array[~np.isfinite(array)].tolist()]
    return values.tolist()


def _from_lists(values: Any, dtype: Any) -> Array:
    # Through object, so that the text "nan" among numbers is read by float().
    return np.array(values, dtype=object).astype(np.float64).astype(dtype)
