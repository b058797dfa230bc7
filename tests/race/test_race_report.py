"""The report stands alone, and shows what the trials hold."""

import dataclasses
import io
import json
import re
from html.parser import HTMLParser

import pytest

from racing import ValleyTask, run
from rmsprop.optimizers import TABLE
from rmsprop.race import Folder, Results, get
from rmsprop.race.margin import margin
from rmsprop.race.panels import number_log_axis
from rmsprop.race.picture import PANELS, draw_png
from rmsprop.race.report import document, page, write
from rmsprop.race.run import best_rate
from rmsprop.race.verdict import rows, sentence

figure = pytest.importorskip("matplotlib.figure")
pytest.importorskip("sklearn")

VOID = {"meta", "link", "br", "img", "hr", "input"}


@pytest.fixture(scope="module")
def digits():
    task = get("digits")
    return task, run(task, optimizers=("sgd", "adam", "rmsprop"), seeds=2, epochs=2)


@pytest.fixture(scope="module")
def html(digits):
    return page(*digits)


class _Reader(HTMLParser):
    """Collects what a browser would see: open tags, attributes, text."""

    def __init__(self):
        super().__init__()
        self.open, self.attributes, self.text, self.unbalanced = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += attrs

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text.append(data)


@pytest.fixture(scope="module")
def read(html):
    reader = _Reader()
    reader.feed(html)
    return reader


def test_the_page_is_well_formed(read):
    assert read.open == []
    assert read.unbalanced == []


def test_the_page_names_no_outside_host(html, read):
    assert "://" not in html
    assert "@import" not in html
    for name, value in read.attributes:
        if name in ("src", "href", "action", "data", "xlink:href"):
            assert value.startswith("#"), (name, value)
    assert "script" not in html
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))


def test_the_page_forbids_the_browser_to_load_anything(html):
    assert "default-src 'none'" in html


