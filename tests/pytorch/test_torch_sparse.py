"""Promise: a sparse gradient acts like its dense equal; lazily, it touches its own rows alone."""

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


def embedding(sparse, rows=50, width=4):
    module = torch.nn.Embedding(rows, width, sparse=sparse)
    with torch.no_grad():
        module.weight.copy_(make_params([(rows, width)])[0])
    return module


def look_up(module, optimizer, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    touched = set()
    for _ in range(steps):
        index = torch.randint(0, 20, (12,), generator=generator)
        touched |= set(index.tolist())
        weights = torch.randn(12, 4, generator=generator)
        optimizer.zero_grad()
        (module(index) * weights).sum().backward()
        optimizer.step()
    return touched


@pytest.mark.parametrize("options", [*OPTIONS.values(), {"max_norm": 0.5}], ids=[*OPTIONS, "clipped"])
def test_a_sparse_gradient_acts_like_its_dense_equal(options):
    runs = []
    for sparse in (True, False):
        module = embedding(sparse)
        optimizer = RMSprop(module.parameters(), **options)
        look_up(module, optimizer, 5)
        assert module.weight.grad.is_sparse == sparse
        runs.append(optimizer)
    assert_near(*map(list_params, runs), tolerance=2e-6)  # rows that occur twice are added up in another order
    for mine, other in zip(*(o.state.values() for o in runs)):
        for key in other:
            torch.testing.assert_close(mine[key], other[key], rtol=2e-5, atol=1e-7)


def test_a_row_that_occurs_twice_steps_once_with_the_sum():
    """The square of the sum, 9, not the sum of the squares, 5."""
    weight = torch.nn.Parameter(torch.zeros(3, 1))
    optimizer = RMSprop([weight], alpha=0.0)
    with torch.sparse.check_sparse_tensor_invariants():
        weight.grad = torch.sparse_coo_tensor([[1, 1]], [[1.0], [2.0]], (3, 1))
    optimizer.step()
    assert optimizer.state[weight]["square_avg"].flatten().tolist() == [0.0, 9.0, 0.0]
    assert optimizer.state[weight]["step"] == 1


@pytest.mark.parametrize("state_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("rounding", ROUNDINGS)
@all_options
def test_a_lazy_step_touches_only_the_rows_of_the_gradient(options, rounding, state_dtype):
    module = embedding(True).bfloat16()
    before = module.weight.detach().clone()
    optimizer = RMSprop(
        module.parameters(), lazy=True, eager_state=True, param_rounding=rounding, state_dtype=state_dtype, **options
    )
    touched = sorted(look_up(module, optimizer, 4))
    untouched = [i for i in range(50) if i not in touched]
    assert untouched
    assert touched
    assert_same_bits([module.weight[untouched]], [before[untouched]])
    assert bool((module.weight[touched] != before[touched]).any(1).all())
    for key, value in optimizer.state[module.weight].items():
        if key != "step":
            assert not value[untouched].any(), key


@all_options
def test_a_lazy_step_on_all_rows_is_a_dense_step(options):
    dense, lazy = (RMSprop(make_params([(8, 3)]), lazy=lazy, **options) for lazy in (False, True))
    train(dense, 4)
    train(lazy, 4, each=lambda _: [setattr(p, "grad", p.grad.to_sparse(1)) for p in list_params(lazy)])
    assert_same_bits(lazy, dense)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_lazy_step_takes_gradients_with_any_number_of_sparse_axes(axes):
    weight = make_params([(4, 3, 2)])[0]
    before = weight.detach().clone()
    optimizer = RMSprop([weight], lazy=True, lr=0.1)
    grad = torch.zeros(4, 3, 2)
    grad[2, 1, 0] = 5.0
    weight.grad = grad.to_sparse(axes)
    optimizer.step()
    moved = weight.detach() - before
    assert moved[2, 1, 0] == pytest.approx(-1.0, rel=1e-5)  # lr g / sqrt(0.01 g^2) = 10 lr
    moved[2, 1, 0] = 0
    assert not moved.any()


def test_lazy_complex_rows_step_as_dense_ones():
    runs = []
    for lazy in (False, True):
        weight = torch.nn.Parameter(torch.arange(6.0).view(3, 2) * (1 + 2j))
        optimizer = RMSprop([weight], lazy=lazy)
        for _ in range(3):
            weight.grad = torch.sparse_coo_tensor(
                [[0, 1, 2]], torch.full((3, 2), 1 - 1j), (3, 2), check_invariants=True
            )
            optimizer.step()
        runs.append([weight])
    assert_same_bits(*runs)
