"""The commands that are killed and starved, and what starts them."""

import contextlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import rmsprop

torch = pytest.importorskip("torch", reason="torch is not installed")

SECONDS = 120
RACE = ["race", "digits", "--quick", "--with", "sgd,rmsprop", "--seeds", "2", "--epochs", "2", "--out", "out"]
TUNE = ["tune", "digits", "--quick", "--storage", "sqlite:///study.db", "--out", "out", "--trials"]
SHORT = {
    "race": [*RACE, "--rates", "0.01"],
    "tune": [*TUNE, "2"],
    "sensitivity": ["sensitivity", "digits", "--quick", "--with", "rmsprop", "--seeds", "1", "--out", "out"],
    "minimize": ["minimize", "x^2", "--start", "1", "--steps", "20", "--csv", "out.csv", "--plot", "out.png"],
    "animate": ["minimize", "x^2", "--start", "1", "--steps", "20", "--seconds", "0.1", "--animate", "out.gif"],
    "compare": ["compare", "x^2", "--start", "1", "--steps", "20", "--csv", "out.csv", "--plot", "out.png"],
    "convert": ["convert", "run.pt", "out.pt", "--to", "torch", "--force"],
    "convert to optax": ["convert", "run.pt", "out.msgpack", "--to", "optax", "--map", "names.json", "--force"],
    "convert to orbax": ["convert", "run.pt", "out", "--to", "optax", "--map", "names.json", "--force"],
    "convert to tensorflow1": ["convert", "run.pt", "out", "--to", "tensorflow1", "--map", "names.json", "--force"],
    "convert to paddle": ["convert", "run.pt", "out.pdopt", "--to", "paddle", "--map", "names.json", "--force"],
    "doctor": ["doctor", "run.pt", "--plot", "out.png"],
}  # fmt: skip
"""Every command that writes."""
PRINTERS = {
    "dialects": ["dialects"],
    "recipes": ["recipes"],
    "list": ["race", "--list"],
    "help": ["--help"],
    "read": ["convert", "run.pt"],
}


class Starter:
    """Starts programs in a folder that holds a checkpoint `run.pt`."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        weight = torch.nn.Parameter(torch.ones(5000))
        optimizer = torch.optim.RMSprop([weight])
        weight.sum().backward()
        optimizer.step()
        torch.save(optimizer.state_dict(), folder / "run.pt")
        (folder / "names.json").write_text(json.dumps({"0": "w"}))

    def start(self, *words, program=("-m", "rmsprop"), **options):
        """Start a program in a process group of its own."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **options.pop("env", {})}
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [sys.executable, *program, *words], cwd=self.folder, env=environment, start_new_session=True, text=True,
            errors="replace", **{**pipes, **options},
        )  # fmt: skip

    def run(self, *words, **options):
        """Run a program to its end; return (exit code, output, errors). No error is a traceback."""
        process = self.start(*words, **options)
        output, errors = process.communicate(timeout=SECONDS)
        assert "Traceback" not in errors, errors
        return process.returncode, output, errors


SAVER = """
import sys, numpy as np, rmsprop
optimizer = rmsprop.RMSprop([np.zeros(100_000, "float32")], lr=0.1)
if len(sys.argv) > 1: optimizer.load("state.safetensors")
while True:
    optimizer.step([np.ones(100_000, "float32")])
    optimizer.save("state.safetensors")
    print(optimizer.step_count, flush=True)
"""


def load_count(folder):
    """Return the number of steps in what `SAVER` saved; 0 if there is nothing yet."""
    optimizer = rmsprop.RMSprop([np.zeros(100_000, "float32")], lr=0.1)
    with contextlib.suppress(FileNotFoundError):
        optimizer.load(folder / "state.safetensors")
    return optimizer.step_count
