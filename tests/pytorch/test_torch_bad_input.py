"""Promise: bad input raises with the name of the argument, before anything changes."""

import copy
import math

import pytest
import torch
from torch_helpers import RMSprop, assert_near, assert_same_bits, draw_grads, list_params, make_params, train

import rmsprop
from rmsprop import Rule
from rmsprop.errors import InputError, InputTypeError, RuleError
from rmsprop.torch import layout

NAN = float("nan")

ARGUMENTS = {
    "alpha above 1": ({"alpha": 1.5}, RuleError, r"alpha=1.5, expected a finite number in \[0, 1\]"),
    "alpha NaN": ({"alpha": NAN}, ValueError, "alpha"),
    "momentum 1": ({"momentum": 1.0}, RuleError, "momentum"),
    "momentum NaN": ({"momentum": NAN}, ValueError, "momentum"),
    "eps infinite": ({"eps": math.inf}, RuleError, "eps"),
    "weight_decay infinite": ({"weight_decay": math.inf}, RuleError, "weight_decay"),
    "lr NaN": ({"lr": NAN}, ValueError, "learning rate"),
    "lr of two elements": ({"lr": torch.tensor([0.1, 0.2])}, ValueError, "lr"),
    "unknown dialect": ({"dialect": "pytroch"}, RuleError, "pytroch"),
    "dialect of another type": ({"dialect": 3}, InputTypeError, "dialect: a int"),
    "number beside a Rule": ({"dialect": Rule(rho=0.9), "alpha": 0.5}, InputError, "alpha=0.5 contradicts"),
    "unknown param_rounding": (
        {"param_rounding": "up"},
        InputError,
        "^param_rounding='up', expected one of 'nearest', 'stochastic', 'compensated'$",
    ),
    "compensated float32": ({"param_rounding": "compensated"}, InputTypeError, r"params\[0\]: torch.float32"),
    "unknown state_dtype": ({"state_dtype": "4bit"}, InputError, "state_dtype='4bit'"),
    "state_dtype a torch dtype": ({"state_dtype": torch.bfloat16}, InputError, "state_dtype"),
    "lazy a text": ({"lazy": "no"}, InputTypeError, "^lazy='no', expected True or False$"),
    "eager_state a text": ({"eager_state": "no"}, InputTypeError, "eager_state='no'"),
    "capturable a text": ({"capturable": "no"}, InputTypeError, "capturable='no'"),
    "differentiable a text": ({"differentiable": "no"}, InputTypeError, "differentiable='no'"),
    "lazy with blocks": ({"lazy": True, "state_dtype": "8bit"}, InputError, 'lazy=True with state_dtype="8bit"'),
    "max_norm 0": ({"max_norm": 0}, InputError, "^max_norm=0, expected a number above 0, or None for no clipping$"),
    "max_norm NaN": ({"max_norm": NAN}, InputError, "max_norm"),
    "max_norm True": ({"max_norm": True}, InputError, "max_norm"),
    "max_norm text": ({"max_norm": "1"}, InputError, "max_norm"),
    "seed negative": ({"seed": -1}, InputError, "^seed=-1, expected a whole number of at least 0"),
    "seed a float": ({"seed": 1.5}, InputError, "seed"),
    "seed too large": ({"seed": 2**63}, InputError, "seed"),
}


