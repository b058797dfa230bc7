"""The report loads nothing and shows what the trials hold; results.json holds all that it is drawn from."""

import dataclasses
import io
import json
import re
import sys
from html.parser import HTMLParser

import pytest

from rmsprop.errors import MissingDependency
from rmsprop.optimizers import TABLE
from rmsprop.race import Folder, Results, get
from rmsprop.race.picture import PANELS, draw_png, number_log_axis
from rmsprop.race.report import ResultsWriter, render_json, render_page
from rmsprop.race.run import choose_rate
from rmsprop.race.verdict import describe_verdict, make_table
from small_tasks import ValleyTask, run_race

figure = pytest.importorskip("matplotlib.figure")
pytest.importorskip("jinja2")
pytest.importorskip("sklearn")

VOID_ELEMENTS = {"meta", "link", "br", "img", "hr", "input"}
DARK = re.compile(r"@media \(prefers-color-scheme: dark\)\{:root\{(.*?)\}\}", flags=re.DOTALL)


class PageReader(HTMLParser):
    """Collects attributes and text, and the tags that are not closed in order."""

    def __init__(self, page):
        super().__init__()
        self.open, self.attributes, self.text, self.unbalanced = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.attributes += attributes
        if tag not in VOID_ELEMENTS:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.attributes += attributes

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)


@pytest.fixture(scope="module")
def task():
    return get("digits")


@pytest.fixture(scope="module")
def results(task):
    return run_race(task, optimizers=("sgd", "adam", "rmsprop"), seeds=2, epochs=2)


@pytest.fixture(scope="module")
def table(task, results):
    return make_table(task, results)


@pytest.fixture(scope="module")
def page(task, results):
    return render_page(task, results)


@pytest.fixture(scope="module")
def reader(page):
    return PageReader(page)


@pytest.fixture
def results_copy(task, results):
    """The results, read from their file, to be changed."""
    return Results.from_json(render_json(task, results), where="memory")


@pytest.fixture
def draw(task, results, table):
    """Return a function that draws a panel and returns its axes."""

    def draw_panel(name):
        axes = figure.Figure().subplots()
        PANELS[name][0](axes, task, results, table)
        return axes

    return draw_panel


def load_trials(task, results, optimizer):
    lr = choose_rate(task, results, optimizer)
    return [results.trials["final", optimizer, lr, seed] for seed in (0, 1)]


