"""Promise: pictures and animations are the files that they claim to be, and show what was computed."""

import builtins
import io
import itertools
import subprocess
import sys
import types

import numpy as np
import pytest

from rmsprop import expression, landscapes, view
from rmsprop.errors import InputError, MissingDependency
from rmsprop.view import writers
from rmsprop.view.figure import FrameRenderer
from rmsprop.view.picture import Picture
from rmsprop.view.scene import Scene
from rmsprop.view.style import THEMES

pytest.importorskip("matplotlib")
Image = pytest.importorskip("PIL.Image")

RAVINE, CUBIC = landscapes.get("ravine"), landscapes.get("cubic")
SMALL = {"size": (320, 240), "dpi": 60}


def open_image(path):
    return Image.open(io.BytesIO(path.read_bytes()))


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf", "jpg"])
def test_a_plot_is_saved_in_the_format_of_its_suffix(pair, tmp_path, suffix):
    path = tmp_path / f"run.{suffix}"
    view.plot(pair, path, function=RAVINE, **SMALL)
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF", "jpg": b"\xff\xd8"}[suffix]
    saved = path.read_bytes()
    assert saved.startswith(start)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    view.plot(pair, path, function=RAVINE, **SMALL)
    assert path.read_bytes() == saved, "equal pictures are equal bytes"


@pytest.mark.parametrize(("size", "dpi"), [((640, 480), 100), ((801, 601), 90), ((1280, 960), 200)])
def test_a_plot_has_the_requested_size(pair, tmp_path, size, dpi):
    view.plot(pair, tmp_path / "run.png", function=RAVINE, size=size, dpi=dpi)
    assert open_image(tmp_path / "run.png").size == size


def test_the_requested_panels_note_and_time_are_drawn(pair):
    figure = view.plot(pair, function=RAVINE, panels=["accumulator", "loss"], note="a note", time=5)
    assert "a note" in [text.get_text() for text in figure.texts]
    assert [pair[0].x[5].tolist()] in [line.get_xydata().tolist() for line in figure.axes[0].lines]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["", "Root of the accumulator", "Loss"]


def test_balls_are_drawn_where_the_runs_are(pair):
    picture = Picture(Scene.of(pair, function=RAVINE), size=(640, 480))
    for step in (0, 5, 20):
        picture.set_time(step)
        for ball, trace in zip(picture.marks.balls, pair):
            assert np.concatenate(ball.get_data()).tolist() == trace.x[step].tolist()


def test_with_one_variable_the_ball_is_on_the_curve(make_trace):
    trace = make_trace(f=CUBIC)
    picture = Picture(Scene.of(trace, function=CUBIC), size=(640, 480))
    picture.set_time(10)
    x, y = np.concatenate(picture.marks.balls[0].get_data())
    assert x == trace.x[10, 0]
    # The curve is drawn by 600 chords of 0.004; on each it is off by at most f'' h^2 / 8.
    assert y == pytest.approx(trace.f[10], abs=6 * 1.15 * 0.004**2 / 8)


def test_drawn_squares_have_the_areas_of_the_accumulators_in_pixels(pair):
    picture = Picture(Scene.of(pair, function=RAVINE), size=(640, 480))
    picture.set_time(7)
    areas = []
    for path in picture.marks.squares.get_paths()[:4]:
        corners = picture.figure.axes[0].transData.transform(path.vertices[:4])
        areas.append(np.ptp(corners[:, 0]) * np.ptp(corners[:, 1]))
        assert np.ptp(corners[:, 0]) == pytest.approx(np.ptp(corners[:, 1]))
    accumulators = np.concatenate([trace.mean_sq[7] for trace in pair])
    np.testing.assert_allclose(np.array(areas) / areas[0], accumulators / accumulators[0], rtol=1e-9)


def test_a_note_marks_where_a_run_left(pair, unstable_trace):
    figure = view.plot([pair[0], unstable_trace], function=RAVINE)
    assert [text.get_text() for text in figure.axes[0].texts] == ["Gradient descent leaves at step 2"]


