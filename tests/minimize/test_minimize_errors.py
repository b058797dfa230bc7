"""Promise: bad arguments of minimize() raise an error that names the argument, what was expected and what came."""

import math

import numpy as np
import pytest

from rmsprop import Rule
from rmsprop.errors import ExpressionError, InputError, InputTypeError, RuleError
from rmsprop.minimize import minimize


def bowl(x):
    return float(np.sum(x**2))


def slope(x):
    return 2 * x


@pytest.mark.parametrize(
    ("x0", "error", "message"),
    [
        ([], InputError, r"shape \(0,\) has no elements"),
        (np.ones((2, 0)), InputError, r"shape \(2, 0\) has no elements"),
        ([1.0, math.nan], InputError, "contains NaN or infinity"),
        ([math.inf], InputError, "contains NaN or infinity"),
        ([1j], InputTypeError, "dtype complex128, expected float32, float64 or integers"),
        (np.ones(2, dtype=np.float16), InputTypeError, "dtype float16"),
        (["a"], InputTypeError, "dtype <U1"),
        (None, InputTypeError, "dtype object"),
        ([[1.0], [1.0, 2.0]], InputError, ""),
    ],
)
def test_a_bad_start_raises(x0, error, message):
    with pytest.raises(error, match=f"x0: {message}"):
        minimize(bowl, x0, jac=slope)


@pytest.mark.parametrize("jac", [slope, "2-point"], ids=["function", "2-point"])
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.ones(2), InputError, r"shape \(2,\), expected one number; return their sum or mean, or"),
        (np.ones((2, 2)), InputError, r"shape \(2, 2\)"),
        (np.ones(0), InputError, r"shape \(0,\)"),
        (None, InputTypeError, r"NoneType, expected real numbers"),
        ("1.0", InputTypeError, "dtype <U3"),
        (1j, InputTypeError, "dtype complex128"),
        ([[1.0], [1.0, 2.0]], InputError, ""),
    ],
    ids=str,
)
def test_an_objective_that_is_not_one_number_raises(value, error, message, jac):
    for x0 in (1.0, [1.0], [1.0, 2.0]):
        with pytest.raises(error, match=rf"fun\(x\): {message}"):
            minimize(lambda x: value, x0, jac=jac)
    values = iter([1.0, value])
    with pytest.raises(error, match=rf"fun\(x\): {message}"):
        minimize(lambda x: next(values), [1.0], jac=jac)


@pytest.mark.parametrize("jac_is_true", [False, True])
@pytest.mark.parametrize(
    ("grad", "error", "message"),
    [
        (np.ones(3), InputError, r"shape \(3,\), expected \(2,\) like x0"),
        (1.0, InputError, r"shape \(\)"),
        (np.ones((2, 1)), InputError, r"shape \(2, 1\)"),
        (None, InputTypeError, "NoneType, expected real numbers"),
        (np.array([1j, 0]), InputTypeError, "dtype complex128"),
    ],
    ids=str,
)
def test_a_gradient_that_is_not_like_x_raises(grad, error, message, jac_is_true):
    fun, jac = (lambda x: (bowl(x), grad), True) if jac_is_true else (bowl, lambda x: grad)
    with pytest.raises(error, match=rf"jac\(x\): {message}"):
        minimize(fun, [1.0, 2.0], jac=jac)


@pytest.mark.parametrize("value", [1.0, (1.0,), np.ones(3)])
def test_a_function_that_does_not_return_a_pair_raises(value):
    with pytest.raises(InputError, match=rf"fun\(x\): {type(value).__name__}, expected the pair .* because jac=True"):
        minimize(lambda x: value, [1.0], jac=True)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"steps": -1}, InputError, "steps=-1, expected a whole number, at least 0"),
        ({"steps": 1.5}, InputError, "steps=1.5"),
        ({"steps": True}, InputError, "steps=True"),
        ({"gtol": -1e-3}, InputError, "gtol=-0.001, expected a finite number, at least 0, or None"),
        ({"xtol": math.nan}, InputError, "xtol=nan"),
        ({"ftol": math.inf}, InputError, "ftol=inf"),
        ({"ftol": "small"}, InputError, "ftol='small'"),
        ({"gtol": True}, InputError, "gtol=True"),
        ({"ftol": 0.1, "patience": 0}, InputError, "patience=0, expected a whole number, at least 1"),
        ({"patience": 5}, InputError, "patience=5 without ftol"),
        ({"jac": "4-point"}, InputError, "jac='4-point', expected a function, True, or one of '2-point'"),
        ({"jac": 1.0}, InputError, "jac=1.0"),
        ({"callback": 3}, InputTypeError, "callback: int, expected a function"),
        ({"batches": []}, InputError, "batches: empty, expected at least one batch"),
        ({"batches": iter(())}, InputError, "batches: empty"),
        ({"batches": 32}, InputTypeError, "batches: int, expected an iterable"),
        ({"optimizer": "adm"}, InputError, "unknown optimizer 'adm': did you mean 'adam'"),
        ({"optimizer": 3}, InputTypeError, "optimizer: int, expected a name or a class of rmsprop.baselines"),
        ({"optimizer": "adam", "rho": 0.9}, InputError, "rho: an option of RMSprop, but optimizer='adam'"),
        ({"optimizer": "adam", "eps": 0.0}, InputError, "eps: "),
        ({"optimizer": "momentum", "momentum": 0.9}, InputError, "momentum: "),
        ({"optimizer": "adam", "centered": False}, InputError, "centered: "),
        ({"optimizer": "adam", "weight_decay": 0.0}, InputError, "weight_decay: "),
        ({"optimizer": "adam", "dialect": "torch"}, InputError, "dialect: "),
        ({"lr": -0.1}, InputError, "lr"),
        ({"lr": math.nan}, InputError, "lr"),
        ({"lr": "fast"}, InputError, "lr"),
        ({"rho": 2.0}, RuleError, "rho"),
        ({"dialect": "torhc"}, RuleError, "unknown dialect 'torhc', did you mean 'torch'"),
        ({"dialect": 0.9}, InputTypeError, "dialect"),
        ({"dialect": Rule(), "rho": 0.5}, InputError, "rho=0.5 contradicts the given Rule"),
        ({"dialect": "dqn", "centered": False}, RuleError, "dialect 'dqn': centered=False"),
        ({"alpha": 0.9}, InputTypeError, "unknown option 'alpha'; use 'rho'"),
        ({"fun": 1.0}, InputTypeError, "fun: float, expected a function of x"),
        ({"fun": "x + foo(x)"}, ExpressionError, "column 5: unknown name 'foo'"),
        ({"fun": "x^2"}, InputError, r"x0: shape \(2,\), expected \(1,\) for a function of x"),
        ({"fun": "x*y", "x0": 1.0}, InputError, r"x0: shape \(\), expected \(2,\) for a function of x and y"),
        ({"fun": "x*y", "x0": [1.0]}, InputError, r"x0: shape \(1,\), expected \(2,\)"),
        ({"fun": "x*y", "args": (2,)}, InputError, "args, batches: a typed function takes neither"),
        ({"fun": "x*y", "batches": [1]}, InputError, "args, batches"),
    ],
)
def test_a_bad_argument_raises(options, error, message):
    with pytest.raises(error, match=message):
        minimize(**{"fun": bowl, "x0": [1.0, 2.0], "jac": slope, **options})


def test_an_error_of_fun_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        minimize(lambda x: 1 / 0, [1.0], jac=slope)
