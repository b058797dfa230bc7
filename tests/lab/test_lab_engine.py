"""Promise: the page computes the library's numbers: the same bits for + - * / sqrt, powers and every optimizer."""

from __future__ import annotations

import contextlib
import io
import shlex
from fractions import Fraction

import numpy as np
import pytest
from engine import ask, call, make_state
from typer.testing import CliRunner

from rmsprop import RMSprop, Rule, baselines, cli, dialects, expression, landscapes

SETTINGS = [
    {"optimizer": "rmsprop", "lr": 0.01},
    {"optimizer": "rmsprop", "lr": 0.01, "own": {"momentum": 0.9, "centered": True, "rho": 0.99}},
    {"optimizer": "rmsprop", "lr": 0.02, "own": {"bias_correction": True, "weight_decay": 0.01}},
    {"optimizer": "rmsprop", "lr": 0.02, "own": {"bias_correction": True, "centered": True, "eps_mode": "max"}},
    {"optimizer": "rmsprop", "lr": 0.02, "own": {"eps": 0.0, "var_floor": 0.1, "maximize": True}},
    {"optimizer": "rmsprop", "lr": 0.02, "own": {"momentum": 0.5, "buffer": "lr", "nesterov": "post"}},
    {
        "optimizer": "rmsprop",
        "lr": 0.01,
        "own": {"weight_decay": 0.1, "weight_decay_mode": "in_buffer", "buffer": "unit"},
    },
    {"optimizer": "rmsprop", "lr": 0.01, "own": {"weight_decay": 0.1, "weight_decay_mode": "decoupled_corrected"}},
    {"optimizer": "rmsprop", "lr": 0.005, "dialect": "tensorflow1", "own": {"momentum": 0.5}},
    {"optimizer": "rmsprop", "lr": 0.01, "dialect": "torch", "own": {"weight_decay": 0.1, "centered": True}},
    {"optimizer": "gradient_descent", "lr": 1e-4},
    {"optimizer": "momentum", "lr": 1e-4, "own": {"momentum": 0.8}},
    {"optimizer": "nesterov", "lr": 1e-4},
    {"optimizer": "adagrad", "lr": 0.1, "own": {"eps": 1e-6}},
    {"optimizer": "adadelta", "lr": 1.0},
    {"optimizer": "adam", "lr": 0.01},
    {"optimizer": "adamw", "lr": 0.01, "own": {"weight_decay": 0.1}},
]
NOISES = [
    {"kind": "none", "scale": 1, "seed": 0},
    {"kind": "gauss", "scale": 0.5, "seed": 3},
    {"kind": "hinton", "scale": 2.0, "seed": 0},
]


def make_optimizer(setting, p):
    own = setting.get("own", {})
    if setting["optimizer"] != "rmsprop":
        return baselines.get(setting["optimizer"])(p, lr=setting["lr"], **own)
    if setting.get("dialect"):
        return RMSprop(p, lr=setting["lr"], dialect=dialects.get(setting["dialect"]).resolve(**own))
    usual = {"buffer": "unit"} if own.get("momentum") else {}
    usual |= {"weight_decay_mode": "l2"} if own.get("weight_decay") else {}
    return RMSprop(p, lr=setting["lr"], dialect=Rule(**{**usual, **own}))


def draw_noise(noise, steps):
    if noise["kind"] == "gauss":
        return noise["scale"] * np.random.default_rng(noise["seed"]).standard_normal((steps, 2))
    found = np.zeros((steps, 2))
    if noise["kind"] == "hinton":
        found[:, 0] = noise["scale"] * np.resize(np.array([0.1] * 9 + [-0.9]), steps)
    return found


def run_loop(state, setting, start=None, steps=None):
    """Run a setting with the library's `step`: points, values, effective rates, mean squares."""
    f = expression.parse(state["text"], variables=("x", "y"))
    p = np.array(state["start"] if start is None else start, np.float64)
    optimizer = make_optimizer(setting, p)
    noise = draw_noise(state["noise"], state["steps"])
    points, values, rates, squares = [p.copy()], [f(p)], [], []
    for t in range(state["steps"] if steps is None else steps):
        grad = f.grad(p)
        optimizer.step(grad if state["noise"]["kind"] == "none" else grad + noise[t])
        points.append(p.copy())
        values.append(f(p))
        rates.append(optimizer.effective_lr())
        if setting["optimizer"] == "rmsprop":
            squares.append(optimizer.mean_square())
    return np.array(points), np.array(values), np.array(rates), np.array(squares)


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise["kind"])
def test_a_run_is_identical_to_a_step_loop(noise):
    state = make_state(SETTINGS, noise=noise)
    runs = ask("run", state)["runs"]
    for setting, run in zip(SETTINGS, runs):
        points, values, rates, squares = run_loop(state, setting, steps=run["steps"])
        if run["broken"] is None:
            assert run["steps"] == state["steps"]
        np.testing.assert_array_equal(run["x"].reshape(-1, 2), points, err_msg=str(setting))
        np.testing.assert_array_equal(run["f"], values)
        np.testing.assert_array_equal(run["rate"].reshape(-1, 2), rates)
        if setting["optimizer"] == "rmsprop":
            np.testing.assert_array_equal(run["statistic"].reshape(-1, 2), squares)


