"""Promise: the lab's numbers are bit for bit those of a `step` loop, for runs, heat maps and basins."""

from __future__ import annotations

import numpy as np
import pytest

from rmsprop import RMSprop, Rule, baselines, dialects, expression, landscapes
from rmsprop.errors import InputError, RuleError
from rmsprop.lab.experiment import HINTON, Deadline, Experiment
from rmsprop.lab.simulate import simulate
from rmsprop.lab.sweep import compute_basins, compute_heat_map
from rmsprop.lab.wire import pack, unpack

ROSENBROCK = "(1 - x)^2 + 100*(y - x^2)^2"
SETTINGS = [
    {"optimizer": "rmsprop", "lr": 0.01},
    {"optimizer": "rmsprop", "lr": 0.01, "rule": {"momentum": 0.9, "centered": True, "rho": 0.99}},
    {"optimizer": "rmsprop", "lr": 0.02, "rule": {"bias_correction": True, "weight_decay": 0.01}},
    {"optimizer": "rmsprop", "lr": 0.005, "dialect": "tensorflow1", "rule": {"momentum": 0.5}},
    {"optimizer": "rmsprop", "lr": 0.01, "dialect": "torch"},
    {"optimizer": "gradient_descent", "lr": 1e-4},
    {"optimizer": "momentum", "lr": 1e-4, "momentum": 0.8},
    {"optimizer": "nesterov", "lr": 1e-4},
    {"optimizer": "adagrad", "lr": 0.1, "eps": 1e-6},
    {"optimizer": "adadelta", "lr": 1.0},
    {"optimizer": "adam", "lr": 0.01, "beta2": 0.99},
]
NOISES = [{"kind": "none"}, {"kind": "gauss", "scale": 0.5, "seed": 3}, {"kind": "hinton", "scale": 2.0}]


def read_experiment(runs, *, function=ROSENBROCK, start=(-1.2, 1.0), steps=300, **more) -> Experiment:
    return Experiment.read({"function": function, "start": list(start), "steps": steps, "runs": runs, **more})


def run_loop(experiment: Experiment, setting: dict, noise: np.ndarray | None):
    """Run the setting with the library's `step`."""
    f = expression.parse(experiment.function.text, variables=("x", "y"))
    p = np.array(experiment.start)
    if setting["optimizer"] == "rmsprop":
        changes = dict(setting.get("rule", {}))
        if setting.get("dialect"):
            rule = dialects.get(setting["dialect"]).resolve(**changes)
        else:
            changes |= {"buffer": "unit"} if changes.get("momentum") else {}
            changes |= {"weight_decay_mode": "l2"} if changes.get("weight_decay") else {}
            rule = Rule(**changes)
        optimizer = RMSprop(p, lr=setting["lr"], dialect=rule)
    else:
        own = {k: v for k, v in setting.items() if k not in ("optimizer", "lr")}
        optimizer = baselines.get(setting["optimizer"])(p, lr=setting["lr"], **own)
    points, values, rates, squares = [p.copy()], [f(p)], [], []
    for t in range(experiment.steps):
        grad = f.grad(p)
        optimizer.step(grad if noise is None else grad + noise[t])
        points.append(p.copy())
        values.append(f(p))
        rates.append(optimizer.effective_lr())
        if setting["optimizer"] == "rmsprop":
            squares.append(optimizer.mean_square())
    return np.array(points), np.array(values), np.array(rates), np.array(squares)


def draw_noise(noise_setting: dict, steps: int) -> np.ndarray | None:
    if noise_setting["kind"] == "none":
        return None
    if noise_setting["kind"] == "gauss":
        return noise_setting["scale"] * np.random.default_rng(noise_setting["seed"]).standard_normal((steps, 2))
    noise = np.zeros((steps, 2))
    noise[:, 0] = [noise_setting["scale"] * HINTON[t % 10] for t in range(steps)]
    return noise


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise["kind"])
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: f"{s['optimizer']}-{s.get('dialect', '')}")
def test_a_run_is_identical_to_a_step_loop(setting, noise):
    experiment = read_experiment([setting], noise=noise)
    (path,) = simulate(experiment)
    points, values, rates, squares = run_loop(experiment, setting, draw_noise(noise, experiment.steps))
    np.testing.assert_array_equal(path.x, points)
    np.testing.assert_array_equal(path.f, values)
    np.testing.assert_array_equal(path.rate, rates)
    if setting["optimizer"] == "rmsprop":
        np.testing.assert_array_equal(path.statistic, squares)


