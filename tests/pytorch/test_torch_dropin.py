"""Promise: rmsprop.torch.RMSprop takes torch.optim.RMSprop's place: its signature, errors, numbers and groups."""

import copy
import inspect
import re
import warnings

import pytest

import rmsprop
from torching import OPTIONS, Host, RMSprop, assert_near, pair, parameters, train

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest", reason="torch.testing._internal.common_optimizers imports it")
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
        numbers = ("lr", "alpha", "eps", "weight_decay", "momentum", "centered", "maximize")  # None: the dialect's own
        assert ours[name].default == (None if name in numbers else parameter.default), name
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
    assert f"    rule: dialect 'torch', {rmsprop.dialect('torch')!r}\n" in repr(ours)


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
