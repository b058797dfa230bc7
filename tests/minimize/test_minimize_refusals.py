"""Promise: what minimize() cannot take is refused with a message that says what was expected and what came."""

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


BAD_STARTS = [
    ([], InputError, r"x0: shape \(0,\) has no elements"),
    (np.ones((2, 0)), InputError, r"x0: shape \(2, 0\) has no elements"),
    ([1.0, math.nan], InputError, "x0: NaN or infinity in it"),
    ([math.inf], InputError, "x0: NaN or infinity in it"),
    ([1j], InputTypeError, "x0: dtype complex128, expected float32, float64 or integers"),
    (np.ones(2, dtype=np.float16), InputTypeError, "x0: dtype float16"),
    (["a"], InputTypeError, "x0: dtype <U1"),
    (None, InputTypeError, "x0: dtype object"),
    ([[1.0], [1.0, 2.0]], InputError, "x0: "),
]


@pytest.mark.parametrize(("x0", "error", "message"), BAD_STARTS)
def test_a_start_that_is_no_array_of_finite_numbers(x0, error, message):
    with pytest.raises(error, match=message):
        minimize(bowl, x0, jac=slope)


BAD_OBJECTIVES = [
    (lambda x: x, InputError, r"fun\(x\): shape \(2,\), expected one number; return their sum or mean, or"),
    (lambda x: np.ones((2, 2)), InputError, r"fun\(x\): shape \(2, 2\), expected one number; "),
    (lambda x: np.ones(0), InputError, r"fun\(x\): shape \(0,\), expected one number"),
    (lambda x: None, InputTypeError, r"fun\(x\): NoneType, expected real numbers"),
    (lambda x: "1.0", InputTypeError, r"fun\(x\): dtype <U3, expected real numbers"),
    (lambda x: 1j, InputTypeError, r"fun\(x\): dtype complex128, expected real numbers"),
    (lambda x: [[1.0], [1.0, 2.0]], InputError, r"fun\(x\): "),
]


@pytest.mark.parametrize("jac", [slope, "2-point"], ids=["function", "2-point"])
@pytest.mark.parametrize(("fun", "error", "message"), BAD_OBJECTIVES)
def test_an_objective_that_is_not_one_number(fun, error, message, jac):
    with pytest.raises(error, match=message):
        minimize(fun, [1.0, 2.0], jac=jac)


BAD_GRADIENTS = [
    (lambda x: np.ones(3), InputError, r"jac\(x\): shape \(3,\), expected \(2,\) like x0"),
    (lambda x: 1.0, InputError, r"jac\(x\): shape \(\), expected \(2,\) like x0"),
    (lambda x: np.ones((2, 1)), InputError, r"jac\(x\): shape \(2, 1\), expected \(2,\) like x0"),
    (lambda x: None, InputTypeError, r"jac\(x\): NoneType, expected real numbers"),
    (lambda x: np.array([1j, 0]), InputTypeError, r"jac\(x\): dtype complex128"),
]


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize(("jac", "error", "message"), BAD_GRADIENTS)
def test_a_gradient_that_is_not_like_x(jac, error, message, both):
    fun = (lambda x: (bowl(x), jac(x))) if both else bowl
    with pytest.raises(error, match=message):
        minimize(fun, [1.0, 2.0], jac=True if both else jac)


@pytest.mark.parametrize(("value", "what"), [(1.0, "float"), ((1.0,), "tuple"), (np.ones(3), "ndarray")])
def test_a_function_that_should_return_two_things(value, what):
    with pytest.raises(InputError, match=rf"fun\(x\): {what}, expected the pair \(value, gradient\) because jac=True"):
        minimize(lambda x: value, [1.0], jac=True)


def test_an_objective_that_changes_its_shape_on_the_way():
    answers = iter([1.0, np.ones(2)])
    with pytest.raises(InputError, match=r"fun\(x\): shape \(2,\), expected one number"):
        minimize(lambda x: next(answers), [1.0], jac=slope)
    answers = iter([1.0, np.ones(2)])
    with pytest.raises(InputError, match=r"fun\(x\): shape \(2,\), expected one number"):
        minimize(lambda x: next(answers), [1.0])


