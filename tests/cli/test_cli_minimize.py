"""`rmsprop minimize` and `rmsprop compare`: what they print is what the library computed."""

import csv
import dataclasses
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import rmsprop
from rmsprop import Rule, expression, landscapes, minimize
from rmsprop.cli import app
from rmsprop.commands import words
from rmsprop.commands.options import Changes, Run, Switches
from rmsprop.commands.problem import parse_settings as chosen, read_problem as read
from rmsprop.trace import Trace

CUBIC = ["minimize", "x - x^3", "--start", "-1", "--lr", "0.01", "--steps", "1000"]
RAVINE = ["compare", "0.1*x^2 + 2*y^2", "--start", "-5,-2"]


def call(*line):
    return CliRunner(env={"COLUMNS": "160", "NO_COLOR": "1"}).invoke(app, list(line))


def done(*line):
    result = call(*line)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_tutorials_command_prints_the_end_and_why_it_stopped():
    f = expression.parse("x - x^3")
    expected = minimize(f, [-1.0], jac=f.grad, lr=0.01, steps=1000)
    output = done(*CUBIC)
    assert f"end      {expected.x[0]:.6g}, f = {expected.fun:.8g}\n" in output
    assert f"stopped  {expected.message}\n" in output
    # The minimum of x - x^3 is at -1/sqrt(3), where it is -2/(3 sqrt(3)).
    assert "-0.57735, f = -0.38490018" in output


def test_the_table_has_the_numbers_of_the_run():
    f = expression.parse("x - x^3")
    trace = minimize(f, [-1.0], jac=f.grad, lr=0.01, steps=1000, trace=True).trace
    rows = {
        int(cells[0]): cells[1:]
        for line in done(*CUBIC).splitlines()
        if (cells := line.split())[:1] and cells[0].isdigit()
    }
    assert list(rows) == [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    for step in (0, 1, 10, 100):
        x, value, grad, rate = map(float, rows[step])
        assert x == pytest.approx(trace.x[step, 0], rel=1e-4)
        assert value == pytest.approx(trace.f[step], rel=1e-4, abs=1e-12)
        assert grad == pytest.approx(trace.grad[step, 0], rel=1e-2, abs=1e-12)
        assert rate == pytest.approx(trace.effective_lr[step, 0], rel=1e-2)


@pytest.mark.parametrize(
    ("option", "value", "switch", "expected"),
    [
        ("--rho", "0.5", "rho", 0.5),
        ("--eps", "1e-3", "eps", 1e-3),
        ("--eps-mode", "outside", "eps_mode", "outside"),
        ("--init", "ones", "init", "ones"),
        ("--init", "0.25", "init", 0.25),
        ("--centered", None, "centered", True),
        ("--var-floor", "0.1", "var_floor", 0.1),
        ("--bias-correction", None, "bias_correction", True),
        ("--momentum", "0.9", "momentum", 0.9),
        ("--weight-decay", "0.1", "weight_decay", 0.1),
        ("--maximize", None, "maximize", True),
    ],
)
def test_every_switch_reaches_the_step(option, value, switch, expected, tmp_path):
    f = expression.parse("x^2 + y^2")
    rule = Switches(**{switch: str(expected) if switch == "init" else expected}).rule()
    assert getattr(rule, switch) == expected
    trace = minimize(f, [1.0, 0.5], jac=f.grad, lr=0.01, steps=20, dialect=rule, trace=True).trace
    line = ["minimize", "x^2 + y^2", "--start", "1,0.5", "--lr", "0.01", "--steps", "20", option]
    done(*line, *([] if value is None else [value]), "--csv", str(tmp_path / "run.csv"))
    with open(tmp_path / "run.csv", newline="") as file:
        *_, last = csv.DictReader(file)
    assert [float(last["x[0]"]), float(last["x[1]"])] == trace.x[-1].tolist()


def test_no_switch_of_the_rule_is_missing():
    assert {field.name for field in dataclasses.fields(Changes)} == {field.name for field in dataclasses.fields(Rule)}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Rule()),
        ({"momentum": 0.9}, Rule(momentum=0.9, buffer="unit")),
        ({"momentum": 0.9, "buffer": "lr", "nesterov": "post"}, Rule(momentum=0.9, buffer="lr", nesterov="post")),
        ({"weight_decay": 0.1}, Rule(weight_decay=0.1, weight_decay_mode="l2")),
        (
            {"weight_decay": 0.1, "weight_decay_mode": "decoupled"},
            Rule(weight_decay=0.1, weight_decay_mode="decoupled"),
        ),
        ({"dialect": "tf1", "momentum": 0.9}, rmsprop.dialect("tensorflow1", momentum=0.9)),
        ({"dialect": "torch", "centered": True}, rmsprop.dialect("torch", centered=True)),
    ],
)
def test_the_switches_make_the_rule_they_say(options, expected):
    assert Switches(**options).rule() == expected


