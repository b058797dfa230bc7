"""Promise: a step is what PyTorch expects of an optimizer's, for every input of RMSprop's row of its table."""

import copy
import gc
import tracemalloc

import pytest

from torching import Host, assert_near, assert_same_bits, bits, parameters, params_of, train

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest", reason="torch.testing._internal.common_optimizers imports it")
from torch.optim import lr_scheduler  # noqa: E402
from torchtable import INPUTS, ROW, every_input, made  # noqa: E402

SCHEDULED = [None, *ROW.table.scheduler_inputs]


def test_the_row_promises_what_this_class_keeps():
    table = ROW.table
    assert set(table.supported_impls) == {"foreach", "differentiable"}
    assert table.has_capturable_arg
    assert table.supports_complex
    assert table.supports_param_groups
    assert table.supports_multiple_devices
    assert not table.step_requires_closure
    assert len(INPUTS) == len(table.optim_inputs_func("cpu")) >= 8


# ---- direction -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("contiguous", [True, False], ids=["contiguous", "strided"])
@pytest.mark.parametrize(
    "schedulers", SCHEDULED, ids=["no scheduler", *("schedulers" for _ in ROW.table.scheduler_inputs)]
)
@every_input
def test_a_loop_goes_the_right_way(options, schedulers, contiguous):
    generator = torch.Generator().manual_seed(2)
    weight, bias, data = (torch.randn(s, generator=generator) for s in ((10, 5), (10,), (5,)))
    if not contiguous:
        weight = weight.repeat_interleave(2, 1)[:, ::2]
        bias = bias.repeat_interleave(2)[::2]
    weight, bias = torch.nn.Parameter(weight), torch.nn.Parameter(bias)
    optimizer = made(options, [weight, bias])
    driven = [make(optimizer) for make in schedulers or ()]

    def closure():
        optimizer.zero_grad()
        loss = (weight.mv(data) + bias).pow(2).sum()
        loss.backward()
        return loss

    first = float(closure().detach())
    for _ in range(20):
        loss = float(optimizer.step(closure).detach())
        for scheduler in driven:
            plateau = isinstance(scheduler, lr_scheduler.ReduceLROnPlateau)
            scheduler.step(loss) if plateau else scheduler.step()
    last = float(closure().detach())
    assert last > first if options.get("maximize") else last < first


@every_input
def test_a_group_without_lr_takes_the_default_and_one_with_its_own_keeps_it(options):
    weight, bias = parameters([(10, 5), (10,)])
    data = torch.ones(5)
    groups = [{"params": [weight]}, {"params": [bias], "lr": 0.01}]
    optimizer = made({**options, "lr": 1e-3}, groups)
    assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 0.01]

    def loss():
        return (weight.mv(data) + bias).pow(2).sum()

    start, distance = float(loss().detach()), bias.detach().clone()
    for _ in range(20):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert float(loss().detach()) > start if options.get("maximize") else float(loss().detach()) < start
    assert float((bias.detach() - distance).abs().max()) > 0


def test_weight_decay_of_a_group_shrinks_only_that_group():
    weight, bias = parameters([(10, 5), (10,)])
    groups = [{"params": [weight]}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = made({"weight_decay": 0.1}, groups)
    before, untouched = weight.detach().norm(), bits([bias])
    weight.grad, bias.grad = torch.zeros_like(weight), torch.zeros_like(bias)
    for _ in range(5):
        optimizer.step()
    assert weight.detach().norm() < before
    assert bits([bias]) == untouched


# ---- no-ops ----------------------------------------------------------------------------------------------------------


@every_input
def test_without_gradients_nothing_happens(options):
    optimizer = made(options)
    before = bits(params_of(optimizer))
    for _ in range(3):
        optimizer.step()
        optimizer.zero_grad()
    assert bits(params_of(optimizer)) == before
    assert not optimizer.state


@every_input
def test_zero_gradients_move_nothing_but_what_decays(options):
    optimizer = made(options)
    before = copy.deepcopy(params_of(optimizer))
    for param in params_of(optimizer):
        param.grad = torch.zeros_like(param)
    optimizer.step()
    same = bits(params_of(optimizer)) == bits(before)
    assert same == (not options.get("weight_decay"))
    assert {float(state["step"]) for state in optimizer.state.values()} == {1.0}


@every_input
def test_gradients_are_never_written(options):
    optimizer = made(options, max_norm=0.1)
    train(optimizer, 1)
    grads = [p.grad for p in params_of(optimizer)]
    before, versions = bits(grads), [g._version for g in grads]
    optimizer.step()
    assert bits(grads) == before
    assert [g._version for g in grads] == versions


# ---- dtypes and devices ----------------------------------------------------------------------------------------------


@every_input
def test_mixed_dtypes_in_one_group_step_as_alone(options):
    dtypes = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.complex64, torch.complex128)
    options = {**options, "lr": 1e-2}
    together = made(options, [parameters([(4, 3)], dtype)[0] for dtype in dtypes])
    data = torch.randn(4, 3, generator=torch.Generator().manual_seed(3), dtype=torch.complex128)

    def step(optimizer):
        for k in range(5):
            for param in params_of(optimizer):
                value = data * (k + 1)
                param.grad = (value if param.is_complex() else value.real).to(param.dtype)
            optimizer.step()

    step(together)
    for dtype, param in zip(dtypes, params_of(together)):
        alone = made(options, parameters([(4, 3)], dtype))
        step(alone)
        assert bits([param]) == bits(params_of(alone)), dtype


