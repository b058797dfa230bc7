"""Checkpoints go both ways between this optimizer and torch's; a resumed run has the bits of an uninterrupted one."""

import copy
import io

import pytest
import torch

from rmsprop import Rule
from rmsprop.errors import RMSpropWarning, StateError
from torch_helpers import (
    ROUNDINGS,
    STATES,
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

DTYPES = {"float32": torch.float32, "float64": torch.float64, "complex128": torch.complex128}
NEAR = {"float32": 2e-5, "float64": 1e-12, "complex128": 1e-12}


def through_a_file(state_dict):
    """Write and read a checkpoint as torch does, without code in it."""
    file = io.BytesIO()
    torch.save(state_dict, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def with_the_params_of(optimizer, cls, **options):
    return cls([torch.nn.Parameter(p.detach().clone()) for p in list_params(optimizer)], **options)


# ---- both ways -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@all_options
def test_a_checkpoint_of_torch_is_continued(dtype, options):
    _, theirs = make_pair(dtype=DTYPES[dtype], **options)
    train(theirs, 10)
    ours = with_the_params_of(theirs, RMSprop)
    ours.load_state_dict(through_a_file(theirs.state_dict()))
    assert theirs.param_groups[0].keys() <= ours.param_groups[0].keys()
    train(theirs, 10, start=10)
    train(ours, 10, start=10)
    assert_near(ours, theirs, tolerance=NEAR[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@all_options
def test_torch_continues_a_checkpoint_of_ours(dtype, options):
    ours, _ = make_pair(dtype=DTYPES[dtype], **options)
    train(ours, 10)
    theirs = with_the_params_of(ours, TorchRMSprop)
    theirs.load_state_dict(through_a_file(ours.state_dict()))
    train(ours, 10, start=10)
    train(theirs, 10, start=10)
    assert_near(ours, theirs, tolerance=NEAR[dtype])
    assert {float(state["step"]) for state in theirs.state.values()} == {20.0}


@all_options
def test_the_entries_are_torchs(options):
    ours, theirs = make_pair(dtype=torch.float64, **options)
    train(ours, 5)
    train(theirs, 5)
    for index, expected in theirs.state_dict()["state"].items():
        state = ours.state_dict()["state"][index]
        assert expected.keys() <= state.keys() <= expected.keys() | {"grad_var"}
        for key, value in expected.items():
            assert state[key].dtype == value.dtype
            assert state[key].shape == value.shape
            torch.testing.assert_close(state[key], value, rtol=1e-12, atol=1e-14)


@all_options
def test_half_precision_goes_to_torch_and_back(options):
    """torch keeps bfloat16 statistics; ours are float32 from there on."""
    ours = RMSprop(make_params(dtype=torch.bfloat16), **options)
    train(ours, 3)
    theirs = with_the_params_of(ours, TorchRMSprop)
    theirs.load_state_dict(through_a_file(ours.state_dict()))
    train(theirs, 1, start=3)
    back = with_the_params_of(theirs, RMSprop)
    back.load_state_dict(through_a_file(theirs.state_dict()))
    train(back, 1, start=4)
    for param, state in back.state.items():
        assert state["step"] == 5
        for key in state.keys() - {"step"}:
            assert state[key].dtype == torch.float32
        assert bool(param.isfinite().all())


def test_a_constant_gradient_goes_to_ours_without_nan():
    """Where torch's difference of averages is negative, the variance that is loaded is 0."""
    weight = torch.nn.Parameter(torch.ones(3))
    theirs = TorchRMSprop([weight], centered=True)
    weight.grad = torch.full((3,), 0.1)
    theirs.step()
    state = theirs.state[weight]
    state["grad_avg"].fill_(0.1)
    state["square_avg"].copy_(0.99 * state["grad_avg"] ** 2)
    ours = RMSprop([torch.nn.Parameter(torch.ones(3))], centered=True)
    ours.load_state_dict(theirs.state_dict())
    (param,) = list_params(ours)
    assert not ours.state[param]["grad_var"].any()
    train(ours, 3)
    assert bool(param.isfinite().all())


# ---- resumed ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("state_dtype", STATES)
@all_options
def test_a_run_interrupted_at_any_step_has_the_bits_of_an_uninterrupted_one(options, state_dtype, rounding):
    shapes = [(), (300,), (3, 5)]
    extra = {"state_dtype": state_dtype, "param_rounding": rounding, "seed": 4}

    def new():
        return RMSprop(make_params(shapes, torch.bfloat16), **extra, **options)

    expected = new()
    checkpoints = []
    for step in range(6):
        checkpoints.append((copy.deepcopy(list_params(expected)), through_a_file(expected.state_dict())))
        train(expected, 1, start=step)
    for step, (params, state_dict) in enumerate(checkpoints):
        resumed = RMSprop(params, lr=1.0, **extra)
        resumed.load_state_dict(state_dict)
        train(resumed, 6 - step, start=step)
        assert_same_bits(resumed, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@all_options
def test_full_precision_resumes_with_the_same_bits(dtype, options):
    expected = RMSprop(make_params(dtype=dtype), **options)
    train(expected, 3)
    resumed = with_the_params_of(expected, RMSprop)
    resumed.load_state_dict(through_a_file(expected.state_dict()))
    train(expected, 3, start=3)
    train(resumed, 3, start=3)
    assert_same_bits(resumed, expected)


@pytest.mark.parametrize("dialect", ["tensorflow1", "keras3", "sb3"])
def test_a_dialect_travels_with_its_checkpoint(dialect):
    expected = RMSprop(make_params(), dialect=dialect)
    train(expected, 3)
    resumed = with_the_params_of(expected, RMSprop)
    with pytest.warns(RMSpropWarning, match=f"a checkpoint of dialect {dialect!r} is loaded into a group of dialect"):
        resumed.load_state_dict(through_a_file(expected.state_dict()))
    train(expected, 3, start=3)
    train(resumed, 3, start=3)
    assert_same_bits(resumed, expected)


def test_the_largest_lr_travels_with_a_checkpoint():
    rule = Rule(weight_decay=0.1, weight_decay_mode="decoupled_corrected")
    expected = RMSprop(make_params(), lr=0.5, dialect=rule)
    train(expected, 1)
    expected.param_groups[0]["lr"] = 0.1
    resumed = with_the_params_of(expected, RMSprop, dialect=rule)
    resumed.load_state_dict(through_a_file(expected.state_dict()))
    train(expected, 2, start=1)
    train(resumed, 2, start=1)
    assert_same_bits(resumed, expected)


@pytest.mark.parametrize("saved", STATES)
@pytest.mark.parametrize("loads", STATES)
@pytest.mark.parametrize("centered", [False, True])
def test_a_checkpoint_may_be_loaded_into_another_state_dtype(saved, loads, centered):
    shapes = [(300,), (3, 5)]
    source = RMSprop(make_params(shapes), state_dtype=saved, centered=centered, momentum=0.9)
    train(source, 5)
    target = with_the_params_of(source, RMSprop, state_dtype=loads)
    target.load_state_dict(through_a_file(source.state_dict()))
    assert target.param_groups[0]["state_dtype"] == loads
    for mine, other in zip(list_params(target), list_params(source)):
        state, given = target.state[mine], source.state[other]
        torch.testing.assert_close(
            state["momentum_buffer"].float(), given["momentum_buffer"].float(), rtol=2**-8, atol=0
        )  # fmt: skip
    train(target, 2, start=5)
    train(source, 2, start=5)
    assert_near(target, source, tolerance=0.06 if centered else 0.02)


def test_parameters_in_another_memory_order_load_by_position():
    source = RMSprop(make_params([(4, 3, 5, 5)]), momentum=0.9)
    train(source, 2)
    (param,) = list_params(source)
    target = RMSprop([torch.nn.Parameter(param.detach().clone(memory_format=torch.channels_last))])
    target.load_state_dict(through_a_file(source.state_dict()))
    train(source, 2, start=2)
    train(target, 2, start=2)
    assert_same_bits(target, source)


# ---- what loading leaves alone ---------------------------------------------------------------------------------------


def test_loading_copies_and_does_not_alias():
    source = RMSprop(make_params(), momentum=0.9, lr=torch.tensor(0.1))
    train(source, 2)
    saved = source.state_dict()
    target = with_the_params_of(source, RMSprop)
    target.load_state_dict(saved)
    before = copy.deepcopy(source.state_dict()["state"])
    train(target, 2, start=2)
    target.param_groups[0]["lr"].fill_(7.0)
    assert source.param_groups[0]["lr"] == pytest.approx(0.1)
    for index, state in before.items():
        assert_same_bits(list(state.values()), list(source.state_dict()["state"][index].values()))


def test_empty_states_and_strangers_are_kept_as_torch_keeps_them():
    """Looking a parameter up leaves an empty entry; an entry of nobody's stays under its key."""
    _, theirs = make_pair()
    train(theirs, 1)
    theirs.state[list_params(theirs)[0]] = {}
    saved = theirs.state_dict()
    saved["state"]["note"] = {"from": "elsewhere"}
    ours = with_the_params_of(theirs, RMSprop)
    ours.load_state_dict(saved)
    assert ours.state["note"] == {"from": "elsewhere"}
    assert not ours.state.get(list_params(ours)[0])
    train(ours, 1)
    assert [float(ours.state[p]["step"]) for p in list_params(ours)] == [1.0, 2.0, 2.0, 2.0, 2.0]


# ---- refusals --------------------------------------------------------------------------------------------------------


def spoiled(change, **options):
    """An optimizer in the middle of a run, and its checkpoint with one entry changed."""
    optimizer = RMSprop(make_params(), **options)
    train(optimizer, 2)
    state_dict = copy.deepcopy(optimizer.state_dict())
    change(state_dict)
    return optimizer, state_dict


def _delete(key):
    return lambda d: d["state"][3].pop(key)


def _replace(key, value):
    return lambda d: d["state"][3].__setitem__(key, value)


REFUSED = {
    "no square_avg": (_delete("square_avg"), {}, "state[3]['square_avg'] is missing"),
    "no step": (_delete("step"), {}, "state[3]['step'] is missing"),
    "no momentum_buffer": (_delete("momentum_buffer"), {"momentum": 0.9}, "state[3]['momentum_buffer'] is missing"),
    "no grad_avg": (_delete("grad_avg"), {"centered": True}, "state[3]['grad_avg'] is missing"),
    "another shape": (
        _replace("square_avg", torch.zeros(5, 3)),
        {},
        "state[3]['square_avg']: shape (5, 3), expected (3, 5)",
    ),
    "another shape of the buffer": (
        _replace("momentum_buffer", torch.zeros(15)),
        {"momentum": 0.9},
        "state[3]['momentum_buffer']: shape (15,), expected (3, 5)",
    ),
    "two steps": (_replace("step", torch.zeros(2)), {}, "state[3]['step']: shape (2,), expected one number"),
    "an alpha beyond 1": (lambda d: d["param_groups"][0].update(alpha=1.5), {}, "alpha=1.5"),
}


@pytest.mark.parametrize(("change", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_a_spoiled_checkpoint_is_refused_by_name_and_nothing_is_loaded(change, options, message):
    optimizer, state_dict = spoiled(change, **options)
    state_dict["param_groups"][0]["lr"] = 99.0
    before = copy.deepcopy(optimizer)
    with pytest.raises(StateError) as caught:
        optimizer.load_state_dict(state_dict)
    assert message in str(caught.value)
    assert_same_bits(optimizer, before)
    assert optimizer.param_groups[0]["lr"] == 0.01


@pytest.mark.parametrize(
    ("other", "options", "found"),
    [
        (torch.optim.Adam, {}, "exp_avg"),
        (torch.optim.SGD, {"momentum": 0.9}, "momentum_buffer"),
        (torch.optim.Adagrad, {}, "sum"),
    ],
)
def test_the_state_of_another_optimizer_is_refused_by_what_it_holds(other, options, found):
    stranger = other(make_params(), **options)
    train(stranger, 2)
    ours = RMSprop(make_params())
    with pytest.raises(StateError) as caught:
        ours.load_state_dict(stranger.state_dict())
    assert "square_avg" in str(caught.value)
    assert found in str(caught.value)
    assert not ours.state


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["param_groups"].append(copy.deepcopy(d["param_groups"][0])),
        lambda d: d["param_groups"][0]["params"].pop(),
    ],
    ids=["groups", "params"],
)
def test_another_number_of_groups_or_parameters_gets_torchs_message(change):
    messages = []
    for optimizer in make_pair():
        state_dict = copy.deepcopy(optimizer.state_dict())
        change(state_dict)
        with pytest.raises(ValueError) as caught:
            optimizer.load_state_dict(state_dict)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


# ---- old checkpoints -------------------------------------------------------------------------------------------------


@all_options
def test_old_checkpoints_without_newer_keys_and_with_counts_as_numbers_load(options):
    _, theirs = make_pair(dtype=torch.float64, **options)
    train(theirs, 3)
    old = copy.deepcopy(theirs.state_dict())
    for key in ("foreach", "maximize", "differentiable", "capturable"):
        del old["param_groups"][0][key]
    for state in old["state"].values():
        state["step"] = int(state["step"])
    ours = with_the_params_of(theirs, RMSprop, maximize=options.get("maximize", False))
    ours.load_state_dict(through_a_file(old))
    train(theirs, 3, start=3)
    train(ours, 3, start=3)
    assert_near(ours, theirs)
    assert all(torch.is_tensor(state["step"]) for state in ours.state.values())
