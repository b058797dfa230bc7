"""Pictures and animations: the files are what they claim, and what was computed is what is drawn."""

import builtins
import io
import subprocess
import sys
import types

import numpy as np
import pytest

from rmsprop import expression, landscapes, minimize, view
from rmsprop.errors import InputError, MissingDependency
from rmsprop.view import writers
from rmsprop.view.animation import Camera
from rmsprop.view.picture import Picture
from rmsprop.view.scene import Scene
from rmsprop.view.style import THEMES

pytest.importorskip("matplotlib")
Image = pytest.importorskip("PIL.Image")

RAVINE, CUBIC = landscapes.get("ravine"), landscapes.get("cubic")
SMALL = {"size": (320, 240), "dpi": 60}


def run(optimizer=None, *, f=RAVINE, lr=None, steps=None):
    return minimize(
        f,
        list(f.start),
        jac=f.gradient,
        lr=f.lr if lr is None else lr,
        steps=f.steps if steps is None else steps,
        optimizer=optimizer,
        trace=True,
    ).trace


@pytest.fixture(scope="module")
def both():
    return [run(), run("adagrad")]


def opened(path):
    return Image.open(io.BytesIO(path.read_bytes()))


def rgb(colour):
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf", "jpg"])
def test_a_plot_is_saved_as_what_its_suffix_says(both, tmp_path, suffix):
    path = tmp_path / f"run.{suffix}"
    view.plot(both, path, function=RAVINE, **SMALL)
    begins = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF", "jpg": b"\xff\xd8"}[suffix]
    assert path.read_bytes().startswith(begins)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(("size", "dpi"), [((640, 480), 100), ((1280, 800), 100), ((801, 601), 90), ((1280, 960), 200)])
def test_a_plot_has_the_pixels_asked_for(both, tmp_path, size, dpi):
    view.plot(both, tmp_path / "run.png", function=RAVINE, size=size, dpi=dpi)
    assert opened(tmp_path / "run.png").size == size


def test_the_panels_asked_for_are_drawn(both):
    figure = view.plot(both, function=RAVINE, panels=["accumulator", "loss"])
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["", "Root of the accumulator", "Loss"]


def test_the_drawn_balls_are_where_the_runs_are(both):
    picture = Picture(Scene.of(both, function=RAVINE), size=(640, 480))
    for step in (0, 5, 20):
        picture.set_time(step)
        for ball, trace in zip(picture._marks.balls, both):
            assert np.concatenate(ball.get_data()).tolist() == trace.x[step].tolist()


def test_of_one_variable_the_ball_rolls_on_the_curve():
    trace = run(f=CUBIC)
    picture = Picture(Scene.of(trace, function=CUBIC), size=(640, 480))
    picture.set_time(10)
    x, y = np.concatenate(picture._marks.balls[0].get_data())
    assert x == trace.x[10, 0]
    # The curve is drawn by 600 chords of 0.004; on each it is off by at most f'' h^2 / 8.
    assert y == pytest.approx(trace.f[10], abs=6 * 1.15 * 0.004**2 / 8)


def test_the_drawn_squares_have_the_areas_of_the_accumulators_in_pixels(both):
    picture = Picture(Scene.of(both, function=RAVINE), size=(640, 480))
    picture.set_time(7)
    axes = picture.figure.axes[0]
    areas = []
    for path in picture._marks.squares.get_paths()[:4]:
        corners = axes.transData.transform(path.vertices[:4])
        areas.append(np.ptp(corners[:, 0]) * np.ptp(corners[:, 1]))
        assert np.ptp(corners[:, 0]) == pytest.approx(np.ptp(corners[:, 1]))
    accumulators = np.concatenate([trace.mean_sq[7] for trace in both])
    np.testing.assert_allclose(np.array(areas) / areas[0], accumulators / accumulators[0], rtol=1e-9)


def test_a_run_that_left_is_named_where_it_left():
    figure = view.plot([run(), run("gradient_descent", lr=0.6, steps=200)], function=RAVINE)
    (words,) = [text.get_text() for text in figure.axes[0].texts]
    assert words == "Gradient descent leaves at step 2"


def test_no_text_leaves_the_picture_or_covers_another(both):
    for size in ((640, 480), (1280, 800)):
        figure = Picture(Scene.of(both, function=RAVINE), size=size).figure
        figure.canvas.draw()
        renderer = figure.canvas.get_renderer()
        texts = [t for axes in figure.axes for t in (axes._left_title, axes._right_title, axes.xaxis.label)]
        texts += [*figure.texts, *figure.legends[0].get_texts()]
        boxes = [text.get_window_extent(renderer) for text in texts if text.get_text() and text.get_visible()]
        for i, box in enumerate(boxes):
            assert 0 <= box.x0 < box.x1 <= size[0]
            assert 0 <= box.y0 < box.y1 <= size[1]
            assert not any(box.overlaps(other) for other in boxes[i + 1 :])


