"""The state of one parameter: which tensors it has, how they start, and how they enter and leave checkpoints.

Live state has torch's names: `step`, `square_avg`, `momentum_buffer`, `grad_avg`. Three differences, each undone in
checkpoints so that torch.optim.RMSprop can read them:

* centered keeps `grad_var`, the variance, instead of `square_avg`; `state_dict()` adds
  square_avg = grad_var + grad_avg^2.
* `state_dtype="8bit"` keeps `square_avg_8bit` (uint8 codes) and `square_avg_max` (one float32 per 256 elements); torch
  cannot read those, and says so by a missing key instead of training on codes.
* `param_rounding="compensated"` keeps `lost_bits` (int16), the bits of a float32 that a bfloat16 parameter cuts off.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rmsprop.errors import StateError
from rmsprop.rule import Rule
from rmsprop.torch.layout import PLAIN_TYPES, is_dense

__all__ = ["STATE_DTYPES", "StateTable", "entering", "keys_of", "leaving", "narrowed", "prepare", "refit"]

STATE_DTYPES = ("float32", "bfloat16", "8bit")
BLOCK = 256
"""Elements that share one maximum in the 8-bit code; the kernel's kBlock."""
_CODE_STEP = (40 << 23) // 254
"""Distance of neighbouring 8-bit codes in the bits of a float32; the kernel's kCodeStep."""

_REFITTED = {"square_avg", "grad_var", "grad_avg", "momentum_buffer", "lost_bits", "square_avg_8bit", "grad_var_8bit"}

_HOST = {"mean_sq": "square_avg", "mean_grad": "grad_avg", "grad_var": "grad_var", "momentum_buf": "momentum_buffer"}


