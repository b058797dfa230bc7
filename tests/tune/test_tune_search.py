"""`rmsprop.tune`: what is searched, what counts as a trial, what goes on, and what is refused."""

import math
import sys
import warnings

import numpy as np
import pytest

import rmsprop
from rmsprop.errors import InputError, InputTypeError, MissingDependency, RMSpropError, RMSpropWarning
from rmsprop.rule import Rule
from rmsprop.tune import Setting, Space

optuna = pytest.importorskip("optuna")


def bowl(setting):
    run = rmsprop.minimize(lambda x: x @ x, np.ones(3), lr=setting.lr, dialect=setting.rule, steps=20)
    return run.fun


def settings(found):
    return [(trial.setting.lr, trial.setting.rule) for trial in found.trials if trial.state != "lost"]


# ---- the search ------------------------------------------------------------------------------------------------------


def test_the_search_finds_a_known_optimum():
    # The value is least at lr 0.01, rho 0.99, and nowhere else.
    def distance(setting):
        return abs(math.log10(setting.lr) + 2) + abs(math.log10(1 - setting.rule.rho) + 2)

    found = rmsprop.tune(distance, trials=60, storage=None)
    assert found.done == 60
    assert found.best.value == min(trial.value for trial in found.trials)
    assert 0.003 < found.best.setting.lr < 0.03
    assert 0.97 < found.best.setting.rule.rho < 0.997


def test_a_search_does_not_warn_of_the_harmful_settings_it_tries():
    torch = pytest.importorskip("torch")
    from rmsprop.torch import RMSprop

    def objective(setting):
        RMSprop([torch.nn.Parameter(torch.ones(3))], lr=setting.lr, alpha=0.9999)
        return 1.0

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rmsprop.tune(objective, trials=2, storage=None, seed=0, space=Space(lr=(0.1, 1.0)))
    with pytest.warns(RMSpropWarning, match="first step"):
        objective(Setting(lr=0.5, rule=Rule()))


def test_maximize_finds_the_greatest():
    found = rmsprop.tune(lambda setting: setting.lr, trials=8, direction="maximize", storage=None)
    assert found.best.setting.lr == max(trial.setting.lr for trial in found.trials)


def test_equal_seeds_try_equal_settings_and_others_do_not():
    runs = [rmsprop.tune(bowl, trials=14, seed=seed, storage=None) for seed in (3, 3, 4)]
    assert settings(runs[0]) == settings(runs[1])
    assert settings(runs[0]) != settings(runs[2])


def test_every_setting_lies_in_the_space_and_fixed_numbers_stay():
    space = Space(
        lr=(1e-3, 1e-2), rho=(0.9, 0.99), eps=(1e-6, 1e-6), momentum=(0.0, 0.1), centered=(True,),
        base=Rule(eps_mode="outside", var_floor=1e-9),
    )  # fmt: skip
    found = rmsprop.tune(bowl, trials=25, space=space, storage=None)
    assert space.searched == ("lr", "rho", "momentum")
    for trial in found.trials:
        rule = trial.setting.rule
        assert 1e-3 <= trial.setting.lr <= 1e-2
        assert 0.9 <= rule.rho <= 0.99
        assert (rule.eps, rule.centered, rule.eps_mode, rule.var_floor) == (1e-6, True, "outside", 1e-9)
        assert (rule.momentum, rule.buffer) in {(0.0, "none"), (0.05, "unit"), (0.1, "unit")}


def test_rho_is_drawn_evenly_over_the_decades_of_its_memory():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    space = Space(rho=(0.9, 0.999))
    fresh = []
    for _ in range(400):
        trial = study.ask()
        space.suggest(trial)
        fresh.append(1 - space.setting(trial.params).rule.rho)
    # Two decades, so half of them on each side of 0.01; 400 tosses of a coin are 80 to either side once in 10^15.
    assert abs(sum(one > 0.01 for one in fresh) - 200) < 80


@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_the_best_is_printed_as_code_that_runs_and_builds_that_optimizer(framework):
    if framework == "torch":
        pytest.importorskip("torch")
    setting = Setting(lr=0.00321, rule=Rule(rho=0.97, eps=1e-5, momentum=0.6, buffer="unit", centered=True))
    names = {}
    exec(setting.code(framework), names)
    assert names["rule"] == setting.rule
    optimizer = names["optimizer"]
    if framework == "numpy":
        assert (optimizer.lr, optimizer.rule) == (setting.lr, setting.rule)
    else:
        group = optimizer.param_groups[0]
        assert (group["lr"], group["alpha"], group["eps"], group["momentum"]) == (0.00321, 0.97, 1e-5, 0.6)


def test_the_code_of_a_search_reaches_the_value_that_it_promises():
    found = rmsprop.tune(bowl, trials=6, storage=None)
    names = {}
    exec(found.code(), names)
    assert bowl(Setting(lr=names["optimizer"].lr, rule=names["optimizer"].rule)) == found.best.value


# ---- pruned, diverged, broken off ------------------------------------------------------------------------------------


def test_a_trial_that_stands_worse_than_the_others_is_given_up():
    steps = []

    def slow(setting):
        for step in range(1, 6):
            setting.report(step, float(setting.number))
            steps.append(setting.number)
        return float(setting.number)

    found = rmsprop.tune(slow, trials=10, storage=None)
    assert [trial.state for trial in found.trials] == ["complete"] * 5 + ["pruned"] * 5
    assert steps == [number for number in range(5) for _ in range(5)]
    never = rmsprop.tune(slow, trials=10, storage=None, pruner="none")
    assert all(trial.state == "complete" for trial in never.trials)


