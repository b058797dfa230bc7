"""The programs of examples/: as modules, and on several processes."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile

import pytest

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"


def load_example(name, *needs):
    """Import a program of examples/; skip the test if a package that it needs is missing."""
    for module in needs:
        pytest.importorskip(module)
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_with_torchrun(processes, script, *arguments):
    """Run one on several processes and return what they print."""
    with tempfile.TemporaryDirectory() as logs:
        # A log file for each rank: on one pipe the lines of two processes run into each other.
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"),
            *("--redirects", "3", "--log-dir", logs, "--nproc-per-node", str(processes), EXAMPLES / script, *arguments),
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
