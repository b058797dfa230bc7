"""Promise: a parameter steps to the same numbers in any memory order, subclass, dtype and company."""

import pytest
import torch

from torch_helpers import (
    ROUNDINGS,
    STATES,
    RMSprop,
    all_options,
    assert_near,
    assert_same_bits,
    list_params,
    make_params,
    train,
)

SHAPE = (4, 6, 5, 3)


# ---- memory orders ---------------------------------------------------------------------------------------------------


def laid_out(how):
    """A parameter of SHAPE in one memory order; the numbers are the same in all."""
    values = make_params([SHAPE])[0].detach()
    return torch.nn.Parameter(how(values))


def permuted(*axes):
    back = [axes.index(i) for i in range(len(axes))]
    return lambda x: x.permute(axes).contiguous().permute(back)


ORDERS = {
    "contiguous": lambda x: x.clone(),
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "Fortran": permuted(3, 2, 1, 0),
    "permuted": permuted(2, 0, 3, 1),
    "every other element": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "every other row": lambda x: x.repeat_interleave(2, 0)[::2],
    "reversed axes with gaps": lambda x: permuted(3, 1, 0, 2)(x.repeat_interleave(3, 1))[:, 1::3],
}
GRADS = {
    "the same order": lambda g, p: g,
    "contiguous": lambda g, p: g.contiguous(),
    "channels_last": lambda g, p: g.contiguous(memory_format=torch.channels_last),
    "with gaps": lambda g, p: g.repeat_interleave(2, 1)[:, ::2],
    "negated view": lambda g, p: torch.complex(g, -g).conj().imag,
}


@all_options
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_the_memory_order_of_a_parameter_changes_no_bit(order, options):
    expected = RMSprop([laid_out(ORDERS["contiguous"])], max_norm=2.0, **options)
    ours = RMSprop([laid_out(order)], max_norm=2.0, **options)
    (param,) = list_params(ours)
    pointer, stride = param.data_ptr(), param.stride()
    train(expected, 5)
    train(ours, 5)
    assert_same_bits(ours, expected)
    assert (param.data_ptr(), param.stride()) == (pointer, stride), "the parameter was replaced"


@pytest.mark.parametrize("order", list(ORDERS)[:2])
@pytest.mark.parametrize("change", GRADS.values(), ids=GRADS)
def test_the_memory_order_of_a_gradient_changes_no_bit(change, order):
    def each(optimizer):
        def apply(_):
            (param,) = list_params(optimizer)
            param.grad = change(param.grad, param)

        return apply

    expected, ours = (RMSprop([laid_out(ORDERS[order])], momentum=0.9, max_norm=2.0) for _ in range(2))
    train(expected, 5)
    train(ours, 5, each=each(ours))
    assert_same_bits(ours, expected)


def test_an_expanded_gradient_is_one_of_equal_elements():
    runs = []
    for full in (False, True):
        weight = laid_out(ORDERS["contiguous"])
        optimizer = RMSprop([weight])
        for _ in range(3):
            weight.grad = torch.full((1, 1, 1, 1), 0.3).expand(SHAPE)
            weight.grad = weight.grad.clone() if full else weight.grad
            optimizer.step()
        runs.append(optimizer)
    assert_same_bits(*runs)


def test_a_gradient_of_one_element_may_wait_to_be_negated():
    """The imaginary part of a conjugate is a view that is yet to be negated; of one element, it is contiguous."""
    weight = torch.nn.Parameter(torch.zeros(1))
    z = torch.tensor([1 + 2j])
    weight.grad = z.conj().imag
    assert weight.grad.is_neg()
    RMSprop([weight], lr=0.01).step()
    assert weight.item() > 0


def test_zeros_without_memory_are_zeros():
    weight = torch.nn.Parameter(torch.ones(5))
    weight.grad = torch._efficientzerotensor(5)
    RMSprop([weight]).step()
    assert_same_bits([weight], [torch.ones(5)])


