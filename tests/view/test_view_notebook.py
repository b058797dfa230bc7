"""Promise: in a notebook a figure is a picture and an animation plays; where it cannot be drawn, there is text."""

import base64
import io
import re
import sys

import numpy as np
import pytest

from rmsprop import minimize, view
from rmsprop.errors import InputError

pytest.importorskip("matplotlib")
Image = pytest.importorskip("PIL.Image")

SMALL = {"size": (320, 240), "dpi": 60}


@pytest.fixture
def trace():
    return minimize("x - x^3", -1.0, steps=40, trace=True).trace


def test_a_figure_is_a_png_of_its_size(trace):
    assert Image.open(io.BytesIO(view.plot(trace, **SMALL)._repr_png_())).size == (320, 240)


def test_without_a_path_an_animation_plays_as_a_gif(trace, tmp_path):
    animation = view.animate(trace, seconds=0.5, fps=20, **SMALL)
    assert repr(animation) == "Animation(10 frames, 0.5 s)"
    image, data = re.fullmatch(
        r'(<img src="data:image/gif;base64,([^"]+)" alt="Animation\(10 frames, 0.5 s\)" style="max-width:100%">)',
        animation._repr_html_(),
    ).groups()
    assert Image.open(io.BytesIO(base64.b64decode(data))).n_frames == 10
    assert "http" not in image
    path = view.animate(trace, tmp_path / "same.gif", seconds=0.5, fps=20, **SMALL)
    assert path.read_bytes() == base64.b64decode(data)


@pytest.mark.parametrize(("suffix", "format"), [(".gif", "GIF"), (".png", "PNG"), (".webp", "WEBP")])
def test_an_animation_is_saved_in_the_format_of_the_suffix(trace, tmp_path, suffix, format):
    path = view.animate(trace, seconds=0.3, fps=10, **SMALL).save(tmp_path / f"run{suffix}")
    with Image.open(path) as image:
        assert (image.format, image.n_frames, image.size) == (format, 3, (320, 240))


def test_an_animation_is_not_saved_where_it_cannot_be(trace, tmp_path):
    animation = view.animate(trace, seconds=0.3, fps=10, **SMALL)
    with pytest.raises(InputError, match="suffix"):
        animation.save(tmp_path / "run.bmp")
    with pytest.raises(InputError, match="folder"):
        animation.save(tmp_path / "none" / "run.gif")
    with pytest.raises(InputError, match="fps"):
        view.animate(trace, fps=60)


def test_without_pillow_an_animation_is_text(trace, monkeypatch):
    animation = view.animate(trace, seconds=0.3, fps=10, **SMALL)
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert animation._repr_html_() is None


def test_a_typed_function_is_drawn_unless_another_is_given(trace):
    assert view.Scene.of(trace).title == "x − x³"
    assert view.Scene.of(trace).background is not None
    assert view.Scene.of(trace, function="x^2").title == "x²"
    other = minimize("x^2", -1.0, steps=4, trace=True).trace
    assert view.Scene.of([trace, other]).background is None
    assert view.Scene.of([trace, trace]).background is not None


def test_a_trace_is_a_picture_and_text_where_there_is_none(trace, monkeypatch):
    assert trace._repr_png_().startswith(b"\x89PNG")
    many = minimize("x^2", np.linspace(-1, 1, 30)[:, None], steps=2, trace=True).trace
    assert many._repr_png_() is None, "more runs than a picture holds"
    monkeypatch.setitem(sys.modules, "matplotlib.style", None)
    assert trace._repr_png_() is None


def test_a_result_shows_its_fields_and_its_trace(trace):
    html = minimize("x - x^3", -1.0, steps=4, trace=True)._repr_html_()
    assert "nit: 4" in html
    assert '<img src="data:image/png;base64,' in html
    assert "<img" not in minimize("x^2", -1.0, steps=4)._repr_html_()