def test_the_page_is_well_formed_and_loads_nothing(page, reader):
    assert (reader.open, reader.unbalanced) == ([], [])
    assert "default-src 'none'" in page
    for word in ("://", "@import", "script"):
        assert word not in page
    for name, value in reader.attributes:
        if name in ("src", "href", "action", "data", "xlink:href"):
            assert value.startswith("#"), (name, value)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_ids_are_unique_and_each_reference_has_its_target(page, reader):
    ids = [value for name, value in reader.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = set(re.findall(r"url\(#([^)]*)\)", page)) | {v[1:] for n, v in reader.attributes if n == "href"}
    assert targets
    assert targets <= set(ids)


def test_all_colors_are_variables_defined_for_light_and_dark(page):
    dark, light = "".join(DARK.findall(page)), DARK.sub("", page)
    used = set(re.findall(r"var\(--([a-z-]+)\)", page)) - {"sans", "mono"}
    for part in (light, dark):
        assert used <= set(re.findall(r"--([a-z-]+):", part))
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert re.findall(r"#[0-9a-f]{6}\b", drawings) == []


def test_the_page_shows_the_verdict_and_the_table(task, results, table, page, reader):
    text = " ".join(reader.text)
    assert describe_verdict(table, task.metric) in text
    for row in table:
        assert row.text(task.metric) in text
        assert f"{row.step_microseconds:.1f} µs" in text
        assert f"{100 * row.share_in_step:.1f} % of training" in text
        assert f"<td>{row.memory.state_per_parameter:.1f}<small>+ " in page
    assert "Time in step:" in text
    assert task.license in text
    assert "Final trials: 2 epochs each, seeds 0, 1." in text


def test_a_screen_reader_gets_the_title_of_each_panel_and_the_keyboard_reaches_the_table(page):
    labels = re.findall(r'<figure><svg [^>]*role="img" aria-label="([^"]*)"', page)
    assert len(set(labels)) == len(PANELS) == page.count("<figure>")
    assert {"Test accuracy", "Training loss", "Training time"} <= set(labels)
    scrolled = re.search(r'<div class="scroll"([^>]*)>', page)
    assert 'tabindex="0"' in scrolled[1]
    assert 'role="region" aria-label="' in scrolled[1]


def test_later_environments_and_the_threads_asked_for_are_shown(task, results_copy, page):
    results_copy.later.append(results_copy.environment | {"python": "9.99"})
    results_copy.settings = dataclasses.replace(results_copy.settings, threads=7)
    text = render_page(task, results_copy)
    for words in ("Trials were added later with:", "<dd>9.99</dd>", "CPU threads, as asked for: 7."):
        assert words in text
        assert words not in page


def test_text_of_a_task_and_of_its_model_is_escaped():
    task = ValleyTask()
    task.title = "<b>&amp;"
    results = run_race(task)
    results.sample = "In the <b>beginning"
    text = render_page(task, results)
    assert PageReader(text).unbalanced == []
    assert "&lt;b&gt;&amp;amp;: which optimizer learns best?" in text
    assert "<pre>In the &lt;b&gt;beginning</pre>" in text


def test_the_report_can_be_drawn_again_from_results_json(task, results_copy, page):
    assert render_page(task, results_copy) == page


def test_without_jinja2_the_error_names_the_extra(task, results, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingDependency, match=r"jinja2 is needed for the report: pip install .rmsprop\[lab\]"):
        render_page(task, results)


def test_the_report_of_an_interrupted_benchmark_says_so(task, results, results_copy, page):
    del results_copy.trials["final", "adam", choose_rate(task, results, "adam"), 1]
    assert "This benchmark was interrupted." in render_page(task, results_copy)
    assert "This benchmark was interrupted." not in page


def test_a_file_of_an_earlier_version_is_drawn_without_what_it_lacks(task, results, table):
    document = json.loads(render_json(task, results))
    for name in ("memory", "sample"):
        del document[name]
    for name in ("device", "short"):
        del document["settings"][name]
    for trial in document["trials"]:
        del trial["train_seconds"], trial["effective_lr"]
    old = Results.from_json(json.dumps(document), where="memory")
    assert old.settings == results.settings
    assert [row.scores for row in make_table(task, old)] == [row.scores for row in table]
    text = render_page(task, old)
    assert "% of training" not in text
    assert "not recorded" in text


def test_results_json_is_strict_json_with_the_table_and_all_curves(task, results, table):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    document = json.loads(render_json(task, results), parse_constant=refuse)
    assert document["complete"] is True
    assert document["verdict"] == describe_verdict(table, task.metric)
    assert document["licence"] == task.license
    assert document["environment"]["numpy"]
    assert len(document["trials"]) == 3 * 4 + 3 * 2
    for entry, row in zip(document["table"], table, strict=True):
        assert entry["scores"] == [trial.score[-1] for trial in load_trials(task, results, entry["optimizer"])]
        assert entry["mean"] == pytest.approx(row.mean)
        assert entry["p_values"] == row.p_values
        assert set(entry["p_values"]) == {"sgd", "adam", "rmsprop"} - {row.optimizer}
        assert entry["worse_than"] == list(row.worse_than)


def test_without_a_seed_that_all_have_finished_only_results_json_is_written(tmp_path):
    task = ValleyTask()
    results = run_race(task)
    writer = ResultsWriter(task, Folder(tmp_path), resumed=None, log=print)
    tuning = dataclasses.replace(results, trials={k: trial for k, trial in results.trials.items() if k[0] == "tuning"})
    assert [file.name for file in writer.finish(tuning)] == ["results.json"]


def test_a_metric_that_is_not_a_percentage_and_diverged_trials_are_reported(tmp_path):
    task = ValleyTask(poison={1: 3})
    results = run_race(task, seeds=3)
    files = ResultsWriter(task, Folder(tmp_path), resumed=None, log=print).finish(results)
    assert [file.name for file in files] == ["results.json", "curves.png", "report.html"]
    text = files[-1].read_text(encoding="utf-8")
    assert "Test distance" in text
    assert "1 of 3 diverged" in text
    # The share of the training and the level of the test are percentages whatever the metric is.
    text = re.sub(r"<style>.*?</style>|<figure>.*?</figure>|[\d.]+ % (of training|level)", "", text, flags=re.DOTALL)
    assert " %" not in text


def test_the_learning_curves_are_the_means_of_the_trials(task, results, table, draw):
    for row, line in zip(table, draw("score").lines, strict=True):
        scores = zip(*(trial.score for trial in load_trials(task, results, row.optimizer)), strict=True)
        assert list(line.get_ydata()) == pytest.approx([sum(points) / 2 for points in scores])
        assert line.get_ydata()[-1] == pytest.approx(row.mean)


def test_the_time_bars_add_up_to_the_training_time(table, draw):
    ends = [bar.get_x() + bar.get_width() for bar in draw("time").patches[1::2]]
    assert ends == pytest.approx([row.train_seconds for row in table])


def test_the_effective_rate_is_the_geometric_mean_of_the_medians(task, results, draw):
    tracks = [trial.effective_lr for trial in load_trials(task, results, "rmsprop")]
    # Gradient descent has none; RMSprop's line is the thicker one.
    adam, rmsprop = sorted(draw("effective").lines, key=lambda line: line.get_linewidth())
    assert adam.get_linewidth() < rmsprop.get_linewidth()
    expected = [(first[2] * second[2]) ** 0.5 for first, second in zip(*tracks, strict=True)]
    assert list(rmsprop.get_ydata()) == pytest.approx(expected)


def test_optimizers_differ_by_more_than_their_color(draw):
    styles = [(line.get_linestyle(), line.get_marker()) for line in draw("train_loss").lines]
    assert len(set(styles)) == len(styles)


@pytest.mark.parametrize(
    ("limits", "has_powers"),
    [((1.1, 2.3), False), ((0.97, 1.02), False), ((1e-3, 0.1), False), ((0.3, 30.0), False), ((1e-9, 1.0), True)],
    ids=str,
)
def test_a_logarithmic_axis_has_numbers_that_can_be_read(limits, has_powers):
    low, high = limits
    axes = figure.Figure(figsize=(6, 4)).subplots()
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    number_log_axis(axes.yaxis)
    places = zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)
    labels = [label.get_text() for label, place in places if low <= place <= high and label.get_text()]
    assert 2 <= len(labels) <= 12
    assert all(("10^" in label) is has_powers for label in labels)
    if not has_powers:
        numbers = [float(label) for label in labels]
        assert numbers == sorted(set(numbers))


