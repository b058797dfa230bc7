"""Promise: max_norm is torch's clip_grad_norm_ and a step, over all groups and kinds of gradients."""

import math

import pytest
import torch

from rmsprop.errors import InputError
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

NAN = float("nan")


def clipped_by_torch(optimizer, limit, steps):
    norms = []
    for step in range(steps):
        draw_grads(list_params(optimizer), step)
        norms.append(float(torch.nn.utils.clip_grad_norm_(list_params(optimizer), limit)))
        optimizer.step()
    return norms


def clipped_inside(optimizer, steps):
    norms = []
    for step in range(steps):
        draw_grads(list_params(optimizer), step)
        optimizer.step()
        norms.append(optimizer.grad_norm)
    return norms


@pytest.mark.parametrize("limit", [0.1, 5.0, 12.0, 1e9])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_max_norm_is_clip_grad_norm_and_a_step(dtype, tolerance, groups, limit):
    def made(cls, **options):
        params = make_params(dtype=dtype)
        split = [params] if groups == 1 else [params[:2], params[2:3], params[3:]]
        return cls([{"params": part, "lr": 0.01 * (k + 1)} for k, part in enumerate(split)], momentum=0.5, **options)

    ours, theirs = made(RMSprop, max_norm=limit), made(TorchRMSprop)
    norms, expected = clipped_inside(ours, 10), clipped_by_torch(theirs, limit, 10)
    assert norms == pytest.approx(expected, rel=tolerance)
    assert_near(ours, theirs, tolerance=tolerance)


def test_the_norm_is_known_where_it_is_asked_for():
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    optimizer = RMSprop([weight])
    optimizer.step()
    assert math.isnan(optimizer.grad_norm)
    optimizer = RMSprop([weight], max_norm=1.0)
    optimizer.step()
    assert optimizer.grad_norm == 5.0
    assert RMSprop([weight], max_norm=math.inf).max_norm == 0.0


def test_the_norm_is_of_the_unscaled_gradients():
    plain, scaled = (RMSprop(make_params(), max_norm=0.5) for _ in range(2))
    draw_grads(list_params(plain), 0)
    draw_grads(list_params(scaled), 0)
    for param in list_params(scaled):
        param.grad.mul_(1024.0)
    plain.step()
    scaled.step(grad_scale=1024.0)
    assert scaled.grad_norm == plain.grad_norm
    assert_same_bits(scaled, plain)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_gradient_that_is_not_finite_is_seen_as_with_torch(groups):
    """clip_grad_norm_ turns an infinite gradient into NaN and the others into 0, a NaN into NaN everywhere."""
    for poison in (math.inf, NAN):
        runs = []
        for cls in (RMSprop, TorchRMSprop):
            first, second = make_params([(4,), (3,)])
            split = [[first, second]] if groups == 1 else [[first], [second]]
            optimizer = cls([{"params": part} for part in split], **({"max_norm": 1.0} if cls is RMSprop else {}))
            draw_grads([first, second], 0)
            first.grad[1] = poison
            if cls is TorchRMSprop:
                torch.nn.utils.clip_grad_norm_([first, second], 1.0)
            optimizer.step()
            runs.append([first, second])
        for ours, theirs in zip(*runs):
            assert ours.isnan().tolist() == theirs.isnan().tolist()


@pytest.mark.parametrize("groups", [1, 2])
def test_finite_gradients_whose_norm_overflows_are_refused(groups):
    first, second = make_params([(4,), (3,)], torch.float64)
    optimizer = RMSprop([{"params": [first, second]}] if groups == 1 else [{"params": [first]}, {"params": [second]}],
                        max_norm=1.0)  # fmt: skip
    draw_grads([first, second], 0)
    first.grad[0] = 1e200
    before = read_bits([first, second])
    with pytest.raises(InputError, match="the sum of their squares overflows, so max_norm cannot scale them"):
        optimizer.step()
    assert read_bits([first, second]) == before


@pytest.mark.parametrize("options", [{}, {"centered": True}], ids=str)
def test_clipping_reaches_sparse_complex_and_strided_parameters(options):
    runs = []
    for cls in (RMSprop, TorchRMSprop):
        shapes = [(4, 3), (5,)]
        real, other = make_params(shapes, torch.float64)
        (wide,) = make_params([(3,)], torch.complex128)
        gaps = torch.nn.Parameter(other.detach().repeat_interleave(2)[::2])
        params = [real, wide, gaps]
        optimizer = cls(params, **options, **({"max_norm": 0.3} if cls is RMSprop else {}))
        for step in range(4):
            draw_grads(params, step)
            if cls is TorchRMSprop:
                torch.nn.utils.clip_grad_norm_(params, 0.3)
            else:
                real.grad = real.grad.to_sparse(1)
            optimizer.step()
        runs.append(params)
    assert_near(*runs)
