"""Promise: every path of a PyTorch step ends in the same numbers, however many threads and groups it takes."""

import copy

import numpy as np
import pytest
import torch

import rmsprop
from cases import COVERING, same_bits
from torch_helpers import (
    SHAPES,
    RMSprop,
    TorchRMSprop,
    all_options,
    assert_near,
    assert_same_bits,
    draw_grads,
    list_params,
    make_params,
    read_bits,
    train,
)

# ---- the general path ------------------------------------------------------------------------------------------------


@all_options
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_capturable_gives_the_same_numbers(dtype, options):
    plain, capturable = (RMSprop(make_params(dtype=dtype), capturable=flag, **options) for flag in (False, True))
    train(plain, 20)
    train(capturable, 20)
    assert_near(capturable, plain, tolerance=1e-12 if dtype == torch.float64 else 2e-6)


@pytest.mark.parametrize("dialect", ["tensorflow1", "keras3", "sb3"])
def test_the_general_path_equals_the_kernel_in_other_dialects(dialect):
    runs = []
    for capturable in (False, True):
        optimizer = RMSprop(make_params(), lr=torch.tensor(0.01), capturable=capturable, dialect=dialect)
        train(optimizer, 6, each=lambda step, o=optimizer: o.param_groups[0]["lr"].fill_(0.01 / (1 + step)))
        runs.append(list_params(optimizer))
    assert_near(*runs, tolerance=1e-6)  # a tensor lr is a float32, the kernel's a double


def test_corrected_weight_decay_follows_the_largest_lr_on_every_path():
    rule = rmsprop.Rule(weight_decay=0.1, weight_decay_mode="decoupled_corrected")
    runs = []
    for capturable in (False, True):
        lr = torch.tensor(0.5, dtype=torch.float64)
        optimizer = RMSprop(make_params(dtype=torch.float64), lr=lr, capturable=capturable, dialect=rule)
        train(optimizer, 6, each=lambda step, lr=lr: lr.fill_(0.5 / (1 + step)))
        runs.append(list_params(optimizer))
    assert_near(*runs)


# ---- differentiable --------------------------------------------------------------------------------------------------


def unrolled(cls, options, *, wrt):
    """A weight after differentiable steps, or a loss's gradient with respect to the start or the steps' gradient.

    One step where torch's own class, centered, overwrites what autograd has kept; three elsewhere.
    """
    start = make_params([(4,)], torch.float64)[0]
    pull = make_params([(4,)], torch.float64, seed=1)[0]
    weight = start.clone()
    weight.retain_grad()
    optimizer = cls([weight], differentiable=True, **options)
    for step in range(1 if options.get("centered") else 3):
        weight.grad = pull * (1.0 + step) + 0.1 * weight.detach()
        optimizer.step()
    (weight**2).sum().backward()
    return [weight, start.grad, pull.grad][wrt]


@pytest.mark.parametrize("wrt", [0, 1, 2], ids=["weight", "start", "gradient"])
@all_options
def test_autograd_runs_through_a_differentiable_step_as_through_torchs(options, wrt):
    assert_near([unrolled(RMSprop, options, wrt=wrt)], [unrolled(TorchRMSprop, options, wrt=wrt)], tolerance=1e-9)


def test_autograd_through_a_differentiable_step_is_the_finite_difference():
    def after(pull):
        weight = torch.ones(3, dtype=torch.float64).requires_grad_().clone()
        optimizer = RMSprop([weight], differentiable=True, momentum=0.5, centered=True)
        for step in (1.0, -0.5):
            weight.grad = pull * step
            optimizer.step()
        return weight

    pull = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(after, (pull,))


