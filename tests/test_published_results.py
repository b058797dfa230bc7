"""Promise: published results are reproduced, and each example prints one of them."""

import importlib.util
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rmsprop import RMSprop, Rule, baselines, formula
from rmsprop.minimize import minimize

EXAMPLES = Path(__file__).parent.parent / "examples"
OUTSIDE = Rule(rho=0.9, eps=1e-8, eps_mode="outside")


def load_example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_formula(gradient, start, rule, lr, steps):
    """Return the points of a run by `formula.step`."""
    x = np.asarray(start, dtype=float)
    buffers = {name: np.full_like(x, rule.init_value) for name in rule.buffers}
    points = [x]
    for _ in range(steps):
        x, buffers = formula.step(x, np.asarray(gradient(x)), buffers, rule, lr=lr)
        points.append(x)
    return np.array(points)


def test_one_step_on_three_numbers():
    expected = [0.23162277, 0.36837724, 0.56837725]
    theta = np.array([0.2, 0.4, 0.6])
    RMSprop(theta, lr=0.01, dialect=Rule(rho=0.9, eps=1e-8, eps_mode="inside")).step(np.array([-0.5, 0.3, 0.24]))
    # Published with eight decimals.
    np.testing.assert_allclose(theta, expected, rtol=0, atol=0.5e-8)
    np.testing.assert_allclose(load_example("one_gradient").main(), expected, rtol=0, atol=0.5e-8)


def cubic(x):
    return x - x**3


def test_oscillation_around_the_minimum_of_a_cubic():
    def slope(x):
        # Read from left to right, (3 x) x: rounded as in the publication.
        return 1 - 3 * x * x

    expected = -0.5823286152867089
    run = minimize(cubic, -1.0, jac=slope, lr=0.01, dialect=OUTSIDE, steps=1000, trace=True)
    assert abs(run.x / expected - 1) < 1e-12
    assert abs(run_formula(slope, [-1.0], OUTSIDE, 0.01, 1000)[-1, 0] / expected - 1) < 1e-12
    distances = np.abs(run.trace.x[:, 0] + 0.57735)
    assert int((distances < 0.01).argmax()) == 57
    _, decreasing = load_example("curve").main()
    assert abs(float(decreasing.x) + 1 / math.sqrt(3)) < 1e-6


def test_a_cubic_stays_near_its_minimum_from_step_57():
    def slope(x):
        # With 3 (x x) the run meets the one double at which the slope is exactly 0, and does not oscillate.
        return 1 - 3 * (x * x)

    run = minimize(cubic, -1.0, jac=slope, lr=0.01, dialect=OUTSIDE, steps=1000, trace=True)
    distances = np.abs(run.trace.x[:, 0] + 0.57735)
    assert distances[56] >= 0.01
    assert np.all(distances[57:] < 0.01)


def test_the_tilted_bowl_in_a_column():
    def gradient(p):
        x, y = p
        return np.array([4 * x + 2 * y - 6, 2 * x + 4 * y])

    points = run_formula(gradient, [[1.0], [0.0]], OUTSIDE, 0.01, 1000)
    run = minimize(
        lambda p: 2 * p[0] ** 2 + 2 * p[0] * p[1] + 2 * p[1] ** 2 - 6 * p[0],
        np.array([[1.0], [0.0]]),
        jac=gradient,
        lr=0.01,
        dialect=OUTSIDE,
        steps=1000,
    )
    for end in (points[-1], run.x):
        assert end.shape == (2, 1)
        np.testing.assert_allclose(end.ravel(), [2.005, -0.995], rtol=0, atol=0.5e-3)
    # The minimum solves 4 x + 2 y = 6, 2 x + 4 y = 0.
    np.testing.assert_allclose(np.linalg.solve([[4, 2], [2, 4]], [6, 0]), [2, -1])
    assert np.abs(run.x.ravel() - [2, -1]).max() < 0.01


def test_one_neuron_learns_while_adagrad_stalls():
    neuron = load_example("one_neuron")
    fast, slow = neuron.main()
    np.testing.assert_allclose(fast.x, [1.7413592806238427, -2.3867311938496796], rtol=1e-12)
    assert f"{fast.fun:.2e}" == "4.58e-04"
    assert f"{slow.fun:.2e}" == "5.35e-02"

    p = neuron.START.copy()
    adagrad = baselines.AdaGrad(p, lr=0.1)
    for _ in range(100):
        adagrad.step(neuron.gradient(p))
    assert f"{neuron.loss(p):.2e}" == "5.35e-02"


def test_twenty_steps_along_the_ravine():
    def gradient(x):
        return np.array([0.2 * x[0], 4 * x[1]])

    points = run_formula(gradient, [-5.0, -2.0], Rule(rho=0.9, eps=1e-6), 0.4, 20)
    run, _ = load_example("ravine").main()
    for end in (points[-1], run.x):
        assert f"{end[0]:.4f}" == "-0.0106"
        assert abs(end[1]) < 1e-6


OUTPUTS = {
    "one_gradient": "[0.23162277 0.36837724 0.56837725]",
    "curve": "x = -0.582328615286",
    "tilted_bowl": "[[ 2.005]\n [-0.995]]",
    "one_neuron": "loss 4.58e-04",
    "ravine": "x1 = -0.0106",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OUTPUTS)
def test_every_example_prints_its_result(name):
    ran = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / f"{name}.py"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert OUTPUTS[name] in ran.stdout
