"""`rmsprop.doctor.watch` on PyTorch optimizers: when it takes samples, what it gathers, and that it changes nothing."""

from __future__ import annotations

import logging
import re
from types import SimpleNamespace

import numpy
import pytest
from trainings import MAKERS, TorchRMSprop, make_params, randn, torch, train, watch

import rmsprop.doctor.torch as watching
from rmsprop.doctor.measure import choose_grid
from rmsprop.doctor.torch import gather, gather_statistics, is_finite
from rmsprop.errors import InputError, InputTypeError
from rmsprop.torch import RMSprop
from rmsprop.torch.state import read_square

pytestmark = pytest.mark.usefixtures("quiet")

both_optimizers = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


# ---- when samples are taken ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "momentum", "steps", "expected"),
    [
        (4, 0.0, 13, [1, 4, 8, 12]),
        (numpy.uint8(4), 0.0, 9, [1, 4, 8]),
        (1000, 0.937, 20, [1, 18]),  # the longest of the first steps
        (18, 0.937, 54, [1, 18, 36, 54]),
    ],
)
def test_the_first_the_longest_and_every_so_many_steps_are_sampled(
    every, momentum, steps, expected, tmp_path, steps_in
):
    optimizer = TorchRMSprop(make_params((3,)), lr=1e-6, momentum=momentum)
    with watch(optimizer, every=every, to=tmp_path, budget=None, tensorboard=False):
        train(optimizer, steps)
    train(optimizer, 100, start=steps)  # closed
    assert steps_in(tmp_path) == expected


def test_a_sample_waits_while_samples_have_cost_more_than_the_budget(tmp_path, monkeypatch, steps_in):
    now = [0.0]
    monkeypatch.setattr("rmsprop.doctor.base.time", SimpleNamespace(perf_counter=lambda: now[0]))
    measure = watching.measure

    def measure_slowly(*args, **options):
        now[0] += 1.0
        return measure(*args, **options)

    monkeypatch.setattr(watching, "measure", measure_slowly)
    optimizer = TorchRMSprop(make_params((3,)), lr=1e-3)
    with watch(optimizer, every=10, to=tmp_path, budget=0.01, tensorboard=False) as watcher:
        for step in range(450):
            now[0] += 1.0
            train(optimizer, 1, start=step)
    # A step and a sample take 1 s each, and a sample counts twice: one is paid for at 200 s, two at 400 s.
    assert steps_in(tmp_path) == [1, 200 - 1, 400 - 2]
    assert watcher.spent == 3.0


def test_findings_are_logged_once(caplog):
    optimizer = TorchRMSprop(make_params((3,), (4,)), lr=0.01, alpha=0.999)
    with caplog.at_level(logging.WARNING, logger="rmsprop.doctor"), watch(optimizer, every=1, budget=None) as watcher:
        train(optimizer, 3)
    (record,) = caplog.records
    assert record.getMessage().startswith("start: 0, step 1: a first step of 31.6 x lr")
    assert record.getMessage().endswith("(also 1)")
    assert [finding.tensor for finding in watcher.findings] == ["0", "1"]


# ---- what is measured ------------------------------------------------------------------------------------------------


@both_optimizers
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"centered": True}, {"weight_decay": 0.1}], ids=str)
def test_watching_changes_no_bit_of_a_training(make, options):
    alone, watched = (make(make_params(), lr=1e-3, **options) for _ in range(2))
    train(alone, 6)
    with watch(watched, every=2, budget=None) as watcher:
        train(watched, 6)
    assert len(watcher.samples) == 3
    for one, other in zip(alone.param_groups[0]["params"], watched.param_groups[0]["params"]):
        assert torch.equal(one, other)
        assert all(torch.equal(x, watched.state[other][key]) for key, x in alone.state[one].items())


