"""`rmsprop minimize` and `rmsprop compare`: what they print is what the library computed."""

import csv
import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest

import rmsprop
from rmsprop import Rule, expression, landscapes, minimize
from rmsprop.commands.options import Changes, Run, Switches
from rmsprop.commands.problem import parse_settings, read_problem
from rmsprop.commands.words import write_point

CUBIC = ["minimize", "x - x^3", "--start", "-1", "--lr", "0.01", "--steps", "1000"]
RAVINE = ["compare", "0.1*x^2 + 2*y^2", "--start", "-5,-2"]


def test_the_end_the_reason_and_the_table_are_those_of_the_run(run_ok):
    f = expression.parse("x - x^3")
    expected = minimize(f, [-1.0], jac=f.grad, lr=0.01, steps=1000, trace=True)
    output, trace = run_ok(*CUBIC), expected.trace
    assert f"end      {expected.x[0]:.6g}, f = {expected.fun:.8g}\n" in output
    assert f"stopped  {expected.message}\n" in output
    # The minimum of x - x^3 is at -1/sqrt(3), where it is -2/(3 sqrt(3)).
    assert "-0.57735, f = -0.38490018" in output

    rows = {int(line.split()[0]): line.split()[1:] for line in output.splitlines() if line.strip()[:1].isdigit()}
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
def test_every_switch_reaches_the_step(option, value, switch, expected, tmp_path, run_ok):
    f = expression.parse("x^2 + y^2")
    rule = Switches(**{switch: str(expected) if switch == "init" else expected}).rule()
    assert getattr(rule, switch) == expected
    trace = minimize(f, [1.0, 0.5], jac=f.grad, lr=0.01, steps=20, dialect=rule, trace=True).trace
    line = ["minimize", "x^2 + y^2", "--start", "1,0.5", "--lr", "0.01", "--steps", "20", option]
    run_ok(*line, *([] if value is None else [value]), "--csv", str(tmp_path / "run.csv"))
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
def test_the_switches_make_the_rule_they_name(options, expected):
    assert Switches(**options).rule() == expected


def test_a_landscape_brings_its_start_rate_and_steps():
    for name in landscapes.names():
        problem, known = read_problem(name.upper(), Run()), landscapes.get(name)
        assert (problem.start, problem.run.lr, problem.run.steps) == (known.start, known.lr, known.steps)
        assert problem.landscape is known


def test_a_typed_function_that_is_a_landscape_is_that_landscape():
    assert read_problem("2y^2 + 0.1x^2", Run(start="1,1")).landscape is None
    assert read_problem("0.1 x^2 + 2 y**2", Run(start="1,1")).landscape is landscapes.get("ravine")


def test_the_learning_rate_is_the_dialects_unless_given():
    assert read_problem("x^2 + 3", Run(start="1"), "keras").run.lr == 0.001
    assert read_problem("x^2 + 3", Run(start="1"), "optax").run.lr == 0.01
    assert read_problem("x^2 + 3", Run(start="1", lr=0.5), "keras").run.lr == 0.5


def test_noise_is_the_same_for_every_optimizer_and_every_run():
    def measure_noise(optimizer, seed):
        problem = read_problem("x^2 + y^2", Run(start="3,4", noise=0.5, seed=seed, steps=30))
        trace = problem.minimize(parse_settings(optimizer)[0]).trace
        return trace.grad - problem.function.grad(trace.x[:-1])

    noise = measure_noise("sgd", 7)
    np.testing.assert_allclose(noise, measure_noise("adam", 7), atol=1e-12)
    assert (noise == measure_noise("sgd", 7)).all()
    assert not np.allclose(noise, measure_noise("sgd", 8))


def test_noise_has_the_deviation_asked_for():
    problem = read_problem("0*x + 0*y", Run(start="0,0", noise=0.25, steps=4000))
    grad = problem.minimize(parse_settings("sgd")[0]).trace.grad
    # The deviation of 8000 draws is within five of its own standard errors.
    assert grad.std() == pytest.approx(0.25, abs=5 * 0.25 / np.sqrt(2 * 8000))


