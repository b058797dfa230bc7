"""Promise: on each backend a Keras program runs as with the RMSprop of Keras. test_keras.py runs this file."""

from __future__ import annotations

import inspect
import io
import itertools
import json

import keras
import numpy as np
import pytest

import rmsprop
import rmsprop.keras as ours
from cases import ULP
from keras_suite.keras_runs import BACKEND, assert_close, gradients, lr_at, run, to_numpy, variables
from rmsprop import Rule
from rmsprop.errors import InputError, InputTypeError, RuleError, StateError

# ---- arguments and configuration -------------------------------------------------------------------------------------


def test_the_signature_is_that_of_keras_plus_dialect():
    mine = dict(inspect.signature(ours.RMSprop.__init__).parameters)
    theirs = dict(inspect.signature(keras.optimizers.RMSprop.__init__).parameters)
    assert mine.pop("dialect").kind is inspect.Parameter.KEYWORD_ONLY
    theirs.pop("kwargs", None)
    assert list(mine) == list(theirs)
    by_dialect = ("learning_rate", "rho", "momentum", "epsilon", "centered", "weight_decay")
    for name, parameter in mine.items():
        assert parameter.default == (None if name in by_dialect else theirs[name].default), name
    assert repr(ours.RMSprop(dialect="sb3")).startswith("RMSprop(dialect='sb3', Rule(rho=0.99")


def test_only_given_arguments_change_the_dialect():
    assert ours.RMSprop(dialect="torch").rule == rmsprop.dialect("torch")
    assert ours.RMSprop(rho=0.9, dialect="torch").rule == rmsprop.dialect("torch", rho=0.9)
    assert ours.RMSprop(weight_decay=0.1, dialect="torch").rule.weight_decay_mode == "l2"
    assert ours.RMSprop().rule == rmsprop.dialect("keras3")
    assert float(ours.RMSprop(dialect="torch").learning_rate) == pytest.approx(0.01)
    assert float(ours.RMSprop(dialect="tensorflow1").learning_rate) == pytest.approx(0.001)


@pytest.mark.parametrize("dialect", rmsprop.dialects.names())
def test_every_argument_is_honored_or_raises_for_every_dialect(dialect):
    pairs = [*itertools.product(("rho", "momentum", "epsilon", "weight_decay"), (0.0, 0.5))]
    for word, value in [*pairs, ("centered", False), ("centered", True)]:
        try:
            rule = ours.RMSprop(dialect=dialect, **{word: value}).rule
        except (RuleError, InputError) as error:
            assert word in str(error)  # noqa: PT017 (one of two right answers)
        else:
            assert getattr(rule, {"epsilon": "eps"}.get(word, word)) == value, word


VALUES = {
    **{"learning_rate": 0.25, "rho": 0.5, "momentum": 0.5, "epsilon": 1e-3, "centered": True, "weight_decay": 0.1},
    **{"clipnorm": 0.5, "clipvalue": 0.5, "global_clipnorm": 0.5, "use_ema": True, "loss_scale_factor": 2.0},
    **{"gradient_accumulation_steps": 2, "name": "mine", "dialect": "sb3"},
}
"""A value for every argument; the two of the moving average act with it only."""


def test_the_table_lists_every_argument():
    ema = {"ema_momentum", "ema_overwrite_frequency"}
    assert set(inspect.signature(ours.RMSprop.__init__).parameters) - {"self"} - ema == set(VALUES)


@pytest.mark.parametrize("word", VALUES)
def test_an_argument_changes_the_configuration(word):
    assert ours.RMSprop(**{word: VALUES[word]}).get_config() != ours.RMSprop().get_config()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rho": 1.5}, "rho=1.5"),
        ({"dialect": "torhc"}, "did you mean"),
        ({"dialect": Rule(), "momentum": 0.9}, "momentum=0.9 contradicts the given Rule"),
        ({"dialect": "dqn", "centered": False}, r"pass rmsprop\.dialect\('dqn'\)\.replace\(centered=False\)"),
        ({"dialect": 3}, "dialect: a int"),
        ({"eps": 1e-8}, "unknown option 'eps'; use 'epsilon'"),
        ({"epsilon": -1.0}, "epsilon=-1.0, expected a finite number"),
    ],
    ids=str,
)
def test_a_bad_option_raises(options, message):
    with pytest.raises((RuleError, InputError), match=message):
        ours.RMSprop(**options)


