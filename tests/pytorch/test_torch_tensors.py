"""Promise: a parameter steps to the same numbers with any memory order, subclass, dtype, shape and gradient."""

import os

import pytest
import torch
from torch_helpers import (
    ROUNDINGS,
    STATES,
    RMSprop,
    all_options,
    assert_near,
    assert_same_bits,
    draw_grads,
    list_params,
    make_params,
    read_bits,
    train,
)

SHAPE = (4, 6, 5, 3)


# ---- memory orders ---------------------------------------------------------------------------------------------------


def make_param(change):
    """Make a parameter of SHAPE with the memory order that `change` gives it; the numbers are the same in all."""
    return torch.nn.Parameter(change(make_params([SHAPE])[0].detach()))


def permute(*axes):
    back = [axes.index(i) for i in range(len(axes))]
    return lambda x: x.permute(axes).contiguous().permute(back)


ORDERS = {
    "contiguous": lambda x: x.clone(),
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "Fortran": permute(3, 2, 1, 0),
    "permuted": permute(2, 0, 3, 1),
    "every other element": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "every other row": lambda x: x.repeat_interleave(2, 0)[::2],
    "reversed axes with gaps": lambda x: permute(3, 1, 0, 2)(x.repeat_interleave(3, 1))[:, 1::3],
}
GRADS = {
    "the same order": lambda g: g,
    "contiguous": lambda g: g.contiguous(),
    "channels_last": lambda g: g.contiguous(memory_format=torch.channels_last),
    "with gaps": lambda g: g.repeat_interleave(2, 1)[:, ::2],
    "negated view": lambda g: torch.complex(g, -g).conj().imag,
}


@all_options
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_the_memory_order_of_a_parameter_changes_no_bit(order, options):
    expected = RMSprop([make_param(ORDERS["contiguous"])], max_norm=2.0, **options)
    ours = RMSprop([make_param(order)], max_norm=2.0, **options)
    (param,) = list_params(ours)
    pointer, stride = param.data_ptr(), param.stride()
    train(expected, 5)
    train(ours, 5)
    assert_same_bits(ours, expected)
    assert (param.data_ptr(), param.stride()) == (pointer, stride), "the parameter was replaced"


@pytest.mark.parametrize("order", list(ORDERS)[:2])
@pytest.mark.parametrize("change", GRADS.values(), ids=GRADS)
def test_the_memory_order_of_a_gradient_changes_no_bit(change, order):
    expected, ours = (RMSprop([make_param(ORDERS[order])], momentum=0.9, max_norm=2.0) for _ in range(2))
    (param,) = list_params(ours)
    train(expected, 5)
    train(ours, 5, each=lambda _: setattr(param, "grad", change(param.grad)))
    assert_same_bits(ours, expected)


def test_an_expanded_gradient_steps_like_its_full_equal():
    runs = [RMSprop([make_param(ORDERS["contiguous"])]) for _ in range(2)]
    grad = torch.full((1, 1, 1, 1), 0.3).expand(SHAPE)
    for optimizer, value in zip(runs, (grad, grad.clone())):
        list_params(optimizer)[0].grad = value
        optimizer.step()
        optimizer.step()
    assert_same_bits(*runs)


def test_a_gradient_of_one_element_may_wait_to_be_negated():
    """The imaginary part of a conjugate is a view that is yet to be negated; with one element it is contiguous."""
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.tensor([1 + 2j]).conj().imag
    assert weight.grad.is_neg()
    RMSprop([weight], lr=0.01).step()
    assert weight.item() > 0


def test_zeros_without_memory_are_zeros():
    weight = torch.nn.Parameter(torch.ones(5))
    weight.grad = torch._efficientzerotensor(5)
    RMSprop([weight]).step()
    assert_same_bits([weight], [torch.ones(5)])


@pytest.mark.parametrize("gaps", [False, True])
def test_more_axes_than_the_kernel_accepts_change_no_bit(gaps):
    many, few = torch.nn.Parameter(torch.ones(1, 2, 1, 3, 1, 1, 2, 1, 1, 2)), torch.nn.Parameter(torch.ones(24))
    if gaps:
        many = torch.nn.Parameter(many.detach().repeat_interleave(2, -1)[..., ::2])
    ours, expected = RMSprop([many], momentum=0.9), RMSprop([few], momentum=0.9)
    for _ in range(3):
        many.grad, few.grad = torch.arange(24.0).view(many.shape), torch.arange(24.0)
        ours.step()
        expected.step()
    assert_near([many.reshape(24)], [few], tolerance=1e-6 if gaps else 0)  # torch's root is not IEEE's
    assert ours.state[many]["square_avg"].shape == many.shape


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("state_dtype", STATES)
def test_memory_with_gaps_works_with_every_rounding_and_state(state_dtype, rounding):
    runs = []
    for order in ("contiguous", "every other element"):
        weight = make_param(lambda x, order=order: ORDERS[order](x.bfloat16()))
        assert weight.is_contiguous() == (order == "contiguous")
        runs.append(RMSprop([weight], momentum=0.9, state_dtype=state_dtype, param_rounding=rounding, seed=3))
        train(runs[-1], 4)
    assert_same_bits(*runs)


# ---- other tensors ---------------------------------------------------------------------------------------------------


class Marked(torch.Tensor):
    """A tensor subclass without any behavior of its own."""


@all_options
def test_a_tensor_subclass_steps_with_the_same_numbers(options):
    plain = RMSprop(make_params([(5, 3)]), **options)
    marked = make_params([(5, 3)])[0].detach().as_subclass(Marked).requires_grad_()
    train(plain, 5)
    train(RMSprop([marked], **options), 5)
    assert type(marked) is Marked
    assert_near([marked.as_subclass(torch.Tensor)], list_params(plain), tolerance=1e-6)  # torch's root is not IEEE's


