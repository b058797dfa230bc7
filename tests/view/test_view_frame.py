"""Promise: the arrays of a picture are the run's own numbers, at any time, inside the picture and outside."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmsprop import Rule, expression, landscapes, minimize, view
from rmsprop.errors import InputError, InputTypeError
from rmsprop.trace import Trace
from rmsprop.view.background import choose_box
from rmsprop.view.curves import compute_curve
from rmsprop.view.moving import compute_square
from rmsprop.view.scene import Scene, format_formula
from rmsprop.view.track import Box, Track, find_crossing

RAVINE = landscapes.get("ravine")
UNIT_BOX = Box(np.array([-1.0, -1.0]), np.array([1.0, 1.0]))


def make_path(*points, f=None):
    """Return a trace through these points."""
    x = np.array(points, float)
    zeros = np.zeros((len(x) - 1, x.shape[1]))
    f = np.zeros(len(x)) if f is None else np.array(f, float)
    return Trace(x=x, f=f, grad=zeros, mean_sq=zeros, update=np.diff(x, axis=0), effective_lr=zeros, lr=zeros[:, 0])


def test_areas_of_squares_are_accumulators_on_one_scale(pair):
    scene = Scene.of(pair, function=RAVINE)
    for step in (0, 7, 19):
        frame = scene.frame(step)
        expected = np.stack([trace.mean_sq[step] for trace in pair])
        np.testing.assert_allclose(frame.sides**2 / frame.sides[0, 0] ** 2, expected / expected[0, 0], rtol=1e-12)
    # After one step AdaGrad's sum is the first gradient squared.
    first = scene.frame(0)
    np.testing.assert_allclose(first.outlines[1], first.sides[1], rtol=1e-12)
    largest = max(np.nanmax([scene.frame(t).sides, scene.frame(t).outlines]) for t in range(21))
    assert largest == pytest.approx(1.0)


def test_an_optimizer_without_an_accumulator_has_no_square(make_trace):
    assert np.isnan(view.frame(make_trace("momentum", lr=0.1), 5, function=RAVINE).sides).all()


def test_a_square_lies_opposite_to_the_gradient(pair):
    frame = view.frame(pair[0], 0, function=RAVINE)
    assert frame.grad.tolist() == [[-1.0, -8.0]]
    assert frame.directions.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("direction", [-1.0, 1.0])
def test_a_square_is_a_square_in_pixels_and_touches_the_ball(axis, direction):
    unit, center = np.array([3.0, 0.5]), np.array([1.0, 2.0])
    corners = (compute_square(center, 0.4, axis, direction, unit) - center) / unit
    np.testing.assert_allclose(np.ptp(corners, axis=0), 0.4)
    assert np.sign(corners[np.abs(corners[:, axis]).argmax(), axis]) == direction
    assert np.abs(corners[:, axis]).min() == 0.0


def test_at_a_whole_step_the_frame_is_that_step(pair):
    trace = pair[0]
    scene = Scene.of(trace, function=RAVINE)
    for step in range(trace.steps + 1):
        frame = scene.frame(step)
        assert (frame.points[0] == trace.x[step]).all()
        assert frame.loss[0] == trace.f[step]
        assert (frame.trails[0] == trace.x[: step + 1]).all()
    assert scene.frame(-1).time == 0
    assert scene.frame(1000).time == trace.steps


def test_between_two_steps_the_ball_is_on_the_line_between_them(pair):
    trace = pair[0]
    frame = view.frame(trace, 3.25, function=RAVINE)
    np.testing.assert_allclose(frame.points[0], 0.75 * trace.x[3] + 0.25 * trace.x[4])
    assert (frame.trails[0][-1] == frame.points[0]).all()
    assert (frame.effective_lr[0] == trace.effective_lr[3]).all()


def test_a_shorter_run_stays_at_its_end_until_the_others_end(make_trace):
    short, long = make_trace(steps=5), make_trace("adam", steps=20)
    frame = view.frame([short, long], 15, function=RAVINE)
    assert (frame.points[0] == short.x[5]).all()
    assert [len(trail) for trail in frame.trails] == [6, 16]


def test_curves_are_the_arrays_of_the_trace(pair):
    trace = pair[0]
    track = Scene.of(trace).tracks[0]
    steps, values = compute_curve(track, "effective_lr")
    assert steps.tolist() == list(range(20))
    assert (values == trace.effective_lr).all()
    assert compute_curve(track, "loss")[1].ravel().tolist() == trace.f.tolist()
    np.testing.assert_allclose(compute_curve(track, "accumulator")[1], np.sqrt(trace.mean_sq))
    np.testing.assert_allclose(compute_curve(track, "step_length")[1][:, 0], np.hypot(*trace.update.T), rtol=1e-12)


def test_many_parameters_are_shown_by_smallest_median_and_largest():
    trace = minimize(lambda x: x @ x, np.linspace(1.0, 2.0, 9), jac=lambda x: 2 * x, steps=5, trace=True).trace
    scene = Scene.of(trace, function=lambda x: x @ x)
    assert scene.background is None
    _, values = compute_curve(scene.tracks[0], "effective_lr")
    rates = trace.effective_lr
    np.testing.assert_array_equal(values.T, [rates.min(axis=1), np.median(rates, axis=1), rates.max(axis=1)])


def test_a_run_from_many_starts_is_drawn_as_that_many_runs():
    f = expression.parse("x^2 + y^2")
    trace = minimize(f, [[1.0, 1.0], [2.0, -1.0]], jac=f.grad, steps=10, trace=True).trace
    assert view.frame(trace, 0, function=f).points.tolist() == [[1.0, 1.0], [2.0, -1.0]]


def test_times_end_at_the_last_step_and_are_whole_where_there_are_enough_steps(make_trace):
    scene = Scene.of(make_trace(steps=300))
    times = scene.times(200)
    assert (times[0], times[-1], len(times)) == (0.0, 300.0, 200)
    assert (times == times.round()).all()
    assert len(set(scene.times(301))) == 301


# Leaving the picture


def test_a_diverging_run_is_shown_up_to_the_edge(pair, unstable_trace):
    scene = Scene.of([pair[0], unstable_trace], function=RAVINE)
    track, box = scene.tracks[1], scene.box
    assert box.contains(unstable_trace.x[track.exit_step - 1])
    assert not box.contains(unstable_trace.x[track.exit_step :]).any()
    assert box.contains(track.exit_point)
    assert min(np.abs(track.exit_point - box.low).min(), np.abs(track.exit_point - box.high).min()) < 1e-12
    assert scene.frame(track.exit_step - 1).inside.all()
    frame = scene.frame(200)
    assert frame.inside.tolist() == [True, False]
    assert np.isfinite(frame.trails[1]).all()
    assert (frame.points[1] == track.exit_point).all()


@pytest.mark.parametrize(
    ("points", "exit_step", "exit_point"),
    [([[0, 0], [5, 0], [0.5, 0]], None, None), ([[3, 0], [4, 0]], 0, [1.0, 0.0])],
    ids=["it comes back", "it starts outside"],
)
def test_a_run_has_left_when_it_does_not_come_back(points, exit_step, exit_point):
    assert Track(label="", trace=make_path(*points)).exit_point is None
    track = Track(label="", trace=make_path(*points), box=UNIT_BOX)
    assert track.exit_step == exit_step
    assert (None if track.exit_point is None else track.exit_point.tolist()) == exit_point


COORDINATE = st.floats(-0.99, 0.99)
FAR = st.floats(-1e308, 1e308).filter(lambda v: abs(v) > 1)


@given(COORDINATE, COORDINATE, FAR, st.floats(-1e308, 1e308))
def test_the_crossing_is_on_the_edge_and_on_the_segment(a, b, c, d):
    inner, outer = np.array([a, b]), np.array([c, d])
    place = find_crossing(inner, outer, UNIT_BOX)
    assert UNIT_BOX.contains(place)
    # The same in exact arithmetic.
    ways = [(Fraction(float(p)), Fraction(float(q)) - Fraction(float(p))) for p, q in zip(inner, outer)]
    share = min((1 - p) / way if way > 0 else (-1 - p) / way for p, way in ways if way and abs(p + way) > 1)
    np.testing.assert_allclose(place, [float(p + share * way) for p, way in ways], atol=1e-12)


def test_a_diverging_run_does_not_shrink_the_others(pair):
    calm = pair[0]
    wild = make_path(*([[-5.0, -2.0]] + [[10.0**i, 0.0] for i in range(1, 100)]), f=[10.0**i for i in range(100)])
    box = choose_box([calm.x, wild.x], [calm.f, wild.f])
    assert (box.high - box.low < 100).all()


def test_the_box_contains_the_whole_path_to_a_far_minimum(make_trace):
    f = expression.parse("(x - 1000)^2")
    trace = make_trace(f=f, start=[0.0], lr=20.0, steps=100)
    assert Scene.of(trace, function=f).box.contains(trace.x).all()


@pytest.mark.parametrize("count", [1, 2])
def test_the_box_of_a_run_without_movement_has_a_size(count):
    box = choose_box([np.zeros((1, count))], [np.zeros(1)])
    assert (box.high > box.low).all()


# Labels and errors


def test_labels_distinguish_runs_of_one_optimizer(make_trace):
    by_rule = [make_trace(dialect=Rule()), make_trace(dialect=Rule(rho=0.99, centered=True))]
    assert [track.label for track in Scene.of(by_rule).tracks] == ["RMSprop", "RMSprop, rho 0.99, centered True"]
    same = [make_trace("adagrad"), make_trace("adagrad")]
    assert [track.label for track in Scene.of(same).tracks] == ["AdaGrad 1", "AdaGrad 2"]


@pytest.mark.parametrize(("text", "printed"), [("x^10 - 2*x**3", "x¹⁰ − 2·x³"), ("x^2.5 + x^-1", "x^2.5 + x^-1")])
def test_titles_are_formulas_as_in_print(text, printed):
    assert format_formula(text) == printed


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"traces": []}, InputError, "traces: 0 runs, expected 1 to 24"),
        ({"traces": [3]}, InputTypeError, r"traces\[0\]: int, expected a Trace"),
        ({"traces": [make_path([0, 0]), make_path([0])]}, InputError, r"traces: runs of \[2, 1\] coordinates"),
        ({"labels": ["a", "b"]}, InputError, "labels"),
        ({"function": "x^2"}, InputError, "function: of x, expected 2 variables"),
        ({"function": 3}, InputTypeError, "function: int"),
        ({"domain": [(0, 1), (1, 0)]}, InputError, r"domain\[1\]=\(1, 0\), expected two finite numbers"),
        ({"domain": [(0, 1)]}, InputError, "domain.* 1 pairs, expected 2"),
        ({"domain": "wide"}, InputError, "domain='wide'"),
        ({"domain": [(0, np.inf), (0, 1)]}, InputError, r"domain\[0\]"),
    ],
)
def test_a_scene_that_cannot_be_drawn_raises(pair, options, error, message):
    with pytest.raises(error, match=message):
        Scene.of(**{"traces": pair[0], **options})