@pytest.mark.parametrize("options", [{}, {"state_dtype": "bfloat16"}, {"state_dtype": "8bit"}], ids=str)
@pytest.mark.parametrize("centered", [False, True])
def test_the_numbers_are_those_of_torch(options, centered):
    samples = []
    for make, own in ((TorchRMSprop, {}), (RMSprop, options)):
        optimizer = make(make_params(), lr=1e-3, momentum=0.5, centered=centered, **own)
        with watch(optimizer, every=5, budget=None) as watcher:
            train(optimizer, 10)
        samples.append(watcher.samples)
    fields = (
        "root_mean_sq",
        "grad_rms",
        "weight_rms",
        "effective_lr",
        "update_to_weight",
        "decoupling",
        "step_over_lr",
    )
    for name, sample in samples[0].items():
        for field in fields[: 1 if options else None]:
            expected = getattr(sample, field)
            found = getattr(samples[1][name], field)
            assert found == (expected and pytest.approx(expected, rel=0.05 if options else 1e-4))


@pytest.mark.parametrize(
    ("group_by", "options", "expected"),
    [
        (lambda model: model.parameters(), lambda model: {}, {"0", "1"}),
        (lambda model: [{"params": [p]} for p in model.parameters()], lambda model: {}, {"0", "1"}),
        (lambda model: model.named_parameters(), lambda model: {}, {"weight", "bias"}),
        (lambda model: model.parameters(), lambda model: {"names": model}, {"weight", "bias"}),
        (
            lambda model: model.parameters(),
            lambda model: {"names": model.named_parameters("a")},
            {"a.weight", "a.bias"},
        ),
    ],
)
def test_tensors_have_the_names_of_the_model_or_the_group_or_their_position(group_by, options, expected):
    model = torch.nn.Linear(3, 2)
    optimizer = TorchRMSprop(group_by(model))
    with watch(optimizer, **options(model)) as watcher:
        train(optimizer, 1)
    assert set(watcher.samples) == expected


def test_the_numbers_of_each_group_and_of_a_schedule_are_read():
    params = make_params((3,), (4,))
    optimizer = TorchRMSprop([{"params": params[:1], "lr": 0.1}, {"params": params[1:], "alpha": 0.5}], lr=0.01)
    with watch(optimizer, every=1, budget=None) as watcher:
        train(optimizer, 1)
        optimizer.param_groups[0]["lr"] = torch.tensor(0.05)
        train(optimizer, 1, start=1)
    assert watcher.samples["0"].lr == pytest.approx(0.05)
    assert watcher.samples["1"].rule["rho"] == 0.5


def test_sparse_complex_and_strided_tensors_are_sampled():
    table = torch.nn.Embedding(2000, 8, sparse=True)
    strided, complex_ = torch.nn.Parameter(randn(100, 90).t()), torch.nn.Parameter(torch.ones(5, dtype=torch.complex64))
    optimizer = RMSprop([table.weight, strided, complex_], lr=1e-3)
    with watch(optimizer, every=1, budget=None) as watcher:
        table(torch.arange(100)).sum().backward()
        strided.grad, complex_.grad = randn(90, 100), torch.ones(5, dtype=torch.complex64)
        optimizer.step()
    assert set(watcher.samples) == {"0", "1", "2"}
    assert watcher.samples["1"].step_over_lr == pytest.approx(10, rel=1e-3)  # 1 / sqrt(1 - 0.99)


def test_mixed_precision_skips_are_not_sampled_and_its_gradients_are_unscaled():
    (param,) = make_params((3,))
    optimizer = RMSprop([param], lr=1e-3)
    with watch(optimizer, every=1, budget=None) as watcher:
        optimizer.found_inf = torch.tensor(1.0)
        train(optimizer, 1)
        assert watcher.samples == {}
        optimizer.found_inf, optimizer.grad_scale = torch.tensor(0.0), torch.tensor(1024.0)
        param.grad = torch.tensor([3.0, 4.0, 0.0]) * 1024
        optimizer.step()
    assert watcher.samples["0"].grad_rms == pytest.approx((25 / 3) ** 0.5)