def test_every_reference_inside_the_page_has_its_target_and_ids_are_unique(html, read):
    ids = [value for name, value in read.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = set(re.findall(r"url\(#([^)]*)\)", html)) | {v[1:] for n, v in read.attributes if n == "href"}
    assert targets
    assert targets <= set(ids)


def test_every_colour_used_is_defined_for_light_and_dark(html):
    in_the_dark = r"@media \(prefers-color-scheme: dark\)\{:root\{(.*?)\}\}"
    dark = "".join(re.findall(in_the_dark, html, flags=re.DOTALL))
    light = re.sub(in_the_dark, "", html, flags=re.DOTALL)
    used = set(re.findall(r"var\(--([a-z-]+)\)", html)) - {"sans"}
    for part in (light, dark):
        assert used <= set(re.findall(r"--([a-z-]+):", part))


def test_no_drawing_keeps_a_colour_of_its_own(html):
    drawings = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert re.findall(r"#[0-9a-f]{6}\b", drawings) == []


def test_the_page_shows_the_verdict_the_table_and_the_footnote(digits, read):
    task, results = digits
    text = " ".join(read.text)
    table = rows(task, results)
    assert sentence(table, task.metric) in text
    for line in table:
        assert line.text(task.metric) in text
        assert f"{line.step_us:.1f} µs" in text
    assert "Time in step:" in text
    assert task.license in text


def test_the_page_has_a_drawing_for_every_panel(html):
    assert html.count("<figure>") == len(PANELS) == html.count('role="img"')


def test_each_drawing_is_called_by_its_title_and_not_once_more_by_its_caption(html):
    named = re.findall(r'role="img" aria-label="([^"]*)"', html)
    assert len(set(named)) == len(PANELS)
    assert {"Test accuracy", "Training loss", "Where the time goes"} <= set(named)
    assert not set(named) & {caption for _, caption in PANELS.values()}


def test_the_table_that_scrolls_can_be_reached_by_keyboard(html):
    scrolled = re.search(r'<div class="scroll"([^>]*)>', html)
    assert 'tabindex="0"' in scrolled[1]
    assert 'role="region" aria-label="' in scrolled[1]


def test_the_json_says_how_far_from_the_best_one_must_be(digits):
    task, results = digits
    table = rows(task, results)
    first, *others = json.loads(document(task, results))["table"]
    assert first["margin_to_best"] is None
    assert len(others) == len(table) - 1
    for line, row in zip(others, table[1:], strict=True):
        assert line["margin_to_best"] == margin(table[0].scores, row.scores, optimizers=len(table))


def test_trials_of_another_environment_and_the_threads_asked_for_are_shown(digits, html):
    task, results = digits
    later = Results.from_json(document(task, results), where="memory")
    later.ran_in(results.environment | {"python": "9.99"})
    later.settings = dataclasses.replace(later.settings, threads=7)
    text = page(task, later)
    assert "Trials were added later with:" in text
    assert "<dd>9.99</dd>" in text
    assert "CPU threads, as asked for: 7." in text
    assert "added later" not in html
    assert "as asked for" not in html


def test_text_from_a_task_cannot_break_the_page():
    task = ValleyTask()
    task.title = "<b>&amp;"
    reader = _Reader()
    text = page(task, run(task))
    reader.feed(text)
    assert reader.unbalanced == []
    assert "&lt;b&gt;&amp;amp;: who learns best?" in text


def test_the_learning_curve_drawn_is_the_mean_of_the_curves_kept(digits):
    task, results = digits
    axes = figure.Figure().subplots()
    table = rows(task, results)
    PANELS["score"][0](axes, task, results, table)
    for line, drawn in zip(table, axes.lines, strict=True):
        lr = best_rate(task, results, line.optimizer)
        curves = [results.trials["final", line.optimizer, lr, seed].score for seed in (0, 1)]
        assert list(drawn.get_ydata()) == pytest.approx([sum(points) / 2 for points in zip(*curves, strict=True)])
        assert drawn.get_ydata()[-1] == pytest.approx(line.mean)


@pytest.mark.parametrize("limits", [(1.1, 2.3), (2.1, 4.4), (0.97, 1.02), (1e-3, 0.1), (0.3, 30.0)], ids=str)
def test_a_logarithmic_axis_of_few_decades_has_plain_numbers(limits):
    seen = [float(text) for text in numbers_of_log_axis(*limits)]
    assert 2 <= len(seen) <= 12
    assert seen == sorted(set(seen))


def test_a_logarithmic_axis_of_many_decades_has_powers_of_ten():
    seen = numbers_of_log_axis(1e-9, 1.0)
    assert 2 <= len(seen) <= 12
    assert all("10^" in text for text in seen)


def numbers_of_log_axis(low, high):
    axes = figure.Figure(figsize=(6, 4)).subplots()
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    number_log_axis(axes.yaxis)
    places = zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)
    return [label.get_text() for label, place in places if low <= place <= high and label.get_text()]


def test_rmsprop_is_told_apart_by_more_than_colour(digits):
    task, results = digits
    axes = figure.Figure().subplots()
    PANELS["train_loss"][0](axes, task, results, rows(task, results))
    styles = [(line.get_linestyle(), line.get_marker()) for line in axes.lines]
    assert len(set(styles)) == len(styles)


def test_the_picture_is_a_png_of_readable_size(digits):
    image = pytest.importorskip("PIL.Image")
    with image.open(io.BytesIO(draw_png(*digits, "A verdict."))) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) >= 1000
        colours = picture.convert("RGB").getcolors(maxcolors=2**24)
    assert max(colours)[1] == (255, 255, 255)
    assert tuple(bytes.fromhex(TABLE["rmsprop"].light[1:])) in {colour for _, colour in colours}


def test_results_json_is_strict_json_with_the_table_and_every_curve(digits):
    task, results = digits

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    tree = json.loads(document(task, results), parse_constant=refuse)
    assert tree["complete"] is True
    assert tree["licence"] == task.license
    assert tree["environment"]["numpy"]
    assert len(tree["trials"]) == 3 * 4 + 3 * 2
    for line in tree["table"]:
        last = [
            trial["score"][-1]
            for trial in tree["trials"]
            if (trial["phase"], trial["split"], trial["optimizer"]) == ("final", "test", line["optimizer"])
        ]
        assert last == line["scores"]
        assert line["mean"] == pytest.approx(sum(last) / len(last))