@pytest.mark.parametrize("size", [(640, 480), (1280, 800)])
@pytest.mark.parametrize("function", [RAVINE, None], ids=["map", "no map"])
def test_texts_lie_inside_the_picture_and_do_not_overlap(pair, size, function):
    figure = Picture(Scene.of(pair, function=function), size=size).figure
    figure.canvas.draw()
    texts = [t for axes in figure.axes for t in (axes._left_title, axes._right_title, axes.xaxis.label)]
    texts += [*figure.texts, *figure.legends[0].get_texts()]
    boxes = [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]
    for box in boxes:
        assert 0 <= box.x0 < box.x1 <= size[0]
        assert 0 <= box.y0 < box.y1 <= size[1]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_a_users_matplotlib_settings_do_not_change_the_picture(pair, tmp_path):
    import matplotlib

    def draw():
        figure = view.plot(pair, tmp_path / "run.png", function=RAVINE, **SMALL)
        figure.canvas.draw()
        saved = np.asarray(open_image(tmp_path / "run.png"))
        np.testing.assert_array_equal(np.asarray(figure.canvas.buffer_rgba()), saved)
        return saved

    expected = draw()
    own = {"axes.facecolor": "red", "axes.grid": True, "font.size": 30, "lines.linewidth": 9, "savefig.bbox": "tight"}
    with matplotlib.rc_context(own):
        np.testing.assert_array_equal(draw(), expected)


@pytest.mark.parametrize(
    ("optimizer", "lr", "steps"),
    [("gradient_descent", 0.5, 200), (None, 1e-300, 50), (None, 0.1, 1), (None, 0.1, 0)],
    ids=["diverges", "does not move", "one step", "no step"],
)
def test_any_run_can_be_drawn(optimizer, lr, steps, make_trace, tmp_path):
    f = expression.parse("x^4 + y^4")
    trace = make_trace(optimizer, f=f, start=[2.0, 1.0], lr=lr, steps=steps)
    view.plot(trace, tmp_path / "run.png", function=f, **SMALL)
    view.animate(trace, tmp_path / "run.gif", function=f, seconds=0.2, fps=10, **SMALL)
    # Equal frames are stored once, and a run without steps has no others.
    assert open_image(tmp_path / "run.gif").n_frames == (2 if trace.steps else 1)


# Animations


@pytest.mark.parametrize("suffix", ["gif", "apng", "png", "webp"])
def test_an_animation_has_its_frames_size_and_duration(pair, tmp_path, suffix):
    path = tmp_path / f"run.{suffix}"
    assert view.animate(pair, path, function=RAVINE, seconds=1.0, fps=20, **SMALL) == path
    image = open_image(path)
    assert image.format == {"gif": "GIF", "webp": "WEBP"}.get(suffix, "PNG")
    assert (image.n_frames, image.size, image.info["loop"]) == (20, (320, 240), 0)
    total = 0.0
    for i in range(image.n_frames):
        image.seek(i)
        image.load()
        total += image.info["duration"]
    assert total == pytest.approx(1000)


def test_an_animation_has_200_frames_at_50_per_second_by_default(make_trace, tmp_path):
    view.animate(make_trace(f=CUBIC), tmp_path / "x.gif", function=CUBIC, **SMALL)
    image = open_image(tmp_path / "x.gif")
    assert (image.n_frames, image.info["duration"]) == (200, 20)


@pytest.mark.parametrize("theme", THEMES)
def test_a_frame_of_a_gif_is_the_picture_of_its_time(pair, tmp_path, theme):
    scene = Scene.of(pair, function=RAVINE)
    renderer = FrameRenderer(Picture(scene, theme=theme, moving=True, **SMALL))
    view.animate(pair, tmp_path / "run.gif", function=RAVINE, theme=theme, seconds=1, fps=10, **SMALL)
    image = open_image(tmp_path / "run.gif")
    for i, time in enumerate(scene.times(10)):
        image.seek(i)
        pixels = image.convert("RGB")
        paper = THEMES[theme].paper
        assert pixels.getpixel((2, 2)) == tuple(int(paper[k : k + 2], 16) for k in (1, 3, 5))
        error = np.abs(np.asarray(pixels).astype(int) - renderer.render(time)[..., :3].astype(int))
        # 255 colors for all frames: right to a few levels nearly everywhere.
        assert np.mean(error.max(axis=-1) > 24) < 0.005


def test_a_frame_does_not_depend_on_the_frames_before(pair):
    renderer = FrameRenderer(Picture(Scene.of(pair, function=RAVINE), moving=True, **SMALL))
    first = renderer.render(3.5).copy()
    renderer.render(20)
    np.testing.assert_array_equal(renderer.render(3.5), first)


def test_every_step_has_its_number(make_trace):
    scene = Scene.of(make_trace(steps=20), function=RAVINE)
    renderer = FrameRenderer(Picture(scene, moving=True, size=(640, 480)))
    assert len({renderer.render(step)[:30, -100:].tobytes() for step in range(21)}) == 21


@pytest.mark.parametrize("fps", [7, 24, 25, 30, 48, 50])
def test_durations_of_a_gif_add_up(fps):
    durations = writers.compute_durations(200, fps, unit=10)
    assert all(duration % 10 == 0 and duration >= 20 for duration in durations)
    assert abs(sum(durations) - 200_000 / fps) <= 5


