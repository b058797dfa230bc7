"""torch.save files: torch.optim.RMSprop and the optimizers that share its layout.

    state_dict()["state"][i] = {step, square_avg[, grad_avg][, momentum_buffer]}
                               i: position over all param_groups

* torch: step is a 0-d float32 tensor; lr outside the buffer. rmsprop.torch adds "switches" to a group and stores
  grad_var or 8-bit codes (see rmsprop/torch/state.py).
* timm: the same keys; lr inside the buffer unless the group says lr_in_momentum=False; starts at one.
* stable-baselines3: step is a Python int; lr outside the buffer; starts at one. Its saved models are zip archives with
  the state in policy.optimizer.pth.
* bitsandbytes: state1, float32 or 8-bit codes; no momentum, whatever the group says. Version 0.50 keeps these tensors
  in a dict of their own, earlier ones beside "step". With i counting the elements in C order

      value[i] = qmap1[state1[i]] * absmax1[i // 256]

Files are read by torch.load(weights_only=True), so no pickle runs.

Source: torch/optim/rmsprop.py 2.13; timm/optim/rmsprop_tf.py 1.0.31; stable_baselines3 2.9.2 sb2_compat; bitsandbytes
0.50.2 optim/optimizer.py and functional.py.
"""

from __future__ import annotations

import io
import pickle
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rmsprop.checkpoints import _bounds
from rmsprop.checkpoints._pickles import check_pickles
from rmsprop.checkpoints._shared import Options, choose, find_places, raise_other, read_numbers
from rmsprop.checkpoints._snapshot import (
    Array,
    Group,
    Parameter,
    Snapshot,
    convert_to_rule,
    get_dialect,
    remove_correction,
)
from rmsprop.errors import FileError, RuleError, StateError
from rmsprop.rule import Rule

__all__ = ["FAMILY", "read", "recognize", "write"]

FAMILY = ("torch", "timm", "sb3", "bitsandbytes")
_MEMBER = "policy.optimizer.pth"
_BEFORE_1_6 = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_WRAPPED = "__bnb_optimizer_quant_state__"
_BLOCK = 256
_KEYS = {"mean_sq": "square_avg", "mean_grad": "grad_avg", "grad_var": "grad_var", "momentum_buf": "momentum_buffer"}
_NUMBERS = {"rho": "alpha"} | {name: name for name in ("lr", "eps", "momentum", "weight_decay", "initial_lr")}
_SB3_KEYS = {"lr", "momentum", "alpha", "eps", "centered", "weight_decay", "params", "param_names"}
_SQUARES = {"square_avg", "state1", "square_avg_8bit", "grad_var_8bit"}
_OTHERS = {"exp_avg_sq": "Adam", "exp_avg": "Adam or Lion", "exp_inf": "Adamax", "acc_delta": "Adadelta"}
_OTHERS |= {"sum": "Adagrad", "state2": "bitsandbytes Adam"}


def recognize(path: Path, head: bytes) -> bool:
    """Tell whether a file is a torch.save file, or the zip archive of a stable-baselines3 model."""
    if head[:2] != b"PK":
        return head.startswith(_BEFORE_1_6)
    names = _bounds.list_members(path)
    return _MEMBER in names or any(name.endswith("data.pkl") for name in names)