def test_a_run_with_noise_may_have_no_steps(run_ok):
    assert "0 steps, gradient noise 0.5 (seed 0)" in run_ok("minimize", "ravine", "--steps", "0", "--noise", "0.5")


def test_without_noise_nothing_is_random(run_ok):
    assert run_ok(*CUBIC, "--seed", "1") == run_ok(*CUBIC, "--seed", "2")


def test_the_best_point_is_printed_where_it_is_not_the_last(run_ok):
    best = minimize("x^2", [1.0], lr=0.3, steps=40)
    output = run_ok("minimize", "x^2", "--start", "1", "--lr", "0.3", "--steps", "40")
    assert f"best     {write_point(best.x_best)}, f = {best.fun_best:.8g}\n" in output
    assert "a constant lr keeps RMSprop moving" in output
    assert "best  " not in run_ok("minimize", "x^2", "--start", "1", "--steps", "3")


def test_tolerances_stop_the_run(run_ok):
    output = run_ok("minimize", "x^2", "--start", "1", "--gtol", "0.1", "--lr", "0.1")
    assert "No element of the gradient is larger than gtol=0.1" in output


def test_a_comparison_prints_a_row_for_each(run_ok):
    output = run_ok(*RAVINE)
    f = landscapes.get("ravine")
    for name, label in (("rmsprop", "RMSprop"), ("adagrad", "AdaGrad"), ("momentum", "Momentum"), ("adam", "Adam")):
        expected = minimize(f, [-5.0, -2.0], jac=f.gradient, lr=0.4, steps=20, optimizer=name)
        (row,) = [line for line in output.splitlines() if line.strip().startswith(label) and "(" in line]
        assert write_point(expected.x, digits=4) in row
        assert f"{expected.fun:.5g}" in row
    assert "AdamW" in run_ok(*RAVINE, "--steps", "5", "--with", "adamw")


def test_a_name_may_be_a_dialect_and_have_its_own_rate():
    settings = parse_settings("momentum:0.1, sgd, tf1")
    assert [(setting.name, setting.label, setting.lr) for setting in settings] == [
        ("momentum", "Momentum (lr 0.1)", 0.1),
        ("gradient_descent", "Gradient descent", None),
        ("rmsprop", "tensorflow1", None),
    ]
    assert settings[2].rule == rmsprop.dialect("tensorflow1")


# Files


def test_a_run_is_drawn_animated_and_written_as_a_table(tmp_path, run_ok):
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    files = [str(tmp_path / name) for name in ("x.png", "x.gif", "x.csv")]
    line = ["minimize", "x - x^3", "--start", "-1", "--steps", "100", "--size", "400x300", "--seconds", "0.5"]
    output = run_ok(*line, "--plot", files[0], "--animate", files[1], "--csv", files[2], "--theme", "dark")
    assert all(f"written  {file}\n" in output for file in files)
    picture, film = (image.open(io.BytesIO(Path(file).read_bytes())) for file in files[:2])
    assert picture.size == film.size == (400, 300)
    assert film.n_frames == 25
    assert len(Path(files[2]).read_text().splitlines()) == 102


