"""`rmsprop dialects`, and the pages that are made from the same tables."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from rmsprop import dialects, landscapes, minimize
from rmsprop.commands import words

DOCS = Path(__file__).parents[2] / "docs"


def find_line(output, *first):
    (line,) = [line for line in output.splitlines() if tuple(line.split()[: len(first)]) == first]
    return line


def test_the_table_has_a_row_for_every_dialect(run_ok):
    output = run_ok("dialects")
    for row in dialects.all():
        line = find_line(output, row.name)
        assert f" {row.rule.rho:g} " in line
        assert row.title in line
        assert line.split()[-1] == row.evidence


def test_a_name_shows_everything_known(run_ok):
    row = dialects.get("keras3")
    output = " ".join(run_ok("dialects", "Keras").split())
    for text in (row.title, row.source, *row.bugs, *row.notes, *row.differs, "0.001"):
        assert " ".join(text.split()) in output


@pytest.mark.parametrize("changes", [{}, {"momentum": 0.9}])
def test_two_names_are_compared_in_the_librarys_words(changes, run_ok):
    options = [word for switch, value in changes.items() for word in (f"--{switch}", str(value))]
    output = run_ok("dialects", "pytorch", "tf1", *options)
    assert str(dialects.compare("torch", "tensorflow1", **changes)) in output


def test_the_numbers_are_those_of_two_runs(run_ok):
    f = landscapes.get("ravine")
    left, right = (
        minimize(f, list(f.start), jac=f.gradient, lr=0.05, steps=200, dialect=dialects.dialect(name), trace=True).trace
        for name in ("torch", "tensorflow1")
    )
    output = run_ok("dialects", "torch", "tensorflow1")
    for step in (1, 10, 100):
        distance = float(np.hypot(*(left.x[step] - right.x[step])))
        way = max(float(np.hypot(*(run.x[step] - run.x[0]))) for run in (left, right))
        line = find_line(output, str(step))
        assert line.split()[-3:] == [f"{distance:.3g}", f"{100 * distance / way:.0f}", "%"]
    assert f"f ends at {left.f[-1]:.3g} and {right.f[-1]:.3g}" in output


def test_the_same_rule_has_the_same_path(run_ok):
    output = run_ok("dialects", "libtorch", "candle")
    assert "the same rule" in output
    assert "Their paths are the same." in output


def test_the_picture_and_the_tables_of_both_are_written(tmp_path, run_ok):
    pytest.importorskip("matplotlib")
    files = ["--plot", str(tmp_path / "two.png"), "--csv", str(tmp_path / "two.csv")]
    run_ok("dialects", "torch", "tensorflow1", "--theme", "dark", *files)
    assert (tmp_path / "two.png").read_bytes().startswith(b"\x89PNG")
    assert {file.name for file in tmp_path.iterdir()} == {"two.png", "two-torch.csv", "two-tensorflow1.csv"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["torch", "tf1", "keras"], "3 dialects, expected at most two"),
        (["torhc"], "unknown dialect 'torhc', did you mean 'torch'"),
        (["torch", "--plot", "x.png"], "--plot is for the paths of two dialects, expected two names"),
        (["--lr", "0.1"], "--lr is for the paths of two dialects, expected two names"),
        (["torch", "--function", "bowl"], "--function is for the paths of two dialects, expected two names"),
        (["--momentum", "0.9"], "--momentum changes a dialect, expected a name"),
        (["torch", "keras", "--weight-decay", "-1"], "weight_decay=-1.0"),
        (["torch", "keras1", "--momentum", "0.9"], "dialect 'keras1': momentum=0.9"),
        (["torch", "keras", "--function", "x +"], "column "),
        (["torch", "keras", "--plot", "x.bmp"], "x.bmp: suffix '.bmp'"),
    ],
)
def test_a_refusal_says_what_to_do(line, message, tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    result = call("dialects", *line)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {message}")


@pytest.mark.parametrize("columns", ["80", None], ids=["80 columns", "piped"])
@pytest.mark.parametrize(
    "line", [["dialects"], ["compare", "plateau", "--with", "momentum,sgd"]], ids=["dialects", "compare"]
)
def test_no_table_is_cut(line, columns, run_ok):
    output = run_ok(*line, columns=columns)
    assert "…" not in output
    assert columns is None or max(map(len, output.splitlines())) <= int(columns)


# Pages


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["dialects", "recipes"])
def test_the_generated_page_is_current(generate, name):
    page = (DOCS / "reference" / f"{name}.md").read_text(encoding="utf-8")
    assert page == getattr(generate, f"{name}_page")(), "run: python docs/generate.py --pages"


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


# Numbers in words


def test_the_distance_is_none_at_the_start_and_grows():
    f = landscapes.get("bowl")
    left, right = (
        minimize(f, [3.0, 4.0], jac=f.gradient, lr=lr, steps=1, optimizer="gradient_descent", trace=True).trace
        for lr in (0.5, 0.25)
    )
    distance, share = words.measure_distance(left, right)
    # One ends in the middle, five from the start; the other half way.
    np.testing.assert_allclose(distance, [0.0, 2.5])
    np.testing.assert_allclose(share, [0.0, 0.5])


def test_curves_below_each_other_share_their_scale():
    flat, steep = [1.0, 0.99], [1.0, 0.0]
    assert words.sparkline(flat) == words.sparkline(steep) == "█▁"
    assert words.sparkline(flat, among=[*flat, *steep]) == "██"


@pytest.mark.parametrize(
    "values", [[1.0], [0.0, 0.0], [np.nan, 1.0, 2.0], [1e-300, 1e300], [-1e308, 1e308], [np.inf, 1.0], []]
)
def test_a_sparkline_of_any_numbers_is_as_long_as_they_are(values):
    line = words.sparkline(values)
    assert len(line) == (len(values) if np.isfinite(values).any() else 0)
    assert len(words.sparkline(list(np.arange(1000.0)), width=40)) == 40


@pytest.mark.parametrize("steps", [0, 1, 7, 20, 999, 1_000_000])
def test_the_steps_of_a_table_begin_and_end_with_the_run(steps):
    chosen = words.choose_steps(steps)
    assert (chosen[0], chosen[-1]) == (0, steps)
    assert chosen == sorted(set(chosen))
    assert len(chosen) <= 21
