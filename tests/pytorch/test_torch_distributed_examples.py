"""Promise: the examples on several processes do what they say."""

import re

import pytest
import torch

from example_programs import run_with_torchrun

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch is built without torch.distributed"),
]


def find_losses(output):
    return [float(text) for text in re.findall(r"loss ([0-9.]+)", output)]


def test_the_ddp_example_keeps_its_copies_equal():
    output = run_with_torchrun(2, "torch_ddp.py")
    weights = re.findall(r"rank (\d): weights (\w+)", output)
    assert {rank for rank, _ in weights} == {"0", "1"}, output
    assert len({checksum for _, checksum in weights}) == 1
    losses = find_losses(output)
    assert losses[-1] < losses[0] / 2


def test_the_fsdp2_example_resumes_with_another_number_of_processes(tmp_path):
    first = run_with_torchrun(2, "torch_fsdp2.py", tmp_path)
    assert "2 processes, step 0: " in first
    second = run_with_torchrun(1, "torch_fsdp2.py", tmp_path)
    assert "1 processes, step 20: " in second
    assert "step 0:" not in second
    assert find_losses(second)[-1] < find_losses(first)[-1] < find_losses(first)[0]
