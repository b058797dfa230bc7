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


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def _unaligned(array: np.ndarray) -> np.ndarray:
    raw = np.zeros(array.nbytes + 1, np.uint8)
    view = raw[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def _gaps(array: np.ndarray) -> np.ndarray:
    return np.repeat(array, 2, axis=1)[:, ::2]


def _with(array: np.ndarray, value: float) -> np.ndarray:
    array = array.copy()
    array[1, 1] = value
    return array


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


_FLOATS = "expected float32, float64, bfloat16 or float16"
_ORDER = "; copy it into that memory order first"
_OWN = ", expected memory of its own"

REFUSED: dict[str, tuple[Callable[[Call], None], type[Exception], str]] = {
    # dtype
    "an int param": (_put("params", lambda a: a.astype("int32")), InputTypeError, f"params[1]: int32, {_FLOATS}"),
    "a complex param": (_put("params", lambda a: a * 1j), InputTypeError, f"params[1]: complex64, {_FLOATS}"),
    "a bool param": (_put("params", lambda a: a > 0), InputTypeError, f"params[1]: bool, {_FLOATS}"),
    "a long double grad": (
        _put("grads", lambda a: a.astype("longdouble")),
        InputTypeError,
        f"grads[1]: {np.dtype('longdouble')}, expected float32 like params[1]",
    ),
    "an object grad": (
        _put("grads", lambda a: a.astype(object)),
        InputTypeError,
        "grads[1]: object, expected float32 like params[1]",
    ),
    "a double grad": (
        _put("grads", lambda a: a.astype("float64")),
        InputTypeError,
        "grads[1]: float64, expected float32 like params[1]",
    ),
    "a grad of another byte order": (
        _put("grads", lambda a: a.astype(">f4" if np.little_endian else "<f4")),
        InputTypeError,
        f"grads[1]: {'>' if np.little_endian else '<'}f4, expected float32 like params[1]",
    ),
    "a param of another byte order": (
        _put("params", lambda a: a.astype(">f4" if np.little_endian else "<f4")),
        InputTypeError,
        f"params[1]: {'>' if np.little_endian else '<'}f4, {_FLOATS}",
    ),
    "a grad without bytes": (
        _put("grads", lambda a: np.zeros((2, 3), "V0")),
        InputTypeError,
        "grads[1]: |V0, expected float32",
    ),
    "a grad of dates": (
        _put("grads", lambda a: np.zeros((2, 3), "M8[s]")),
        InputTypeError,
        "grads[1]: datetime64[s], expected float32",
    ),
    "a double buffer": (
        _put("grad_var", lambda a: a.astype("float64")),
        InputTypeError,
        "grad_var[1]: float64, expected float32 for float32 parameters",
    ),
    "a list for an array": (
        _put("grads", lambda a: a.tolist()),
        InputTypeError,
        "grads[1]: a list, expected a NumPy array",
    ),
    "a number for an array": (
        _put("grads", lambda a: 1.0),
        InputTypeError,
        "grads[1]: a float, expected a NumPy array",
    ),
    "bytes for a buffer": (
        _put("momentum_buf", lambda a: a.tobytes()),
        InputTypeError,
        "momentum_buf[1]: a bytes, expected a NumPy array",
    ),
    "None for a param": (
        _put("params", lambda a: None),
        InputTypeError,
        "params[1]: a NoneType, expected a NumPy array",
    ),
    # shape
    "a grad of the transposed shape": (
        _put("grads", lambda a: a.T.copy()),
        InputError,
        "grads[1]: shape (3, 2), expected (2, 3) like params[1]",
    ),
    "a flat grad": (
        _put("grads", lambda a: a.ravel()),
        InputError,
        "grads[1]: shape (6,), expected (2, 3) like params[1]",
    ),
    "a grad that would broadcast": (
        _put("grads", lambda a: a[0]),
        InputError,
        "grads[1]: shape (3,), expected (2, 3) like params[1]",
    ),
    "an empty grad": (
        _put("grads", lambda a: a[:0]),
        InputError,
        "grads[1]: shape (0, 3), expected (2, 3) like params[1]",
    ),
    "a buffer of another shape": (
        _put("mean_grad", lambda a: a[:1].copy()),
        InputError,
        "mean_grad[1]: shape (1, 3), expected (2, 3) like params[1]",
    ),
    # layout
    "a param with gaps": (
        _put("params", _gaps),
        InputError,
        "params[1]: shape (2, 3) with strides (6, 2) in elements leaves gaps, expected dense memory; pass a copy",
    ),
    "a reversed param": (
        _put("params", lambda a: a[::-1]),
        InputError,
        "params[1]: shape (2, 3) with strides (-3, 1) in elements leaves gaps",
    ),
    "a grad in the other memory order": (
        _put("grads", np.asfortranarray),
        InputError,
        f"grads[1]: strides (1, 2) in elements, expected strides (3, 1) in elements like params[1]{_ORDER}",
    ),
    "a broadcast grad": (
        _put("grads", lambda a: np.broadcast_to(a[:1], (2, 3))),
        InputError,
        f"grads[1]: strides (0, 1) in elements, expected strides (3, 1) in elements like params[1]{_ORDER}",
    ),
    "a buffer in the other memory order": (
        _put("momentum_buf", np.asfortranarray),
        InputError,
        f"momentum_buf[1]: strides (1, 2) in elements, expected strides (3, 1) in elements like params[1]{_ORDER}",
    ),
    "an unaligned param": (_put("params", _unaligned), InputError, "params[1]: memory that is not aligned"),
    "an unaligned grad": (_put("grads", _unaligned), InputError, "grads[1]: memory that is not aligned"),
    "an unaligned buffer": (_put("mean_grad", _unaligned), InputError, "mean_grad[1]: memory that is not aligned"),
    # read-only
    "a read-only param": (
        _put("params", _read_only),
        InputError,
        "params[1]: read-only, expected a writable array",
    ),
    "a read-only buffer": (
        _put("grad_var", _read_only),
        InputError,
        "grad_var[1]: read-only, expected a writable array",
    ),
    # overlap
    "one param twice": (
        _share("params", 2, "params", 0),
        InputError,
        f"params[2]: shares memory with params[0]{_OWN}",
    ),
    "params that overlap by an element": (
        _share("params", 0, "params", 2, shift=5),
        InputError,
        f"params[2]: shares memory with params[0]{_OWN}",
    ),
    "a grad that is its param": (
        _share("grads", 1, "params", 1),
        InputError,
        f"grads[1]: shares memory with params[1]{_OWN}",
    ),
    "a grad that begins before another param": (
        _share("grads", 0, "params", 2, shift=-4),
        InputError,
        f"params[2]: shares memory with grads[0]{_OWN}",
    ),
    "a grad that is a buffer": (
        _share("grads", 2, "mean_grad", 0, shift=3),
        InputError,
        f"grads[2]: shares memory with mean_grad[0]{_OWN}",
    ),
    "two buffers in one memory": (
        _share("momentum_buf", 1, "grad_var", 1),
        InputError,
        f"momentum_buf[1]: shares memory with grad_var[1]{_OWN}",
    ),
    "a buffer in a param": (
        _share("grad_var", 2, "params", 1, shift=-1),
        InputError,
        f"grad_var[2]: shares memory with params[1]{_OWN}",
    ),
    # lists
    "a grad too few": (_drop("grads"), InputError, "grads: 2 arrays, expected 3, one for each of params"),
    "a buffer too few": (_drop("grad_var"), InputError, "grad_var: 2 arrays, expected 3, one for each of params"),
    "a list of buffers too few": (
        lambda call: call.buffers.pop() and None,
        InputError,
        "buffers: 2 lists, expected 3 for this rule",
    ),
    "counts too few": (
        _set(steps=np.zeros(2, np.int64)),
        InputError,
        "steps: int64 of shape (2,), expected a writable int64 array of shape (3,)",
    ),
    "counts of another dtype": (
        _set(steps=np.zeros(3)),
        InputError,
        "steps: float64 of shape (3,), expected a writable int64 array of shape (3,)",
    ),
    "read-only counts": (
        _set(steps=_read_only(np.zeros(3, np.int64))),
        InputError,
        "steps: int64 of shape (3,), expected a writable int64 array of shape (3,)",
    ),
    "a number for counts": (_set(steps=3), InputTypeError, "steps: a int, expected a NumPy array"),
    # numbers
    "a NaN lr": (_set(lr=np.nan), InputError, "lr: nan, expected a finite number of at least 0"),
    "a negative NaN lr": (_set(lr=-np.nan), InputError, "lr: nan, expected a finite number of at least 0"),
    "an infinite lr": (_set(lr=np.inf), InputError, "lr: inf, expected a finite number of at least 0"),
    "a small negative lr": (_set(lr=-1e-9), InputError, "lr: -1e-09, expected a finite number of at least 0"),
    "a negative max_norm": (
        _set(options={"max_norm": -1.0}),
        InputError,
        "max_norm: -1, expected a number of at least 0",
    ),
    "a NaN max_norm": (
        _set(options={"max_norm": np.nan}),
        InputError,
        "max_norm: nan, expected a number of at least 0",
    ),
}


def _checked(value: float) -> Callable[[Call], None]:
    def apply(call: Call) -> None:
        call.grads[1] = _with(call.grads[1], value)
        call.options["check_finite"] = True

    return apply


for _value in (np.nan, np.inf, -np.inf):
    REFUSED[f"a {_value} gradient, when asked to check"] = (
        _checked(_value),
        InputError,
        "grads[1]: NaN or infinity, expected finite numbers",
    )
