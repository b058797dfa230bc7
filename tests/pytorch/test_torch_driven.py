"""Promise: what listens to torch's RMSprop or drives it does so here: hooks, closures, schedulers, gradient scalers."""

import copy

import pytest

from torching import OPTIONS, Host, RMSprop, assert_near, assert_same_bits, draw_grads, pair, parameters, train

torch = pytest.importorskip("torch")
from torch.optim import lr_scheduler, swa_utils  # noqa: E402
from torch.optim.optimizer import (  # noqa: E402
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

# ---- hooks and closures ----------------------------------------------------------------------------------------------


def described(given):
    """An argument of a hook, without the optimizer itself."""
    if isinstance(given, tuple):
        return tuple(map(described, given))
    return type(given).__name__ if isinstance(given, torch.optim.Optimizer) else given


def listen(optimizer):
    """Register every kind of hook; return the list of what was heard, and what removes the hooks."""
    heard = []

    def hook(name):
        return lambda *given: heard.append((name, *map(described, given))) or None

    handles = [
        register_optimizer_step_pre_hook(hook("global pre")),
        register_optimizer_step_post_hook(hook("global post")),
        optimizer.register_step_pre_hook(hook("pre")),
        optimizer.register_step_post_hook(hook("post")),
        optimizer.register_state_dict_pre_hook(hook("state pre")),
        optimizer.register_state_dict_post_hook(lambda o, d: heard.append(("state post", sorted(d)))),
        optimizer.register_load_state_dict_pre_hook(lambda o, d: heard.append(("load pre", sorted(d)))),
        optimizer.register_load_state_dict_post_hook(hook("load post")),
    ]
    return heard, handles


def test_hooks_hear_what_they_hear_of_torchs_optimizer():
    runs = []
    for optimizer in pair():
        draw_grads(optimizer.param_groups[0]["params"], 0)
        heard, handles = listen(optimizer)
        try:
            optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
        finally:
            for handle in handles:
                handle.remove()
        length = len(heard)
        optimizer.step()
        optimizer.state_dict()
        assert len(heard) == length, "a removed hook was called"
        runs.append(heard)
    assert runs[0] == runs[1]
    assert [name for name, *_ in runs[0]] == [
        "global pre", "pre", "post", "global post", "state pre", "state post", "load pre", "load post",
    ]  # fmt: skip


def test_a_step_hook_may_change_the_arguments():
    optimizer, _ = pair()
    draw_grads(optimizer.param_groups[0]["params"], 0)
    calls = []
    optimizer.register_step_pre_hook(lambda o, args, kwargs: ((o, lambda: calls.append(1) or 5.0), {}))
    assert optimizer.step() == 5.0
    assert calls == [1]


def test_state_dict_hooks_may_change_the_state_dict():
    optimizer, _ = pair(centered=True)
    train(optimizer, 2)
    seen = {}

    def post(_, state_dict):
        seen.update(state_dict["state"][0])
        return {"wrapped": state_dict}

    handle = optimizer.register_state_dict_post_hook(post)
    wrapped = optimizer.state_dict()
    assert "square_avg" in seen, "the hook saw the live state, not the checkpoint"
    handle.remove()
    optimizer.register_load_state_dict_pre_hook(lambda _, state_dict: state_dict["wrapped"])
    before = copy.deepcopy(optimizer.state_dict()["state"])
    optimizer.load_state_dict(wrapped)
    for index, state in before.items():
        assert_same_bits(list(state.values()), list(optimizer.state_dict()["state"][index].values()))


def test_a_closure_is_evaluated_with_gradients_and_its_loss_returned():
    weights = []
    for cls in (RMSprop, Host):
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
        weights.append(weight)
    assert_near(weights[:1], weights[1:])


def test_the_profiler_sees_the_step():
    optimizer, _ = pair()
    draw_grads(optimizer.param_groups[0]["params"], 0)
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
    optimizers = pair(dtype=torch.float64, momentum=0.9, lr=0.02)
    schedulers = [make(optimizer) for optimizer in optimizers]
    for step in range(15):
        for optimizer, scheduler in zip(optimizers, schedulers):
            train(optimizer, 1, start=step)
            scheduler.step(1.0) if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else scheduler.step()
        ours, theirs = (optimizer.param_groups[0] for optimizer in optimizers)
        assert ours["lr"] == theirs["lr"]
        assert ours["momentum"] == theirs["momentum"]
        assert_near(ours["params"], theirs["params"])


def test_a_scheduler_that_steps_first_warns_and_one_that_steps_second_does_not():
    """torch's scheduler asks whether the optimizer has stepped; warnings are errors here."""
    for optimizer in pair():
        scheduler = lr_scheduler.StepLR(optimizer, 1)
        with pytest.warns(UserWarning, match="before `optimizer.step"):
            scheduler.step()
    for optimizer in pair():
        scheduler = lr_scheduler.StepLR(optimizer, 1)
        train(optimizer, 1)
        scheduler.step()


# ---- mixed precision -------------------------------------------------------------------------------------------------


def amp_step(optimizer, scaler, step, *, unscale=False, clip=None, poison=False):
    params = optimizer.param_groups[0]["params"]
    draw_grads(params, step)
    for param in params:
        param.grad.mul_(scaler.get_scale())
    if poison:
        params[2].grad[1] = float("inf")
    scaler._check_scale_growth_tracker("step") if scaler._scale is not None else scaler.scale(torch.ones(()))
    if unscale:
        scaler.unscale_(optimizer)
    if clip is not None:
        torch.nn.utils.clip_grad_norm_(params, clip)
    result = scaler.step(optimizer)
    scaler.update()
    return result


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("unscale", [False, True])
def test_a_grad_scaler_steps_both_alike(options, unscale):
    runs = []
    for optimizer in pair(**options):
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
        for step in range(12):
            amp_step(optimizer, scaler, step, unscale=unscale, clip=0.5 if unscale else None, poison=step in (3, 4, 9))
        runs.append((optimizer, scaler.get_scale()))
        states = optimizer.state.values()
        assert {float(state["step"]) for state in states} == {9.0}, "an overflow was not skipped, or a step was"
    (ours, scale), (theirs, other) = runs
    assert scale == other
    assert_near(ours.param_groups[0]["params"], theirs.param_groups[0]["params"], tolerance=3e-5)


def test_an_overflow_changes_no_bit():
    ours, _ = pair(momentum=0.9)
    train(ours, 3)
    before = copy.deepcopy(ours)
    scaler = torch.amp.GradScaler("cpu")
    amp_step(ours, scaler, 3, poison=True)
    assert_same_bits(ours, before)


def test_scaled_gradients_give_the_bits_of_unscaled_ones():
    scaled, plain = (RMSprop(parameters(), momentum=0.9) for _ in range(2))
    for step in range(5):
        draw_grads(plain.param_groups[0]["params"], step)
        plain.step()
        draw_grads(scaled.param_groups[0]["params"], step)
        for param in scaled.param_groups[0]["params"]:
            param.grad.mul_(2.0**16)
        scaled.step(grad_scale=torch.tensor(2.0**16), found_inf=torch.tensor(0.0))
    assert_same_bits(scaled, plain)
    scaled.step(grad_scale=2.0**16, found_inf=torch.tensor(1.0))
    assert_same_bits(scaled, plain)


def test_half_precision_gradients_are_unscaled_without_underflow():
    """1e-6 squared is 0 in float16; scaled and widened it is not."""
    half = torch.nn.Parameter(torch.zeros(4, dtype=torch.float16))
    wide = torch.nn.Parameter(torch.zeros(4))
    half.grad = torch.full((4,), 2.0**-20 * 2.0**12, dtype=torch.float16)
    wide.grad = torch.full((4,), 2.0**-20)
    RMSprop([half]).step(grad_scale=2.0**12)
    RMSprop([wide]).step()
    assert_same_bits([half], [wide.detach().half()])
