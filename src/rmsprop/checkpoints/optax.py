"""optax.rmsprop's state in an Orbax folder or a flax msgpack file.

    (ScaleByRms(nu) | ScaleByRStdDev(mu, nu) [, count with bias correction],
     EmptyState | ScaleBySchedule(count),
     TraceState(trace) | EmptyState)

nu and mu are raw averages. trace is -momentum_buf, because the negative learning rate is applied before it. The state
may be anywhere in a larger tree ({"params": ..., "opt_state": ..., "step": ...}). Orbax stores tuples as lists, flax as
dicts "0", "1", "2".

Adam's state also consists of mu, nu and count; it is read as RMSprop's only if the user says so (slots).

Source: optax/_src/alias.py and transform.py 0.2.8; orbax-checkpoint 0.12.8; flax/serialization.py 0.12.8.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rmsprop.checkpoints import _msgpack
from rmsprop.checkpoints._bounds import check_size, import_package, raise_file_errors, read_bytes
from rmsprop.checkpoints._shared import (
    STACKS,
    Options,
    Place,
    Slots,
    choose,
    find_places,
    make_snapshot,
    replace_statistics,
)
from rmsprop.checkpoints._snapshot import Snapshot
from rmsprop.errors import FileError, StateError

__all__ = ["LIBRARY", "ROOM", "is_orbax_alone", "read", "recognize", "write"]

LIBRARY, ROOM = "orbax.checkpoint", 2**32 + STACKS
_PARTS = {"_METADATA", "_CHECKPOINT_METADATA", "_sharding", "manifest.ocdbt", "d", "commit_success.txt", "default"}
_PARTS |= {"array_metadatas", "descriptor", "metrics"}
_FRESH = 2**26
"""Bytes that each Orbax folder counts as: with `_bounds.RATIO` it may declare a gigabyte, as zeros take no space."""
_NUMBERS = {"lr": "learning_rate", "rho": "decay", "eps": "eps", "momentum": "momentum"}
_STATISTICS = {"nu": "mean_sq", "mu": "mean_grad", "trace": "momentum_buf"}
_STATES = (("nu", 0), ("mu", 0), ("trace", 2))
"""Which of the three states of the chain has which of these."""


def recognize(path: Path, head: bytes) -> bool:
    """Tell whether this is an Orbax folder, a step folder of its CheckpointManager, or a file called `.msgpack`."""
    if not path.is_dir():
        return path.suffix == ".msgpack"
    if _is_orbax(path) or _is_orbax(path / "default"):
        return True
    steps = sorted((int(p.name) for p in path.iterdir() if p.is_dir() and p.name.isdigit()), reverse=True)
    if steps and ((path / str(steps[0]) / "default").is_dir() or _is_orbax(path / str(steps[0]))):
        raise FileError(
            f"{path}: the folder of an Orbax CheckpointManager; give one step of it: {path / str(steps[0])}"
        )
    return False


def _is_orbax(path: Path) -> bool:
    return any((path / name).exists() for name in ("_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt"))


def is_orbax_alone(path: Path) -> bool:
    """Tell whether a folder is an Orbax checkpoint and holds nothing else, so that it can be replaced."""
    parts = path / "default" if (path / "default").is_dir() else path
    arrays = (".zarray", "zarr.json")
    files = [file for folder in {path, parts} for file in folder.iterdir()]
    names = {file.name for file in files if not any((file / name).is_file() for name in arrays)}
    return _is_orbax(parts) and all(name in _PARTS or name.startswith("ocdbt.process_") for name in names)


def read(path: Path, options: Options) -> Snapshot:
    """Read optax.rmsprop's state; `options.slots` ("count", "mu", "nu") reads these as RMSprop's, not as Adam's."""
    slots, arrays, _ = _find_slots(_load(path), path, options)
    return make_snapshot(slots, arrays, str(path))


