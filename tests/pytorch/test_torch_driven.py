"""Promise: hooks, closures, schedulers and gradient scalers work as with torch's RMSprop."""

import copy

import pytest
import torch
from torch.optim import lr_scheduler, swa_utils
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch_helpers import (
    RMSprop,
    TorchRMSprop,
    all_options,
    assert_near,
    assert_same_bits,
    draw_grads,
    list_params,
    make_pair,
    make_params,
    train,
)

# ---- hooks and closures ----------------------------------------------------------------------------------------------


def describe(given):
    """Return an argument of a hook, without the optimizer itself."""
    if isinstance(given, tuple):
        return tuple(map(describe, given))
    return type(given).__name__ if isinstance(given, torch.optim.Optimizer) else given


def register_all_hooks(optimizer):
    """Register every kind of hook; return the list of their calls, and the handles."""
    calls = []

    def make_hook(name):
        return lambda *given: calls.append((name, *map(describe, given))) or None

    handles = [
        register_optimizer_step_pre_hook(make_hook("global pre")),
        register_optimizer_step_post_hook(make_hook("global post")),
        optimizer.register_step_pre_hook(make_hook("pre")),
        optimizer.register_step_post_hook(make_hook("post")),
        optimizer.register_state_dict_pre_hook(make_hook("state pre")),
        optimizer.register_state_dict_post_hook(lambda o, d: calls.append(("state post", sorted(d)))),
        optimizer.register_load_state_dict_pre_hook(lambda o, d: calls.append(("load pre", sorted(d)))),
        optimizer.register_load_state_dict_post_hook(make_hook("load post")),
    ]
    return calls, handles


def test_hooks_are_called_as_by_torchs_optimizer():
    runs = []
    for optimizer in make_pair():
        draw_grads(list_params(optimizer), 0)
        calls, handles = register_all_hooks(optimizer)
        try:
            optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
        finally:
            for handle in handles:
                handle.remove()
        length = len(calls)
        optimizer.step()
        optimizer.state_dict()
        assert len(calls) == length, "a removed hook was called"
        runs.append(calls)
    assert runs[0] == runs[1]
    assert len(runs[0]) == 8


def test_a_step_hook_may_change_the_arguments():
    optimizer, _ = make_pair()
    draw_grads(list_params(optimizer), 0)
    optimizer.register_step_pre_hook(lambda o, args, kwargs: ((o, lambda: 5.0), {}))
    assert optimizer.step() == 5.0


def test_a_step_hook_that_returns_something_else_raises_and_nothing_changes():
    optimizer, _ = make_pair()
    train(optimizer, 1)
    before = copy.deepcopy(optimizer)
    optimizer.register_step_pre_hook(lambda *_: 1)
    with pytest.raises(RuntimeError, match="must return None or a tuple"):
        optimizer.step()
    assert_same_bits(optimizer, before)


def test_state_dict_hooks_may_change_the_state_dict():
    optimizer, _ = make_pair(centered=True)
    train(optimizer, 2)
    seen = {}

    def post(_, state_dict):
        seen.update(state_dict["state"][0])
        return {"wrapped": state_dict}

    handle = optimizer.register_state_dict_post_hook(post)
    wrapped = optimizer.state_dict()
    assert "square_avg" in seen, "the hook got the state in memory, not the checkpoint"
    handle.remove()
    optimizer.register_load_state_dict_pre_hook(lambda _, state_dict: state_dict["wrapped"])
    before = copy.deepcopy(optimizer)
    optimizer.load_state_dict(wrapped)
    assert_same_bits(optimizer, before)


def test_a_closure_is_evaluated_with_gradients_and_its_loss_is_returned():
    runs = []
    for cls in (RMSprop, TorchRMSprop):
        weight = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
        optimizer = cls([weight], lr=0.1)

        def closure(weight=weight, optimizer=optimizer):
            optimizer.zero_grad()
            loss = (weight**2).sum()
            loss.backward()
            return loss

        with torch.no_grad():
            losses = [float(optimizer.step(closure).detach()) for _ in range(5)]
        assert losses[0] == 5.0
        runs.append(optimizer)
    assert_near(*runs)


def test_the_profiler_records_the_step():
    optimizer, _ = make_pair()
    draw_grads(list_params(optimizer), 0)
    with torch.autograd.profiler.profile() as profile:
        optimizer.step()
    assert any(event.key == "Optimizer.step#RMSprop.step" for event in profile.key_averages())


# ---- learning-rate schedulers ----------------------------------------------------------------------------------------