def test_only_weight_decay_can_be_assigned():
    optimizer = ours.RMSprop()
    for name in ("rho", "momentum", "epsilon", "centered", "rule"):
        with pytest.raises(AttributeError):
            setattr(optimizer, name, 0.5)
    optimizer.weight_decay = 0.25
    assert optimizer.rule == rmsprop.dialect("keras3", weight_decay=0.25)


def test_a_weight_decay_assigned_between_steps_is_used():
    variable = keras.Variable(np.ones(3))
    optimizer = ours.RMSprop(0.5)
    zero = keras.ops.zeros(3, "float64")
    for strength, expected in ((None, 1.0), (0.5, 0.75), (None, 0.75)):
        optimizer.weight_decay = strength
        optimizer.apply([zero], [variable])
        np.testing.assert_allclose(to_numpy(variable), expected, rtol=1e-7)


@pytest.mark.parametrize("dtype", ["int32", "complex64"])
def test_variables_that_are_not_floating_raise(dtype):
    if dtype == "complex64" and BACKEND == "torch":
        pytest.skip("Keras has no complex variables on the torch backend")
    variable = keras.Variable(np.ones(3, dtype), dtype=dtype, trainable=dtype != "int32")
    with pytest.raises(InputTypeError, match=f"{dtype}, expected a floating dtype"):
        ours.RMSprop().build([variable])


@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.9, "weight_decay": 0.1, "clipnorm": 1.0},
        {"dialect": "tensorflow1", "momentum": 0.9},
        {"dialect": "tf-keras-legacy", "momentum": 0.9},
        {"dialect": rmsprop.dialect("torch", weight_decay=0.1).replace(nesterov="post", buffer="unit", momentum=0.5)},
        {"learning_rate": keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9), "dialect": "graves2013"},
    ],
    ids=str,
)
def test_the_configuration_is_restored(options):
    optimizer = ours.RMSprop(**options)
    text = json.dumps(keras.optimizers.serialize(optimizer))
    for again in (keras.optimizers.deserialize(json.loads(text)), ours.RMSprop.from_config(optimizer.get_config())):
        assert type(again) is ours.RMSprop
        assert again.rule == optimizer.rule
        assert json.dumps(keras.optimizers.serialize(again)) == text


def test_from_config_accepts_the_configuration_of_keras():
    numbers = {"rho": 0.8, "momentum": 0.1, "centered": True, "weight_decay": 0.1}
    config = keras.optimizers.RMSprop(0.5, **numbers).get_config()
    assert ours.RMSprop.from_config(config).rule == rmsprop.dialect("keras3", **numbers)


# ---- models ----------------------------------------------------------------------------------------------------------


def make_model(optimizer, **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(1)])
    model.compile(optimizer=optimizer, loss="mse", **options)
    return model


def make_task():
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    return x, np.sin(x.sum(axis=1, keepdims=True))


FIT = {"batch_size": 16, "verbose": 0, "shuffle": False}


def assert_fits_end_alike(mine, theirs, *, epochs):
    """Each step is promised to 4 units in the last place; the weights are below 2, where a unit is at most ULP."""
    steps = epochs * len(make_task()[0]) // FIT["batch_size"]
    for a, b in zip(mine.get_weights(), theirs.get_weights(), strict=True):
        assert np.abs(b).max() < 2
        np.testing.assert_allclose(a, b, rtol=0, atol=4 * steps * ULP["float32"])


