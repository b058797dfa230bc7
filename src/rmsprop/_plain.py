"""The border and the step without a compiled module: NumPy arrays, checked like in cpp/border, stepped by the reference.

Used only where the package was installed without a compiler. The results are the kernel's, bit for bit; the time and the
temporary arrays are NumPy's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop import reference
from rmsprop import rule as _rule
from rmsprop.errors import InputError, InputTypeError

__all__ = ["Rule", "check", "global_norm", "step"]

Array = NDArray[Any]


class Rule:
    """What `_core.Rule` is to the compiled step."""

    def __init__(self, *, rounding: str = "nearest", **switches: Any) -> None:
        if rounding != "nearest":
            raise InputError(f"rounding={rounding!r} needs the compiled module: reinstall with a C++17 compiler")
        self.rule = _rule.Rule(**switches)


def check(rule: Rule, params: list[Array], buffers: tuple[list[Array], ...], names: list[str] | None = None) -> None:
    """Refuse parameters and buffers that no step could take."""
    _check(rule.rule, params, [None] * len(params), buffers, names, everything=True)


def step(
    rule: Rule,
    params: list[Array],
    grads: list[Array | None],
    buffers: tuple[list[Array], ...],
    steps: Array,
    lr: float,
    lr_max: float = 0.0,
    grad_scale: float = 1.0,
    max_norm: float = 0.0,
    norm_eps: float = 0.0,
    check_finite: bool = False,
    threads: int = 0,
    seed: int = 0,
    first: int = 0,
    names: list[str] | None = None,
) -> float:
    """Do one step in place and return the global norm, as `_core.step` does; `threads` has nothing to act on."""
    if not math.isfinite(lr) or lr < 0:
        raise InputError(f"lr: {lr:f}, expected a finite number of at least 0")
    _check(rule.rule, params, grads, buffers, names, everything=False)
    present = [i for i, grad in enumerate(grads) if grad is not None]
    norm = math.nan
    if max_norm > 0 or check_finite:
        norm = global_norm(grads) * abs(grad_scale)
        for i in present:
            if check_finite and not np.isfinite(np.asarray(grads[i])).all():
                raise InputError(f"{_name('grads', i, names)}: NaN or infinity, expected finite numbers")
        if max_norm > 0:
            factor = max_norm / (norm + norm_eps) if norm + norm_eps > 0 else math.inf
            grad_scale = grad_scale * factor if factor < 1 else norm if math.isnan(norm) else grad_scale
    for i in present:
        # Overflow and NaN arrive in the arrays, as they do from the kernel, which knows no warnings.
        with np.errstate(all="ignore"):
            param, new = reference.step(
                params[i],
                grads[i],
                dict(zip(rule.rule.buffers, (arrays[i] for arrays in buffers))),
                rule.rule,
                lr=lr,
                step=int(steps[i]) + 1,
                lr_max=lr_max,
                grad_scale=grad_scale,
            )
        params[i][...] = param
        for arrays, array in zip(buffers, new.values()):
            arrays[i][...] = array
        steps[i] += 1
    return norm


def global_norm(grads: Sequence[Array | None], threads: int = 0) -> float:
    """Return the square root of the sum of all squares, in double precision."""
    return math.sqrt(sum(float(np.square(g, dtype=np.float64).sum()) for g in grads if g is not None))


def _name(kind: str, i: int, names: list[str] | None) -> str:
    return f"{kind}{names[i] if names is not None else f'[{i}]'}"


def _check(
    rule: _rule.Rule,
    params: list[Array],
    grads: Sequence[Array | None],
    buffers: tuple[list[Array], ...],
    names: list[str] | None,
    everything: bool,
) -> None:
    if len(grads) != len(params):
        raise InputError(f"grads: {len(grads)} arrays, expected {len(params)}, one for each of params")
    written: list[tuple[str, Array]] = []
    read: list[tuple[str, Array]] = []
    for i, param in enumerate(params):
        if not everything and grads[i] is None:
            continue
        label = _name("params", i, names)
        _is_array(param, label)
        if param.dtype not in (np.float32, np.float64):
            raise InputTypeError(f"{label}: {param.dtype}, expected float32, float64, bfloat16 or float16")
        _writable(param, label)
        if not _dense(param):
            raise InputError(
                f"{label}: shape {param.shape} with {_layout(param)} leaves gaps, expected dense memory; pass a copy"
            )
        written.append((label, param))
        grad = grads[i]
        if grad is not None:
            _fits(grad, _name("grads", i, names), param, label)
            read.append((_name("grads", i, names), grad))
        for kind, arrays in zip(rule.buffers, buffers):
            _fits(arrays[i], _name(kind, i, names), param, label)
            _writable(arrays[i], _name(kind, i, names))
            written.append((_name(kind, i, names), arrays[i]))
    spans = sorted((*_span(array), name) for name, array in written if array.size)
    for (_, end, name), (begin, _, other) in zip(spans, spans[1:]):
        if begin < end:
            raise InputError(f"{other}: shares memory with {name}, expected memory of its own")
    for name, array in read:
        begin, end = _span(array)
        for from_, to, other in spans:
            if from_ < end and begin < to:
                raise InputError(f"{name}: shares memory with {other}, expected memory of its own")


def _is_array(array: object, label: str) -> None:
    if not isinstance(array, np.ndarray):
        raise InputTypeError(f"{label}: a {type(array).__name__}, expected a NumPy array")
    if not array.flags.aligned:
        raise InputError(f"{label}: memory that is not aligned to its item size")


def _writable(array: Array, label: str) -> None:
    if not array.flags.writeable:
        raise InputError(f"{label}: read-only, expected a writable array")


def _fits(array: Any, label: str, param: Array, like: str) -> None:
    _is_array(array, label)
    if array.dtype != param.dtype:
        raise InputTypeError(f"{label}: {array.dtype}, expected {param.dtype} like {like}")
    if array.shape != param.shape:
        raise InputError(f"{label}: shape {array.shape}, expected {param.shape} like {like}")
    ours, theirs = _strides(array), _strides(param)
    if array.size > 1 and any(a != b and n != 1 for a, b, n in zip(ours, theirs, param.shape)):
        raise InputError(
            f"{label}: {_layout(array)}, expected {_layout(param)} like {like}; copy it into that memory order first"
        )


def _strides(array: Array) -> tuple[int, ...]:
    return tuple(stride // array.itemsize for stride in array.strides)


def _layout(array: Array) -> str:
    return f"strides {_strides(array)} in elements"


def _dense(array: Array) -> bool:
    expected = 1
    for stride, n in sorted((s, n) for s, n in zip(_strides(array), array.shape) if n != 1):
        if stride != expected:
            return array.size <= 1
        expected *= n
    return True


def _span(array: Array) -> tuple[int, int]:
    begin = array.__array_interface__["data"][0]
    return begin, begin + array.nbytes


def set_threads(threads: int) -> None:
    """Accept what `_core.set_threads` accepts; NumPy's loops run in one thread."""
    if threads < 0:
        raise InputError(f"threads: {threads}, expected 0 (all) or more")


def threads() -> int:
    """Return 1."""
    return 1
