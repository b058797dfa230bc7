"""The state of one parameter: its tensors, how they start, and how they are written to and read from checkpoints.

In memory the state has torch's names: `step`, `square_avg`, `momentum_buffer`, `grad_avg`. There are three differences:

* centered keeps `grad_var`, the variance, instead of `square_avg`. `state_dict()` adds square_avg = grad_var +
  grad_avg^2, so that torch.optim.RMSprop can read it.
* `state_dtype="8bit"` keeps `square_avg_8bit` (uint8 codes) and `square_avg_scale` (one float32 per 256 elements).
  torch cannot read those: it raises a KeyError for `square_avg` instead of training on codes. Checkpoints of the former
  code, with `square_avg_max`, are converted.
* `param_rounding="compensated"` keeps `lost_bits` (int16), the bits of a float32 that a bfloat16 parameter cuts off.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from rmsprop.errors import StateError
from rmsprop.rule import Rule
from rmsprop.torch.layout import PLAIN_TYPES, get_local, is_dense

__all__ = [
    "BLOCK", "STATE_DTYPES", "ParamState", "StateTable", "decode_codes", "export_state", "flatten", "import_state",
    "list_keys", "prepare", "read_square", "refit",
]  # fmt: skip

STATE_DTYPES = ("float32", "bfloat16", "8bit")
BLOCK = 256
"""Elements that share one scale in the 8-bit code; the kernel's kBlock."""
_CHUNK = 64
"""Blocks encoded at once: it takes 40 bytes per element, and torch starts no threads for so few."""
_CODE_BITS = 20
"""The bits of a float32 that an 8-bit code does not keep; the kernel's kCodeBits."""

_TORCH_KEYS = {
    "mean_sq": "square_avg", "mean_grad": "grad_avg", "grad_var": "grad_var", "momentum_buf": "momentum_buffer",
}  # fmt: skip
_PER_ELEMENT = {*_TORCH_KEYS.values(), "lost_bits", "square_avg_8bit", "grad_var_8bit"}
_PER_BLOCK = ("_scale", "_max")
"""What the name of a block's number ends with, now and in the former code."""


class ParamState(dict[str, Any]):
    """The state of one parameter; "square_avg" is computed when it is read, if the state is centered or 8-bit.

    Iteration contains the name if `state_dict()` does: torch.distributed.checkpoint loads what it iterates over.
    """

    def __missing__(self, key: str) -> Tensor:
        if key == "square_avg":
            with torch.inference_mode():  # torch raises if such a tensor is written to
                if "square_avg_8bit" in self:
                    return _read_codes(self, "square_avg")
                if "grad_var_8bit" in self:
                    return _compute_square({**self, "grad_var": _read_codes(self, "grad_var")})
                if "grad_var" in self:
                    return _compute_square(self)
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return chain(self.keys(), ["square_avg"] if "grad_var" in self else [])


class StateTable(defaultdict[Any, Any]):
    """The optimizer's `state`. It counts its changes, so that cached lists of its tensors can be trusted."""

    def __init__(self, items: Mapping[Any, Any] | None = None) -> None:
        super().__init__(ParamState, items or {})
        self.version = 0

    def copy(self) -> StateTable:
        return StateTable(self)

    __copy__ = copy

    def __reduce__(self) -> tuple[Any, ...]:
        return StateTable, (dict(self),)


def _count_calls(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: StateTable, *args: Any, **kwargs: Any) -> Any:
        self.version += 1
        return method(self, *args, **kwargs)

    return call


for _name in "__missing__", "__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault", "update":
    setattr(StateTable, _name, _count_calls(getattr(defaultdict, _name)))


