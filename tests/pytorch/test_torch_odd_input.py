"""Promise: what looks odd and is right steps as it should: tied, interleaved, empty, huge, without gradient."""

import os

import pytest
import torch

from torch_helpers import (
    RMSprop,
    assert_same_bits,
    draw_grads,
    list_params,
    make_params,
    read_bits,
    train,
)


def test_tied_weights_are_one_parameter():
    """As nn.Module.parameters() gives it: once."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    optimizer = RMSprop(model.parameters())
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    assert optimizer.state[model[0].weight]["step"] == 1


def test_parameters_side_by_side_in_one_memory_are_their_own():
    memory = torch.arange(12.0)
    first, second = (torch.nn.Parameter(memory[i : i + 6]) for i in (0, 6))
    for groups in ([first, second], [{"params": [first]}, {"params": [second]}]):
        train(RMSprop(groups), 1)
    interleaved = [torch.nn.Parameter(memory[i::2]) for i in (0, 1)]
    alone = [torch.nn.Parameter(p.detach().clone()) for p in interleaved]
    for params in (interleaved, alone):
        train(RMSprop([{"params": [p]} for p in params]), 3)
    assert_same_bits(interleaved, alone)


def test_two_parameters_may_have_one_gradient():
    first, second = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    first.grad = second.grad = torch.tensor([1.0, -2.0, 3.0])
    RMSprop([first, second]).step()
    assert_same_bits([first], [second])


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0, 2)])
@pytest.mark.parametrize(
    "options", [{}, {"centered": True, "momentum": 0.9}, {"state_dtype": "8bit"}, {"max_norm": 1.0}]
)
def test_empty_parameters_step(shape, options):
    optimizer = RMSprop(make_params([shape, (3,), shape]), **options)
    alone = RMSprop(make_params([shape, (3,)])[1:], **options)
    draw_grads(list_params(optimizer), 0)
    list_params(alone)[0].grad = list_params(optimizer)[1].grad.clone()
    with torch.no_grad():
        list_params(alone)[0].copy_(list_params(optimizer)[1])
    optimizer.step()
    alone.step()
    assert_same_bits(list_params(optimizer)[1:2], list_params(alone))


def test_no_gradient_at_all_is_no_step():
    optimizer = RMSprop(make_params(), max_norm=1.0)
    before = read_bits(list_params(optimizer))
    optimizer.step()
    assert read_bits(list_params(optimizer)) == before
    assert not optimizer.state


@pytest.mark.skipif(os.environ.get("RMSPROP_LARGE") != "1", reason="needs 13 GB; RMSPROP_LARGE=1 runs it")
def test_more_elements_than_32_bits_count():
    """bfloat16 parameter, gradient and state of 2**31 + 8 elements; both ends step like a small tensor."""
    count = 2**31 + 8
    weight = torch.nn.Parameter(torch.ones(count, dtype=torch.bfloat16))
    weight.grad = torch.zeros(count, dtype=torch.bfloat16)
    small = torch.nn.Parameter(torch.ones(16, dtype=torch.bfloat16))
    small.grad = torch.linspace(-2, 2, 16, dtype=torch.bfloat16)
    weight.grad[:8], weight.grad[-8:] = small.grad[:8], small.grad[8:]
    large, expected = (RMSprop([p], state_dtype="bfloat16", alpha=0.75, lr=0.125) for p in (weight, small))
    large.step()
    expected.step()
    ends = torch.cat([weight.detach()[:8], weight.detach()[-8:]])
    assert bool((ends != 1).all())
    torch.testing.assert_close(
        ends, small.detach(), rtol=2**-8, atol=0
    )  # stochastic state: another place, another draw
    middle = weight.detach()[2**31 - 8 : 2**31]
    assert bool((middle == 1).all())