SCHEDULERS = {
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.9**epoch),
    "multiplicative": lambda o: lr_scheduler.MultiplicativeLR(o, lambda epoch: 0.95),
    "step": lambda o: lr_scheduler.StepLR(o, 3),
    "multistep": lambda o: lr_scheduler.MultiStepLR(o, [2, 5]),
    "constant": lambda o: lr_scheduler.ConstantLR(o),
    "linear": lambda o: lr_scheduler.LinearLR(o),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "polynomial": lambda o: lr_scheduler.PolynomialLR(o, 10),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 7),
    "warm restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 1e-3, 1e-1, step_size_up=3),
    "cyclic without momentum": lambda o: lr_scheduler.CyclicLR(o, 1e-3, 1e-1, cycle_momentum=False),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=20),
    "one cycle in three": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=20, three_phase=True),
    "chained": lambda o: lr_scheduler.ChainedScheduler([lr_scheduler.StepLR(o, 2), lr_scheduler.ExponentialLR(o, 0.9)]),
    "sequential": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.9)], [4]
    ),
    "stochastic weight averaging": lambda o: swa_utils.SWALR(o, 0.05, anneal_epochs=4),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1),
}


@pytest.mark.parametrize("make", SCHEDULERS.values(), ids=SCHEDULERS)
def test_a_scheduler_drives_both_alike(make):
    optimizers = make_pair(dtype=torch.float64, momentum=0.9, lr=0.02)
    schedulers = [make(optimizer) for optimizer in optimizers]
    for step in range(15):
        for optimizer, scheduler in zip(optimizers, schedulers):
            train(optimizer, 1, start=step)
            scheduler.step(*([1.0] if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else []))
        ours, theirs = (optimizer.param_groups[0] for optimizer in optimizers)
        assert (ours["lr"], ours["momentum"]) == (theirs["lr"], theirs["momentum"])
        assert_near(*optimizers)


def test_a_scheduler_warns_only_if_it_steps_before_the_optimizer():
    """Unexpected warnings are errors here."""
    for optimizer in make_pair():
        scheduler = lr_scheduler.StepLR(optimizer, 1)
        with pytest.warns(UserWarning, match="before `optimizer.step"):
            scheduler.step()
    for optimizer in make_pair():
        scheduler = lr_scheduler.StepLR(optimizer, 1)
        train(optimizer, 1)
        scheduler.step()


# ---- mixed precision -------------------------------------------------------------------------------------------------


def step_scaled(optimizer, scaler, step, *, unscale=False, overflow=False):
    params = list_params(optimizer)
    draw_grads(params, step)
    scaler.scale(torch.ones(()))
    for param in params:
        param.grad.mul_(scaler.get_scale())
    if overflow:
        params[2].grad[1] = float("inf")
    if unscale:
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(params, 0.5)
    scaler.step(optimizer)
    scaler.update()


@all_options
@pytest.mark.parametrize("unscale", [False, True])
def test_a_grad_scaler_steps_both_alike(options, unscale):
    optimizers = make_pair(**options)
    scalers = [torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3) for _ in optimizers]
    for optimizer, scaler in zip(optimizers, scalers):
        for step in range(12):
            step_scaled(optimizer, scaler, step, unscale=unscale, overflow=step in (3, 4, 9))
        counts = {float(state["step"]) for state in optimizer.state.values()}
        assert counts == {9.0}, "an overflow was not skipped, or a step was"
    assert scalers[0].get_scale() == scalers[1].get_scale()
    assert_near(*optimizers, tolerance=3e-5)


def test_an_overflow_changes_no_bit():
    ours, _ = make_pair(momentum=0.9)
    train(ours, 3)
    before = copy.deepcopy(ours)
    step_scaled(ours, torch.amp.GradScaler("cpu"), 3, overflow=True)
    assert_same_bits(ours, before)


def test_scaled_gradients_give_the_bits_of_unscaled_ones():
    scaled, plain = (RMSprop(make_params(), momentum=0.9) for _ in range(2))
    for step in range(5):
        train(plain, 1, start=step)
        draw_grads(list_params(scaled), step)
        for param in list_params(scaled):
            param.grad.mul_(2.0**16)
        scaled.step(grad_scale=torch.tensor(2.0**16), found_inf=torch.tensor(0.0))
    assert_same_bits(scaled, plain)
    scaled.step(grad_scale=2.0**16, found_inf=torch.tensor(1.0))
    assert_same_bits(scaled, plain)


def test_half_precision_gradients_are_unscaled_without_underflow():
    """1e-6 squared is 0 in float16; scaled and widened it is not."""
    half, wide = (torch.nn.Parameter(torch.zeros(4, dtype=dtype)) for dtype in (torch.float16, torch.float32))
    half.grad = torch.full((4,), 2.0**-20 * 2.0**12, dtype=torch.float16)
    wide.grad = torch.full((4,), 2.0**-20)
    RMSprop([half]).step(grad_scale=2.0**12)
    RMSprop([wide]).step()
    assert_same_bits([half], [wide.detach().half()])