# ---- front ends, threads, groups -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", COVERING)
def test_numpy_and_torch_agree_bitwise(name, dtype):
    rule = COVERING[name]
    arrays = [p.detach().numpy().copy() for p in make_params(SHAPES[1:], getattr(torch, dtype))]
    tensors = [torch.nn.Parameter(torch.from_numpy(a.copy())) for a in arrays]
    numpy_side = rmsprop.RMSprop(arrays, lr=0.02, dialect=rule)
    torch_side = RMSprop(tensors, lr=0.02, dialect=rule)
    for step in range(10):
        draw_grads(tensors, step)
        numpy_side.step([p.grad.numpy() for p in tensors])
        torch_side.step()
    for array, tensor in zip(arrays, tensors):
        assert same_bits(array, tensor.detach().numpy())


@pytest.fixture
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("options", [{}, {"max_norm": 1.0}, {"centered": True, "momentum": 0.9}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_number_of_threads_changes_no_bit(dtype, options):
    runs = []
    extra = {"param_rounding": "stochastic", "state_dtype": "bfloat16"} if dtype == torch.bfloat16 else {}
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        optimizer = RMSprop(make_params([(70_001,), (300, 301)], dtype), seed=5, **extra, **options)
        train(optimizer, 3)
        runs.append(optimizer)
    assert_same_bits(runs[1], runs[0])
    assert_same_bits(runs[2], runs[0])


@pytest.mark.usefixtures("_threads")
def test_threads_follow_torch(monkeypatch):
    from rmsprop import _step

    asked = []
    step = _step.core.step

    class Spy:
        def __getattr__(self, name):
            return getattr(real, name)

        def step(self, *args):
            asked.append(args[2].threads)
            return step(*args)

    real = _step.core
    monkeypatch.setattr(_step, "core", Spy())
    optimizer = RMSprop(make_params())
    for threads in (1, 3, 2):
        torch.set_num_threads(threads)
        train(optimizer, 1)
    assert asked == [1, 3, 2]


@pytest.mark.parametrize(
    "options", [{}, {"max_norm": 0.7}, {"param_rounding": "stochastic", "state_dtype": "8bit"}], ids=str
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_how_parameters_are_grouped_changes_no_bit(dtype, options):
    shapes = [(7,), (300,), (3, 5), (1000,), (2, 2)]
    runs = []
    for cuts in ([5], [1, 4], [2, 3], [1, 1, 1, 1, 1]):
        params = make_params(shapes, dtype)
        rest = iter(params)
        groups = [{"params": [next(rest) for _ in range(n)]} for n in cuts]
        optimizer = RMSprop(groups, momentum=0.9, seed=11, **options)
        for step in range(4):
            draw_grads(params, step)
            optimizer.step()
        runs.append((params, [optimizer.state[p] for p in params], optimizer.grad_norm))
    for params, states, norm in runs[1:]:
        assert_same_bits(params, runs[0][0])
        for state, expected in zip(states, runs[0][1]):
            assert read_bits(list(state.values())) == read_bits(list(expected.values()))
        assert norm == runs[0][2] or "max_norm" not in options


def test_a_half_done_step_is_impossible():
    """A group with a sparse gradient and parameters that share memory: refused before the sparse one has stepped."""
    first, second = make_params([(3,), (3,)])
    alias = torch.nn.Parameter(second.data)
    optimizer = RMSprop([first, second, alias])
    draw_grads([first, second, alias], 0)
    first.grad = first.grad.to_sparse()
    before = copy.deepcopy([first, second])
    with pytest.raises(ValueError, match="shares memory"):
        optimizer.step()
    assert_same_bits([first, second], before)


def test_numbers_are_those_of_numpy_for_a_step_without_a_past():
    """p - lr g / (sqrt(v) + eps), v = (1 - alpha) g^2, each operation rounded once to float32."""
    weight = make_params([(1000,)])[0]
    draw_grads([weight], 0)
    p, g = weight.detach().numpy().copy(), weight.grad.numpy()
    RMSprop([weight], lr=0.02).step()
    v = np.float32(1 - 0.99) * (g * g)
    assert same_bits(p - np.float32(0.02) * (g / (np.sqrt(v) + np.float32(1e-8))), weight.detach().numpy())
