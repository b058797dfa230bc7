"""Promise: the notes describe what the numbers show."""

from __future__ import annotations

import math

import numpy as np
import pytest
from engine import ask, make_state

RMSPROP = {"optimizer": "rmsprop", "lr": 0.4}
RAVINE = {"text": "0.1*x^2 + 2*y^2", "start": [-5, -2], "steps": 20, "domain": [[-6, 6], [-3, 3]]}


def run_notes(run, **changes):
    """Return the notes as one text, the run, and its points."""
    found = ask("run", make_state([run], **{**RAVINE, **changes}))
    (path,) = found["runs"]
    assert all(note["step"] is None or 0 <= note["step"] <= path["steps"] for note in found["notes"])
    return " ".join(note["text"] for note in found["notes"]), path, path["x"].reshape(-1, 2)


def test_the_first_step_is_lr_over_the_root_of_one_minus_rho():
    text, _, x = run_notes(RMSPROP)
    assert np.abs(x[1] - x[0]) == pytest.approx([0.4 / math.sqrt(0.1)] * 2, rel=1e-6)
    assert "The first step is 1.26 along each axis" in text


@pytest.mark.parametrize("own", [{"centered": True}, {"bias_correction": True}, {"momentum": 0.9}])
def test_rules_with_another_first_step_have_no_such_note(own):
    assert "lr / sqrt(1 - rho)" not in run_notes({**RMSPROP, "own": own})[0]


def test_a_run_that_diverges_has_the_step():
    text, path, _ = run_notes({"optimizer": "gradient_descent", "lr": 2.0}, steps=2000)
    assert path["broken"] is not None
    assert f"stop being finite at step {path['broken']}" in text


def test_a_run_that_leaves_the_picture_has_the_step():
    text, path, x = run_notes({"optimizer": "gradient_descent", "lr": 0.6}, steps=10)
    step = path["exit"]
    assert (np.abs(x[step:, 1]) > 3).all()
    assert abs(x[step - 1, 1]) <= 3
    assert f"Left the picture at step {step}" in text


def test_a_run_that_comes_back_has_not_left():
    changes = {"domain": [[-6, 6], [-1, 1]], "start": [-5, -0.9], "steps": 300}
    text, path, x = run_notes({"optimizer": "adagrad", "lr": 2.0}, **changes)
    assert (np.abs(x[:, 1]) > 1).any()
    assert path["exit"] is None
    assert "Left the picture" not in text


def test_an_end_is_described_as_oscillating_converging_or_moving():
    text, _, x = run_notes({"optimizer": "rmsprop", "lr": 0.1}, text="abs(x) + abs(y)", steps=400)
    assert "Oscillates around" in text
    assert np.ptp(x[-50:, 0]) > 0.01
    text, _, x = run_notes({"optimizer": "gradient_descent", "lr": 0.2}, steps=500)
    assert "Converges to" in text
    assert np.abs(x[-1]).max() < 1e-3
    assert "Still moving" in run_notes({"optimizer": "gradient_descent", "lr": 0.001}, steps=50)[0]


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ({"optimizer": "adagrad", "lr": 0.4}, "sum of squares only grows"),
        ({**RMSPROP, "dialect": "tensorflow1"}, "mean square starts at 1"),
    ],
)
def test_the_statistic_is_described(run, words):
    assert words in run_notes(run, steps=60)[0]


def test_progress_is_described_with_and_without_a_known_minimum():
    assert "99 % of the way to the minimum by step" in run_notes(RMSPROP)[0]
    text, path, _ = run_notes(RMSPROP, text="0.1*x^2 + 2*y^2 + 0")
    assert f"Lowest value {path['f'].min():.3g}, at step {path['f'].argmin()}." in text
