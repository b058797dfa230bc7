"""Promise: the examples for torch alone run, and so does the code of the page about PyTorch."""

import pathlib
import re

import pytest
import torch
from torch import nn
from torch_helpers import use_one_thread  # noqa: F401

import rmsprop
from example_programs import EXAMPLES, load_example

# torch.compile imports a module of torch that uses it.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")


def test_the_drop_in_example_learns_digits_as_torchs_own_does():
    accuracy, torchs = load_example("torch_drop_in", "sklearn").main()
    assert accuracy > 0.85
    assert abs(accuracy - torchs) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("with_scheduler", [False, True])
def test_the_compile_example_compiles_one_graph_for_all_learning_rates(with_scheduler):
    torch._dynamo.reset()
    losses, graphs = load_example("torch_compile").main(with_scheduler=with_scheduler)
    assert graphs == 1
    assert losses[-1] < losses[0] / 2


def test_the_code_of_the_page_about_pytorch_runs():
    page = (EXAMPLES.parent / "docs" / "use" / "pytorch.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names = {"torch": torch, "rmsprop": rmsprop, "model": nn.Linear(3, 1)}
    torch._dynamo.reset()
    assert len(blocks) > 7
    for block in blocks:
        before = names["model"].weight.detach().clone()
        exec(block + ("\nstep()" if "def step" in block else ""), names)
        assert "step" not in block or not torch.equal(before, names["model"].weight), block


def test_every_torch_example_is_run_by_a_test():
    tests = "".join(path.read_text("utf-8") for path in pathlib.Path(__file__).parents[1].glob("*/test_*.py"))
    examples = list(EXAMPLES.glob("torch_*.py"))
    assert examples
    for path in examples:
        assert f'"{path.stem}"' in tests or f'"{path.name}"' in tests, path.name