def test_a_landscape_brings_its_start_rate_and_steps():
    problem = read("Rosenbrock", Run())
    known = landscapes.get("rosenbrock")
    assert (problem.start, problem.lr, problem.steps) == (known.start, known.lr, known.steps)
    assert problem.landscape is known


def test_a_typed_function_that_is_a_landscape_is_that_landscape():
    assert read("2y^2 + 0.1x^2", Run(start="1,1")).landscape is None
    assert read("0.1 x^2 + 2 y**2", Run(start="1,1")).landscape is landscapes.get("ravine")


def test_the_learning_rate_is_the_dialects_where_nothing_else_is_said():
    assert read("x^2 + 3", Run(start="1"), Switches(dialect="keras")).lr == 0.001
    assert read("x^2 + 3", Run(start="1"), Switches(dialect="optax")).lr == 0.01
    assert read("x^2 + 3", Run(start="1", lr=0.5), Switches(dialect="keras")).lr == 0.5


def test_noise_is_the_same_for_every_optimizer_and_every_run():
    problem = read("x^2 + y^2", Run(start="3,4", noise=0.5, seed=7, steps=30))
    grads = []
    for runner in (*chosen("sgd,adam"), chosen("sgd")[0]):
        trace = problem.minimize(runner).trace
        grads.append(trace.grad - problem.function.grad(trace.x[:-1]))
    np.testing.assert_allclose(grads[0], grads[1], atol=1e-12)
    assert (grads[0] == grads[2]).all()
    other = read("x^2 + y^2", Run(start="3,4", noise=0.5, seed=8, steps=30)).minimize(chosen("sgd")[0]).trace
    assert not np.allclose(grads[0], other.grad - problem.function.grad(other.x[:-1]))


def test_noise_has_the_deviation_asked_for():
    problem = read("0*x + 0*y", Run(start="0,0", noise=0.25, steps=4000))
    grad = problem.minimize(chosen("sgd")[0]).trace.grad
    # The deviation of 8000 draws is within five of its own standard errors.
    assert grad.std() == pytest.approx(0.25, abs=5 * 0.25 / np.sqrt(2 * 8000))


def test_without_noise_nothing_is_random():
    assert done(*CUBIC, "--seed", "1") == done(*CUBIC, "--seed", "2")


def test_the_best_point_is_printed_where_it_is_not_the_last():
    best = minimize("x^2", [1.0], lr=0.3, steps=40)
    output = done("minimize", "x^2", "--start", "1", "--lr", "0.3", "--steps", "40")
    assert f"best     {words.write_point(best.x_best)}, f = {best.fun_best:.8g}\n" in output
    assert "a constant lr keeps RMSprop moving" in output
    assert "best  " not in done("minimize", "x^2", "--start", "1", "--steps", "3")


def test_tolerances_stop_the_run():
    output = done("minimize", "x^2", "--start", "1", "--gtol", "0.1", "--lr", "0.1")
    assert "No element of the gradient is larger than gtol=0.1" in output


def test_comparing_needs_no_names():
    rows = [line.split()[0] for line in done(*RAVINE, "--steps", "5").splitlines() if line.strip()]
    assert [name for name in rows if name in ("AdaGrad", "Momentum", "AdamW", "Adam")] == [
        "AdaGrad",
        "Momentum",
        "Adam",
    ]
    assert "AdamW" in done(*RAVINE, "--steps", "5", "--with", "adamw")


def test_comparing_prints_a_row_for_each():
    output = done(*RAVINE, "--with", "adagrad,momentum,adam")
    f = landscapes.get("ravine")
    for name, label in (("rmsprop", "RMSprop"), ("adagrad", "AdaGrad"), ("momentum", "Momentum"), ("adam", "Adam")):
        expected = minimize(f, [-5.0, -2.0], jac=f.gradient, lr=0.4, steps=20, optimizer=name)
        (row,) = [line for line in output.splitlines() if line.strip().startswith(label) and "(" in line]
        assert words.write_point(expected.x, digits=4) in row
        assert f"{expected.fun:.5g}" in row


