"""What rmsprop.keras.RMSprop promises on one backend; tests/test_keras.py runs this file once for each."""

from __future__ import annotations

import inspect
import io
import json

import keras
import numpy as np
import pytest

import rmsprop
import rmsprop.keras as ours
from cases import ULP
from rmsprop import Rule, reference
from rmsprop.errors import InputTypeError, RuleError, StateError

BACKEND = keras.backend.backend()
SHAPES = ((7, 5), (5,), (3, 2, 4))
to_numpy = keras.ops.convert_to_numpy


@pytest.fixture(autouse=True)
def float64():
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")


@pytest.fixture
def float32(float64):
    keras.config.set_floatx("float32")


def only(backend):
    return pytest.mark.skipif(backend != BACKEND, reason=f"the {backend} backend only")


def variables(dtype="float64"):
    rng = np.random.default_rng(99)
    return [keras.Variable(rng.normal(size=s), dtype=dtype, name=n) for s, n in zip(SHAPES, ("w", "bias", "kernel"))]


def gradients(steps, dtype="float64"):
    rng = np.random.default_rng(0)
    return [[keras.ops.convert_to_tensor(rng.normal(size=s), dtype) for s in SHAPES] for _ in range(steps)]


def lr_at(step):
    return 0.01 * (1 + 0.5 * np.sin(0.3 * step))


def run(optimizer, steps=100, dtype="float64", before=None):
    params = variables(dtype)
    if before is not None:
        before(optimizer, params)
    apply = jitted(optimizer, params) if BACKEND == "jax" else lambda grads: optimizer.apply(grads, params)
    for t, grads in enumerate(gradients(steps, dtype)):
        optimizer.learning_rate = lr_at(t)
        apply(grads)
    return [to_numpy(p) for p in params]


def jitted(optimizer, params):
    """What `fit` does on the JAX backend: one compiled step, the state handed in and out."""
    import jax

    optimizer.build(params)
    step = jax.jit(optimizer.stateless_apply)

    def apply(grads):
        holders = (optimizer.variables, params)
        state, values = ([v.value for v in holder] for holder in holders)
        values, state = step(state, grads, values)
        for holder, arrays in zip(holders, (state, values)):
            for variable, array in zip(holder, arrays):
                variable.assign(array)

    return apply


def close(mine, theirs, rtol=1e-12):
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


OPTIONS = [
    {},
    {"momentum": 0.9, "rho": 0.95, "epsilon": 1e-4},
    {"centered": True, "epsilon": 1e-4},
    {"centered": True, "epsilon": 1e-4, "momentum": 0.5},
    # Keras rounds weight_decay to float32 on the TensorFlow backend; this number is one there.
    {"weight_decay": 2.0**-7},
    {"clipnorm": 0.5},
    {"clipvalue": 0.1},
    {"global_clipnorm": 0.5},
    {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 3},
    {"gradient_accumulation_steps": 3, "momentum": 0.9},
    {"loss_scale_factor": 8.0},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_float64_is_keras_within_1e_12_over_100_steps_of_a_changing_lr(options):
    close(run(ours.RMSprop(0.01, **options)), run(keras.optimizers.RMSprop(0.01, **options)))


def test_the_signature_is_that_of_keras_and_a_dialect():
    mine = dict(inspect.signature(ours.RMSprop.__init__).parameters)
    theirs = dict(inspect.signature(keras.optimizers.RMSprop.__init__).parameters)
    assert mine.pop("dialect").kind is inspect.Parameter.KEYWORD_ONLY
    theirs.pop("kwargs", None)
    assert [(p.name, p.default) for p in mine.values()] == [(p.name, p.default) for p in theirs.values()]


@pytest.mark.parametrize(
    "rule",
    [
        rmsprop.dialect("tensorflow1", momentum=0.9),
        rmsprop.dialect("torch", momentum=0.9, centered=True, weight_decay=0.01),
        rmsprop.dialect("graves2013"),
        rmsprop.dialect("dqn"),
        rmsprop.dialect("heavyball", weight_decay=0.1),
        Rule(bias_correction=True, centered=True),
        Rule(buffer="lr", momentum=0.5, weight_decay=0.1, weight_decay_mode="in_buffer", nesterov="post"),
        Rule(weight_decay=0.1, weight_decay_mode="decoupled_corrected", maximize=True),
    ],
    ids=repr,
)
def test_every_rule_is_the_reference(rule):
    mine = run(ours.RMSprop(0.01, dialect=rule), steps=20)
    for i, (param, got) in enumerate(zip(variables(), mine)):
        param = to_numpy(param)
        buffers = {b: np.full_like(param, rule.init_value if b in ("mean_sq", "grad_var") else 0) for b in rule.buffers}
        lr_max = 0.0
        for t, grads in enumerate(gradients(20)):
            lr_max = max(lr_max, float(np.float32(lr_at(t))))
            param, buffers = reference.step(
                param, to_numpy(grads[i]), buffers, rule, lr=lr_at(t), step=t + 1, lr_max=lr_max
            )
        np.testing.assert_allclose(got, param, rtol=1e-12, atol=1e-12)


def test_an_argument_that_is_given_changes_the_dialect_and_one_left_out_does_not():
    assert ours.RMSprop(dialect="torch").rule == rmsprop.dialect("torch")
    assert ours.RMSprop(rho=0.9, dialect="torch").rule == rmsprop.dialect("torch", rho=0.9)
    assert ours.RMSprop(weight_decay=0.1, dialect="torch").rule.weight_decay_mode == "l2"
    assert ours.RMSprop().rule == rmsprop.dialect("keras3")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rho": 1.5}, "rho=1.5"),
        ({"dialect": "torhc"}, "did you mean"),
        ({"dialect": "mlx", "momentum": 0.9}, "momentum"),
        ({"dialect": Rule(), "momentum": 0.9}, "needs a buffer"),
        ({"dialect": 3}, "dialect: a int"),
    ],
    ids=str,
)
def test_a_rule_that_cannot_be_is_refused(options, message):
    with pytest.raises(RuleError, match=message):
        ours.RMSprop(**options)


