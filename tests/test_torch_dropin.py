"""The PyTorch front end takes torch.optim.RMSprop's place: its signature, errors, groups, hooks and schedulers."""

import copy
import inspect
import pickle
import re
import warnings
from collections import defaultdict

import pytest

from torching import OPTIONS, SHAPES, Host, RMSprop, assert_near, assert_same_bits, draw_grads, pair, parameters, train

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest", reason="torch.testing._internal.common_optimizers imports it")
from torch.optim import lr_scheduler, swa_utils  # noqa: E402
from torch.optim.optimizer import (  # noqa: E402
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.testing._internal.common_optimizers import (  # noqa: E402
    OptimizerErrorEnum,
    optim_error_inputs_func_rmsprop,
    optim_inputs_func_rmsprop,
)

EXTRAS = {"dialect", "max_norm", "param_rounding", "state_dtype", "lazy", "eager_state", "seed"}
TABLE = {given.desc: given.kwargs for given in optim_inputs_func_rmsprop("cpu")}
ERRORS = {given.optimizer_error_input.desc: given for given in optim_error_inputs_func_rmsprop("cpu", torch.float32)}


# ---- signature -------------------------------------------------------------------------------------------------------


def test_the_signature_is_torchs_and_keyword_only_extras():
    ours, theirs = inspect.signature(RMSprop).parameters, inspect.signature(Host).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    for name, parameter in theirs.items():
        assert ours[name].kind == parameter.kind, name
        assert ours[name].default == parameter.default, name
    extras = {name for name, parameter in ours.items() if parameter.kind is inspect.Parameter.KEYWORD_ONLY}
    assert extras == set(ours) - set(theirs) == EXTRAS


def test_the_step_takes_torchs_arguments():
    ours, theirs = inspect.signature(RMSprop.step).parameters, inspect.signature(Host.step).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    assert all(p.kind is p.KEYWORD_ONLY for name, p in ours.items() if name not in theirs)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_groups_and_defaults_hold_torchs_entries(options):
    ours, theirs = pair(**options)
    assert theirs.defaults.items() <= ours.defaults.items()
    theirs = {key: value for key, value in theirs.param_groups[0].items() if key != "params"}
    assert theirs.items() <= ours.param_groups[0].items()


def test_it_is_a_torch_rmsprop():
    ours, _ = pair()
    assert isinstance(ours, Host)
    assert type(ours).__name__ == "RMSprop"
    assert repr(ours).startswith("RMSprop (\nParameter Group 0\n    alpha: 0.99\n")


# ---- errors ----------------------------------------------------------------------------------------------------------


def answer(cls, given):
    """What a class raises, or warns of, for bad input."""
    arguments = given.optimizer_error_input
    params = arguments.params
    params = copy.deepcopy(params) if isinstance(params, list) else params or [torch.nn.Parameter(torch.ones(1))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(Exception) as caught:
            cls(params, **arguments.kwargs)
    return caught


@pytest.mark.parametrize("given", ERRORS.values(), ids=ERRORS)
def test_bad_input_of_torchs_own_table_gets_torchs_answer(given):
    assert given.error_on is OptimizerErrorEnum.CONSTRUCTION_ERROR
    ours, theirs = answer(RMSprop, given), answer(Host, given)
    assert issubclass(ours.type, given.error_type)
    assert re.search(given.error_regex, str(ours.value))
    assert (ours.type, str(ours.value)) == (theirs.type, str(theirs.value))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -0.1}, "Invalid learning rate: -0.1"),
        ({"lr": float("nan")}, "Invalid learning rate: nan"),
        ({"eps": -1e-8}, "Invalid epsilon value: -1e-08"),
        ({"momentum": -0.5}, "Invalid momentum value: -0.5"),
        ({"weight_decay": -1}, "Invalid weight_decay value: -1"),
        ({"alpha": -0.1}, "Invalid alpha value: -0.1"),
        ({"lr": torch.tensor([0.1, 0.1])}, "Tensor lr must be 1-element"),
    ],
)
def test_numbers_out_of_range_get_torchs_messages(arguments, message):
    for cls in (RMSprop, Host):
        with pytest.raises(ValueError) as caught:
            cls(parameters(), **arguments)
        assert str(caught.value) == message


@pytest.mark.parametrize(
    "params",
    [[], [1.0], [torch.ones(1, requires_grad=True) * 2], [{"params": "x"}], [{"params": set()}]],
    ids=["empty", "number", "not a leaf", "text", "set"],
)
def test_params_that_torch_refuses_are_refused_in_its_words(params):
    caught = []
    for cls in (RMSprop, Host):
        with pytest.raises((TypeError, ValueError)) as info:
            cls(params)
        caught.append((info.type, str(info.value)))
    assert caught[0] == caught[1]


# ---- the same numbers ------------------------------------------------------------------------------------------------


def assert_a_run_equals_torchs(ours, theirs, steps=100):
    def change(optimizer):
        lr = optimizer.param_groups[0]["lr"]
        lr = lr if not torch.is_tensor(lr) else lr.clone()

        def each(step):
            optimizer.param_groups[0]["lr"] = lr * (1.0 + 0.5 * (step % 7))

        return each

    each, other = change(ours), change(theirs)
    for step in range(steps):
        train(ours, 1, start=step, each=each)
        train(theirs, 1, start=step, each=other)
        assert_near(ours.param_groups[0]["params"], theirs.param_groups[0]["params"])


