"""What the tests of the PyTorch front end share: parameters, runs beside torch's own, comparisons of bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from rmsprop.doctor import read  # noqa: E402
from rmsprop.torch import RMSprop  # noqa: E402

Host = torch.optim.RMSprop

SHAPES = ((), (1,), (7,), (3, 5), (2, 3, 4, 4))
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "centered": {"centered": True},
    "everything": {"centered": True, "momentum": 0.5, "weight_decay": 0.1, "maximize": True},
}
STATES = ("float32", "bfloat16", "8bit")
ROUNDINGS = ("nearest", "stochastic", "compensated")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Where a module imports this: on arrays so small a second thread only waits for another library's."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def parameters(shapes: Sequence[tuple[int, ...]] = SHAPES, dtype: Any = None, seed: int = 0) -> list[Any]:
    """Parameters around 1 in size, the same ones for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [torch.nn.Parameter(x.to(dtype or torch.float32)) for x in drawn]


def draw_grads(params: Sequence[Any], step: int) -> None:
    """Give every parameter the gradient of this step: the same numbers whatever the dtype or memory order."""
    generator = torch.Generator().manual_seed(1000 + step)
    for param in params:
        drawn = torch.randn(param.shape, generator=generator, dtype=torch.float64)
        if param.is_complex():
            drawn = torch.complex(drawn, torch.randn(param.shape, generator=generator, dtype=torch.float64))
        param.grad = torch.empty_like(param, requires_grad=False).copy_(drawn)


def train(optimizer: Any, steps: int, *, start: int = 0, each: Callable[[int], None] | None = None) -> None:
    """Step with drawn gradients; `each(step)` runs before each step."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for step in range(start, start + steps):
        draw_grads(params, step)
        if each is not None:
            each(step)
        optimizer.step()


def pair(*, dtype: Any = None, shapes: Sequence[tuple[int, ...]] = SHAPES, **options: Any) -> tuple[RMSprop, Any]:
    """This library's optimizer and torch's over equal parameters."""
    return RMSprop(parameters(shapes, dtype), **options), Host(parameters(shapes, dtype), **options)


def params_of(optimizer: Any) -> list[Any]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def bits(tensors: Sequence[Any]) -> list[bytes]:
    """The bytes of tensors, in the order of their elements."""
    return [t.detach().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes() for t in tensors]


def state_bits(optimizer: Any) -> list[dict[str, bytes]]:
    return [{key: bits([value])[0] for key, value in sorted(optimizer.state[p].items())} for p in params_of(optimizer)]


def assert_same_bits(ours: Any, other: Any) -> None:
    """Parameters and state of two optimizers, or two lists of tensors."""
    if isinstance(ours, torch.optim.Optimizer):
        assert state_bits(ours) == state_bits(other)
        ours, other = params_of(ours), params_of(other)
    assert bits(ours) == bits(other)


def assert_near(ours: Sequence[Any], other: Sequence[Any], *, tolerance: float = 1e-12) -> None:
    """Parameters of size 1 within an absolute and relative tolerance."""
    for a, b in zip(ours, other):
        torch.testing.assert_close(a.detach(), b.detach(), rtol=tolerance, atol=tolerance)


def steps_looked_at(folder: Any) -> list[int]:
    """The steps of which a watch left lines in a folder."""
    return sorted({look.step for look in read(folder)})


def mean_square(state: dict[str, Any]) -> Any:
    """The square_avg of a state as float32 numbers, decoded by a checkpoint into a float32 optimizer."""
    param = torch.nn.Parameter(torch.zeros(next(v for k, v in state.items() if k.startswith("square_avg")).shape))
    target = RMSprop([param])
    target.load_state_dict({"state": {0: state}, "param_groups": RMSprop([param]).state_dict()["param_groups"]})
    return target.state[param]["square_avg"]