def test_the_rule_of_a_made_optimizer_cannot_be_assigned_but_its_weight_decay_can():
    optimizer = ours.RMSprop()
    for name in ("rho", "momentum", "epsilon", "centered", "rule"):
        with pytest.raises(AttributeError):
            setattr(optimizer, name, 0.5)
    optimizer.weight_decay = 0.25
    assert optimizer.rule == rmsprop.dialect("keras3", weight_decay=0.25)


@pytest.mark.parametrize("dtype", ["int32", "complex64"])
def test_variables_that_are_not_floating_are_refused(dtype):
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
def test_the_configuration_comes_back_whole(options):
    optimizer = ours.RMSprop(**options)
    text = json.dumps(keras.optimizers.serialize(optimizer))
    for again in (keras.optimizers.deserialize(json.loads(text)), ours.RMSprop.from_config(optimizer.get_config())):
        assert type(again) is ours.RMSprop
        assert again.rule == optimizer.rule
        assert json.dumps(keras.optimizers.serialize(again)) == text


def test_the_configuration_of_keras_is_understood():
    config = keras.optimizers.RMSprop(0.5, rho=0.8, momentum=0.1, centered=True, weight_decay=0.1).get_config()
    optimizer = ours.RMSprop.from_config(config)
    assert optimizer.rule == rmsprop.dialect("keras3", rho=0.8, momentum=0.1, centered=True, weight_decay=0.1)


@pytest.mark.parametrize("dialect", ["keras3", "torch", "sb3"])
def test_excluded_variables_do_not_decay(dialect):
    def exclude(optimizer, params):
        optimizer.exclude_from_weight_decay(var_names=["bias"], var_list=[params[0]])

    excluded = run(ours.RMSprop(weight_decay=0.25, dialect=dialect), steps=5, before=exclude)
    without = run(ours.RMSprop(dialect=dialect), steps=5)
    everywhere = run(ours.RMSprop(weight_decay=0.25, dialect=dialect), steps=5)
    close(excluded, [*without[:2], everywhere[2]])
    assert not np.array_equal(without[2], everywhere[2])
    if dialect == "keras3":
        close(excluded, run(keras.optimizers.RMSprop(weight_decay=0.25), steps=5, before=exclude))


def embedding_after_a_repeated_row(optimizer):
    layer = keras.layers.Embedding(4, 2, embeddings_initializer="ones")
    model = keras.Sequential(
        [
            keras.Input((2,), dtype="int32"),
            layer,
            keras.layers.Flatten(),
            keras.layers.Dense(1, kernel_initializer="ones", use_bias=False),
        ]
    )
    model.layers[-1].trainable = False
    model.compile(optimizer=optimizer, loss=lambda truth, got: keras.ops.sum(got, axis=-1))
    model.fit(np.array([[2, 2]], "int32"), np.zeros((1, 1), "float32"), verbose=0)
    return to_numpy(layer.embeddings)


@pytest.mark.usefixtures("float32")
def test_rows_that_a_gradient_names_twice_are_summed_before_they_are_squared():
    # Both slices have gradient 1, so the row has 2: mean_sq .1 * 2**2, update .1 * 2 / sqrt(.4) = .1 / sqrt(.1).
    after = embedding_after_a_repeated_row(ours.RMSprop(0.1))
    np.testing.assert_allclose(after[2], 1 - 0.1 / np.sqrt(0.1), rtol=1e-5)
    np.testing.assert_array_equal(after[[0, 1, 3]], 1.0)