def test_a_comparison_writes_a_table_for_each(tmp_path, run_ok):
    run_ok(*RAVINE, "--with", "adagrad,momentum:0.1", "--csv", str(tmp_path / "out.csv"))
    names = ["out-adagrad.csv", "out-momentum-lr-0-1.csv", "out-rmsprop.csv"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names


def test_a_domain_of_two_variables_serves_a_function_of_one_but_not_the_reverse(tmp_path, run_ok, call):
    pytest.importorskip("matplotlib")
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    for domain, file in zip(("-5:5", "-5:5,-3:3"), pictures):
        run_ok("minimize", "x^2", "--start", "1", "--steps", "3", "--domain", domain, "--plot", str(file))
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
    result = call("minimize", "x^2 + y^2", "--start", "1,1", "--steps", "3", "--domain", "-5:5")
    assert result.exit_code == 2
    assert "domain=[[-5.0, 5.0]]: 1 pairs, expected 2" in result.stderr


# Errors and divergence


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--plot", "x.bmp"], "x.bmp: suffix '.bmp', expected .png, .svg, .pdf, .jpg"),
        (["--animate", "x.avi"], "x.avi: suffix '.avi', expected .gif"),
        (["--csv", "x.txt"], "x.txt: suffix '.txt', expected .csv"),
        (["--plot", "nowhere/x.png"], "nowhere/x.png: "),
        (["--plot", "x.png", "--theme", "sepia"], "theme='sepia'"),
        (["--plot", "x.png", "--size", "big"], "size="),
        (["--animate", "x.gif", "--fps", "60"], "fps=60"),
        (["--domain", "1:0"], "domain[0]=(1, 0)"),
        (["--domain", "3"], "--domain: '3', expected 2 finite numbers with ':' between them"),
        (["--domain", "0:1,1:2:3"], "--domain: '1:2:3', expected 2 finite numbers"),
        (["--domain", "-1:x"], "--domain: '-1:x', expected 2 finite numbers"),
        (["--domain", "-1:inf"], "--domain: '-1:inf', expected 2 finite numbers"),
        (["--rho", "2"], "rho=2.0, expected a finite number in [0, 1]"),
        (["--eps-mode", "over"], "eps_mode='over', expected one of 'outside', 'inside', 'max'"),
        (["--init", "two"], "init='two', expected zeros, ones, eps or a number"),
        (["--dialect", "torhc"], "unknown dialect 'torhc', did you mean 'torch'"),
        (["--dialect", "keras", "--bias-correction"], "dialect 'keras3': bias_correction=True"),
        (["--lr", "-1"], "lr: -1, expected"),
        (["--start", "x"], "--start: 'x', expected finite numbers"),
        (["--start", "nan"], "--start: 'nan', expected finite numbers"),
        (["--start", "1,2"], "--start: '1,2', expected 1 numbers for a function of x"),
    ],
)
def test_a_wrong_option_is_refused_before_a_file_is_written(options, message, tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    result = call("minimize", "x^2", "--steps", "3", *options)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {message}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["minimize", "x^2 + 1"], "start: none, expected a starting point: --start x\n"),
        (["minimize", "x*y"], "start: none, expected a starting point: --start x,y\n"),
        (["compare", "x^2", "--with", "adma"], "--with: unknown optimizer 'adma', did you mean 'adam'?"),
        (["compare", "x^2", "--with", "0000"], "--with: unknown optimizer '0000', known are"),
        (["compare", "x^2", "--with", ","], "--with names no optimizer"),
        (["compare", "x^2", "--with", "adam:fast"], "--with: 'fast', expected finite numbers"),
    ],
)
def test_a_missing_start_and_a_wrong_name_are_refused(line, message, call):
    result = call(*line)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {message}")


def test_a_function_that_does_not_parse_shows_the_column(call):
    result = call("minimize", "x + foo(y)", "--start", "1,2")
    assert result.exit_code == 2
    first, text, caret = result.stderr.splitlines()
    assert first.startswith("error: column 5: unknown name 'foo'")
    assert caret.index("^") == text.index("foo")


@pytest.mark.parametrize("options", [["--steps", "-1"], ["--noise", "-1"], ["--seed", "-1"], ["--nonsense"]])
def test_an_option_out_of_its_range_is_refused(options, call):
    assert call("minimize", "x^2", *options).exit_code == 2


def test_divergence_is_reported_and_is_no_error(run_ok):
    output = run_ok("compare", "x^4 + y^4", "--start", "2,1", "--with", "sgd:0.5")
    assert "Gradient descent (lr 0.5): It diverged: f is " in output
    assert "It leaves the picture at step 1." in output
    assert "led to a point where fun is inf" in output


def test_a_run_that_falls_forever_has_not_diverged(run_ok):
    output = run_ok("minimize", "x - x^3", "--start", "1", "--lr", "0.1", "--steps", "500")
    assert "It ends outside of the picture, at " in output
    assert "diverged" not in output


def test_a_run_that_swings_about_its_minimum_has_not_diverged(run_ok):
    output = run_ok("minimize", "x^2", "--start", "0.0001", "--lr", "0.1")
    assert "f ends higher than it began" in output
    assert "diverged" not in output