def read(path: Path, options: Options) -> Snapshot:
    """Read a checkpoint of the torch family."""
    where = str(path)
    packed = _find_state(_load(path), path, options)
    groups, states = packed["param_groups"], packed["state"]
    _check_schema(groups, states, where)
    states = {key: _unwrap(state) for key, state in states.items()}
    _check_optimizer(groups, states, where)
    format = _find_format(groups, states)
    named = all("param_names" in group for group in groups)
    parameters: list[Parameter] = []
    read_groups = []
    for group in groups:
        rule = _read_rule(group, where)
        read_groups.append(Group(size=len(group["params"]), numbers=_read_numbers(group), rule=rule))
        for i, key in enumerate(group["params"]):
            name = str(group["param_names"][i]) if named else str(len(parameters))
            parameter = _read_parameter(name, states.get(key, {}), where)
            if rule is not None and rule.bias_correction:
                parameter = remove_correction(parameter, rule.rho)
            parameters.append(parameter)
    present = {key for state in states.values() for key in state}
    notes = {
        "lost_bits belong to the weights, not to the optimizer: left out": "lost_bits" in present,
        "torch before 1.12 has the same layout, also with lr outside the buffer": format == "sb3",
        "the 8-bit statistics were widened to float32": "qmap1" in present,
    }
    rule = read_groups[0].rule
    buffer = get_dialect(format).momentum_buffer if groups[0].get("lr_in_momentum", True) else "unit"
    has_buffer = _read_switch(groups, "momentum", where)
    buffer = buffer if rule is None else rule.buffer
    return Snapshot(
        format=format,
        parameters=tuple(parameters),
        centered=_read_switch(groups, "centered", where),
        buffer=buffer if has_buffer else "none",
        named=named,
        init=(rule or get_dialect(format).rule).init_value,
        bias_correction=rule is not None and rule.bias_correction,
        eps_mode=None if rule is None else rule.eps_mode,
        groups=tuple(read_groups),
        notes=tuple(note for note, applies in notes.items() if applies),
    )