class StateTable(defaultdict[Any, Any]):
    """The optimizer's `state`, which counts its changes so that cached lists of tensors can be trusted."""

    def __init__(self, items: Mapping[Any, Any] | None = None) -> None:
        super().__init__(dict, items or {})
        self.version = 0

    def __missing__(self, key: Any) -> Any:
        self.version += 1
        return super().__missing__(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.version += 1
        super().__setitem__(key, value)

    def __delitem__(self, key: Any) -> None:
        self.version += 1
        super().__delitem__(key)

    def clear(self) -> None:
        self.version += 1
        super().clear()

    def pop(self, *args: Any) -> Any:
        self.version += 1
        return super().pop(*args)

    def popitem(self) -> Any:
        self.version += 1
        return super().popitem()

    def setdefault(self, *args: Any) -> Any:
        self.version += 1
        return super().setdefault(*args)

    def update(self, *args: Any, **kwargs: Any) -> None:
        self.version += 1
        super().update(*args, **kwargs)

    def copy(self) -> StateTable:
        return StateTable(self)

    __copy__ = copy

    def __reduce__(self) -> tuple[Any, ...]:
        return StateTable, (dict(self),)


def keys_of(rule: Rule, group: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys of the tensors that a step of this rule writes beside the parameter, in the kernel's order."""
    eight = group["state_dtype"] == "8bit"
    keys = [_HOST[name] for name in rule.buffers]
    if eight:
        square = keys.index("grad_var" if rule.centered else "square_avg")
        keys.append(keys[square] + "_max")
        keys[square] += "_8bit"
    if group["param_rounding"] == "compensated":
        keys.append("lost_bits")
    return tuple(keys)


def arithmetic_dtype(param: Tensor) -> torch.dtype:
    """Return float64 for float64 (complex128) parameters, else float32 (complex64)."""
    wide = param.dtype in (torch.float64, torch.complex128)
    if param.is_complex():
        return torch.complex128 if wide else torch.complex64
    return torch.float64 if wide else torch.float32


def state_dtype(param: Tensor, group: Mapping[str, Any]) -> torch.dtype:
    """Return the dtype of the statistics of `param`; float64 and complex parameters keep their own precision."""
    dtype = arithmetic_dtype(param)
    return torch.bfloat16 if dtype == torch.float32 and group["state_dtype"] != "float32" else dtype


def prepare(param: Tensor, state: dict[str, Any], rule: Rule, group: Mapping[str, Any]) -> None:
    """Add to `state` what a step of `rule` needs and it lacks; what momentum or centering no longer needs stays.

    Centering switched on later starts from mean 0 and variance square_avg; switched off, square_avg is put together
    again from variance and mean.
    """
    if "step" not in state:
        dtype = torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32
        state["step"] = torch.zeros((), dtype=dtype, device=param.device if group["capturable"] else None)
    eight = group["state_dtype"] == "8bit" and state_dtype(param, group) == torch.bfloat16
    suffix = "_8bit" if eight else ""
    mine, other = ("grad_var", "square_avg") if rule.centered else ("square_avg", "grad_var")
    if mine + suffix not in state:
        # Widened first, so that switching the state's dtype or the centering converts what is there.
        square = read_square(state, mine, param)
        if square is None:
            square = read_square(state, other, param)
            if square is not None and not rule.centered:
                square = square + _squared(state["grad_avg"].to(square.dtype))
        forget(state, mine)
        forget(state, other)
        write_square(state, mine, param, square, rule, eight, state_dtype(param, group))
    if rule.centered and "grad_avg" not in state:
        state["grad_avg"] = _like(param, state_dtype(param, group))
    if not rule.centered:
        state.pop("grad_avg", None)
    if rule.buffer != "none" and "momentum_buffer" not in state:
        state["momentum_buffer"] = _like(param, state_dtype(param, group))
    if group["param_rounding"] == "compensated" and "lost_bits" not in state:
        state["lost_bits"] = _like(param, torch.int16)


def refit(param: Tensor, state: dict[str, Any], rule: Rule, group: Mapping[str, Any]) -> None:
    """Bring state into the dtype, device and memory order that `param.data` may have been given: model.double(), ..."""
    if type(param) not in PLAIN_TYPES or not is_dense(param):
        return
    dtype = state_dtype(param, group)
    if not torch.is_tensor(state["step"]):
        state["step"] = torch.tensor(float(state["step"]))
    for key in _REFITTED & state.keys():
        value = state[key]
        whole = key == "lost_bits" or key.endswith("_8bit")
        wanted = value.dtype if whole else dtype
        same = value.dtype == wanted and value.device == param.device and value.stride() == param.stride()
        if same or value.shape != param.shape:
            continue
        if key.endswith("_8bit"):  # blocks follow the memory order
            name = key.removesuffix("_8bit")
            square = read_square(state, name, value)
            assert square is not None
            relaid = torch.empty_like(param, dtype=torch.float32, requires_grad=False).copy_(square)
            forget(state, name)
            write_square(state, name, param, relaid, rule, True, dtype)
        else:
            state[key] = narrowed(value, param, wanted)


def read_square(state: Mapping[str, Any], key: str, param: Tensor) -> Tensor | None:
    """Return square_avg or grad_var in the arithmetic's dtype, decoded where it is 8-bit; None where there is none."""
    if key in state:
        value = state[key]
        return value.to(arithmetic_dtype(param)) if torch.is_tensor(value) else None
    if key + "_8bit" not in state:
        return None
    return _decode(state[key + "_8bit"], state[key + "_max"])


def write_square(
    state: dict[str, Any], key: str, param: Tensor, square: Tensor | None, rule: Rule, eight: bool, dtype: torch.dtype
) -> None:
    """Put square_avg or grad_var into `state`; `square` None: the rule's start."""
    if not eight:
        state[key] = _like(param, dtype) if square is None else narrowed(square, param, dtype)
        if square is None and rule.init_value:
            value = complex(rule.init_value, rule.init_value) if param.is_complex() else rule.init_value
            state[key].fill_(value)
        return
    state[key + "_8bit"] = _like(param, torch.uint8)
    state[key + "_max"] = torch.zeros(_blocks(param), device=param.device)
    whole = _like(param, torch.float32)  # in the memory order of the parameter, which is that of the blocks
    codes, maxima = _encode(whole.fill_(rule.init_value) if square is None else whole.copy_(square))
    _flat(state[key + "_8bit"]).copy_(codes)
    state[key + "_max"].copy_(maxima)


def _variance(state: Mapping[str, Any], param: Tensor) -> Tensor | None:
    """Return grad_var of a checkpoint, put together from square_avg where it is missing or stale.

    torch.optim.RMSprop(centered=True) keeps no variance. When it trains on from our checkpoint it carries our grad_var
    along unchanged, which then no longer adds up to its square_avg.
    """
    kept = read_square(state, "grad_var", param)
    whole = read_square(state, "square_avg", param)
    if whole is None:
        return kept
    squared_mean = _real(_squared(state["grad_avg"].to(whole.dtype)))
    square = (_real(whole) - squared_mean).clamp_min(0)
    if kept is not None:
        rounding = 4 * torch.finfo(state["square_avg"].dtype).eps
        adds_up = (_real(kept) + squared_mean - _real(whole)).abs() <= rounding * _real(whole)
        square = torch.where(adds_up, _real(kept), square)
    return torch.view_as_complex(square) if param.is_complex() else square


def forget(state: dict[str, Any], key: str) -> None:
    """Remove a square in every form it may have."""
    for form in (key, key + "_8bit", key + "_max"):
        state.pop(form, None)


def leaving(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of one parameter for a checkpoint: with square_avg where the variance is kept."""
    state = _decoded_shards(state)
    if "grad_var" not in state:
        return dict(state)
    square = state["grad_var"].float() if state["grad_var"].dtype == torch.bfloat16 else state["grad_var"]
    return {**state, "square_avg": square + _squared(state["grad_avg"].to(square.dtype))}


def entering(
    state: Mapping[str, Any], param: Tensor, group: Mapping[str, Any], rule: Rule, name: str
) -> dict[str, Any]:
    """Return a checkpoint's entries of one parameter as live state, or say what is missing or misshapen.

    Raises:
        StateError: By name: `state[3]['square_avg'] is missing`.
    """
    state = dict(state)
    squares = ("grad_var", "grad_var_8bit", "square_avg") if rule.centered else ("square_avg", "square_avg_8bit")
    if not any(key in state for key in squares):
        held = ", ".join(sorted(map(str, state)))
        raise StateError(
            f"{name}['square_avg'] is missing; it holds {held}: the state of another optimizer? Nothing was loaded"
        )
    for key in ("step", "grad_avg" if rule.centered else None, "momentum_buffer" if rule.buffer != "none" else None):
        if key is not None and key not in state:
            raise StateError(f"{name}[{key!r}] is missing; nothing was loaded")
    for key, value in state.items():
        if key != "step" and not key.endswith("_max") and torch.is_tensor(value) and value.shape != param.shape:
            raise StateError(
                f"{name}[{key!r}]: shape {tuple(value.shape)}, expected {tuple(param.shape)}; nothing was loaded"
            )
        if key.endswith("_8bit") and key[:-5] + "_max" not in state:
            raise StateError(f"{name}[{key[:-5] + '_max'!r}] is missing; nothing was loaded")
        if key.endswith("_max") and value.numel() != _blocks(param):
            raise StateError(
                f"{name}[{key!r}]: {value.numel()} block maxima, expected {_blocks(param)} for shape "
                f"{tuple(param.shape)}; nothing was loaded"
            )
    step = state["step"]
    if not torch.is_tensor(step):  # checkpoints of torch before 1.12
        step = torch.tensor(float(step), dtype=torch.float32)
    if step.numel() != 1:
        raise StateError(f"{name}['step']: shape {tuple(step.shape)}, expected one number; nothing was loaded")
    dtype = state_dtype(param, group)
    eight = group["state_dtype"] == "8bit" and dtype == torch.bfloat16
    mine = "grad_var" if rule.centered else "square_avg"
    new: dict[str, Any] = {"step": step.detach().to(param.device if group["capturable"] else step.device, copy=True)}
    if eight and mine + "_8bit" in state and state[mine + "_8bit"].stride() == param.stride():
        new[mine + "_8bit"] = _like(param, torch.uint8).copy_(state[mine + "_8bit"])
        new[mine + "_max"] = state[mine + "_max"].to(param.device, torch.float32).clone()
    else:
        square = _variance(state, param) if rule.centered else read_square(state, mine, param)
        write_square(new, mine, param, square, rule, eight, dtype)
    for key in ("grad_avg", "momentum_buffer"):
        if key in state:
            new[key] = narrowed(state[key], param, dtype)
    if "lost_bits" in state:
        new["lost_bits"] = _like(param, torch.int16).copy_(state["lost_bits"])
    known = {"step", "square_avg", "grad_var", "grad_avg", "momentum_buffer", "lost_bits"}
    for key, value in state.items():
        if key not in known and not key.endswith(("_8bit", "_max")):
            new[key] = value
    return new


def _like(param: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros_like(param, dtype=dtype, memory_format=torch.preserve_format, requires_grad=False)


def narrowed(x: Tensor, param: Tensor, dtype: torch.dtype) -> Tensor:
    """Return x in another dtype and the memory order of `param`; what is not zero does not become zero."""
    new = _like(param, dtype).copy_(x)
    if dtype == torch.bfloat16 and x.dtype != dtype:
        least = torch.tensor(2.0**-133, dtype=dtype, device=new.device)
        new.copy_(torch.where((new == 0) & (x != 0), least.copysign(x.to(dtype)), new))
    return new


def _real(x: Tensor) -> Tensor:
    return torch.view_as_real(x) if x.is_complex() else x


def _squared(x: Tensor) -> Tensor:
    """Square by component: torch's complex state holds the averages of re^2 and im^2."""
    return torch.view_as_complex(torch.view_as_real(x) ** 2) if x.is_complex() else x * x


def _shard(x: Tensor) -> Tensor:
    """Return what this rank holds of a distributed tensor, sharing its memory; other tensors themselves."""
    to_local = getattr(x, "to_local", None)
    return x if to_local is None else to_local()


def _blocks(param: Tensor) -> int:
    """Count the blocks of the 8-bit code; a distributed tensor's are those of this rank's shard."""
    return (_shard(param).numel() + BLOCK - 1) // BLOCK


def _decoded_shards(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a distributed parameter's state without 8-bit codes: other shards would have other blocks."""
    keys = [key for key in ("square_avg", "grad_var") if hasattr(state.get(key + "_8bit"), "to_local")]
    if not keys:
        return state
    kept = {name: value for name, value in state.items() if not name.endswith(("_8bit", "_max"))}
    return {**kept, **{key: _decode(state[key + "_8bit"], state[key + "_max"]) for key in keys}}


def _flat(x: Tensor) -> Tensor:
    """Return the elements that this rank holds in the order of memory, as a view."""
    x = _shard(x)
    return x.as_strided((x.numel(),), (1,), x.storage_offset())


def _decode(codes: Tensor, maxima: Tensor) -> Tensor:
    """Return the values of 8-bit codes, in their memory order, which is that of the blocks."""
    flat = _flat(codes).to(torch.int32)
    top = maxima.to(torch.float32).view(torch.int32).repeat_interleave(BLOCK)[: flat.numel()]
    out = _like(codes, torch.float32)
    _flat(out).copy_(_values(flat, top))
    return out


def _values(codes: Tensor, top: Tensor) -> Tensor:
    """Return the float32 that int32 codes stand for beside the bits of their blocks' maxima."""
    bits = (top - (255 - codes) * _CODE_STEP).clamp_min(1)
    return torch.where(codes == 0, 0, bits).view(torch.float32)


def _encode(square: Tensor) -> tuple[Tensor, Tensor]:
    """Return (codes in memory order, block maxima): each value takes the nearer of its two neighbours."""
    flat = _flat(square).float()
    n = flat.numel()
    padded = torch.nn.functional.pad(flat, (0, -n % BLOCK)).view(-(-n // BLOCK), BLOCK)
    maxima = torch.where(padded.isfinite(), padded, 0.0).amax(1)
    top = maxima.view(torch.int32).unsqueeze(1)
    x = padded.nan_to_num(nan=torch.inf).minimum(maxima.unsqueeze(1))  # as the kernel treats what is not finite
    steps = (top - x.view(torch.int32)).div(_CODE_STEP, rounding_mode="floor")
    below = (254 - steps).clamp_min(1)
    low, high = _values(below, top), _values(below + 1, top)
    codes = torch.where(x == 0, 0, below + (x - low > high - x).int())
    return codes.view(-1)[:n].to(torch.uint8), maxima