@pytest.mark.parametrize("options", TABLE.values(), ids=TABLE)
def test_every_input_of_torchs_own_table_gives_torchs_numbers(options):
    assert_a_run_equals_torchs(*pair(dtype=torch.float64, **copy.deepcopy(options)))


@pytest.mark.parametrize("foreach", [None, False, True])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_foreach_changes_nothing(options, foreach):
    assert_a_run_equals_torchs(*pair(dtype=torch.float64, foreach=foreach, **options), steps=20)


@pytest.mark.parametrize("lr", [torch.tensor(1e-3, dtype=torch.float64), torch.tensor([1e-3], dtype=torch.float64)])
def test_lr_may_be_a_tensor_of_one_element(lr):
    assert_a_run_equals_torchs(*pair(dtype=torch.float64, lr=lr), steps=20)
    runs = [cls(parameters(dtype=torch.float64), lr=lr.clone()) for cls in (RMSprop, Host)]
    for optimizer in runs:
        train(optimizer, 3, each=lambda step, o=optimizer: o.param_groups[0]["lr"].mul_(0.5))
    assert_near(*(optimizer.param_groups[0]["params"] for optimizer in runs))


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "weight_decay": 0.1}], ids=str)
def test_a_float32_step_is_within_four_units_of_torchs(options):
    """Units in the last place of the largest term; torch's vectorized root is not IEEE's, and it contracts.

    Both start each step from the same parameters and state.
    """
    ours, theirs = pair(**options)
    worst = 0.0
    for step in range(100):
        before = [p.detach().clone() for p in ours.param_groups[0]["params"]]
        train(ours, 1, start=step)
        train(theirs, 1, start=step)
        for p, q, was in zip(ours.param_groups[0]["params"], theirs.param_groups[0]["params"], before):
            root = ours.state[p]["square_avg"].sqrt()
            terms = p.grad.abs() + options.get("weight_decay", 0) * was.abs()
            largest = torch.stack([p.detach().abs(), was.abs(), 0.01 * terms / root]).amax(0)
            unit = torch.ldexp(torch.full_like(largest, 2.0**-23), torch.frexp(largest).exponent - 1)
            worst = max(worst, float(((p - q).detach().abs() / unit).max()))
        theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
        with torch.no_grad():
            for p, q in zip(ours.param_groups[0]["params"], theirs.param_groups[0]["params"]):
                q.copy_(p)
    assert 0 < worst <= 4


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_complex_parameters_step_as_torch_steps_them(dtype, options):
    shapes = ((3,), (2, 4))
    ours, theirs = pair(dtype=dtype, shapes=shapes, **options)
    train(ours, 20)
    train(theirs, 20)
    wide = dtype == torch.complex128
    assert_near(
        ours.param_groups[0]["params"], theirs.param_groups[0]["params"], tolerance=1e-12 if wide else 2e-5
    )  # fmt: skip
    for p, q in zip(ours.param_groups[0]["params"], theirs.param_groups[0]["params"]):
        assert ours.state[p]["step"] == theirs.state[q]["step"] == 20


# ---- groups ----------------------------------------------------------------------------------------------------------


def test_each_group_has_its_own_numbers():
    def groups(params):
        return [
            {"params": params[:2], "lr": 0.1},
            {"params": params[2:3], "momentum": 0.9, "alpha": 0.5},
            {"params": params[3:], "weight_decay": 0.2, "centered": True, "maximize": True, "eps": 1e-3},
        ]

    ours, theirs = (cls(groups(parameters(dtype=torch.float64)), lr=0.01) for cls in (RMSprop, Host))
    train(ours, 30)
    train(theirs, 30)
    for mine, other in zip(ours.param_groups, theirs.param_groups):
        assert_near(mine["params"], other["params"])


def test_a_group_added_later_trains():
    runs = []
    for cls in (RMSprop, Host):
        first, *rest = parameters(dtype=torch.float64)
        optimizer = cls([first], lr=0.02)
        train(optimizer, 3)
        optimizer.add_param_group({"params": rest, "momentum": 0.9})
        train(optimizer, 5, start=3)
        runs.append([first, *rest])
    assert_near(*runs)


def test_a_group_may_name_its_dialect():
    first, second = parameters([(3,), (3,)])
    optimizer = RMSprop([{"params": [first]}, {"params": [second], "dialect": "torch"}], dialect="keras3")
    keras, host = optimizer.param_groups
    assert (keras["alpha"], keras["eps"], keras["switches"]["eps_mode"]) == (0.9, 1e-7, "inside")
    assert (host["alpha"], host["eps"], host["switches"]["eps_mode"]) == (0.99, 1e-8, "outside")


def test_named_parameters_keep_their_names():
    model = torch.nn.Linear(2, 3)
    ours, theirs = RMSprop(model.named_parameters()), Host(model.named_parameters())
    assert ours.param_groups[0]["param_names"] == theirs.param_groups[0]["param_names"] == ["weight", "bias"]
    train(ours, 2)
    other = RMSprop(torch.nn.Linear(2, 3).named_parameters())
    other.load_state_dict(ours.state_dict())
    assert other.param_groups[0]["param_names"] == ["weight", "bias"]


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


# ---- copies, resets, changes from outside ----------------------------------------------------------------------------


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
