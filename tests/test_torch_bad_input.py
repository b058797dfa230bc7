"""What rmsprop.torch refuses, by name and before anything has changed; what looks odd and works; clipping to a norm."""

import copy
import math
import os

import pytest

from torching import (
    Host,
    RMSprop,
    assert_near,
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
        "rho=0.5 beside a dialect=Rule with rho=0.9",
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


# ---- what looks odd and works ----------------------------------------------------------------------------------------


def test_tied_weights_are_one_parameter():
    """As nn.Module.parameters() gives it: once."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    optimizer = RMSprop(model.parameters())
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    assert optimizer.state[model[0].weight]["step"] == 1


def test_parameters_side_by_side_in_one_memory_are_their_own():
    memory = torch.arange(12.0)
    first, second = (torch.nn.Parameter(memory[i : i + 6]) for i in (0, 6))
    for groups in ([first, second], [{"params": [first]}, {"params": [second]}]):
        train(RMSprop(groups), 1)
    interleaved = [torch.nn.Parameter(memory[i::2]) for i in (0, 1)]
    alone = [torch.nn.Parameter(p.detach().clone()) for p in interleaved]
    for params in (interleaved, alone):
        train(RMSprop([{"params": [p]} for p in params]), 3)
    assert_same_bits(interleaved, alone)


def test_two_parameters_may_have_one_gradient():
    first, second = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    first.grad = second.grad = torch.tensor([1.0, -2.0, 3.0])
    RMSprop([first, second]).step()
    assert_same_bits([first], [second])


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0, 2)])
@pytest.mark.parametrize(
    "options", [{}, {"centered": True, "momentum": 0.9}, {"state_dtype": "8bit"}, {"max_norm": 1.0}]
)
def test_empty_parameters_step(shape, options):
    optimizer = RMSprop(parameters([shape, (3,), shape]), **options)
    alone = RMSprop(parameters([shape, (3,)])[1:], **options)
    draw_grads(params_of(optimizer), 0)
    params_of(alone)[0].grad = params_of(optimizer)[1].grad.clone()
    with torch.no_grad():
        params_of(alone)[0].copy_(params_of(optimizer)[1])
    optimizer.step()
    alone.step()
    assert_same_bits(params_of(optimizer)[1:2], params_of(alone))


def test_no_gradient_at_all_is_no_step():
    optimizer = RMSprop(parameters(), max_norm=1.0)
    before = bits(params_of(optimizer))
    optimizer.step()
    assert bits(params_of(optimizer)) == before
    assert not optimizer.state


@pytest.mark.skipif(os.environ.get("RMSPROP_LARGE") != "1", reason="needs 13 GB; RMSPROP_LARGE=1 runs it")
def test_more_elements_than_32_bits_count():
    """bfloat16 parameter, gradient and state of 2**31 + 8 elements; both ends step like a small tensor."""
    count = 2**31 + 8
    weight = torch.nn.Parameter(torch.ones(count, dtype=torch.bfloat16))
    weight.grad = torch.zeros(count, dtype=torch.bfloat16)
    small = torch.nn.Parameter(torch.ones(16, dtype=torch.bfloat16))
    small.grad = torch.linspace(-2, 2, 16, dtype=torch.bfloat16)
    weight.grad[:8], weight.grad[-8:] = small.grad[:8], small.grad[8:]
    large, expected = (RMSprop([p], state_dtype="bfloat16", alpha=0.75, lr=0.125) for p in (weight, small))
    large.step()
    expected.step()
    ends = torch.cat([weight.detach()[:8], weight.detach()[-8:]])
    assert bool((ends != 1).all())
    torch.testing.assert_close(
        ends, small.detach(), rtol=2**-8, atol=0
    )  # stochastic state: another place, another draw
    middle = weight.detach()[2**31 - 8 : 2**31]
    assert bool((middle == 1).all())


# ---- clipping to a global norm ---------------------------------------------------------------------------------------


def clipped_by_torch(optimizer, limit, steps):
    norms = []
    for step in range(steps):
        draw_grads(params_of(optimizer), step)
        norms.append(float(torch.nn.utils.clip_grad_norm_(params_of(optimizer), limit)))
        optimizer.step()
    return norms


def clipped_inside(optimizer, steps):
    norms = []
    for step in range(steps):
        draw_grads(params_of(optimizer), step)
        optimizer.step()
        norms.append(optimizer.grad_norm)
    return norms


@pytest.mark.parametrize("limit", [0.1, 5.0, 12.0, 1e9])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_max_norm_is_clip_grad_norm_and_a_step(dtype, tolerance, groups, limit):
    def made(cls, **options):
        params = parameters(dtype=dtype)
        split = [params] if groups == 1 else [params[:2], params[2:3], params[3:]]
        return cls([{"params": part, "lr": 0.01 * (k + 1)} for k, part in enumerate(split)], momentum=0.5, **options)

    ours, theirs = made(RMSprop, max_norm=limit), made(Host)
    norms, expected = clipped_inside(ours, 10), clipped_by_torch(theirs, limit, 10)
    assert norms == pytest.approx(expected, rel=tolerance)
    assert_near(params_of(ours), params_of(theirs), tolerance=tolerance)


def test_the_norm_is_known_where_it_is_asked_for():
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    optimizer = RMSprop([weight])
    optimizer.step()
    assert math.isnan(optimizer.grad_norm)
    optimizer = RMSprop([weight], max_norm=1.0)
    optimizer.step()
    assert optimizer.grad_norm == 5.0
    assert RMSprop([weight], max_norm=math.inf).max_norm == 0.0


def test_the_norm_is_of_the_unscaled_gradients():
    plain, scaled = (RMSprop(parameters(), max_norm=0.5) for _ in range(2))
    draw_grads(params_of(plain), 0)
    draw_grads(params_of(scaled), 0)
    for param in params_of(scaled):
        param.grad.mul_(1024.0)
    plain.step()
    scaled.step(grad_scale=1024.0)
    assert scaled.grad_norm == plain.grad_norm
    assert_same_bits(scaled, plain)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_gradient_that_is_not_finite_is_seen_as_with_torch(groups):
    """clip_grad_norm_ turns an infinite gradient into NaN and the others into 0, a NaN into NaN everywhere."""
    for poison in (math.inf, NAN):
        runs = []
        for cls in (RMSprop, Host):
            first, second = parameters([(4,), (3,)])
            split = [[first, second]] if groups == 1 else [[first], [second]]
            optimizer = cls([{"params": part} for part in split], **({"max_norm": 1.0} if cls is RMSprop else {}))
            draw_grads([first, second], 0)
            first.grad[1] = poison
            if cls is Host:
                torch.nn.utils.clip_grad_norm_([first, second], 1.0)
            optimizer.step()
            runs.append([first, second])
        for ours, theirs in zip(*runs):
            assert ours.isnan().tolist() == theirs.isnan().tolist()


@pytest.mark.parametrize("groups", [1, 2])
def test_finite_gradients_whose_norm_overflows_are_refused(groups):
    first, second = parameters([(4,), (3,)], torch.float64)
    optimizer = RMSprop([{"params": [first, second]}] if groups == 1 else [{"params": [first]}, {"params": [second]}],
                        max_norm=1.0)  # fmt: skip
    draw_grads([first, second], 0)
    first.grad[0] = 1e200
    before = bits([first, second])
    with pytest.raises(InputError, match="the sum of their squares overflows, so max_norm cannot scale them"):
        optimizer.step()
    assert bits([first, second]) == before


@pytest.mark.parametrize("options", [{}, {"centered": True}], ids=str)
def test_clipping_reaches_sparse_complex_and_strided_parameters(options):
    runs = []
    for cls in (RMSprop, Host):
        shapes = [(4, 3), (5,)]
        real, other = parameters(shapes, torch.float64)
        (wide,) = parameters([(3,)], torch.complex128)
        gaps = torch.nn.Parameter(other.detach().repeat_interleave(2)[::2])
        params = [real, wide, gaps]
        optimizer = cls(params, **options, **({"max_norm": 0.3} if cls is RMSprop else {}))
        for step in range(4):
            draw_grads(params, step)
            if cls is Host:
                torch.nn.utils.clip_grad_norm_(params, 0.3)
            else:
                real.grad = real.grad.to_sparse(1)
            optimizer.step()
        runs.append(params)
    assert_near(*runs)
