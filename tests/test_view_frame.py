"""What a picture shows, as arrays: nothing here draws."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmsprop import expression, landscapes, minimize, view
from rmsprop.errors import InputError, InputTypeError
from rmsprop.trace import Trace
from rmsprop.view.curves import curve, limits, logarithmic
from rmsprop.view.ground import LEVELS, box_around, ground
from rmsprop.view.layout import PANELS, Layout
from rmsprop.view.moving import square_corners
from rmsprop.view.scene import Scene, pretty
from rmsprop.view.style import THEMES, looks
from rmsprop.view.track import Box, Track, crossing

RAVINE = landscapes.get("ravine")


def run(optimizer=None, *, f=RAVINE, start=(-5.0, -2.0), lr=0.4, steps=20, **options):
    gradient = f.gradient if hasattr(f, "gradient") else f.grad
    return minimize(f, list(start), jac=gradient, lr=lr, steps=steps, optimizer=optimizer, trace=True, **options).trace


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


# The ground


def test_the_ground_is_the_function():
    box = Box(np.array([-1.0, 0.0]), np.array([1.0, 2.0]))
    f = expression.parse("x + 10*y")
    found = ground(f, box)
    x, y = found.axes
    np.testing.assert_allclose(found.values, x[None, :] + 10 * y[:, None], atol=1e-12)


@pytest.mark.parametrize(
    "function",
    [
        lambda p: p[0] ** 2 + 3 * p[1],
        lambda p: float(p[0] ** 2 + 3 * p[1]),
        lambda p: (p[0] ** 2 + 3 * p[1]) if p.shape == (2,) else np.zeros(p.shape[:-1]),
    ],
)
def test_a_function_of_one_point_is_asked_point_by_point(function):
    box = Box(np.array([-1.0, -1.0]), np.array([1.0, 1.0]))
    found = ground(function, box)
    x, y = found.axes
    np.testing.assert_allclose(found.values, (x**2)[None, :] + 3 * y[:, None], atol=1e-12)


def test_the_rings_of_a_bowl_are_equally_wide_whatever_its_scale():
    box = Box(np.array([-1.0, -1.0]), np.array([1.0, 1.0]))
    for scale in (1e-6, 1.0, 1e6):
        levels = ground(lambda p, s=scale: s * (p * p).sum(axis=-1), box).levels
        radii = np.sqrt(levels / scale)
        # A square's corners lie beyond its inscribed circle, up to which quantiles are areas of discs.
        widths = np.diff(radii[(radii > 0.1) & (radii < 1.0)])
        np.testing.assert_allclose(widths, widths.mean(), rtol=0.1)


@pytest.mark.parametrize("text", ["0*x + 0*y", "log(x) + log(y)", "1/(x*y)", "exp(exp(9*x)) + y"])
def test_levels_rise_whatever_the_function(text):
    box = Box(np.array([-1.0, -1.0]), np.array([1.0, 1.0]))
    found = ground(expression.parse(text), box)
    assert (np.diff(found.levels) > 0).all()
    assert 2 <= len(found.levels) <= LEVELS + 1
    assert not np.isinf(found.values).any()


@pytest.mark.parametrize("name", landscapes.names())
def test_every_landscape_is_shown_in_its_own_domain(name):
    item = landscapes.get(name)
    trace = run(f=item, start=item.start, lr=item.lr, steps=min(item.steps, 50))
    scene = Scene.of(trace, function=item)
    assert list(zip(scene.box.low, scene.box.high)) == [tuple(pair) for pair in item.domain]
    assert np.isfinite(scene.ground.levels).all()


# Curves, layout, colours


def test_a_loss_below_zero_is_drawn_on_a_linear_axis():
    values = (np.arange(3), np.array([[1e6], [1.0], [-1.0]]))
    assert not logarithmic([values], always=False)
    assert logarithmic([(values[0], np.abs(values[1]))], always=False)


@pytest.mark.parametrize("log", [False, True])
def test_limits_are_finite_for_any_numbers(log):
    wild = np.array([[1e-300], [1.0], [1e300], [np.inf], [np.nan]])
    low, high = limits([(np.arange(5), wild)], log=log)
    assert np.isfinite([low, high]).all()
    assert low < high


@pytest.mark.parametrize("size", [(640, 480), (1280, 800), (400, 300), (1920, 1080)])
@pytest.mark.parametrize("count", [1, 4, 10, 24])
def test_no_part_of_a_picture_overlaps_another(size, count):
    layout = Layout.of(size, dpi=100, labels=["RMSprop, eps_mode outside"] * count, has_map=True, panels=None) if (
        count < 10 or size[0] > 640
    ) else Layout.of(size, dpi=100, labels=["RMSprop"] * count, has_map=True, panels=None)  # fmt: skip
    places = [layout.map, *(place for _, place in layout.panels)]
    for i, one in enumerate(places):
        assert one.width > 0
        assert one.height > 0
        assert one.left >= 0
        assert one.left + one.width <= 1
        assert one.bottom + one.height < layout.legend
        assert not any(one.overlaps(other) for other in places[i + 1 :])


def test_a_picture_without_a_map_is_all_curves():
    layout = Layout.of((1280, 800), dpi=100, labels=["a"], has_map=False, panels=None)
    assert layout.map is None
    assert [name for name, _ in layout.panels] == list(PANELS)


def test_a_picture_too_small_for_its_text_is_refused():
    with pytest.raises(InputError, match=r"size=\(100, 80\), expected at least \(300, 200\) at dpi=100"):
        Layout.of((100, 80), dpi=100, labels=["a"], has_map=True, panels=None)


# Severity 1 of each deficiency, for linear RGB: G. Machado, M. Oliveira, L. Fernandes, "A physiologically-based model
# for simulation of color vision deficiency", IEEE Transactions on Visualization and Computer Graphics 15 (2009).
EYES = {
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def oklab(colour, eye):
    """B. Ottosson's OKLab, in which equal distances look about equally large; black to white is 1."""
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(eye) @ linear, 0, 1)
    cones = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    axes = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.array(axes) @ np.cbrt(np.array(cones) @ seen)


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("name", THEMES)
def test_the_optimizers_colours_stay_apart_in_all_eyes(name, eye):
    seen = {key: oklab(colour, EYES[eye]) for key, colour in THEMES[name].runs.items()}
    nearest = min(np.linalg.norm(seen[a] - seen[b]) for a in seen for b in seen if a < b)
    assert nearest > 0.09