@pytest.mark.usefixtures("float32")
@only("tensorflow")
def test_keras_on_tensorflow_squares_such_rows_before_it_sums_them():
    # mean_sq is .1 * (1**2 + 1**2), half of what it is for the row's gradient of 2: the step is sqrt(2) times as long.
    after = embedding_after_a_repeated_row(keras.optimizers.RMSprop(0.1))
    np.testing.assert_allclose(after[2], 1 - 0.1 * 2 / np.sqrt(0.1 * 2), rtol=1e-5)


@only("tensorflow")
def test_a_dialect_that_updates_named_rows_only_is_refused_for_them():
    import tensorflow as tf

    table = keras.Variable(np.ones((4, 2)))
    rows = tf.IndexedSlices(tf.ones((1, 2), tf.float64), tf.constant([2]), tf.constant([4, 2]))
    with pytest.raises(InputTypeError, match="'tensorflow1' updates these rows only"):
        ours.RMSprop(dialect="tensorflow1").apply([rows], [table])
    np.testing.assert_array_equal(to_numpy(table), 1.0)
    ours.RMSprop(dialect=rmsprop.dialect("tensorflow1")).apply([rows], [table])
    assert (to_numpy(table)[2] < 1.0).all()


@pytest.mark.usefixtures("float32")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_16_bit_variables_keep_float32_statistics(dtype):
    variable = keras.Variable(np.ones(4), dtype=dtype)
    optimizer = ours.RMSprop(0.1, momentum=0.9, epsilon=1e-10)
    grad = keras.ops.cast(np.full(4, 1e-3, "float32"), dtype)
    optimizer.apply([grad], [variable])
    assert keras.backend.standardize_dtype(variable.dtype) == dtype
    velocity = optimizer._squares[0]
    assert keras.backend.standardize_dtype(velocity.dtype) == "float32"
    expected = 0.1 * float(to_numpy(keras.ops.cast(grad, "float32"))[0]) ** 2
    np.testing.assert_allclose(to_numpy(velocity), expected, rtol=1e-6)
    # lr g / sqrt(.1 g**2) = .316
    np.testing.assert_allclose(to_numpy(keras.ops.cast(variable, "float32")), 1 - 0.1 / np.sqrt(0.1), rtol=5e-3)


@pytest.mark.usefixtures("float32")
@pytest.mark.parametrize("centered", [False, True])
def test_finite_gradients_give_finite_variables(centered):
    huge = np.finfo("float32").max
    variable = keras.Variable(np.zeros(4), dtype="float32")
    optimizer = ours.RMSprop(0.1, centered=centered, epsilon=0.0)
    for _ in range(3):
        optimizer.apply([keras.ops.convert_to_tensor(np.array([0, 1e-38, huge, -huge], "float32"))], [variable])
    assert np.isfinite(to_numpy(variable)).all()


@pytest.mark.usefixtures("float32")
def test_a_centered_constant_gradient_never_gives_nan():
    grad = keras.ops.convert_to_tensor(1e3 * np.random.default_rng(0).normal(size=20_000).astype("float32"))
    variable = keras.Variable(np.zeros(20_000), dtype="float32")
    optimizer = ours.RMSprop(1e-3, centered=True)
    for _ in range(200):
        optimizer.apply([grad], [variable])
    assert np.isfinite(to_numpy(variable)).all()


def small_model(optimizer, **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(1)])
    model.compile(optimizer=optimizer, loss="mse", **options)
    return model


def task():
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    return x, np.sin(x.sum(axis=1, keepdims=True))


FIT = {"batch_size": 16, "verbose": 0, "shuffle": False}


def assert_fits_end_alike(mine, theirs, *, epochs):
    """Each step is promised to 4 units in the last place; the weights are below 2, where a unit is at most ULP."""
    steps = epochs * len(task()[0]) // FIT["batch_size"]
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
def test_a_saved_model_goes_on_as_if_it_had_not_been_saved(options, tmp_path):
    x, y = task()
    model = small_model(ours.RMSprop(**options))
    model.fit(x, y, epochs=2, **FIT)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.rule == model.optimizer.rule
    for a, b in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b))
    for each in (model, loaded):
        each.fit(x, y, epochs=2, **FIT)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("float32")
def test_fit_is_that_of_keras():
    x, y = task()
    mine, theirs = small_model(ours.RMSprop(0.01)), small_model(keras.optimizers.RMSprop(0.01))
    for model in (mine, theirs):
        model.fit(x, y, epochs=3, **FIT)
    assert_fits_end_alike(mine, theirs, epochs=3)


