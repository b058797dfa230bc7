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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rmsprop.checkpoints import _msgpack
from rmsprop.checkpoints._bounds import check_size, import_package, raise_file_errors, read_bytes
from rmsprop.checkpoints._shared import Options, Place, State, choose, find_places, make_state, read_numbers
from rmsprop.checkpoints._snapshot import Array, Snapshot
from rmsprop.errors import FileError, StateError

__all__ = ["is_orbax_alone", "read", "recognize", "write"]

_PARTS = {"_METADATA", "_CHECKPOINT_METADATA", "_sharding", "manifest.ocdbt", "d", "commit_success.txt", "default"}
_PARTS |= {"array_metadatas", "descriptor", "metrics"}
_FRESH = 2**26
"""Bytes that each Orbax folder counts as: with `_bounds.RATIO` it may declare a gigabyte, as zeros take no space."""
_NUMBERS = {"lr": "learning_rate", "rho": "decay", "eps": "eps", "momentum": "momentum"}
_STATISTICS = {"nu": "mean_sq", "mu": "mean_grad", "trace": "momentum_buf"}
_PLACES = {"nu": 0, "mu": 0, "trace": 2}
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
    """Read optax.rmsprop's state; the slots ("count", "mu", "nu") read these as RMSprop's, not as Adam's."""
    return _find_state(_load(path), path, options)[0].snapshot


def write(path: Path, snapshot: Snapshot, format: str, like: Path | None, options: Options) -> None:
    """Write an Orbax folder, or a flax msgpack file if `path` is a file.

    It is a copy of `like` with the state replaced; without `like` the state alone, with a count for a schedule if
    the option says so.
    """
    flax = path.is_file()
    if like is None:
        tree = _make_tree(snapshot, with_count=options.pop("schedule", False), flax=flax)
    else:
        tree = _load(like)
        state, chain = _find_state(tree, like, options)
        state.replace_statistics(snapshot)
        for (name, parts), array in state.arrays.items():
            _put(chain, name, parts, array)
        for node in chain[:2]:
            if "count" in node:
                node["count"] = _count(snapshot, "the target")
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


def _find_place(tree: Any, path: Path, options: Options) -> Place:
    if find_places(tree, lambda node: "momentum_buf" in node and "count" in node):
        raise StateError(f"{path}: the state of rmsprop.jax: save rmsprop.jax.to_optax(state, rule) instead")
    places = find_places(tree, lambda node: "nu" in node)
    if not places:
        if find_places(tree, lambda node: "trace" in node or "mu" in node or "sum_of_squares" in node):
            raise StateError(f"{path}: the state of another optimizer: it has no nu, the mean square")
        raise FileError(f"{path}: no optax state in it")
    return places[choose([place.path for place in places], options, path)]


def _find_state(tree: Any, path: Path, options: Options) -> tuple[State, list[Any]]:
    """Return the state with the arrays {(name, path): array}, and the nodes of the scaling, schedule and trace."""
    place = _find_place(tree, path, options)
    chain = scale, scheduled, _ = _list_chain(place)
    _check_chain(scale, scheduled, path, options)
    arrays: dict[Any, Any] = {}
    keys: dict[str, dict[str, Any]] = {}
    for name, i in _PLACES.items():
        for parts, leaf in _iterate_leaves(chain[i].get(name)):
            parameter, array = "/".join(map(str, parts)), np.asarray(leaf)
            arrays[name, parts] = -array if name == "trace" else array
            keys.setdefault(parameter, {})[_STATISTICS[name]] = (name, parts)
            if array.dtype.kind == "c":
                raise StateError(f"parameter {parameter!r}: complex; optax keeps |g|**2, which no other layout does")
    nodes = [ancestor.node for ancestor in place.ancestors() if isinstance(ancestor.node, Mapping)]
    # Of the outermost optax.inject_hyperparams.
    injected = [node["hyperparams"] for node in nodes if isinstance(node.get("hyperparams"), Mapping)]
    counted = scale if "count" in scale else scheduled
    state = make_state(
        arrays,
        keys,
        str(path),
        format="optax",
        named=not all(name.isdigit() for name in keys),
        step=int(np.asarray(counted["count"])) if "count" in counted else None,
        numbers=read_numbers(injected[-1], _NUMBERS) if injected else {},
        bias_correction="count" in scale,
    )
    return state, chain


def _list_chain(place: Place) -> list[Any]:
    """Return the nodes of the scaling, of the schedule and of the trace; {} for those that are missing."""
    parent = None if place.parent is None else place.parent.node
    if parent is None or not str(place.key).isdigit():
        return [place.node, {}, {}]
    by_key = {str(k): v for k, v in (parent.items() if isinstance(parent, Mapping) else enumerate(parent))}
    found = [by_key.get(str(int(place.key) + i)) for i in range(3)]
    return [node if isinstance(node, Mapping) else {} for node in found]


def _check_chain(scale: Mapping[str, Any], scheduled: Mapping[str, Any], path: Path, options: Options) -> None:
    names = {"count", "mu", "nu"}
    if {"count", "mu"} <= set(scale) and set(options.pop("slots", ())) != names:
        both = "Adam's, or those of RMSprop with centered and bias_correction"
        raise StateError(f"{path}: count, mu and nu are {both}: for the latter give --slots count,mu,nu")
    extra = sorted(map(str, set(scale) - names))
    if extra:
        raise StateError(f"{path}: {', '.join(extra)} beside nu: the state of another optimizer, not of RMSprop")
    if "trace" in scheduled:
        raise StateError(f"{path}: the trace comes before lr, unlike in optax.rmsprop, which has lr before the trace")


def _count(snapshot: Snapshot, what: str) -> Any:
    if snapshot.step is None:
        raise StateError(f"step: {what} counts steps, and the source has no count: give --step")
    return np.asarray(snapshot.step, np.int32)


def _make_tree(snapshot: Snapshot, *, with_count: bool, flax: bool) -> Any:
    """Return the state of optax.rmsprop as Orbax (a list, None) or flax (dicts) stores it."""
    chain: list[dict[str, Any]] = [{}, {"count": _count(snapshot, "a schedule")} if with_count else {}, {}]
    for parameter in snapshot.parameters:
        for name, statistic in _STATISTICS.items():
            if statistic in parameter.arrays:
                _put(chain, name, parameter.name.split("/"), parameter.arrays[statistic])
    return {str(i): node for i, node in enumerate(chain)} if flax else [node or None for node in chain]


def _put(chain: list[Any], name: str, parts: Sequence[Any], array: Array) -> None:
    """Put a statistic into the states of a chain; optax's trace is negative."""
    *folders, last = (name, *parts)
    node = chain[_PLACES[name]]
    for folder in folders:
        node = node.setdefault(folder, {}) if isinstance(node, dict) else node[folder]
    node[last] = -array if name == "trace" else array


def _make_plain(tree: Any) -> Any:
    """Return a tree that msgpack can hold: jax arrays become NumPy's, tuples become dicts."""
    if isinstance(tree, Mapping):
        return {str(key): _make_plain(child) for key, child in tree.items()}
    if isinstance(tree, (list, tuple)):
        return {str(i): _make_plain(child) for i, child in enumerate(tree)}
    if tree is None or isinstance(tree, (bool, int, float, complex, str, bytes, np.ndarray, np.generic)):
        return tree
    return np.asarray(tree)