@pytest.mark.parametrize("base", [0.9, 0.999, 0.423456, 0.99999, 0.0, 1.0])
def test_a_bias_correction_has_the_correctly_rounded_power(base):
    """Python's own power is the C library's, which is one unit away in about 1 of 2000 steps."""
    (answer,) = call(("power", {"base": base, "count": 400}))
    exact = Fraction(base)
    assert answer["value"].tolist() == [float(exact**t) for t in range(1, 401)]


def test_the_noise_is_numpys():
    seeds = [0, 1, 12345, 2**31 - 1]
    answers = call(*(("normal", {"seed": seed, "count": 20_000}) for seed in seeds))
    for seed, answer in zip(seeds, answers):
        np.testing.assert_array_equal(answer["value"], np.random.default_rng(seed).standard_normal(20_000))


@pytest.mark.parametrize("name", ["bowl", "ravine", "himmelblau", "beale", "saddle", "monkey-saddle", "cliff"])
def test_a_polynomial_landscape_has_the_librarys_points(name):
    scene = landscapes.get(name)
    setting = {"optimizer": "rmsprop", "lr": scene.lr}
    state = make_state([setting], text=scene.text, start=scene.start, steps=scene.steps)
    (run,) = ask("run", state)["runs"]
    np.testing.assert_array_equal(run["x"].reshape(-1, 2), run_loop(state, setting)[0])


def test_a_cell_of_the_map_is_identical_to_a_separate_run():
    for name, own in (("rho", {"bias_correction": True}), ("eps", {"momentum": 0.9}), ("eps", {"init": "eps"})):
        setting = {"optimizer": "rmsprop", "lr": 0.1, "own": own}
        state = make_state([setting], steps=40)
        heat = ask("sweep", state, name=name)
        for row, column in ((0, 0), (3, 60), (40, 20), (63, 63)):
            lr, other = float(heat["lr"][column]), float(heat["other"][row])
            alone = {"optimizer": "rmsprop", "lr": lr, "own": {**own, name: other}}
            expected = run_loop(state, alone)[1][-1]
            np.testing.assert_array_equal(heat["f"][64 * row + column], expected)
        if name == "rho":
            assert heat["other"][[0, -1]].tolist() == [0.0, 0.999]


def test_the_rates_of_any_optimizer_are_those_of_separate_runs():
    for optimizer in ("adam", "rmsprop"):
        state = make_state([{"optimizer": optimizer, "lr": 1.0}], steps=30)
        (answer,) = call(("request", {"kind": "rates", "state": state, "lr": [0.001, 0.01, 0.1]}))
        for lr, found in zip([0.001, 0.01, 0.1], answer["value"]):
            assert found == run_loop(state, {"optimizer": optimizer, "lr": lr})[1][-1]


def test_the_basins_of_four_equal_minima_are_found():
    himmelblau = landscapes.get("himmelblau")
    for setting in (SETTINGS[0] | {"lr": 0.05}, {"optimizer": "adam", "lr": 0.1}):
        state = make_state([setting], text=himmelblau.text, steps=300, domain=[[-5, 5], [-5, 5]])
        found = ask("basins", state)
        assert sorted(set(found["label"].tolist())) == [0, 1, 2, 3]
        assert found["share"] == 1.0
        # Each minimum lies in its own basin.
        for which, (x, y) in enumerate(himmelblau.minima):
            column, row = int((x + 5) / 10 * 64), int((y + 5) / 10 * 64)
            assert found["label"][64 * row + column] == which


def test_a_diverging_run_ends_at_the_first_step_that_is_not_finite():
    (run,) = ask("run", make_state([{"optimizer": "gradient_descent", "lr": 1.0}]))["runs"]
    assert run["broken"] == run["steps"] < 300
    assert np.isfinite(run["f"][:-1]).all()
    assert not np.isfinite(run["f"][-1])


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise["kind"])
def test_the_script_prints_the_numbers_of_the_page(noise):
    state = make_state(SETTINGS, steps=50, noise=noise)
    found = ask("run", state)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), np.errstate(all="ignore"):
        exec(compile(found["python"], "copied", "exec"), {})
    for line, run in zip(printed.getvalue().splitlines(), found["runs"], strict=True):
        if run["broken"] is None:
            assert line.endswith(f"{run['x'][-2:].tolist()} {float(run['f'][-1])}")