@pytest.mark.parametrize("by", ["return", "report"])
def test_a_value_that_is_no_number_counts_as_a_diverged_trial_and_never_as_the_best(by):
    def objective(setting):
        value = math.nan if setting.number % 2 else 1.0
        if by == "report":
            setting.report(1, value)
        return value

    found = rmsprop.tune(objective, trials=6, storage=None)
    assert found.done == 6
    assert [bool(trial.diverged) for trial in found.trials] == [False, True] * 3
    assert "nan" in found.trials[1].diverged
    assert found.best.value == 1.0


def test_the_sampler_keeps_away_from_where_the_objective_diverged():
    def objective(setting):
        return math.inf if setting.lr > 0.01 else 1.0

    alone = Space(lr=(1e-4, 1.0), rho=(0.9, 0.9), eps=(1e-8, 1e-8), momentum=(0.0, 0.0), centered=(False,))
    late = []
    for seed in range(4):
        found = rmsprop.tune(objective, trials=50, storage=None, space=alone, seed=seed)
        late += [bool(trial.diverged) for trial in found.trials[25:]]
    # Half of the range diverges: a sampler that learns nothing has 50 of these 100 there, and 35 once in a thousand.
    assert sum(late) < 35


def test_an_objective_that_is_never_finite_is_said():
    with pytest.raises(InputError, match=r"not finite in any of 3 trials .*the objective returned nan"):
        rmsprop.tune(lambda setting: math.nan, trials=3, storage=None)


def test_ctrl_c_keeps_what_is_done_and_the_same_call_goes_on_as_if_nothing_had_been(tmp_path):
    url = f"sqlite:///{tmp_path}/new/study.db"

    pressed = [7]

    def objective(setting):
        if setting.number in pressed:
            raise KeyboardInterrupt
        return bowl(setting)

    first = rmsprop.tune(objective, trials=13, storage=url)
    assert first.interrupted
    assert first.done == 7
    pressed.clear()
    second = rmsprop.tune(objective, trials=13, storage=url)
    assert (second.resumed, second.done, second.interrupted) == (7, 13, False)
    assert settings(second) == settings(rmsprop.tune(bowl, trials=13, storage=None))


def test_an_exception_of_the_objective_comes_through_and_its_trial_does_not_count():
    storage, parts = optuna.storages.InMemoryStorage(), [0.0]

    def objective(setting):
        return 1.0 / parts[0]

    with pytest.raises(ZeroDivisionError):
        rmsprop.tune(objective, trials=3, storage=storage)
    parts[0] = 2.0
    found = rmsprop.tune(objective, trials=3, storage=storage)
    assert found.done == 3
    assert [trial.state for trial in found.trials] == ["lost"] + ["complete"] * 3


def test_optunas_voice_and_warnings_are_as_before():
    before = optuna.logging.get_verbosity()
    rmsprop.tune(bowl, trials=1, storage=None)
    assert optuna.logging.get_verbosity() == before


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_without_optuna_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingDependency, match=r'optuna is needed for tuning: pip install "rmsprop\[tune\]"'):
        rmsprop.tune(bowl, trials=1, storage=None)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"trials": 0}, "trials=0, expected a whole number, at least 1"),
        ({"trials": 2.5}, "trials=2.5"),
        ({"seed": -1}, "seed=-1, expected a whole number, at least 0"),
        ({"direction": "up"}, "direction='up', expected 'minimize' or 'maximize'"),
        ({"study": ""}, "study='', expected a name"),
        ({"pruner": "medain"}, "pruner='medain', expected 'median', 'none' or an Optuna pruner"),
        ({"storage": "runs/tune.db"}, "storage='runs/tune.db', expected a URL such as sqlite:///"),
        ({"storage": "nosuch://host/x"}, "storage='nosuch://host/x' cannot be opened"),
        ({"storage": "sqlite:////proc/none/x.db"}, "storage='sqlite:////proc/none/x.db'"),
        ({"storage": "grpc://localhost"}, "expected grpc://host:port"),
    ],
)
def test_what_no_search_can_be_made_of_is_refused(options, reason):
    with pytest.raises(InputError, match=None) as refusal:
        rmsprop.tune(bowl, **{"trials": 1, "storage": None, **options})
    assert reason in str(refusal.value)


def test_an_objective_that_is_none_is_refused():
    with pytest.raises(InputTypeError, match="objective: int, expected a function"):
        rmsprop.tune(3, trials=1, storage=None)
    with pytest.raises(InputTypeError, match="objective's value: str, expected a number"):
        rmsprop.tune(lambda setting: "good", trials=1, storage=None)


def test_a_password_does_not_appear_in_the_message():
    with pytest.raises(RMSpropError) as refusal:
        rmsprop.tune(bowl, trials=1, storage="nosuch://me:secret@host/x")
    assert "secret" not in str(refusal.value)


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path):
    file = tmp_path / "tune.db"
    file.write_text("not a database, but long enough to be looked at " * 40)
    with pytest.raises(InputError, match=r"tune\.db' cannot be opened"):
        rmsprop.tune(bowl, trials=1, storage=f"sqlite:///{file}")


@pytest.mark.parametrize(
    ("step", "value", "reason"),
    [
        ("x", 1.0, "step='x', expected a whole number, at least 0"),
        (-1, 1.0, "step=-1, expected a whole number, at least 0"),
        (1.5, 1.0, "step=1.5, expected a whole number, at least 0"),
        (1, "good", r"report\(1, ...\): str, expected a number"),
    ],
)
def test_a_report_that_makes_no_sense_is_refused(step, value, reason):
    with pytest.raises(InputError, match=reason):
        rmsprop.tune(lambda setting: setting.report(step, value) or 1.0, trials=1, storage=None)
