"""Promise: an argument is honored or raises, in every front end: giving it changes something, or is an error.

For each public constructor a value for every argument; the optimizer made with it must show another configuration than
the one made without it. A new argument has to be added here.
"""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import rmsprop
from rmsprop import Rule, dialects
from rmsprop.commands.options import Switches
from rmsprop.errors import InputError, InputTypeError, RuleError
from rmsprop.select import OWN, SYNONYMS, select

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("jax", reason="jax is not installed")
import jax.numpy as jnp  # noqa: E402

import rmsprop.jax  # noqa: E402
import rmsprop.torch  # noqa: E402


def numpy_optimizer(**options):
    return rmsprop.RMSprop([np.ones(3, "float32"), np.ones(70_000, "float32")], **options)


def numpy_shows(optimizer):
    held = (optimizer.rule, optimizer.lr, optimizer.dialect, optimizer.max_norm, optimizer.check_finite)
    return (*held, optimizer.threads)


def torch_optimizer(**options):
    weight = torch.nn.Parameter(torch.full((3,), 1e-3, dtype=torch.bfloat16))
    return rmsprop.torch.RMSprop([weight], **options)


def torch_shows(optimizer):
    group = {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}
    return (group, optimizer.max_norm, optimizer.seed, len(optimizer.state))


def jax_optimizer(**options):
    return rmsprop.jax.rmsprop(**{"learning_rate": 0.5, **options})


def jax_shows(transformation):
    grads = jnp.array([0.5, -2.0])
    updates, state = transformation.update(grads, transformation.init(grads), grads)
    return (transformation.rule, transformation.dialect, updates.tolist(), str(state))


FRONT_ENDS = {
    "numpy": (
        rmsprop.RMSprop.__init__,
        numpy_optimizer,
        numpy_shows,
        {
            **{"lr": 0.5, "rho": 0.5, "eps": 1e-3, "momentum": 0.5, "centered": True, "weight_decay": 0.1},
            **{"dialect": "torch", "max_norm": 1.0, "check_finite": True, "threads": 2},
        },
    ),
    "torch": (
        rmsprop.torch.RMSprop.__init__,
        torch_optimizer,
        torch_shows,
        {
            **{"lr": 0.5, "alpha": 0.5, "eps": 1e-3, "momentum": 0.5, "centered": True, "weight_decay": 0.1},
            **{"capturable": True, "foreach": False, "maximize": True, "differentiable": True, "dialect": "sb3"},
            **{"max_norm": 1.0, "param_rounding": "stochastic", "state_dtype": "bfloat16", "lazy": True},
            **{"eager_state": True, "seed": 3},
        },
    ),
    "jax": (
        rmsprop.jax.rmsprop,
        jax_optimizer,
        jax_shows,
        {
            **{"learning_rate": 0.25, "decay": 0.5, "eps": 1e-3, "initial_scale": 0.5, "eps_in_sqrt": False},
            **{"centered": True, "momentum": 0.5, "bias_correction": True, "dialect": "torch"},
        },
    ),
}
"""Front end: its signature, a maker, what the made one shows, and a value for every argument.

JAX's nesterov needs a momentum, and has a test of its own. Keras's arguments: tests/keras_suite/suite_programs.py.
"""

CASES = [(name, word) for name, (_, _, _, values) in FRONT_ENDS.items() for word in values]


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_the_table_has_every_argument(name):
    function, _, _, values = FRONT_ENDS[name]
    assert set(inspect.signature(function).parameters) - {"self", "params"} - {"nesterov"} == set(values)


@pytest.mark.parametrize(("name", "word"), CASES)
def test_an_argument_changes_something(name, word):
    _, make, show, values = FRONT_ENDS[name]
    assert show(make(**{word: values[word]})) != show(make())


def test_jaxs_nesterov_changes_a_step_with_momentum():
    with_it, without = (jax_shows(jax_optimizer(momentum=0.5, nesterov=flag)) for flag in (True, False))
    assert with_it != without