def test_an_mp4_is_encoded_from_all_frames(pair, tmp_path, monkeypatch):
    frames = []

    def write_frames(path, size, **options):
        assert (options["fps"], options["pix_fmt_out"]) == (10, "yuv420p")
        try:
            while True:
                frame = yield
                if frame is not None:
                    frames.append((size, len(bytes(frame))))
        finally:
            with open(path, "wb") as file:
                file.write(b"film")

    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", types.SimpleNamespace(write_frames=write_frames))
    view.animate(pair, tmp_path / "run.mp4", function=RAVINE, seconds=0.5, fps=10, **SMALL)
    assert frames == [((320, 240), 320 * 240 * 3)] * 5
    assert (tmp_path / "run.mp4").read_bytes() == b"film"


FILM = """
import sys, imageio_ffmpeg, rmsprop
from rmsprop import expression, view
f = expression.parse("x - x^3")
run = rmsprop.minimize(f, [-1.0], jac=f.grad, lr=0.01, steps=50, trace=True)
view.animate(run.trace, sys.argv[1], function=f, seconds=0.5, fps=20, size=(320, 240), dpi=60)
print(*imageio_ffmpeg.count_frames_and_secs(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_real_mp4_has_its_frames(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    # In a process of its own: imageio-ffmpeg forks, and JAX, if another test has loaded it, warns of that.
    command = [sys.executable, "-c", FILM, str(tmp_path / "run.mp4")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    frames, seconds = map(float, done.stdout.split())
    assert frames == 10
    assert seconds == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(
    ("package", "suffix", "extra"),
    [("matplotlib", "png", "lab"), ("PIL", "gif", "lab"), ("imageio_ffmpeg", "mp4", "video")],
)
def test_a_missing_package_is_named_with_its_extra(pair, tmp_path, monkeypatch, package, suffix, extra):
    original = builtins.__import__

    def import_others(name, *rest, **more):
        if name.split(".")[0] == package:
            raise ImportError(name)
        return original(name, *rest, **more)

    monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.setattr(builtins, "__import__", import_others)
    draw = view.plot if suffix == "png" else view.animate
    with pytest.raises(MissingDependency, match=rf'pip install "rmsprop\[{extra}\]"'):
        draw(pair, tmp_path / f"run.{suffix}", function=RAVINE, **SMALL)
    assert not list(tmp_path.iterdir())


def test_an_error_while_writing_leaves_the_old_file(pair, tmp_path, monkeypatch):
    path = tmp_path / "run.gif"
    path.write_bytes(b"old")

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(writers, "write_frames", fail)
    with pytest.raises(OSError, match="disk full"):
        view.animate(pair, path, function=RAVINE, seconds=0.2, **SMALL)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["run.gif"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("run.gif", {"seconds": 0}, r"seconds=0, expected a number in \[0.001, 1e\+06\]"),
        ("run.gif", {"seconds": float("nan")}, "seconds=nan"),
        ("run.gif", {"seconds": 1e6}, "seconds.* expected at most 10000"),
        ("run.gif", {"fps": 60}, "fps=60, expected at most 50 for a GIF"),
        ("run.gif", {"fps": 0}, r"fps=0, expected a number in \[0.02, 120\]"),
        ("run.gif", {"fps": 0.001}, r"fps=0.001, expected a number in \[0.02, 120\]"),
        ("run.gif", {"theme": "sepia"}, "theme='sepia', expected 'light' or 'dark'"),
        ("run.gif", {"size": (0, 10)}, r"size=\(0, 10\)"),
        ("run.gif", {"size": "big"}, "size='big'"),
        ("run.gif", {"dpi": 0}, r"dpi=0, expected a number in \[20, 1200\]"),
        ("run.gif", {"panels": ["lr"]}, "panels: 'lr', expected some of loss"),
        ("run.bmp", {}, "suffix '.bmp', expected"),
        ("no/run.gif", {}, "there is no folder"),
        ("run.mp4", {"size": (321, 240), "dpi": 60}, r"size=\(321, 240\), expected even numbers for an MP4"),
    ],
)
def test_an_animation_with_a_bad_argument_raises(pair, tmp_path, monkeypatch, name, options, message):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", types.SimpleNamespace())
    with pytest.raises(InputError, match=message):
        view.animate(pair, tmp_path / name, function=RAVINE, **{"seconds": 0.2, **options})
    assert not list(tmp_path.iterdir())


def test_importing_view_loads_neither_matplotlib_nor_pillow():
    program = "import sys, rmsprop.view; print({'matplotlib', 'PIL', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