def test_a_baseline_may_have_a_rate_of_its_own_and_a_dialect_may_be_a_baseline():
    runners = chosen("momentum:0.1, sgd, tf1")
    assert [(r.name, r.label, r.lr) for r in runners] == [
        ("momentum", "Momentum (lr 0.1)", 0.1),
        ("gradient_descent", "Gradient descent", None),
        ("rmsprop", "tensorflow1", None),
    ]
    assert runners[2].rule == rmsprop.dialect("tensorflow1")


# Files


def test_one_command_draws_animates_and_writes_the_table(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    files = [str(tmp_path / name) for name in ("x.png", "x.gif", "x.csv")]
    line = ["minimize", "x - x^3", "--start", "-1", "--steps", "100", "--size", "400x300", "--seconds", "0.5"]
    output = done(*line, "--plot", files[0], "--animate", files[1], "--csv", files[2], "--theme", "dark")
    assert all(f"written  {file}\n" in output for file in files)
    picture, film = (image.open(io.BytesIO(Path(file).read_bytes())) for file in files[:2])
    assert picture.size == film.size == (400, 300)
    assert film.n_frames == 25
    assert len(Path(files[2]).read_text().splitlines()) == 102


def test_a_comparison_writes_a_table_for_each(tmp_path):
    done(*RAVINE, "--with", "adagrad,momentum:0.1", "--csv", str(tmp_path / "out.csv"))
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "out-adagrad.csv",
        "out-momentum-lr-0-1.csv",
        "out-rmsprop.csv",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--plot", "x.bmp"], "x.bmp: suffix '.bmp', expected .png, .svg, .pdf, .jpg"),
        (["--animate", "x.avi"], "x.avi: suffix '.avi', expected .gif"),
        (["--csv", "x.txt"], "x.txt: suffix '.txt', expected .csv"),
        (["--plot", "nowhere/x.png"], "nowhere/x.png: there is no folder nowhere"),
        (["--plot", "x.png", "--theme", "sepia"], "theme='sepia', expected 'light' or 'dark'"),
        (["--plot", "x.png", "--size", "big"], "size="),
        (["--animate", "x.gif", "--fps", "60"], "fps=60, expected at most 50 for a GIF"),
        (["--domain", "1:0"], "domain[0]=(1, 0), expected two finite numbers, the lower first"),
        (["--domain", "3"], "--domain='3': '3' has 1 of 2 numbers, expected LOW:HIGH"),
        (["--domain", "0:1,1:2:3"], "--domain='0:1,1:2:3': '1:2:3' has 3 of 2 numbers, expected LOW:HIGH"),
        (["--domain", "-1:x"], "--domain='-1:x', expected finite numbers, but 'x' is none"),
        (["--domain", "-1:inf"], "--domain='-1:inf', expected finite numbers, but 'inf' is none"),
    ],
)
def test_what_cannot_be_written_is_refused(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call("minimize", "x^2", "--start", "1", "--steps", "3", *options)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {message}")
    assert not list(tmp_path.iterdir())


def test_a_domain_of_two_variables_serves_a_function_of_one(tmp_path):
    pytest.importorskip("matplotlib")
    pictures = [tmp_path / "one.png", tmp_path / "two.png"]
    for domain, file in zip(("-5:5", "-5:5,-3:3"), pictures):
        done("minimize", "x^2", "--start", "1", "--steps", "3", "--domain", domain, "--plot", str(file))
    one, two = (file.read_bytes() for file in pictures)
    assert one == two


def test_a_domain_of_one_variable_is_too_little_for_a_function_of_two():
    result = call("minimize", "x^2 + y^2", "--start", "1,1", "--steps", "3", "--domain", "-5:5")
    assert result.exit_code == 2
    assert "domain=[[-5.0, 5.0]]: 1 pairs, expected 2, one for each coordinate" in result.stderr


# Refusals, divergence


def test_a_function_that_does_not_parse_shows_the_column():
    result = call("minimize", "x + foo(y)", "--start", "1,2")
    assert result.exit_code == 2
    first, text, caret = result.stderr.splitlines()
    assert first.startswith("error: column 5: unknown name 'foo'")
    assert caret.index("^") == text.index("foo")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["minimize", "x^2"], None),
        (["minimize", "x^2 + 1"], "start: none, expected where to begin: --start x"),
        (["minimize", "x*y"], "start: none, expected where to begin: --start x,y"),
        (["minimize", "x*y", "--start", "1"], "--start='1': 1 numbers, expected 2, for a function of x and y"),
        (["minimize", "x^2", "--start", "one"], "--start='one', expected finite numbers"),
        (["minimize", "x^2", "--start", "nan"], "--start='nan', expected finite numbers"),
        (["minimize", "x^2", "--rho", "2"], "rho=2.0, expected a finite number in [0, 1]"),
        (["minimize", "x^2", "--eps-mode", "over"], "eps_mode='over', expected one of 'outside', 'inside', 'max'"),
        (["minimize", "x^2", "--init", "two"], "init='two', expected zeros, ones, eps or a number"),
        (["minimize", "x^2", "--dialect", "torhc"], "unknown dialect 'torhc', did you mean 'torch'"),
        (["minimize", "x^2", "--dialect", "keras", "--bias-correction"], "dialect 'keras3': bias_correction=True"),
        (["minimize", "x^2", "--lr", "-1"], "lr: -1, expected"),
        (["compare", "x^2", "--with", "adma"], "--with: unknown optimizer 'adma', did you mean 'adam'?"),
        (["compare", "x^2", "--with", ","], "--with names no optimizer"),
        (["compare", "x^2", "--with", "adam:fast"], "--with='fast', expected finite numbers"),
    ],
)
def test_a_refusal_says_what_to_do(line, message):
    result = call(*line)
    if message is None:
        assert result.exit_code == 0
    else:
        assert result.exit_code == 2
        assert result.stderr.startswith(f"error: {message}")