def test_the_picture_is_a_png_of_readable_size(task, results):
    image = pytest.importorskip("PIL.Image")
    with image.open(io.BytesIO(draw_png(task, results, "A verdict."))) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) >= 1000
        colors = picture.convert("RGB").getcolors(maxcolors=2**24)
    assert max(colors)[1] == (255, 255, 255)
    assert tuple(bytes.fromhex(TABLE["rmsprop"].light[1:])) in {color for _, color in colors}


# ---- in a notebook ---------------------------------------------------------------------------------------------------


def test_results_show_verdict_table_and_curves(task, results):
    table = make_table(task, results)
    page = PageReader(results._repr_html_())
    assert not page.open
    assert not page.unbalanced
    text = "".join(page.text)
    assert describe_verdict(table, task.metric) in text
    assert all(row.text(task.metric) in text for row in table)
    assert dict(page.attributes)["src"].startswith("data:image/png;base64,")


def test_results_in_text_are_a_line_and_the_verdict(task, results):
    head, verdict = repr(results).splitlines()
    assert head == f"Results(digits, {len(results.trials)} trials)"
    assert verdict == describe_verdict(make_table(task, results), task.metric)


def test_results_without_matplotlib_show_the_table(results, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    page = PageReader(results._repr_html_())
    assert "src" not in dict(page.attributes)
    assert "RMSprop" in page.text


def test_results_of_an_own_task_are_a_line():
    results = run_race(ValleyTask())
    assert repr(results) == f"Results(valley, {len(results.trials)} trials)"
    assert results._repr_html_() is None
