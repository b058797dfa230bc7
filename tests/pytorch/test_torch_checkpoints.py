"""Promise: checkpoints are exchanged with torch's RMSprop; a resumed run has the bits of an uninterrupted one."""

import copy
import io
import itertools

import numpy as np
import pytest
import torch
from torch_helpers import (
    ROUNDINGS,
    STATES,
    RMSprop,
    TorchRMSprop,
    all_options,
    assert_near,
    assert_same_bits,
    decode_mean_square,
    list_params,
    make_pair,
    make_params,
    train,
)

from rmsprop import Rule
from rmsprop.errors import RMSpropWarning, StateError
from rmsprop.torch.state import read_square

TOLERANCES = [(torch.float32, 2e-5), (torch.float64, 1e-12), (torch.complex128, 1e-12)]


def write_and_read(state_dict):
    """Write and read a checkpoint as torch does, without code in it."""
    file = io.BytesIO()
    torch.save(state_dict, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def resume(cls, optimizer, **options):
    """Make another optimizer with copies of the parameters and the checkpoint of `optimizer`."""
    other = cls([torch.nn.Parameter(p.detach().clone()) for p in list_params(optimizer)], **options)
    other.load_state_dict(write_and_read(optimizer.state_dict()))
    return other


# ---- to and from torch -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
@pytest.mark.parametrize(("saves", "loads"), [(TorchRMSprop, RMSprop), (RMSprop, TorchRMSprop)])
@all_options
def test_a_checkpoint_of_one_is_continued_by_the_other(options, saves, loads, dtype, tolerance):
    first = saves(make_params(dtype=dtype), **options)
    train(first, 10)
    second = resume(loads, first)
    assert TorchRMSprop(make_params()).param_groups[0].keys() <= second.param_groups[0].keys()
    for optimizer in (first, second):
        train(optimizer, 10, start=10)
    assert_near(second, first, tolerance=tolerance)
    assert {float(state["step"]) for state in second.state.values()} == {20.0}


@all_options
def test_the_entries_are_torchs(options):
    ours, theirs = make_pair(dtype=torch.float64, **options)
    train(ours, 5)
    train(theirs, 5)
    for index, expected in theirs.state_dict()["state"].items():
        state = ours.state_dict()["state"][index]
        assert expected.keys() <= state.keys() <= expected.keys() | {"grad_var"}
        for key, value in expected.items():
            torch.testing.assert_close(state[key], value, rtol=1e-12, atol=1e-14)


@all_options
def test_half_precision_goes_to_torch_and_back(options):
    """torch keeps bfloat16 statistics; ours are float32 from there on."""
    ours = RMSprop(make_params(dtype=torch.bfloat16), **options)
    train(ours, 3)
    theirs = resume(TorchRMSprop, ours)
    train(theirs, 1, start=3)
    back = resume(RMSprop, theirs)
    train(back, 1, start=4)
    for param, state in back.state.items():
        assert state["step"] == 5
        assert {state[key].dtype for key in state.keys() - {"step"}} == {torch.float32}
        assert bool(param.isfinite().all())


def test_a_constant_gradient_from_torch_gives_no_nan():
    """If torch's difference of averages is negative, the variance that is loaded is 0."""
    theirs = TorchRMSprop([torch.nn.Parameter(torch.ones(3))], centered=True)
    train(theirs, 1)
    (state,) = theirs.state.values()
    state["grad_avg"].fill_(0.1)
    state["square_avg"].copy_(0.99 * state["grad_avg"] ** 2)
    ours = resume(RMSprop, theirs)
    (param,) = list_params(ours)
    assert not ours.state[param]["grad_var"].any()
    train(ours, 3)
    assert bool(param.isfinite().all())


def test_torch_raises_for_8_bit_codes():
    optimizer = RMSprop(make_params(), state_dtype="8bit", eager_state=True)
    with pytest.raises(KeyError, match="square_avg"):
        train(resume(TorchRMSprop, optimizer), 1)


# ---- resumed runs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("state_dtype", STATES)
@all_options
def test_a_run_interrupted_at_any_step_has_the_bits_of_an_uninterrupted_one(options, state_dtype, rounding):
    extra = {"state_dtype": state_dtype, "param_rounding": rounding, "seed": 4}
    expected = RMSprop(make_params([(), (300,), (5, 3, 4, 4), (2, 0)], torch.bfloat16), **extra, **options)
    matrix = list_params(expected)[2]
    matrix.data = matrix.data.to(memory_format=torch.channels_last)
    checkpoints = []
    for step in range(6):
        checkpoints.append((copy.deepcopy(list_params(expected)), write_and_read(expected.state_dict())))
        train(expected, 1, start=step)
    for step, (params, state_dict) in enumerate(checkpoints):
        resumed = RMSprop(params, lr=1.0, **extra)
        resumed.load_state_dict(state_dict)
        train(resumed, 6 - step, start=step)
        assert_same_bits(resumed, expected)


@pytest.mark.parametrize("dialect", ["tensorflow1", "keras3", "sb3"])
def test_a_checkpoint_contains_its_dialect(dialect):
    expected = RMSprop(make_params(), dialect=dialect)
    train(expected, 3)
    with pytest.warns(RMSpropWarning, match=f"a checkpoint of dialect {dialect!r} is loaded into a group of dialect"):
        resumed = resume(RMSprop, expected)
    train(expected, 3, start=3)
    train(resumed, 3, start=3)
    assert_same_bits(resumed, expected)


def test_a_checkpoint_contains_the_largest_lr():
    rule = Rule(weight_decay=0.1, weight_decay_mode="decoupled_corrected")
    expected = RMSprop(make_params(), lr=0.5, dialect=rule)
    train(expected, 1)
    expected.param_groups[0]["lr"] = 0.1
    resumed = resume(RMSprop, expected, dialect=rule)
    train(expected, 2, start=1)
    train(resumed, 2, start=1)
    assert_same_bits(resumed, expected)


# ---- other dtypes and memory orders ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(STATES, 2)))
@all_options
def test_a_state_is_converted_to_the_dtype_of_the_optimizer_that_loads_it(options, before, after):
    source = RMSprop(make_params([(7, 3, 8, 8), (300,)]), **options, state_dtype=before)
    train(source, 20)
    target = resume(RMSprop, source, state_dtype=after)
    # In another memory order, which the blocks of the code follow.
    changed = list_params(target)[0]
    changed.data = changed.data.to(memory_format=torch.channels_last)
    target.load_state_dict(copy.deepcopy(source.state_dict()))
    assert target.param_groups[0]["state_dtype"] == after
    back, reference = resume(RMSprop, target), resume(RMSprop, source)
    spacing = {"float32": 2.0**-23, "bfloat16": 2.0**-8, "8bit": 0.09}[after]
    for mine, theirs in zip(list_params(back), list_params(reference)):
        for key, value in reference.state[theirs].items():
            rtol = spacing if key in ("square_avg", "grad_var") or after != "8bit" else 2.0**-8
            torch.testing.assert_close(back.state[mine][key], value, rtol=rtol, atol=0.0)
    train(target, 2, start=20)
    train(source, 2, start=20)
    assert_near(target, source, tolerance=0.06)


def test_codes_keep_their_places_when_the_memory_order_changes():
    shape = (8, 16, 5, 5)
    values = torch.rand(shape, generator=torch.Generator().manual_seed(2)) ** 8
    for saved_as, loaded_as in itertools.product((torch.contiguous_format, torch.channels_last), repeat=2):
        first = torch.nn.Parameter(torch.zeros(shape).to(memory_format=saved_as))
        source = RMSprop([first], alpha=0.5, state_dtype="8bit")
        first.grad = values.clone()
        source.step()
        second = torch.nn.Parameter(torch.zeros(shape).to(memory_format=loaded_as))
        target = RMSprop([second], alpha=0.5, state_dtype="8bit")
        target.load_state_dict(source.state_dict())
        second.grad = torch.zeros(shape)
        target.step()
        # 1/2 g^2, then half of it; coded two or three times, neighboring codes are at most 16 % apart.
        expected = 0.25 * values**2
        near = expected > expected.max() * 1e-9
        ratio = (decode_mean_square(dict(target.state[second])) / expected)[near]
        assert (ratio.log().abs() < 3 * np.log(1.17)).all()


def test_parameters_in_another_memory_order_load_by_position():
    source = RMSprop(make_params([(4, 3, 5, 5)]), momentum=0.9)
    train(source, 2)
    (param,) = list_params(source)
    target = RMSprop([torch.nn.Parameter(param.detach().clone(memory_format=torch.channels_last))])
    target.load_state_dict(write_and_read(source.state_dict()))
    train(source, 2, start=2)
    train(target, 2, start=2)
    assert_same_bits(target, source)


@pytest.mark.parametrize("state_dtype", ["bfloat16", "8bit"])
def test_a_square_that_is_not_zero_is_not_loaded_as_zero(state_dtype):
    tiny = torch.tensor([1e-45, 1e-42, 0.0, 1e-40])
    param = torch.nn.Parameter(torch.zeros(4))
    source, target = RMSprop([param], eager_state=True), RMSprop([param], state_dtype=state_dtype)
    source.state[param]["square_avg"].copy_(tiny)
    target.load_state_dict(source.state_dict())
    assert torch.equal(decode_mean_square(dict(target.state[param])) == 0, tiny == 0)


# ---- what loading does not change ------------------------------------------------------------------------------------


def test_loading_copies():
    source = RMSprop(make_params(), momentum=0.9, lr=torch.tensor(0.1))
    train(source, 2)
    target = RMSprop(make_params(seed=1))
    target.load_state_dict(source.state_dict())
    before = copy.deepcopy(source)
    train(target, 2, start=2)
    target.param_groups[0]["lr"].fill_(7.0)
    assert source.param_groups[0]["lr"] == pytest.approx(0.1)
    assert_same_bits(source, before)


def test_empty_states_and_unknown_entries_are_kept():
    """Looking a parameter up leaves an empty entry; other keys stay."""
    _, theirs = make_pair()
    train(theirs, 1)
    theirs.state[list_params(theirs)[0]] = {}
    theirs.state[list_params(theirs)[1]]["extra"] = 5
    saved = theirs.state_dict()
    saved["state"]["note"] = {"from": "elsewhere"}
    ours = RMSprop(make_params())
    ours.load_state_dict(saved)
    first, second, *_ = list_params(ours)
    assert ours.state["note"] == {"from": "elsewhere"}
    assert ours.state[second]["extra"] == 5
    assert not ours.state.get(first)
    train(ours, 1)
    assert [float(ours.state[p]["step"]) for p in list_params(ours)] == [1.0, 2.0, 2.0, 2.0, 2.0]


# ---- errors ----------------------------------------------------------------------------------------------------------


def delete(key):
    return lambda state_dict: state_dict["state"][3].pop(key)


def replace(key, value):
    return lambda state_dict: state_dict["state"][3].__setitem__(key, value)


BAD = {
    "no square_avg": (delete("square_avg"), {}, r"^state\[3\]\['square_avg'\] is missing; found step"),
    "no step": (delete("step"), {}, r"^state\[3\]\['step'\] is missing; nothing was loaded$"),
    "no momentum_buffer": (delete("momentum_buffer"), {"momentum": 0.9}, r"state\[3\]\['momentum_buffer'\] is missing"),
    "no grad_avg": (delete("grad_avg"), {"centered": True}, r"state\[3\]\['grad_avg'\] is missing"),
    "no scales": (delete("square_avg_scale"), {"state_dtype": "8bit"}, r"state\[3\]\['square_avg_scale'\] is missing"),
    "shape of square_avg": (
        replace("square_avg", torch.zeros(5, 3)),
        {},
        r"^state\[3\]\['square_avg'\]: shape \(5, 3\), expected \(3, 5\); nothing was loaded$",
    ),
    "shape of momentum_buffer": (
        replace("momentum_buffer", torch.zeros(15)),
        {"momentum": 0.9},
        r"state\[3\]\['momentum_buffer'\]: shape \(15,\), expected \(3, 5\)",
    ),
    "shape of codes": (
        replace("square_avg_8bit", torch.zeros(3)),
        {"state_dtype": "8bit"},
        r"state\[3\]\['square_avg_8bit'\]: shape \(3,\), expected \(3, 5\)",
    ),
    "shape of maxima": (
        replace("square_avg_scale", torch.ones(2)),
        {"state_dtype": "8bit"},
        r"state\[3\]\['square_avg_scale'\]: shape \(2,\), expected 1, one for each block",
    ),
    "two steps": (replace("step", torch.zeros(2)), {}, r"state\[3\]\['step'\]: shape \(2,\), expected one number"),
    "alpha above 1": (lambda d: d["param_groups"][0].update(alpha=1.5), {}, "alpha=1.5"),
}


@pytest.mark.parametrize(("change", "options", "message"), BAD.values(), ids=BAD)
def test_a_damaged_checkpoint_raises_by_name_and_nothing_is_loaded(change, options, message):
    optimizer = RMSprop(make_params(), **options)
    train(optimizer, 2)
    state_dict = copy.deepcopy(optimizer.state_dict())
    change(state_dict)
    state_dict["param_groups"][0]["lr"] = 99.0
    before = copy.deepcopy(optimizer)
    with pytest.raises(StateError, match=message):
        optimizer.load_state_dict(state_dict)
    assert_same_bits(optimizer, before)
    assert optimizer.param_groups[0]["lr"] == 0.01


@pytest.mark.parametrize(
    ("other", "options", "key"),
    [
        (torch.optim.Adam, {}, "exp_avg"),
        (torch.optim.SGD, {"momentum": 0.9}, "momentum_buffer"),
        (torch.optim.Adagrad, {}, "sum"),
    ],
)
def test_the_state_of_another_optimizer_raises_with_its_keys(other, options, key):
    source = other(make_params(), **options)
    train(source, 2)
    ours = RMSprop(make_params())
    with pytest.raises(StateError, match=f"square_avg.*{key}"):
        ours.load_state_dict(source.state_dict())
    assert not ours.state


@pytest.mark.parametrize(
    "change",
    [lambda d: d["param_groups"].append(d["param_groups"][0]), lambda d: d["param_groups"][0]["params"].pop()],
    ids=["groups", "params"],
)
def test_another_number_of_groups_or_parameters_raises_torchs_error(change):
    messages = []
    for optimizer in make_pair():
        state_dict = copy.deepcopy(optimizer.state_dict())
        change(state_dict)
        with pytest.raises(ValueError) as caught:
            optimizer.load_state_dict(state_dict)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("centered", [False, True])
def test_a_checkpoint_of_the_former_8_bit_code_is_converted(centered):
    """That code had 254 steps over 40 octaves below the largest value of a block, kept under `..._max`."""
    optimizer = RMSprop(make_params([(300,)]), state_dtype="8bit", centered=centered)
    train(optimizer, 2)
    saved = copy.deepcopy(optimizer.state_dict())
    state, key = saved["state"][0], "grad_var" if centered else "square_avg"
    codes = torch.randint(0, 256, (300,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    maxima = torch.tensor([3.0, 0.02])
    state[f"{key}_8bit"], state[f"{key}_max"] = codes, maxima
    del state[f"{key}_scale"]
    state.pop("square_avg", None)
    bits = maxima.view(torch.int32).repeat_interleave(256)[:300] - (255 - codes.int()) * ((40 << 23) // 254)
    values = torch.where(codes == 0, 0, bits).view(torch.float32)
    optimizer.load_state_dict(saved)
    loaded = optimizer.state[optimizer.param_groups[0]["params"][0]]
    assert f"{key}_max" not in loaded
    new = read_square(loaded, key, codes)
    assert torch.equal(new == 0, values == 0)
    near = values > maxima.repeat_interleave(256)[:300] * 2.0**-31  # the new code ends there
    torch.testing.assert_close(new[near], values[near], rtol=0.0625, atol=0.0)
