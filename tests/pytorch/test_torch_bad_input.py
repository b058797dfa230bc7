"""Promise: what rmsprop.torch cannot take is refused by name, at construction or at a step, before anything changes."""

import copy
import math

import pytest

from torching import (
    RMSprop,
    assert_same_bits,
    bits,
    draw_grads,
    parameters,
    params_of,
    state_bits,
    train,
)

torch = pytest.importorskip("torch")

from rmsprop import Rule  # noqa: E402
from rmsprop.errors import InputError, InputTypeError, RuleError  # noqa: E402

NAN = float("nan")


# ---- at construction -------------------------------------------------------------------------------------------------

CONSTRUCTION = {
    "alpha above 1": ({"alpha": 1.5}, RuleError, "alpha=1.5, expected a finite number in [0, 1]"),
    "alpha NaN": ({"alpha": NAN}, ValueError, "Invalid alpha value: nan"),
    "momentum 1": ({"momentum": 1.0}, RuleError, "momentum=1.0, expected a finite number in [0, 1)"),
    "eps infinite": ({"eps": math.inf}, RuleError, "eps=inf, expected a finite number in [0, inf)"),
    "weight_decay infinite": ({"weight_decay": math.inf}, RuleError, "weight_decay=inf"),
    "lr NaN": ({"lr": NAN}, ValueError, "Invalid learning rate: nan"),
    "lr of two elements": ({"lr": torch.tensor([0.1, 0.2])}, ValueError, "Tensor lr must be 1-element"),
    "an unknown dialect": ({"dialect": "pytroch"}, RuleError, "pytroch"),
    "a dialect of another type": ({"dialect": 3}, InputTypeError, "dialect: a int, expected a dialect's name or a"),
    "a number beside a Rule": (
        {"dialect": Rule(rho=0.9), "alpha": 0.5},
        InputError,
        "alpha=0.5 contradicts the given Rule, which has rho=0.9",
    ),
    "an unknown rounding": (
        {"param_rounding": "up"},
        InputError,
        "param_rounding='up', expected one of 'nearest', 'stochastic', 'compensated'",
    ),
    "compensated float32": (
        {"param_rounding": "compensated"},
        InputTypeError,
        "params[0]: torch.float32, expected torch.bfloat16",
    ),
    "an unknown state_dtype": (
        {"state_dtype": "4bit"},
        InputError,
        "state_dtype='4bit', expected one of 'float32', 'bfloat16', '8bit'",
    ),
    "a torch dtype for a state_dtype": (
        {"state_dtype": torch.bfloat16},
        InputError,
        "state_dtype=torch.bfloat16, expected",
    ),
    "lazy with blocks": ({"lazy": True, "state_dtype": "8bit"}, InputError, 'lazy=True with state_dtype="8bit"'),
    "max_norm 0": ({"max_norm": 0}, InputError, "max_norm=0, expected a number above 0"),
    "max_norm NaN": ({"max_norm": NAN}, InputError, "max_norm=nan, expected a number above 0"),
    "max_norm True": ({"max_norm": True}, InputError, "max_norm=True, expected a number above 0"),
    "max_norm text": ({"max_norm": "1"}, InputError, "max_norm='1', expected a number above 0"),
    "seed negative": ({"seed": -1}, InputError, "seed=-1, expected a whole number of at least 0"),
    "seed a float": ({"seed": 1.5}, InputError, "seed=1.5, expected a whole number of at least 0"),
    "seed too large": ({"seed": 2**63}, InputError, f"seed={2**63}, expected a whole number"),
}


@pytest.mark.parametrize(("options", "error", "message"), CONSTRUCTION.values(), ids=CONSTRUCTION)
def test_bad_arguments_are_refused_by_name(options, error, message):
    with pytest.raises(error) as caught:
        RMSprop(parameters(), **options)
    assert message in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("group", "error", "message"),
    [
        ({"alpha": 2.0}, RuleError, "alpha=2.0"),
        ({"momentum": NAN}, RuleError, "momentum=nan"),
        ({"state_dtype": "int8"}, InputError, "state_dtype='int8'"),
        ({"param_rounding": "down"}, InputError, "param_rounding='down'"),
        ({"param_rounding": "compensated"}, InputTypeError, "expected torch.bfloat16"),
        ({"dialect": "nobody"}, RuleError, "nobody"),
    ],
    ids=str,
)
def test_a_bad_group_is_refused_and_not_added(group, error, message):
    optimizer = RMSprop(parameters([(2,)]))
    with pytest.raises(error) as caught:
        optimizer.add_param_group({"params": parameters([(3,)]), **group})
    assert message in str(caught.value)
    assert len(optimizer.param_groups) == 1
    train(optimizer, 1)


# ---- at a step -------------------------------------------------------------------------------------------------------


def two_groups(**options):
    first, *rest = parameters()
    optimizer = RMSprop([{"params": [first]}, {"params": rest}], **options)
    train(optimizer, 1)
    draw_grads(params_of(optimizer), 1)
    return optimizer


