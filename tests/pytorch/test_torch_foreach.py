"""Promise: without a kernel a step is at most torch's foreach sequence, in its numbers, and reads nothing back.

`capturable=True` takes CPU tensors along this path. Reading a number of the meta device raises.
"""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch_helpers import (
    OPTIONS,
    RMSprop,
    TorchRMSprop,
    all_options,
    assert_near,
    draw_grads,
    list_params,
    make_params,
    train,
)

from cases import COVERING
from rmsprop.errors import InputError
from rmsprop.torch import engine, foreach, layout, scalars

TWELVE = [(5, 3)] * 12


class Recorder(TorchDispatchMode):
    """Records the names of operations, and the bytes that list operations read and write."""

    def __enter__(self):
        self.names, self.bytes = [], 0
        return super().__enter__()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        result = function(*args, **(kwargs or {}))
        if function.namespace == "aten":
            self.names.append(name)
            written = args[0] if result is None else result
            read = {id(t): t for x in args if isinstance(x, (list, tuple)) for t in x if torch.is_tensor(t)}
            wrote = written if isinstance(written, (list, tuple)) else []
            self.bytes += sum(t.nbytes for t in (*read.values(), *wrote) if t.dim())
        return result


def record(optimizer):
    train(optimizer, 1)
    draw_grads(list_params(optimizer), 1)
    with Recorder() as recorder:
        optimizer.step()
    return recorder


def count_operations(recorder):
    """Without what torch needs to make a tensor of the number 1."""
    return len([name for name in recorder.names if name != "lift_fresh"])


LR = {"number": lambda: 0.01, "tensor": lambda: torch.tensor(0.01)}


@pytest.mark.parametrize("make_lr", LR.values(), ids=LR)
@pytest.mark.parametrize(
    "options", [{}, {"momentum": 0.9}, {"weight_decay": 0.1}, {"momentum": 0.9, "weight_decay": 0.1, "maximize": True}]
)
def test_a_rule_that_torch_has_needs_no_more_operations_and_bytes_than_torchs_foreach(options, make_lr):
    ours = record(RMSprop(make_params(TWELVE), make_lr(), capturable=True, **options))
    theirs = record(TorchRMSprop(make_params(TWELVE), make_lr(), foreach=True, **options))
    assert len([n for n in ours.names if n.startswith("_foreach")]) <= count_operations(theirs)
    if isinstance(make_lr(), float):
        assert count_operations(ours) <= count_operations(theirs)
        assert ours.bytes <= theirs.bytes
    if not options:
        assert theirs.bytes == 52 * 12 * 15


@pytest.mark.parametrize("name", COVERING)
def test_any_other_rule_needs_at_most_twice_torchs_operations(name):
    rule = COVERING[name]
    options = {"momentum": rule.momentum or 0.9} if rule.buffer != "none" else {}
    options |= {"weight_decay": 0.1} if rule.weight_decay_mode != "none" else {}
    theirs = record(TorchRMSprop(make_params(TWELVE), foreach=True, centered=rule.centered, **options))
    optimizer = RMSprop(make_params(TWELVE), 0.01, capturable=True, dialect=rule)
    if not foreach.takes(rule, torch.zeros((), device="meta")):
        pytest.skip("a rule that needs a guard or a count on the device is stepped tensor by tensor")
    names = [n for n in record(optimizer).names if n != "_local_scalar_dense"]
    assert len(names) <= 2 * count_operations(theirs), names


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
@pytest.mark.parametrize("name", COVERING)
def test_lists_have_the_numbers_of_the_formula_and_of_the_kernel(name, dtype, tolerance, monkeypatch):
    runs = []
    for capturable in (True, False, True):
        params = make_params(dtype=dtype)
        runs.append(RMSprop(params, 0.02, capturable=capturable, dialect=COVERING[name]))
        if len(runs) == 3:
            monkeypatch.setattr(foreach, "takes", lambda *_: False)
        train(runs[-1], 20)
    assert_near(runs[0], runs[1], tolerance=tolerance)
    assert_near(runs[0], runs[2], tolerance=tolerance)
    for ours, other in zip(list_params(runs[0]), list_params(runs[1])):
        ours, other = runs[0].state[ours], runs[1].state[other]
        assert ours.keys() == other.keys()
        assert_near(list(ours.values()), list(other.values()), tolerance=tolerance)


