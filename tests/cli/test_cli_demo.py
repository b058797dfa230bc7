"""Promise: the tour's sentences are its computed numbers, and its page needs nothing but itself."""

from __future__ import annotations

import builtins
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from sklearn import datasets
from typer.testing import CliRunner

from rmsprop import dialects, formula
from rmsprop.cli import app
from rmsprop.commands import demo, tour
from rmsprop.race import Settings, get
from rmsprop.race.record import Results
from rmsprop.race.verdict import describe_verdict, make_table

pytest.importorskip("matplotlib", reason="matplotlib is not installed: it draws the tour's figures")
DISPLAY = ("DISPLAY", "WAYLAND_DISPLAY")


@pytest.fixture
def short(monkeypatch):
    """Let the task train with its quick budget."""
    options = tour.RaceOptions(quick=True)
    monkeypatch.setattr(tour, "RaceOptions", lambda: options)


@pytest.fixture
def opened(monkeypatch):
    """The addresses that would be opened in a browser."""
    addresses = []
    monkeypatch.setattr("webbrowser.open", addresses.append)
    return addresses


@pytest.fixture
def no_torch(monkeypatch):
    original = builtins.__import__

    def load(name, *rest, **named):
        if name.split(".")[0] == "torch":
            raise ImportError("No module named 'torch'", name="torch")
        return original(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", load)


def run(tmp_path, *words):
    return CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "out"), *words], catch_exceptions=False)


def run_part(make_part, tmp_path):
    from rmsprop.commands.words import console

    return make_part(tmp_path, console())


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.addresses, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]

    def handle_data(self, data):
        self.text += data


@pytest.mark.slow
def test_the_page_has_every_sentence_and_loads_nothing(tmp_path, short, opened, monkeypatch):
    for name in DISPLAY:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    result = run(tmp_path)
    assert result.exit_code == 0
    page = Tags((tmp_path / "out/index.html").read_text(encoding="utf-8"))
    sentences = re.findall(r"\[\d of 5\] .*\n(.*)\n", result.output)
    assert len(sentences) == 5
    assert [sentence for sentence in sentences if sentence not in page.text] == []
    assert [address[:40] for address in page.addresses if not address.startswith(("data:", "#"))] == []
    assert page.addresses
    assert opened == []
    results = Results.from_json((tmp_path / "out/race/results.json").read_text(encoding="utf-8"), where="here")
    task = get(tour.TASK)
    assert sentences[2].startswith(describe_verdict(make_table(task, results), task.metric))


@pytest.mark.parametrize(("words", "count"), [((), 1), (("--no-open",), 0)])
def test_the_page_is_opened_where_there_is_a_display(tmp_path, opened, monkeypatch, words, count):
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(tour, "PARTS", (tour.compare_dialects,))
    assert run(tmp_path, *words).exit_code == 0
    assert opened == [(tmp_path / "out/index.html").resolve().as_uri()] * count


@pytest.mark.parametrize(("platform", "name", "expected"), [
    ("linux", None, False), ("linux", "DISPLAY", True), ("linux", "WAYLAND_DISPLAY", True), ("darwin", None, True),
    ("win32", None, True),
])  # fmt: skip
def test_a_display_is_found(monkeypatch, platform, name, expected):
    monkeypatch.setattr("sys.platform", platform)
    for variable in DISPLAY:
        monkeypatch.delenv(variable, raising=False)
    if name:
        monkeypatch.setenv(name, ":0")
    assert demo.has_display() is expected


def test_the_step_by_hand_is_the_librarys_and_the_functions_end_where_they_should(tmp_path):
    part = run_part(tour.show_step_by_hand, tmp_path)
    np.testing.assert_allclose(part.numbers["theta"], part.numbers["by_hand"], rtol=1e-15)
    assert part.numbers["curve"] == pytest.approx(-1 / np.sqrt(3), rel=1e-4)
    assert f"x = {part.numbers['curve']:.4f}" in part.sentence
    np.testing.assert_allclose(part.numbers["bowl"], [2.005, -0.995], atol=5e-4)
    assert str(np.round(part.numbers["theta"], 4)) in part.sentence


def test_adagrad_divides_by_a_sum_and_rmsprop_by_a_mean(tmp_path):
    part = run_part(tour.show_lr_and_rho, tmp_path)
    point, total, mean = np.array([-5.0, -2.0]), np.zeros(2), np.zeros(2)
    others = point.copy()
    for _ in range(60):
        grad = np.array([0.2, 4.0]) * point
        total += grad**2
        point -= 0.2 * grad / (np.sqrt(total) + 1e-10)
        grad = np.array([0.2, 4.0]) * others
        mean = 0.9 * mean + 0.1 * grad**2
        others -= 0.2 * grad / np.sqrt(mean + 1e-8)
    assert part.numbers["adagrad"] == pytest.approx(np.sqrt(total[1]), rel=1e-6)
    assert part.numbers["rmsprop"] == pytest.approx(np.sqrt(mean[1]), rel=1e-6)
    assert f"by {np.sqrt(total[1]):.3g}," in part.sentence
    assert f"by {np.sqrt(mean[1]):.3g}," in part.sentence
    assert f"x = {point[0]:.2f}" in part.sentence


def test_the_first_steps_of_the_dialects_are_those_of_their_rules(tmp_path):
    part = run_part(tour.compare_dialects, tmp_path)
    for name, length in part.numbers.items():
        rule = dialects.get(name).resolve(rho=0.99)
        assert length == pytest.approx(formula.step_lengths(rule)[0], rel=1e-6)
        assert f"{length:.3g} lr" in part.sentence


def test_bfloat16_weights_move_as_far_as_was_recorded(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")
    part = run_part(tour.show_bfloat16, tmp_path)
    assert part.numbers == tour.RECORDED
    assert part.sentence.endswith("by 0.113 (measured now).")


def test_without_torch_the_figure_is_labeled_as_recorded(tmp_path, no_torch):
    part = run_part(tour.show_bfloat16, tmp_path)
    assert part.numbers is tour.RECORDED
    assert "torch is not installed here" in part.sentence


def test_the_task_is_the_bundled_data_set_whose_features_differ_most_in_scale():
    def measure_ratio(features):
        spread = features.std(axis=0)
        return spread.max() / spread[spread > 0].min()

    names = ("iris", "wine", "breast_cancer", "digits", "diabetes", "linnerud")
    tables = {
        name: getattr(datasets, f"load_{name}")(**({"scaled": False} if name == "diabetes" else {})).data
        for name in names
    }
    ratios = {name: measure_ratio(table) for name, table in tables.items()}
    assert max(ratios, key=ratios.get) == "breast_cancer"
    assert ratios["breast_cancer"] == pytest.approx(215_000, rel=0.01)
    task = get(tour.TASK)
    assert len(Settings.of(task).seeds) >= 10
    assert sum(task.load().sizes.values()) == len(tables["breast_cancer"])


def test_an_interrupt_writes_no_page(tmp_path, short, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("rmsprop.race.run.train", stop)
    monkeypatch.setattr(tour, "PARTS", (tour.train_optimizers,))
    assert run(tmp_path, "--no-open").exit_code != 0
    assert not (tmp_path / "out/index.html").exists()
