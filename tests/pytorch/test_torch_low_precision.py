"""Promise: 16-bit weights and narrow statistics train like float32 ones and need the documented memory."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
import torch

pytest.importorskip("rmsprop._core", reason="the compiled module is not installed")

from torch_helpers import STATES, decode_mean_square, use_one_thread  # noqa: F401

from rmsprop.torch import RMSprop

# Some of these tests show the stall of which the optimizer warns.


@functools.cache
def draw_noise(n):
    """Draw 250 gradients in bfloat16: noise around a slope, as a loss far from its minimum gives it."""
    return (1 + 0.5 * torch.randn(250, n, generator=torch.Generator().manual_seed(0))).bfloat16()


def train(start, steps=1000, *, dtype, **options):
    """Return the parameter and the optimizer after `steps` steps."""
    param = torch.nn.Parameter(start.to(dtype, copy=True))
    optimizer = RMSprop([param], **options)
    for grad in itertools.islice(itertools.cycle(draw_noise(len(start))), steps):
        param.grad = grad.to(dtype)
        optimizer.step()
    return param.data, optimizer


# ---- weights in bfloat16 ---------------------------------------------------------------------------------------------


def make_weights_near_one(n):
    return torch.linspace(0.9, 1.1, n).bfloat16().float()


@pytest.mark.parametrize("lr", [1e-4, 1e-5])
def test_stochastic_bfloat16_weights_move_like_float32_ones_on_average(lr):
    start = make_weights_near_one(32768)
    single, _ = train(start, dtype=torch.float32, lr=lr)
    movement = float((single.double() - start.double()).mean())
    assert abs(movement) > 700 * lr  # of 1000 steps
    ours = []
    for seed in range(4):
        param, _ = train(start, dtype=torch.bfloat16, lr=lr, param_rounding="stochastic", seed=seed)
        ours.append(float((param.double() - start.double()).mean()))
    assert np.mean(ours) == pytest.approx(movement, rel=0.01)
    # The control: rounded to nearest they stand still, or nearly so.
    nearest, _ = train(start[::64], dtype=torch.bfloat16, lr=lr)
    assert abs(float((nearest.double() - start[::64].double()).mean())) < 0.1 * abs(movement)


@pytest.mark.parametrize("lr", [1e-4, 1e-5])
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"centered": True}, {"weight_decay": 0.1}], ids=str)
def test_compensated_bfloat16_weights_have_the_bits_of_float32_ones(lr, options):
    start = make_weights_near_one(3000)
    single, _ = train(start, dtype=torch.float32, lr=lr, **options)
    param, optimizer = train(start, dtype=torch.bfloat16, lr=lr, param_rounding="compensated", **options)
    (state,) = optimizer.state.values()
    restored = ((param.view(torch.int16).int() << 16) + state["lost_bits"].int()).view(torch.float32)
    assert torch.equal(restored, single)
    assert float((single - start).abs().mean()) > 100 * lr


def test_a_weight_that_is_masked_to_zero_does_not_become_nan():
    param = torch.nn.Parameter(make_weights_near_one(1000).bfloat16())
    optimizer = RMSprop([param], lr=1e-4, param_rounding="compensated")
    for step in range(50):
        param.grad = draw_noise(1000)[step]
        optimizer.step()
        if step % 10 == 0:
            with torch.no_grad():
                param[::2] = 0.0
    assert torch.isfinite(param).all()
    assert (param[::2].abs() < 0.2).all()


# ---- statistics in bfloat16 and 8 bits -------------------------------------------------------------------------------


@pytest.mark.parametrize("state_dtype", STATES)
def test_a_mean_square_decays_after_a_spike(state_dtype):
    """Rounded to nearest, a bfloat16 average of alpha 0.999 stays where the spike has put it."""
    param = torch.nn.Parameter(torch.zeros(4096))
    optimizer = RMSprop([param], lr=1e-6, alpha=0.999, state_dtype=state_dtype)
    for step in range(7000):
        param.grad = torch.full((4096,), 10.0 if step == 0 else 0.01)
        optimizer.step()
    expected = 1e-4 + (0.1 - 1e-7) * 0.999**6999  # the spike's 0.1 decays, the gradient's 1e-4 remains
    # Each rounding is unbiased, so the mean over the elements follows.
    assert float(decode_mean_square(optimizer.state[param]).double().mean()) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("state_dtype", ["bfloat16", "8bit"])
@pytest.mark.parametrize(
    ("others", "option"),
    [
        ({}, {"momentum": 0.9}),
        ({}, {"centered": True}),
        ({"maximize": True}, {"weight_decay": 0.8}),
        ({"momentum": 0.9, "weight_decay": 0.1}, {"centered": True}),
        ({"momentum": 0.9}, {"dialect": "tensorflow1"}),
    ],
    ids=str,
)
def test_narrow_statistics_work_with_every_option(others, option, state_dtype):
    start = torch.linspace(0.5, 2, 5000)
    common = {"dtype": torch.float32, "lr": 1e-3, "steps": 300, **others}
    exact, _ = train(start, **common, **option)
    narrow, _ = train(start, **common, **option, state_dtype=state_dtype)
    plain, _ = train(start, **common)
    way = float((exact - start).abs().mean())
    # Stochastic rounding of a 16 % code makes single steps noisy, not different on average.
    assert float((narrow - exact).mean().abs()) < 0.03 * way
    assert float((narrow - exact).abs().mean()) < 0.1 * way
    assert float((plain - exact).abs().mean()) > 0.2 * way  # the option has an effect here


@pytest.mark.parametrize(
    ("dtype", "options", "per_parameter"),
    [
        (torch.float32, {}, 8),
        (torch.bfloat16, {}, 6),
        (torch.bfloat16, {"state_dtype": "bfloat16"}, 4),
        (torch.bfloat16, {"state_dtype": "8bit"}, 3 + 4 / 256),
        (torch.bfloat16, {"state_dtype": "8bit", "param_rounding": "stochastic"}, 3 + 4 / 256),
        (torch.bfloat16, {"state_dtype": "8bit", "param_rounding": "compensated"}, 5 + 4 / 256),
        (torch.bfloat16, {"state_dtype": "8bit", "momentum": 0.9}, 5 + 4 / 256),
        (torch.float32, {"state_dtype": "8bit"}, 5 + 4 / 256),
    ],
    ids=str,
)
def test_parameter_and_state_need_the_documented_bytes(dtype, options, per_parameter):
    n = 256 * 100
    _, optimizer = train(torch.ones(n), 3, dtype=dtype, lr=1e-3, **options)
    ((param, state),) = optimizer.state.items()
    tensors = [param, *(value for key, value in state.items() if key != "step")]
    assert sum(t.untyped_storage().nbytes() for t in tensors) == per_parameter * n


# ---- the accuracy of what is trained ---------------------------------------------------------------------------------


@functools.cache
def load_digits():
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    x, y = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = torch.from_numpy(x[order] / 16).float(), torch.from_numpy(y[order])
    return x[:1300], y[:1300], x[1300:], y[1300:]


@functools.cache
def measure_accuracies(lr, momentum, state_dtype):
    """Return the test accuracies of a two-layer network after 20 epochs, one for each of six seeds."""
    x, y, test_x, test_y = load_digits()
    scores = []
    for seed in range(6):
        torch.manual_seed(seed)
        model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
        optimizer = RMSprop(model.parameters(), lr=lr, momentum=momentum, state_dtype=state_dtype, seed=seed)
        for rows in itertools.chain.from_iterable(torch.randperm(len(x)).split(64) for _ in range(20)):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        with torch.no_grad():
            scores.append(float((model(test_x).argmax(1) == test_y).double().mean()))
    return scores


@pytest.mark.slow
@pytest.mark.parametrize("state_dtype", ["bfloat16", "8bit"])
@pytest.mark.parametrize(("lr", "momentum"), [(1e-3, 0.0), (2e-4, 0.9)])
def test_narrow_statistics_reach_the_accuracy_of_float32_within_the_spread_of_its_seeds(lr, momentum, state_dtype):
    single, narrow = (measure_accuracies(lr, momentum, dtype) for dtype in ("float32", state_dtype))
    spread = max(single) - min(single)
    assert spread > 0
    assert abs(np.mean(narrow) - np.mean(single)) <= spread, (single, narrow)
    assert np.mean(narrow) > 0.94