SWITCHES = {
    "numpy": ("rho", "eps", "momentum", "centered", "weight_decay"),
    "torch": ("alpha", "eps", "momentum", "centered", "weight_decay", "maximize"),
    "jax": ("decay", "eps", "initial_scale", "eps_in_sqrt", "centered", "momentum", "nesterov", "bias_correction"),
}


@pytest.mark.parametrize("dialect", [*dialects.names(), Rule(rho=0.7, eps=0.1, centered=True)], ids=str)
@pytest.mark.parametrize("name", FRONT_ENDS)
def test_none_written_back_changes_nothing(name, dialect):
    _, make, _, _ = FRONT_ENDS[name]
    left_out = make(dialect=dialect)
    given = make(dialect=dialect, **dict.fromkeys(SWITCHES[name]))
    rules = [o.param_groups[0]["switches"] if name == "torch" else o.rule for o in (left_out, given)]
    assert rules[0] == rules[1]


@pytest.mark.parametrize("dialect", dialects.names())
@pytest.mark.parametrize(
    ("switch", "value"),
    [
        *(("centered", flag) for flag in (False, True)),
        *(("maximize", flag) for flag in (False, True)),
        *(("momentum", number) for number in (0, 0.5)),
        *(("weight_decay", number) for number in (0, 0.5)),
        *(("rho", number) for number in (0.0, 0.5)),
        *(("eps", number) for number in (0, 0.25)),
    ],
)
def test_a_request_is_in_the_rule_or_raises(dialect, switch, value):
    try:
        rule = select(dialect, {switch: value}).rule
    except RuleError as error:
        assert switch in str(error)  # noqa: PT017 (one of two right answers)
    else:
        assert getattr(rule, switch) == value


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_false_is_a_request(name):
    with pytest.raises(RuleError, match=r"rmsprop\.dialect\('dqn'\)\.replace\(centered=False\)"):
        FRONT_ENDS[name][1](dialect="dqn", centered=False)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_a_request_that_contradicts_a_rule_raises_and_one_that_repeats_it_does_not(name):
    _, make, _, _ = FRONT_ENDS[name]
    rule = rmsprop.dialect("torch", momentum=0.9)
    with pytest.raises(InputError, match="centered=True contradicts the given Rule"):
        make(dialect=rule, centered=True)
    with pytest.raises(InputError, match="momentum=0 contradicts the given Rule"):
        make(dialect=rule, momentum=0)
    make(dialect=rule, momentum=0.9, centered=False)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_a_dialect_brings_its_learning_rate_in_every_front_end(name):
    _, make, _, _ = FRONT_ENDS[name]
    lr = {"numpy": "lr", "torch": "lr", "jax": "learning_rate"}[name]
    left_out = {"learning_rate": None} if name == "jax" else {}
    own, given = make(dialect="keras3", **left_out), make(dialect="keras3", **{lr: 0.001})
    assert FRONT_ENDS[name][2](own) == FRONT_ENDS[name][2](given)


def test_a_dialect_without_a_learning_rate_leaves_the_front_ends_own():
    assert dialects.get("tensorflow1").lr is None
    assert numpy_optimizer(dialect="tensorflow1").lr == OWN.lr == 0.01
    assert torch_optimizer(dialect="tensorflow1").param_groups[0]["lr"] == 0.01
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
    ],
)
def test_an_unknown_option_names_the_right_one(name, options, message):
    with pytest.raises(InputTypeError, match=message):
        FRONT_ENDS[name][1](**options)


def test_every_foreign_word_has_one_meaning():
    fields = {"lr", *Rule.__dataclass_fields__}
    assert set(SYNONYMS.values()) <= fields
    assert not set(SYNONYMS) & fields


COMMAND_LINE = {
    **{"rho": 0.5, "eps": 1e-3, "eps_mode": "outside", "init": "ones", "centered": True, "var_floor": 0.1},
    **{"bias_correction": True, "momentum": 0.5, "weight_decay": 0.1, "maximize": True, "dialect": "sb3"},
    **{"buffer": "lr", "nesterov": "post", "weight_decay_mode": "decoupled"},
}


def test_the_command_line_has_every_switch():
    assert set(Switches.__dataclass_fields__) == set(COMMAND_LINE) == {*Rule.__dataclass_fields__, "dialect"}


