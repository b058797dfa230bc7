"""Calls that every border must refuse, as data: what is wrong with each, and the words it is refused with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from rmsprop import Rule
from rmsprop.errors import InputError, InputTypeError

BORDER_RULE = Rule(centered=True, buffer="lr", momentum=0.9, bias_correction=True)


@dataclasses.dataclass
class Call:
    """The arguments of one step: three parameters of shape (2, 3), float32, and what belongs to them."""

    params: list[Any]
    grads: list[Any]
    buffers: list[list[Any]]  # mean_grad, grad_var, momentum_buf
    steps: Any
    lr: Any = 0.1
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def good(cls) -> Call:
        rng = np.random.default_rng(5)

        def arrays(low: float) -> list[Any]:
            return [rng.uniform(low, 1.0, (2, 3)).astype("float32") for _ in range(3)]

        return cls(arrays(-1), arrays(-1), [arrays(-1), arrays(0), arrays(-1)], np.arange(3))

    def memory(self) -> list[bytes]:
        """Every byte that the call could write."""
        lists = [self.params, self.grads, *self.buffers, [self.steps]]
        return [array.tobytes() for arrays in lists for array in arrays if isinstance(array, np.ndarray)]


def _freeze(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def _misalign(array: np.ndarray) -> np.ndarray:
    raw = np.zeros(array.nbytes + 1, np.uint8)
    view = raw[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def _spread(array: np.ndarray) -> np.ndarray:
    return np.repeat(array, 2, axis=1)[:, ::2]


def _put(where: str, change: Callable[[Any], Any], i: int = 1) -> Callable[[Call], None]:
    """Replace element `i` of a list of the call by `change` of it."""

    def apply(call: Call) -> None:
        lists = {"params": call.params, "grads": call.grads}
        lists.update(zip(BORDER_RULE.buffers, call.buffers))
        lists[where][i] = change(lists[where][i])

    return apply


def _share(where: str, i: int, other: str, j: int, shift: int = 0) -> Callable[[Call], None]:
    """Let array `i` of a list begin `shift` elements after array `j` of another."""

    def apply(call: Call) -> None:
        lists = {"params": call.params, "grads": call.grads}
        lists.update(zip(BORDER_RULE.buffers, call.buffers))
        memory = np.linspace(0.1, 0.9, 6 + abs(shift), dtype="float32")
        lists[other][j] = memory[max(-shift, 0) :][:6].reshape(2, 3)
        lists[where][i] = memory[max(shift, 0) :][:6].reshape(2, 3)

    return apply


def _set(**fields: Any) -> Callable[[Call], None]:
    def apply(call: Call) -> None:
        for name, value in fields.items():
            setattr(call, name, value)

    return apply


def _drop(where: str) -> Callable[[Call], None]:
    def apply(call: Call) -> None:
        lists = {"grads": call.grads}
        lists.update(zip(BORDER_RULE.buffers, call.buffers))
        lists[where].pop()

    return apply


def _put_checked(value: float) -> Callable[[Call], None]:
    def apply(call: Call) -> None:
        call.grads[1][1, 1] = value
        call.options["check_finite"] = True

    return apply


_FLOATS = "expected float32, float64, bfloat16 or float16"
_OWN = ", expected memory of its own"
_SWAPPED = ">f4" if np.little_endian else "<f4"

# fmt: off
WRONG_TYPE: dict[str, tuple[Callable[[Call], None], str]] = {
    "an int param": (_put("params", lambda a: a.astype("int32")), f"params[1]: int32, {_FLOATS}"),
    "a complex param": (_put("params", lambda a: a * 1j), f"params[1]: complex64, {_FLOATS}"),
    "a bool param": (_put("params", lambda a: a > 0), f"params[1]: bool, {_FLOATS}"),
    "a long double grad": (_put("grads", lambda a: a.astype("longdouble")), f"grads[1]: {np.dtype('longdouble')}"),
    "an object grad": (_put("grads", lambda a: a.astype(object)), "grads[1]: object, expected float32 like params[1]"),
    "a double grad": (_put("grads", lambda a: a.astype("float64")), "grads[1]: float64"),
    "a grad of another byte order": (_put("grads", lambda a: a.astype(_SWAPPED)), f"grads[1]: {_SWAPPED}"),
    "a param of another byte order": (_put("params", lambda a: a.astype(_SWAPPED)), f"params[1]: {_SWAPPED}"),
    "a grad without bytes": (_put("grads", lambda a: np.zeros((2, 3), "V0")), "grads[1]: |V0, expected float32"),
    "a grad of dates": (_put("grads", lambda a: np.zeros((2, 3), "M8[s]")), "grads[1]: datetime64[s]"),
    "a double buffer": (_put("grad_var", lambda a: a.astype("float64")), "grad_var[1]: float64, expected float32 for"),
    "a list for an array": (_put("grads", lambda a: a.tolist()), "grads[1]: a list, expected a NumPy array"),
    "a number for an array": (_put("grads", lambda a: 1.0), "grads[1]: a float, expected a NumPy array"),
    "bytes for a buffer": (_put("momentum_buf", lambda a: a.tobytes()), "momentum_buf[1]: a bytes"),
    "None for a param": (_put("params", lambda a: None), "params[1]: a NoneType, expected a NumPy array"),
    "a number for counts": (_set(steps=3), "steps: a int, expected a NumPy array"),
}

WRONG_VALUE: dict[str, tuple[Callable[[Call], None], str]] = {
    "a grad of the transposed shape": (_put("grads", lambda a: a.T.copy()), "grads[1]: shape (3, 2)"),
    "a flat grad": (_put("grads", lambda a: a.ravel()), "grads[1]: shape (6,), expected (2, 3) like params[1]"),
    "a grad that would broadcast": (_put("grads", lambda a: a[0]), "grads[1]: shape (3,)"),
    "an empty grad": (_put("grads", lambda a: a[:0]), "grads[1]: shape (0, 3), expected (2, 3) like params[1]"),
    "a buffer of another shape": (_put("mean_grad", lambda a: a[:1].copy()), "mean_grad[1]: shape (1, 3)"),
    "a param with gaps": (_put("params", _spread), "params[1]: shape (2, 3) with strides (6, 2)"),
    "a reversed param": (_put("params", lambda a: a[::-1]), "params[1]: shape (2, 3) with strides (-3, 1)"),
    "a transposed grad": (_put("grads", np.asfortranarray), "grads[1]: strides (1, 2) in elements"),
    "broadcast": (_put("grads", lambda a: np.broadcast_to(a[:1], (2, 3))), "grads[1]: strides (0, 1) in elements"),
    "a transposed buffer": (_put("momentum_buf", np.asfortranarray), "momentum_buf[1]: strides (1, 2) in elements"),
    "an unaligned param": (_put("params", _misalign), "params[1]: memory that is not aligned"),
    "an unaligned grad": (_put("grads", _misalign), "grads[1]: memory that is not aligned"),
    "an unaligned buffer": (_put("mean_grad", _misalign), "mean_grad[1]: memory that is not aligned"),
    "a read-only param": (_put("params", _freeze), "params[1]: read-only, expected a writable array"),
    "a read-only buffer": (_put("grad_var", _freeze), "grad_var[1]: read-only, expected a writable array"),
    "one param twice": (_share("params", 2, "params", 0), f"params[2]: shares memory with params[0]{_OWN}"),
    "overlapping params": (_share("params", 0, "params", 2, shift=5), "params[2]: shares memory with params[0]"),
    "a grad that is its param": (_share("grads", 1, "params", 1), f"grads[1]: shares memory with params[1]{_OWN}"),
    "a grad before a param": (_share("grads", 0, "params", 2, shift=-4), "params[2]: shares memory with grads[0]"),
    "a grad in a buffer": (_share("grads", 2, "mean_grad", 0, shift=3), "grads[2]: shares memory with mean_grad[0]"),
    "one memory for two": (_share("momentum_buf", 1, "grad_var", 1), "momentum_buf[1]: shares memory with grad_var[1]"),
    "a buffer in a param": (_share("grad_var", 2, "params", 1, shift=-1), "grad_var[2]: shares memory with params[1]"),
    "a grad too few": (_drop("grads"), "grads: 2 arrays, expected 3, one for each of params"),
    "a buffer too few": (_drop("grad_var"), "grad_var: 2 arrays, expected 3, one for each of params"),
    "a list of buffers too few": (lambda call: call.buffers.pop() and None, "buffers: 2 lists"),
    "counts too few": (_set(steps=np.zeros(2, np.int64)), "steps: int64 of shape (2,), expected a writable int64"),
    "counts of another dtype": (_set(steps=np.zeros(3)), "steps: float64 of shape (3,), expected a writable int64"),
    "read-only counts": (_set(steps=_freeze(np.zeros(3, np.int64))), "steps: int64 of shape (3,)"),
    "a NaN lr": (_set(lr=np.nan), "lr: nan, expected a finite number of at least 0"),
    "a negative NaN lr": (_set(lr=-np.nan), "lr: nan, expected a finite number of at least 0"),
    "an infinite lr": (_set(lr=np.inf), "lr: inf, expected a finite number of at least 0"),
    "a small negative lr": (_set(lr=-1e-9), "lr: -1e-09, expected a finite number of at least 0"),
    "a negative max_norm": (_set(options={"max_norm": -1.0}), "max_norm: -1, expected a number of at least 0"),
    "a NaN max_norm": (_set(options={"max_norm": np.nan}), "max_norm: nan, expected a number of at least 0"),
}
# fmt: on

for _value in (np.nan, np.inf, -np.inf):
    WRONG_VALUE[f"a {_value} gradient, when asked to check"] = (_put_checked(_value), "grads[1]: NaN or infinity")

REFUSED = {
    case: (change, error, message)
    for error, table in ((InputTypeError, WRONG_TYPE), (InputError, WRONG_VALUE))
    for case, (change, message) in table.items()
}
"""Case -> what makes the good call bad, the class of the error, and how its message begins."""
