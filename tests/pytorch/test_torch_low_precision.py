"""Promise: training in 16 bits and with narrow statistics goes where float32 goes, and costs what is said."""

from __future__ import annotations

import functools
import gzip
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("rmsprop._core", reason="the compiled module is not installed")

from rmsprop.torch import RMSprop
from torch_helpers import STATES, decode_mean_square, one_thread  # noqa: F401

# The stall that the warning foretells is what some of these tests show.
pytestmark = pytest.mark.filterwarnings("ignore:lr .* is lost in:rmsprop.errors.RMSpropWarning")


@functools.cache
def noise(n):
    """250 gradients: noise around a slope, as a loss far from its minimum gives it, in bfloat16."""
    return (1 + 0.5 * torch.randn(250, n, generator=torch.Generator().manual_seed(0))).bfloat16()


def gradients(n, steps):
    return itertools.islice(itertools.cycle(noise(n)), steps)


def trained(start, steps=1000, *, dtype, **options):
    """The parameter and optimizer after `steps` steps."""
    param = torch.nn.Parameter(start.to(dtype, copy=True))
    optimizer = RMSprop([param], **options)
    for grad in gradients(len(start), steps):
        param.grad = grad.to(dtype)
        optimizer.step()
    return param.data, optimizer


# ---- weights in bfloat16 ---------------------------------------------------------------------------------------------


def near_one(n):
    return torch.linspace(0.9, 1.1, n).bfloat16().float()


def single_bits(param, optimizer):
    """The float32 that a compensated parameter stands for."""
    lost = optimizer.state[optimizer.param_groups[0]["params"][0]]["lost_bits"]
    return ((param.view(torch.int16).int() << 16) + lost.int()).view(torch.float32)


@pytest.mark.parametrize("lr", [1e-4, 1e-5])
def test_stochastic_bfloat16_weights_move_as_float32_ones_in_the_mean(lr):
    start = near_one(32768)
    single, _ = trained(start, dtype=torch.float32, lr=lr)
    movement = float((single.double() - start.double()).mean())
    assert abs(movement) > 700 * lr  # of 1000 steps
    ours = []
    for seed in range(4):
        param, _ = trained(start, dtype=torch.bfloat16, lr=lr, param_rounding="stochastic", seed=seed)
        ours.append(float((param.double() - start.double()).mean()))
    assert np.mean(ours) == pytest.approx(movement, rel=0.01)
    # The control: rounded to nearest they stand still, or nearly so.
    nearest, _ = trained(start[::64], dtype=torch.bfloat16, lr=lr)
    assert abs(float((nearest.double() - start[::64].double()).mean())) < 0.1 * abs(movement)


@pytest.mark.parametrize("lr", [1e-4, 1e-5])
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"centered": True}, {"weight_decay": 0.1}], ids=str)
def test_compensated_bfloat16_weights_are_the_float32_ones_to_the_bit(lr, options):
    start = near_one(3000)
    params, optimizers = [], []
    for dtype, rounding in ((torch.float32, "nearest"), (torch.bfloat16, "compensated")):
        param, optimizer = trained(start, dtype=dtype, lr=lr, param_rounding=rounding, **options)
        params.append(param)
        optimizers.append(optimizer)
    assert torch.equal(single_bits(params[1], optimizers[1]), params[0])
    assert float((params[0] - start).abs().mean()) > 100 * lr


def test_a_weight_that_is_masked_to_zero_does_not_become_nan():
    param = torch.nn.Parameter(near_one(1000).bfloat16())
    optimizer = RMSprop([param], lr=1e-4, param_rounding="compensated")
    for step, grad in enumerate(gradients(1000, 50)):
        param.grad = grad
        optimizer.step()
        if step % 10 == 0:
            with torch.no_grad():
                param[::2] = 0.0
    assert torch.isfinite(param).all()
    assert (param[::2].abs() < 0.2).all()


def test_compensated_is_refused_for_other_parameters():
    for dtype in (torch.float32, torch.float16):
        with pytest.raises(TypeError, match=r"params\[1\]: torch.float\d\d, expected torch.bfloat16"):
            RMSprop([torch.zeros(2, dtype=torch.bfloat16), torch.zeros(2, dtype=dtype)], param_rounding="compensated")


# ---- statistics in bfloat16 and 8 bits -------------------------------------------------------------------------------


