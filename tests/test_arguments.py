"""Promise: in every front end an argument changes something or raises. A new argument has to be added here."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import rmsprop
from rmsprop import Rule, dialects
from rmsprop.commands.options import Switches
from rmsprop.errors import InputError, InputTypeError, RMSpropWarning, RuleError
from rmsprop.select import OWN, SYNONYMS, select

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("jax", reason="jax is not installed")
import jax.numpy as jnp  # noqa: E402

import rmsprop.jax  # noqa: E402
import rmsprop.torch  # noqa: E402
from rmsprop.torch import groups  # noqa: E402


def make_numpy(**options):
    return rmsprop.RMSprop([np.ones(3, "float32"), np.ones(70_000, "float32")], **options)


def describe_numpy(optimizer):
    settings = (optimizer.rule, optimizer.lr, optimizer.dialect, optimizer.max_norm, optimizer.check_finite)
    return (*settings, optimizer.threads)


def make_torch(**options):
    weight = torch.nn.Parameter(torch.full((3,), 1e-3, dtype=torch.bfloat16))
    return rmsprop.torch.RMSprop([weight], **options)


def describe_torch(optimizer):
    group = {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}
    return (group, optimizer.max_norm, optimizer.seed, len(optimizer.state))


def make_jax(**options):
    return rmsprop.jax.rmsprop(**{"learning_rate": 0.5, **options})


def describe_jax(transformation):
    grads = jnp.array([0.5, -2.0])
    updates, state = transformation.update(grads, transformation.init(grads), grads)
    return (transformation.rule, transformation.dialect, updates.tolist(), str(state))


FRONT_ENDS = {
    "numpy": (
        rmsprop.RMSprop.__init__,
        make_numpy,
        describe_numpy,
        {
            **{"lr": 0.5, "rho": 0.5, "eps": 1e-3, "momentum": 0.5, "centered": True, "weight_decay": 0.1},
            **{"dialect": "torch", "max_norm": 1.0, "check_finite": True, "threads": 2},
        },
    ),
    "torch": (
        rmsprop.torch.RMSprop.__init__,
        make_torch,
        describe_torch,
        {
            **{"lr": 0.5, "alpha": 0.5, "eps": 1e-3, "momentum": 0.5, "centered": True, "weight_decay": 0.1},
            **{"capturable": True, "foreach": False, "maximize": True, "differentiable": True, "dialect": "sb3"},
            **{"max_norm": 1.0, "param_rounding": "stochastic", "state_dtype": "bfloat16", "lazy": True},
            **{"eager_state": True, "seed": 3},
        },
    ),
    "jax": (
        rmsprop.jax.rmsprop,
        make_jax,
        describe_jax,
        {
            **{"learning_rate": 0.25, "decay": 0.5, "eps": 1e-3, "initial_scale": 0.5, "eps_in_sqrt": False},
            **{"centered": True, "momentum": 0.5, "bias_correction": True, "dialect": "torch"},
        },
    ),
}
"""Front end -> its signature, a maker, a description of the result, and a value for every argument.

