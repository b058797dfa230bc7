"""Promise: scipy.optimize.minimize(method=rmsprop.scipy_method) runs rmsprop.minimize."""

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


def rosen_both(x):
    return rosen(x), rosen_der(x)


@pytest.mark.parametrize(
    ("fun", "jac", "options", "changes", "nfev"),
    [
        (rosen, rosen_der, {"lr": 0.002, "dialect": Rule(rho=0.99)}, {}, 21),
        (rosen, rosen_der, {"rho": 0.5, "eps": 1e-3, "momentum": 0.5, "weight_decay": 0.1, "dialect": "torch"}, {}, 21),
        (rosen, rosen_der, {"optimizer": "adam"}, {}, 21),
        (rosen_both, True, {}, {}, 21),
        (rosen, None, {}, {}, 63),
        (rosen, "2-point", {}, {"jac": None}, 63),
        (rosen, "3-point", {}, {"jac": None}, 63),
        (rosen, None, {"differences": "3-point"}, {"jac": "3-point"}, 105),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_scipys_call_gives_the_result_of_minimize(fun, jac, options, changes, nfev):
    run = run_scipy(fun, jac=jac, options={"maxiter": 20, **options})
    own = {name: value for name, value in options.items() if name != "differences"}
    expected = minimize(fun, START, **{"jac": jac, "steps": 20, **own, **changes})
    assert np.array_equal(run.x, expected.x)
    assert (run.nit, run.nfev, run.njev) == (20, nfev, 21)


def test_args_tol_and_callback_are_passed_on():
    values = []

    def callback(intermediate_result):
        values.append(intermediate_result.fun)

    run = run_scipy(lambda x, a: a * float(x @ x), args=(3.0,), jac=lambda x, a: 2 * a * x, tol=0.5, callback=callback)
    assert run.status == Status.GRADIENT
    assert np.abs(run.jac).max() <= 0.5
    assert len(values) == run.nit


def test_gtol_is_used_in_place_of_tol():
    run = run_scipy(lambda x: float(x @ x), jac=lambda x: 2 * x, tol=1.0, options={"gtol": 0.5})
    assert "gtol=0.5" in run.message


def test_disp_prints_the_message(capsys):
    run_scipy(jac=rosen_der, options={"maxiter": 3, "disp": True})
    assert capsys.readouterr().out.startswith("All 3 steps were done; no tolerance was set. The gradient is not small")


def test_a_trace_is_an_option():
    assert len(run_scipy(jac=rosen_der, options={"maxiter": 3, "trace": True}).trace) == 3


CONSTRAINT = {"type": "eq", "fun": lambda x: x[0]}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bounds", [(0, 1), (0, 1)]),
        ("bounds", scipy.optimize.Bounds([0, 0], [1, 1])),
        ("constraints", CONSTRAINT),
        ("constraints", [CONSTRAINT]),
        ("constraints", scipy.optimize.LinearConstraint([[1, 1]], 0, 1)),
    ],
)
def test_bounds_and_constraints_raise(name, value):
    with pytest.raises(InputError, match=f"{name}: not supported by RMSprop"):
        run_scipy(**{name: value})


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
def test_an_unknown_option_raises_and_names_the_nearest(name, hint):
    with pytest.raises(InputError, match=f"unknown option '{name}'; {hint}"):
        run_scipy(options={name: 0.1})


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_without_a_tolerance_success_is_a_small_gradient(scale):
    def run(lr):
        return run_scipy(
            lambda x: scale * (1 + float(x @ x)), jac=lambda x: 2 * scale * x, options={"maxiter": 400, "lr": lr}
        )

    done = run(lambda step: 0.1 * 0.95**step)
    assert (done.success, done.status) == (True, Status.STEPS_DONE)
    assert np.abs(done.jac).max() <= 1e-5 * scale
    slow = run(1e-4)
    assert (slow.success, slow.status) == (False, Status.STEPS_USED_UP)
    assert f"The gradient is not small: its largest element is {np.abs(slow.jac).max():.3g}." in slow.message


@pytest.mark.parametrize("name", ["hess", "hessp"])
def test_second_derivatives_are_ignored_with_a_warning(name):
    with pytest.warns(RuntimeWarning, match=f"RMSprop does not use {name}"):
        run_scipy(jac=rosen_der, options={"maxiter": 1}, **{name: lambda *args: np.eye(2)})
