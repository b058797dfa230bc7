"""Promise: a sparse gradient acts like its dense equal; lazily, only its rows are stepped."""

import pytest
import torch
from torch_helpers import (
    OPTIONS,
    ROUNDINGS,
    RMSprop,
    all_options,
    assert_near,
    assert_same_bits,
    list_params,
    make_params,
    train,
)

ROWS = 50


def make_embedding(sparse):
    module = torch.nn.Embedding(ROWS, 4, sparse=sparse)
    with torch.no_grad():
        module.weight.copy_(make_params([(ROWS, 4)])[0])
    return module


def train_embedding(module, optimizer, steps):
    """Train the first 20 rows and return the numbers of those that had a gradient."""
    generator = torch.Generator().manual_seed(0)
    rows = set()
    for _ in range(steps):
        index = torch.randint(0, 20, (12,), generator=generator)
        rows |= set(index.tolist())
        weights = torch.randn(12, 4, generator=generator)
        optimizer.zero_grad()
        (module(index) * weights).sum().backward()
        optimizer.step()
    return sorted(rows)


@pytest.mark.parametrize("options", [*OPTIONS.values(), {"max_norm": 0.5}], ids=[*OPTIONS, "clipped"])
def test_a_sparse_gradient_acts_like_its_dense_equal(options):
    runs = []
    for sparse in (True, False):
        module = make_embedding(sparse)
        runs.append(RMSprop(module.parameters(), **options))
        train_embedding(module, runs[-1], 5)
        assert module.weight.grad.is_sparse == sparse
    assert_near(*runs, tolerance=2e-6)  # rows that occur twice are summed in another order
    for mine, other in zip(*(o.state.values() for o in runs)):
        for key in other:
            torch.testing.assert_close(mine[key], other[key], rtol=2e-5, atol=1e-7)


def test_a_row_that_occurs_twice_steps_once_with_the_sum():
    """The square of the sum, 9, not the sum of the squares, 5."""
    weight = torch.nn.Parameter(torch.zeros(3, 1))
    optimizer = RMSprop([weight], alpha=0.0)
    weight.grad = torch.sparse_coo_tensor([[1, 1]], [[1.0], [2.0]], (3, 1), check_invariants=True)
    optimizer.step()
    assert optimizer.state[weight]["square_avg"].flatten().tolist() == [0.0, 9.0, 0.0]
    assert optimizer.state[weight]["step"] == 1


@pytest.mark.parametrize("state_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("rounding", ROUNDINGS)
@all_options
def test_a_lazy_step_changes_only_the_rows_of_the_gradient(options, rounding, state_dtype):
    module = make_embedding(True).bfloat16()
    before = module.weight.detach().clone()
    extra = {"lazy": True, "eager_state": True, "param_rounding": rounding, "state_dtype": state_dtype}
    optimizer = RMSprop(module.parameters(), **extra, **options)
    rows = train_embedding(module, optimizer, 4)
    others = [i for i in range(ROWS) if i not in rows]
    assert rows
    assert_same_bits([module.weight[others]], [before[others]])
    assert bool((module.weight[rows] != before[rows]).any(1).all())
    for key, value in optimizer.state[module.weight].items():
        assert key == "step" or not value[others].any(), key


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@all_options
def test_a_lazy_step_on_all_rows_is_a_dense_step(options, dtype):
    dense, lazy = (RMSprop(make_params([(8, 3)], dtype), lazy=lazy, **options) for lazy in (False, True))
    (param,) = list_params(lazy)
    train(dense, 4)
    train(lazy, 4, each=lambda _: setattr(param, "grad", param.grad.to_sparse(1)))
    assert_same_bits(lazy, dense)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_lazy_step_accepts_any_number_of_sparse_axes(axes):
    weight = make_params([(4, 3, 2)])[0]
    before = weight.detach().clone()
    grad = torch.zeros(4, 3, 2)
    grad[2, 1, 0] = 5.0
    weight.grad = grad.to_sparse(axes)
    RMSprop([weight], lazy=True, lr=0.1).step()
    moved = weight.detach() - before
    assert moved[2, 1, 0] == pytest.approx(-1.0, rel=1e-5)  # lr g / sqrt(0.01 g^2) = 10 lr
    moved[2, 1, 0] = 0
    assert not moved.any()
