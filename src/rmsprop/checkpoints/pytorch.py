"""torch.save files: torch.optim.RMSprop and what shares its layout.

    state_dict()["state"][i] = {step, square_avg[, grad_avg][, momentum_buffer]}
                               i: position over all param_groups

* torch: step is a 0-d float32 tensor; lr outside the buffer. rmsprop.torch adds "switches" to a group and keeps
  grad_var or 8-bit codes (see rmsprop/torch/state.py).
* timm: the same keys; lr inside the buffer unless the group says lr_in_momentum=False; starts at one.
* stable-baselines3: step is a Python int; lr outside the buffer; starts at one. Its saved models are zip archives with
  the state in policy.optimizer.pth.
* bitsandbytes: state1 (float32, or uint8 codes with qmap1 and absmax1), no momentum whatever the group says.

Files are read by torch.load(weights_only=True), so no pickle runs.

Source: torch/optim/rmsprop.py 2.13; timm/optim/rmsprop_tf.py 1.0.31; stable_baselines3 2.9.2 sb2_compat; bitsandbytes
0.50.2 optim/optimizer.py.
"""

from __future__ import annotations

import dataclasses
import io
import pickle
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rmsprop.checkpoints import _archive, bitsandbytes
from rmsprop.checkpoints._packages import needed
from rmsprop.checkpoints._pickles import check_pickles
from rmsprop.checkpoints._snapshot import Array, Group, Parameter, Snapshot, kept, raw
from rmsprop.errors import FileError, RuleError, StateError
from rmsprop.rule import BufferMode, Rule

__all__ = ["FAMILY", "read", "write"]

FAMILY = ("torch", "timm", "sb3", "bitsandbytes")
MEMBER = "policy.optimizer.pth"
_HOST = {"mean_sq": "square_avg", "mean_grad": "grad_avg", "grad_var": "grad_var", "momentum_buf": "momentum_buffer"}
_NUMBERS = {"rho": "alpha"} | {name: name for name in ("lr", "eps", "momentum", "weight_decay", "initial_lr")}
_SB3_KEYS = {"lr", "momentum", "alpha", "eps", "centered", "weight_decay", "params", "param_names"}
_OTHERS = {
    "exp_avg_sq": "Adam",
    "exp_avg": "Adam or Lion",
    "exp_inf": "Adamax",
    "acc_delta": "Adadelta",
    "sum": "Adagrad",
    "state2": "bitsandbytes Adam",
}


def _torch() -> Any:
    return needed("torch", extra="torch", purpose="a PyTorch checkpoint")