JAX's nesterov needs a momentum and has a test of its own. Keras's arguments: tests/keras_suite/suite_programs.py.
"""

CASES = [(name, word) for name, (_, _, _, values) in FRONT_ENDS.items() for word in values]


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_the_table_lists_every_argument(name):
    function, _, _, values = FRONT_ENDS[name]
    assert set(inspect.signature(function).parameters) - {"self", "params"} - {"nesterov"} == set(values)


@pytest.mark.parametrize(("name", "word"), CASES)
def test_an_argument_changes_something(name, word):
    _, make, describe, values = FRONT_ENDS[name]
    assert describe(make(**{word: values[word]})) != describe(make())


def test_nesterov_changes_a_jax_step_with_momentum():
    with_it, without = (describe_jax(make_jax(momentum=0.5, nesterov=flag)) for flag in (True, False))
    assert with_it != without


SWITCHES = {
    "numpy": ("rho", "eps", "momentum", "centered", "weight_decay"),
    "torch": ("alpha", "eps", "momentum", "centered", "weight_decay", "maximize"),
    "jax": ("decay", "eps", "initial_scale", "eps_in_sqrt", "centered", "momentum", "nesterov", "bias_correction"),
}


@pytest.mark.parametrize("dialect", [*dialects.names(), Rule(rho=0.7, eps=0.1, centered=True)], ids=str)
@pytest.mark.parametrize("name", FRONT_ENDS)
def test_none_means_the_value_of_the_dialect(name, dialect):
    _, make, _, _ = FRONT_ENDS[name]
    optimizers = make(dialect=dialect), make(dialect=dialect, **dict.fromkeys(SWITCHES[name]))
    rules = [o.param_groups[0]["switches"] if name == "torch" else o.rule for o in optimizers]
    assert rules[0] == rules[1]


@pytest.mark.parametrize("dialect", dialects.names())
@pytest.mark.parametrize(
    ("switch", "value"),
    [
        *((switch, flag) for switch in ("centered", "maximize") for flag in (False, True)),
        *((switch, number) for switch in ("momentum", "weight_decay", "rho", "eps") for number in (0, 0.5)),
    ],
)
def test_a_switch_given_to_a_dialect_is_in_its_rule_or_raises(dialect, switch, value):
    try:
        rule = select(dialect, {switch: value}).rule
    except RuleError as error:
        assert switch in str(error)  # noqa: PT017 (one of two right answers)
    else:
        assert getattr(rule, switch) == value


COMMON = {"eps": "eps", "momentum": "momentum", "centered": "centered"}
SWEEP = {
    "numpy": {**COMMON, "rho": "rho", "weight_decay": "weight_decay"},
    "torch": groups.WORDS,
    "group": groups.WORDS,
    "constructor of a group": groups.WORDS,
    "jax": {**COMMON, "decay": "rho", "eps_in_sqrt": "eps_mode", "nesterov": "nesterov"}
    | {"bias_correction": "bias_correction"},
}
"""Where an argument is given -> the argument -> the switch."""
MEANINGS = {("eps_in_sqrt", True): "inside", ("eps_in_sqrt", False): "outside"}
MEANINGS |= {("nesterov", True): "post", ("nesterov", False): "none"}
VALUES = {"eps": (0.0, 0.5), "momentum": (0.0, 0.5), "rho": (0.0, 0.5), "weight_decay": (0.0, 0.5)}


def find_rule(place, dialect, options):
    if place == "numpy":
        return make_numpy(dialect=dialect, **options).rule
    if place == "jax":
        return make_jax(dialect=dialect, **options).rule
    if place == "torch":
        return groups.rule_of(make_torch(dialect=dialect, **options).param_groups[0])
    given = ({"dialect": dialect, **options}, {}) if place == "group" else ({"dialect": dialect}, options)
    return groups.rule_of(make_group(given[0], **given[1]))


@pytest.mark.parametrize("dialect", dialects.names())
@pytest.mark.parametrize("place", SWEEP)
def test_every_argument_is_honored_or_raises_for_every_dialect(place, dialect):
    for word, switch in SWEEP[place].items():
        for value in VALUES.get(switch, (False, True)):
            try:
                rule = find_rule(place, dialect, {word: value})
            except (RuleError, InputError) as error:
                assert word in str(error)  # noqa: PT017 (one of two right answers)
            else:
                assert getattr(rule, switch) == MEANINGS.get((word, value), value), word


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_a_switch_given_beside_a_rule_must_agree_with_it(name):
    _, make, _, _ = FRONT_ENDS[name]
    rule = rmsprop.dialect("torch", momentum=0.9)
    with pytest.raises(RuleError, match=r"rmsprop\.dialect\('dqn'\)\.replace\(centered=False\)"):
        make(dialect="dqn", centered=False)
    with pytest.raises(InputError, match="centered=True contradicts the given Rule"):
        make(dialect=rule, centered=True)
    with pytest.raises(InputError, match="momentum=0 contradicts the given Rule"):
        make(dialect=rule, momentum=0)
    make(dialect=rule, momentum=0.9, centered=False)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_the_learning_rate_defaults_to_that_of_the_dialect(name):
    _, make, describe, _ = FRONT_ENDS[name]
    lr = {"numpy": "lr", "torch": "lr", "jax": "learning_rate"}[name]
    default, given = make(dialect="keras3", **{lr: None}), make(dialect="keras3", **{lr: 0.001})
    assert describe(default) == describe(given)


def test_the_learning_rate_of_a_dialect_without_one_is_that_of_the_front_end():
    assert dialects.get("tensorflow1").lr is None
    assert make_numpy(dialect="tensorflow1").lr == OWN.lr == 0.01
    assert make_torch(dialect="tensorflow1").param_groups[0]["lr"] == 0.01
    with pytest.raises(InputTypeError, match="learning_rate: None"):
        rmsprop.jax.rmsprop(dialect="tensorflow1")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("torch", {"decay": 0.9, "dialect": "tensorflow1"}, "unknown option 'decay'; use 'alpha'"),
        ("torch", {"learning_rate": 0.1}, "unknown option 'learning_rate'; use 'lr'"),
        ("torch", {"lr_in_momentum": False}, "unknown option 'lr_in_momentum'; where lr stands is the rule's"),
        ("torch", {"decoupled_decay": True}, "weight_decay_mode='decoupled'"),
        ("torch", {"caution": True}, "there is no cautious update"),
        ("torch", {"momentun": 0.9}, "unknown option 'momentun'; did you mean 'momentum'?"),
        ("torch", {"bias_correction": True}, r"rmsprop\.dialect\(name, bias_correction=\.\.\.\)"),
        ("numpy", {"alpha": 0.9}, "unknown option 'alpha'; use 'rho'"),
        ("numpy", {"epsilon": 0.9}, "unknown option 'epsilon'; use 'eps'"),
        ("jax", {"rho": 0.9}, "unknown option 'rho'; use 'decay'"),
        ("jax", {"epsilon": 1e-8}, "unknown option 'epsilon'; use 'eps'"),
        ("jax", {"alpha": 0.9}, "unknown option 'alpha'; use 'decay'"),
    ],
)
def test_an_unknown_option_raises_with_the_right_name(name, options, message):
    with pytest.raises(InputTypeError, match=message):
        FRONT_ENDS[name][1](**options)


def test_names_of_other_libraries_map_to_switches():
    fields = {"lr", *Rule.__dataclass_fields__}
    assert set(SYNONYMS.values()) <= fields
    assert not set(SYNONYMS) & fields


COMMAND_LINE = {
    **{"rho": 0.5, "eps": 1e-3, "eps_mode": "outside", "init": "ones", "centered": True, "var_floor": 0.1},
    **{"bias_correction": True, "momentum": 0.5, "weight_decay": 0.1, "maximize": True, "dialect": "sb3"},
    **{"buffer": "lr", "nesterov": "post", "weight_decay_mode": "decoupled"},
}


def test_the_command_line_offers_every_switch():
    assert set(Switches.__dataclass_fields__) == set(COMMAND_LINE) == {*Rule.__dataclass_fields__, "dialect"}


@pytest.mark.parametrize("word", COMMAND_LINE)
def test_an_option_of_the_command_line_changes_the_rule(word):
    needs = {"nesterov": {"momentum": 0.5}, "weight_decay_mode": {"weight_decay": 0.1}, "buffer": {"momentum": 0.5}}
    others = needs.get(word, {})
    assert Switches(**{word: COMMAND_LINE[word]}, **others).rule() != Switches(**others).rule()


# ---- groups of torch -------------------------------------------------------------------------------------------------


def make_group(group, **options):
    weight = torch.nn.Parameter(torch.ones(3))
    return rmsprop.torch.RMSprop([{"params": [weight], **group}], **options).param_groups[0]


def test_numbers_of_the_constructor_apply_to_a_group_of_another_dialect():
    group = make_group({"dialect": "keras3"}, weight_decay=0.01, lr=0.5)
    assert (group["weight_decay"], group["switches"]["weight_decay_mode"], group["lr"]) == (0.01, "decoupled", 0.5)
    with pytest.raises(RuleError, match="maximize=True, but"):
        make_group({"dialect": "keras3"}, maximize=True)


def test_a_group_uses_the_learning_rate_and_name_of_its_dialect():
    group = make_group({"dialect": "keras3"})
    assert (group["lr"], group["dialect"], group["eps"]) == (0.001, "keras3", 1e-7)
    assert make_group({"dialect": "keras3", "lr": 0.25, "lr_scale": 0.5})["lr"] == 0.25
    assert make_group({"lr_scale": 0.5, "name": "head"})["lr_scale"] == 0.5


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("rho", "unknown option 'rho'; use 'alpha'"),
        ("epsilon", "unknown option 'epsilon'; use 'eps'"),
        ("decay", "unknown option 'decay'; use 'alpha'"),
        ("max_norm", "'max_norm' is an argument of the optimizer"),
        ("seed", "'seed' is an argument of the optimizer"),
        ("nesterov", "it is a switch of the rule"),
        ("alhpa", "unknown option 'alhpa'; did you mean 'alpha'?"),
    ],
)
def test_an_unknown_group_key_raises_with_the_right_name(key, message):
    with pytest.raises(InputTypeError, match=message):
        make_group({key: 0.5})


def test_a_copied_group_keeps_its_rule():
    rule = Rule(rho=0.7, eps_mode="max")
    optimizer = rmsprop.torch.RMSprop([torch.nn.Parameter(torch.ones(3))], dialect=rule)
    copied = {**optimizer.param_groups[0], "params": [torch.nn.Parameter(torch.ones(2))]}
    optimizer.add_param_group(copied)
    assert optimizer.param_groups[1]["switches"] == optimizer.param_groups[0]["switches"]
    assert optimizer.param_groups[1]["alpha"] == 0.7


def test_loading_the_checkpoint_of_another_dialect_warns():
    saved = rmsprop.torch.RMSprop([torch.nn.Parameter(torch.ones(3))], dialect="tensorflow1").state_dict()
    for own in ("torch", "sb3"):
        optimizer = rmsprop.torch.RMSprop([torch.nn.Parameter(torch.ones(3))], dialect=own)
        with pytest.warns(RMSpropWarning, match=f"'tensorflow1' is loaded into a group of dialect '{own}'"):
            optimizer.load_state_dict(saved)
        assert optimizer.param_groups[0]["dialect"] == "tensorflow1"


def test_defaults_and_repr_show_the_rule():
    optimizer = rmsprop.torch.RMSprop([torch.nn.Parameter(torch.ones(3))], dialect="tf1")
    assert optimizer.defaults["dialect"] == "tensorflow1"
    assert f"rule: dialect 'tensorflow1', {rmsprop.dialect('tf1')!r}" in repr(optimizer)
    assert f"dialect='tensorflow1', {rmsprop.dialect('tf1')!r})" in repr(make_numpy(dialect="tf1"))


@pytest.mark.parametrize("name", FRONT_ENDS)
@pytest.mark.parametrize(("dialect", "message"), [("torhc", "did you mean"), (3, "dialect: a int")])
def test_an_unknown_dialect_raises(name, dialect, message):
    with pytest.raises((RuleError, InputError), match=message):
        FRONT_ENDS[name][1](dialect=dialect)
