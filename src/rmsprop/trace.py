"""The record of a run: plain arrays, a row per step.

Row t of `x` is the point before step t + 1, so x[0] is the start and x[-1] the end: one row more than there are steps.
`f` has a row per point too; everything else has a row per step:

    update[t] = x[t + 1] - x[t]          grad[t], mean_sq[t], effective_lr[t]: what step t + 1 used at x[t]

`mean_sq` is the statistic whose root the step divided by: RMSprop's mean square, AdaGrad's sum of squares, NaN for
gradient descent and momentum, which have none. For a centered rule it is the mean square too, grad_var + mean_grad^2,
so that all runs can be drawn on one axis.
"""

from __future__ import annotations

import dataclasses
import json
import os
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmsprop._files import write_atomically
from rmsprop._theme import save_png
from rmsprop.errors import FileError, InputError, MissingDependency, RMSpropError
from rmsprop.rule import Rule

__all__ = ["Recorder", "Trace"]

Array = NDArray[Any]
Path = str | os.PathLike[str]

_POINT_ARRAYS = ("x", "f")
_STEP_ARRAYS = ("grad", "mean_sq", "update", "effective_lr", "lr")
_ARRAYS = _POINT_ARRAYS + _STEP_ARRAYS
_SCALARS = ("f", "lr")
_FORMAT = "rmsprop-trace-1"
_FIRST_CAPACITY = 1024


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Trace:
    """A run step by step; n is the number of parameters.

    A run from k starts has one axis more: (steps + 1, k, n) for (steps + 1, n), (steps + 1, k) for (steps + 1,).
    A notebook shows it as the picture that `rmsprop.view.plot` draws, if matplotlib is installed.

    Attributes:
        x: The points, shape (steps + 1, n), each flattened.
        f: The objective at them, shape (steps + 1,); NaN where it was not computed.
        grad: The gradient at the point before the step, shape (steps, n).
        mean_sq: The statistic, this gradient included, shape (steps, n), in units of grad**2.
        update: The change of x, shape (steps, n).
        effective_lr: The factor by which the step multiplied the gradient (or its average), shape (steps, n).
        lr: The learning rate of each step, shape (steps,).
        optimizer: Its name: "rmsprop" or one of `rmsprop.baselines.names()`.
        rule: RMSprop's rule; None for a baseline.
        shape: The shape that one point had before it was flattened.
        function: The text of the function, if it was typed (`rmsprop.expression`); else None.

    Raises:
        InputError: Arrays whose shapes do not fit together.

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
    function: str | None = None

    def __post_init__(self) -> None:
        if self.x.ndim not in (2, 3) or not len(self.x):
            raise InputError(f"x: shape {self.x.shape}, expected (steps + 1, n) or (steps + 1, starts, n)")
        for name, array in self._get_arrays().items():
            rows = self.steps + (name in _POINT_ARRAYS)
            expected = (rows, *_get_row_shape(name, self.x.shape[1:]))
            if array.shape != expected:
                raise InputError(f"{name}: shape {array.shape}, expected {expected} like x: {self.x.shape}")

    def _get_arrays(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _ARRAYS}

    @property
    def steps(self) -> int:
        """How many steps were done."""
        return len(self.x) - 1

    def __len__(self) -> int:
        return self.steps

    def __repr__(self) -> str:
        starts = f", {self.x.shape[1]} starts" if self.x.ndim == 3 else ""
        return f"Trace({self.optimizer}, {self.steps} steps, n={self.x.shape[-1]}{starts})"

    def _repr_png_(self) -> bytes | None:
        """Return the picture for a notebook, or None where it cannot be drawn."""
        from rmsprop import view

        try:
            return save_png(view.plot(self), dpi=100.0)
        except RMSpropError:  # no matplotlib, or more starts than a picture holds
            return None

    def start(self, index: int) -> Trace:
        """Return the run from one of many starts; its arrays are views."""
        if self.x.ndim != 3:
            raise InputError("start: this run has only one start")
        arrays = self._get_arrays()
        return dataclasses.replace(self, **{k: a if k == "lr" else a[:, index] for k, a in arrays.items()})

    def to_dict(self) -> dict[str, Any]:
        """Return lists and plain values only, as `to_json` writes them; NaN and infinities become text."""
        return {**self._get_metadata(), **{name: _to_lists(array) for name, array in self._get_arrays().items()}}

    def _get_metadata(self) -> dict[str, Any]:
        rule = None if self.rule is None else dataclasses.asdict(self.rule)
        about = {"format": _FORMAT, "optimizer": self.optimizer, "rule": rule, "shape": list(self.shape)}
        return {**about, "function": self.function, "dtype": self.x.dtype.name}

    def to_json(self, path: Path) -> None:
        """Write all arrays and the metadata, with all digits; NaN and infinities as text ("nan", "inf", "-inf").

        The file is written atomically.
        """
        text = json.dumps(self.to_dict(), allow_nan=False)
        with write_atomically(os.fspath(path)) as temporary:
            temporary.write_text(text, encoding="ascii")

    def to_npz(self, path: Path) -> None:
        """Write all arrays and the metadata in NumPy's own format, without pickle; the file is written atomically."""
        about = np.array(json.dumps(self._get_metadata()))
        with write_atomically(os.fspath(path)) as temporary, open(temporary, "wb") as file:
            np.savez(file, about=about, **self._get_arrays())

    def to_csv(self, path: Path) -> None:
        """Write a line per point: step, f, lr, x[0].., grad[0].., mean_sq[0].., update[0].., effective_lr[0]..

        The last point has no step, so its columns after f are empty. A run from many starts has a line per point and
        start, and a column `start`. All digits are written, and the file is written atomically.
        """
        import csv

        with write_atomically(os.fspath(path)) as temporary, open(temporary, "w", encoding="ascii", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(self._format_rows())

    def _format_rows(self) -> Iterator[list[str]]:
        columns = self._get_columns()
        yield list(columns)
        is_step = [name.partition("[")[0] in _STEP_ARRAYS for name in columns]
        for t, *values in zip(*columns.values()):
            yield ["" if skip and t == self.steps else _format(value) for skip, value in zip(is_step, [t, *values])]

    def to_dataframe(self) -> Any:
        """Return a pandas DataFrame with the rows and columns of `to_csv`; NaN where those are empty.

        Raises:
            MissingDependency: pandas is not installed.

        Example:
            >>> import rmsprop
            >>> run = rmsprop.minimize("x^2", 1.0, lr=0.1, steps=2, trace=True)
            >>> run.trace.to_dataframe()[["step", "x[0]", "grad[0]"]].round(3)
               step   x[0]  grad[0]
            0     0  1.000    2.000
            1     1  0.684    1.368
            2     2  0.499      NaN
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingDependency("pandas is needed for to_dataframe: pip install pandas") from error
        return pd.DataFrame(self._get_columns())

    def _get_columns(self) -> dict[str, Array]:
        """Return the columns of a table with a row per point, start by start; NaN where a last point has no step."""
        points, n = len(self.x), self.x.shape[-1]
        starts = self.x.shape[1] if self.x.ndim == 3 else 1
        columns = {"step": np.tile(np.arange(points), starts)}
        if self.x.ndim == 3:
            columns["start"] = np.repeat(np.arange(starts), points)
        columns |= {"f": self.f.T.ravel(), "lr": np.tile(np.append(self.lr, np.nan), starts)}
        for name in ("x", "grad", "mean_sq", "update", "effective_lr"):
            array = getattr(self, name)
            padded = np.concatenate([array, np.full_like(self.x[len(array) :], np.nan)])
            rows = padded.reshape(points, starts, n).swapaxes(0, 1).reshape(-1, n)
            columns |= {f"{name}[{i}]": column for i, column in enumerate(rows.T)}
        return columns

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
            dtypes = {name: np.dtype("float64" if name in _SCALARS else about["dtype"]) for name in _ARRAYS}
            # Through object, so that the text "nan" among numbers is read by float().
            arrays = {name: np.array(about[name], object).astype(float).astype(d) for name, d in dtypes.items()}
            return cls._build(about, arrays)
        except _BROKEN as error:
            raise FileError(f"{os.fspath(path)}: not a trace written by to_json ({_describe(error)})") from error

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
                    return cls._build(about, {name: arrays[name] for name in _ARRAYS})
            except (*_BROKEN, zipfile.BadZipFile) as error:
                raise FileError(f"{os.fspath(path)}: not a trace written by to_npz ({_describe(error)})") from error

    @classmethod
    def _build(cls, about: dict[str, Any], arrays: dict[str, Array]) -> Trace:
        if about["format"] != _FORMAT:
            raise ValueError(f"format {about['format']!r}, expected {_FORMAT!r}")
        rule = None if about["rule"] is None else Rule().replace(**about["rule"])
        if len(arrays["x"]) == 1:
            # A list without rows does not say how long its rows are.
            row = arrays["x"].shape[1:]
            arrays |= {name: arrays[name].reshape((0, *_get_row_shape(name, row))) for name in _STEP_ARRAYS}
        function = about.get("function")
        if not isinstance(function, str | None):
            raise ValueError(f"function {function!r}, expected a text")
        shape = tuple(map(int, about["shape"]))
        return cls(**arrays, optimizer=str(about["optimizer"]), rule=rule, shape=shape, function=function)


class Recorder:
    """Fill a `Trace` while a run goes on: preallocated arrays that double when they are full.

    Args:
        x: The first point or points, shape (n,) or (starts, n); gives shape and dtype. Read.
        steps: How many steps to expect; more are allowed.

    Example:
        >>> import numpy as np
        >>> x = np.array([1.0, 2.0])
        >>> record = Recorder(x, steps=1)
        >>> record.add_point(x, f=5.0)
        >>> record.add_step(grad=2 * x, mean_sq=4 * x * x, effective_lr=0.05, lr=0.1)
        >>> record.add_point(x - 0.1 * x, f=4.05)
        >>> record.finish(optimizer="rmsprop").update
        array([[-0.1, -0.2]])
    """

    def __init__(self, x: Array, *, steps: int) -> None:
        self._points = self._steps = 0
        capacity = min(max(int(steps), 1), _FIRST_CAPACITY)
        self._arrays: dict[str, Array] = {
            name: np.empty((capacity, *_get_row_shape(name, x.shape)), np.float64 if name in _SCALARS else x.dtype)
            for name in _ARRAYS
            if name != "update"
        }

    def add_point(self, x: ArrayLike, *, f: ArrayLike = np.nan) -> None:
        """Add a point, of any shape with the same number of elements, and the objective there. Both are copied."""
        self._write_row(self._points, x=x, f=f)
        self._points += 1

    def add_step(self, *, grad: ArrayLike, mean_sq: ArrayLike, effective_lr: ArrayLike, lr: float) -> None:
        """Add the values of the step from the last point. Arrays are copied; a number is used for all elements."""
        self._write_row(self._steps, grad=grad, mean_sq=mean_sq, effective_lr=effective_lr, lr=lr)
        self._steps += 1

    def _write_row(self, row: int, **values: ArrayLike) -> None:
        for name, value in values.items():
            array = self._arrays[name]
            if row == len(array):
                self._arrays[name] = array = np.concatenate([array, np.empty_like(array)])
            array[row] = value if np.ndim(value) == 0 else np.reshape(value, array.shape[1:])

    def finish(self, *, optimizer: str, shape: tuple[int, ...] | None = None, **metadata: Any) -> Trace:
        """Return the trace of all points so far and of the steps between them; `metadata`: `rule`, `function`."""
        steps = self._points - 1
        arrays = {name: array[: steps + (name in _POINT_ARRAYS)].copy() for name, array in self._arrays.items()}
        shape = arrays["x"].shape[-1:] if shape is None else shape
        return Trace(**arrays, update=np.diff(arrays["x"], axis=0), optimizer=optimizer, shape=shape, **metadata)


_BROKEN = (ValueError, TypeError, KeyError, AttributeError, EOFError, zlib.error)
"""The errors of reading a file of another kind, or a truncated one."""


def _get_row_shape(name: str, point: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a row of an array, where a point (or the points of all starts) has shape `point`."""
    return () if name == "lr" else point[:-1] if name == "f" else point


def _describe(error: Exception) -> str:
    return f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)


def _format(value: Any) -> str:
    """Return the shortest text that reads back to this value in its own dtype."""
    return repr(float(value)) if value.dtype == np.float64 else str(value)


def _to_lists(array: Array) -> Any:
    values = array.astype(object)
    infinite = ~np.isfinite(array)
    values[infinite] = [str(v) for v in array[infinite].tolist()]
    return values.tolist()
