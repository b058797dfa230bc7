"""Promise: on each backend the numbers match Keras, or the formula of another dialect. test_keras.py runs this file."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import rmsprop
import rmsprop.keras as ours
from cases import MINGLED
from keras_suite.keras_runs import BACKEND, assert_close, gradients, lr_at, only_on, run, to_numpy, variables
from rmsprop import formula
from rmsprop.errors import InputTypeError

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
def test_100_steps_with_a_schedule_match_keras(options):
    assert_close(run(ours.RMSprop(0.01, **options)), run(keras.optimizers.RMSprop(0.01, **options)))


@pytest.mark.parametrize("rule", MINGLED, ids=repr)
def test_every_rule_follows_the_formula(rule):
    mine = run(ours.RMSprop(0.01, dialect=rule), steps=20)
    for i, (param, got) in enumerate(zip(variables(), mine)):
        param = to_numpy(param)
        buffers = {b: np.full_like(param, rule.init_value if b in ("mean_sq", "grad_var") else 0) for b in rule.buffers}
        lr_max = 0.0
        for t, grads in enumerate(gradients(20)):
            lr_max = max(lr_max, float(np.float32(lr_at(t))))
            numbers = {"lr": lr_at(t), "step": t + 1, "lr_max": lr_max}
            param, buffers = formula.step(param, to_numpy(grads[i]), buffers, rule, **numbers)
        np.testing.assert_allclose(got, param, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dialect", ["keras3", "torch", "sb3"])
def test_excluded_variables_do_not_decay(dialect):
    def exclude(optimizer, params):
        optimizer.exclude_from_weight_decay(var_names=["bias"], var_list=[params[0]])

    excluded = run(ours.RMSprop(weight_decay=0.25, dialect=dialect), steps=5, before=exclude)
    without = run(ours.RMSprop(dialect=dialect), steps=5)
    everywhere = run(ours.RMSprop(weight_decay=0.25, dialect=dialect), steps=5)
    assert_close(excluded, [*without[:2], everywhere[2]])
    assert not np.array_equal(without[2], everywhere[2])
    if dialect == "keras3":
        assert_close(excluded, run(keras.optimizers.RMSprop(weight_decay=0.25), steps=5, before=exclude))


def train_embedding_on_a_repeated_row(optimizer):
    layer = keras.layers.Embedding(4, 2, embeddings_initializer="ones")
    dense = keras.layers.Dense(1, kernel_initializer="ones", use_bias=False)
    model = keras.Sequential([keras.Input((2,), dtype="int32"), layer, keras.layers.Flatten(), dense])
    dense.trainable = False
    model.compile(optimizer=optimizer, loss=lambda truth, got: keras.ops.sum(got, axis=-1))
    model.fit(np.array([[2, 2]], "int32"), np.zeros((1, 1), "float32"), verbose=0)
    return to_numpy(layer.embeddings)


@pytest.mark.usefixtures("float32")
def test_repeated_rows_of_a_sparse_gradient_are_summed_before_they_are_squared():
    # Both slices have gradient 1, so the row has 2: mean_sq .1 * 2**2, update .1 * 2 / sqrt(.4) = .1 / sqrt(.1).
    after = train_embedding_on_a_repeated_row(ours.RMSprop(0.1))
    np.testing.assert_allclose(after[2], 1 - 0.1 / np.sqrt(0.1), rtol=1e-5)
    np.testing.assert_array_equal(after[[0, 1, 3]], 1.0)


@pytest.mark.usefixtures("float32")
@only_on("tensorflow")
def test_keras_on_tensorflow_squares_repeated_rows_before_it_sums_them():
    # mean_sq is .1 * (1**2 + 1**2), half of what it is for the row's gradient of 2: the step is sqrt(2) times as long.
    after = train_embedding_on_a_repeated_row(keras.optimizers.RMSprop(0.1))
    np.testing.assert_allclose(after[2], 1 - 0.1 * 2 / np.sqrt(0.1 * 2), rtol=1e-5)


@only_on("tensorflow")
def test_a_sparse_gradient_raises_for_dialects_that_update_its_rows_only():
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
def test_16_bit_variables_have_float32_state(dtype):
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
    constant = 1e3 * np.random.default_rng(0).normal(size=20_000)
    for grad, epsilon, steps in (([0, 1e-38, huge, -huge], 0.0, 3), (constant, 1e-7, 200)):
        variable = keras.Variable(np.zeros(len(grad)), dtype="float32")
        optimizer = ours.RMSprop(1e-3, centered=centered, epsilon=epsilon)
        for _ in range(steps):
            optimizer.apply([keras.ops.convert_to_tensor(np.array(grad, "float32"))], [variable])
        assert np.isfinite(to_numpy(variable)).all()


@pytest.mark.skipif(BACKEND == "tensorflow", reason="Keras has no stateless_apply on TensorFlow")
def test_a_stateless_step_does_not_change_its_arguments():
    params = variables()
    optimizer = ours.RMSprop(0.1, momentum=0.9)
    optimizer.build(params)
    given = [keras.ops.convert_to_tensor(to_numpy(v).copy()) for v in params]
    state = [keras.ops.convert_to_tensor(to_numpy(v).copy()) for v in optimizer.variables]
    grads = gradients(1)[0]
    new, _ = optimizer.stateless_apply(state, grads, given)
    assert_close([to_numpy(g) for g in given], [to_numpy(v) for v in params], rtol=0)
    optimizer.apply(grads, params)
    assert_close([to_numpy(n) for n in new], [to_numpy(v) for v in params])


@pytest.mark.usefixtures("float32")
@only_on("torch")
@pytest.mark.skipif(not rmsprop.is_compiled(), reason="the compiled module is not built")
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"centered": True}, {"weight_decay": 0.1}], ids=str)
def test_cpu_variables_use_the_kernel_and_match_the_numpy_front_end_exactly(options):
    optimizer = ours.RMSprop(0.01, **options)
    mine = run(optimizer, steps=10, dtype="float32")
    params = [to_numpy(v) for v in variables("float32")]
    numpy_optimizer = rmsprop.RMSprop(params, lr=0.1, dialect=optimizer.rule)
    for t, grads in enumerate(gradients(10, "float32")):
        numpy_optimizer.step([to_numpy(g) for g in grads], lr=float(np.float32(lr_at(t))))
    assert_close(mine, params, rtol=0)


@only_on("torch")
@pytest.mark.skipif(not rmsprop.is_compiled(), reason="the compiled module is not built")
def test_without_the_kernel_the_formula_gives_the_same_numbers(monkeypatch):
    from rmsprop.keras import _torch

    kernel = run(ours.RMSprop(0.01, momentum=0.9), steps=5)
    monkeypatch.setattr(_torch, "_READY", False)
    assert_close(run(ours.RMSprop(0.01, momentum=0.9), steps=5), kernel, rtol=1e-14)
