"""Promise: a run continues after a copy, a reset, and any change to its model, parameters, state or options."""

import contextlib
import copy
import gc
import pickle
import signal
import subprocess
import sys
import weakref
from collections import defaultdict

import pytest
import torch
from torch_helpers import (
    RMSprop,
    all_options,
    assert_near,
    assert_same_bits,
    draw_grads,
    list_params,
    make_pair,
    make_params,
    train,
)

from rmsprop import Rule, _step

# ---- copies and resets -----------------------------------------------------------------------------------------------


@all_options
@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deep", "pickle"])
def test_a_copy_is_independent_and_continues_with_the_same_bits(make_copy, options):
    optimizer = RMSprop(make_params(), max_norm=3.0, seed=7, dialect="torch", **options)
    train(optimizer, 3)
    other = make_copy(optimizer)
    assert (other.max_norm, other.seed) == (3.0, 7)
    train(optimizer, 3, start=3)
    assert float(next(iter(other.state.values()))["step"]) == 3
    train(other, 3, start=3)
    assert_same_bits(optimizer, other)


RESETS = {
    "new dict": lambda o: setattr(o, "state", defaultdict(dict)),
    "clear": lambda o: o.state.clear(),
    "pop": lambda o: [o.state.pop(p) for p in list_params(o)],
    "popitem": lambda o: [o.state.popitem() for _ in list_params(o)],
    "del": lambda o: [o.state.__delitem__(p) for p in list_params(o)],
    "update": lambda o: o.state.update({p: {} for p in list_params(o)}),
    "|=": lambda o: o.state.__ior__({p: {} for p in list_params(o)}),
    "inner clear": lambda o: [o.state[p].clear() for p in list_params(o)],
    "reset_state": lambda o: o.reset_state(),
}


@pytest.mark.parametrize("reset", RESETS.values(), ids=RESETS)
@all_options
def test_a_reset_optimizer_steps_like_a_new_one(reset, options):
    optimizer = RMSprop(make_params(), **options)
    train(optimizer, 3)
    reset(optimizer)
    new = RMSprop([torch.nn.Parameter(p.detach().clone()) for p in list_params(optimizer)], **options)
    train(optimizer, 2)
    train(new, 2)
    assert_same_bits(optimizer, new)


def test_the_state_is_a_defaultdict_that_can_be_copied():
    optimizer, _ = make_pair()
    train(optimizer, 1)
    assert isinstance(optimizer.state, defaultdict)
    for other in (optimizer.state.copy(), copy.copy(optimizer.state)):
        assert type(other) is type(optimizer.state)
        assert dict(other) == dict(optimizer.state)
        assert other[torch.nn.Parameter(torch.ones(1))] == {}
        assert len(other) == len(optimizer.state) + 1


# ---- the plan that is kept between steps -----------------------------------------------------------------------------


def move_params(optimizer):
    for param in list_params(optimizer):
        param.data = param.data.clone()


def move_state(optimizer):
    for state in optimizer.state.values():
        for value in state.values():
            value.data = value.data.clone()


def replace_state(optimizer):
    for state in optimizer.state.values():
        state.update({key: value.clone() for key, value in state.items()})


def share(optimizer):
    optimizer.share_memory()
    for param in list_params(optimizer):
        param.share_memory_()


def reload(optimizer):
    optimizer.load_state_dict(optimizer.state_dict())


def replace_list(optimizer):
    group = optimizer.param_groups[0]
    group["params"] = list(group["params"])


@pytest.mark.parametrize("move", [move_params, move_state, replace_state, share, reload, replace_list])
@pytest.mark.parametrize("options", [{}, {"centered": True, "momentum": 0.9}, {"state_dtype": "8bit"}], ids=str)
def test_memory_that_moves_between_two_steps_is_found(move, options):
    still, moved = (RMSprop(make_params(), **options) for _ in range(2))
    for step in range(0, 8, 2):
        train(still, 2, start=step)
        train(moved, 1, start=step)
        old = [t for p in list_params(moved) for t in (p.detach(), *map(torch.detach, moved.state[p].values()))]
        move(moved)
        copies = [t.clone() for t in old]
        current = {t.data_ptr() for p in list_params(moved) for t in (p, *moved.state[p].values())}
        train(moved, 1, start=step + 1)
        left = [(t, c) for t, c in zip(old, copies) if t.data_ptr() not in current]
        assert_same_bits([t for t, _ in left], [c for _, c in left])  # nothing is written to the old places
    assert_same_bits(list_params(moved), list_params(still))