def test_the_report_can_be_redrawn_from_results_json(digits, html):
    task, results = digits
    assert page(task, Results.from_json(document(task, results), where="memory")) == html


def test_a_broken_off_race_says_so(digits, html):
    task, results = digits
    part = Results.from_json(document(task, results), where="memory")
    del part.trials["final", "adam", best_rate(task, results, "adam"), 1]
    assert "broken off" in page(task, part)
    assert "broken off" not in html


def test_without_one_finished_seed_only_the_results_are_written(tmp_path):
    task = ValleyTask()
    results = run(task)
    results.trials = {key: trial for key, trial in results.trials.items() if key[0] == "tuning"}
    assert [file.name for file in write(task, results, Folder(tmp_path))] == ["results.json"]


def test_a_task_with_another_metric_is_reported_alike(tmp_path):
    task = ValleyTask(poison={1: 3})
    files = write(task, run(task, optimizers=("adam", "rmsprop"), seeds=3), Folder(tmp_path))
    assert [file.name for file in files] == ["results.json", "curves.png", "report.html"]
    text = files[-1].read_text()
    assert "Test distance" in text
    assert "1 of 3 diverged" in text
    # The share of the time is a percentage whatever the metric is.
    without = re.sub(r"<style>.*?</style>|<figure>.*?</figure>|[\d.]+ % of training", "", text, flags=re.DOTALL)
    assert " %" not in without


def test_the_page_shows_memory_and_the_share_of_the_step(digits, html):
    task, results = digits
    for line in rows(task, results):
        assert 0 < line.share < 1
        assert f"{100 * line.share:.1f} % of training" in html
        assert f"<td>{line.memory.state_per_parameter:.1f}<small>+ " in html


def test_the_time_bars_add_up_to_the_training_time(digits):
    task, results = digits
    axes = figure.Figure().subplots()
    table = rows(task, results)
    PANELS["time"][0](axes, task, results, table)
    ends = [bar.get_x() + bar.get_width() for bar in axes.patches[1::2]]
    assert ends == pytest.approx([line.train_seconds for line in table])


def test_the_effective_rate_drawn_is_the_geometric_mean_of_the_medians_kept(digits):
    task, results = digits
    axes = figure.Figure().subplots()
    PANELS["effective"][0](axes, task, results, rows(task, results))
    tracks = [
        results.trials["final", "rmsprop", best_rate(task, results, "rmsprop"), seed].effective_lr for seed in (0, 1)
    ]
    expected = [(a[2] * b[2]) ** 0.5 for a, b in zip(*tracks, strict=True)]
    # Gradient descent has none: two lines, one of them the thick one.
    assert len(axes.lines) == 2
    drawn = max(axes.lines, key=lambda line: line.get_linewidth())
    assert list(drawn.get_ydata()) == pytest.approx(expected)


def test_a_file_of_an_earlier_version_is_read_and_drawn_without_what_it_lacks(digits):
    task, results = digits
    tree = json.loads(document(task, results))
    for name in ("memory", "sample"):
        del tree[name]
    for name in ("device", "short"):
        del tree["settings"][name]
    for trial in tree["trials"]:
        del trial["train_seconds"], trial["effective_lr"]
    old = Results.from_json(json.dumps(tree), where="memory")
    assert old.settings == results.settings
    text = page(task, old)
    assert "% of training" not in text
    assert "none recorded" in text
    assert [line.scores for line in rows(task, old)] == [line.scores for line in rows(task, results)]


def test_what_a_model_made_is_shown_as_text():
    task = ValleyTask()
    results = run(task)
    results.sample = "In the <b>beginning"
    assert "<pre>In the &lt;b&gt;beginning</pre>" in page(task, results)
    assert Results.from_json(results.to_json({}), where="memory").sample == results.sample