@all_options
def test_lists_have_torchs_numbers_in_float64(options):
    ours = RMSprop(make_params(dtype=torch.float64), capturable=True, **options)
    theirs = TorchRMSprop(make_params(dtype=torch.float64), **options)
    train(ours, 100)
    train(theirs, 100)
    assert_near(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.complex64, torch.complex128])
@all_options
def test_other_dtypes_equal_the_kernel(options, dtype):
    ours, kernel = (RMSprop(make_params(dtype=dtype), capturable=flag, **options) for flag in (True, False))
    train(ours, 10)
    train(kernel, 10)
    assert_near(ours, kernel, tolerance=1e-2 if dtype.itemsize == 2 else 1e-5)


def test_several_dtypes_and_counts_step_as_alone():
    dtypes = (torch.float32, torch.float64, torch.float32)
    params = [make_params([(4,)], dtype, seed=i)[0] for i, dtype in enumerate(dtypes)]
    twins = copy.deepcopy(params)
    together = RMSprop(params, capturable=True, dialect="keras3")
    alone = [RMSprop([twin], capturable=True, dialect="keras3") for twin in twins]
    for step in range(4):
        draw_grads(params, step)
        params[2].grad = None if step < 2 else params[2].grad
        for twin, param in zip(twins, params):
            twin.grad = None if param.grad is None else param.grad.clone()
        for optimizer in (together, *alone):
            optimizer.step()
    assert_near(params, twins, tolerance=0.0)


@pytest.mark.parametrize("gradient", [1e25, 3e38])
@all_options
def test_a_huge_finite_gradient_gives_finite_parameters(options, gradient):
    params = make_params()
    optimizer = RMSprop(params, capturable=True, **options)
    for sign in (1, -1, 1):
        for param in params:
            param.grad = torch.full_like(param, sign * gradient)
        optimizer.step()
    assert all(p.isfinite().all() for p in params)


@pytest.mark.parametrize("gradient", [math.inf, -math.inf, math.nan])
@all_options
def test_a_gradient_that_is_not_finite_is_not_hidden(options, gradient):
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.tensor([gradient, 1.0])
    RMSprop([weight], capturable=True, **options).step()
    assert weight.isnan().tolist() == [True, False]


def test_a_gradient_is_never_written():
    for options in OPTIONS.values():
        params = make_params()
        draw_grads(params, 0)
        before = [p.grad.clone() for p in params]
        RMSprop(params, capturable=True, max_norm=0.1, **options).step()
        assert_near([p.grad for p in params], before, tolerance=0.0)


@pytest.mark.parametrize("name", ["plain", "centered", "everything"])
def test_lists_have_the_memory_order_and_the_gaps_of_their_tensors(name):
    flat, strided = (RMSprop(make_params([(4, 6)]), capturable=True, **OPTIONS[name]) for _ in range(2))
    (param,) = list_params(strided)
    param.data = torch.empty(6, 8).t()[::2].copy_(param.data)
    assert not layout.is_dense(param)
    train(flat, 5)
    train(strided, 5)
    assert_near(flat, strided, tolerance=0.0)


# ---- nothing is read from the device ---------------------------------------------------------------------------------


def make_on_meta(**options):
    params = [torch.nn.Parameter(torch.empty(shape, device="meta")) for shape in [(3,), (2, 2)]]
    for param in params:
        param.grad = torch.empty_like(param)
    return RMSprop(params, **options)


@pytest.mark.parametrize("capturable", [False, True])
@all_options
def test_lr_scale_overflow_and_norm_stay_on_the_device(options, capturable):
    number = torch.ones((), device="meta")
    optimizer = make_on_meta(max_norm=1.0, capturable=capturable, **options)
    optimizer.param_groups[0]["lr"] = number  # torch's constructor reads a learning rate, to check it
    for _ in range(2):
        optimizer.step(grad_scale=number, found_inf=torch.zeros(1, device="meta"))
    assert optimizer._grad_norm.device.type == "meta"
    with pytest.raises(RuntimeError):  # only looking at it reads it
        _ = optimizer.grad_norm
    assert {s["step"].device.type for s in optimizer.state.values()} == {"meta"}


