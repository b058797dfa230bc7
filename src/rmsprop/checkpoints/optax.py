"""optax.rmsprop's state in an Orbax folder or a flax msgpack file.

    (ScaleByRms(nu) | ScaleByRStdDev(mu, nu) [, count with bias correction],
     EmptyState | ScaleBySchedule(count),
     TraceState(trace) | EmptyState)

nu and mu are raw averages. trace is -momentum_buf: the learning rate, negative, is applied before it. The state may
stand anywhere in a larger tree ({"params": ..., "opt_state": ..., "step": ...}). Orbax keeps tuples as lists, flax as
dicts "0", "1", "2".

mu, nu and count together are also what Adam keeps; only a caller who says so (slots) gets it read as RMSprop's.

Source: optax/_src/alias.py and transform.py 0.2.8; orbax-checkpoint 0.12.8; flax/serialization.py 0.12.8.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rmsprop.checkpoints import _archive, _msgpack
from rmsprop.checkpoints._packages import needed
from rmsprop.checkpoints._snapshot import Group, Parameter, Snapshot
from rmsprop.errors import FileError, StateError

__all__ = ["is_orbax", "is_orbax_alone", "read", "write"]

_PARTS = {
    *("_METADATA", "_CHECKPOINT_METADATA", "_sharding", "manifest.ocdbt", "d", "commit_success.txt", "default"),
    *("array_metadatas", "descriptor", "metrics"),
}
_FRESH = 2**26
"""Bytes that any Orbax folder counts as, of which `_archive.RATIO` are a gigabyte."""
_HYPERPARAMS = {"lr": "learning_rate", "rho": "decay", "eps": "eps", "momentum": "momentum"}


def is_orbax(path: Path) -> bool:
    """Tell whether a folder is an Orbax checkpoint."""
    return any((path / name).exists() for name in ("_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt"))


def is_orbax_alone(path: Path) -> bool:
    """Tell whether a folder is an Orbax checkpoint and holds nothing else, so that it can be replaced."""
    parts = path / "default" if (path / "default").is_dir() else path
    names = {file.name for folder in {path, parts} for file in folder.iterdir() if not _is_array(file)}
    return is_orbax(parts) and all(name in _PARTS or name.startswith("ocdbt.process_") for name in names)


def _is_array(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (".zarray", "zarr.json"))


def read(path: Path, *, slots: Sequence[str] | None = None, at: str | None = None) -> Snapshot:
    """Read optax.rmsprop's state.

    Args:
        path: An Orbax folder (of one step) or a flax msgpack file. Read.
        slots: ("count", "mu", "nu") to read these as RMSprop's, centered and with bias correction, not as Adam's.
        at: Where in the tree, if there are several.

    Raises:
        FileError: Truncated, or no optax.rmsprop state in it.
        StateError: Of another optimizer, or of another chain.
    """
    tree = _tree(path)
    return _snapshot(tree, _locate(tree, path, at), path, slots)


def _tree(path: Path) -> Any:
    if not path.is_dir():
        return _msgpack.unpacked(_archive.read_bytes(path), str(path))
    if (path / "default").is_dir():  # a step folder of CheckpointManager
        path = path / "default"
    checkpointer = _orbax().PyTreeCheckpointer()
    with _archive.raise_file_errors(path, "Orbax checkpoint"), _quiet():
        _check_declared(path, checkpointer.metadata(str(path.resolve())))
        return checkpointer.restore(str(path.resolve()))


def _check_declared(path: Path, metadata: Any) -> None:
    """Refuse arrays that are far larger than their files; zeros, of a run that has not begun, compress to nothing."""
    tree = getattr(metadata, "item_metadata", metadata)
    declared, todo = 0, [getattr(tree, "tree", tree)]
    while todo:
        node = todo.pop()
        if isinstance(node, Mapping):
            todo += node.values()
        elif isinstance(node, (list, tuple)):
            todo += node
        elif getattr(node, "shape", None) is not None and getattr(node, "dtype", None) is not None:
            declared += math.prod(node.shape) * np.dtype(node.dtype).itemsize
    stored = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    _archive.check_size(path, declared, max(stored, _FRESH))


def _orbax() -> Any:
    return needed("orbax.checkpoint", extra="jax", purpose="an Orbax checkpoint")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hush Orbax's warning that arrays come back on this machine's devices: they become NumPy's at once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _locate(tree: Any, path: Path, at: str | None) -> str:
    if _archive.places(tree, lambda node: "momentum_buf" in node and "count" in node):
        raise StateError(f"{path}: rmsprop.jax's own state: save rmsprop.jax.to_optax(state, rule) instead")
    spots = _archive.places(tree, lambda node: "nu" in node)
    if at is None and not spots:
        if _archive.places(tree, lambda node: "trace" in node or "mu" in node or "sum_of_squares" in node):
            raise StateError(f"{path}: the state of another optimizer: it has no nu, the mean square")
        raise FileError(f"{path}: no optax state in it")
    return _archive.choose(spots, at, path)


def _chain(tree: Any, spot: str) -> tuple[Any, Any, Any, str]:
    """Return the states of scaling, of the schedule, of the trace, and the path of the tuple that holds them."""
    parent, _, position = spot.rpartition("/")
    node = _archive.found(tree, spot)
    if position != "0" and not position.isdigit():
        return node, None, None, parent
    holder = _archive.found(tree, parent)
    size = len(holder)
    items = [_archive.found(holder, str(i)) if i < size else None for i in range(int(position), int(position) + 3)]
    return items[0], items[1], items[2], parent


def _snapshot(tree: Any, spot: str, path: Path, slots: Sequence[str] | None) -> Snapshot:
    scale, scheduled, traced, _ = _chain(tree, spot)
    corrected, centered = "count" in scale, "mu" in scale
    if corrected and centered and set(slots or ()) != {"count", "mu", "nu"}:
        raise StateError(
            f"{path}: count, mu and nu are what Adam keeps, and also RMSprop with centered and bias_correction: if it "
            "is the latter, give --slots count,mu,nu"
        )
    extra = sorted(set(scale) - {"count", "mu", "nu"})
    if extra:
        raise StateError(f"{path}: {', '.join(extra)} beside nu: the state of another optimizer, not of RMSprop")
    if isinstance(scheduled, Mapping) and "trace" in scheduled:
        raise StateError(
            f"{path}: the trace follows the scaling at once, so lr is applied after it: a chain of its own, not "
            "optax.rmsprop's, which has lr before the trace"
        )
    nu, mu = _leaves(scale["nu"]), _leaves(scale["mu"]) if centered else {}
    trace = _leaves(traced["trace"]) if isinstance(traced, Mapping) and "trace" in traced else {}
    step = _count(scale) if corrected else _count(scheduled)
    for name, other in (("mu", mu), ("trace", trace)):
        if other and set(other) != set(nu):
            raise StateError(f"{path}: {name} has other parameters than nu: {sorted(set(other) ^ set(nu))[:3]}")
    parameters = []
    for name, square in nu.items():
        arrays = {"mean_sq": square} | ({"mean_grad": mu[name]} if mu else {})
        arrays |= {"momentum_buf": -trace[name]} if trace else {}
        parameters.append(Parameter.of(name, arrays, step))
    return Snapshot(
        format="optax",
        parameters=tuple(parameters),
        centered=centered,
        buffer="lr" if trace else "none",
        ordered=len(parameters) == 1,
        named=not all(name.isdigit() for name in nu),
        bias_correction=corrected,
        groups=(Group(size=len(parameters), numbers=_numbers(tree, spot)),),
    )


def _count(state: Any) -> int | None:
    return int(np.asarray(state["count"])) if isinstance(state, Mapping) and "count" in state else None


def _numbers(tree: Any, spot: str) -> dict[str, float]:
    """Return what optax.inject_hyperparams keeps, if the state stands inside one."""
    parts = spot.split("/")
    for depth in range(len(parts)):
        holder = _archive.found(tree, "/".join(parts[:depth]))
        injected = holder.get("hyperparams") if isinstance(holder, Mapping) else None
        if isinstance(injected, Mapping):
            return {
                ours: float(injected[name]) for ours, name in _HYPERPARAMS.items() if injected.get(name) is not None
            }
    return {}


def _leaves(tree: Any, path: str = "") -> dict[str, Any]:
    """Return {"a/b": array}; masked and empty places have no leaf."""
    if tree is None:
        return {}
    if isinstance(tree, Mapping):
        children: Any = tree.items()
    elif isinstance(tree, (list, tuple)):
        children = enumerate(tree)
    else:
        array = np.asarray(tree)
        if array.dtype.kind == "c":
            raise StateError(f"parameter {path!r}: complex; optax keeps |g|**2, which no other layout does")
        return {path: array}
    found: dict[str, Any] = {}
    for key, child in children:
        found |= _leaves(child, f"{path}/{key}" if path else str(key))
    return found


def write(
    path: Path,
    snapshot: Snapshot,
    *,
    like: Path | None = None,
    schedule: bool | None = None,
    msgpack: bool = False,
    slots: Sequence[str] | None = None,
    at: str | None = None,
) -> None:
    """Write an Orbax folder or a flax msgpack file: a copy of `like` with the state replaced, or the state alone.

    Args:
        path: What to write.
        snapshot: The state.
        like: A checkpoint of the run that is to go on. Read.
        schedule: Whether its learning rate is a schedule, which then has a count; without `like`.
        msgpack: flax's format instead of Orbax's.
        slots: As in `read`, for `like`.
        at: Where in `like` the state stands.
    """
    if like is None:
        tree = _alone(snapshot, scheduled=bool(schedule), flax=msgpack)
    else:
        tree = _tree(like)
        spot = _locate(tree, like, at)
        _snapshot(tree, spot, like, slots)
        tree = _replaced(tree, spot, snapshot)
    if msgpack:
        path.write_bytes(_msgpack.packed(_plain(tree)))
        return
    with _quiet():
        _orbax().PyTreeCheckpointer().save(str(path.resolve()), tree)


def _arrays(snapshot: Snapshot) -> dict[str, dict[str, Any]]:
    """Return {optax's name: {parameter: array}}."""
    found: dict[str, dict[str, Any]] = {"nu": {p.name: p.arrays["mean_sq"] for p in snapshot.parameters}}
    if snapshot.centered:
        found["mu"] = {p.name: p.arrays["mean_grad"] for p in snapshot.parameters}
    if snapshot.buffer != "none":
        found["trace"] = {p.name: -p.arrays["momentum_buf"] for p in snapshot.parameters}
    return found


def _alone(snapshot: Snapshot, *, scheduled: bool, flax: bool) -> Any:
    arrays = {name: _nested(leaves) for name, leaves in _arrays(snapshot).items()}
    trace = arrays.pop("trace", None)
    empty: Any = {} if flax else None
    if scheduled and snapshot.step is None:
        raise StateError("step: a schedule counts steps, and the source has no count: give --step")
    count = {"count": np.asarray(snapshot.step or 0, np.int32)}
    states = [arrays, count if scheduled else empty, empty if trace is None else {"trace": trace}]
    return {str(i): state for i, state in enumerate(states)} if flax else states


def _nested(leaves: Mapping[str, Any]) -> Any:
    tree: dict[str, Any] = {}
    for name, array in leaves.items():
        node = tree
        *folders, last = name.split("/")
        for folder in folders:
            node = node.setdefault(folder, {})
        node[last] = array
    return tree


def _replaced(tree: Any, spot: str, snapshot: Snapshot) -> Any:
    scale, scheduled, traced, _ = _chain(tree, spot)
    arrays = _arrays(snapshot)
    for state, name in ((scale, "nu"), (scale, "mu"), (traced, "trace")):
        if name in arrays:
            state[name] = _filled(state[name], arrays[name])
    for state in (scale, scheduled):
        if isinstance(state, Mapping) and "count" in state:
            if snapshot.step is None:
                raise StateError("step: the target counts steps, and the source has no count: give --step")
            state["count"] = np.asarray(snapshot.step, np.int32)  # type: ignore[index]
    return tree


def _filled(tree: Any, arrays: Mapping[str, Any], path: str = "") -> Any:
    if isinstance(tree, Mapping):
        return {key: _filled(child, arrays, f"{path}/{key}" if path else str(key)) for key, child in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_filled(child, arrays, f"{path}/{i}" if path else str(i)) for i, child in enumerate(tree)]
    return tree if tree is None else arrays[path].astype(np.asarray(tree).dtype)


def _plain(tree: Any) -> Any:
    """Return a tree that msgpack can hold: jax arrays become NumPy's, tuples dicts."""
    if isinstance(tree, Mapping):
        return {str(key): _plain(child) for key, child in tree.items()}
    if isinstance(tree, (list, tuple)):
        return {str(i): _plain(child) for i, child in enumerate(tree)}
    if tree is None or isinstance(tree, (bool, int, float, complex, str, bytes, np.ndarray, np.generic)):
        return tree
    return np.asarray(tree)