def _second(**numbers):
    return lambda o: o.param_groups[1].update(numbers)


def _share(first, second):
    """Let parameter `second` lie in the memory of `first`."""

    def apply(optimizer):
        params = params_of(optimizer)
        memory = torch.zeros(200)
        params[first].data = memory[: params[first].numel()].view(params[first].shape)
        begin = params[first].numel() - 1
        params[second].data = memory[begin : begin + params[second].numel()].view(params[second].shape)

    return apply


def _grad_in_param(optimizer):
    param = params_of(optimizer)[3]
    param.grad = param.data


STEP = {
    "lr NaN": (_second(lr=NAN), InputError, "param_groups[1]['lr']: nan, expected a finite number of at least 0"),
    "lr negative": (
        _second(lr=-0.1),
        InputError,
        "param_groups[1]['lr']: -0.1, expected a finite number of at least 0",
    ),
    "lr infinite": (_second(lr=math.inf), InputError, "param_groups[1]['lr']: inf, expected a finite number"),
    "lr of two elements": (
        _second(lr=torch.tensor([0.1, 0.2])),
        InputError,
        "param_groups[1]['lr']: a tensor of 2 elements, expected one",
    ),
    "alpha": (_second(alpha=1.5), RuleError, "alpha=1.5"),
    "momentum": (_second(momentum=1.0), RuleError, "momentum=1.0"),
    "shared in a group": (
        _share(2, 3),
        InputError,
        "param_groups[1]['params'][2]: shares memory with param_groups[1]['params'][1], expected memory of its own",
    ),
    "shared across groups": (
        lambda o: (_share(0, 3)(o), o.state.clear()),
        InputError,
        "param_groups[1]['params'][2]: shares memory with param_groups[0]['params'][0]",
    ),
    "a gradient in its parameter": (_grad_in_param, InputError, "grads[2]: shares memory with params[2]"),
}


@pytest.mark.parametrize(("change", "error", "message"), STEP.values(), ids=STEP)
def test_a_bad_step_is_refused_by_name_and_changes_nothing(change, error, message):
    optimizer = two_groups()
    change(optimizer)
    draw_grads([p for p in params_of(optimizer) if p.grad is None or p.grad.data_ptr() != p.data_ptr()], 1)
    params, states = bits(params_of(optimizer)), state_bits(optimizer) if optimizer.state else None
    with pytest.raises(error) as caught:
        optimizer.step()
    assert message in str(caught.value)
    if (
        "grads" not in message and "shares memory with params" not in message
    ):  # the first group is a crossing of its own
        assert bits(params_of(optimizer)) == params
        assert states is None or state_bits(optimizer) == states
    assert bits(params_of(optimizer)[1:]) == params[1:]


@pytest.mark.parametrize("scale", [0.0, -1.0, NAN, math.inf])
def test_a_scale_that_is_none_is_refused(scale):
    optimizer = two_groups()
    before = copy.deepcopy(optimizer)
    with pytest.raises(InputError, match=r"grad_scale: .*, expected a finite number above 0"):
        optimizer.step(grad_scale=scale)
    assert_same_bits(optimizer, before)


def test_an_expanded_parameter_is_refused_by_name():
    weight = torch.ones(1).expand(4).requires_grad_()
    weight.grad = torch.ones(4)
    with pytest.raises(
        InputError, match=r"param_groups\[0\]\['params'\]\[0\]: strides \(0,\) put several elements into one"
    ):
        RMSprop([weight]).step()


def test_one_parameter_in_two_places_of_a_group_is_refused_at_the_step():
    """torch warns and steps it twice."""
    weight = torch.nn.Parameter(torch.ones(3))
    weight.grad = torch.ones(3)
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optimizer = RMSprop([weight, weight])
    with pytest.raises(InputError, match=r"\['params'\]\[1\]: shares memory with param_groups\[0\]\['params'\]\[0\]"):
        optimizer.step()
    assert_same_bits([weight], [torch.ones(3)])


@pytest.mark.parametrize(
    ("options", "dtype"),
    [({"state_dtype": "bfloat16"}, torch.float32), ({"state_dtype": "8bit"}, torch.float32),
     ({"param_rounding": "stochastic"}, torch.bfloat16), ({"param_rounding": "compensated"}, torch.bfloat16)],
    ids=str,
)  # fmt: skip
def test_what_only_the_kernel_does_is_refused_elsewhere_before_anything_changes(options, dtype):
    weight = torch.nn.Parameter(torch.ones(3, dtype=dtype))
    other = torch.nn.Parameter(torch.empty(3, device="meta", dtype=dtype))
    optimizer = RMSprop([weight, other], **options)
    weight.grad, other.grad = torch.ones_like(weight), torch.empty_like(other)
    with pytest.raises(InputTypeError) as caught:
        optimizer.step()
    ((option, value),) = options.items()
    assert f"param_groups[0]['params'][1]: a {dtype} Parameter on meta" in str(caught.value)
    assert f"{option}={value!r}" in str(caught.value)
    assert_same_bits([weight], [torch.ones(3, dtype=dtype)])