@pytest.mark.usefixtures("float32")
@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.9},
        {"centered": True},
        {"dialect": Rule(bias_correction=True, centered=True)},
        {"learning_rate": keras.optimizers.schedules.CosineDecay(0.01, 100)},
        {"gradient_accumulation_steps": 2},
    ],
    ids=str,
)
def test_a_loaded_model_resumes_exactly(options, tmp_path):
    x, y = make_task()
    model = make_model(ours.RMSprop(**options))
    model.fit(x, y, epochs=2, **FIT)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.rule == model.optimizer.rule
    for a, b in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b))
    for copy in (model, loaded):
        copy.fit(x, y, epochs=2, **FIT)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("float32")
def test_fit_matches_keras():
    x, y = make_task()
    mine, theirs = make_model(ours.RMSprop(0.01)), make_model(keras.optimizers.RMSprop(0.01))
    for model in (mine, theirs):
        model.fit(x, y, epochs=3, **FIT)
    assert_fits_end_alike(mine, theirs, epochs=3)


@pytest.mark.usefixtures("float32")
@pytest.mark.skipif(BACKEND == "torch", reason="jit_compile on the torch backend needs a C++ compiler at run time")
def test_fit_works_compiled():
    x, y = make_task()
    model = make_model(ours.RMSprop(0.01, centered=True, momentum=0.9), jit_compile=True)
    plain = make_model(ours.RMSprop(0.01, centered=True, momentum=0.9), jit_compile=False, run_eagerly=BACKEND != "jax")
    for copy in (model, plain):
        copy.fit(x, y, epochs=2, **FIT)
    assert_fits_end_alike(model, plain, epochs=2)


@pytest.mark.usefixtures("float32")
def test_the_tests_of_keras_pass(monkeypatch):
    upstream = pytest.importorskip("keras.src.optimizers.rmsprop_test", reason="keras ships no tests")
    import unittest

    monkeypatch.setattr(upstream, "RMSprop", ours.RMSprop)
    suite = unittest.defaultTestLoader.loadTestsFromModule(upstream)
    result = unittest.TextTestRunner(stream=io.StringIO()).run(suite)
    assert result.testsRun >= 6
    assert result.wasSuccessful(), result.failures + result.errors


# ---- switching and the state -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"centered": True, "epsilon": 1e-4}], ids=str)
def test_a_run_may_switch_to_keras_and_back(options):
    expected_optimizer = keras.optimizers.RMSprop(0.01, **options)
    expected = run(expected_optimizer, steps=30)
    params = variables()
    stages = [ours.RMSprop(0.01, **options), keras.optimizers.RMSprop(0.01, **options), ours.RMSprop(0.01, **options)]
    for t, grads in enumerate(gradients(30)):
        now = stages[t // 10]
        if t == 10:
            now.build(params)
            now.set_weights(stages[0].keras_weights())
        elif t == 20:
            store = {}
            stages[1].save_own_variables(store)
            now.build(params)
            now.load_own_variables(store)
        now.learning_rate = lr_at(t)
        now.apply(grads, params)
    assert_close([to_numpy(p) for p in params], expected, rtol=1e-11)


def test_a_state_that_does_not_fit_raises():
    mine = ours.RMSprop(dialect=Rule(centered=True, bias_correction=True))
    run(mine, steps=2)
    store = {}
    mine.save_own_variables(store)
    other = ours.RMSprop(centered=True)
    other.build(variables())
    with pytest.raises(StateError, match="saved with bias_correction=True"):
        other.load_own_variables(store)
    with pytest.raises(StateError, match="Keras has no place"):
        ours.RMSprop(dialect="torch", momentum=0.9).keras_weights()
    theirs = keras.optimizers.RMSprop(centered=True)
    theirs.build(variables())
    store = {}
    other.save_own_variables(store)
    with pytest.warns(UserWarning, match="Skipping variable loading"):
        theirs.load_own_variables(store)


def test_the_variables_have_the_names_and_the_order_of_keras():
    for options in ({"momentum": 0.9, "use_ema": True}, {"centered": True, "momentum": 0.9}):
        mine, theirs = ours.RMSprop(**options), keras.optimizers.RMSprop(**options)
        for optimizer in (mine, theirs):
            optimizer.build(variables())
        names = [v.name for v in mine.variables]
        assert [n.replace("variance", "velocity") for n in names] == [v.name for v in theirs.variables]