@both_optimizers
@pytest.mark.parametrize("maximize", [False, True])
def test_weight_decay_is_part_of_the_gradient(make, maximize):
    optimizer = make(make_params((4, 4)), lr=1e-3, alpha=0.0, weight_decay=0.5, maximize=maximize)
    with watch(optimizer, every=1, budget=None) as watcher:
        train(optimizer, 1)
    sample = watcher.samples["0"]
    assert sample.grad_rms == pytest.approx(sample.root_mean_sq, rel=1e-6)  # with alpha 0 that is its square's root


def test_torch_continuing_a_checkpoint_of_this_library_is_measured_by_its_own_statistics_and_rule():
    """Its state keeps the variance of the checkpoint beside the mean square that torch updates, and its group switches
    that torch does not read.
    """
    own = RMSprop(make_params((4, 4)), dialect="keras3", centered=True)
    torchs = TorchRMSprop(make_params((4, 4)), centered=True)
    train(own, 3)
    torchs.load_state_dict(own.state_dict())
    (param,) = torchs.param_groups[0]["params"]
    with watch(torchs, every=1, budget=None) as watcher:
        for step in range(200):
            param.grad = randn(4, 4, seed=step, scale=100.0)
            torchs.step()
    mean_sq = torchs.state[param]["square_avg"]
    assert watcher.samples["0"].root_mean_sq == pytest.approx(float(mean_sq.mean().sqrt()), rel=1e-5)
    assert watcher.samples["0"].full_rule.eps_mode == "outside"


# ---- closures --------------------------------------------------------------------------------------------------------


def make_closure(optimizer, loss):
    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    return closure


@both_optimizers
def test_the_gradient_of_a_closure_is_that_of_its_step_and_tensors_it_leaves_out_are_left_out(make):
    param, unused = make_params((4, 4), (3,))
    optimizer = make([param, unused], lr=1e-3)
    unused.grad = torch.ones(3)  # of an earlier step; the closure removes it
    found = []
    with watch(optimizer, every=1, budget=None) as watcher:
        for size in (1.0, 2.0, 4.0):
            optimizer.step(make_closure(optimizer, lambda size=size: size * param.sum()))
            found.append(watcher.samples["0"].grad_rms)
    assert found == [1.0, 2.0, 4.0]
    assert set(watcher.samples) == {"0"}


def test_a_closure_that_raises_leaves_no_sample():
    (param,) = make_params((4, 4))
    optimizer = TorchRMSprop([param], lr=1e-3)
    with watch(optimizer, every=1000, budget=None) as watcher:
        with pytest.raises(ZeroDivisionError):
            optimizer.step(lambda: 1 / 0)  # the first step, which was to be sampled
        train(optimizer, 1)
    assert watcher.samples == {}


# ---- gathering -------------------------------------------------------------------------------------------------------


@both_optimizers
def test_large_finite_gradients_are_not_called_nan(make):
    grad = torch.full((100,), 1e37)  # whose sum overflows
    assert is_finite(grad)
    assert not is_finite(grad.index_fill(0, torch.tensor([7]), torch.inf))
    (param,) = make_params((100,))
    optimizer = make([param], lr=1e-3)
    with watch(optimizer, every=1, budget=None) as watcher:
        param.grad = grad
        optimizer.step()
    overflows = not optimizer.state[param]["square_avg"].isfinite().all()  # torch's does
    assert watcher.samples["0"].not_finite == ("mean_sq" if overflows else "")