@pytest.mark.parametrize("name", landscapes.names(variables=2))
def test_a_run_on_every_landscape_is_identical_to_a_step_loop(name):
    scene = landscapes.get(name)
    setting = {"optimizer": "rmsprop", "lr": scene.lr}
    experiment = read_experiment([setting], function=scene.text, start=scene.start, steps=scene.steps)
    (path,) = simulate(experiment)
    np.testing.assert_array_equal(path.x, run_loop(experiment, setting, None)[0])


def test_the_ravine_ends_where_the_textbook_says():
    experiment = read_experiment(
        [{"optimizer": "rmsprop", "lr": 0.4}], function="0.1*x^2 + 2*y^2", start=(-5, -2), steps=20
    )
    (path,) = simulate(experiment)
    assert path.x[-1, 0] == pytest.approx(-0.0106, abs=5e-5)  # Dive into Deep Learning, section RMSProp
    assert abs(path.x[-1, 1]) < 1e-6


def test_runs_do_not_depend_on_each_other():
    together = simulate(read_experiment(SETTINGS[:8]))
    backwards = simulate(read_experiment(SETTINGS[7::-1]))[::-1]
    for setting, path, other in zip(SETTINGS, together, backwards):
        (alone,) = simulate(read_experiment([setting]))
        np.testing.assert_array_equal(path.x, alone.x)
        np.testing.assert_array_equal(path.x, other.x)


def test_a_cached_run_is_read_only():
    (path,) = simulate(read_experiment(SETTINGS[:1]))
    with pytest.raises(ValueError, match="read-only"):
        path.x[0] = 7.0


def test_a_diverging_run_ends_at_the_first_step_that_is_not_finite():
    (path,) = simulate(read_experiment([{"optimizer": "gradient_descent", "lr": 1.0}]))
    assert path.broken is not None
    assert len(path.x) == path.broken + 1
    assert np.isfinite(path.f[: path.broken]).all()
    assert not np.isfinite(path.f[-1]) or not np.isfinite(path.x[-1]).all()


def test_a_start_where_the_function_has_no_value_ends_after_one_step():
    (path,) = simulate(read_experiment([{"optimizer": "rmsprop", "lr": 0.1}], function="log(x)", start=(-1, 0)))
    assert path.broken == 1


@pytest.mark.parametrize("name", ["rho", "eps"])
@pytest.mark.parametrize(
    "rule", [{}, {"centered": True}, {"momentum": 0.9}, {"bias_correction": True}, {"init": "eps"}]
)
def test_a_cell_of_the_map_is_identical_to_a_separate_run(name, rule):
    experiment = read_experiment([{"optimizer": "rmsprop", "lr": 0.1, "rule": rule}], steps=60)
    lr = np.geomspace(1e-3, 0.5, 4)
    other = np.array([0.0, 0.5, 0.99]) if name == "rho" else np.array([1e-12, 1e-3, 1.0])
    found = compute_heat_map(experiment, lr=lr, other=other, name=name)
    assert found.shape == (3, 4)
    for row, value in enumerate(other):
        for column, rate in enumerate(lr):
            setting = {"optimizer": "rmsprop", "lr": float(rate), "rule": {**rule, name: float(value)}}
            (path,) = simulate(read_experiment([setting], steps=60))
            expected = path.f[-1] if path.broken is None else np.nan
            np.testing.assert_array_equal(found[row, column], expected)


def test_a_map_of_a_baseline_raises():
    with pytest.raises(InputError, match=r"runs\[0\]: a baseline"):
        compute_heat_map(read_experiment([{"optimizer": "adam", "lr": 0.1}]), lr=np.ones(2), other=np.ones(2))


def test_a_map_with_an_impossible_rho_raises():
    with pytest.raises(RuleError, match="rho=2"):
        compute_heat_map(read_experiment(SETTINGS[:1]), lr=np.ones(2), other=np.array([0.5, 2.0]))