def _load(path: Path, where: Path | None = None) -> Any:
    where = where or path
    with _archive.raise_file_errors(where, "torch.save file"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pickle protocols, where the answer is no anyway
        names = _archive.members(path)
        if MEMBER in names:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                inner = Path(folder) / MEMBER
                inner.write_bytes(_archive.member(path, MEMBER))
                return _load(inner, path)
        record = next((name for name in names if name.endswith("data.pkl")), None)
        try:
            if record is not None:
                check_pickles(_archive.member(path, record))
            else:
                check_pickles(_archive.read_bytes(path), 4)  # before torch 1.6: magic number, version, system, tree
            # Mapped storages cannot grow beyond the file, whatever sizes it declares.
            return _torch().load(str(path), map_location="cpu", weights_only=True, mmap=record is not None)
        except pickle.UnpicklingError as error:
            raise FileError(
                f"{where}: holds more than tensors and numbers ({_reason(error)}), which only running its pickle could "
                "restore, and that is never done: save optimizer.state_dict() alone"
            ) from error


def _reason(error: BaseException) -> str:
    text = str(error)
    start = text.find("Unsupported global: GLOBAL ")
    return text[start:].split()[3].rstrip(".") if start >= 0 else _archive.short(error)


def _locate(tree: Any, path: Path, at: str | None) -> dict[str, Any]:
    """Return the optimizer's state_dict in a checkpoint.

    Raises:
        FileError: There is none.
        InputError: There are several and `at` does not say which.
    """
    spots = _archive.places(tree, lambda node: "state" in node and "param_groups" in node)
    if at is None and not spots:
        raise FileError(f"{path}: no optimizer state in it: expected optimizer.state_dict() (state and param_groups)")
    return _archive.found(tree, _archive.choose(spots, at, path))


def read(path: Path, *, at: str | None = None) -> Snapshot:
    """Read a checkpoint of the torch family.

    Raises:
        FileError: Truncated, or no optimizer state in it.
        StateError: The state of another optimizer.
    """
    return _snapshot(_locate(_load(path), path, at), str(path))


def _snapshot(packed: Mapping[str, Any], where: str) -> Snapshot:
    groups, states = packed["param_groups"], packed["state"]
    _check_schema(groups, states, where)
    states = {key: _flat(state) for key, state in states.items()}
    _refuse_others(groups, states, where)
    kind = _family(groups, states)
    parameters: list[Parameter] = []
    notes: list[str] = []
    named = all("param_names" in group for group in groups)
    for group in groups:
        switches = group.get("switches") or {}
        for i, key in enumerate(group["params"]):
            name = str(group["param_names"][i]) if named else str(len(parameters))
            parameter = _parameter(name, states.get(key, {}), where)
            if switches.get("bias_correction"):
                parameter = raw(parameter, float(group["alpha"]))
            parameters.append(parameter)
            if "lost_bits" in states.get(key, {}):
                notes.append("lost_bits belong to the weights, not to the optimizer: left out")
    if kind == "sb3":
        notes.append("the layout is also that of torch before 1.12, where lr is outside the buffer as well")
    if kind == "bitsandbytes" and any("qmap1" in state for state in states.values()):
        notes.append("the 8-bit statistics were widened to float32")
    switches = groups[0].get("switches") or {}
    centered, momentum = _same(groups, "centered", where), _same(groups, "momentum", where)
    buffer: BufferMode = "lr" if kind == "timm" and groups[0].get("lr_in_momentum", True) else "unit"
    return Snapshot(
        format=kind,
        parameters=tuple(parameters),
        centered=centered,
        buffer=switches.get("buffer", buffer) if momentum and kind != "bitsandbytes" else "none",
        named=named,
        init=_init(switches, kind, groups[0]),
        bias_correction=bool(switches.get("bias_correction")),
        eps_mode=switches.get("eps_mode"),
        groups=tuple(
            Group(size=len(group["params"]), numbers=_numbers(group), rule=_rule(group, where)) for group in groups
        ),
        notes=tuple(dict.fromkeys(notes)),
    )


def _check_schema(groups: Any, states: Any, where: str) -> None:
    """Refuse what has not the types that optimizer.state_dict() returns.

    Raises:
        FileError: The first that differs, by name.
    """
    number = (int, float, _torch().Tensor)
    expected = {"params": list, "param_names": list, "switches": dict, "centered": bool, "betas": (list, tuple)}
    _archive.check_entries({"param_groups": groups, "state": states}, {"param_groups": list, "state": Mapping}, where)
    if not groups or not all(isinstance(group, Mapping) and "params" in group for group in groups):
        raise FileError(f"{where}: param_groups is not what optimizer.state_dict() returns")
    for i, group in enumerate(groups):
        _archive.check_entries(
            group, dict.fromkeys(_NUMBERS.values(), number) | expected, f"{where}: param_groups[{i}]"
        )
        if not all(isinstance(key, (int, str)) for key in group["params"]):
            raise FileError(f"{where}: param_groups[{i}]: params are no positions")
        if len(group.get("param_names", group["params"])) != len(group["params"]):
            raise FileError(f"{where}: param_groups[{i}]: param_names are not as many as params")
    for key, state in states.items():
        _archive.check_entries({"state": state}, {"state": Mapping}, f"{where}: state[{key!r}]")
        _archive.check_entries(state, {"step": number, bitsandbytes.WRAPPED: Mapping}, f"{where}: state[{key!r}]")


def _flat(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return one parameter's entries, with those that bitsandbytes wraps beside the others."""
    return {**{k: v for k, v in state.items() if k != bitsandbytes.WRAPPED}, **state.get(bitsandbytes.WRAPPED, {})}


def _refuse_others(groups: Any, states: Mapping[Any, Mapping[str, Any]], where: str) -> None:
    words = set(groups[0])
    if "dampening" in words:
        raise StateError(f"{where}: the state of SGD (its groups have dampening), not of RMSprop")
    if not states and not {"alpha", "betas"} & words:
        held = ", ".join(sorted(map(str, words)))
        raise StateError(f"{where}: no state, and no alpha in its groups, which hold {held}: another optimizer?")
    for state in states.values():
        other = next((title for key, title in _OTHERS.items() if key in state), None)
        nested = [key for key in state if "exp_avg_sq" in str(key)]
        if other is None and nested:
            other = "HeavyBall" if not state.get("exp_avg_sq") else "Adam"
        if other is not None:
            raise StateError(
                f"{where}: the state of {other} ({', '.join(sorted(map(str, state)))}), not of RMSprop: its averages "
                "mean something else, and nothing was converted"
            )
        if state and not {"square_avg", "state1", "square_avg_8bit", "grad_var_8bit"} & set(state):
            raise StateError(
                f"{where}: no square_avg in it; it holds {', '.join(sorted(map(str, state)))}: another optimizer?"
            )
        if "state1" in state and groups[0].get("betas", (1,))[0] == 0:
            raise StateError(f"{where}: the state of bitsandbytes Adagrad, not of RMSprop: nothing was converted")
    if not any(states.values()) and "alpha" not in groups[0] and groups[0].get("amsgrad") is not None:
        raise StateError(f"{where}: the state of Adam (its group has amsgrad), not of RMSprop: nothing was converted")


def _family(groups: Any, states: Mapping[Any, Mapping[str, Any]]) -> str:
    if any("state1" in state for state in states.values()) or ("alpha" not in groups[0] and "betas" in groups[0]):
        return "bitsandbytes"
    if "lr_in_momentum" in groups[0]:
        return "timm"
    return "sb3" if set(groups[0]) <= _SB3_KEYS and len(set(groups[0]) & _SB3_KEYS) > 5 else "torch"


def _same(groups: Any, key: str, where: str) -> bool:
    values = {bool(group.get(key, False)) for group in groups}
    if len(values) > 1:
        raise StateError(f"{where}: some parameter groups have {key} and others not, which no other layout can hold")
    return values.pop()


def _init(switches: Mapping[str, Any], kind: str, group: Mapping[str, Any]) -> float:
    start = switches.get("init", "ones" if kind in ("timm", "sb3") else "zeros")
    return {"zeros": 0.0, "ones": 1.0, "eps": float(group.get("eps", 0.0))}.get(start, start)


def _numbers(group: Mapping[str, Any]) -> dict[str, float]:
    numbers = {ours: float(group[theirs]) for ours, theirs in _NUMBERS.items() if group.get(theirs) is not None}
    if "betas" in group:
        numbers |= {"rho": float(group["betas"][0]), "momentum": 0.0}
    return numbers


def _rule(group: Mapping[str, Any], where: str) -> Rule | None:
    """Return the rule that rmsprop.torch saves in a group; None in torch's own."""
    if not group.get("switches"):
        return None
    from rmsprop.torch.groups import resolve, rule_of

    try:
        return rule_of({**resolve({}, {}, None), **group})
    except (RuleError, TypeError) as error:
        raise StateError(f"{where}: the rule in its param_groups cannot be one: {error}") from error


def _parameter(name: str, state: Mapping[str, Any], where: str) -> Parameter:
    if not state:
        return Parameter(name=name, step=0)
    try:
        arrays = {ours: _numpy(state[theirs]) for ours, theirs in _HOST.items() if theirs in state}
        arrays |= _decoded(state)
    except (RuntimeError, TypeError, ValueError, IndexError, KeyError) as error:
        raise StateError(f"{where}: parameter {name!r}: {_archive.short(error)}") from error
    step = state.get("step")
    return Parameter.of(name, arrays, None if step is None else int(step))


def _decoded(state: Mapping[str, Any]) -> dict[str, Array]:
    """Return what 8-bit codes stand for: this library's, or bitsandbytes'."""
    if "state1" in state:
        return {"mean_sq": bitsandbytes.decoded({k: _numpy(v) for k, v in state.items() if k != "step"})}
    found = {}
    for ours in ("mean_sq", "grad_var"):
        if _HOST[ours] + "_8bit" in state and _HOST[ours] not in state:
            from rmsprop.torch.state import read_square

            found[ours] = _numpy(read_square(state, _HOST[ours], state[_HOST[ours] + "_8bit"]))
    return found


def _numpy(tensor: Any) -> Array:
    torch = _torch()
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"a {type(tensor).__name__}, expected a tensor")
    if tensor.layout != torch.strided or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(f"a tensor of shape {tuple(tensor.shape)} whose elements are not all in the file")
    tensor = tensor.detach().cpu()
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()
    array: Array = tensor.resolve_conj().numpy()
    return array


def write(path: Path, snapshot: Snapshot, *, format: str, like: Path | None = None, at: str | None = None) -> None:
    """Write a checkpoint of the torch family: a copy of `like` with the state replaced, or a state_dict of its own.

    Raises:
        StateError: timm or bitsandbytes without `like`.
    """
    torch = _torch()
    if like is None:
        if format in ("timm", "bitsandbytes"):
            raise StateError(f"{format} keeps settings in the file that only it knows: give --like a checkpoint of it")
        tree: Any = {"state": {}, "param_groups": _groups(snapshot)}
        packed = tree
    else:
        tree = _load(like)
        packed = _locate(tree, like, at)
    keys = [(key, group) for group in packed["param_groups"] for key in group["params"]]
    packed["state"] = {
        key: _entry(parameter, format, group)
        for (key, group), parameter in zip(keys, snapshot.parameters, strict=True)
        if parameter.mean_sq is not None
    }
    if like is not None and MEMBER in _archive.members(like):
        buffer = io.BytesIO()
        torch.save(packed, buffer)
        _archive.copied(like, path, MEMBER, buffer.getvalue())
    else:
        with open(path, "wb") as file:  # a path's name would go into the file
            torch.save(tree, file)


def _groups(snapshot: Snapshot) -> list[dict[str, Any]]:
    total = len(snapshot.parameters)
    groups = snapshot.groups if sum(group.size for group in snapshot.groups) == total else snapshot.groups[:1]
    if len(groups) <= 1:
        groups = (Group(size=total, numbers=groups[0].numbers if groups else {}),)
    packed: list[dict[str, Any]] = []
    first = 0
    for group in groups:
        numbers: dict[str, Any] = {_NUMBERS[ours]: value for ours, value in group.numbers.items() if ours in _NUMBERS}
        own = range(first, first + group.size)
        if snapshot.buffer == "none" and "momentum" in numbers:
            numbers["momentum"] = 0.0
        if snapshot.format not in FAMILY and numbers.get("weight_decay"):
            del numbers["weight_decay"]  # decoupled there, in torch added to the gradient
        names = {"param_names": [snapshot.parameters[i].name for i in own]} if snapshot.named else {}
        packed.append({**numbers, "centered": bool(snapshot.centered), **names, "params": list(own)})
        first += group.size
    return packed


def _entry(parameter: Parameter, format: str, group: Mapping[str, Any]) -> dict[str, Any]:
    torch = _torch()
    step = parameter.step or 0
    if format == "bitsandbytes":
        return {"step": step, bitsandbytes.WRAPPED: {"state1": torch.from_numpy(parameter.arrays["mean_sq"].copy())}}
    switches = group.get("switches")
    if switches is not None and parameter.mean_grad is not None:
        parameter = dataclasses.replace(parameter, grad_var=parameter.variance())
    elif switches is None:
        parameter = dataclasses.replace(parameter, grad_var=None)
    arrays = parameter.arrays
    if switches is not None and switches.get("bias_correction"):
        centered = "mean_grad" in arrays
        arrays = kept(parameter, Rule(rho=float(group["alpha"]), bias_correction=True, centered=centered))
    tensors = {_HOST[name]: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    return {"step": step if format == "sb3" else torch.tensor(float(step), dtype=torch.float32), **tensors}
