"""What a search may try: ranges, fixed numbers, the base rule, and the program that builds a setting."""

import pytest

import rmsprop
from rmsprop.errors import InputError, InputTypeError
from rmsprop.rule import Rule
from rmsprop.tune import Setting, Space

optuna = pytest.importorskip("optuna")


def try_settings(space, *, trials=12):
    return [trial.setting for trial in rmsprop.tune(lambda s: s.lr, trials=trials, storage=None, space=space).trials]


def test_a_fixed_number_keeps_all_its_digits():
    fixed = {"lr": 0.00123456789, "rho": 0.987654321, "eps": 0.0316227766017, "momentum": 0.333}
    space = Space(**{name: (value, value) for name, value in fixed.items()}, centered=(True,))
    assert space.searched == ()
    (setting,) = try_settings(space, trials=1)
    rule = setting.rule
    assert {"lr": setting.lr, "rho": rule.rho, "eps": rule.eps, "momentum": rule.momentum} == fixed


@pytest.mark.parametrize(
    "space",
    [
        # Rounding to four digits would leave each of these ranges.
        Space(lr=(0.0123451, 0.0123459), rho=(0.91234567, 0.91234599), eps=(1.23451e-8, 1.23454e-8)),
        Space(lr=(1e-3, 1e-2), eps=(1e-6, 1e-6), momentum=(0.0, 0.1), centered=(True,), base=Rule(var_floor=1e-9)),
    ],
)
def test_every_setting_is_in_the_space_and_keeps_the_base_rule(space):
    for setting in try_settings(space):
        rule = setting.rule
        numbers = {"lr": setting.lr, "rho": rule.rho, "eps": rule.eps, "momentum": rule.momentum}
        for name, value in numbers.items():
            low, high = getattr(space, name)
            assert low <= value <= high, name
        assert rule.centered in space.centered
        assert (rule.momentum, rule.buffer) == (round(rule.momentum, 2), "unit" if rule.momentum else "none")
        assert rule.var_floor == space.base.var_floor


def test_rho_is_uniform_over_the_decades_of_1_minus_rho():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    space, small = Space(rho=(0.9, 0.999)), 0
    for _ in range(400):
        trial = study.ask()
        small += space.make_setting(space.suggest(trial)).rule.rho > 0.99
    # Half of them is expected; a fair coin is outside this range once in 10^15.
    assert abs(small - 200) < 80


@pytest.mark.parametrize(
    ("base", "without_momentum"),
    [
        (Rule(buffer="unit", momentum=0.9, nesterov="post"), {"buffer": "none", "nesterov": "none"}),
        (
            Rule(buffer="lr", weight_decay=0.1, weight_decay_mode="in_buffer", nesterov="post"),
            {"buffer": "lr", "nesterov": "none", "weight_decay_mode": "in_buffer", "weight_decay": 0.1},
        ),
    ],
)
def test_momentum_is_searched_down_to_zero_with_every_base_rule(base, without_momentum):
    rules = [setting.rule for setting in try_settings(Space(momentum=(0.0, 0.05), base=base))]
    assert {bool(rule.momentum) for rule in rules} == {False, True}
    for rule in rules:
        expected = {"buffer": base.buffer, "nesterov": "post"} if rule.momentum else without_momentum
        assert {name: getattr(rule, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"lr": (0.0, 1.0)}, InputError, r"lr=\(0.0, 1.0\), expected \(least, greatest\) in \(0, inf\)"),
        ({"lr": (1.0, 0.1)}, InputError, "lr="),
        ({"lr": 1e-3}, InputError, "lr="),
        ({"lr": ("a", "b")}, InputError, "lr="),
        ({"lr": "12"}, InputError, "lr="),
        ({"lr": (None, 1.0)}, InputError, "lr="),
        ({"lr": (0.1, float("nan"))}, InputError, "lr="),
        ({"lr": (0.1, 0.2, 0.3)}, InputError, "lr="),
        ({"rho": (0.9, 1.0)}, InputError, r"rho=\(0.9, 1.0\), expected \(least, greatest\) in \[0, 1\)"),
        ({"momentum": (0.0, 0.93)}, InputError, "momentum=.*expected multiples of 0.05"),
        ({"centered": ()}, InputError, "centered="),
        ({"centered": ("no",)}, InputError, "centered="),
        ({"centered": True}, InputError, "centered="),
        ({"centered": (True, 1)}, InputError, "centered="),
        ({"base": "torch"}, InputTypeError, "base: str"),
        # Bias correction needs a start at zero, which init="eps" gives with the base rule's eps only.
        ({"base": Rule(eps=0.0, init="eps", bias_correction=True)}, InputError, r"base=Rule\(.*cannot be searched"),
    ],
)
def test_a_bad_space_raises_and_names_the_argument(options, error, reason):
    with pytest.raises(error, match=reason):
        Space(**options)


@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_the_program_of_a_setting_runs_and_builds_its_optimizer(framework):
    pytest.importorskip(framework)
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


def test_an_unknown_framework_raises():
    with pytest.raises(InputError, match="framework='jax'"):
        Setting(lr=0.1, rule=Rule()).code("jax")
