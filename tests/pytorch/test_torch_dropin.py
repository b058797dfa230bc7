"""Promise: rmsprop.torch.RMSprop replaces torch.optim.RMSprop: its signature, errors, numbers and groups."""

import copy
import inspect
import subprocess
import sys

import pytest
import torch
from torch_helpers import (
    RMSprop,
    TorchRMSprop,
    all_options,
    assert_near,
    assert_same_bits,
    list_params,
    make_pair,
    make_params,
    train,
)

import rmsprop

EXTRAS = {"dialect", "max_norm", "param_rounding", "state_dtype", "lazy", "eager_state", "seed"}


# ---- signature -------------------------------------------------------------------------------------------------------


def test_the_signature_is_torchs_with_keyword_only_extras():
    ours, theirs = inspect.signature(RMSprop).parameters, inspect.signature(TorchRMSprop).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    for name, parameter in theirs.items():
        assert ours[name].kind == parameter.kind, name
        numbers = ("lr", "alpha", "eps", "weight_decay", "momentum", "centered", "maximize")  # None: the dialect's own
        assert ours[name].default == (None if name in numbers else parameter.default), name
    extras = {name for name, parameter in ours.items() if parameter.kind is inspect.Parameter.KEYWORD_ONLY}
    assert extras == set(ours) - set(theirs) == EXTRAS


def test_the_step_takes_torchs_arguments():
    ours, theirs = inspect.signature(RMSprop.step).parameters, inspect.signature(TorchRMSprop.step).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    assert all(p.kind is p.KEYWORD_ONLY for name, p in ours.items() if name not in theirs)


@all_options
def test_groups_and_defaults_have_torchs_entries(options):
    ours, theirs = make_pair(**options)
    assert isinstance(ours, TorchRMSprop)
    assert theirs.defaults.items() <= ours.defaults.items()
    theirs = {key: value for key, value in theirs.param_groups[0].items() if key != "params"}
    assert theirs.items() <= ours.param_groups[0].items()


def test_repr_shows_the_dialect_and_the_rule():
    text = repr(make_pair()[0])
    assert text.startswith("RMSprop (\nParameter Group 0\n    alpha: 0.99\n")
    assert f"    rule: dialect 'torch', {rmsprop.dialect('torch')!r}\n" in text


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        *(
            {"lr": -0.1},
            {"lr": float("nan")},
            {"eps": -1e-8},
            {"momentum": -0.5},
            {"weight_decay": -1},
            {"alpha": -0.1},
        ),
        *({"lr": torch.tensor([0.1, 0.1])}, {"params": []}, {"params": [1.0]}, {"params": [{"params": "x"}]}),
        *({"params": [torch.ones(1, requires_grad=True) * 2]}, {"params": [{"params": set()}]}),
    ],
    ids=str,
)
def test_what_torch_rejects_raises_torchs_error(arguments):
    answers = []
    for cls in (RMSprop, TorchRMSprop):
        with pytest.raises((TypeError, ValueError)) as caught:
            cls(**{"params": make_params(), **arguments})
        answers.append((caught.type, str(caught.value)))
    assert answers[0] == answers[1]


# ---- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lr", [torch.tensor(1e-3, dtype=torch.float64), torch.tensor([1e-3], dtype=torch.float64)])
def test_lr_may_be_a_tensor_of_one_element(lr):
    runs = [cls(make_params(dtype=torch.float64), lr=lr.clone()) for cls in (RMSprop, TorchRMSprop)]
    for optimizer in runs:
        train(optimizer, 20, each=lambda step, o=optimizer: o.param_groups[0]["lr"].mul_(0.9))
    assert_near(*runs)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "weight_decay": 0.1}], ids=str)
def test_a_float32_step_is_within_four_units_of_torchs(options):
    """Units in the last place of the largest term; torch's vectorized root is not IEEE's, and it contracts.

    Both start each step from the same parameters and state.
    """
    ours, theirs = make_pair(**options)
    worst = 0.0
    for step in range(100):
        before = [p.detach().clone() for p in ours.param_groups[0]["params"]]
        train(ours, 1, start=step)
        train(theirs, 1, start=step)
        for p, q, start in zip(ours.param_groups[0]["params"], theirs.param_groups[0]["params"], before):
            root = ours.state[p]["square_avg"].sqrt()
            terms = p.grad.abs() + options.get("weight_decay", 0) * start.abs()
            largest = torch.stack([p.detach().abs(), start.abs(), 0.01 * terms / root]).amax(0)
            unit = torch.ldexp(torch.full_like(largest, 2.0**-23), torch.frexp(largest).exponent - 1)
            worst = max(worst, float(((p - q).detach().abs() / unit).max()))
            with torch.no_grad():
                q.copy_(p)
        theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
    assert 0 < worst <= 4


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.complex64, 2e-5), (torch.complex128, 1e-12)])
@all_options
def test_complex_parameters_step_as_torch_steps_them(dtype, tolerance, options):
    ours, theirs = make_pair(dtype=dtype, shapes=((3,), (2, 4)), **options)
    train(ours, 20)
    train(theirs, 20)
    assert_near(ours, theirs, tolerance=tolerance)
    assert {float(state["step"]) for state in ours.state.values()} == {20.0}


# ---- groups ----------------------------------------------------------------------------------------------------------


def test_each_group_has_its_own_numbers_and_may_be_added_later():
    runs = []
    for cls in (RMSprop, TorchRMSprop):
        params = make_params(dtype=torch.float64)
        optimizer = cls([{"params": params[:2], "lr": 0.1}, {"params": params[2:3], "momentum": 0.9, "alpha": 0.5}])
        train(optimizer, 3)
        options = {"weight_decay": 0.2, "centered": True, "maximize": True, "eps": 1e-3}
        optimizer.add_param_group({"params": params[3:], **options})
        train(optimizer, 30, start=3)
        runs.append(optimizer)
    assert_near(*runs)


