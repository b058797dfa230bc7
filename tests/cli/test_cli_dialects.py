"""`rmsprop dialects`, and the page that is made from the same table."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rmsprop import dialects, landscapes, minimize
from rmsprop.cli import app
from rmsprop.commands import words

DOCS = Path(__file__).parents[2] / "docs"


def call(*line):
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, ["dialects", *line])


def done(*line):
    result = call(*line)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_table_has_a_row_for_every_dialect():
    lines = done().splitlines()
    for row in dialects.all():
        (line,) = [line for line in lines if line.split()[:1] == [row.name]]
        assert f" {row.rule.rho:g} " in line
        assert row.title in line
        assert line.split()[-1] == row.evidence


def test_one_name_tells_all_that_is_known():
    row = dialects.get("keras3")
    output = " ".join(done("Keras").split())
    for text in (row.title, row.source, *row.bugs, *row.notes, *row.differs, "0.001"):
        assert " ".join(text.split()) in output


def test_two_names_are_compared_in_the_librarys_words():
    output = done("pytorch", "tf1")
    assert str(dialects.compare("torch", "tensorflow1")) in output


def test_the_numbers_are_those_of_two_runs():
    f = landscapes.get("ravine")
    left, right = (
        minimize(f, list(f.start), jac=f.gradient, lr=0.05, steps=200, dialect=dialects.dialect(name), trace=True).trace
        for name in ("torch", "tensorflow1")
    )
    output = done("torch", "tensorflow1")
    for step in (1, 10, 100):
        distance = float(np.hypot(*(left.x[step] - right.x[step])))
        way = max(float(np.hypot(*(run.x[step] - run.x[0]))) for run in (left, right))
        (line,) = [line for line in output.splitlines() if line.split()[:1] == [str(step)]]
        assert line.split()[-3:] == [f"{distance:.3g}", f"{100 * distance / way:.0f}", "%"]
    assert f"f ends at {left.f[-1]:.3g} and {right.f[-1]:.3g}" in output


def test_the_same_rule_has_the_same_path():
    output = done("libtorch", "candle")
    assert "the same rule" in output
    assert "Their paths are the same." in output


def test_switches_change_both():
    output = done("torch", "tensorflow1", "--momentum", "0.9")
    assert str(dialects.compare("torch", "tensorflow1", momentum=0.9)) in output
    assert "buffer: " in output


def test_the_picture_of_both_is_written(tmp_path):
    pytest.importorskip("matplotlib")
    done("torch", "tensorflow1", "--plot", str(tmp_path / "two.png"), "--theme", "dark")
    assert (tmp_path / "two.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["torch", "tf1", "keras"], "3 dialects, expected at most two"),
        (["torhc"], "unknown dialect 'torhc', did you mean 'torch'"),
        (["torch", "--plot", "x.png"], "--plot draws the paths of two dialects, expected two names"),
        (["--momentum", "0.9"], "--momentum changes a dialect, expected a name"),
        (["torch", "keras", "--weight-decay", "-1"], "weight_decay=-1.0"),
        (["torch", "keras1", "--momentum", "0.9"], "dialect 'keras1': momentum=0.9"),
        (["torch", "keras", "--function", "x +"], "column "),
        (["torch", "keras", "--plot", "x.bmp"], "x.bmp: suffix '.bmp'"),
    ],
)
def test_a_refusal_says_what_to_do(line, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call(*line)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {message}")


def test_apart_is_nothing_at_the_start_and_a_distance_later():
    f = landscapes.get("bowl")
    left, right = (
        minimize(f, [3.0, 4.0], jac=f.gradient, lr=lr, steps=1, optimizer="gradient_descent", trace=True).trace
        for lr in (0.5, 0.25)
    )
    distance, share = words.measure_distance(left, right)
    # One ends in the middle, five from the start; the other half way.
    np.testing.assert_allclose(distance, [0.0, 2.5])
    np.testing.assert_allclose(share, [0.0, 0.5])


# The page


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_dialects_is_current(generate):
    page = (DOCS / "reference" / "dialects.md").read_text(encoding="utf-8")
    assert page == generate.dialects_page(), "run: python docs/generate.py --pages"


def test_the_page_of_recipes_is_current(generate):
    page = (DOCS / "reference" / "recipes.md").read_text(encoding="utf-8")
    assert page == generate.recipes_page(), "run: python docs/generate.py --pages"


def test_every_picture_of_the_pages_exists_and_has_its_command(generate):
    shown = set()
    for page in DOCS.rglob("*.md"):
        shown |= {Path(link).name for link in re.findall(r"!\[[^]]*\]\(([^)]*)\)", page.read_text(encoding="utf-8"))}
    assert set(generate.COMMANDS) <= shown
    for name, command in generate.COMMANDS.items():
        assert (DOCS / "pictures" / name).exists()
        assert name in command


def test_the_ten_dialects_of_the_picture_have_ten_rules(generate):
    assert len({dialects.dialect(name) for name in generate.TEN}) == len(generate.TEN) == 10


@pytest.mark.parametrize("columns", ["80", None], ids=["80 columns", "piped"])
@pytest.mark.parametrize(
    "line", [["dialects"], ["compare", "plateau", "--with", "momentum,sgd"]], ids=lambda line: line[0]
)
def test_no_table_is_cut(line, columns):
    shown = CliRunner(env={"COLUMNS": columns, "NO_COLOR": "1"}).invoke(app, line)
    assert shown.exit_code == 0, shown.output
    assert "…" not in shown.output
    if columns is not None:
        assert max(len(row) for row in shown.output.splitlines()) <= int(columns)


def test_curves_below_each_other_share_their_scale():
    hardly, much = [1.0, 0.99], [1.0, 0.0]
    assert words.sparkline(hardly) == words.sparkline(much) == "█▁"
    assert words.sparkline(hardly, among=[*hardly, *much]) == "██"