def test_more_axes_than_the_kernel_looks_at_are_one_axis():
    many, few = torch.nn.Parameter(torch.ones(1, 2, 1, 3, 1, 1, 2, 1, 1, 2)), torch.nn.Parameter(torch.ones(24))
    ours, expected = RMSprop([many], momentum=0.9), RMSprop([few], momentum=0.9)
    for _ in range(3):
        many.grad, few.grad = torch.arange(24.0).view(many.shape), torch.arange(24.0)
        ours.step()
        expected.step()
    assert_same_bits([many.view(24)], [few])
    assert ours.state[many]["square_avg"].shape == many.shape


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("state_dtype", STATES)
def test_memory_with_gaps_takes_every_rounding_and_state(state_dtype, rounding):
    runs = []
    for order in ("contiguous", "every other element"):
        weight = torch.nn.Parameter(laid_out(ORDERS[order]).detach().bfloat16())
        if order != "contiguous":
            weight = torch.nn.Parameter(weight.detach().repeat_interleave(2, -1)[..., ::2])
            assert not weight.is_contiguous()
        runs.append(RMSprop([weight], momentum=0.9, state_dtype=state_dtype, param_rounding=rounding, seed=3))
        train(runs[-1], 4)
    assert_same_bits(*runs)


# ---- other tensors ---------------------------------------------------------------------------------------------------


class Marked(torch.Tensor):
    """A tensor subclass without any behaviour of its own."""


@all_options
def test_a_tensor_subclass_steps_with_the_same_numbers(options):
    plain = RMSprop(make_params([(5, 3)]), **options)
    marked = make_params([(5, 3)])[0].detach().as_subclass(Marked).requires_grad_()
    ours = RMSprop([marked], **options)
    train(plain, 5)
    train(ours, 5)
    assert type(marked) is Marked
    assert_near([marked.as_subclass(torch.Tensor)], list_params(plain), tolerance=1e-6)  # torch's root is not IEEE's


def test_a_subclass_gradient_of_a_plain_parameter_steps_with_the_same_numbers():
    plain, marked = (RMSprop(make_params([(5, 3), (2,)]), max_norm=1.0) for _ in range(2))
    train(plain, 4)
    train(
        marked,
        4,
        each=lambda _: setattr(list_params(marked)[0], "grad", list_params(marked)[0].grad.as_subclass(Marked)),
    )
    assert_near(marked, plain, tolerance=1e-6)  # torch's norm of the one, the kernel's of the other
    assert len(marked.state) == 2


@all_options
def test_meta_tensors_step_without_numbers(options):
    weight = torch.nn.Parameter(torch.empty(4, 3, device="meta"))
    optimizer = RMSprop([weight], **options)
    weight.grad = torch.empty_like(weight)
    optimizer.step()
    state = optimizer.state[weight]
    assert state["step"] == 1
    assert all(value.device.type == "meta" for key, value in state.items() if key != "step")


def test_one_group_may_hold_tensors_of_several_devices():
    """As torch's optimizer allows; each takes its own path."""
    alone = RMSprop(make_params([(3,), (4,)]), momentum=0.9)
    mixed = RMSprop([*make_params([(3,), (4,)]), torch.nn.Parameter(torch.empty(2, device="meta"))], momentum=0.9)
    train(alone, 3)
    train(mixed, 3)
    assert_same_bits(list_params(mixed)[:2], list_params(alone))
    assert mixed.state[list_params(mixed)[2]]["step"] == 3


@pytest.mark.parametrize("state_dtype", STATES)
def test_a_group_may_mix_dtypes_with_every_state_dtype(state_dtype):
    def mixed():
        return [
            *make_params([(300,)], torch.float64),
            *make_params([(300,)]),
            *make_params([(300,)], torch.bfloat16),
            *make_params([(30,)], torch.complex64),
        ]

    together = RMSprop(mixed(), state_dtype=state_dtype, momentum=0.9, seed=2)
    train(together, 3)
    state = together.state[list_params(together)[0]]
    assert {value.dtype for key, value in state.items() if key != "step"} == {torch.float64}
    exact = RMSprop(mixed(), momentum=0.9)
    train(exact, 3)
    assert_same_bits(list_params(together)[:1], list_params(exact)[:1])
    assert_same_bits(list_params(together)[3:], list_params(exact)[3:])


def test_a_gradient_of_another_dtype_keeps_its_precision():
    """torch lets a bfloat16 parameter have a float32 gradient; the statistics see all of it."""
    weight = torch.nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
    weight.grad_dtype = torch.float32
    weight.grad = torch.tensor([1.001, 1.002, 1.003])
    optimizer = RMSprop([weight], alpha=0.0)
    optimizer.step()
    expected = torch.tensor([1.001, 1.002, 1.003]) ** 2
    torch.testing.assert_close(optimizer.state[weight]["square_avg"], expected, rtol=2e-7, atol=0)