@pytest.mark.parametrize("options", [["--steps", "-1"], ["--noise", "-1"], ["--seed", "-1"], ["--nonsense"]])
def test_an_option_out_of_its_range_is_refused(options):
    assert call("minimize", "x^2", *options).exit_code == 2


def test_divergence_is_said_in_words_and_is_no_error():
    output = done("compare", "x^4 + y^4", "--start", "2,1", "--with", "sgd:0.5")
    assert "Gradient descent (lr 0.5): It diverged: f is " in output
    assert "It leaves the picture at step 1." in output
    assert "led to a point where fun is inf" in output


def test_a_run_that_falls_for_ever_is_told_from_one_that_diverges():
    output = done("minimize", "x - x^3", "--start", "1", "--lr", "0.1", "--steps", "500")
    assert "It ends outside of the picture, at " in output
    assert "diverged" not in output


def test_a_run_that_swings_about_its_minimum_has_not_diverged():
    assert "diverged" not in done("minimize", "x^2", "--start", "0.0001", "--lr", "0.1")


# Words


@pytest.mark.parametrize(
    "values", [[1.0], [0.0, 0.0], [np.nan, 1.0, 2.0], [1e-300, 1e300], [-1e308, 1e308], [np.inf, 1.0], []]
)
def test_a_sparkline_of_any_numbers_is_as_long_as_they_are(values):
    line = words.sparkline(values)
    finite = [value for value in values if np.isfinite(value)]
    assert len(line) == (len(values) if finite else 0)
    assert len(words.sparkline(list(np.arange(1000.0)), width=40)) == 40


@pytest.mark.parametrize("steps", [0, 1, 7, 20, 999, 1_000_000])
def test_the_moments_of_a_table_begin_and_end_with_the_run(steps):
    found = words.choose_steps(steps)
    assert found[0] == 0
    assert found[-1] == steps
    assert found == sorted(set(found))
    assert len(found) <= 21


@pytest.mark.parametrize("text", ["minimize", "compare"])
def test_help_loads_nothing_heavy(text):
    program = f"""
import sys
from typer.testing import CliRunner
from rmsprop.cli import app
result = CliRunner().invoke(app, ["{text}", "--help"])
assert result.exit_code == 0, result.output
assert "Examples:" in result.output
print({{"matplotlib", "PIL", "scipy"}} & set(sys.modules))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_the_examples_in_the_help_are_taken(monkeypatch, tmp_path):
    import shlex

    monkeypatch.chdir(tmp_path)
    for command in ("minimize", "compare"):
        examples = re.findall(rf"^ *rmsprop ({command} .*)$", done(command, "--help"), flags=re.MULTILINE)
        assert len(examples) >= 4
        for example in examples:
            done(*shlex.split(example), "--size", "400x300", "--seconds", "0.1")


def test_a_trace_of_a_command_is_that_of_the_library():
    problem = read("rosenbrock", Run(steps=40))
    trace = problem.minimize(chosen("torch")[0]).trace
    assert isinstance(trace, Trace)
    x = np.array(problem.start)
    optimizer = rmsprop.RMSprop(x, lr=problem.lr, dialect=rmsprop.dialect("torch"))
    for t in range(40):
        assert (trace.x[t] == x).all()
        optimizer.step(problem.function.grad(x))
    assert (trace.x[40] == x).all()