def test_the_script_says_where_the_browser_computes_the_function():
    for text, said in (("x^2/3 + sqrt(y)", False), ("sin(x)", True), ("x^1.5", True), ("2^x", True)):
        assert ("within 4 units" in ask("run", make_state(SETTINGS[:1], text=text))["python"]) == said


COMMANDS = [
    [SETTINGS[0], {"optimizer": "adagrad", "lr": 0.01}, {"optimizer": "adam", "lr": 0.01}],
    [{"optimizer": "adam", "lr": 0.02}, SETTINGS[1]],
    [SETTINGS[8], {"optimizer": "rmsprop", "lr": 0.01, "dialect": "torch"}],
]


@pytest.mark.parametrize("runs", COMMANDS, ids=range(len(COMMANDS)))
def test_the_command_computes_the_numbers_of_the_page(runs, tmp_path):
    found = ask("run", make_state(runs, steps=50, noise=NOISES[1]))
    words = shlex.split(found["command"])
    done = CliRunner().invoke(cli.app, [*words[1:], "--csv", str(tmp_path / "out.csv")])
    assert done.exit_code == 0, done.output
    ends = set()
    for file in tmp_path.glob("*.csv"):
        head, *_, last = file.read_text().splitlines()
        row = dict(zip(head.split(","), last.split(",")))
        ends.add((float(row["x[0]"]), float(row["x[1]"])))
    assert ends == {tuple(run["x"][-2:].tolist()) for run in found["runs"]}


@pytest.mark.parametrize(
    ("runs", "changes"),
    [
        ([{"optimizer": "adam", "lr": 0.1}], {}),
        ([SETTINGS[0], {"optimizer": "adam", "lr": 0.1, "own": {"beta1": 0.5}}], {}),
        ([SETTINGS[0], SETTINGS[1]], {}),
        ([SETTINGS[0]], {"noise": NOISES[2]}),
        ([SETTINGS[0]], {"text": "x^2", "noise": NOISES[1]}),
    ],
    ids=["no-rmsprop", "own-beta", "two-rules", "hinton", "flat-noise"],
)
def test_an_experiment_that_is_no_command_gives_none(runs, changes):
    assert ask("run", make_state(runs, **changes))["command"] is None


BAD = [
    ({"text": "sine(x)"}, "did you mean 'sin'"),
    ({"start": [0, 1e99]}, "start y"),
    ({"steps": 5001}, "steps"),
    ({"domain": [[1, 1], [0, 1]]}, "x: from 1 to 1"),
    ({"runs": [{"optimizer": "rmsprop", "lr": -1, "dialect": None, "own": {}}]}, "lr"),
    ({"runs": [{"optimizer": "adam", "lr": 1, "dialect": None, "own": {"beta1": 1.0}}]}, "beta1"),
    *(
        ({"runs": [{"optimizer": "rmsprop", "lr": 1, "dialect": dialect, "own": own}]}, named)
        for dialect, own, named in [
            (None, {"rho": 2}, "rho"),
            (None, {"eps_mode": "beside"}, "eps_mode"),
            (None, {"nesterov": "post"}, "nesterov"),
            (None, {"bias_correction": True, "init": "ones"}, "init"),
            ("optax", {"maximize": True}, "maximize"),
            ("tensorflow1", {"weight_decay": 0.1}, "weight_decay"),
        ]
    ),
]


@pytest.mark.parametrize(("change", "named"), BAD, ids=lambda value: str(value)[:60] if isinstance(value, str) else "")
def test_a_value_out_of_its_range_is_refused_by_name(change, named):
    (answer,) = call(("request", {"kind": "run", "state": {**make_state(SETTINGS[:1]), **change}}))
    assert named in answer["error"]["message"]


def test_words_are_pythons():
    numbers = [0.0, 1.0, 0.1, 1e-5, 123456.0, 1e16, 1e22, 5e-324, 2 / 3, -1234.5, 0.0001, 9.995, 99950.0]
    texts = ["x", "it's", 'a "b"', "\u00e9\u200b\n\\", "both ' and \""]
    (answer,) = call(("words", {"numbers": numbers, "texts": texts}))
    assert answer["value"]["floats"] == list(map(repr, numbers))
    assert answer["value"]["generals"] == [f"{number:.3g}" for number in numbers]
    assert answer["value"]["quoted"] == list(map(repr, texts))