def test_a_parameter_in_the_place_of_another_gets_its_own_state():
    old, new = make_params([(3,)])[0], make_params([(3,)], seed=5)[0]
    optimizer = RMSprop([old])
    draw_grads([old, new], 0)
    optimizer.step()
    optimizer.param_groups[0]["params"][0] = new
    before = old.detach().clone()
    optimizer.step()
    assert torch.equal(old, before)
    assert optimizer.state[new]["step"] == optimizer.state[old]["step"] == 1


def test_a_gradient_that_needs_a_copy_keeps_the_plan():
    optimizer, plain = (RMSprop(make_params([(4, 6), (1,)])) for _ in range(2))
    train(optimizer, 1)
    plan = optimizer._engine.plans[0]
    matrix, single = list_params(optimizer)

    def change(_):
        matrix.grad = matrix.grad.t().contiguous().t()
        single.grad = torch._neg_view(-single.grad)

    train(optimizer, 3, start=1, each=change)
    train(plain, 4)
    assert optimizer._engine.plans[0] is plan
    assert_same_bits(optimizer, plain)


def test_parameters_that_take_turns_share_one_plan():
    optimizer = RMSprop(make_params([(3,), (4,)]))
    params = list_params(optimizer)
    train(optimizer, 1)
    plan = optimizer._engine.plans[0]
    train(optimizer, 4, each=lambda step: setattr(params[step % 2], "grad", None))
    assert optimizer._engine.plans[0] is plan
    assert [float(optimizer.state[p]["step"]) for p in params] == [3, 3]


@pytest.mark.skipif(not _step.is_compiled(), reason="the compiled module is not installed")
def test_a_step_calls_the_kernel_through_three_python_functions_at_most(monkeypatch):
    optimizer = RMSprop(make_params())
    train(optimizer, 1)
    core, this, between = _step.core, sys._getframe().f_code, []

    class Spy:
        def step(self, *args):
            frame = sys._getframe(1)
            while frame.f_code is not this:
                between.append(frame.f_code.co_name)
                frame = frame.f_back
            return core.step(*args)

    monkeypatch.setattr(_step, "core", Spy())
    optimizer.step()
    assert 1 <= len(between) <= 3


def test_an_optimizer_that_its_own_parameter_refers_to_is_collected():
    param = make_params([(3,)])[0]
    optimizer = RMSprop([param])
    train(optimizer, 1)
    param.optimizer = optimizer
    reference = weakref.ref(optimizer)
    del optimizer, param
    gc.collect()
    assert reference() is None


@pytest.mark.slow
def test_an_optimizer_for_each_parameter_in_hooks_prints_nothing_at_exit():
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
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (process.returncode, process.stderr) == (0, "")


# ---- changes to the model and the options ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("options", [{}, {"centered": True}, {"state_dtype": "bfloat16"}, {"state_dtype": "8bit"}])
def test_a_model_may_change_its_dtype(dtype, options):
    model = torch.nn.Linear(40, 20)
    optimizer = RMSprop(model.parameters(), momentum=0.9, **options)
    train(optimizer, 2)
    before = optimizer.state_dict()["state"][0]
    model.to(dtype)
    train(optimizer, 1, start=2)
    assert {float(state["step"]) for state in optimizer.state.values()} == {3.0}
    if not options:
        after = optimizer.state[model.weight]["square_avg"]
        assert after.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert bool((after >= 0.98 * before["square_avg"]).all()), "the statistics were lost"


@pytest.mark.parametrize("state_dtype", ["float32", "bfloat16", "8bit"])
def test_a_model_may_change_its_memory_order(state_dtype):
    shapes = [(6, 5, 3, 3)]
    stays, changes = (RMSprop(make_params(shapes), state_dtype=state_dtype, momentum=0.9, seed=1) for _ in range(2))
    train(stays, 2)
    train(changes, 2)
    (param,) = list_params(changes)
    param.data = param.data.to(memory_format=torch.channels_last)
    train(stays, 2, start=2)
    train(changes, 2, start=2)
    if state_dtype == "float32":  # the others round by position in memory
        assert_same_bits(changes, stays)
    else:
        assert_near(changes, stays, tolerance=0.05)
    assert changes.state[param]["momentum_buffer"].stride() == param.stride()


