"""Shared by the tests of checkpoints: a run of plain gradients that any framework can make, and comparing its ends."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

import rmsprop
from cases import ULP
from rmsprop import checkpoints

RECORDED = Path(__file__).parent / "checkpoints" / "recorded"
STOP, END = 5, 10
SHAPES = {"w": (3, 4), "b": (4,)}
TO_NAMES = {"0": "w", "1": "b"}
TO_POSITIONS = {"w": 0, "b": 1}


@dataclasses.dataclass
class Run:
    """Parameters, the gradients of each step, and learning rates that change at each step."""

    start: dict[str, np.ndarray]
    grads: dict[str, np.ndarray]
    lrs: np.ndarray

    @classmethod
    def make(cls, dtype: str = "float64", *, seed: int = 0, constant: bool = False, shapes: Any = SHAPES) -> Run:
        rng = np.random.default_rng(seed)
        start = {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
        grads = {name: rng.normal(size=(END, *shape)).astype(dtype) for name, shape in shapes.items()}
        return cls(start, grads, 0.01 * np.ones(END) if constant else 0.01 * (1 + 0.5 * np.sin(np.arange(END))))

    @classmethod
    def load(cls, name: str) -> tuple[Run, dict[str, np.ndarray]]:
        """Return a recorded run from its stop on, and where it ended."""
        with np.load(RECORDED / f"{name}.npz") as file:
            arrays = {key: file[key] for key in file.files}
        parts = [
            {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
            for prefix in ("stop_", "grads_", "end_")
        ]
        return cls(parts[0], parts[1], arrays["lrs"]), parts[2]


def run_torch(run: Run, make: Any, *, first: int = 0, last: int = END, state: Any = None, start: Any = None) -> Any:
    """Step a torch optimizer from `first` to `last`; return (parameters as arrays, the optimizer)."""
    import torch

    params = {k: torch.nn.Parameter(torch.tensor(p)) for k, p in (run.start if start is None else start).items()}
    optimizer = make(list(params.values()))
    if state is not None:
        optimizer.load_state_dict(state)
    for t in range(first, last):
        optimizer.param_groups[0]["lr"] = float(run.lrs[t])
        for name, param in params.items():
            param.grad = torch.tensor(run.grads[name][t])
        optimizer.step()
    return {k: p.detach().numpy().copy() for k, p in params.items()}, optimizer


def save_torch(tree: Any, path: Any) -> Any:
    """Save an optimizer's state_dict, or a tree with state_dicts; return the path."""
    import torch

    torch.save(tree.state_dict() if hasattr(tree, "state_dict") else tree, path)
    return path


def load_torch(path: Any) -> Any:
    """Return what torch.load reads without running a pickle."""
    import torch

    return torch.load(path, weights_only=True)


def stop_torch(run: Run, make: Any, path: Any) -> tuple[Any, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Stop a torch run halfway and save it: (file, parameters there, where the uninterrupted run ends)."""
    stop, optimizer = run_torch(run, make, last=STOP)
    return save_torch(optimizer, path), stop, run_torch(run, make)[0]


def save_fresh(path: Any, rule: Any, *, dtype: str = "float64", shapes: Any = SHAPES) -> Any:
    """Write a file of this library's own, of a run that has not begun; return the path."""
    params = {name: np.zeros(shape, dtype) for name, shape in shapes.items()}
    rmsprop.RMSprop(params, lr=0.01, dialect=rule).save(path)
    return path


def continue_in_numpy(folder: Path, run: Run, rule: Any, source: Any, start: Any, **options: Any) -> Any:
    """Convert `source` to this library's own file and continue there; return (the end, the report)."""
    params = {k: p.copy() for k, p in start.items()}
    optimizer = rmsprop.RMSprop(params, lr=0.01, dialect=rule)
    optimizer.save(folder / "fresh.safetensors")
    own = folder / "own.safetensors"
    report = checkpoints.convert(source, own, like=folder / "fresh.safetensors", force=True, **options)
    optimizer.load(own)
    for t in range(STOP, END):
        optimizer.step({k: g[t] for k, g in run.grads.items()}, lr=float(run.lrs[t]))
    return params, report


def continue_in_torch(folder: Path, run: Run, make: Any, source: Any, start: Any, **options: Any) -> Any:
    """Convert `source` to a file of `make`'s optimizer and continue there; return (the end, the report).

    Without `to` the file is a copy of one that the optimizer saved before its first step.
    """
    if "to" not in options:
        options["like"] = save_torch(run_torch(run, make, last=0)[1], folder / "fresh.pt")
    report = checkpoints.convert(source, folder / "own.pt", force=True, **options)
    return run_torch(run, make, first=STOP, state=load_torch(folder / "own.pt"), start=start)[0], report


def assert_same_end(mine: dict[str, Any], theirs: dict[str, Any], *, ulps: float = 64) -> None:
    """Assert that two runs ended at the same place: each step rounds a handful of times in either framework."""
    assert set(mine) == set(theirs)
    for name, end in theirs.items():
        other, end = np.asarray(mine[name]), np.asarray(end)
        assert other.shape == end.shape
        unit = ULP[end.dtype.name] * max(1.0, float(np.abs(end).max()))
        np.testing.assert_allclose(other, end, rtol=0, atol=ulps * unit, err_msg=name)


def is_far(mine: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """Tell whether two runs end at visibly different places."""
    return any(float(np.abs(np.asarray(mine[name]) - np.asarray(end)).max()) > 1e-4 for name, end in theirs.items())
