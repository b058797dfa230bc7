"""Promise: the basins call a point a minimum only if it is one, and say why the other runs are at none."""

from __future__ import annotations

import numpy as np
import pytest
from engine import ask, make_state

SQUARE = [[-2, 2], [-2, 2]]
RMSPROP = {"optimizer": "rmsprop", "lr": 0.02}
DESCENT = {"optimizer": "gradient_descent", "lr": 0.05}
MOVING, RESTING, DIVERGED = -1, -2, -3


def find_basins(run, text, steps=300, domain=SQUARE):
    found = ask("basins", make_state([run], text=text, steps=steps, domain=domain))
    return found["minima"].reshape(-1, 2), found["label"]


@pytest.mark.parametrize("text", ["(1 - x)^2 + 100*(y - x^2)^2", "(1 - x)^2 + 100*(y - x^2)^2 + 0*x"])
@pytest.mark.parametrize("run", [{"optimizer": "rmsprop", "lr": 0.003}, {"optimizer": "adam", "lr": 0.01}])
def test_unfinished_runs_in_a_valley_are_still_moving(text, run):
    minima, label = find_basins(run, text, domain=[[-2, 2], [-1, 3]])
    np.testing.assert_allclose(minima, [[1.0, 1.0]] * len(minima), atol=1e-5)
    assert len(minima) <= 1
    assert (label == MOVING).mean() > 0.1
    assert (label != RESTING).all()


@pytest.mark.parametrize("run", [RMSPROP, DESCENT, {"optimizer": "adam", "lr": 0.02}])
@pytest.mark.parametrize("steps", [1, 20, 90, 400])
def test_a_saddle_has_no_minimum(run, steps):
    minima, label = find_basins(run, "x^2 - y^2", steps=steps)
    assert len(minima) == 0
    assert (label < 0).all()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x^2 + 3*y^2 + 1", [[0, 0]]),
        ("abs(x - 1) + abs(y)", [[1, 0]]),
        ("(x^2 - 1)^2 + y^2", [[-1, 0], [1, 0]]),
    ],
)
def test_the_minima_of_a_typed_function_are_found_exactly(text, expected):
    minima, label = find_basins(RMSPROP, text)
    np.testing.assert_allclose(sorted(minima.tolist()), expected, atol=1e-5)
    assert (label >= 0).mean() > 0.9


def test_runs_that_rest_on_a_flat_are_not_at_a_minimum():
    minima, label = find_basins(RMSPROP, "relu(x - 1)")
    assert len(minima) == 0
    assert (label == RESTING).mean() > 0.5


def test_runs_that_diverge_are_neither_moving_nor_at_a_minimum():
    _, label = find_basins({"optimizer": "gradient_descent", "lr": 3.0}, "x^2 + y^2", steps=1000)
    assert (label == DIVERGED).all()
