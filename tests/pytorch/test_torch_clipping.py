"""Promise: max_norm is torch's clip_grad_norm_ and a step, over all groups and kinds of gradients."""

import math

import pytest
import torch
from torch_helpers import (
    RMSprop,
    TorchRMSprop,
    assert_near,
    assert_same_bits,
    draw_grads,
    list_params,
    make_params,
    read_bits,
)

from rmsprop.errors import InputError

BOTH = (RMSprop, TorchRMSprop)


def step(optimizer, max_norm):
    """Step with clipping, inside for ours and by torch's function for torch's; return the norm."""
    if isinstance(optimizer, RMSprop):
        optimizer.max_norm = max_norm
        optimizer.step()
        return optimizer.grad_norm
    norm = torch.nn.utils.clip_grad_norm_(list_params(optimizer), max_norm)
    optimizer.step()
    return float(norm)


@pytest.mark.parametrize("max_norm", [0.1, 5.0, 12.0, 1e9])
@pytest.mark.parametrize("cuts", [[5], [2, 1, 2]], ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_max_norm_is_clip_grad_norm_and_a_step(dtype, tolerance, cuts, max_norm):
    runs, norms = [], []
    for cls in BOTH:
        params = iter(make_params(dtype=dtype))
        groups = [{"params": [next(params) for _ in range(n)], "lr": 0.01 * (k + 1)} for k, n in enumerate(cuts)]
        runs.append(cls(groups, momentum=0.5))
        norms.append([])
        for number in range(10):
            draw_grads(list_params(runs[-1]), number)
            norms[-1].append(step(runs[-1], max_norm))
    assert norms[0] == pytest.approx(norms[1], rel=tolerance)
    assert_near(*runs, tolerance=tolerance)


def test_the_norm_is_measured_only_with_max_norm():
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    without, clipped = RMSprop([weight]), RMSprop([weight], max_norm=1.0)
    without.step()
    clipped.step()
    assert math.isnan(without.grad_norm)
    assert clipped.grad_norm == 5.0
    assert RMSprop([weight], max_norm=math.inf).max_norm == 0.0


def test_the_norm_is_that_of_the_unscaled_gradients():
    plain, scaled = (RMSprop(make_params(), max_norm=0.5) for _ in range(2))
    draw_grads(list_params(plain), 0)
    draw_grads(list_params(scaled), 0)
    for param in list_params(scaled):
        param.grad.mul_(1024.0)
    plain.step()
    scaled.step(grad_scale=1024.0)
    assert scaled.grad_norm == plain.grad_norm
    assert_same_bits(scaled, plain)


def make_groups(groups, dtype=torch.float32):
    first, second = make_params([(4,), (3,)], dtype)
    return [{"params": [first, second]}] if groups == 1 else [{"params": [first]}, {"params": [second]}]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_gradient_that_is_not_finite_has_the_effect_that_it_has_with_torch(value, groups):
    """clip_grad_norm_ turns an infinite gradient into NaN and the others into 0, a NaN into NaN everywhere."""
    runs = [cls(make_groups(groups)) for cls in BOTH]
    for optimizer in runs:
        draw_grads(list_params(optimizer), 0)
        list_params(optimizer)[0].grad[1] = value
        step(optimizer, 1.0)
    for ours, theirs in zip(*map(list_params, runs)):
        assert ours.isnan().tolist() == theirs.isnan().tolist()


@pytest.mark.parametrize("groups", [1, 2])
def test_finite_gradients_whose_norm_overflows_raise_and_nothing_changes(groups):
    optimizer = RMSprop(make_groups(groups, torch.float64), max_norm=1.0)
    draw_grads(list_params(optimizer), 0)
    list_params(optimizer)[0].grad[0] = 1e200
    before = read_bits(list_params(optimizer))
    with pytest.raises(InputError, match="the sum of their squares overflows, so max_norm cannot scale them"):
        optimizer.step()
    assert read_bits(list_params(optimizer)) == before


@pytest.mark.parametrize("options", [{}, {"centered": True}], ids=str)
def test_clipping_covers_sparse_complex_and_strided_parameters(options):
    runs = []
    for cls in BOTH:
        real, other = make_params([(4, 3), (5,)], torch.float64)
        (wide,) = make_params([(3,)], torch.complex128)
        gaps = torch.nn.Parameter(other.detach().repeat_interleave(2)[::2])
        runs.append(cls([real, wide, gaps], **options))
        for number in range(4):
            draw_grads([real, wide, gaps], number)
            if cls is RMSprop:
                real.grad = real.grad.to_sparse(1)
            step(runs[-1], 0.3)
    assert_near(*runs)
