"""Promise: a picture can be read whatever it shows: its ground, axes, layout, colours and names; nothing here draws."""

import numpy as np
import pytest
from viewing import run

from rmsprop import expression, landscapes
from rmsprop.errors import InputError
from rmsprop.view.curves import limits, logarithmic
from rmsprop.view.ground import LEVELS, ground
from rmsprop.view.layout import PANELS, Layout
from rmsprop.view.scene import Scene, pretty
from rmsprop.view.style import THEMES, looks
from rmsprop.view.track import Box

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


# Curves and layout


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


# Colours

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


# Names


def test_labels_tell_two_rules_apart():
    from rmsprop import Rule

    both = [run(dialect=Rule()), run(dialect=Rule(rho=0.99))]
    assert [track.label for track in Scene.of(both).tracks] == ["RMSprop", "RMSprop, rho 0.99"]


@pytest.mark.parametrize(("text", "written"), [("x^10 - 2*x**3", "x¹⁰ − 2·x³"), ("x^2.5 + x^-1", "x^2.5 + x^-1")])
def test_functions_are_written_as_a_reader_writes_them(text, written):
    assert pretty(text) == written
