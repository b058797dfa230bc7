"""Promise: training in 16 bits and with narrow statistics goes where float32 goes, costs what is said, and resumes."""

from __future__ import annotations

import copy
import functools
import gzip
import io
import itertools
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("rmsprop._core", reason="the compiled module is not installed")

from rmsprop.errors import StateError  # noqa: E402
from rmsprop.torch import RMSprop  # noqa: E402

# The stall that the warning foretells is what some of these tests show.
pytestmark = pytest.mark.filterwarnings("ignore:lr .* is lost in:rmsprop.errors.RMSpropWarning")

STATE_DTYPES = ("float32", "bfloat16", "8bit")


@pytest.fixture(autouse=True)
def _one_thread():
    # These arrays are too small for a second thread to pay, and two OpenMP runtimes that wait for each other's.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


def mean_square(state):
    """square_avg as float32 numbers, decoded by a checkpoint's way into a float32 optimizer."""
    param = torch.nn.Parameter(torch.zeros(next(v for k, v in state.items() if k.startswith("square_avg")).shape))
    target = RMSprop([param])
    saved = {"state": {0: state}, "param_groups": [{**RMSprop([param]).state_dict()["param_groups"][0]}]}
    target.load_state_dict(saved)
    return target.state[param]["square_avg"]


@pytest.mark.parametrize("state_dtype", STATE_DTYPES)
def test_a_mean_square_comes_down_again_after_a_spike(state_dtype):
    # Rounded to nearest, a bfloat16 average of alpha 0.999 stays where the spike has put it.
    n = 4096
    param = torch.nn.Parameter(torch.zeros(n))
    optimizer = RMSprop([param], lr=1e-6, alpha=0.999, state_dtype=state_dtype)
    for step in range(7000):
        param.grad = torch.full((n,), 10.0 if step == 0 else 0.01)
        optimizer.step()
    kept = mean_square(optimizer.state[param])
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


# ---- saving, loading, converting -------------------------------------------------------------------------------------

OPTIONS = [{}, {"momentum": 0.9}, {"centered": True}, {"momentum": 0.9, "centered": True, "weight_decay": 0.1}]


def everything(model_params, optimizer):
    """All bits that a run has produced."""
    found = [p.detach() for p in model_params]
    found += [optimizer.state[p][key] for p in model_params for key in sorted(optimizer.state[p])]
    return [t.contiguous().view(-1).view(torch.uint8) if t.dim() else t for t in found]


def built(shapes, dtype, **options):
    generator = torch.Generator().manual_seed(1)
    params = [torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]
    params[0].data = params[0].data.to(memory_format=torch.channels_last)
    return params, RMSprop(params, lr=0.01, seed=5, **options)


SHAPES = [(5, 3, 4, 4), (300,), (), (2, 0)]


def steps(params, optimizer, first, last):
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator).to(param.dtype)
        optimizer.step()


@pytest.mark.parametrize("rounding", ["nearest", "stochastic", "compensated"])
@pytest.mark.parametrize("state_dtype", STATE_DTYPES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_interrupted_run_resumes_with_the_same_bits(options, state_dtype, rounding):
    options = {**options, "state_dtype": state_dtype, "param_rounding": rounding}
    params, optimizer = built(SHAPES, torch.bfloat16, **options)
    steps(params, optimizer, 0, 8)
    for stop in (1, 5):
        first, before = built(SHAPES, torch.bfloat16, **options)
        steps(first, before, 0, stop)
        file = io.BytesIO()
        torch.save({"params": [p.data for p in first], "optimizer": before.state_dict()}, file)
        file.seek(0)
        saved = torch.load(file)
        second, after = built(SHAPES, torch.bfloat16, **options)
        for param, data in zip(second, saved["params"]):
            param.data.copy_(data)
        after.load_state_dict(saved["optimizer"])
        steps(second, after, stop, 8)
        for ours, theirs in zip(everything(second, after), everything(params, optimizer)):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(STATE_DTYPES, 2)))
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_state_is_converted_to_the_dtype_of_the_optimizer_that_loads_it(options, before, after):
    shapes = [(7, 3, 8, 8), (300,)]
    params, optimizer = built(shapes, torch.float32, **options, state_dtype=before)
    steps(params, optimizer, 0, 20)
    others, target = built(shapes, torch.float32, **options, state_dtype=after)
    # Into a parameter with another memory order: the blocks of the code follow the order, the values the positions.
    others[0].data = others[0].data.contiguous()
    target.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    back, last = built(shapes, torch.float32, **options, state_dtype="float32")
    last.load_state_dict(copy.deepcopy(target.state_dict()))
    reference, start = built(shapes, torch.float32, **options, state_dtype="float32")
    start.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    spacing = {"float32": 2.0**-23, "bfloat16": 2.0**-8, "8bit": 0.09}[after]
    for mine, theirs in zip(back, reference):
        for key, value in start.state[theirs].items():
            rel = spacing if key in ("square_avg", "grad_var") or after != "8bit" else 2.0**-8
            torch.testing.assert_close(last.state[mine][key], value, rtol=rel, atol=0.0)
    steps(others, target, 20, 22)  # and it goes on
    assert all(torch.isfinite(p).all() for p in others)
    assert target.state[others[0]]["step"] == 22