def _load(path: Path, where: Path | None = None) -> Any:
    where = where or path
    with _bounds.raise_file_errors(where, "torch.save file"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickle protocols that are not accepted anyway
        names = _bounds.list_members(path)
        if _MEMBER in names:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                inner = Path(folder) / _MEMBER
                inner.write_bytes(_bounds.read_member(path, _MEMBER))
                return _load(inner, path)
        record = next((name for name in names if name.endswith("data.pkl")), None)
        try:
            if record is not None:
                check_pickles(_bounds.read_member(path, record))
            else:
                check_pickles(_bounds.read_bytes(path), 4)  # before torch 1.6: magic number, version, system, tree
            # A storage that is mapped cannot be larger than the file, whatever size it declares.
            options = {"map_location": "cpu", "weights_only": True, "mmap": record is not None}
            return _bounds.import_package("torch").load(str(path), **options)
        except pickle.UnpicklingError as error:
            _, _, name = str(error).partition("Unsupported global: GLOBAL ")
            reason = name.split()[0].rstrip(".") if name else _bounds.shorten(error)
            raise FileError(
                f"{where}: holds more than tensors and numbers ({reason}), and code in a file is never run: save "
                "optimizer.state_dict() alone"
            ) from error


def _find_state(tree: Any, path: Path, options: Options) -> dict[str, Any]:
    """Return the optimizer's state_dict in a checkpoint."""
    places = find_places(tree, lambda node: "state" in node and "param_groups" in node)
    if not places:
        raise FileError(f"{path}: no optimizer state in it: expected optimizer.state_dict() (state and param_groups)")
    found: dict[str, Any] = places[choose([place.path for place in places], options, path)].node
    return found


def _check_schema(groups: Any, states: Any, where: str) -> None:
    """Raise for the first entry that has another type than in optimizer.state_dict()."""
    number = (int, float, _bounds.import_package("torch").Tensor)
    expected = {"params": list, "param_names": list, "switches": dict, "centered": bool, "betas": (list, tuple)}
    _bounds.check_types({"param_groups": groups, "state": states}, {"param_groups": list, "state": Mapping}, where)
    if not groups or not all(isinstance(group, Mapping) and "params" in group for group in groups):
        raise FileError(f"{where}: param_groups is not what optimizer.state_dict() returns")
    for i, group in enumerate(groups):
        place = f"{where}: param_groups[{i}]"
        _bounds.check_types(group, dict.fromkeys(_NUMBERS.values(), number) | expected, place)
        if not all(isinstance(key, (int, str)) for key in group["params"]):
            raise FileError(f"{place}: params are not positions")
        if len(group.get("param_names", group["params"])) != len(group["params"]):
            raise FileError(f"{place}: param_names and params have different lengths")
    for key, state in states.items():
        place = f"{where}: state[{key!r}]"
        _bounds.check_types({"state": state}, {"state": Mapping}, place)
        _bounds.check_types(state, {"step": number, _WRAPPED: Mapping}, place)


def _unwrap(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return one parameter's entries, with those that bitsandbytes wraps beside the others."""
    return {k: v for k, v in {**state, **state.get(_WRAPPED, {})}.items() if k != _WRAPPED}


def _check_optimizer(groups: Any, states: Mapping[Any, Mapping[str, Any]], where: str) -> None:
    """Raise for the state of another optimizer than RMSprop."""
    words = set(groups[0])
    if "dampening" in words:
        raise_other(where, "SGD", "its groups have dampening")
    if not states and not {"alpha", "betas"} & words:
        present = ", ".join(sorted(map(str, words)))
        raise StateError(f"{where}: no state, and no alpha in its groups, which have {present}: another optimizer?")
    for state in states.values():
        present = ", ".join(sorted(map(str, state)))
        for key, title in _OTHERS.items():
            if key in state:
                raise_other(where, title, present)
        if "exp_avg_sq" in present:
            raise_other(where, "HeavyBall", present)
        if state and not _SQUARES & set(state):
            raise StateError(f"{where}: no square_avg in it, but {present}: another optimizer?")
        if "state1" in state and groups[0].get("betas", (1,))[0] == 0:
            raise_other(where, "bitsandbytes Adagrad")
    if not any(states.values()) and "alpha" not in words and groups[0].get("amsgrad") is not None:
        raise_other(where, "Adam", "its group has amsgrad")


def _find_format(groups: Any, states: Mapping[Any, Mapping[str, Any]]) -> str:
    words = set(groups[0])
    if any("state1" in state for state in states.values()) or ("alpha" not in words and "betas" in words):
        return "bitsandbytes"
    if "lr_in_momentum" in words:
        return "timm"
    return "sb3" if words <= _SB3_KEYS and len(words) > 5 else "torch"


def _read_switch(groups: Any, key: str, where: str) -> bool:
    values = {bool(group.get(key, False)) for group in groups}
    if len(values) > 1:
        raise StateError(f"{where}: some parameter groups have {key} and others not, which no other layout can hold")
    return values.pop()


def _read_numbers(group: Mapping[str, Any]) -> dict[str, float]:
    bitsandbytes = {"rho": float(group["betas"][0]), "momentum": 0.0} if "betas" in group else {}
    return read_numbers(group, _NUMBERS) | bitsandbytes


def _read_rule(group: Mapping[str, Any], where: str) -> Rule | None:
    """Return the rule that rmsprop.torch saved with a group."""
    if not group.get("switches"):
        return None
    from rmsprop.torch.groups import resolve, rule_of

    try:
        return rule_of({**resolve({}, {}, None), **group})
    except (RuleError, TypeError) as error:
        raise StateError(f"{where}: the rule in its param_groups is not valid: {error}") from error


def _read_parameter(name: str, state: Mapping[str, Any], where: str) -> Parameter:
    if not state:
        return Parameter(name=name, step=0)
    try:
        arrays = {ours: _to_numpy(state[theirs]) for ours, theirs in _KEYS.items() if theirs in state}
        if "state1" in state:
            arrays = {"mean_sq": _decode_blocks({k: _to_numpy(v) for k, v in state.items() if k != "step"})}
        for ours in ("mean_sq", "grad_var"):
            if f"{_KEYS[ours]}_8bit" in state and ours not in arrays:
                from rmsprop.torch.state import read_square

                arrays[ours] = _to_numpy(read_square(state, _KEYS[ours], state[f"{_KEYS[ours]}_8bit"]))
    except (RuntimeError, TypeError, ValueError, IndexError, KeyError) as error:
        raise StateError(f"{where}: parameter {name!r}: {_bounds.shorten(error)}") from error
    return Parameter.from_arrays(name, arrays, int(state["step"]) if state.get("step") is not None else None)


def _decode_blocks(state: Mapping[str, Array]) -> Array:
    """Return the mean_sq of bitsandbytes, float32 or 8-bit codes."""
    codes = state["state1"]
    if codes.dtype != np.uint8:
        return codes
    if "qmap1" not in state or "absmax1" not in state:
        raise StateError("state1 holds 8-bit codes, but qmap1 or absmax1 is missing")
    table, maxima = state["qmap1"].astype(np.float32), state["absmax1"].astype(np.float32).ravel()
    if table.size != 256 or maxima.size != -(-codes.size // _BLOCK):
        sizes = f"{codes.size} codes, {table.size} in qmap1 and {maxima.size} in absmax1"
        raise StateError(f"state1: {sizes}, expected 256 and one for each {_BLOCK} codes: not blockwise")
    flat = table[codes.ravel()] * np.repeat(maxima, _BLOCK)[: codes.size]
    return flat.reshape(codes.shape)


def _to_numpy(tensor: Any) -> Array:
    torch = _bounds.import_package("torch")
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"a {type(tensor).__name__}, expected a tensor")
    if tensor.layout != torch.strided or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(f"a tensor of shape {tuple(tensor.shape)} whose elements are not all in the file")
    tensor = tensor.detach().cpu()
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()
    array: Array = tensor.resolve_conj().numpy()
    return array


def write(path: Path, snapshot: Snapshot, format: str, like: Path | None, options: Options) -> None:
    """Write a checkpoint of the torch family: a copy of `like` with the state replaced, or a new state_dict."""
    torch = _bounds.import_package("torch")
    tree: Any = {"state": {}, "param_groups": _make_groups(snapshot)} if like is None else _load(like)
    packed = tree if like is None else _find_state(tree, like, options)
    packed["state"] = {}
    remaining = iter(snapshot.parameters)
    for group in packed["param_groups"]:
        rule = _read_rule(group, str(like))
        for key, parameter in zip(group["params"], remaining):
            if parameter.mean_sq is not None:
                packed["state"][key] = _make_entry(parameter, format, rule)
    if like is not None and _MEMBER in _bounds.list_members(like):
        buffer = io.BytesIO()
        torch.save(packed, buffer)
        _bounds.copy_archive(like, path, _MEMBER, buffer.getvalue())
    else:
        with open(path, "wb") as file:  # torch.save would write the name of a path into the file
            torch.save(tree, file)


def _make_groups(snapshot: Snapshot) -> list[dict[str, Any]]:
    names = [parameter.name for parameter in snapshot.parameters]
    groups = snapshot.groups
    if sum(group.size for group in groups) != len(names):
        groups = (Group(size=len(names), numbers=groups[0].numbers if groups else {}),)
    packed: list[dict[str, Any]] = []
    first = 0
    for group in groups:
        new: dict[str, Any] = {_NUMBERS[ours]: value for ours, value in group.numbers.items() if ours in _NUMBERS}
        if snapshot.buffer == "none" and "momentum" in new:
            new["momentum"] = 0.0
        if snapshot.format not in FAMILY and new.get("weight_decay"):
            del new["weight_decay"]  # decoupled there, in torch added to the gradient
        if snapshot.named:
            new["param_names"] = names[first : first + group.size]
        packed.append({**new, "centered": bool(snapshot.centered), "params": list(range(first, first + group.size))})
        first += group.size
    return packed


def _make_entry(parameter: Parameter, format: str, rule: Rule | None) -> dict[str, Any]:
    torch = _bounds.import_package("torch")
    step = parameter.step or 0
    if format == "bitsandbytes":
        return {"step": step, _WRAPPED: {"state1": torch.from_numpy(parameter.arrays["mean_sq"].copy())}}
    arrays = parameter.arrays if rule is None else convert_to_rule(parameter, rule)
    if rule is None:
        arrays.pop("grad_var", None)
    tensors = {_KEYS[name]: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    return {"step": step if format == "sb3" else torch.tensor(float(step), dtype=torch.float32), **tensors}