def test_a_users_matplotlib_settings_do_not_reach_the_picture(both, tmp_path):
    import matplotlib

    def pixels():
        figure = view.plot(both, tmp_path / "run.png", function=RAVINE, **SMALL)
        figure.canvas.draw()
        saved = np.asarray(opened(tmp_path / "run.png"))
        np.testing.assert_array_equal(np.asarray(figure.canvas.buffer_rgba()), saved)
        return saved

    expected = pixels()
    own = {"axes.facecolor": "red", "axes.grid": True, "font.size": 30, "lines.linewidth": 9, "savefig.bbox": "tight"}
    with matplotlib.rc_context(own):
        np.testing.assert_array_equal(pixels(), expected)


@pytest.mark.parametrize("extreme", ["explodes", "vanishes", "one step", "no step"])
def test_any_run_can_be_drawn(extreme, tmp_path):
    f = expression.parse("x^4 + y^4")
    lr, steps = {"explodes": (0.5, 200), "vanishes": (1e-300, 50), "one step": (0.1, 1), "no step": (0.1, 0)}[extreme]
    name = "gradient_descent" if extreme == "explodes" else None
    trace = minimize(f, [2.0, 1.0], jac=f.grad, lr=lr, steps=steps, optimizer=name, trace=True).trace
    view.plot(trace, tmp_path / "run.png", function=f, **SMALL)
    view.animate(trace, tmp_path / "run.gif", function=f, seconds=0.2, fps=10, **SMALL)
    # Frames that do not differ are one: of a run without steps there is nothing to see.
    assert opened(tmp_path / "run.gif").n_frames == (2 if trace.steps else 1)


# Animations


@pytest.mark.parametrize("suffix", ["gif", "apng", "png", "webp"])
def test_an_animation_has_its_frames_its_size_and_its_length(both, tmp_path, suffix):
    path = tmp_path / f"run.{suffix}"
    assert view.animate(both, path, function=RAVINE, seconds=1.0, fps=20, **SMALL) == path
    image = opened(path)
    assert image.format == {"gif": "GIF", "webp": "WEBP"}.get(suffix, "PNG")
    assert (image.n_frames, image.size) == (20, (320, 240))
    total = 0.0
    for i in range(image.n_frames):
        image.seek(i)
        image.load()
        total += image.info["duration"]
    assert total == pytest.approx(1000)


def test_the_gif_of_the_tutorials_has_200_frames_at_50_per_second(tmp_path):
    view.animate(run(f=CUBIC), tmp_path / "x.gif", function=CUBIC, **SMALL)
    image = opened(tmp_path / "x.gif")
    assert (image.n_frames, image.info["duration"]) == (200, 20)
    assert image.info["loop"] == 0


def test_a_frame_of_a_gif_is_the_picture_of_its_time(both, tmp_path):
    scene = Scene.of(both, function=RAVINE)
    camera = Camera(Picture(scene, theme="dark", moving=True, **SMALL))
    view.animate(both, tmp_path / "run.gif", function=RAVINE, theme="dark", seconds=1, fps=10, **SMALL)
    image = opened(tmp_path / "run.gif")
    for i, time in enumerate(scene.times(10)):
        image.seek(i)
        expected = camera.shoot(time)[..., :3].astype(int)
        error = np.abs(np.asarray(image.convert("RGB")).astype(int) - expected)
        # 255 colours for all frames: right to a few levels nearly everywhere.
        assert np.mean(error.max(axis=-1) > 24) < 0.005


@pytest.mark.parametrize("theme", THEMES)
def test_the_paper_keeps_its_colour_in_a_gif(both, tmp_path, theme):
    view.animate(both, tmp_path / "run.gif", function=RAVINE, theme=theme, seconds=0.5, fps=10, **SMALL)
    image = opened(tmp_path / "run.gif")
    for i in range(image.n_frames):
        image.seek(i)
        assert image.convert("RGB").getpixel((2, 2)) == rgb(THEMES[theme].paper)


def test_a_shot_does_not_depend_on_the_shots_before(both):
    scene = Scene.of(both, function=RAVINE)
    camera = Camera(Picture(scene, moving=True, **SMALL))
    first = camera.shoot(3.5).copy()
    camera.shoot(20)
    np.testing.assert_array_equal(camera.shoot(3.5), first)


def test_the_counter_counts(both):
    camera = Camera(Picture(Scene.of(run(steps=20), function=RAVINE), moving=True, size=(640, 480)))
    corner = [camera.shoot(step)[:30, -100:].tobytes() for step in range(21)]
    assert len(set(corner)) == 21


