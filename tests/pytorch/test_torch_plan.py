"""Promise: a plan outlives no change of what it was made from, and an unusual gradient does not end it."""

import gc
import subprocess
import sys
import weakref

import pytest

from rmsprop import _step
from torching import RMSprop, assert_same_bits, draw_grads, parameters, params_of

torch = pytest.importorskip("torch")
core = pytest.importorskip("rmsprop._core", reason="the compiled module is not installed")

SHAPES = [(2, 3), (5,), (1,), (4, 4)]


def replace_memory(optimizer):
    for param in params_of(optimizer):
        param.data = param.data.clone()


def replace_state_memory(optimizer):
    for state in optimizer.state.values():
        for value in state.values():
            value.data = value.data.clone()


def replace_state(optimizer):
    for state in optimizer.state.values():
        for key, value in state.items():
            state[key] = value.clone()


def share(optimizer):
    for param in params_of(optimizer):
        param.share_memory_()
        for value in optimizer.state[param].values():
            value.share_memory_()


def reload(optimizer):
    optimizer.load_state_dict(optimizer.state_dict())


def replace_list(optimizer):
    group = optimizer.param_groups[0]
    group["params"] = list(group["params"])


MOVES = [replace_memory, replace_state_memory, replace_state, share, reload, replace_list]


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("options", [{}, {"centered": True, "momentum": 0.9}, {"state_dtype": "8bit"}], ids=str)
def test_memory_that_moves_between_two_steps_is_found(move, options):
    still, moved = (RMSprop(parameters(SHAPES), **options) for _ in range(2))
    for step in range(4):
        for optimizer in (still, moved):
            draw_grads(params_of(optimizer), step)
            optimizer.step()
        old = [t for p in params_of(moved) for t in (p.detach(), *map(torch.detach, moved.state[p].values()))]
        move(moved)
        kept = [t.clone() for t in old]
        now = {t.data_ptr() for p in params_of(moved) for t in (p, *moved.state[p].values())}
        draw_grads(params_of(moved), step + 10)
        draw_grads(params_of(still), step + 10)
        moved.step()
        still.step()
        # Nothing is written where the tensors have been.
        assert_same_bits(
            [t for t in old if t.data_ptr() not in now], [k for k, t in zip(kept, old) if t.data_ptr() not in now]
        )
    assert_same_bits(params_of(moved), params_of(still))


@pytest.mark.parametrize("change", ["double", "half", "transposed"])
def test_parameters_of_another_dtype_or_memory_order_take_their_state_along(change):
    param = parameters([(4, 6)])[0]
    optimizer = RMSprop([param], centered=True)
    draw_grads([param], 0)
    optimizer.step()
    if change == "transposed":
        param.data = param.data.t().contiguous().t()
    else:
        param.data = getattr(param.data, change)()
    before = param.detach().clone()
    param.grad = torch.ones_like(param)
    optimizer.step()
    assert (param != before).all()
    assert optimizer.state[param]["grad_var"].stride() == param.stride()
    assert optimizer.state[param]["step"] == 2


def test_a_parameter_put_in_anothers_place_gets_a_state_of_its_own():
    old, new = parameters([(3,)])[0], parameters([(3,)], seed=5)[0]
    optimizer = RMSprop([old])
    draw_grads([old, new], 0)
    optimizer.step()
    optimizer.param_groups[0]["params"][0] = new
    kept = old.detach().clone()
    optimizer.step()
    assert torch.equal(old, kept)
    assert optimizer.state[new]["step"] == 1
    assert optimizer.state[old]["step"] == 1


def test_a_gradient_that_needs_a_copy_makes_no_plan_anew():
    params = parameters([(4, 6), (1,)])
    optimizer, plain = RMSprop(params), RMSprop(parameters([(4, 6), (1,)]))
    draw_grads(params, 0)
    optimizer.step()
    draw_grads(params_of(plain), 0)
    plain.step()
    plan = optimizer._engine.plans[0]
    for step in range(3):
        draw_grads(params, step)
        draw_grads(params_of(plain), step)
        params[0].grad = params[0].grad.t().contiguous().t()
        params[1].grad = torch._neg_view(-params[1].grad)
        optimizer.step()
        plain.step()
        assert optimizer._engine.plans[0] is plan
    assert_same_bits(params, params_of(plain))


def test_parameters_that_take_turns_share_one_plan():
    params = parameters([(3,), (4,)])
    optimizer = RMSprop(params)
    draw_grads(params, 0)
    optimizer.step()
    plan = optimizer._engine.plans[0]
    for turn in (0, 1, 0, 1):
        draw_grads(params, turn)
        params[turn].grad = None
        optimizer.step()
    assert optimizer._engine.plans[0] is plan
    assert [float(optimizer.state[p]["step"]) for p in params] == [3, 3]


def test_a_first_gradient_in_the_second_group_is_refused_before_the_first_has_stepped():
    first, second = parameters([(3,), (3,)])
    late = torch.nn.Parameter(first.data)
    optimizer = RMSprop([{"params": [first]}, {"params": [second, late]}])
    draw_grads([first, second], 0)
    optimizer.step()
    draw_grads([first, second, late], 1)
    before = first.detach().clone()
    with pytest.raises(ValueError, match=r"param_groups\[1\]\['params'\]\[1\]: shares memory"):
        optimizer.step()
    assert torch.equal(first, before)
    assert optimizer.state[first]["step"] == 1


def test_a_step_reaches_the_border_through_three_python_functions_at_most(monkeypatch):
    params = parameters(SHAPES)
    optimizer = RMSprop(params)
    draw_grads(params, 0)
    optimizer.step()
    between = []

    class Spy:
        def step(self, *args):
            frame = sys._getframe(1)
            while frame.f_code is not this:
                between.append(frame.f_code.co_name)
                frame = frame.f_back
            return core.step(*args)

    this = sys._getframe().f_code
    monkeypatch.setattr(_step, "core", Spy())
    optimizer.step()
    assert between
    assert len(between) <= 3


def test_an_optimizer_that_its_own_parameter_refers_to_is_collected():
    param = parameters([(3,)])[0]
    optimizer = RMSprop([param])
    draw_grads([param], 0)
    optimizer.step()
    param.optimizer = optimizer
    seen = weakref.ref(optimizer)
    del optimizer, param
    gc.collect()
    assert seen() is None


def test_an_optimizer_for_each_parameter_in_hooks_leaves_no_words_at_exit():
    program = """
import torch
from rmsprop.torch import RMSprop
model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 1))
optimizers = {p: RMSprop([p], lr=0.01) for p in model.parameters()}
def hook(param):
    optimizers[param].step()
    optimizers[param].zero_grad()
for param in model.parameters():
    param.register_post_accumulate_grad_hook(hook)
model(torch.ones(2, 3)).sum().backward()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
