"""Promise: the notebooks run in a fresh kernel, and the value of a cell shows as a picture, an animation or a table."""

import ast
import importlib.util
import sys

import pytest

from pages import ROOT

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
RICH = {"image/png", "text/html"}
NEEDS = {"torch": "torch", "sklearn": "sklearn", "to_dataframe": "pandas"}
"""What stands in a notebook -> the package that it needs."""
SILENT = ("print(", "optimizer.step(", "torch.set_num_threads(")


def read(path):
    return nbformat.read(path, as_version=4)


def get_code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def run(notebook, folder):
    """Run all cells in a kernel of this interpreter."""
    nbclient.NotebookClient(
        notebook, timeout=280, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return notebook


def run_cells(folder, *cells):
    """Run these cells, and return for each the kinds of data that it shows, one set for each output."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    return [[set(output.get("data", ())) for output in cell.outputs] for cell in run(notebook, folder).cells]


def shows_its_value(source):
    """Whether a cell ends with a value, and not with a statement or a call of print."""
    last = ast.parse(source).body[-1]
    return isinstance(last, ast.Expr) and not ast.unparse(last).startswith(SILENT)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_says(path, tmp_path):
    for words, package in NEEDS.items():
        if words in path.read_text(encoding="utf-8") and importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: {path.name} needs it")
    shown = [cell for cell in get_code(run(read(path), tmp_path)) if shows_its_value(cell.source)]
    assert len(shown) >= 2
    for cell in shown:
        kinds = set().union(*(output.get("data", ()) for output in cell.outputs))
        assert kinds & RICH, cell.source
        assert "text/plain" in kinds, "where neither is shown, there is text"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs_in_short_cells_with_three_questions(path):
    notebook = read(path)
    nbformat.validate(notebook)
    for cell in get_code(notebook):
        assert not cell.outputs
        assert cell.execution_count is None
        assert len(cell.source.splitlines()) <= 12
    assert notebook.cells[-1].source.count("<details>") == notebook.cells[-1].source.count("</details>") == 3


def test_the_course_has_five_notebooks():
    assert [path.name[:2] for path in NOTEBOOKS] == ["1-", "2-", "3-", "4-", "5-"]


@pytest.mark.slow
def test_a_figure_shows_once_with_and_without_matplotlib_inline(tmp_path):
    plain, magic, inline, _ = run_cells(
        tmp_path,
        "import rmsprop\n"
        "run = rmsprop.minimize('x^2', 1.0, steps=5, trace=True)\n"
        "rmsprop.view.plot(run.trace, size=(320, 240))",
        "%matplotlib inline",
        "rmsprop.view.plot(run.trace, size=(320, 240))",
        f"import sys\nassert sys.executable == {sys.executable!r}",
    )
    assert plain == inline == [{"image/png", "text/plain"}]
    assert magic == []


@pytest.mark.slow
def test_a_trace_a_result_and_an_animation_show_in_a_fresh_kernel(tmp_path):
    result, trace, animation = run_cells(
        tmp_path,
        "import rmsprop\nrun = rmsprop.minimize('x^2', 1.0, steps=5, trace=True)\nrun",
        "run.trace",
        "rmsprop.view.animate(run.trace, seconds=0.2, fps=10)",
    )
    assert result == animation == [{"text/html", "text/plain"}]
    assert trace == [{"image/png", "text/plain"}]


@pytest.mark.slow
def test_a_benchmark_and_a_report_of_the_doctor_show_in_a_fresh_kernel(tmp_path):
    for package in ("torch", "sklearn"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    results, report = run_cells(
        tmp_path,
        "from rmsprop.race import Settings, get, race\n"
        "digits = get('digits')\n"
        "race(digits, Settings.of(digits, optimizers=('adam', 'rmsprop'), seeds=2, epochs=1, quick=True))",
        "import torch, rmsprop.doctor\n"
        "weight = torch.nn.Parameter(torch.ones(3))\n"
        "optimizer = torch.optim.RMSprop([weight], lr=0.1)\n"
        "with rmsprop.doctor.watch(optimizer) as watcher:\n"
        "    weight.grad = torch.ones(3)\n"
        "    optimizer.step()\n"
        "watcher",
    )
    assert results == report == [{"text/html", "text/plain"}]
