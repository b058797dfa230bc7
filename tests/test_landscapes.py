"""Promise: gradients, minima and domains of the landscapes are right, and runs show what their notes say."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from rmsprop import Rule, expression, formula, landscapes
from rmsprop.errors import InputError

NAMES = landscapes.names()
TWELVE = ["bowl", "ravine", "rosenbrock", "himmelblau", "beale", "rastrigin", "ackley", "saddle", "monkey-saddle"]
TWELVE += ["plateau", "cliff", "two-wells"]


def run_rmsprop(land, *, start=None, lr=None, steps=None, rule=None):
    """Return the path of plain RMSprop, shape (steps + 1, n)."""
    rule = rule or Rule()
    point = np.array(land.start if start is None else start)
    state = {name: np.zeros_like(point) for name in rule.buffers}
    path = [point]
    for t in range(1, (steps or land.steps) + 1):
        point, state = formula.step(point, land.gradient(point), state, rule, lr=lr or land.lr, step=t)
        path.append(point)
    return np.array(path)


def run_gradient_descent(land, *, steps=None):
    """Return the path of gradient descent with the same learning rate, until it diverges."""
    point = np.array(land.start)
    path = [point]
    for _ in range(steps or land.steps):
        point = point - land.lr * land.gradient(point)
        if np.abs(point).max() > 1e6:
            break
        path.append(point)
    return np.array(path)


def find_exit(land, path):
    """Return the first step outside the domain, or infinity."""
    lower, upper = np.array(land.domain).T
    outside = ((path < lower) | (path > upper)).any(axis=1)
    return int(np.argmax(outside)) if outside.any() else math.inf


def draw_points(land, count=200):
    lower, upper = np.array(land.domain).T
    return np.random.default_rng(11).uniform(lower, upper, (count, len(lower)))


def compute_distance(land, point):
    """Return the distance to the nearest known minimum."""
    return np.abs(land.minima - point).max(axis=1).min()


def test_names_lists_the_landscapes_of_two_variables_and_of_one():
    assert list(landscapes.names(variables=2)) == TWELVE
    assert len(landscapes.names(variables=1)) >= 4
    assert set(landscapes.names(variables=1)) | set(TWELVE) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_that_of_central_differences(name):
    land = landscapes.get(name)
    points = draw_points(land)
    h = 1e-3
    if name == "cliff":
        points = points[(np.abs(points[:, :1] - [1.0, 1.2]) > 3 * h).all(axis=1)]
    if name == "kink":
        points = points[np.abs(points[:, 0]) > 3 * h]
    grads = land.gradient(points)
    for axis in range(points.shape[1]):
        step = np.zeros(points.shape[1])

        def compute_difference(h, axis=axis, step=step):
            step[axis] = h
            return (land(points + step) - land(points - step)) / (2 * h)

        # Richardson's extrapolation twice: what remains is of order h^6, and rounding.
        a, b, c = compute_difference(h), compute_difference(2 * h), compute_difference(4 * h)
        first, second = (4 * a - b) / 3, (4 * b - c) / 3
        scale = np.abs(land(points)).max() / h
        np.testing.assert_allclose(grads[:, axis], (16 * first - second) / 15, rtol=1e-8, atol=1e-13 * scale + 1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_the_minima_are_minima(name):
    land = landscapes.get(name)
    lower, upper = np.array(land.domain).T
    if not len(land.minima):
        assert land.minimum == -math.inf
        # Unbounded below: it falls further in every larger domain.
        assert land(draw_points(land) * 10).min() < 10 * land(draw_points(land)).min() < 0
        return
    assert ((land.minima >= lower) & (land.minima <= upper)).all()
    values = land(land.minima)
    assert values[0] == pytest.approx(land.minimum, abs=1e-14)
    assert (values >= values[0]).all()
    curvature = 1e3
    assert np.abs(land.gradient(land.minima)).max() <= curvature * np.finfo(float).eps
    # No point beside a minimum is lower, and no point of the domain is lower than the first.
    for minimum, value in zip(land.minima, values, strict=True):
        ring = minimum + 1e-3 * np.random.default_rng(5).standard_normal((100, len(lower)))
        assert (land(ring) > value).all()
    assert (land(draw_points(land, 20000)) >= land.minimum).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_start_lies_in_the_domain_and_is_not_a_minimum(name):
    land = landscapes.get(name)
    lower, upper = np.array(land.domain).T
    assert ((land.start > lower) & (land.start < upper)).all()
    assert len(land.start) == len(land.domain) == len(land.variables) == land.minima.shape[1]
    assert np.abs(land.gradient(land.start)).max() > 0


@pytest.mark.parametrize("name", NAMES)
def test_many_points_give_the_values_of_single_points(name):
    land = landscapes.get(name)
    points = draw_points(land, 24).reshape(4, 6, -1)
    values, grads = land.value_and_grad(points)
    assert (values.shape, grads.shape) == ((4, 6), points.shape)
    for index in np.ndindex(4, 6):
        value, grad = land.value_and_grad(points[index])
        assert value == values[index] == land(points[index])
        assert np.array_equal(grad, grads[index])


@pytest.mark.parametrize("name", NAMES)
def test_the_text_parses_to_the_function(name):
    land = landscapes.get(name)
    typed = expression.parse(land.text, variables=land.variables)
    assert typed == land.function
    assert np.array_equal(typed(draw_points(land)), land.function(draw_points(land)))
    assert str(typed) == land.text
    assert land.teaches.endswith(".")
    assert len(land.teaches) <= 110


def test_get_accepts_any_spelling_and_suggests_the_nearest_name():
    assert landscapes.get(" Two_Wells ") is landscapes.get("two-wells")
    with pytest.raises(InputError, match="did you mean 'rosenbrock'"):
        landscapes.get("rosenbork")
    with pytest.raises(InputError, match="expected one of bowl, ravine"):
        landscapes.get("zzzz")
    with pytest.raises(InputError, match="landscape None"):
        landscapes.get(None)


def test_a_landscape_cannot_be_changed():
    land = landscapes.get("bowl")
    with pytest.raises(dataclasses.FrozenInstanceError):
        land.lr = 1.0
    with pytest.raises(ValueError, match="read-only"):
        land.minima[0, 0] = 1.0


# ---- runs show what the notes say ------------------------------------------------------------------------------------

ENDS_WITHIN_LR = [
    "bowl",
    "himmelblau",
    "beale",
    "ackley",
    "plateau",
    "cliff",
    "parabola",
    "cubic",
    "double-well",
    "kink",
]


@pytest.mark.parametrize("name", ENDS_WITHIN_LR)
def test_a_run_with_the_preset_ends_within_lr_of_a_minimum(name):
    land = landscapes.get(name)
    # Beale's valley is ten times flatter along than across; oscillations across it also change x.
    reach = 1.5 * land.lr if name == "beale" else land.lr
    assert compute_distance(land, run_rmsprop(land)[-1]) <= reach


def test_bowl_both_coordinates_move_at_the_same_speed():
    moves = np.diff(run_rmsprop(landscapes.get("bowl"), steps=20), axis=0)
    straight = landscapes.get("bowl").start[0] / landscapes.get("bowl").start[1]
    assert np.abs(moves[0, 0] / moves[0, 1]) == pytest.approx(1.0, rel=1e-6)
    assert abs(straight) > 1.5


def test_ravine_ends_where_dive_into_deep_learning_says():
    # d2l.ai, RMSProp: rho 0.9, eps 1e-6 inside the root, 20 steps; it prints x1 -0.010599, x2 0.000000.
    land = landscapes.get("ravine")
    end = run_rmsprop(land, rule=Rule(eps=1e-6))[-1]
    assert end.tolist() == pytest.approx([-0.010599, 0.0], abs=5e-7)
    assert compute_distance(land, run_gradient_descent(land)[-1]) > 20 * compute_distance(land, run_rmsprop(land)[-1])


def test_rosenbrock_reaches_the_valley_early_and_the_minimum_late():
    land = landscapes.get("rosenbrock")
    path = run_rmsprop(land)
    floor = np.abs(path[:, 1] - path[:, 0] ** 2)
    assert np.argmax(floor < 0.05) < land.steps / 20
    assert compute_distance(land, path[land.steps // 20]) > 1.0
    assert compute_distance(land, path[-1]) < 0.05


def test_rastrigin_small_steps_end_in_the_nearest_cell():
    land = landscapes.get("rastrigin")
    end = run_rmsprop(land)[-1]
    assert np.array_equal(np.round(end), np.round(land.start))
    assert land(end) > 1.0


def test_ackley_large_steps_cross_the_ripples_where_small_steps_stop():
    land = landscapes.get("ackley")
    assert compute_distance(land, run_rmsprop(land, lr=0.02)[-1]) > 1.5
    path = run_rmsprop(land)
    assert np.abs(np.diff(path[-20:], axis=0)).max() > land.lr / 3


@pytest.mark.parametrize("name", ["saddle", "monkey-saddle"])
def test_rmsprop_leaves_a_saddle_before_gradient_descent_does(name):
    land = landscapes.get(name)
    assert find_exit(land, run_rmsprop(land)) < land.steps
    assert find_exit(land, run_gradient_descent(land)) > land.steps


def test_cliff_the_step_is_bounded_and_then_small():
    land = landscapes.get("cliff")
    path = run_rmsprop(land)
    moves = np.abs(np.diff(path, axis=0))
    assert moves.max() <= land.lr / math.sqrt(1 - 0.9) * (1 + 1e-12)
    assert np.abs(np.diff(run_gradient_descent(land), axis=0)).max() > 4.0
    landed = int(np.argmax(path[:, 0] < 1.0))
    assert moves[landed : landed + 10, 0].max() < land.lr / 20


def test_two_wells_momentum_reaches_the_deep_well():
    land = landscapes.get("two-wells")
    deep, shallow = land.minima
    assert np.abs(run_rmsprop(land)[-1] - shallow).max() <= land.lr
    assert np.abs(run_rmsprop(land, rule=Rule(buffer="unit", momentum=0.9))[-1] - deep).max() <= land.lr


def test_cubic_diverges_beyond_its_maximum_and_double_well_stays_on_it():
    assert run_rmsprop(landscapes.get("cubic"), start=[0.6], steps=1000)[-1, 0] > 5.0
    land = landscapes.get("double-well")
    assert run_rmsprop(land, start=[0.0])[-1, 0] == 0.0
    assert run_rmsprop(land, start=[-0.01])[-1, 0] == pytest.approx(-1.0, abs=land.lr)
    assert abs(run_rmsprop(land)[1, 0] - run_rmsprop(land)[0, 0]) > land.lr


@pytest.mark.parametrize("name", ["parabola", "kink"])
def test_a_constant_lr_keeps_the_run_oscillating(name):
    land = landscapes.get(name)
    tail = run_rmsprop(land, steps=400)[-50:, 0]
    assert tail.min() < 0 < tail.max()
    assert np.abs(tail).max() <= land.lr
    assert np.abs(np.diff(tail)).max() > land.lr / 4


@pytest.mark.parametrize(("start", "end"), [((0, 0), 0), ((-1, 0), 1), ((-1, -1), 2), ((3, -1), 3)])
def test_himmelblau_the_start_determines_the_minimum(start, end):
    land = landscapes.get("himmelblau")
    assert np.abs(run_rmsprop(land, start=np.array(start, float))[-1] - land.minima[end]).max() <= land.lr


def test_gradient_descent_stalls_on_quartic_and_plateau():
    for name in ("quartic", "plateau"):
        land = landscapes.get(name)
        ends = [run(land)[-1] for run in (run_rmsprop, run_gradient_descent)]
        assert compute_distance(land, ends[0]) < 0.1 * compute_distance(land, ends[1])


def test_gradients_of_beale_and_ackley_are_extreme_and_finite():
    beale, ackley = landscapes.get("beale"), landscapes.get("ackley")
    assert np.abs(beale.gradient(draw_points(beale, 5000))).max() > 1e4
    assert np.abs(beale.gradient(run_rmsprop(beale)[1:])).min() < 1e-2
    assert ackley.gradient([0.0, 0.0]).tolist() == [0.0, 0.0]
    # Beside the tip the slope is that of the cone, 20 * 0.2 / sqrt(2) along each axis.
    assert ackley.gradient([1e-9, 0.0])[0] == pytest.approx(4 / math.sqrt(2), rel=1e-6)