@every_input
def test_several_devices_in_one_group(options):
    """The CPU and the device without memory stand for any two."""
    weight, other = parameters([(3,)])[0], torch.nn.Parameter(torch.empty(3, device="meta"))
    optimizer = made(options, [weight, other])
    train(optimizer, 3)
    alone = made(options, parameters([(3,)]))
    train(alone, 3)
    assert bits([weight]) == bits(params_of(alone))
    square = "grad_var" if options.get("centered") else "square_avg"
    assert optimizer.state[other][square].device.type == "meta"


@every_input
def test_a_complex_parameter_is_its_two_parts(options):
    z = torch.nn.Parameter(torch.randn(3, 2, dtype=torch.complex128, generator=torch.Generator().manual_seed(1)))
    parts = torch.nn.Parameter(torch.view_as_real(z.detach()).clone())
    whole, split = made(options, [z]), made(options, [parts])
    for step in range(5):
        grad = torch.randn(3, 2, dtype=torch.complex128, generator=torch.Generator().manual_seed(step + 10))
        z.grad, parts.grad = grad, torch.view_as_real(grad).clone()
        whole.step()
        split.step()
    assert bits([torch.view_as_real(z)]) == bits([parts])


@every_input
def test_a_complex_loss_in_two_dimensions_falls_like_a_real_one(options):
    def rosenbrock(x, y):
        return (1 - x) ** 2 + 100 * (y - x**2) ** 2

    a = torch.nn.Parameter(torch.tensor([0.5 + 0.3j, -0.2 + 0.1j], dtype=torch.complex128))
    parts = torch.nn.Parameter(torch.view_as_real(a.detach()).clone())
    optimizers = made(options, [a]), made(options, [parts])
    for _ in range(4):
        for optimizer in optimizers:
            optimizer.zero_grad()
        rosenbrock(a.real, a.imag).sum().backward()
        rosenbrock(parts[:, 0], parts[:, 1]).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
        assert_near([torch.view_as_real(a)], [parts])


@every_input
def test_foreach_and_a_loop_over_parameters_are_the_same(options):
    runs = [made({**options, "foreach": flag}) for flag in (None, True, False)]
    for optimizer in runs:
        train(optimizer, 5)
        optimizer.zero_grad(set_to_none=False)
        assert not any(p.grad.any() for p in params_of(optimizer))
    assert_same_bits(runs[0], runs[1])
    assert_same_bits(runs[0], runs[2])


def test_a_differentiable_step_needs_no_leaf():
    start = torch.ones(3, dtype=torch.float64, requires_grad=True)
    weight = start.clone()
    weight.grad = torch.ones(3, dtype=torch.float64)
    made({}, [weight], differentiable=True).step()
    weight.sum().backward()
    assert_near([start.grad], [torch.ones(3, dtype=torch.float64)])


# ---- memory ----------------------------------------------------------------------------------------------------------


class Allocations(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts the bytes of all tensors that torch's own operations make."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if torch.is_tensor(tensor):
                self.bytes += tensor.nbytes
        return result


@every_input
def test_a_step_allocates_nothing_that_grows_with_the_model(options):
    peaks = []
    for width in (10, 400):
        optimizer = made(options, parameters([(width, 100)] * 3), max_norm=1.0)
        train(optimizer, 2)
        gc.collect()
        with Allocations() as made_by_torch:
            tracemalloc.start()
            optimizer.step()
            peaks.append((made_by_torch.bytes, tracemalloc.get_traced_memory()[1] // 1024))
            tracemalloc.stop()
    assert peaks[0][0] == peaks[1][0] == 0
    assert peaks[1][1] <= peaks[0][1] + 4, "KiB of Python's own memory"


def test_the_memory_test_can_see_memory():
    theirs = Host(parameters([(100, 100)]), foreach=True)
    train(theirs, 1)
    with Allocations() as seen:
        theirs.step()
    assert seen.bytes >= 4 * 100 * 100
