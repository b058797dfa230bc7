"""Promise: the examples on several processes do what they say."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

import pytest
import torch

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch is built without torch.distributed"),
]


def run_with_torchrun(processes, example, *arguments):
    script = pathlib.Path(__file__).parents[2] / "examples" / example
    with tempfile.TemporaryDirectory() as logs:
        # A log file for each rank: on one pipe the lines of two processes run into each other.
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"),
            *("--redirects", "3", "--log-dir", logs, "--nproc-per-node", str(processes), script, *arguments),
        ]
        environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
        run = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            output, _ = run.communicate(timeout=200)
        finally:
            if run.poll() is None:
                run.terminate()  # torchrun ends its workers, which are in sessions of their own
                run.wait(60)
        texts = {path: path.read_text("utf-8") for path in sorted(pathlib.Path(logs).rglob("std*.log"))}
    assert run.returncode == 0, output + "".join(texts.values())
    return "".join(text for path, text in texts.items() if path.name == "stdout.log")


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