def test_codes_keep_their_places_when_the_memory_order_changes():
    shape = (8, 16, 5, 5)
    values = torch.rand(shape, generator=torch.Generator().manual_seed(2)) ** 8
    found = []
    for saved_as, loaded_as in itertools.product((torch.contiguous_format, torch.channels_last), repeat=2):
        first = torch.nn.Parameter(torch.zeros(shape).to(memory_format=saved_as))
        optimizer = RMSprop([first], alpha=0.5, state_dtype="8bit")
        first.grad = values.clone()
        optimizer.step()
        second = torch.nn.Parameter(torch.zeros(shape).to(memory_format=loaded_as))
        target = RMSprop([second], alpha=0.5, state_dtype="8bit")
        target.load_state_dict(optimizer.state_dict())
        second.grad = torch.zeros(shape)
        target.step()
        found.append(mean_square(dict(target.state[second])))
    for square in found:
        # 1/2 g^2, then half of it; a code each, of neighbours at most 16 % apart, twice or three times.
        expected = 0.25 * values**2
        near = expected > expected.max() * 1e-9
        assert ((square / expected)[near].log().abs() < 3 * np.log(1.17)).all()


def test_a_square_that_is_not_zero_is_not_loaded_as_zero():
    tiny = torch.tensor([1e-45, 1e-42, 0.0, 1e-40])
    for state_dtype in ("bfloat16", "8bit"):
        param = torch.nn.Parameter(torch.zeros(4))
        source, target = RMSprop([param], eager_state=True), RMSprop([param], state_dtype=state_dtype)
        source.state[param]["square_avg"].copy_(tiny)
        target.load_state_dict(source.state_dict())
        assert torch.equal(mean_square(dict(target.state[param])) == 0, tiny == 0), state_dtype


def test_codes_without_their_maxima_are_refused_by_name():
    param = torch.nn.Parameter(torch.ones(300))
    optimizer = RMSprop([param], state_dtype="8bit", eager_state=True)
    good = optimizer.state_dict()
    for key, value, message in (
        ("square_avg_max", None, r"state\[0\]\['square_avg_max'\] is missing; nothing was loaded"),
        ("square_avg_max", torch.ones(1), r"state\[0\]\['square_avg_max'\]: 1 block maxima, expected 2"),
        ("square_avg_8bit", torch.ones(3), r"state\[0\]\['square_avg_8bit'\]: shape \(3,\), expected \(300,\)"),
    ):
        bad = copy.deepcopy(good)
        bad["state"][0].pop(key)
        if value is not None:
            bad["state"][0][key] = value
        before = copy.deepcopy(optimizer.state_dict())
        with pytest.raises(StateError, match=message):
            optimizer.load_state_dict(bad)
        assert str(optimizer.state_dict()) == str(before)


def test_wide_parameters_in_a_narrow_group_keep_their_own_precision():
    for dtype in (torch.float64, torch.complex64):
        for state_dtype in ("bfloat16", "8bit"):
            params = [torch.nn.Parameter(torch.ones(5, dtype=d)) for d in (dtype, torch.float32)]
            alone = torch.nn.Parameter(torch.ones(5, dtype=dtype))
            narrow, plain = RMSprop(params, state_dtype=state_dtype), RMSprop([alone])
            for _ in range(3):
                for param in (*params, alone):
                    param.grad = torch.full_like(param, 0.3)
                narrow.step()
                plain.step()
            assert torch.equal(params[0], alone)


def test_torch_is_told_that_it_cannot_read_codes():
    param = torch.nn.Parameter(torch.ones(300))
    optimizer = RMSprop([param], state_dtype="8bit", eager_state=True)
    host = torch.optim.RMSprop([param])
    host.load_state_dict(optimizer.state_dict())
    param.grad = torch.ones(300)
    with pytest.raises(KeyError, match="square_avg"):
        host.step()


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
