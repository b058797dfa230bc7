"""What the tests of checkpoints share: a run of plain gradients that any framework can make, and comparing its ends."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from cases import ULP

RECORDED = Path(__file__).parent / "checkpoints" / "recorded"
STOP, END = 5, 10
SHAPES = {"w": (3, 4), "b": (4,)}
ORDER_MAP = {"0": "w", "1": "b"}
"""Positions of a torch run -> names."""


@dataclasses.dataclass
class Run:
    """Parameters, the gradients of every step, and learning rates that change at every step."""

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
    def recorded(cls, name: str) -> tuple[Run, dict[str, np.ndarray]]:
        """Return a recorded run from its stop on, and where it ended."""
        with np.load(RECORDED / f"{name}.npz") as file:
            kept = {key: file[key] for key in file.files}

        def part(prefix: str) -> dict[str, np.ndarray]:
            return {key.removeprefix(prefix): kept[key] for key in kept if key.startswith(prefix)}

        return cls(part("stop_"), part("grads_"), kept["lrs"]), part("end_")


def torch_run(run: Run, make: Any, *, first: int = 0, last: int = END, state: Any = None, start: Any = None) -> Any:
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


def numpy_run(run: Run, rule: Any, path: Any, *, start: Any) -> dict[str, np.ndarray]:
    """Go on from the file at `path` with this library's NumPy front end; return the end."""
    import rmsprop

    params = {k: p.copy() for k, p in start.items()}
    optimizer = rmsprop.RMSprop(params, lr=0.01, dialect=rule)
    optimizer.load(path)
    for k, p in start.items():
        params[k][...] = p
    for t in range(STOP, END):
        optimizer.step({k: g[t] for k, g in run.grads.items()}, lr=float(run.lrs[t]))
    return params


def save(optimizer: Any, path: Any) -> Any:
    """Write a torch optimizer's state_dict; return the path."""
    import torch

    torch.save(optimizer.state_dict(), path)
    return path


def own_file(path: Any, rule: Any, *, dtype: str = "float64", shapes: Any = SHAPES) -> Any:
    """Write a file of this library's own, of a run that has not begun; return the path."""
    import rmsprop

    params = {name: np.zeros(shape, dtype) for name, shape in shapes.items()}
    rmsprop.RMSprop(params, lr=0.01, dialect=rule).save(path)
    return path


def half(run: Run, make: Any, path: Any) -> tuple[Any, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Stop a torch run halfway and save it: (file, parameters there, where the uninterrupted run ends)."""
    stop, optimizer = torch_run(run, make, last=STOP)
    save(optimizer, path)
    end, _ = torch_run(run, make)
    return path, stop, end


def same_end(mine: dict[str, Any], theirs: dict[str, Any], *, ulps: float = 64) -> None:
    """Assert that two runs ended alike: each of the steps rounds a handful of times in either framework."""
    assert set(mine) == set(theirs)
    for name, end in theirs.items():
        other, end = np.asarray(mine[name]), np.asarray(end)
        assert other.shape == end.shape
        unit = ULP[end.dtype.name] * max(1.0, float(np.abs(end).max()))
        np.testing.assert_allclose(other, end, rtol=0, atol=ulps * unit, err_msg=name)


def far(mine: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """Tell whether two runs end at visibly different places."""
    return any(float(np.abs(np.asarray(mine[name]) - np.asarray(end)).max()) > 1e-4 for name, end in theirs.items())