def test_a_group_without_weight_decay_is_not_decayed():
    weight, bias = make_params([(10, 5), (10,)])
    optimizer = RMSprop([{"params": [weight]}, {"params": [bias], "weight_decay": 0.0}], weight_decay=0.1)
    before, unchanged = weight.detach().norm(), bias.detach().clone()
    weight.grad, bias.grad = torch.zeros_like(weight), torch.zeros_like(bias)
    for _ in range(5):
        optimizer.step()
    assert weight.detach().norm() < before
    assert torch.equal(bias, unchanged)


def test_a_group_may_name_its_dialect():
    first, second = make_params([(3,), (3,)])
    optimizer = RMSprop([{"params": [first]}, {"params": [second], "dialect": "torch"}], dialect="keras3")
    keras, of_torch = optimizer.param_groups
    assert (keras["alpha"], keras["eps"], keras["switches"]["eps_mode"]) == (0.9, 1e-7, "inside")
    assert (of_torch["alpha"], of_torch["eps"], of_torch["switches"]["eps_mode"]) == (0.99, 1e-8, "outside")


def test_parameter_names_are_kept_and_loaded():
    model = torch.nn.Linear(2, 3)
    ours, theirs = RMSprop(model.named_parameters()), TorchRMSprop(model.named_parameters())
    assert ours.param_groups[0]["param_names"] == theirs.param_groups[0]["param_names"] == ["weight", "bias"]
    train(ours, 2)
    other = RMSprop(torch.nn.Linear(2, 3).named_parameters())
    other.load_state_dict(ours.state_dict())
    assert other.param_groups[0]["param_names"] == ["weight", "bias"]


# ---- inside other programs -------------------------------------------------------------------------------------------

IMPORT = """
import sys, torch
before = "torch._dynamo" in sys.modules
from rmsprop.torch import RMSprop
weight = torch.nn.Parameter(torch.ones(3))
weight.grad = torch.ones(3)
RMSprop([weight]).step()
print(before, "torch._dynamo" in sys.modules)
"""


def test_import_and_eager_step_do_not_load_the_compiler():
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    before, after = done.stdout.split()
    assert before == after


@pytest.mark.parametrize("cls", [RMSprop, TorchRMSprop])
def test_a_checkpoint_with_torchs_keys_alone_brings_its_numbers_and_keeps_the_groups_dialect(cls):
    saved, target = cls(make_params(), lr=0.5, alpha=0.8), RMSprop(make_params(), dialect="tensorflow1")
    train(saved, 2)
    target.load_state_dict(saved.state_dict())
    (group,) = target.param_groups
    assert (group["lr"], group["alpha"], group["dialect"]) == (0.5, 0.8, "tensorflow1")
    assert target.rule.eps_mode == "inside"


def test_the_dialect_is_where_tools_log_the_settings():
    """MLflow's autolog logs the numbers and texts of `optimizer.defaults`, others those of the groups."""
    for name in ("sb3", "torch"):
        optimizer = RMSprop(make_params(), dialect=name)
        for source in (optimizer.defaults, optimizer.param_groups[0]):
            assert source["dialect"] == name
        # A group of torch's dialect has torch's keys alone, so that checkpoints fit both ways under a strict planner.
        assert optimizer.state_dict()["param_groups"][0].get("dialect", "torch") == name


class SAM(torch.optim.Optimizer):
    """A sharpness-aware wrapper as they are commonly written: its settings go into the groups first."""

    def __init__(self, params, base, rho=0.05, **options):
        super().__init__(params, {"rho": rho, "adaptive": False, **options})
        self.base = base(self.param_groups, **options)
        self.param_groups = self.base.param_groups


def test_the_settings_of_a_sharpness_aware_wrapper_may_be_in_the_groups():
    wrappers = [SAM(make_params(), cls, alpha=0.9, lr=0.1) for cls in (RMSprop, TorchRMSprop)]
    for wrapper in wrappers:
        train(wrapper.base, 3)
    assert wrappers[0].param_groups[0]["rho"] == 0.05
    assert_near(*(wrapper.base for wrapper in wrappers), tolerance=3e-5)


@pytest.mark.parametrize("state_dtype", ["float32", "bfloat16"])
def test_the_mean_square_of_a_centered_state_can_be_read_and_not_written(state_dtype):
    ours = RMSprop(make_params(), centered=True, state_dtype=state_dtype)
    train(ours, 3)
    for param, saved in zip(ours.param_groups[0]["params"], ours.state_dict()["state"].values()):
        square = ours.state[param]["square_avg"]
        assert_same_bits([square.clone()], [saved["square_avg"]])
        assert set(ours.state[param]) == set(saved)
        with pytest.raises(RuntimeError, match="Inplace update to inference tensor"):
            square.zero_()
    with pytest.raises(KeyError, match="exp_avg"):
        ours.state[param]["exp_avg"]


@pytest.mark.parametrize("centered", [False, True])
def test_the_mean_square_of_an_8_bit_state_can_be_read(centered):
    coded, plain = (RMSprop(make_params(), centered=centered, state_dtype=dtype) for dtype in ("8bit", "float32"))
    train(coded, 3)
    plain.load_state_dict(coded.state_dict())  # decodes
    for a, b in zip(list_params(coded), list_params(plain)):
        assert torch.equal(coded.state[a]["square_avg"], plain.state[b]["square_avg"])