def test_a_subclass_gradient_of_a_plain_parameter_steps_with_the_same_numbers():
    plain, marked = (RMSprop(make_params([(5, 3), (2,)]), max_norm=1.0) for _ in range(2))
    param = list_params(marked)[0]
    train(plain, 4)
    train(marked, 4, each=lambda _: setattr(param, "grad", param.grad.as_subclass(Marked)))
    assert_near(marked, plain, tolerance=1e-6)  # the norm is torch's here and the kernel's there
    assert len(marked.state) == 2


@pytest.mark.parametrize("state_dtype", STATES)
def test_wide_parameters_in_a_group_with_narrow_state_keep_their_precision(state_dtype):
    dtypes = (torch.float64, torch.float32, torch.bfloat16, torch.complex64)
    exact, mixed = (
        RMSprop([make_params([(300,)], dtype)[0] for dtype in dtypes], momentum=0.9, seed=2, state_dtype=state)
        for state in ("float32", state_dtype)
    )
    train(exact, 3)
    train(mixed, 3)
    for place in (0, 3):
        param, other = list_params(mixed)[place], list_params(exact)[place]
        assert_same_bits([param, *mixed.state[param].values()], [other, *exact.state[other].values()])


def test_a_gradient_of_another_dtype_keeps_its_precision():
    """torch lets a bfloat16 parameter have a float32 gradient; the statistics use all of its bits."""
    weight = torch.nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
    weight.grad_dtype = torch.float32
    weight.grad = torch.tensor([1.001, 1.002, 1.003])
    optimizer = RMSprop([weight], alpha=0.0)
    optimizer.step()
    torch.testing.assert_close(optimizer.state[weight]["square_avg"], weight.grad**2, rtol=2e-7, atol=0)


@pytest.mark.parametrize("lazy", [False, True])
def test_a_gradient_of_another_dtype_is_cast_where_only_the_kernel_has_the_option(lazy):
    runs = []
    for dtype in (torch.float32, torch.bfloat16):
        weight = torch.nn.Parameter(torch.ones(6, 2, dtype=torch.bfloat16))
        weight.grad_dtype = None
        weight.grad = torch.linspace(-1, 1, 12).view(6, 2).bfloat16().to(dtype)
        weight.grad = weight.grad.to_sparse(1) if lazy else weight.grad
        runs.append(RMSprop([weight], param_rounding="stochastic", lazy=lazy, lr=0.1))
        runs[-1].step()
        assert not torch.equal(weight, torch.ones_like(weight))
    assert_same_bits(*runs)


# ---- unusual but valid -----------------------------------------------------------------------------------------------


def test_tied_weights_step_once():
    """nn.Module.parameters() lists them once."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    optimizer = RMSprop(model.parameters())
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    assert optimizer.state[model[0].weight]["step"] == 1


def test_parameters_may_be_neighbors_or_interleaved_in_one_memory():
    memory = torch.arange(12.0)
    for params in ([memory[:6], memory[6:]], [memory[::2], memory[1::2]]):
        shared = [torch.nn.Parameter(p) for p in params]
        alone = [torch.nn.Parameter(p.detach().clone()) for p in params]
        for each in (shared, alone):
            train(RMSprop([{"params": [p]} for p in each]), 3)
        assert_same_bits(shared, alone)


def test_two_parameters_may_have_one_gradient():
    first, second = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    first.grad = second.grad = torch.tensor([1.0, -2.0, 3.0])
    RMSprop([first, second]).step()
    assert_same_bits([first], [second])


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0, 2)])
@pytest.mark.parametrize("options", [{}, {"centered": True, "momentum": 0.9}, {"state_dtype": "8bit"}, {"max_norm": 1}])
def test_empty_parameters_step(shape, options):
    optimizer, alone = RMSprop(make_params([shape, (3,), shape]), **options), RMSprop(make_params([(3,)]), **options)
    draw_grads(list_params(optimizer), 0)
    middle, single = list_params(optimizer)[1], list_params(alone)[0]
    single.grad = middle.grad.clone()
    with torch.no_grad():
        single.copy_(middle)
    optimizer.step()
    alone.step()
    assert_same_bits([middle], [single])


def test_no_gradient_at_all_is_no_step():
    optimizer = RMSprop(make_params(), max_norm=1.0)
    before = read_bits(list_params(optimizer))
    optimizer.step()
    assert read_bits(list_params(optimizer)) == before
    assert not optimizer.state


@pytest.mark.skipif(os.environ.get("RMSPROP_LARGE") != "1", reason="needs 13 GB; RMSPROP_LARGE=1 runs it")
def test_more_elements_than_32_bits_can_count():
    """bfloat16 parameter, gradient and state of 2**31 + 8 elements; both ends step like a small tensor."""
    count = 2**31 + 8
    weight = torch.nn.Parameter(torch.ones(count, dtype=torch.bfloat16))
    weight.grad = torch.zeros(count, dtype=torch.bfloat16)
    small = torch.nn.Parameter(torch.ones(16, dtype=torch.bfloat16))
    small.grad = torch.linspace(-2, 2, 16, dtype=torch.bfloat16)
    weight.grad[:8], weight.grad[-8:] = small.grad[:8], small.grad[8:]
    for param in (weight, small):
        RMSprop([param], state_dtype="bfloat16", alpha=0.75, lr=0.125).step()
    ends = torch.cat([weight.detach()[:8], weight.detach()[-8:]])
    assert bool((ends != 1).all())
    torch.testing.assert_close(ends, small.detach(), rtol=2**-8, atol=0)  # the state's random numbers differ
    assert bool((weight.detach()[2**31 - 8 : 2**31] == 1).all())