def test_durations_of_a_gif_add_up_whatever_the_rate():
    for fps in (7, 24, 25, 30, 48, 50):
        found = writers.durations(200, fps, unit=10)
        assert all(duration % 10 == 0 and duration >= 20 for duration in found)
        assert abs(sum(found) - 200_000 / fps) <= 5


def test_an_mp4_gets_its_frames_from_the_encoder(both, tmp_path, monkeypatch):
    sent = []

    def write_frames(path, size, **options):
        assert options["fps"] == 10
        assert options["pix_fmt_out"] == "yuv420p"
        yield
        try:
            while True:
                frame = yield
                sent.append((size, len(bytes(frame))))
        finally:
            with open(path, "wb") as file:
                file.write(b"film")

    def start(*args, **options):
        generator = write_frames(*args, **options)
        next(generator)
        return generator

    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", types.SimpleNamespace(write_frames=start))
    view.animate(both, tmp_path / "run.mp4", function=RAVINE, seconds=0.5, fps=10, **SMALL)
    assert sent == [((320, 240), 320 * 240 * 3)] * 5
    assert (tmp_path / "run.mp4").read_bytes() == b"film"


FILM = """
import sys, imageio_ffmpeg, rmsprop
from rmsprop import expression, view
f = expression.parse("x - x^3")
run = rmsprop.minimize(f, [-1.0], jac=f.grad, lr=0.01, steps=50, trace=True)
view.animate(run.trace, sys.argv[1], function=f, seconds=0.5, fps=20, size=(320, 240), dpi=60)
print(*imageio_ffmpeg.count_frames_and_secs(sys.argv[1]))
"""


def test_a_real_mp4_has_its_frames(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    # In a process of its own: imageio-ffmpeg forks, and JAX, if another test has loaded it, warns of that.
    command = [sys.executable, "-c", FILM, str(tmp_path / "run.mp4")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    frames, seconds = map(float, done.stdout.split())
    assert frames == 10
    assert seconds == pytest.approx(0.5, abs=0.06)


def test_a_film_of_odd_size_is_refused(both, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", types.SimpleNamespace())
    with pytest.raises(InputError, match=r"size=\(321, 240\), expected even numbers for an MP4"):
        view.animate(both, tmp_path / "run.mp4", function=RAVINE, seconds=0.2, size=(321, 240), dpi=60)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("package", "suffix", "extra"),
    [("matplotlib", "png", "lab"), ("PIL", "gif", "lab"), ("imageio_ffmpeg", "mp4", "video")],
)
def test_a_missing_package_is_named_with_its_extra(both, tmp_path, monkeypatch, package, suffix, extra):
    real = builtins.__import__

    def absent(name, *rest, **more):
        if name.split(".")[0] == package:
            raise ImportError(name)
        return real(name, *rest, **more)

    for name in [name for name in sys.modules if name == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", absent)
    draw = view.plot if suffix == "png" else view.animate
    with pytest.raises(MissingDependency, match=rf'pip install "rmsprop\[{extra}\]"'):
        draw(both, tmp_path / f"run.{suffix}", function=RAVINE, **SMALL)
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_the_old_file(both, tmp_path, monkeypatch):
    path = tmp_path / "run.gif"
    path.write_bytes(b"old")

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(writers, "write", fail)
    with pytest.raises(OSError, match="disk full"):
        view.animate(both, path, function=RAVINE, seconds=0.2, **SMALL)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["run.gif"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": 0}, "seconds=0, expected a finite number above 0"),
        ({"seconds": float("nan")}, "seconds=nan"),
        ({"fps": 60}, "fps=60, expected at most 50 for a GIF"),
        ({"fps": 0}, r"fps=0, expected a number in \(0, 120\]"),
        ({"seconds": 1e6}, "frames, expected at most 10000"),
        ({"theme": "sepia"}, "theme='sepia', expected 'light' or 'dark'"),
        ({"size": (0, 10)}, r"size=\(0, 10\)"),
        ({"size": "big"}, r"expected \(width, height\) in pixels"),
        ({"dpi": 0}, r"dpi=0, expected a number in \[20, 1200\]"),
        ({"panels": ["lr"]}, "panels: 'lr', expected some of loss"),
    ],
)
def test_an_animation_that_cannot_be_is_refused(both, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        view.animate(both, tmp_path / "run.gif", function=RAVINE, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "message"), [("run.bmp", "suffix '.bmp', expected"), ("no/run.png", "there is no folder")]
)
def test_a_path_that_cannot_be_written_is_refused_before_drawing(both, tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        view.plot(both, tmp_path / name, function=RAVINE)


def test_importing_view_loads_neither_matplotlib_nor_pillow():
    program = "import sys, rmsprop.view; print({'matplotlib', 'PIL', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
