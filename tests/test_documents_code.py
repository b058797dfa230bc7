"""Promise: the Python code of every document runs from top to bottom without a warning."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys

import pytest

from pages import PAGES, ROOT, python_blocks, shell_lines

pytestmark = pytest.mark.slow
NEEDS = {
    "torch": ("torch",),
    "jax": ("jax", "optax"),
    "optax": ("optax",),
    "keras": ("keras", "jax"),
    "tune": ("optuna",),
    "race": ("sklearn",),
}
"""A part of an imported name, such as rmsprop.tune -> the packages without which its page is skipped."""

# Each page runs in its own process, as frameworks keep global state. Warnings about the code of the page or of this
# library are errors; warnings of frameworks about their own code are not, nor the one about the copy argument of
# __array__ in NumPy 2. TensorFlow is hidden, because TensorBoard would load it, which takes longer than all the rest.
RUN = """
import json, sys, warnings
sys.modules["tensorflow"] = None
page, blocks = json.load(sys.stdin)
warnings.filterwarnings("error", module="__main__|rmsprop")
warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
names = {"__name__": "__main__"}
for line, text in blocks:
    exec(compile("\\n" * (line - 1) + text, page, "exec"), names)
"""


def find_needed(code: str) -> set[str]:
    """Return the optional packages without which a block cannot run."""
    imported: list[str] = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported.append(node.module or "")
    parts = {part for name in imported for part in name.split(".")}
    return {package for part in parts for package in NEEDS.get(part, ())}


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)])
def test_the_code_of_a_page_runs_in_order(page, tmp_path):
    blocks = python_blocks(page)
    for package in sorted(set().union(*(find_needed(block.text) for block in blocks))):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: {page} shows code for it")
    run = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps([str(ROOT / page), [(block.line, block.text) for block in blocks]]),
        capture_output=True,
        encoding="utf-8",
        cwd=tmp_path,
        env={**os.environ, "KERAS_BACKEND": "jax", "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        check=False,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr


def test_indented_blocks_hold_no_python():
    # Only fenced blocks are run.
    lines = [line for page in PAGES for line in shell_lines(page)]
    assert lines
    assert [str(line) for line in lines if line.text.startswith(("import ", "from ", "def ", "class ", "for "))] == []
