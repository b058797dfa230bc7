"""Promise: every path of a PyTorch step gives the same numbers, with any number of threads and groups."""

import numpy as np
import pytest
import torch
from torch_helpers import (
    SHAPES,
    RMSprop,
    TorchRMSprop,
    all_options,
    assert_near,
    assert_same_bits,
    draw_grads,
    make_params,
    train,
)

import rmsprop
from cases import COVERING, same_bits
from rmsprop import _step

# ---- the general path ------------------------------------------------------------------------------------------------


@all_options
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-12)])
def test_capturable_gives_the_same_numbers(dtype, tolerance, options):
    plain, capturable = (RMSprop(make_params(dtype=dtype), capturable=flag, **options) for flag in (False, True))
    train(plain, 20)
    train(capturable, 20)
    assert_near(capturable, plain, tolerance=tolerance)


DIALECTS = {
    **{name: name for name in ("tensorflow1", "keras3", "sb3")},
    "corrected decay": rmsprop.Rule(weight_decay=0.1, weight_decay_mode="decoupled_corrected"),
    "bias correction": rmsprop.Rule(bias_correction=True),
}


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_the_general_path_equals_the_kernel_in_other_dialects(dialect):
    runs = []
    for capturable in (False, True):
        lr = torch.tensor(0.5, dtype=torch.float64)
        optimizer = RMSprop(make_params(dtype=torch.float64), lr=lr, capturable=capturable, dialect=dialect)
        train(optimizer, 6, each=lambda step, lr=lr: lr.fill_(0.5 / (1 + step)))
        runs.append(optimizer)
    assert_near(*runs)


# ---- differentiable --------------------------------------------------------------------------------------------------


def unroll(cls, options):
    """Return a weight after differentiable steps, and the gradients of a loss for its start and its gradient.

    One step with centered, because torch's own class then overwrites what autograd has kept; else three.
    """
    start = make_params([(4,)], torch.float64)[0]
    pull = make_params([(4,)], torch.float64, seed=1)[0]
    weight = start.clone()
    optimizer = cls([weight], differentiable=True, **options)
    for step in range(1 if options.get("centered") else 3):
        weight.grad = pull * (1.0 + step) + 0.1 * weight.detach()
        optimizer.step()
    (weight**2).sum().backward()
    return weight, start.grad, pull.grad


@all_options
def test_autograd_runs_through_a_differentiable_step_as_through_torchs(options):
    assert_near(unroll(RMSprop, options), unroll(TorchRMSprop, options), tolerance=1e-9)


def test_autograd_through_a_differentiable_step_is_the_finite_difference():
    def compute_weight(pull):
        weight = torch.ones(3, dtype=torch.float64).requires_grad_().clone()
        optimizer = RMSprop([weight], differentiable=True, momentum=0.5, centered=True)
        for step in (1.0, -0.5):
            weight.grad = pull * step
            optimizer.step()
        return weight

    pull = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(compute_weight, (pull,))


# ---- front ends, threads, groups -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", COVERING)
def test_numpy_and_torch_have_the_same_bits(name, dtype):
    rule = COVERING[name]
    arrays = [p.detach().numpy().copy() for p in make_params(SHAPES[1:], getattr(torch, dtype))]
    tensors = [torch.nn.Parameter(torch.from_numpy(a.copy())) for a in arrays]
    of_numpy = rmsprop.RMSprop(arrays, lr=0.02, dialect=rule)
    of_torch = RMSprop(tensors, lr=0.02, dialect=rule)
    for step in range(10):
        draw_grads(tensors, step)
        of_numpy.step([p.grad.numpy() for p in tensors])
        of_torch.step()
    for array, tensor in zip(arrays, tensors):
        assert same_bits(array, tensor.detach().numpy())


def test_a_first_step_is_the_formula_in_numpy():
    """p - lr g / (sqrt(v) + eps), v = (1 - alpha) g^2, each operation rounded once to float32."""
    weight = make_params([(1000,)])[0]
    draw_grads([weight], 0)
    p, g = weight.detach().numpy().copy(), weight.grad.numpy()
    RMSprop([weight], lr=0.02).step()
    v = np.float32(1 - 0.99) * (g * g)
    assert same_bits(p - np.float32(0.02) * (g / (np.sqrt(v) + np.float32(1e-8))), weight.detach().numpy())


@pytest.fixture
def restore_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("restore_threads")
@pytest.mark.parametrize("options", [{}, {"max_norm": 1.0}, {"centered": True, "momentum": 0.9}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_number_of_threads_changes_no_bit(dtype, options):
    runs = []
    extra = {"param_rounding": "stochastic", "state_dtype": "bfloat16"} if dtype == torch.bfloat16 else {}
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        runs.append(RMSprop(make_params([(70_001,), (300, 301)], dtype), seed=5, **extra, **options))
        train(runs[-1], 3)
    assert_same_bits(runs[1], runs[0])
    assert_same_bits(runs[2], runs[0])


@pytest.mark.usefixtures("restore_threads")
def test_the_step_uses_torchs_number_of_threads(monkeypatch):
    core, used = _step.core, []

    class Spy:
        def __getattr__(self, name):
            return getattr(core, name)

        def step(self, *args):
            used.append(args[2].threads)
            return core.step(*args)

    monkeypatch.setattr(_step, "core", Spy())
    optimizer = RMSprop(make_params())
    for threads in (1, 3, 2):
        torch.set_num_threads(threads)
        train(optimizer, 1)
    assert used == [1, 3, 2]


@pytest.mark.parametrize(
    "options", [{}, {"max_norm": 0.7}, {"param_rounding": "stochastic", "state_dtype": "8bit"}], ids=str
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_grouping_of_parameters_changes_no_bit(dtype, options):
    shapes = [(7,), (300,), (3, 5), (1000,), (2, 2)]
    runs = []
    for cuts in ([5], [1, 4], [2, 3], [1, 1, 1, 1, 1]):
        params = iter(make_params(shapes, dtype))
        groups = [{"params": [next(params) for _ in range(n)]} for n in cuts]
        optimizer = RMSprop(groups, momentum=0.9, seed=11, **options)
        train(optimizer, 4)
        runs.append(optimizer)
        assert_same_bits(optimizer, runs[0])
        assert optimizer.grad_norm == runs[0].grad_norm or "max_norm" not in options