@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize("state_dtype", ["float32", "bfloat16", "8bit"])
@pytest.mark.parametrize("centered", [False, True])
def test_the_gathered_elements_of_a_large_tensor_are_those_of_the_whole(is_transposed, state_dtype, centered):
    param = torch.nn.Parameter(randn(300, 200).t() if is_transposed else randn(300, 200))
    grid = choose_grid(param.shape)
    index = torch.from_numpy(grid.flat())
    optimizer = RMSprop([param], lr=1e-3, centered=centered, state_dtype=state_dtype)
    train(optimizer, 3)
    state, key = optimizer.state[param], "grad_var" if centered else "square_avg"
    found = gather_statistics(state, grid, index)
    assert (
        found["grad_var" if centered else "mean_sq"] == grid.take(read_square(state, key, param).float().numpy())
    ).all()
    assert (gather(param.grad, grid, index) == grid.take(param.grad.numpy())).all()


@pytest.mark.parametrize("count", [0, 2, 800])
@pytest.mark.parametrize("shape", [(50_000, 8), (20, 3), (40, 3, 4), (9_000,)], ids=str)
def test_rows_of_a_sparse_gradient_are_gathered_without_a_dense_copy(shape, count, monkeypatch):
    rows = torch.randint(shape[0], (count,), generator=torch.Generator().manual_seed(0))  # some come twice
    values = torch.randint(-9, 9, (count, *shape[1:])).float()  # whose sums have no rounding
    grad = torch.sparse_coo_tensor(rows[None], values, shape, check_invariants=True)
    dense, grid = grad.to_dense().numpy(), choose_grid(shape)
    to_dense = torch.Tensor.to_dense
    sizes = []
    monkeypatch.setattr(torch.Tensor, "to_dense", lambda x: sizes.append(x.numel()) or to_dense(x))
    index = None if grid.is_whole else torch.from_numpy(grid.flat())
    assert (gather(grad, grid, index) == grid.take(dense)).all()
    assert max(sizes) <= 4096
    assert is_finite(grad)


def test_a_nan_in_a_row_that_a_sparse_gradient_changed_is_found():
    table = torch.nn.Embedding(3000, 8, sparse=True)
    optimizer = RMSprop(table.parameters(), lr=1e-3, lazy=True)
    with watch(optimizer, every=1, budget=None) as watcher:
        for row in (1, 2):
            optimizer.zero_grad()
            table(torch.arange(4)).sum().backward()
            table.weight.data[row, 3] = float("nan") if row == 2 else 0.0
            optimizer.step()
    assert [(finding.kind, finding.step) for finding in watcher.findings] == [("nan", 2)]


@pytest.mark.parametrize("options", [{"state_dtype": "8bit"}, {"centered": True}, {"state_dtype": "bfloat16"}], ids=str)
def test_a_sample_converts_only_the_sampled_elements(options):
    optimizer = RMSprop(make_params((2000, 500)), lr=1e-3, **options)
    train(optimizer, 2)
    sizes = []

    class RecordSizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if torch.is_tensor(out) and not any(torch.is_tensor(x) and x.data_ptr() == out.data_ptr() for x in args):
                sizes.append(out.numel())
            return out

    with watch(optimizer, every=1, budget=None) as watcher, RecordSizes():
        optimizer.step()
    assert watcher.samples
    assert max(sizes) <= 4096


# ---- bad input -------------------------------------------------------------------------------------------------------


def test_another_optimizer_raises_with_its_name():
    with pytest.raises(InputTypeError, match=r"torch\.optim\.adam\.Adam, expected torch\.optim\.RMSprop"):
        watch(torch.optim.Adam(make_params()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every=0, expected an integer"),
        ({"every": 1.5}, "every=1.5"),
        ({"budget": 0}, "budget=0, expected a number above 0"),
        ({"budget": 2.0}, "budget=2.0"),
        ({"names": 7}, "names: a int, expected a module"),
        ({"names": ["ab"]}, "names: 'a' names a str, expected (name, parameter) pairs"),
        ({"to": 123}, "to=123: a int, expected a folder or None"),
    ],
)
def test_a_bad_argument_raises_and_leaves_no_hook(options, message):
    optimizer = TorchRMSprop(make_params())
    with pytest.raises(InputError, match=re.escape(message)):
        watch(optimizer, **options)
    assert not optimizer._optimizer_step_pre_hooks
