"""Promise: a run goes on after a copy, a reset, and any change from outside to its model, parameters or options."""

import copy
import pickle
from collections import defaultdict

import pytest

from torching import OPTIONS, SHAPES, RMSprop, assert_near, assert_same_bits, draw_grads, pair, parameters, train

torch = pytest.importorskip("torch")


# ---- copies and resets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("how", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"])
def test_a_copy_goes_on_with_the_same_bits(how, options):
    optimizer = RMSprop(parameters(), max_norm=3.0, seed=7, dialect="torch", **options)
    train(optimizer, 3)
    other = how(optimizer)
    assert (other.max_norm, other.seed) == (3.0, 7)
    train(optimizer, 3, start=3)
    assert float(next(iter(other.state.values()))["step"]) == 3
    train(other, 3, start=3)
    assert_same_bits(optimizer, other)


@pytest.mark.parametrize(
    "reset",
    [
        lambda o: setattr(o, "state", defaultdict(dict)),
        lambda o: o.state.clear(),
        lambda o: [o.state.pop(p) for p in o.param_groups[0]["params"]],
        lambda o: [o.state[p].clear() for p in o.param_groups[0]["params"]],
        lambda o: o.reset_state(),
    ],
    ids=["new dict", "clear", "pop", "inner clear", "reset_state"],
)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_reset_optimizer_starts_afresh(reset, options):
    optimizer = RMSprop(parameters(), **options)
    train(optimizer, 3)
    reset(optimizer)
    fresh = RMSprop([torch.nn.Parameter(p.detach().clone()) for p in optimizer.param_groups[0]["params"]], **options)
    train(optimizer, 2)
    train(fresh, 2)
    assert_same_bits(optimizer, fresh)


def test_the_state_is_a_defaultdict_that_can_be_copied():
    optimizer, _ = pair()
    train(optimizer, 1)
    assert isinstance(optimizer.state, defaultdict)
    for other in (optimizer.state.copy(), copy.copy(optimizer.state)):
        assert type(other) is type(optimizer.state)
        assert dict(other) == dict(optimizer.state)
        assert other[torch.nn.Parameter(torch.ones(1))] == {}
        assert len(other) == len(optimizer.state) + 1


# ---- changes from outside --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("state_dtype", ["float32", "bfloat16", "8bit"])
def test_a_model_may_change_its_dtype(dtype, state_dtype):
    model = torch.nn.Linear(40, 20)
    optimizer = RMSprop(model.parameters(), momentum=0.9, state_dtype=state_dtype)
    train(optimizer, 2)
    squares = optimizer.state_dict()["state"][0]
    model.to(dtype)
    train(optimizer, 1, start=2)
    assert {float(state["step"]) for state in optimizer.state.values()} == {3.0}
    if state_dtype == "float32":
        after = optimizer.state[model.weight]["square_avg"]
        expected = 0.99 * squares["square_avg"].double() if dtype == torch.float64 else None
        assert after.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        if expected is not None:
            assert bool((after - expected >= 0).all()), "the statistics were lost"


@pytest.mark.parametrize("state_dtype", ["float32", "bfloat16", "8bit"])
def test_a_model_may_change_its_memory_order(state_dtype):
    shapes = [(6, 5, 3, 3)]
    stays, changes = (RMSprop(parameters(shapes), state_dtype=state_dtype, momentum=0.9, seed=1) for _ in range(2))
    train(stays, 2)
    train(changes, 2)
    param = changes.param_groups[0]["params"][0]
    param.data = param.data.to(memory_format=torch.channels_last)
    train(stays, 2, start=2)
    train(changes, 2, start=2)
    if state_dtype == "float32":  # the others round by position in memory
        assert_same_bits(changes, stays)
    else:
        assert_near(changes.param_groups[0]["params"], stays.param_groups[0]["params"], tolerance=0.05)
    assert changes.state[param]["momentum_buffer"].stride() == param.stride()


def test_data_may_be_exchanged_between_steps():
    ours, theirs = pair(dtype=torch.float64)
    for optimizer in (ours, theirs):
        train(optimizer, 2)
        for param in optimizer.param_groups[0]["params"]:
            param.data = param.data * 2 + 1
        train(optimizer, 2, start=2)
    assert_near(ours.param_groups[0]["params"], theirs.param_groups[0]["params"])


def test_momentum_may_be_switched_on_and_off():
    ours, theirs = pair(dtype=torch.float64)
    for optimizer in (ours, theirs):
        train(optimizer, 3)
        optimizer.param_groups[0]["momentum"] = 0.9
        if optimizer is theirs:  # torch raises a KeyError without its buffer
            for state in theirs.state.values():
                state["momentum_buffer"] = torch.zeros_like(state["square_avg"])
        train(optimizer, 3, start=3)
        optimizer.param_groups[0]["momentum"] = 0
        train(optimizer, 3, start=6)
    assert_near(ours.param_groups[0]["params"], theirs.param_groups[0]["params"])


def test_centered_may_be_switched_on_and_off():
    ours, theirs = pair(dtype=torch.float64)
    for optimizer in (ours, theirs):
        train(optimizer, 3)
        optimizer.param_groups[0]["centered"] = True
        if optimizer is theirs:
            for state in theirs.state.values():
                state["grad_avg"] = torch.zeros_like(state["square_avg"])
        train(optimizer, 3, start=3)
        optimizer.param_groups[0]["centered"] = False
        train(optimizer, 3, start=6)
    assert_near(ours.param_groups[0]["params"], theirs.param_groups[0]["params"])


def test_a_parameter_without_gradient_is_not_touched_at_all():
    """As with torch's optimizer, a graph that reads it can still be differentiated."""
    used, unused = parameters([(3,), (3,)])
    optimizer = RMSprop([used, unused])
    train(optimizer, 1)
    optimizer.zero_grad()
    loss = (unused**2).sum()
    used.grad = torch.ones(3)
    optimizer.step()
    loss.backward()
    assert unused.grad is not None
    assert optimizer.state[unused]["step"] == 1


def test_a_parameter_that_a_graph_still_needs_is_reported_by_autograd():
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = RMSprop([weight])
    loss = (weight**2).sum()
    weight.grad = torch.ones(3)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_unfreezing_a_parameter_starts_its_state(options):
    ours, theirs = pair(dtype=torch.float64, **options)
    for optimizer in (ours, theirs):
        params = optimizer.param_groups[0]["params"]
        for step in range(6):
            draw_grads(params, step)
            if step < 3:
                params[2].grad = None
            optimizer.step()
            assert (params[2] in optimizer.state) == (step >= 3)
    assert_near(ours.param_groups[0]["params"], theirs.param_groups[0]["params"])
    assert len(SHAPES) == len(ours.state)