@pytest.mark.parametrize("name", THEMES)
def test_every_run_stands_out_from_the_ground(name):
    theme = THEMES[name]
    for colour in theme.runs.values():
        for ground_colour in (theme.paper, theme.low, theme.high):
            difference = oklab(colour, np.eye(3)) - oklab(ground_colour, np.eye(3))
            assert np.linalg.norm(difference) > 0.15


@pytest.mark.parametrize("name", THEMES)
def test_ten_runs_of_one_optimizer_have_ten_colours(name):
    assert len({look.color for look in looks(["rmsprop"] * 10, THEMES[name])}) == 10


def test_no_two_optimizers_share_a_marker():
    names = list(THEMES["dark"].runs)
    assert len({look.marker for look in looks(names, THEMES["dark"])}) == len(names)


def test_adagrad_is_white_and_rmsprop_green_in_the_dark():
    white, green = looks(["adagrad", "rmsprop"], THEMES["dark"])
    assert white.color == "#ffffff"
    red, mid, blue = (int(green.color[i : i + 2], 16) for i in (1, 3, 5))
    assert mid > blue > red


def test_times_end_at_the_last_step_and_are_whole_where_there_are_enough():
    scene = Scene.of(run(steps=300))
    times = scene.times(200)
    assert (times[0], times[-1], len(times)) == (0.0, 300.0, 200)
    assert (times == times.round()).all()
    assert len(set(scene.times(301))) == 301


def test_labels_tell_two_rules_apart():
    from rmsprop import Rule

    both = [run(rule=Rule()), run(rule=Rule(rho=0.99))]
    assert [track.label for track in Scene.of(both).tracks] == ["RMSprop", "RMSprop, rho 0.99"]


@pytest.mark.parametrize(("text", "written"), [("x^10 - 2*x**3", "x¹⁰ − 2·x³"), ("x^2.5 + x^-1", "x^2.5 + x^-1")])
def test_functions_are_written_as_a_reader_writes_them(text, written):
    assert pretty(text) == written


# Refusals


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"traces": []}, InputError, "traces: 0 runs, expected 1 to 24"),
        ({"traces": [3]}, InputTypeError, r"traces\[0\]: int, expected a Trace"),
        ({"labels": ["a", "b"]}, InputError, "labels: 2 names for 1 runs"),
        ({"function": "x^2"}, InputError, "function: of x, expected 2 variables"),
        ({"function": 3}, InputTypeError, "function: int, expected a text"),
        ({"domain": [(1, 0), (0, 1)]}, InputError, "expected low < high"),
        ({"domain": [(0, 1)]}, InputError, "for each of 2 coordinates"),
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
