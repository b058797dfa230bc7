"""Inside ZeroRedundancyOptimizer and DeepSpeed: each of two processes keeps a part of the state."""

from __future__ import annotations

import re

import pytest
import torch

from example_programs import run_with_torchrun

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch is built without torch.distributed"),
]


def test_the_zero_example_ends_as_one_process_does():
    output = run_with_torchrun(2, "torch_zero.py")
    ends = dict(re.findall(r"(\w+): weights (\w+)", output))
    assert ends["sharded"] == ends["whole"], output
    kept = [int(count) for count in re.findall(r"rank \d keeps (\d+)", output)]
    assert len(kept) == 2
    assert min(kept) > 0, output


@pytest.mark.parametrize("stage", [1, 2])
def test_the_deepspeed_example_ends_as_with_torchs_own(stage):
    pytest.importorskip("deepspeed", reason="deepspeed is not installed")
    output = run_with_torchrun(2, "torch_deepspeed.py", str(stage))
    differences = [float(text) for text in re.findall(r"differ by (\S+)", output)]
    assert len(differences) == 2, output
    assert max(differences) < 1e-6
    losses = [float(text) for text in re.findall(r"loss (\S+)", output)]
    assert losses[-1] < losses[0] / 2