@pytest.mark.parametrize(("options", "error", "message"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_bad_arguments_raise_by_name(options, error, message):
    with pytest.raises(error, match=message) as caught:
        RMSprop(make_params(), **options)
    assert isinstance(caught.value, ValueError)


BAD_GROUPS = [
    ({"alpha": 2.0}, RuleError, "alpha"),
    ({"momentum": NAN}, RuleError, "momentum"),
    ({"state_dtype": "int8"}, InputError, "state_dtype"),
    ({"param_rounding": "down"}, InputError, "param_rounding"),
    ({"param_rounding": "compensated"}, InputTypeError, "expected torch.bfloat16"),
    ({"dialect": "nobody"}, RuleError, "nobody"),
    ({"lazy": "no"}, InputTypeError, "lazy='no'"),
    ({"capturable": "yes"}, InputTypeError, "capturable='yes'"),
    ({"alpha": 9.0, "rho": 0.05, "adaptive": False}, RuleError, "alpha=9.0, .* WSAM, needs another key"),
    ({"max_norm": 1.0}, InputTypeError, "'max_norm' is an argument of the optimizer, not of a group"),
    ({"rho": 0.9}, InputTypeError, "alpha"),
    ({"momentun": 0.9}, InputTypeError, "momentum"),
]


@pytest.mark.parametrize(("group", "error", "message"), BAD_GROUPS, ids=str)
def test_a_bad_group_raises_and_is_not_added(group, error, message):
    optimizer = RMSprop(make_params([(2,)]))
    with pytest.raises(error, match=message):
        optimizer.add_param_group({"params": make_params([(3,)]), **group})
    assert len(optimizer.param_groups) == 1
    train(optimizer, 1)


def test_an_assigned_rule_raises_and_names_the_cure():
    optimizer = RMSprop(make_params(), dialect="keras3")
    before = repr(optimizer)
    with pytest.raises(InputTypeError, match=r"^rule: cannot be assigned; set a number in param_groups"):
        optimizer.rule = Rule(rho=0.5)
    assert repr(optimizer) == before
    assert optimizer.rule == rmsprop.dialect("keras3")


# ---- at a step -------------------------------------------------------------------------------------------------------


def set_in_second_group(**numbers):
    return lambda optimizer: optimizer.param_groups[1].update(numbers)


def place_in_memory_of(first, second):
    """Let parameter `second` share memory with `first`; the state is cleared, so that all groups are checked."""

    def change(optimizer):
        params = list_params(optimizer)
        memory = torch.zeros(200)
        params[first].data = memory[: params[first].numel()].view(params[first].shape)
        begin = params[first].numel() - 1
        params[second].data = memory[begin : begin + params[second].numel()].view(params[second].shape)
        optimizer.state.clear()

    return change


BAD_STEPS = {
    "lr NaN": (set_in_second_group(lr=NAN), InputError, r"^param_groups\[1\]\['lr'\]: nan, expected a finite number"),
    "lr negative": (set_in_second_group(lr=-0.1), InputError, r"param_groups\[1\]\['lr'\]: -0.1"),
    "lr infinite": (set_in_second_group(lr=math.inf), InputError, r"param_groups\[1\]\['lr'\]: inf"),
    "lr of two elements": (
        set_in_second_group(lr=torch.tensor([0.1, 0.2])),
        InputError,
        r"param_groups\[1\]\['lr'\]: a tensor of 2 elements, expected one",
    ),
    "alpha": (set_in_second_group(alpha=1.5), RuleError, "alpha=1.5"),
    "momentum": (set_in_second_group(momentum=1.0), RuleError, "momentum=1.0"),
    "memory shared in a group": (
        place_in_memory_of(2, 3),
        InputError,
        r"param_groups\[1\]\['params'\]\[2\]: shares memory with param_groups\[1\]\['params'\]\[1\], expected memory",
    ),
    "memory shared across groups": (
        place_in_memory_of(0, 3),
        InputError,
        r"param_groups\[1\]\['params'\]\[2\]: shares memory with param_groups\[0\]\['params'\]\[0\]",
    ),
}


@pytest.mark.parametrize(("change", "error", "message"), BAD_STEPS.values(), ids=BAD_STEPS)
def test_a_bad_step_raises_by_name_and_changes_nothing(change, error, message):
    first, *rest = make_params()
    optimizer = RMSprop([{"params": [first]}, {"params": rest}])
    train(optimizer, 1)
    change(optimizer)
    draw_grads(list_params(optimizer), 1)
    params, states = copy.deepcopy(list_params(optimizer)), copy.deepcopy([optimizer.state.get(first)])
    with pytest.raises(error, match=message):
        optimizer.step()
    assert_same_bits(list_params(optimizer), params)
    for state in filter(None, states):
        assert_same_bits(list(state.values()), list(optimizer.state[first].values()))


def test_a_gradient_in_the_memory_of_its_parameter_raises_and_its_group_does_not_change():
    optimizer = RMSprop(make_params())
    train(optimizer, 1)
    draw_grads(list_params(optimizer), 1)
    list_params(optimizer)[2].grad = list_params(optimizer)[2].data
    before = copy.deepcopy(list_params(optimizer))
    with pytest.raises(InputError, match=r"grads\[2\]: shares memory with params\[2\]"):
        optimizer.step()
    assert_same_bits(list_params(optimizer), before)


@pytest.mark.parametrize("scale", [0.0, -1.0, NAN, math.inf])
def test_a_bad_grad_scale_raises_and_changes_nothing(scale):
    optimizer = RMSprop(make_params())
    train(optimizer, 1)
    before = copy.deepcopy(optimizer)
    with pytest.raises(InputError, match=r"grad_scale: .*, expected a finite number above 0"):
        optimizer.step(grad_scale=scale)
    assert_same_bits(optimizer, before)


@pytest.mark.parametrize(("shape", "strides"), [((4,), (0,)), ((2, 3), (0, 1)), ((3, 4), (1, 1)), ((2, 3), (3, 2))])
def test_a_parameter_whose_elements_share_memory_raises_and_others_step(shape, strides):
    memory = torch.ones(20)
    weight = torch.nn.Parameter(memory.as_strided(shape, strides))
    weight.grad = torch.ones(shape)
    if strides == (3, 2):  # its axes interleave and share nothing
        RMSprop([weight]).step()
        assert torch.equal(weight, torch.full(shape, weight[0, 0].item()))
        return
    with pytest.raises(InputError, match=r"params'\]\[0\]: strides .* several elements into one memory location"):
        RMSprop([weight]).step()
    assert torch.equal(memory, torch.ones(20))


@pytest.mark.parametrize("is_wrapped_outside", [False, True])
def test_inference_tensors_step_where_torch_steps_them(is_wrapped_outside):
    def step(cls):
        with torch.inference_mode():
            weight = torch.nn.Parameter(torch.ones(3), requires_grad=False)
            optimizer = cls([weight], lr=0.1)
            if not is_wrapped_outside:
                weight.grad = torch.ones(3)
                optimizer.step()
        if is_wrapped_outside:
            weight = torch.nn.Parameter(weight, requires_grad=False)
            optimizer = cls([weight], lr=0.1)
        weight.grad = torch.ones(3)
        try:
            optimizer.step()
        except (RuntimeError, InputError):
            return "raised", weight.tolist()
        return "stepped", weight.tolist()

    ours, theirs = step(RMSprop), step(torch.optim.RMSprop)
    assert ours[0] == theirs[0]
    assert ours[1] == pytest.approx(theirs[1], rel=1e-6, abs=1e-6)


def test_an_expanded_parameter_raises_by_name():
    weight = torch.ones(1).expand(4).requires_grad_()
    weight.grad = torch.ones(4)
    with pytest.raises(InputError, match=r"param_groups\[0\]\['params'\]\[0\]: strides \(0,\) put several elements"):
        RMSprop([weight]).step()


def test_one_parameter_in_two_places_of_a_group_raises_at_the_step():
    """torch warns and steps it twice."""
    weight = torch.nn.Parameter(torch.ones(3))
    weight.grad = torch.ones(3)
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optimizer = RMSprop([weight, weight])
    with pytest.raises(InputError, match=r"\['params'\]\[1\]: shares memory with param_groups\[0\]\['params'\]\[0\]"):
        optimizer.step()
    assert_same_bits([weight], [torch.ones(3)])


def test_shared_data_raises_and_names_the_cure():
    first, second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    second.weight.data = first.weight.data
    optimizer = RMSprop([first.weight, second.weight])
    first.weight.grad, second.weight.grad = torch.ones(3, 3), torch.ones(3, 3)
    with pytest.raises(InputError, match=r"to tie weights, assign the Parameter itself \(b.weight = a.weight"):
        optimizer.step()


def test_a_first_gradient_in_shared_memory_raises_before_an_earlier_group_has_stepped():
    first, second = make_params([(3,), (3,)])
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


def test_shared_memory_raises_before_a_sparse_gradient_of_the_group_has_stepped():
    first, second = make_params([(3,), (3,)])
    params = [first, second, torch.nn.Parameter(second.data)]
    optimizer = RMSprop(params)
    draw_grads(params, 0)
    first.grad = first.grad.to_sparse()
    before = copy.deepcopy(params)
    with pytest.raises(ValueError, match="shares memory"):
        optimizer.step()
    assert_same_bits(params, before)


KERNEL_ONLY = [
    ({"state_dtype": "bfloat16"}, torch.float32),
    ({"state_dtype": "8bit"}, torch.float32),
    ({"param_rounding": "stochastic"}, torch.bfloat16),
    ({"param_rounding": "compensated"}, torch.bfloat16),
]


@pytest.mark.parametrize(("options", "dtype"), KERNEL_ONLY, ids=str)
def test_an_option_that_only_the_kernel_has_raises_elsewhere_before_anything_changes(options, dtype):
    weight = torch.nn.Parameter(torch.ones(3, dtype=dtype))
    other = torch.nn.Parameter(torch.empty(3, device="meta", dtype=dtype))
    optimizer = RMSprop([weight, other], **options)
    weight.grad, other.grad = torch.ones_like(weight), torch.empty_like(other)
    ((option, value),) = options.items()
    place = rf"param_groups\[0\]\['params'\]\[1\]: a {dtype} Parameter on meta"
    with pytest.raises(InputTypeError, match=f"{place}.*{option}='{value}'"):
        optimizer.step()
    assert_same_bits([weight], [torch.ones(3, dtype=dtype)])


class Marked(torch.Tensor):
    """A tensor subclass."""


def test_a_gradient_that_the_kernel_cannot_take_raises_with_such_an_option():
    weight = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    weight.grad = torch.ones(3, dtype=torch.bfloat16).as_subclass(Marked)
    optimizer = RMSprop([weight], param_rounding="stochastic")
    with pytest.raises(InputTypeError, match=r"params\[0\]: a gradient of type Marked.*param_rounding='stochastic'"):
        optimizer.step()
    assert_same_bits([weight], [torch.ones(3, dtype=torch.bfloat16)])


def test_rows_that_the_kernel_cannot_take_raise_with_such_an_option(monkeypatch):
    monkeypatch.setattr(layout, "make_piece", lambda *_: None)
    weight = torch.nn.Parameter(torch.ones(3, 2, dtype=torch.bfloat16))
    weight.grad = torch.ones_like(weight, requires_grad=False).to_sparse(1)
    optimizer = RMSprop([weight], param_rounding="stochastic", lazy=True)
    with pytest.raises(InputTypeError, match=r"params\[0\]: a gradient of type Tensor.*param_rounding='stochastic'"):
        optimizer.step()
    assert_same_bits([weight], [torch.ones(3, 2, dtype=torch.bfloat16)])


@pytest.mark.parametrize("state_dtype", ["bfloat16", "8bit"])
def test_a_float64_parameter_in_a_group_of_narrow_states_takes_any_gradient(state_dtype):
    """Its statistics are float64, so the option does not apply to it."""
    ours, plain = (make_params([(3,)], torch.float64) for _ in range(2))
    ours[0].grad, plain[0].grad = torch.ones(3).double().as_subclass(Marked), torch.ones(3).double()
    RMSprop(ours, state_dtype=state_dtype).step()
    RMSprop(plain).step()
    assert_near(ours, plain)
