"""What a search may try: ranges, fixed numbers, the rule that is kept, and the code that builds a setting."""

import pytest

import rmsprop
from rmsprop.errors import InputError, InputTypeError
from rmsprop.rule import Rule
from rmsprop.tune import Setting, Space

pytest.importorskip("optuna")


def tried(space, *, trials=12):
    return [trial.setting for trial in rmsprop.tune(lambda s: s.lr, trials=trials, storage=None, space=space).trials]


def test_a_fixed_number_stays_as_it_was_given_to_the_last_digit():
    fixed = {"lr": 0.00123456789, "rho": 0.987654321, "eps": 0.0316227766017, "momentum": 0.333}
    space = Space(**{name: (value, value) for name, value in fixed.items()}, centered=(True,))
    assert space.searched == ()
    (setting,) = tried(space, trials=1)
    rule = setting.rule
    assert {"lr": setting.lr, "rho": rule.rho, "eps": rule.eps, "momentum": rule.momentum} == fixed


def test_rounding_to_four_digits_never_leaves_a_range():
    space = Space(lr=(0.0123451, 0.0123459), rho=(0.91234567, 0.91234599), eps=(1.23451e-8, 1.23454e-8))
    for setting in tried(space):
        for value, (low, high) in (
            (setting.lr, space.lr),
            (setting.rule.rho, space.rho),
            (setting.rule.eps, space.eps),
        ):
            assert low <= value <= high


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
def test_momentum_is_searched_down_to_zero_whatever_the_base_rule_does_with_its_buffer(base, without_momentum):
    rules = [setting.rule for setting in tried(Space(momentum=(0.0, 0.05), base=base))]
    still, moving = ([rule for rule in rules if bool(rule.momentum) is wanted] for wanted in (False, True))
    assert still
    assert moving
    for rule in still:
        assert {name: getattr(rule, name) for name in without_momentum} == without_momentum
    for rule in moving:
        assert (rule.buffer, rule.nesterov) == (base.buffer, "post")


def test_a_base_rule_that_contradicts_a_range_is_refused_before_the_search():
    # With eps 0 a start at eps is one at zero, which bias correction allows; with an eps that is searched it is not.
    base = Rule(eps=0.0, init="eps", bias_correction=True)
    with pytest.raises(InputError, match=r"base=Rule\(.*cannot be searched .*bias_correction=True corrects a start"):
        Space(base=base)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"lr": (0.0, 1.0)}, r"lr=\(0.0, 1.0\), expected \(least, greatest\) in \(0, inf\)"),
        ({"lr": (1.0, 0.1)}, "lr="),
        ({"lr": 1e-3}, r"lr=0.001, expected \(least, greatest\)"),
        ({"lr": ("a", "b")}, r"lr=\('a', 'b'\), expected \(least, greatest\)"),
        ({"lr": "12"}, r"lr='12', expected \(least, greatest\)"),
        ({"lr": (None, 1.0)}, "lr="),
        ({"lr": (0.1, float("nan"))}, "lr="),
        ({"lr": (0.1, 0.2, 0.3)}, "lr="),
        ({"rho": (0.9, 1.0)}, r"rho=\(0.9, 1.0\), expected \(least, greatest\) in \[0, 1\)"),
        ({"momentum": (0.0, 0.93)}, "expected multiples of 0.05, or equal ends"),
        ({"centered": ()}, r"centered=\(\)"),
        ({"centered": ("no",)}, r"centered=\('no',\), expected \(False,\), \(True,\) or \(False, True\)"),
        ({"centered": True}, "centered=True, expected"),
        ({"centered": (True, 1)}, r"centered=\(True, 1\), expected"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(options, reason):
    with pytest.raises(InputError, match=reason):
        Space(**options)


def test_what_is_no_space_or_no_rule_is_refused_by_its_type():
    with pytest.raises(InputTypeError, match=r"space: dict, expected rmsprop.tune.Space\("):
        rmsprop.tune(lambda setting: 1.0, trials=1, storage=None, space={"lr": (0.1, 1.0)})
    with pytest.raises(InputTypeError, match=r"base: str, expected a rmsprop\.Rule"):
        Space(base="torch")


def test_code_for_an_unknown_framework_is_refused():
    with pytest.raises(InputError, match="framework='jax', expected 'numpy' or 'torch'"):
        Setting(lr=0.1, rule=Rule()).code("jax")
