"""Promise: the lab's Python script and command compute the numbers of the lab."""

from __future__ import annotations

import contextlib
import csv
import io
import shlex
from pathlib import Path

import numpy as np
import pytest
from test_lab_numbers import NOISES, ROSENBROCK, SETTINGS
from typer.testing import CliRunner

from rmsprop import cli
from rmsprop.lab.experiment import Experiment
from rmsprop.lab.script import write_command, write_python
from rmsprop.lab.simulate import simulate


def read_experiment(runs, **more) -> Experiment:
    return Experiment.read({"function": ROSENBROCK, "start": [-1.2, 1.0], "steps": 50, "runs": runs, **more})


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise["kind"])
@pytest.mark.parametrize("part", [SETTINGS[:6], SETTINGS[6:]], ids=["rmsprop", "baselines"])
def test_the_script_prints_the_numbers_of_the_lab(part, noise):
    experiment = read_experiment(part, noise=noise)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(write_python(experiment), "copied", "exec"), {})
    lines = printed.getvalue().splitlines()
    paths = simulate(experiment)
    assert len(lines) == len(paths)
    for line, path in zip(lines, paths):
        assert line.endswith(f"{path.x[-1].tolist()} {float(path.f[-1])}")


def read_last_row(path: Path) -> dict[str, str]:
    return list(csv.DictReader(path.read_text().splitlines()))[-1]


COMMANDS = [
    [SETTINGS[0], {"optimizer": "adagrad", "lr": 0.01}, {"optimizer": "adam", "lr": 0.01}],
    [SETTINGS[0], {"optimizer": "momentum", "lr": 1e-4}],
    [{"optimizer": "adam", "lr": 0.02}, SETTINGS[1]],
    [SETTINGS[3], SETTINGS[4]],
    [SETTINGS[4], {"optimizer": "rmsprop", "lr": 0.02}],
    [{"optimizer": "rmsprop", "lr": 0.01, "rule": {"bias_correction": True, "init": "zeros", "nesterov": "none"}}],
]


@pytest.mark.parametrize("noise", NOISES[:2], ids=lambda noise: noise["kind"])
@pytest.mark.parametrize("runs", COMMANDS, ids=range(len(COMMANDS)))
def test_the_command_computes_the_numbers_of_the_lab(runs, noise, tmp_path):
    experiment = read_experiment(runs, noise=noise)
    words = shlex.split(write_command(experiment))
    assert words[0] == "rmsprop"
    done = CliRunner().invoke(cli.app, [*words[1:], "--csv", str(tmp_path / "out.csv")])
    assert done.exit_code == 0, done.output
    ends = set()
    for file in tmp_path.glob("*.csv"):
        last = read_last_row(file)
        ends.add((float(last["x[0]"]), float(last["x[1]"])))
    assert ends == {tuple(path.x[-1].tolist()) for path in simulate(experiment)}


def test_a_function_of_x_alone_becomes_a_command_with_one_coordinate(tmp_path):
    experiment = read_experiment([SETTINGS[0]], function="-x^2 + x^4", start=[0.3, 1.0])
    words = shlex.split(write_command(experiment))
    done = CliRunner().invoke(cli.app, [*words[1:-2], "--csv", str(tmp_path / "a.csv"), *words[-2:]])
    assert done.exit_code == 0, done.output
    last = read_last_row(tmp_path / "a.csv")
    assert float(last["x[0]"]) == simulate(experiment)[0].x[-1, 0]
    assert np.isfinite(float(last["f"]))


@pytest.mark.parametrize(
    ("runs", "more"),
    [
        ([{"optimizer": "adam", "lr": 0.1}], {}),
        ([SETTINGS[0], {"optimizer": "adam", "lr": 0.1, "beta1": 0.5}], {}),
        ([SETTINGS[0], SETTINGS[1]], {}),
        ([SETTINGS[0]], {"noise": {"kind": "hinton"}}),
        ([SETTINGS[0]], {"function": "x^2", "noise": {"kind": "gauss"}}),
    ],
    ids=["no-rmsprop", "own-beta", "two-rules", "hinton", "flat-noise"],
)
def test_an_experiment_that_is_no_command_gives_none(runs, more):
    assert write_command(read_experiment(runs, **more)) is None
