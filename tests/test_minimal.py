"""If only one test file is run, this is the one: a step, a run, a refusal, a save, and both engines agree."""

from __future__ import annotations

import math

import numpy as np
import pytest

import rmsprop


def test_one_step_is_the_formula():
    param, grad = np.array([0.2, 0.4, 0.6]), np.array([-0.5, 0.3, 0.24])
    expected = param - 0.01 * grad / np.sqrt(0.1 * grad**2 + 1e-8)
    rmsprop.RMSprop(param, lr=0.01).step(grad)
    np.testing.assert_allclose(param, expected, rtol=1e-15)


def test_a_run_finds_the_minimum():
    point = np.array([-5.0, -2.0])
    optimizer = rmsprop.RMSprop(point, lr=lambda step: 0.4 / (1 + step / 20))
    for _ in range(500):
        optimizer.step(np.array([0.2 * point[0], 4 * point[1]]))
    assert math.hypot(*point) < 0.02


def test_a_wrong_gradient_is_refused_and_changes_nothing():
    param = np.ones((2, 3), "float32")
    optimizer = rmsprop.RMSprop({"w": param}, lr=0.1)
    with pytest.raises(rmsprop.errors.InputError) as caught:
        optimizer.step({"w": np.ones((3, 2), "float32")})
    assert str(caught.value) == "grads['w']: shape (3, 2), expected (2, 3) like params['w']"
    assert (param == 1).all()


def test_a_saved_run_goes_on(tmp_path):
    grads = np.random.default_rng(0).standard_normal((6, 10))
    straight, resumed = np.zeros(10), np.zeros(10)
    one, two = rmsprop.RMSprop(straight, lr=0.1), rmsprop.RMSprop(resumed, lr=0.1)
    for grad in grads:
        one.step(grad)
    for grad in grads[:3]:
        two.step(grad)
    two.save(tmp_path / "state")
    resumed[...] = np.nan
    again = rmsprop.RMSprop(resumed, lr=0.1)
    again.load(tmp_path / "state")
    for grad in grads[3:]:
        again.step(grad)
    assert straight.tobytes() == resumed.tobytes()


def test_the_engine_in_use_gives_the_bits_of_the_specification():
    rule = rmsprop.Rule(centered=True, buffer="lr", momentum=0.9)
    rng = np.random.default_rng(1)
    param = rng.standard_normal(1000).astype("float32")
    expected, state = param.copy(), {name: np.zeros_like(param) for name in rule.buffers}
    optimizer = rmsprop.RMSprop(param, lr=0.01, dialect=rule)
    for step in range(1, 4):
        grad = rng.standard_normal(1000).astype("float32")
        optimizer.step(grad)
        expected, state = rmsprop.formula.step(expected, grad, state, rule, lr=0.01, step=step)
    assert param.tobytes() == expected.tobytes()