def test_param_data_may_be_replaced_between_steps():
    runs = make_pair(dtype=torch.float64)
    for optimizer in runs:
        train(optimizer, 2)
        for param in list_params(optimizer):
            param.data = param.data * 2 + 1
        train(optimizer, 2, start=2)
    assert_near(*runs)


@pytest.mark.parametrize(("option", "buffer"), [("momentum", "momentum_buffer"), ("centered", "grad_avg")])
def test_an_option_may_be_switched_on_and_off(option, buffer):
    ours, theirs = make_pair(dtype=torch.float64)
    for optimizer in (ours, theirs):
        train(optimizer, 3)
        optimizer.param_groups[0][option] = 0.9 if option == "momentum" else True
        if optimizer is theirs:  # torch raises a KeyError without its buffer
            for state in theirs.state.values():
                state[buffer] = torch.zeros_like(state["square_avg"])
        train(optimizer, 3, start=3)
        optimizer.param_groups[0][option] = 0
        train(optimizer, 3, start=6)
    assert_near(ours, theirs)


def test_a_parameter_without_gradient_is_not_changed_and_can_still_be_differentiated():
    changed, unchanged = make_params([(3,), (3,)])
    optimizer = RMSprop([changed, unchanged])
    train(optimizer, 1)
    optimizer.zero_grad()
    loss = (unchanged**2).sum()
    changed.grad = torch.ones(3)
    optimizer.step()
    loss.backward()
    assert unchanged.grad is not None
    assert optimizer.state[unchanged]["step"] == 1


def test_autograd_raises_for_a_graph_that_needs_a_stepped_parameter():
    weight = torch.nn.Parameter(torch.ones(3))
    loss = (weight**2).sum()
    weight.grad = torch.ones(3)
    RMSprop([weight]).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@all_options
def test_unfreezing_a_parameter_starts_its_state(options):
    runs = make_pair(dtype=torch.float64, **options)
    for optimizer in runs:
        params = list_params(optimizer)
        for step in range(6):
            draw_grads(params, step)
            if step < 3:
                params[2].grad = None
            optimizer.step()
            assert (params[2] in optimizer.state) == (step >= 3)
    assert_near(*runs)


# ---- interrupts ------------------------------------------------------------------------------------------------------


def make_decayed():
    """With a weight decay that depends on the largest learning rate so far, which the group keeps."""
    rule = Rule(rho=0.9, weight_decay=0.1, weight_decay_mode="decoupled_corrected")
    return RMSprop(make_params(), lr=0.1, dialect=rule)


def test_an_interrupt_after_the_kernel_loses_no_count_and_no_largest_rate(monkeypatch):
    interrupted, expected = make_decayed(), make_decayed()
    train(expected, 1)
    step = _step.core.step

    def step_then_interrupt(*args):
        step(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(_step.core, "step", step_then_interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(interrupted, 1)
    monkeypatch.undo()
    assert interrupted.param_groups[0]["lr_max"] == 0.1
    for optimizer in (interrupted, expected):
        optimizer.param_groups[0]["lr"] = 0.01
        train(optimizer, 3, start=1)
    assert_same_bits(interrupted, expected)


def test_a_step_that_raises_keeps_the_largest_rate():
    optimizer = make_decayed()
    train(optimizer, 1)
    optimizer.add_param_group({"params": make_params([(2,)]), "lr": 0.1})
    optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = 5.0, float("nan")
    with pytest.raises(ValueError, match="nan"):
        train(optimizer, 1)
    assert optimizer.param_groups[0]["lr_max"] == 0.1


@pytest.mark.skipif(sys.gettrace() is not None, reason="an interrupt within coverage would leave its lock closed")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")
def test_an_interrupt_never_separates_a_step_from_its_count():
    weight = torch.nn.Parameter(torch.zeros(8))
    weight.grad = torch.ones(8)
    optimizer = RMSprop([weight], lr=1.0, dialect=Rule(rho=1.0, eps=0.0, init="ones"))
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for _ in range(100):
            with contextlib.suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, 0.0005)
                while True:
                    optimizer.step()
            # an interrupt may come before the first step: no count yet
            assert float(optimizer.state[weight].get("step", 0)) == -float(weight.detach()[0])
    finally:
        signal.signal(signal.SIGALRM, before)
