"""What the notes say is what the numbers show."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rmsprop.lab.experiment import Experiment
from rmsprop.lab.notes import exit_of, notes
from rmsprop.lab.simulate import simulate


def told(run, *, function="0.1*x^2 + 2*y^2", start=(-5, -2), steps=20, domain=((-6, 6), (-3, 3)), lowest=0.0, **more):
    asked = {"function": function, "start": list(start), "steps": steps, "runs": [run], "domain": domain, **more}
    experiment = Experiment.read(asked)
    paths = simulate(experiment)
    return notes(experiment, paths, lowest=lowest), paths[0]


def texts(found) -> str:
    return " ".join(note.text for note in found)


def test_the_first_step_is_lr_over_the_root_of_one_minus_rho():
    found, path = told({"optimizer": "rmsprop", "lr": 0.4})
    assert np.abs(path.x[1] - path.x[0]) == pytest.approx([0.4 / math.sqrt(0.1)] * 2, rel=1e-6)
    assert "The first step is 1.26 along each axis" in texts(found)


@pytest.mark.parametrize("rule", [{"centered": True}, {"bias_correction": True}, {"momentum": 0.9}])
def test_rules_with_another_first_step_make_no_such_claim(rule):
    assert "lr / sqrt(1 - rho)" not in texts(told({"optimizer": "rmsprop", "lr": 0.4, "rule": rule})[0])


def test_a_memory_that_starts_at_one_is_said():
    assert "memory starts at 1" in texts(told({"optimizer": "rmsprop", "lr": 0.4, "dialect": "tensorflow1"})[0])


def test_a_run_that_diverges_says_when():
    found, path = told({"optimizer": "gradient_descent", "lr": 2.0}, steps=2000)
    assert path.broken is not None
    assert f"stop being finite at step {path.broken}" in texts(found)


def test_a_run_that_leaves_the_picture_says_when_and_where():
    found, path = told({"optimizer": "gradient_descent", "lr": 0.6}, steps=10)
    step = exit_of(path, ((-6, 6), (-3, 3)))
    assert step is not None
    assert all(abs(path.x[t, 1]) > 3 for t in range(step, 11))
    assert abs(path.x[step - 1, 1]) <= 3
    assert f"Left the picture at step {step}" in texts(found)


def test_a_run_that_comes_back_has_not_left():
    _, path = told({"optimizer": "momentum", "lr": 0.05}, domain=((-6, 6), (-2, 2)), start=(-5, -1.9), steps=300)
    assert (np.abs(path.x[:, 1]) <= 2).any()
    assert exit_of(path, ((-6, 6), (-2, 2))) is None


def test_a_swinging_end_is_called_one():
    found, path = told({"optimizer": "rmsprop", "lr": 0.1}, function="abs(x) + abs(y)", steps=400)
    assert "Swings around" in texts(found)
    assert np.ptp(path.x[-50:, 0]) > 0.01


def test_a_resting_end_is_called_one():
    found, path = told({"optimizer": "gradient_descent", "lr": 0.2}, steps=500)
    assert "Comes to rest at" in texts(found)
    assert np.abs(path.x[-1]).max() < 1e-3


def test_adagrads_falling_rate_is_told():
    assert "sum of squares only grows" in texts(told({"optimizer": "adagrad", "lr": 0.4}, steps=60)[0])


def test_every_step_that_is_named_exists():
    for optimizer in ("rmsprop", "adam", "gradient_descent"):
        found, path = told({"optimizer": optimizer, "lr": 0.3}, steps=100)
        assert all(note.step is None or 0 <= note.step < len(path.x) for note in found)