def list_keys(rule: Rule, group: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys of the tensors that a step of this rule writes beside the parameter, in the kernel's order."""
    keys = [_TORCH_KEYS[name] for name in rule.buffers]
    if group["state_dtype"] == "8bit":
        square = keys.index("grad_var" if rule.centered else "square_avg")
        keys.append(keys[square] + "_scale")
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

    If centering is switched on later, it starts from mean 0 and variance square_avg; if it is switched off, square_avg
    is computed from variance and mean.
    """
    if "step" not in state:
        dtype = torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32
        state["step"] = torch.zeros((), dtype=dtype, device=param.device if group["capturable"] else None)
    dtype = state_dtype(param, group)
    eight = group["state_dtype"] == "8bit" and dtype == torch.bfloat16
    mine, other = ("grad_var", "square_avg") if rule.centered else ("square_avg", "grad_var")
    if mine + ("_scale" if eight else "") not in state:
        # Read before it is removed, so that a change of the dtype or of centering converts what is there.
        square = read_square(state, mine, param)
        if square is None:
            square = read_square(state, other, param)
            if square is not None and not rule.centered:
                square = square + _square(state["grad_avg"].to(square.dtype))
        _remove_square(state, mine)
        _remove_square(state, other)
        _write_square(state, mine, param, square, rule, eight, dtype)
    if not rule.centered:
        state.pop("grad_avg", None)
    for key, needed, own in (
        ("grad_avg", rule.centered, dtype),
        ("momentum_buffer", rule.buffer != "none", dtype),
        ("lost_bits", group["param_rounding"] == "compensated", torch.int16),
    ):
        if needed and key not in state:
            state[key] = _zeros_like(param, own)


def refit(param: Tensor, state: dict[str, Any], rule: Rule, group: Mapping[str, Any]) -> None:
    """Give the state the dtype, device and memory order that `param.data` may have got: model.double(), ..."""
    if type(param) not in PLAIN_TYPES or not is_dense(param):
        return
    dtype = state_dtype(param, group)
    if not torch.is_tensor(state["step"]):
        state["step"] = torch.tensor(float(state["step"]))
    for key in _PER_ELEMENT & state.keys():
        value = state[key]
        wanted = dtype if value.is_floating_point() or value.is_complex() else value.dtype
        same = value.dtype == wanted and value.device == param.device and value.stride() == param.stride()
        if same or value.shape != param.shape:
            continue
        if key.endswith("_8bit"):  # blocks follow the memory order
            name = key.removesuffix("_8bit")
            square = _read_codes(state, name)
            _remove_square(state, name)
            _write_square(state, name, param, square, rule, True, dtype)
        else:
            state[key] = _convert(value, param, wanted)


def read_square(state: Mapping[str, Any], key: str, param: Tensor) -> Tensor | None:
    """Return square_avg or grad_var in the arithmetic's dtype, decoded if it is 8-bit; None if there is none."""
    if key in state:
        value = state[key]
        return value.to(arithmetic_dtype(param)) if torch.is_tensor(value) else None
    return _read_codes(state, key) if key + "_8bit" in state else None


def _write_square(
    state: dict[str, Any], key: str, param: Tensor, square: Tensor | None, rule: Rule, eight: bool, dtype: torch.dtype
) -> None:
    """Put square_avg or grad_var into `state`; if `square` is None, the rule's initial value."""
    init = rule.init_value
    if not eight:
        if square is None:
            start = torch.tensor(complex(init, init) if param.is_complex() else init, dtype=arithmetic_dtype(param))
            state[key] = _zeros_like(param, dtype).fill_(_convert(start, start, dtype).item())
        else:
            state[key] = _convert(square, param, dtype)
        return
    codes = state[key + "_8bit"] = _zeros_like(param, torch.uint8)
    scales = state[key + "_scale"] = torch.zeros(_count_blocks(param), dtype=torch.float32, device=param.device)
    if square is None:
        code, scale = _encode(torch.full((1,), init))
        codes.fill_(code.item())
        scales.fill_(scale.item())
        return
    if square.stride() != codes.stride() or square.device != codes.device or get_local(square) is not square:
        square = _zeros_like(param, torch.float32).copy_(square)  # blocks follow the memory order of the parameter
    flat, flat_codes = flatten(square), flatten(codes)
    for i in range(0, scales.numel(), _CHUNK):
        part = slice(i * BLOCK, (i + _CHUNK) * BLOCK)
        flat_codes[part], scales[i : i + _CHUNK] = _encode(flat[part])


def _remove_square(state: dict[str, Any], key: str) -> None:
    for ending in ("", "_8bit", *_PER_BLOCK):
        state.pop(key + ending, None)


def export_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of one parameter for a checkpoint: with square_avg where the variance is kept.

    A distributed parameter's 8-bit codes are decoded, because the blocks depend on the sharding.
    """
    sharded = [key for key in ("square_avg", "grad_var") if hasattr(state.get(key + "_8bit"), "to_local")]
    if sharded:
        rest = {name: value for name, value in state.items() if not name.endswith(("_8bit", *_PER_BLOCK))}
        state = {**rest, **{key: _read_codes(state, key) for key in sharded}}
    if "grad_var" not in state:
        return dict(state)
    return {**state, "square_avg": _compute_square(state)}


def _compute_square(state: Mapping[str, Any]) -> Tensor:
    """Return the mean square of a centered state, at least in float32."""
    square = state["grad_var"].float() if state["grad_var"].dtype == torch.bfloat16 else state["grad_var"]
    return square + _square(state["grad_avg"].to(square.dtype))


def import_state(
    state: Mapping[str, Any], param: Tensor, group: Mapping[str, Any], rule: Rule, name: str
) -> dict[str, Any]:
    """Return a checkpoint's entries of one parameter as state in memory. `name` is for messages.

    Raises:
        StateError: By name: `state[3]['square_avg'] is missing`.
    """
    step = _check_entries(state, param, rule, name)
    dtype = state_dtype(param, group)
    eight = group["state_dtype"] == "8bit" and dtype == torch.bfloat16
    mine = "grad_var" if rule.centered else "square_avg"
    new: dict[str, Any] = {"step": step.detach().to(param.device if group["capturable"] else step.device, copy=True)}
    if eight and mine + "_scale" in state and state[mine + "_8bit"].stride() == param.stride():
        new[mine + "_8bit"] = _zeros_like(param, torch.uint8).copy_(state[mine + "_8bit"])
        new[mine + "_scale"] = state[mine + "_scale"].to(param.device, torch.float32).clone()
    else:
        square = _read_variance(state, param) if rule.centered else read_square(state, mine, param)
        _write_square(new, mine, param, square, rule, eight, dtype)
    for key, own in (("grad_avg", dtype), ("momentum_buffer", dtype), ("lost_bits", torch.int16)):
        if key in state:
            new[key] = _convert(state[key], param, own)
    known = {"step", *_PER_ELEMENT}
    extra = {key: v for key, v in state.items() if key not in known and not key.endswith(("_8bit", *_PER_BLOCK))}
    return new | extra


def _check_entries(state: Mapping[str, Any], param: Tensor, rule: Rule, name: str) -> Tensor:
    """Raise a StateError for missing or misshapen entries; return the step count as a tensor."""
    squares = ("grad_var", "grad_var_8bit", "square_avg") if rule.centered else ("square_avg", "square_avg_8bit")
    if not any(key in state for key in squares):
        found = ", ".join(sorted(map(str, state)))
        raise StateError(
            f"{name}['square_avg'] is missing; found {found}: the state of another optimizer? Nothing was loaded"
        )
    needed = ["step", *(["grad_avg"] if rule.centered else []), *(["momentum_buffer"] if rule.buffer != "none" else [])]
    for square in (key.removesuffix("_8bit") for key in state if key.endswith("_8bit")):
        needed += [] if square + "_max" in state else [square + "_scale"]
    for key in needed:
        if key not in state:
            raise StateError(f"{name}[{key!r}] is missing; nothing was loaded")
    step = state["step"]
    if not torch.is_tensor(step):  # checkpoints of torch before 1.12
        step = torch.tensor(float(step), dtype=torch.float32)
    for key, value in {**state, "step": step}.items():
        if key == "step":
            fits, expected = value.numel() == 1, "one number"
        elif key.endswith(_PER_BLOCK):
            fits, expected = value.numel() == _count_blocks(param), f"{_count_blocks(param)}, one for each block"
        else:
            fits, expected = not torch.is_tensor(value) or value.shape == param.shape, str(tuple(param.shape))
        if not fits:
            raise StateError(f"{name}[{key!r}]: shape {tuple(value.shape)}, expected {expected}; nothing was loaded")
    return step


def _read_variance(state: Mapping[str, Any], param: Tensor) -> Tensor | None:
    """Return grad_var of a checkpoint, computed from square_avg where it is missing or stale.

    torch.optim.RMSprop(centered=True) keeps no variance. If it continues from our checkpoint, it carries our grad_var
    along unchanged, which then no longer agrees with its square_avg.
    """
    saved = read_square(state, "grad_var", param)
    total = read_square(state, "square_avg", param)
    if total is None:
        return saved
    squared_mean = _view_real(_square(state["grad_avg"].to(total.dtype)))
    variance = (_view_real(total) - squared_mean).clamp_min(0)
    if saved is not None:
        rounding = 4 * torch.finfo(state["square_avg"].dtype).eps
        agrees = (_view_real(saved) + squared_mean - _view_real(total)).abs() <= rounding * _view_real(total)
        variance = torch.where(agrees, _view_real(saved), variance)
    return torch.view_as_complex(variance) if param.is_complex() else variance


def _zeros_like(param: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros_like(param, dtype=dtype, memory_format=torch.preserve_format, requires_grad=False)


def _convert(x: Tensor, param: Tensor, dtype: torch.dtype) -> Tensor:
    """Return x in another dtype and the memory order of `param`; what is not zero does not become zero."""
    new = _zeros_like(param, dtype).copy_(x)
    if dtype == torch.bfloat16 and x.dtype != dtype:
        least = torch.tensor(2.0**-133, dtype=dtype, device=new.device)
        new.copy_(torch.where((new == 0) & (x != 0), least.copysign(x.to(dtype)), new))
    return new


def _view_real(x: Tensor) -> Tensor:
    return torch.view_as_real(x) if x.is_complex() else x


def _square(x: Tensor) -> Tensor:
    """Square by component: torch's complex state holds the averages of re^2 and im^2."""
    return torch.view_as_complex(torch.view_as_real(x) ** 2) if x.is_complex() else x * x


# ---- the 8-bit code --------------------------------------------------------------------------------------------------


def _count_blocks(param: Tensor) -> int:
    """Return the number of blocks; a distributed tensor's are those of this rank's shard."""
    return -(-get_local(param).numel() // BLOCK)


def flatten(x: Tensor) -> Tensor:
    """Return the elements that this rank has in the order of memory, as a view."""
    x = get_local(x)
    return x.as_strided((x.numel(),), (1,))


def _read_codes(state: Mapping[str, Any], key: str) -> Tensor:
    """Return the values of the codes of square_avg or grad_var, in their memory order, which is that of the blocks."""
    codes = state[f"{key}_8bit"]
    is_former = f"{key}_max" in state
    decode, blocks = (_decode_former, state[f"{key}_max"]) if is_former else (decode_codes, state[f"{key}_scale"])
    flat = flatten(codes)
    out = _zeros_like(codes, torch.float32)
    flatten(out).copy_(decode(flat, blocks.float().repeat_interleave(BLOCK)[: flat.numel()]))
    return out


def _find_base(scale: Tensor) -> Tensor:
    """Return what is added to the codes of a block. Its scale, or its largest value, is at most that of code 255."""
    bits = scale.view(torch.int32)
    top = (bits >> _CODE_BITS) + ((bits & ((1 << _CODE_BITS) - 1)) != 0)
    return top.clamp(255, 0x7F7).int() - 255


def decode_codes(codes: Tensor, scale: Tensor) -> Tensor:
    """Return the float32 values of uint8 codes; `scale` is that of each one's block."""
    codes = codes.int()
    return torch.where(codes == 0, 0, (_find_base(scale) + codes) << _CODE_BITS).view(torch.float32)


def _decode_former(codes: Tensor, maximum: Tensor) -> Tensor:
    """Return the values of the former code: 254 steps over 40 octaves below the block's maximum."""
    bits = (maximum.view(torch.int32) - (255 - codes.int()) * ((40 << 23) // 254)).clamp_min(1)
    return torch.where(codes == 0, 0, bits).view(torch.float32)


def _encode(square: Tensor) -> tuple[Tensor, Tensor]:
    """Return (codes in memory order, block scales): each value takes the nearer of its two neighbors."""
    flat = flatten(square).float()
    n = flat.numel()
    padded = torch.nn.functional.pad(flat, (0, -n % BLOCK)).view(-(-n // BLOCK), BLOCK)
    base = _find_base(torch.where(padded.isfinite(), padded, 0.0).amax(1, keepdim=True))
    scale = ((base + 255) << _CODE_BITS).view(torch.float32)
    x = padded.nan_to_num(nan=torch.inf).minimum(scale)  # as the kernel treats what is not finite
    # Between two codes the bits are linear in the value: adding half a step and cutting takes the nearer one.
    nearest = ((x.view(torch.int32) + (1 << (_CODE_BITS - 1))) >> _CODE_BITS).maximum(base + 1)
    codes = torch.where(x == 0, 0, nearest - base)
    return codes.view(-1)[:n].to(torch.uint8), scale.view(-1)
