"""What every layout is read into and written from: the statistics of a run.

Conventions, whatever the framework's are:

* mean_sq and mean_grad are the raw moving averages, not divided by 1 - rho^t;
* momentum_buf is subtracted from the parameters; `Snapshot.buffer` says whether lr is inside ("lr") or applied
  afterwards ("unit");
* arrays are NumPy's, in C order, float32 or float64 (complex where torch's are). 16-bit and 8-bit arrays are widened.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop.dialects import Dialect, get
from rmsprop.errors import StateError
from rmsprop.rule import BufferMode, EpsMode, Rule

__all__ = ["STATISTICS", "Array", "Group", "Parameter", "Snapshot"]
__all__ += ["check_snapshot", "convert_to_rule", "get_dialect", "remove_correction"]

Array = NDArray[Any]
STATISTICS = ("mean_sq", "mean_grad", "grad_var", "momentum_buf")

_WIDE = (np.float32, np.float64, np.complex64, np.complex128)
_JENSEN = 1.1
"""mean_grad^2 <= mean_sq holds for averages of the same gradient; the factor allows for rounding to 8 or 16 bits."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameter:
    """The statistics of one parameter; None for those that the checkpoint does not have.

    Attributes:
        name: The parameter's name, or its position as text where the layout has no names.
        mean_sq: Moving average of grad**2, in units of grad**2. None: no step has touched the parameter yet.
        mean_grad: Moving average of grad.
        grad_var: mean_sq - mean_grad**2, if the checkpoint stores it.
        momentum_buf: Momentum buffer.
        step: Steps done; None if the layout does not say.
        shape: Shape of each statistic; None if unknown.
        dtype: "float32", "float64", "complex64" or "complex128"; None if unknown.
    """

    name: str
    mean_sq: Array | None = None
    mean_grad: Array | None = None
    grad_var: Array | None = None
    momentum_buf: Array | None = None
    step: int | None = None
    shape: tuple[int, ...] | None = None
    dtype: str | None = None

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, Any], step: int | None) -> Parameter:
        """Return a parameter with these statistics, widened, with the shape and dtype of its mean_sq."""
        wide = {statistic: np.array(array, order="C") for statistic, array in arrays.items()}
        wide = {k: x if x.dtype in _WIDE else x.astype(np.float32) for k, x in wide.items()}
        if "mean_sq" not in wide:  # a centered rule of this library stores the variance alone
            wide["mean_sq"] = wide["grad_var"] + wide["mean_grad"] ** 2
        return cls(name=name, **wide, step=step, shape=wide["mean_sq"].shape, dtype=wide["mean_sq"].dtype.name)

    @property
    def arrays(self) -> dict[str, Array]:
        """The statistics that the checkpoint has."""
        pairs = ((name, getattr(self, name)) for name in STATISTICS)
        return {name: array for name, array in pairs if array is not None}

    @property
    def variance(self) -> Array | None:
        """grad_var, or mean_sq - mean_grad**2 and at least 0; None without mean_grad."""
        if self.grad_var is not None or self.mean_grad is None or self.mean_sq is None:
            return self.grad_var
        if np.iscomplexobj(self.mean_sq):  # the averages of re**2 and im**2
            real = np.maximum(self.mean_sq.real - self.mean_grad.real**2, 0)
            return real + 1j * np.maximum(self.mean_sq.imag - self.mean_grad.imag**2, 0)
        return np.maximum(self.mean_sq - self.mean_grad**2, 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Parameters that share their hyperparameters.

    Attributes:
        size: Number of parameters, in the order of `Snapshot.parameters`.
        numbers: The hyperparameters in the file, by this library's names: lr, rho, eps, momentum, weight_decay, and
            initial_lr if a scheduler stored it.
        rule: The complete rule, which only this library's own files hold.
    """

    size: int
    numbers: Mapping[str, float] = dataclasses.field(default_factory=dict)
    rule: Rule | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Snapshot:
    """An optimizer's state, independent of the framework's layout.

    Attributes:
        format: The layout it was read from.
        parameters: One entry for each parameter, in the file's order.
        centered: Whether the run keeps mean_grad; None if the layout has it in any case.
        buffer: What the momentum buffer sums: "none", "unit" (grad / denominator) or "lr" (the same times lr).
        ordered: Whether the order of `parameters` is the model's.
        named: Whether the parameters have names, not positions.
        init: mean_sq before the first step, in units of grad**2.
        bias_correction: Whether the run divides by 1 - rho**t.
        eps_mode: Where eps is added; None for the framework's usual place.
        groups: Parameter groups.
        notes: Sentences for the user about what was read.

    Example:
        >>> import numpy as np
        >>> from rmsprop.checkpoints import Parameter, Snapshot
        >>> w = Parameter(name="w", mean_sq=np.ones(2, "f4"), step=3, shape=(2,), dtype="float32")
        >>> snapshot = Snapshot(format="torch", parameters=(w,))
        >>> snapshot.step, snapshot.statistics
        (3, ('mean_sq',))
    """

    format: str
    parameters: tuple[Parameter, ...]
    centered: bool | None = False
    buffer: BufferMode = "none"
    ordered: bool = True
    named: bool = False
    init: float = 0.0
    bias_correction: bool = False
    eps_mode: EpsMode | None = None
    groups: tuple[Group, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def step(self) -> int | None:
        """The largest step of a parameter; None if the layout does not say."""
        return max((p.step for p in self.parameters if p.step is not None), default=None)

    @property
    def statistics(self) -> tuple[str, ...]:
        """The statistics that at least one parameter has."""
        return tuple(name for name in STATISTICS if any(name in p.arrays for p in self.parameters))

    @property
    def elements(self) -> int:
        """Elements of all parameters with statistics."""
        return sum(p.mean_sq.size for p in self.parameters if p.mean_sq is not None)


def get_dialect(format: str) -> Dialect:
    """Return the dialect of a layout; torch's for this library's own files, which can hold any rule."""
    return get("torch" if format == "rmsprop" else format)


def remove_correction(parameter: Parameter, rho: float) -> Parameter:
    """Return the raw averages of a parameter whose averages were divided by 1 - rho^t."""
    if parameter.mean_sq is None:
        return parameter
    if parameter.step is None:
        raise StateError(f"parameter {parameter.name!r}: bias correction needs the step, and the file has none")
    return _scale(parameter, 1.0 - rho**parameter.step if parameter.step else 1.0)


def convert_to_rule(parameter: Parameter, rule: Rule) -> dict[str, Array]:
    """Return the statistics as this library stores them: corrected if the rule corrects, and grad_var if centered."""
    if rule.bias_correction:
        if parameter.step is None:
            raise StateError("step: the target uses bias correction, and the source has no step: give --step")
        parameter = _scale(parameter, 1.0 / (1.0 - rule.rho**parameter.step) if parameter.step else 1.0)
    return dataclasses.replace(parameter, grad_var=parameter.variance).arrays


def _scale(parameter: Parameter, factor: float) -> Parameter:
    """Multiply both averages; the variance is left out, as it is not proportional to them."""
    square, mean = parameter.mean_sq, parameter.mean_grad
    assert square is not None
    return dataclasses.replace(
        parameter,
        mean_sq=(square * factor).astype(square.dtype),
        mean_grad=None if mean is None else (mean * factor).astype(mean.dtype),
        grad_var=None,
    )


def check_snapshot(snapshot: Snapshot, where: str, *, finite: bool = True) -> Snapshot:
    """Return `snapshot` if an RMSprop run can have produced it; NaN and infinity raise if `finite`."""
    names = Counter(parameter.name for parameter in snapshot.parameters)
    if not names:
        raise StateError(f"{where}: no parameter with optimizer state was found")
    for parameter in snapshot.parameters:
        name, square, mean = f"{where}: parameter {parameter.name!r}", parameter.mean_sq, parameter.mean_grad
        if names[parameter.name] > 1:
            raise StateError(f"{name} appears twice")
        if parameter.step is not None and not 0 <= parameter.step < 2**63:
            raise StateError(f"{name}: step is {parameter.step:.3g}, expected from 0 to 2^63")
        for statistic, array in parameter.arrays.items():
            if array.shape != parameter.shape:
                raise StateError(f"{name}: {statistic} has shape {array.shape}, expected {parameter.shape}")
            bad = int(array.size - np.isfinite(array).sum())
            if bad and finite:
                what = f"{statistic} has {bad} of {array.size} elements that are NaN or infinite"
                raise StateError(f"{name}: {what}: the run had diverged; use an earlier checkpoint")
        if square is not None and (square.real < 0).any():
            raise StateError(f"{name}: mean_sq has negative elements: another statistic, or positions shifted by one")
        if square is None or mean is None or np.iscomplexobj(square):
            continue
        limit = _JENSEN * square.astype(np.float64) + np.finfo(np.float32).tiny
        if (mean.astype(np.float64) ** 2 > limit).any():
            raise StateError(f"{name}: mean_grad**2 is larger than mean_sq: the state of Adam, or positions shifted")
    return snapshot