@pytest.fixture
def cpu_as_device(monkeypatch):
    """Let CPU tensors pass for those of a device without a kernel."""
    for module in (engine, scalars):
        monkeypatch.setattr(module, "is_on_device", lambda value: isinstance(value, torch.Tensor))


@pytest.mark.usefixtures("cpu_as_device")
@pytest.mark.parametrize("overflow", [False, True])
@all_options
def test_a_scaled_clipped_step_equals_the_kernels_and_an_overflow_changes_nothing(options, overflow):
    ours, kernel = (RMSprop(make_params(), max_norm=0.5, capturable=flag, **options) for flag in (True, False))
    for optimizer in (ours, kernel):
        train(optimizer, 2)
        for param in list_params(optimizer):
            param.grad.mul_(1024.0)
            if overflow:
                param.grad.fill_(math.inf)
    before = copy.deepcopy([ours.state[p] for p in list_params(ours)])
    weights = [p.detach().clone() for p in list_params(ours)]
    scaling = {"grad_scale": torch.tensor(1024.0), "found_inf": torch.tensor([float(overflow)])}
    ours.step(**scaling)
    if overflow:
        assert_near(ours.param_groups[0]["params"], weights, tolerance=0.0)
        for param, state in zip(list_params(ours), before):
            assert_near(list(ours.state[param].values()), list(state.values()), tolerance=0.0)
    else:
        kernel.step(grad_scale=1024.0)
        assert_near(ours, kernel, tolerance=2e-6)
        assert ours.grad_norm == pytest.approx(kernel.grad_norm, rel=1e-6)


def test_a_kernel_on_the_cpu_beside_a_device_is_clipped_and_scaled_by_numbers(monkeypatch):
    """The norm of both is on the device; the meta device has no number to give, so a CPU tensor passes for it."""
    monkeypatch.setattr(scalars, "is_on_device", lambda value: isinstance(value, torch.Tensor) and value.dim() == 0)
    mixed, plain = (make_params([(4,), (3,)]) for _ in range(2))
    groups = [{"params": [mixed[0]]}, {"params": [mixed[1]], "capturable": True}]
    ours, kernel = RMSprop(groups, max_norm=0.5), RMSprop(plain, max_norm=0.5)
    for optimizer in (ours, kernel):
        train(optimizer, 3)
    assert_near(ours, kernel, tolerance=2e-6)
    assert ours.grad_norm == pytest.approx(kernel.grad_norm, rel=1e-6)


# ---- bad input -------------------------------------------------------------------------------------------------------


def test_a_learning_rate_on_another_device_is_named():
    optimizer = make_on_meta(lr=torch.tensor(0.1), capturable=True)
    with pytest.raises(InputError, match=r"param_groups\[0\]\['lr'\]: a tensor on cpu.*\['params'\]\[0\] is on meta"):
        optimizer.step()


def test_parameters_on_two_devices_step_unless_the_learning_rate_is_on_one_of_them():
    def make(lr):
        weight = torch.nn.Parameter(torch.ones(3))
        weight.grad = torch.ones(3)
        meta = torch.nn.Parameter(torch.empty(3, device="meta"))
        meta.grad = torch.empty_like(meta)
        return weight, RMSprop([weight, meta], lr=lr, capturable=True)

    weight, optimizer = make(0.1)
    optimizer.step()
    assert not weight.equal(torch.ones(3))
    weight, optimizer = make(torch.tensor(0.1))
    with pytest.raises(InputError, match=r"on cpu, but \['params'\]\[1\] is on meta: use a number, or a group"):
        optimizer.step()
    assert weight.equal(torch.ones(3))


def test_a_gradient_on_another_device_is_named():
    """`param.data = param.data.cpu()` leaves a gradient behind on a GPU; from the meta device torch prevents it."""
    moved = SimpleNamespace(grad=torch.empty(2, device="meta"), device=torch.device("cpu"))
    with pytest.raises(InputError, match=r"\[1\]\['params'\]\[0\]: a gradient on meta, expected cpu"):
        scalars.check_devices(SimpleNamespace(others=[0], params=[moved]), 1, 0.1)
