"""Promise: what a picture shows of a run is the run's, at every moment, inside it and beyond; nothing here draws."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from viewing import RAVINE, run

from rmsprop import expression, landscapes, minimize, view
from rmsprop.errors import InputError, InputTypeError
from rmsprop.trace import Trace
from rmsprop.view.curves import curve
from rmsprop.view.ground import box_around
from rmsprop.view.moving import square_corners
from rmsprop.view.scene import Scene
from rmsprop.view.track import Box, Track, crossing


def path(*points, f=None):
    """A trace that went through these points."""
    x = np.array(points, float)
    zeros = np.zeros((len(x) - 1, x.shape[1]))
    f = np.zeros(len(x)) if f is None else np.array(f, float)
    return Trace(x=x, f=f, grad=zeros, mean_sq=zeros, update=np.diff(x, axis=0), effective_lr=zeros, lr=zeros[:, 0])


def test_the_area_of_a_square_is_the_accumulator():
    both = [run(), run("adagrad")]
    scene = Scene.of(both, function=RAVINE)
    for step in (0, 7, 19):
        frame = scene.frame(step)
        expected = np.stack([trace.mean_sq[step] for trace in both])
        np.testing.assert_allclose(frame.sides**2 / frame.sides[0, 0] ** 2, expected / expected[0, 0], rtol=1e-12)


def test_the_outline_is_the_gradient_on_the_same_scale():
    trace = run("adagrad")
    frame = view.frame(trace, 0, function=RAVINE)
    # After one step AdaGrad's sum is the first gradient squared.
    np.testing.assert_allclose(frame.outlines, frame.sides, rtol=1e-12)


def test_the_largest_square_of_a_whole_run_has_side_one():
    scene = Scene.of([run(), run("adagrad")], function=RAVINE)
    sides = [np.nanmax([scene.frame(t).sides, scene.frame(t).outlines]) for t in range(21)]
    assert max(sides) == pytest.approx(1.0)


def test_an_optimizer_without_an_accumulator_has_no_square():
    frame = view.frame(run("momentum", lr=0.1), 5, function=RAVINE)
    assert np.isnan(frame.sides).all()


def test_a_square_lies_against_the_gradient():
    frame = view.frame(run(), 0, function=RAVINE)
    assert frame.grad.tolist() == [[-1.0, -8.0]]
    assert frame.directions.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("direction", [-1.0, 1.0])
def test_a_square_is_a_square_in_pixels_and_touches_the_ball(axis, direction):
    unit, centre = np.array([3.0, 0.5]), np.array([1.0, 2.0])
    corners = (square_corners(centre, 0.4, axis, direction, unit) - centre) / unit
    size = corners.max(axis=0) - corners.min(axis=0)
    np.testing.assert_allclose(size, 0.4)
    far = corners[np.abs(corners[:, axis]).argmax(), axis]
    assert np.sign(far) == direction
    assert np.abs(corners[:, axis]).min() == 0.0


def test_at_a_whole_step_the_ball_is_where_the_run_was():
    trace = run()
    scene = Scene.of(trace, function=RAVINE)
    for step in range(trace.steps + 1):
        frame = scene.frame(step)
        assert (frame.points[0] == trace.x[step]).all()
        assert frame.loss[0] == trace.f[step]
        assert (frame.trails[0] == trace.x[: step + 1]).all()


def test_between_two_steps_the_ball_is_on_the_line_between_them():
    trace = run()
    frame = view.frame(trace, 3.25, function=RAVINE)
    np.testing.assert_allclose(frame.points[0], 0.75 * trace.x[3] + 0.25 * trace.x[4])
    assert (frame.trails[0][-1] == frame.points[0]).all()
    assert (frame.effective_lr[0] == trace.effective_lr[3]).all()


def test_a_shorter_run_waits_at_its_end_for_the_others():
    short, long = run(steps=5), run("adam", steps=20)
    frame = view.frame([short, long], 15, function=RAVINE)
    assert (frame.points[0] == short.x[5]).all()
    assert len(frame.trails[0]) == 6
    assert len(frame.trails[1]) == 16


def test_the_effective_learning_rate_is_the_librarys():
    trace = run()
    steps, values = curve(Scene.of(trace).tracks[0], "effective_lr")
    assert (values == trace.effective_lr).all()
    assert steps.tolist() == list(range(20))


def test_step_lengths_are_distances():
    trace = run()
    _, values = curve(Scene.of(trace).tracks[0], "step_length")
    np.testing.assert_allclose(values[:, 0], np.hypot(*trace.update.T), rtol=1e-12)


def test_many_parameters_are_shown_by_least_median_and_largest():
    start = np.linspace(1.0, 2.0, 9)
    trace = minimize(lambda x: x @ x, start, jac=lambda x: 2 * x, steps=5, trace=True).trace
    scene = Scene.of(trace)
    assert scene.ground is None
    _, values = curve(scene.tracks[0], "effective_lr")
    np.testing.assert_array_equal(values[:, 0], trace.effective_lr.min(axis=1))
    np.testing.assert_array_equal(values[:, 2], trace.effective_lr.max(axis=1))


def test_a_run_of_many_starts_is_as_many_runs():
    f = expression.parse("x^2 + y^2")
    trace = minimize(f, [[1.0, 1.0], [2.0, -1.0]], jac=f.grad, steps=10, trace=True).trace
    frame = view.frame(trace, 0, function=f)
    assert frame.points.tolist() == [[1.0, 1.0], [2.0, -1.0]]


def test_times_end_at_the_last_step_and_are_whole_where_there_are_enough():
    scene = Scene.of(run(steps=300))
    times = scene.times(200)
    assert (times[0], times[-1], len(times)) == (0.0, 300.0, 200)
    assert (times == times.round()).all()
    assert len(set(scene.times(301))) == 301


# Leaving the picture


def test_a_run_that_flies_away_is_shown_up_to_the_edge():
    lost = run("gradient_descent", lr=0.6, steps=200)
    scene = Scene.of([run(), lost], function=RAVINE)
    track = scene.tracks[1]
    assert track.left is not None
    box = scene.box
    assert box.holds(lost.x[track.left - 1])
    assert not box.holds(lost.x[track.left :]).any()
    assert box.holds(track.exit)
    assert min(np.abs(track.exit - box.low).min(), np.abs(track.exit - box.high).min()) < 1e-12
    frame = scene.frame(200)
    assert frame.inside.tolist() == [True, False]
    assert np.isfinite(frame.trails[1]).all()
    assert (frame.points[1] == track.exit).all()


def test_before_it_leaves_it_is_in_the_picture():
    lost = run("gradient_descent", lr=0.6, steps=200)
    scene = Scene.of(lost, function=RAVINE)
    assert scene.frame(scene.tracks[0].left - 1).inside.all()


def test_a_run_that_comes_back_has_not_left():
    track = Track(label="", trace=path([0, 0], [5, 0], [0.5, 0]), box=Box(np.array([-1.0, -1]), np.array([1.0, 1])))
    assert track.left is None


def test_a_run_that_starts_outside_and_stays_has_left_at_once():
    track = Track(label="", trace=path([3, 0], [4, 0]), box=Box(np.array([-1.0, -1]), np.array([1.0, 1])))
    assert track.left == 0
    assert track.exit.tolist() == [1.0, 0.0]


COORDINATE = st.floats(-0.99, 0.99)
FAR = st.floats(-1e308, 1e308).filter(lambda v: abs(v) > 1)


@given(COORDINATE, COORDINATE, FAR, st.floats(-1e308, 1e308))
def test_the_crossing_is_on_the_edge_and_on_the_way(a, b, c, d):
    box = Box(np.array([-1.0, -1.0]), np.array([1.0, 1.0]))
    inner, outer = np.array([a, b]), np.array([c, d])
    place = crossing(inner, outer, box)
    assert box.holds(place)
    # The same in exact arithmetic.
    ways = [(Fraction(float(p)), Fraction(float(q)) - Fraction(float(p))) for p, q in zip(inner, outer)]
    share = min((1 - p) / way if way > 0 else (-1 - p) / way for p, way in ways if way and abs(p + way) > 1)
    np.testing.assert_allclose(place, [float(p + share * way) for p, way in ways], atol=1e-12)


def test_a_run_that_explodes_does_not_shrink_the_others():
    calm = run()
    wild = path(*([[-5.0, -2.0]] + [[10.0**i, 0.0] for i in range(1, 100)]), f=[10.0**i for i in range(100)])
    box = box_around([calm.x, wild.x], [calm.f, wild.f])
    assert (box.span < 100).all()


def test_a_long_way_to_a_far_minimum_is_shown_whole():
    f = expression.parse("(x - 1000)^2")
    trace = run(f=f, start=[0.0], lr=20.0, steps=100)
    box = Scene.of(trace, function=f).box
    assert box.holds(trace.x).all()


@pytest.mark.parametrize("count", [1, 2])
def test_the_box_of_a_run_without_movement_has_a_size(count):
    box = box_around([np.zeros((1, count))], [np.zeros(1)])
    assert (box.span > 0).all()


# Refusals


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"traces": []}, InputError, "traces: 0 runs, expected 1 to 24"),
        ({"traces": [3]}, InputTypeError, r"traces\[0\]: int, expected a Trace"),
        ({"labels": ["a", "b"]}, InputError, "labels: 2 names for 1 runs"),
        ({"function": "x^2"}, InputError, "function: of x, expected 2 variables"),
        ({"function": 3}, InputTypeError, "function: int, expected a text"),
        (
            {"domain": [(0, 1), (1, 0)]},
            InputError,
            r"domain\[1\]=\(1, 0\), expected two finite numbers, the lower first",
        ),
        ({"domain": [(0, 1)]}, InputError, "1 pairs, expected 2, one for each coordinate"),
        ({"domain": "wide"}, InputError, r"expected \(low, high\)"),
        ({"domain": [(0, np.inf), (0, 1)]}, InputError, "finite"),
    ],
)
def test_what_cannot_be_shown_is_refused(options, kind, message):
    with pytest.raises(kind, match=message):
        Scene.of(**{"traces": run(), **options})


def test_runs_of_different_dimensions_do_not_share_a_picture():
    one = run(f=landscapes.get("parabola"), start=[-1.0])
    with pytest.raises(InputError, match=r"traces: runs of \[2, 1\] coordinates"):
        Scene.of([run(), one])