@pytest.mark.usefixtures("float32")
@pytest.mark.skipif(BACKEND == "torch", reason="jit_compile on the torch backend needs a C++ compiler at run time")
def test_fit_compiles():
    x, y = task()
    model = small_model(ours.RMSprop(0.01, centered=True, momentum=0.9), jit_compile=True)
    plain = small_model(
        ours.RMSprop(0.01, centered=True, momentum=0.9), jit_compile=False, run_eagerly=BACKEND != "jax"
    )
    for each in (model, plain):
        each.fit(x, y, epochs=2, **FIT)
    assert_fits_end_alike(model, plain, epochs=2)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"centered": True, "epsilon": 1e-4}], ids=str)
def test_a_run_changes_over_to_keras_and_back_in_its_middle(options):
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
    close([to_numpy(p) for p in params], expected, rtol=1e-11)


def test_keras_leaves_the_state_of_a_centered_rule_alone():
    mine, theirs = ours.RMSprop(centered=True), keras.optimizers.RMSprop(centered=True)
    run(mine, steps=2)
    theirs.build(variables())
    store = {}
    mine.save_own_variables(store)
    with pytest.warns(UserWarning, match="Skipping variable loading"):
        theirs.load_own_variables(store)


def test_a_state_of_other_statistics_is_refused():
    mine = ours.RMSprop(dialect=Rule(centered=True, bias_correction=True))
    run(mine, steps=2)
    store = {}
    mine.save_own_variables(store)
    other = ours.RMSprop(centered=True)
    other.build(variables())
    with pytest.raises(StateError, match="saved with bias_correction=True"):
        other.load_own_variables(store)


def test_a_buffer_that_keras_has_no_place_for_is_refused():
    optimizer = ours.RMSprop(dialect="torch", momentum=0.9)
    run(optimizer, steps=1)
    with pytest.raises(StateError, match="Keras has no place"):
        optimizer.keras_weights()


def test_the_variables_have_the_names_and_the_order_of_keras():
    for options in ({"momentum": 0.9, "use_ema": True}, {"centered": True, "momentum": 0.9}):
        mine, theirs = ours.RMSprop(**options), keras.optimizers.RMSprop(**options)
        for optimizer in (mine, theirs):
            optimizer.build(variables())
        names = [v.name for v in mine.variables]
        assert [n.replace("variance", "velocity") for n in names] == [v.name for v in theirs.variables]


@pytest.mark.skipif(BACKEND == "tensorflow", reason="Keras has no stateless_apply on TensorFlow")
def test_a_stateless_step_leaves_what_it_was_given_alone():
    params = variables()
    optimizer = ours.RMSprop(0.1, momentum=0.9)
    optimizer.build(params)
    given = [keras.ops.convert_to_tensor(to_numpy(v).copy()) for v in params]
    state = [keras.ops.convert_to_tensor(to_numpy(v).copy()) for v in optimizer.variables]
    grads = gradients(1)[0]
    new, _ = optimizer.stateless_apply(state, grads, given)
    close([to_numpy(g) for g in given], [to_numpy(v) for v in params], rtol=0)
    optimizer.apply(grads, params)
    close([to_numpy(n) for n in new], [to_numpy(v) for v in params])


@pytest.mark.usefixtures("float32")
@only("torch")
@pytest.mark.skipif(not rmsprop.compiled(), reason="the compiled module is not built")
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"centered": True}, {"weight_decay": 0.1}], ids=str)
def test_cpu_variables_take_the_kernel_and_have_the_bits_of_the_numpy_front_end(options):
    optimizer = ours.RMSprop(0.01, **options)
    mine = run(optimizer, steps=10, dtype="float32")
    params = [to_numpy(v) for v in variables("float32")]
    numpy_optimizer = rmsprop.RMSprop(params, lr=0.1, rule=optimizer.rule)
    for t, grads in enumerate(gradients(10, "float32")):
        numpy_optimizer.step([to_numpy(g) for g in grads], lr=float(np.float32(lr_at(t))))
    close(mine, params, rtol=0)


@only("torch")
@pytest.mark.skipif(not rmsprop.compiled(), reason="the compiled module is not built")
def test_what_the_kernel_cannot_take_is_stepped_by_the_reference(monkeypatch):
    from rmsprop.keras import _torch

    kernel = run(ours.RMSprop(0.01, momentum=0.9), steps=5)
    monkeypatch.setattr(_torch, "_READY", False)
    close(run(ours.RMSprop(0.01, momentum=0.9), steps=5), kernel, rtol=1e-14)


@pytest.mark.usefixtures("float32")
def test_keras_own_tests_pass_with_this_optimizer_in_its_place(monkeypatch):
    owner = pytest.importorskip("keras.src.optimizers.rmsprop_test", reason="keras ships no tests")
    import unittest

    monkeypatch.setattr(owner, "RMSprop", ours.RMSprop)
    suite = unittest.defaultTestLoader.loadTestsFromModule(owner)
    result = unittest.TextTestRunner(stream=io.StringIO()).run(suite)
    assert result.testsRun >= 6
    assert result.wasSuccessful(), result.failures + result.errors