@pytest.mark.parametrize("setting", [SETTINGS[0], SETTINGS[1], SETTINGS[10]], ids=["plain", "centered", "adam"])
def test_a_run_of_the_basins_is_identical_to_a_separate_run(setting):
    himmelblau = landscapes.get("himmelblau")
    domain = [[-5, 5], [-5, 5]]
    experiment = read_experiment([setting], function=himmelblau.text, steps=40, domain=domain)
    found = compute_basins(experiment, count=3, minima=himmelblau.minima)
    places = -5 + 10 * ((np.arange(3) + 0.5) / 3)
    for row, y in enumerate(places):
        for column, x in enumerate(places):
            alone = read_experiment([setting], function=himmelblau.text, start=(float(x), float(y)), steps=40)
            np.testing.assert_array_equal(found["end"][row, column], simulate(alone)[0].x[-1])


def test_the_basins_of_four_equal_minima_are_found_and_fill_the_picture():
    himmelblau = landscapes.get("himmelblau")
    setting = {"optimizer": "rmsprop", "lr": 0.05}
    experiment = read_experiment([setting], function=himmelblau.text, steps=300, domain=[[-5, 5], [-5, 5]])
    found = compute_basins(experiment, count=24, minima=himmelblau.minima)
    assert sorted(np.unique(found["label"])) == [0, 1, 2, 3]
    assert found["share"] == 1.0
    # Each minimum lies in its own basin.
    for which, (x, y) in enumerate(himmelblau.minima):
        column, row = int((x + 5) / 10 * 24), int((y + 5) / 10 * 24)
        assert found["label"][row, column] == which


def test_unknown_minima_are_found():
    setting = {"optimizer": "rmsprop", "lr": 0.02}
    experiment = read_experiment([setting], function="(x^2 - 1)^2 + y^2", steps=300, domain=[[-2, 2], [-2, 2]])
    found = compute_basins(experiment, count=16, minima=np.zeros((0, 2)))
    assert len(found["minima"]) == 2
    np.testing.assert_allclose(sorted(found["minima"][:, 0]), [-1, 1], atol=0.02)
    assert found["share"] == 1.0


def test_hintons_batches_move_the_sign_rule_but_not_rmsprop():
    """Lecture 6e: nine gradients of +0.1 and one of -0.9 should leave the weight about where it is."""
    runs = [
        {"optimizer": "rmsprop", "lr": 0.05, "rule": {"rho": 0.0, "eps": 0.0}},
        {"optimizer": "rmsprop", "lr": 0.05, "rule": {"rho": 0.99, "bias_correction": True}},
    ]
    experiment = read_experiment(runs, function="0.05*y^2", start=(0, 0), steps=200, noise={"kind": "hinton"})
    signs, rms = simulate(experiment)
    assert signs.x[-1, 0] == pytest.approx(-0.05 * 8 * 20)
    assert abs(rms.x[-1, 0]) < 0.1 * abs(signs.x[-1, 0])


LONG = {
    "run": lambda experiment, limit: simulate(experiment, limit),
    "heat": lambda experiment, limit: compute_heat_map(
        experiment, lr=np.ones(2), other=np.full(2, 0.9), deadline=limit
    ),
    "basins": lambda experiment, limit: compute_basins(experiment, count=2, minima=np.zeros((0, 2)), deadline=limit),
}


@pytest.mark.parametrize("work", LONG)
def test_every_computation_ends_at_its_time_limit(work):
    experiment = read_experiment([{"optimizer": "rmsprop", "lr": 0.0123}], steps=5000)
    with pytest.raises(InputError, match=r"not done within 0 s"):
        LONG[work](experiment, Deadline(0.0))


def test_a_message_keeps_every_bit():
    values = np.array([[0.1, -0.0, np.nan], [np.inf, -np.inf, 5e-324]])
    about, arrays = unpack(pack({"a": "é"}, {"v": values, "empty": np.zeros((0, 2)), "one": 3.0}))
    assert about == {"a": "é"}
    assert arrays["v"].tobytes() == values.tobytes()
    assert arrays["empty"].shape == (0, 2)
    assert arrays["one"].shape == ()
