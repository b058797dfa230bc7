"""The border and the step without a compiled module: checked like in cpp/border, stepped by `formula.step`.

Used only where the package was installed without a compiler. The results are the kernel's, bit for bit, the global norm
included; the time and the temporary arrays are NumPy's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rmsprop import formula
from rmsprop import rule as _rule
from rmsprop.errors import InputError, InputTypeError

__all__ = ["Plan", "Rule", "global_norm", "step"]

Array = NDArray[Any]


class Rule:
    """What `_core.Rule` is to the compiled step."""

    def __init__(self, *, rounding: str = "nearest", **switches: Any) -> None:
        if rounding != "nearest":
            raise InputError(f"rounding={rounding!r} needs the compiled module: reinstall with a C++17 compiler")
        self.rule = _rule.Rule(**switches)


class Plan:
    """What `_core.Plan` is to the compiled step. It keeps no pointer, so it checks everything at every step."""

    def __init__(
        self,
        rule: Rule,
        params: list[Array],
        buffers: tuple[list[Array], ...],
        steps: Array,
        names: list[str] | None = None,
        first: int = 0,
    ) -> None:
        self.rule, self.params, self.buffers, self.steps, self.names = rule.rule, params, buffers, steps, names
        self.calls = 0

    def check(self) -> None:
        """Raise for parameters and buffers that no step could take."""
        _check(self.rule, self.params, [None] * len(self.params), self.buffers, self.names, everything=True)


def step(plan: Plan, grads: list[Array | None], args: Any, strict: bool = True) -> float | None:
    """Do one step in place and return the global norm, as `_core.step` does; `args.threads` has nothing to act on."""
    if not math.isfinite(args.lr) or args.lr < 0:
        raise InputError(f"lr: {args.lr:g}, expected a finite number of at least 0")
    if not args.max_norm >= 0:
        raise InputError(f"max_norm: {args.max_norm:g}, expected a number of at least 0")
    rule, params, steps, scale = plan.rule, plan.params, plan.steps, args.scale
    if not strict and any(type(grad) is not np.ndarray for grad in grads if grad is not None):
        return None
    try:
        _check(rule, params, grads, plan.buffers, plan.names, everything=False)
    except InputError:
        if strict:
            raise
        return None
    _check_steps(steps, len(params))
    norm = math.nan
    if args.max_norm > 0 or args.check_finite:
        total = global_norm(grads)
        norm = total * abs(scale)
        beyond = None if math.isfinite(total) else _first_not_finite(grads)
        if args.check_finite and beyond is not None:
            raise InputError(f"{_name('grads', beyond, plan.names)}: NaN or infinity, expected finite numbers")
        if args.max_norm > 0:
            if math.isinf(total) and beyond is None:
                raise InputError("grads: the sum of their squares overflows, so max_norm cannot scale them")
            factor = args.max_norm / (norm + args.norm_eps) if norm + args.norm_eps != 0 else math.inf
            scale = scale * factor if factor < 1 else norm if math.isnan(norm) else scale
    for i, grad in enumerate(grads):
        if grad is None:
            continue
        # Overflow and NaN go into the arrays without a warning, as in the kernel.
        with np.errstate(all="ignore"):
            param, new = formula.step(
                params[i],
                grad,
                dict(zip(rule.buffers, (arrays[i] for arrays in plan.buffers))),
                rule,
                lr=args.lr,
                step=int(steps[i]) + 1,
                lr_max=args.lr_max,
                grad_scale=scale,
            )
        params[i][...] = param
        for arrays, kind in zip(plan.buffers, rule.buffers):
            arrays[i][...] = new[kind]
        steps[i] += 1
    plan.calls += 1
    return norm


_LANES, _BLOCK, _SEGMENTS = 16, 256, 64  # of the kernel


def global_norm(grads: Sequence[Array | None], threads: int = 0) -> float:
    """Return the square root of the sum of all squares, in double precision, added in the kernel's order."""
    total = 0.0
    for grad in grads:
        if grad is None or not grad.size:
            continue
        memory = grad.ravel(order="K")
        blocks = -(-grad.size // (_SEGMENTS * _BLOCK))
        length = max(blocks, 64) * _BLOCK
        for begin in range(0, grad.size, length):
            total += _sum_of_squares(memory[begin : begin + length])
    return math.sqrt(total)


def _sum_of_squares(segment: Array) -> float:
    rows = np.zeros((-(-segment.size // _LANES), _LANES))
    with np.errstate(all="ignore"):
        np.square(segment, out=rows.reshape(-1)[: segment.size], dtype=np.float64)
        lanes = np.add.accumulate(rows)[-1]
    total = 0.0
    for lane in lanes.tolist():  # not sum(), which compensates from Python 3.12 on
        total += lane
    return total


def _first_not_finite(grads: Sequence[Array | None]) -> int | None:
    return next((i for i, g in enumerate(grads) if g is not None and not np.isfinite(g).all()), None)


def _name(kind: str, i: int, names: list[str] | None) -> str:
    return f"{kind}{names[i] if names is not None else f'[{i}]'}"


def _check(
    rule: _rule.Rule,
    params: list[Array],
    grads: Sequence[Array | None],
    buffers: tuple[list[Array], ...],
    names: list[str] | None,
    *,
    everything: bool,
) -> None:
    count = len(params)
    if len(grads) != count:
        raise InputError(f"grads: {len(grads)} arrays, expected {count}, one for each of params")
    if len(buffers) != len(rule.buffers):
        raise InputError(f"buffers: {len(buffers)} lists, expected {len(rule.buffers)} for this rule")
    for kind, arrays in zip(rule.buffers, buffers):
        if len(arrays) != count:
            raise InputError(f"{kind}: {len(arrays)} arrays, expected {count}, one for each of params")
    spans: list[_Span] = []
    for i, param in enumerate(params):
        grad = grads[i]
        if grad is None and not everything:
            continue
        label = _name("params", i, names)
        _check_array(param, label)
        if param.dtype not in (np.float32, np.float64):
            raise InputTypeError(f"{label}: {param.dtype}, expected float32, float64, bfloat16 or float16")
        _check_aligned(param, label)
        _check_writable(param, label)
        if not _dense(param):
            raise InputError(
                f"{label}: shape {param.shape} with {_layout(param)} leaves gaps, expected dense memory; pass a copy"
            )
        spans.append(_span(param, len(spans), label, written=True))
        if grad is not None:
            name = _name("grads", i, names)
            _check_array(grad, name)
            if grad.dtype != param.dtype:
                raise InputTypeError(f"{name}: {grad.dtype}, expected {param.dtype} like {label}")
            _check_fit(grad, name, param, label)
            spans.append(_span(grad, len(spans), name, written=False))
        for kind, arrays in zip(rule.buffers, buffers):
            name = _name(kind, i, names)
            _check_array(arrays[i], name)
            _check_writable(arrays[i], name)
            _check_fit(arrays[i], name, param, label)
            if arrays[i].dtype != param.dtype:
                raise InputTypeError(f"{name}: {arrays[i].dtype}, expected {param.dtype} for {param.dtype} parameters")
            spans.append(_span(arrays[i], len(spans), name, written=True))
    _check_overlap([span for span in spans if span.begin < span.end])


class _Span(NamedTuple):
    begin: int
    end: int
    position: int
    name: str
    written: bool


def _span(array: Array, position: int, name: str, *, written: bool) -> _Span:
    begin = array.__array_interface__["data"][0]
    return _Span(begin, begin + array.nbytes, position, name, written)


def _check_overlap(spans: list[_Span]) -> None:
    furthest: dict[bool, _Span] = {}  # the written and the read memory that ends last so far
    for span in sorted(spans):
        for other in furthest.values():
            if span.begin < other.end and (span.written or other.written):
                former, latter = sorted((span, other), key=lambda one: one.position)
                raise InputError(f"{latter.name}: shares memory with {former.name}, expected memory of its own")
        if span.written not in furthest or furthest[span.written].end < span.end:
            furthest[span.written] = span


def _check_steps(steps: object, count: int) -> None:
    if not isinstance(steps, np.ndarray):
        raise InputTypeError(f"steps: a {type(steps).__name__}, expected a NumPy array")
    if steps.dtype != np.int64 or steps.shape != (count,) or not steps.flags.carray:
        raise InputError(
            f"steps: {steps.dtype} of shape {steps.shape}, expected a writable int64 array of shape ({count},)"
        )


def _check_array(array: object, label: str) -> None:
    if not isinstance(array, np.ndarray):
        raise InputTypeError(f"{label}: a {type(array).__name__}, expected a NumPy array")


def _check_aligned(array: Array, label: str) -> None:
    if not array.flags.aligned:
        raise InputError(f"{label}: memory that is not aligned to its item size")


def _check_writable(array: Array, label: str) -> None:
    if not array.flags.writeable:
        raise InputError(f"{label}: read-only, expected a writable array")


def _check_fit(array: Array, label: str, param: Array, like: str) -> None:
    if array.shape != param.shape:
        hint = f"; use reshape{param.shape}" if array.size == param.size else ""
        raise InputError(f"{label}: shape {array.shape}, expected {param.shape} like {like}{hint}")
    ours, theirs = _strides(array), _strides(param)
    if array.size > 1 and any(a != b and n != 1 for a, b, n in zip(ours, theirs, param.shape)):
        raise InputError(
            f"{label}: {_layout(array)}, expected {_layout(param)} like {like}; copy it into that memory order first"
        )
    _check_aligned(array, label)


def _strides(array: Array) -> tuple[int, ...]:
    return tuple(stride // array.itemsize if array.itemsize else 0 for stride in array.strides)


def _layout(array: Array) -> str:
    return f"strides {_strides(array)} in elements"


def _dense(array: Array) -> bool:
    expected = 1
    for stride, n in sorted((s, n) for s, n in zip(_strides(array), array.shape) if n != 1):
        if stride != expected:
            return array.size <= 1
        expected *= n
    return True


def set_threads(threads: int) -> None:
    """Accept what `_core.set_threads` accepts; NumPy's loops run in one thread."""
    if not 0 <= threads <= 1024:
        raise InputError(f"threads: {threads}, expected 0 (all) to 1024")


def threads() -> int:
    """Return 1."""
    return 1
