"""Promise: any picture can be read: its background, axes, layout and colors; nothing here draws."""

import itertools

import numpy as np
import pytest

from rmsprop import expression, landscapes
from rmsprop._theme import DARK, LIGHT, css_variables
from rmsprop.errors import InputError
from rmsprop.optimizers import TABLE
from rmsprop.view.background import LEVELS, compute_background
from rmsprop.view.curves import compute_limits, needs_log_axis
from rmsprop.view.layout import PANELS, Layout
from rmsprop.view.scene import Scene
from rmsprop.view.style import THEMES, assign_looks
from rmsprop.view.track import Box

BOX = Box(np.array([-1.0, -1.0]), np.array([1.0, 1.0]))


@pytest.mark.parametrize(
    "function",
    [
        expression.parse("x^2 + 3*y"),
        lambda p: p[0] ** 2 + 3 * p[1],
        lambda p: float(p[0] ** 2 + 3 * p[1]),
        lambda p: (p[0] ** 2 + 3 * p[1]) if p.shape == (2,) else np.zeros(p.shape[:-1]),
    ],
    ids=["many points", "one point", "one float", "zeros for many points"],
)
def test_the_background_is_the_function(function):
    background = compute_background(function, BOX)
    x, y = background.axes
    np.testing.assert_allclose(background.values, (x**2)[None, :] + 3 * y[:, None], atol=1e-12)


def test_the_rings_of_a_bowl_are_equally_wide_at_any_scale():
    for scale in (1e-6, 1.0, 1e6):
        levels = compute_background(lambda p, s=scale: s * (p * p).sum(axis=-1), BOX).levels
        radii = np.sqrt(levels / scale)
        # A square's corners lie beyond its inscribed circle, up to which quantiles are areas of discs.
        widths = np.diff(radii[(radii > 0.1) & (radii < 1.0)])
        np.testing.assert_allclose(widths, widths.mean(), rtol=0.1)


@pytest.mark.parametrize("text", ["0*x + 0*y", "log(x) + log(y)", "1/(x*y)", "exp(exp(9*x)) + y", "log(0*x - 1) + y"])
def test_levels_rise_for_any_function(text):
    background = compute_background(expression.parse(text), BOX)
    assert (np.diff(background.levels) > 0).all()
    assert 2 <= len(background.levels) <= LEVELS + 1
    assert not np.isinf(background.values).any()


@pytest.mark.parametrize("name", landscapes.names())
def test_every_landscape_is_shown_in_its_own_domain(name, make_trace):
    item = landscapes.get(name)
    scene = Scene.of(make_trace(f=item, steps=min(item.steps, 50)), function=item)
    assert list(zip(scene.box.low, scene.box.high)) == [tuple(pair) for pair in item.domain]
    assert np.isfinite(scene.background.levels).all()


def test_a_loss_below_zero_is_drawn_on_a_linear_axis():
    steps, values = np.arange(3), np.array([[1e6], [1.0], [-1.0]])
    assert not needs_log_axis([(steps, values)], ratio=30)
    assert needs_log_axis([(steps, np.abs(values))], ratio=30)
    assert not needs_log_axis([(steps, np.ones((3, 1)))], ratio=3)


@pytest.mark.parametrize("log", [False, True])
def test_limits_are_finite_for_any_numbers(log):
    wild = np.array([[1e-300], [1.0], [1e300], [np.inf], [np.nan]])
    low, high = compute_limits([(np.arange(5), wild)], log=log)
    assert np.isfinite([low, high]).all()
    assert low < high


@pytest.mark.parametrize("size", [(640, 480), (1280, 800), (400, 300), (1920, 1080)])
@pytest.mark.parametrize("count", [1, 4, 10, 24])
def test_no_part_of_a_picture_overlaps_another(size, count):
    label = "RMSprop" if count >= 10 and size[0] <= 640 else "RMSprop, eps_mode outside"
    layout = Layout.of(size, dpi=100, labels=[label] * count, has_map=True, panels=None)
    places = [layout.map, *(place for _, place in layout.panels)]
    for place in places:
        assert min(place.width, place.height) > 0
        assert place.left >= 0
        assert place.left + place.width <= 1
        assert place.bottom + place.height < layout.legend
    for a, b in itertools.combinations(places, 2):
        is_beside = a.left + a.width <= b.left or b.left + b.width <= a.left
        assert is_beside or a.bottom + a.height <= b.bottom or b.bottom + b.height <= a.bottom


def test_a_picture_without_a_map_shows_all_curves():
    layout = Layout.of((1280, 800), dpi=100, labels=["a"], has_map=False, panels=None)
    assert layout.map is None
    assert [name for name, _ in layout.panels] == list(PANELS)


def test_a_picture_too_small_for_its_text_raises():
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
CONES = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
]
OKLAB = [
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
]


def convert_to_oklab(color, eye="usual"):
    """B. Ottosson's OKLab, in which equal distances look about equally large; black to white is 1."""
    rgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.array(OKLAB) @ np.cbrt(np.array(CONES) @ np.clip(np.array(EYES[eye]) @ linear, 0, 1))


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("theme", THEMES)
def test_colors_of_optimizers_are_distinct_in_every_form_of_color_vision(theme, eye):
    points = [convert_to_oklab(getattr(row, theme), eye) for row in TABLE.values()]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(points, 2)) > 0.09


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_every_optimizer_stands_out_from_the_background(theme):
    for row in TABLE.values():
        for background in (theme.paper, theme.low, theme.high):
            difference = convert_to_oklab(getattr(row, theme.name)) - convert_to_oklab(background)
            assert np.linalg.norm(difference) > 0.15


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_looks_are_distinct(theme):
    assert len({look.color for look in assign_looks(["rmsprop"] * 10, theme)}) == 10
    assert len(set(assign_looks(["rmsprop"] * 15, theme))) == 15
    assert len({look.marker for look in assign_looks(list(TABLE), theme)}) == len(TABLE)


def test_pages_have_the_colors_of_the_pictures():
    light, dark = css_variables().split("@media (prefers-color-scheme: dark)")
    for css, theme in ((light, LIGHT), (dark, DARK)):
        for role in ("paper", "ink", "muted", "grid", "alarm"):
            assert f"--{role}:{getattr(theme, role)};" in css