def test_an_objective_that_becomes_nan_is_no_error_but_a_result():
    run = minimize(lambda x: math.nan if x[0] < 0.9 else float(x[0]), [1.0], jac=np.ones_like)
    assert not run.success
    assert "fun is nan" in run.message


BAD_ARGUMENTS = [
    ({"steps": -1}, InputError, "steps=-1, expected a whole number, at least 0"),
    ({"steps": 1.5}, InputError, "steps=1.5"),
    ({"steps": True}, InputError, "steps=True"),
    ({"gtol": -1e-3}, InputError, "gtol=-0.001, expected a finite number, at least 0, or None"),
    ({"xtol": math.nan}, InputError, "xtol=nan"),
    ({"ftol": math.inf}, InputError, "ftol=inf"),
    ({"ftol": "small"}, InputError, "ftol='small'"),
    ({"gtol": True}, InputError, "gtol=True"),
    ({"patience": 0}, InputError, "patience=0, expected a whole number, at least 1"),
    ({"patience": 5}, InputError, "patience=5 without ftol"),
    ({"jac": "4-point"}, InputError, "jac='4-point', expected a function, True, or one of '2-point', '3-point', 'cs'"),
    ({"jac": 1.0}, InputError, "jac=1.0"),
    ({"callback": 3}, InputTypeError, "callback: int, expected a function"),
    ({"optimizer": "adm"}, InputError, "unknown optimizer 'adm': did you mean 'adam'"),
    ({"optimizer": 3}, InputTypeError, "optimizer: int, expected a name or a class of rmsprop.baselines"),
    ({"optimizer": "adam", "rho": 0.9}, InputError, "rho: it describes RMSprop, but optimizer says"),
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
    ({"dialect": 0.9}, InputTypeError, "dialect: a float, expected"),
    ({"dialect": Rule(), "rho": 0.5}, InputError, "rho=0.5 contradicts the given Rule"),
    ({"dialect": "dqn", "centered": False}, RuleError, "dialect 'dqn': centered=False"),
    ({"alpha": 0.9}, InputTypeError, "unknown option 'alpha'; use 'rho'"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD_ARGUMENTS)
def test_an_argument_out_of_its_domain(options, error, message):
    with pytest.raises(error, match=message):
        minimize(bowl, [1.0, 2.0], **{"jac": slope, **options})


def test_a_function_that_is_none():
    with pytest.raises(InputTypeError, match="fun: float, expected a function of x"):
        minimize(1.0, [1.0])


@pytest.mark.parametrize("jac", [None, lambda x: 2 * x])
def test_a_function_of_a_number_that_returns_several_is_told_what_to_return(jac):
    for x0 in (1.0, [1.0], [1.0, 2.0]):
        with pytest.raises(InputError, match=r"fun\(x\): shape \(2,\), expected one number; return their sum or mean"):
            minimize(lambda x: np.array([1.0, 2.0]), x0, jac=jac)


BAD_TYPED = [
    ("x + foo(x)", 1.0, {}, ExpressionError, "column 5: unknown name 'foo'"),
    ("x^2", [1.0, 2.0], {}, InputError, r"x0: shape \(2,\), expected \(1,\) for a function of x"),
    ("x*y", 1.0, {}, InputError, r"x0: shape \(\), expected \(2,\) for a function of x and y"),
    ("x*y", [1.0], {}, InputError, r"x0: shape \(1,\), expected \(2,\)"),
    ("x^2", 1.0, {"args": (2,)}, InputError, "args, batches: a typed function takes neither"),
    ("x^2", 1.0, {"batches": [1]}, InputError, "args, batches: a typed function takes neither"),
]


@pytest.mark.parametrize(("fun", "x0", "options", "error", "message"), BAD_TYPED)
def test_a_typed_function_that_does_not_fit(fun, x0, options, error, message):
    with pytest.raises(error, match=message):
        minimize(fun, x0, **options)


def test_what_fun_raises_is_not_hidden():
    def fun(x):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        minimize(fun, [1.0], jac=slope)