@pytest.mark.parametrize("state_dtype", STATES)
def test_a_mean_square_comes_down_again_after_a_spike(state_dtype):
    # Rounded to nearest, a bfloat16 average of alpha 0.999 stays where the spike has put it.
    n = 4096
    param = torch.nn.Parameter(torch.zeros(n))
    optimizer = RMSprop([param], lr=1e-6, alpha=0.999, state_dtype=state_dtype)
    for step in range(7000):
        param.grad = torch.full((n,), 10.0 if step == 0 else 0.01)
        optimizer.step()
    kept = decode_mean_square(optimizer.state[param])
    truth = 1e-4 + (0.1 - 1e-7) * 0.999**6999  # the spike's 0.1 decays, the gradient's 1e-4 remains
    # Each rounding is fair, so the mean over the elements follows, whatever single ones do.
    assert float(kept.double().mean()) == pytest.approx(truth, rel=0.02)
    stuck = torch.tensor(0.1, dtype=torch.bfloat16)
    assert torch.equal(stuck * 0.999 + 1e-7, stuck)


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
def test_narrow_statistics_honour_every_option(others, option, state_dtype):
    start = torch.linspace(0.5, 2, 5000)
    common = {"dtype": torch.float32, "lr": 1e-3, "steps": 300, **others}
    exact, _ = trained(start, **common, **option)
    narrow, _ = trained(start, **common, **option, state_dtype=state_dtype)
    plain, _ = trained(start, **common)
    way = float((exact - start).abs().mean())
    # Stochastic rounding of a 16 % code makes single steps noisy, not different on average.
    assert float((narrow - exact).mean().abs()) < 0.03 * way
    assert float((narrow - exact).abs().mean()) < 0.1 * way
    assert float((plain - exact).abs().mean()) > 0.2 * way  # the option does matter here


def sizes(optimizer):
    """Bytes that persist for one parameter: the parameter itself and its state, without the step count."""
    (param,) = optimizer.param_groups[0]["params"]
    kept = [v for k, v in optimizer.state[param].items() if k != "step"]
    return sum(t.untyped_storage().nbytes() for t in (param, *kept))


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
def test_the_bytes_kept_for_each_parameter_are_those_stated(dtype, options, per_parameter):
    n = 256 * 100
    _, optimizer = trained(torch.ones(n), 3, dtype=dtype, lr=1e-3, **options)
    assert sizes(optimizer) == per_parameter * n


# ---- the accuracy of what is trained ---------------------------------------------------------------------------------

FASHION = Path("/usr/share/datasets/fashion-mnist")


@functools.cache
def digits():
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    x, y = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = torch.from_numpy(x[order] / 16).float(), torch.from_numpy(y[order])
    return x[:1300], y[:1300], x[1300:], y[1300:]


@functools.cache
def fashion():
    """10,000 pictures to train on, and the 10,000 of the test set."""
    if not FASHION.is_dir():
        pytest.skip(f"{FASHION} is not there: apt-get install dataset-fashion-mnist")

    def read(name, offset, size):
        with gzip.open(FASHION / name) as file:
            data = file.read(offset + 10_000 * size)
        return torch.from_numpy(np.frombuffer(data, np.uint8, offset=offset).copy())

    pictures = [read(f"{part}-images-idx3-ubyte.gz", 16, 784).view(-1, 784).float() / 255 for part in ("train", "t10k")]
    labels = [read(f"{part}-labels-idx1-ubyte.gz", 8, 1).long() for part in ("train", "t10k")]
    return pictures[0], labels[0], pictures[1], labels[1]


@functools.cache
def accuracies(task, seeds, width, epochs, lr, momentum, state_dtype):
    """Test accuracies of a two-layer network after training it, one for each seed."""
    x, y, test_x, test_y = task()
    scores = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        model = torch.nn.Sequential(torch.nn.Linear(x.shape[1], width), torch.nn.ReLU(), torch.nn.Linear(width, 10))
        optimizer = RMSprop(model.parameters(), lr=lr, momentum=momentum, state_dtype=state_dtype, seed=seed)
        for rows in itertools.chain.from_iterable(torch.randperm(len(x)).split(64) for _ in range(epochs)):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        with torch.no_grad():
            scores.append(float((model(test_x).argmax(1) == test_y).double().mean()))
    return scores


@pytest.mark.parametrize("state_dtype", ["bfloat16", "8bit"])
@pytest.mark.parametrize(
    ("task", "settings", "least"),
    [
        (digits, (6, 32, 20, 1e-3, 0.0), 0.94),
        (digits, (6, 32, 20, 2e-4, 0.9), 0.94),
        (fashion, (4, 64, 4, 1e-3, 0.0), 0.8),
    ],
    ids=["digits", "digits, momentum", "Fashion-MNIST"],
)
def test_narrow_statistics_reach_float32s_accuracy_within_its_seeds_spread(task, settings, least, state_dtype):
    single, narrow = accuracies(task, *settings, "float32"), accuracies(task, *settings, state_dtype)
    spread = max(single) - min(single)
    assert spread > 0
    assert abs(np.mean(narrow) - np.mean(single)) <= spread, (single, narrow)
    assert np.mean(narrow) > least