def write(path: Path, snapshot: Snapshot, format: str, like: Path | None, options: Options) -> None:
    """Write an Orbax folder, or a flax msgpack file if `path` is a file.

    It is a copy of `like` with the state replaced; without `like` the state alone, with a count for a schedule if
    `options.schedule`.
    """
    flax = path.is_file()
    if like is None:
        tree = _make_tree(snapshot, with_count=bool(options.schedule), flax=flax)
    else:
        tree = _load(like)
        slots, arrays, states = _find_slots(tree, like, options)
        replace_statistics(arrays, slots, snapshot)
        for name, i in _STATES:
            if name in states[i]:
                states[i][name] = _fill(states[i][name], name, arrays)
        for state in states[:2]:
            if "count" in state:
                state["count"] = _count(snapshot, "the target")
    if flax:
        path.write_bytes(_msgpack.pack(_make_plain(tree)))
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_package("orbax.checkpoint").PyTreeCheckpointer().save(str(path.resolve()), tree)


def _load(path: Path) -> Any:
    if not path.is_dir():
        return _msgpack.unpack(read_bytes(path), str(path))
    if (path / "default").is_dir():  # a step folder of CheckpointManager
        path = path / "default"
    checkpointer = import_package("orbax.checkpoint").PyTreeCheckpointer()
    with raise_file_errors(path, "Orbax checkpoint"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about arrays that return on this machine's devices: they become NumPy's
        metadata = checkpointer.metadata(str(path.resolve()))
        tree = getattr(metadata, "item_metadata", metadata)
        leaves = dict(_iterate_leaves(getattr(tree, "tree", tree))).values()
        shaped = [x for x in leaves if getattr(x, "shape", None) is not None and getattr(x, "dtype", None) is not None]
        declared = sum(math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in shaped)
        stored = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        check_size(path, declared, max(stored, _FRESH))
        return checkpointer.restore(str(path.resolve()))


def _iterate_leaves(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield (path, leaf); masked and empty places have no leaf."""
    if isinstance(tree, (Mapping, list, tuple)):
        for key, child in tree.items() if isinstance(tree, Mapping) else enumerate(tree):
            yield from _iterate_leaves(child, (*path, key))
    elif tree is not None:
        yield path, tree


def _find_place(tree: Any, path: Path, at: str | None) -> Place:
    if find_places(tree, lambda node: "momentum_buf" in node and "count" in node):
        raise StateError(f"{path}: the state of rmsprop.jax: save rmsprop.jax.to_optax(state, rule) instead")
    places = find_places(tree, lambda node: "nu" in node)
    if at is None and not places:
        if find_places(tree, lambda node: "trace" in node or "mu" in node or "sum_of_squares" in node):
            raise StateError(f"{path}: the state of another optimizer: it has no nu, the mean square")
        raise FileError(f"{path}: no optax state in it")
    return places[choose([place.path for place in places], at, path)]


def _find_slots(tree: Any, path: Path, options: Options) -> tuple[Slots, dict[Any, Any], list[dict[str, Any]]]:
    """Return the slots, {(name, path): array}, and the states of the scaling, of the schedule and of the trace."""
    place = _find_place(tree, path, options.at)
    states = _list_chain(place)
    scale, scheduled, _ = states
    _check_chain(scale, scheduled, path, options)
    arrays: dict[Any, Any] = {}
    keys: dict[str, dict[str, Any]] = {}
    for name, i in _STATES:
        for parts, leaf in _iterate_leaves(states[i].get(name)):
            parameter, array = "/".join(map(str, parts)), np.asarray(leaf)
            arrays[name, parts] = array
            keys.setdefault(parameter, {})[_STATISTICS[name]] = (name, parts)
            if array.dtype.kind == "c":
                raise StateError(f"parameter {parameter!r}: complex; optax keeps |g|**2, which no other layout does")
    counted = scale if "count" in scale else scheduled
    slots = Slots(
        format="optax",
        names=list(keys),
        keys=list(keys.values()),
        named=not all(name.isdigit() for name in keys),
        step=int(np.asarray(counted["count"])) if "count" in counted else None,
        numbers=_read_numbers(place),
        bias_correction="count" in scale,
        momentum_sign=-1,
    )
    return slots, arrays, states


def _list_chain(place: Place) -> list[Any]:
    """Return the states of the scaling, of the schedule and of the trace; {} for those that are missing."""
    parent = None if place.parent is None else place.parent.node
    if parent is None or not str(place.key).isdigit():
        return [place.node, {}, {}]
    by_key = {str(k): v for k, v in (parent.items() if isinstance(parent, Mapping) else enumerate(parent))}
    found = [by_key.get(str(int(place.key) + i)) for i in range(3)]
    return [node if isinstance(node, Mapping) else {} for node in found]


def _check_chain(scale: Mapping[str, Any], scheduled: Mapping[str, Any], path: Path, options: Options) -> None:
    names = {"count", "mu", "nu"}
    if {"count", "mu"} <= set(scale) and set(options.slots or ()) != names:
        both = "Adam's, or those of RMSprop with centered and bias_correction"
        raise StateError(f"{path}: count, mu and nu are {both}: for the latter give --slots count,mu,nu")
    extra = sorted(map(str, set(scale) - names))
    if extra:
        raise StateError(f"{path}: {', '.join(extra)} beside nu: the state of another optimizer, not of RMSprop")
    if "trace" in scheduled:
        raise StateError(f"{path}: the trace comes before lr, unlike in optax.rmsprop, which has lr before the trace")


def _read_numbers(place: Place) -> dict[str, float]:
    """Return the hyperparameters of the outermost optax.inject_hyperparams around the state."""
    nodes = [ancestor.node for ancestor in place.ancestors() if isinstance(ancestor.node, Mapping)]
    injected = [node["hyperparams"] for node in nodes if isinstance(node.get("hyperparams"), Mapping)]
    found = injected[-1] if injected else {}
    return {ours: float(found[name]) for ours, name in _NUMBERS.items() if found.get(name) is not None}


def _count(snapshot: Snapshot, what: str) -> Any:
    if snapshot.step is None:
        raise StateError(f"step: {what} counts steps, and the source has no count: give --step")
    return np.asarray(snapshot.step, np.int32)


def _make_tree(snapshot: Snapshot, *, with_count: bool, flax: bool) -> Any:
    scale: dict[str, Any] = {"nu": {}} | ({"mu": {}} if snapshot.centered else {})
    trace: dict[str, Any] = {"trace": {}} if snapshot.buffer != "none" else {}
    for state in (scale, trace):
        for name in state:
            for parameter in snapshot.parameters:
                array = parameter.arrays[_STATISTICS[name]]
                node = state[name]
                *folders, last = parameter.name.split("/")
                for folder in folders:
                    node = node.setdefault(folder, {})
                node[last] = np.asarray(-array if name == "trace" else array)
    empty: Any = {} if flax else None
    states = [scale, {"count": _count(snapshot, "a schedule")} if with_count else empty, trace or empty]
    return {str(i): state for i, state in enumerate(states)} if flax else states


def _fill(tree: Any, name: str, arrays: Mapping[Any, Any], path: tuple[Any, ...] = ()) -> Any:
    if isinstance(tree, Mapping):
        return {key: _fill(child, name, arrays, (*path, key)) for key, child in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_fill(child, name, arrays, (*path, i)) for i, child in enumerate(tree)]
    return None if tree is None else arrays[name, path]


def _make_plain(tree: Any) -> Any:
    """Return a tree that msgpack can hold: jax arrays become NumPy's, tuples become dicts."""
    if isinstance(tree, Mapping):
        return {str(key): _make_plain(child) for key, child in tree.items()}
    if isinstance(tree, (list, tuple)):
        return {str(i): _make_plain(child) for i, child in enumerate(tree)}
    if tree is None or isinstance(tree, (bool, int, float, complex, str, bytes, np.ndarray, np.generic)):
        return tree
    return np.asarray(tree)