@pytest.mark.parametrize("word", COMMAND_LINE)
def test_an_option_of_the_command_line_changes_the_rule_or_raises(word):
    needs = {"nesterov": {"momentum": 0.5}, "weight_decay_mode": {"weight_decay": 0.1}, "buffer": {"momentum": 0.5}}
    others = needs.get(word, {})
    assert Switches(**{word: COMMAND_LINE[word]}, **others).rule() != Switches(**others).rule()
    if word == "nesterov":
        with pytest.raises(RuleError, match="needs a momentum buffer"):
            Switches(nesterov="post").rule()


# ---- groups of torch -------------------------------------------------------------------------------------------------


def group_of(group, **options):
    weight = torch.nn.Parameter(torch.ones(3))
    return rmsprop.torch.RMSprop([{"params": [weight], **group}], **options).param_groups[0]


def test_the_constructors_numbers_hold_in_a_group_of_another_dialect():
    group = group_of({"dialect": "keras3"}, weight_decay=0.01, lr=0.5)
    assert (group["weight_decay"], group["switches"]["weight_decay_mode"], group["lr"]) == (0.01, "decoupled", 0.5)
    with pytest.raises(RuleError, match="maximize=True, but"):
        group_of({"dialect": "keras3"}, maximize=True)


def test_a_group_takes_its_dialects_learning_rate_and_name():
    group = group_of({"dialect": "keras3"})
    assert (group["lr"], group["dialect"], group["eps"]) == (0.001, "keras3", 1e-7)
    assert group_of({"dialect": "keras3", "lr": 0.25})["lr"] == 0.25


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("rho", "unknown option 'rho'; use 'alpha'"),
        ("epsilon", "unknown option 'epsilon'; use 'eps'"),
        ("decay", "unknown option 'decay'; use 'alpha'"),
        ("max_norm", "'max_norm' belongs to the optimizer"),
        ("seed", "'seed' belongs to the optimizer"),
        ("nesterov", "it is a switch of the rule"),
        ("alhpa", "unknown option 'alhpa'; did you mean 'alpha'?"),
    ],
)
def test_a_group_key_that_would_do_nothing_raises(key, message):
    with pytest.raises(InputTypeError, match=message):
        group_of({key: 0.5})


def test_a_foreign_group_key_is_kept():
    assert group_of({"lr_scale": 0.5, "name": "head"})["lr_scale"] == 0.5


def test_a_copied_group_keeps_its_rule():
    rule = Rule(rho=0.7, eps_mode="max")
    optimizer = rmsprop.torch.RMSprop([torch.nn.Parameter(torch.ones(3))], dialect=rule)
    copied = {**optimizer.param_groups[0], "params": [torch.nn.Parameter(torch.ones(2))]}
    optimizer.add_param_group(copied)
    assert optimizer.param_groups[1]["switches"] == optimizer.param_groups[0]["switches"]
    assert optimizer.param_groups[1]["alpha"] == 0.7


def test_loading_another_dialects_checkpoint_warns():
    saved = rmsprop.torch.RMSprop([torch.nn.Parameter(torch.ones(3))], dialect="tensorflow1").state_dict()
    for own in ("torch", "sb3"):
        optimizer = rmsprop.torch.RMSprop([torch.nn.Parameter(torch.ones(3))], dialect=own)
        with pytest.warns(
            rmsprop.errors.RMSpropWarning, match=f"'tensorflow1' is loaded into a group of dialect '{own}'"
        ):
            optimizer.load_state_dict(saved)
        assert optimizer.param_groups[0]["dialect"] == "tensorflow1"


def test_the_rule_is_recorded_in_the_defaults_and_shown():
    optimizer = rmsprop.torch.RMSprop([torch.nn.Parameter(torch.ones(3))], dialect="tf1")
    assert optimizer.defaults["dialect"] == "tensorflow1"
    assert f"rule: dialect 'tensorflow1', {rmsprop.dialect('tf1')!r}" in repr(optimizer)
    shown = repr(numpy_optimizer(dialect="tf1"))
    assert f"dialect='tensorflow1', {rmsprop.dialect('tf1')!r})" in shown
