"""Promise: scipy.optimize.minimize(method=rmsprop.scipy_method) is rmsprop.minimize in SciPy's clothes."""

import numpy as np
import pytest
import scipy.optimize
from scipy.optimize import rosen, rosen_der

from rmsprop import Rule
from rmsprop.errors import InputError
from rmsprop.minimize import Status, minimize, scipy_method

START = [-1.0, 1.2]


def run_scipy(fun=rosen, **options):
    return scipy.optimize.minimize(fun, START, method=scipy_method, **options)


def test_scipys_call_gives_minimizes_result():
    options = {"lr": 0.002, "maxiter": 200, "dialect": Rule(rho=0.99)}
    theirs = run_scipy(jac=rosen_der, options=options)
    mine = minimize(rosen, START, jac=rosen_der, lr=0.002, steps=200, dialect=Rule(rho=0.99))
    assert np.array_equal(theirs.x, mine.x)
    assert (theirs.nit, theirs.nfev, theirs.njev) == (200, 201, 201)


@pytest.mark.parametrize("jac", [None, "2-point", "3-point"])
def test_without_a_gradient_the_differences_are_computed(jac):
    run = run_scipy(jac=jac, options={"maxiter": 10})
    assert np.array_equal(run.x, minimize(rosen, START, steps=10).x)
    assert run.nfev == 11 * 3


def test_the_difference_scheme_is_an_option():
    run = run_scipy(options={"maxiter": 10, "differences": "3-point"})
    assert np.array_equal(run.x, minimize(rosen, START, jac="3-point", steps=10).x)


def test_a_function_that_returns_both_is_called_once_per_point():
    calls = []

    def both(x):
        calls.append(x)
        return rosen(x), rosen_der(x)

    run = run_scipy(both, jac=True, options={"maxiter": 10})
    assert np.array_equal(run.x, minimize(rosen, START, jac=rosen_der, steps=10).x)
    assert len(calls) == 11


def test_args_tol_and_callback_arrive():
    seen = []

    def callback(intermediate_result):
        seen.append(intermediate_result.fun)

    def fun(x, a):
        return a * float(x @ x)

    run = run_scipy(fun, args=(3.0,), jac=lambda x, a: 2 * a * x, tol=0.5, callback=callback)
    assert run.status == Status.GRADIENT
    assert np.abs(run.jac).max() <= 0.5
    assert len(seen) == run.nit


def test_gtol_goes_before_tol():
    run = run_scipy(lambda x: float(x @ x), jac=lambda x: 2 * x, tol=1.0, options={"gtol": 0.5})
    assert "gtol=0.5" in run.message


def test_display_prints_the_reason(capsys):
    run_scipy(jac=rosen_der, options={"maxiter": 3, "disp": True})
    assert capsys.readouterr().out.startswith("All 3 steps were done; no tolerance was set. The gradient is not small")


def test_a_trace_and_a_baseline_are_options():
    run = run_scipy(jac=rosen_der, options={"maxiter": 3, "trace": True, "optimizer": "adam"})
    assert run.trace.optimizer == "adam"
    assert len(run.trace) == 3


@pytest.mark.parametrize("bounds", [[(0, 1), (0, 1)], scipy.optimize.Bounds([0, 0], [1, 1])])
def test_bounds_are_refused(bounds):
    with pytest.raises(InputError, match="bounds: RMSprop has none"):
        run_scipy(bounds=bounds)


@pytest.mark.parametrize(
    "constraints",
    [
        {"type": "eq", "fun": lambda x: x[0]},
        [{"type": "eq", "fun": lambda x: x[0]}],
        scipy.optimize.LinearConstraint([[1, 1]], 0, 1),
    ],
)
def test_constraints_are_refused(constraints):
    with pytest.raises(InputError, match="constraints: RMSprop has none"):
        run_scipy(constraints=constraints)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("learning_rate", "use 'lr'"),
        ("alpha", "use 'rho'"),
        ("epsilon", "use 'eps'"),
        ("dialekt", "did you mean 'dialect'"),
        ("max_iter", "did you mean 'maxiter'"),
        ("rule", "expected one of lr, rho, eps, momentum, centered, weight_decay, dialect, batches, gtol"),
    ],
)
def test_an_unknown_option_names_the_nearest_right_one(name, hint):
    with pytest.raises(InputError, match=f"unknown option '{name}'; {hint}"):
        run_scipy(options={name: 0.1})


def test_every_option_of_the_rule_arrives():
    options = {"rho": 0.5, "eps": 1e-3, "momentum": 0.5, "centered": False, "weight_decay": 0.1, "dialect": "torch"}
    run = run_scipy(jac=rosen_der, options={"maxiter": 20, **options})
    assert np.array_equal(run.x, minimize(rosen, START, jac=rosen_der, steps=20, **options).x)


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_without_a_tolerance_success_is_a_small_gradient(scale):
    def fun(x):
        return scale * (1 + float(x @ x))

    def run(**options):
        return run_scipy(fun, jac=lambda x: 2 * scale * x, options={"maxiter": 400, **options})

    done = run(lr=lambda step: 0.1 * 0.95**step)
    assert (done.success, done.status) == (True, Status.STEPS_DONE)
    assert np.abs(done.jac).max() <= 1e-5 * scale
    left = run(lr=1e-4)
    assert (left.success, left.status) == (False, Status.STEPS_USED_UP)
    assert f"The gradient is not small: its largest element is {np.abs(left.jac).max():.3g}." in left.message


@pytest.mark.parametrize("name", ["hess", "hessp"])
def test_second_derivatives_are_not_used_and_that_is_said(name):
    with pytest.warns(RuntimeWarning, match=f"RMSprop does not use {name}"):
        run_scipy(jac=rosen_der, options={"maxiter": 1}, **{name: lambda *args: np.eye(2)})
