"""Parameters, training loops and comparisons for the tests of the PyTorch front end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch

from rmsprop.torch import RMSprop

TorchRMSprop = torch.optim.RMSprop

DEVICE = os.environ.get("RMSPROP_TEST_DEVICE", "cpu")
"""Where `make_params` puts parameters; `make gpu` runs torch's optimizer table on "cuda"."""
SHAPES = ((), (1,), (7,), (3, 5), (2, 3, 4, 4))
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "centered": {"centered": True},
    "everything": {"centered": True, "momentum": 0.5, "weight_decay": 0.1, "maximize": True},
}
STATES = ("float32", "bfloat16", "8bit")
ROUNDINGS = ("nearest", "stochastic", "compensated")
all_options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


@pytest.fixture(autouse=True)
def use_one_thread() -> Iterator[None]:
    """Use one thread in the modules that import this: on small arrays a second thread only costs time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_params(shapes: Sequence[tuple[int, ...]] = SHAPES, dtype: Any = None, seed: int = 0) -> list[Any]:
    """Make parameters of size about 1, the same ones for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    values = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [torch.nn.Parameter(x.to(DEVICE, dtype or torch.float32)) for x in values]


def draw_grads(params: Sequence[Any], step: int) -> None:
    """Give every parameter the gradient of this step: the same numbers for any dtype, memory order and sharding."""
    generator = torch.Generator().manual_seed(1000 + step)
    for param in params:
        values = torch.randn(param.shape, generator=generator, dtype=torch.float64)
        if param.is_complex():
            values = torch.complex(values, torch.randn(param.shape, generator=generator, dtype=torch.float64))
        if hasattr(param, "placements"):
            shard = torch.distributed.tensor.distribute_tensor
            param.grad = shard(values.to(param.dtype), param.device_mesh, param.placements)
        else:
            param.grad = torch.empty_like(param, requires_grad=False).copy_(values)


def train(optimizer: Any, steps: int, *, start: int = 0, each: Callable[[int], None] | None = None) -> None:
    """Step with drawn gradients; `each(step)` runs before each step."""
    for step in range(start, start + steps):
        draw_grads(list_params(optimizer), step)
        if each is not None:
            each(step)
        optimizer.step()


def make_pair(*, dtype: Any = None, shapes: Sequence[tuple[int, ...]] = SHAPES, **options: Any) -> tuple[RMSprop, Any]:
    """Make this library's optimizer and torch's over equal parameters."""
    return RMSprop(make_params(shapes, dtype), **options), TorchRMSprop(make_params(shapes, dtype), **options)


def list_params(optimizer: Any) -> list[Any]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def read_bits(tensors: Sequence[Any]) -> list[bytes]:
    """Return the bytes of tensors, in the order of their elements."""
    return [t.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes() for t in tensors]


def read_state_bits(optimizer: Any) -> list[dict[str, bytes]]:
    states = [optimizer.state[p] for p in list_params(optimizer)]
    return [{key: read_bits([value])[0] for key, value in sorted(state.items())} for state in states]


def assert_same_bits(ours: Any, other: Any) -> None:
    """Compare parameters and state of two optimizers, or two lists of tensors."""
    if isinstance(ours, torch.optim.Optimizer):
        assert read_state_bits(ours) == read_state_bits(other)
        ours, other = list_params(ours), list_params(other)
    assert read_bits(ours) == read_bits(other)


def assert_near(ours: Any, other: Any, *, tolerance: float = 1e-12) -> None:
    """Compare parameters of two optimizers, or two lists of tensors, within an absolute and relative tolerance."""
    if isinstance(ours, torch.optim.Optimizer):
        ours, other = list_params(ours), list_params(other)
    for a, b in zip(ours, other, strict=True):
        torch.testing.assert_close(a.detach(), b.detach(), rtol=tolerance, atol=tolerance)


def decode_mean_square(state: dict[str, Any]) -> Any:
    """Return the square_avg of a state as float32 numbers, decoded by loading it into a float32 optimizer."""
    param = torch.nn.Parameter(torch.zeros(next(v for k, v in state.items() if k.startswith("square_avg")).shape))
    target = RMSprop([param])
    target.load_state_dict({"state": {0: state}, "param_groups": RMSprop([param]).state_dict()["param_groups"]})
    return target.state[param]["square_avg"]
