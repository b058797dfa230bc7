"""Promise: minimize() stops for a reason, at the right point, and says which."""

import math

import numpy as np
import pytest

from rmsprop import Rule
from rmsprop.minimize import Status, minimize


def bowl(x):
    return float(x @ x)


def slope(x):
    return 2 * x


def falling(step):
    return 0.1 * 0.97**step


def test_it_stops_when_the_gradient_is_small():
    run = minimize(bowl, [1.0, -2.0], jac=slope, lr=falling, gtol=1e-3, trace=True)
    assert run.status == Status.GRADIENT
    assert run.success
    assert np.abs(run.jac).max() <= 1e-3 < np.abs(run.trace.grad[-1]).max()
    assert run.message == f"No element of the gradient is larger than gtol=0.001 after {run.nit} steps."
    assert run.nit == len(run.trace) < 1000


def test_a_start_at_the_minimum_needs_no_step():
    run = minimize(bowl, [0.0, 0.0], jac=slope, gtol=0.0)
    assert (run.nit, run.nfev, run.njev, run.status) == (0, 1, 1, Status.GRADIENT)


def test_it_stops_when_the_steps_are_small():
    run = minimize(bowl, [1.0, -2.0], jac=slope, lr=falling, xtol=1e-3, trace=True)
    assert run.status == Status.STEP_SIZE
    assert run.success
    moved = np.abs(run.trace.update).max(axis=1)
    assert moved[-1] <= 1e-3
    assert np.all(moved[:-1] > 1e-3)
    assert run.message == f"No element of x moved by more than xtol=0.001 in step {run.nit}."


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("values", "nit"),
    [
        ([10, 9, 8.95, 9.5, 8.92, 1, 1], 4),
        # Just in time, a step before patience ends, it becomes better by more than ftol.
        ([10, 9, 8.95, 9.5, 8.8, 8.75, 8.74, 8.71, 1], 7),
        # A little better at every step is a stall all the same.
        ([1.0, 0.98, 0.96, 0.94, 0.92], 3),
    ],
)
def test_it_stops_when_the_best_objective_stalls(sign, values, nit):
    answers = iter(values)
    rule = Rule(maximize=sign < 0)
    run = minimize(lambda x: sign * next(answers), [1.0], jac=np.ones_like, dialect=rule, ftol=0.1, patience=3)
    assert (run.status, run.success, run.nit) == (Status.STALL, True, nit)
    assert run.message == f"The best objective improved by no more than ftol=0.1 in 3 steps, {nit} in all."


def test_steps_that_end_before_a_tolerance_is_met_are_no_success():
    run = minimize(bowl, [1.0, -2.0], jac=slope, steps=3, gtol=1e-9)
    assert (run.status, run.success, run.nit) == (Status.STEPS_USED_UP, False, 3)
    assert run.message == "All 3 steps were done before a tolerance was met."


MOVES = " fun_best is better than fun: a constant lr keeps RMSprop moving; let lr fall, or take x_best."


def test_the_message_says_that_a_constant_lr_keeps_rmsprop_moving():
    run = minimize(bowl, [1.0, -2.0], jac=slope, lr=0.3, steps=60)
    assert run.fun_best < run.fun
    assert run.message == "All 60 steps were done; no tolerance was set." + MOVES
    assert minimize(bowl, [1.0, -2.0], jac=slope, lr=0.3, steps=60, gtol=0.0).message.endswith(MOVES)


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.3, "steps": 3},
        {"lr": lambda step: 0.3, "steps": 60},
        {"lr": 0.3, "steps": 60, "optimizer": "momentum"},
        {"lr": 0.3, "steps": 60, "batches": [()]},
    ],
    ids=["the last point is the best", "lr is a function", "not RMSprop", "each point has its own objective"],
)
def test_the_message_says_so_only_where_it_is_so(options):
    run = minimize(bowl, [1.0, -2.0], jac=slope, **options)
    assert MOVES not in run.message
    assert (run.fun_best < run.fun) == (options["steps"] == 60)


def test_the_callback_sees_a_copy_of_x_after_every_step():
    seen = []
    run = minimize(bowl, [1.0, -2.0], jac=slope, steps=5, callback=seen.append, trace=True)
    assert np.array_equal(seen, run.trace.x[1:])
    assert not any(np.shares_memory(x, run.x) for x in seen)


def test_the_callback_may_ask_for_the_intermediate_result():
    seen = []

    def callback(intermediate_result):
        seen.append(intermediate_result)

    run = minimize(bowl, [1.0, -2.0], jac=slope, steps=5, callback=callback, trace=True)
    assert [r.nit for r in seen] == [1, 2, 3, 4, 5]
    assert [r.fun for r in seen] == run.trace.f[1:].tolist()
    assert np.array_equal([r.x for r in seen], run.trace.x[1:])
    assert np.array_equal(seen[-1].jac, run.jac)


def test_the_callback_stops_the_run_by_stop_iteration():
    calls = []

    def callback(x):
        calls.append(x)
        if len(calls) == 4:
            raise StopIteration

    run = minimize(bowl, [1.0, -2.0], jac=slope, callback=callback)
    assert (run.status, run.success, run.nit) == (Status.CALLBACK, False, 4)
    assert np.array_equal(run.x, calls[-1])
    assert run.message == "The callback raised StopIteration after 4 steps."


def test_another_exception_of_the_callback_is_not_hidden():
    def callback(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        minimize(bowl, [1.0], jac=slope, callback=callback)


def cliff(bad):
    """x^2 above 1, and no value below: RMSprop walks into it from 2."""
    return lambda x: bad if x[0] < 1 else float(x[0] ** 2)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("size", [1, 20])
@pytest.mark.parametrize("how", ["function", "both", "2-point"])
def test_it_stops_at_the_last_finite_point(bad, size, how):
    fun = cliff(bad)

    def grad(x):
        return np.array([2 * x[0]] + [0.0] * (size - 1))

    if how == "both":
        run = minimize(lambda x: (fun(x), grad(x)), np.full(size, 2.0), jac=True, lr=0.1, trace=True)
    elif how == "function":
        run = minimize(fun, np.full(size, 2.0), jac=grad, lr=0.1, trace=True)
    else:
        run = minimize(fun, np.full(size, 2.0), lr=0.1, trace=True)
    assert (run.status, run.success) == (Status.NONFINITE_OBJECTIVE, False)
    assert 1 <= run.x[0] < 1.2
    assert run.fun == run.x[0] ** 2
    np.testing.assert_allclose(run.jac[0], 2 * run.x[0], rtol=1e-6)
    assert run.nit == len(run.trace)
    assert np.array_equal(run.trace.x[-1], run.x)
    assert run.nfev >= run.nit + 2
    assert run.message == (
        f"Step {run.nit + 1} led to a point where fun is {bad}; x is the last point where it is finite."
    )


def test_the_gradient_is_not_asked_for_where_the_objective_has_no_value():
    def jac(x):
        assert x[0] >= 1
        return 2 * x

    run = minimize(cliff(math.nan), [2.0], jac=jac, lr=0.1)
    assert run.njev == run.nfev - 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("size", [2, 20])
def test_it_stops_at_a_gradient_that_is_not_finite(bad, size):
    def jac(x):
        g = 2 * x
        if x[0] < 1:
            g[-1] = bad
        return g

    run = minimize(bowl, np.full(size, 2.0), jac=jac, lr=0.1, trace=True)
    assert (run.status, run.success) == (Status.NONFINITE_GRADIENT, False)
    assert np.isfinite(run.x).all()
    assert run.fun == bowl(run.x)
    assert len(run.trace) == run.nit
    assert f"not finite at the point after {run.nit} steps" in run.message


def test_a_huge_but_finite_gradient_is_no_reason_to_stop():
    run = minimize(lambda x: 0.0, [1.0, 1.0], jac=lambda x: np.full(2, 1.5e308), steps=3)
    assert run.status == Status.STEPS_DONE
    assert np.isfinite(run.x).all()


@pytest.mark.parametrize("how", ["function", "2-point"])
def test_a_start_without_a_value_is_said_to_be_one(how):
    run = minimize(lambda x: math.nan, [1.0, 2.0], jac=slope if how == "function" else how, trace=True)
    assert (run.status, run.success, run.nit) == (Status.NO_START, False, 0)
    assert run.x.tolist() == run.x_best.tolist() == [1.0, 2.0]
    assert len(run.trace) == 0
    assert run.message == "fun(x0) is nan: there is no finite point to start from."


def test_a_gradient_written_into_one_array_stays_that_of_the_last_finite_point():
    out = np.empty((2, 1))

    def jac(x):
        out[: len(x)] = 2 * x.reshape(-1, 1)
        return out[: len(x)].reshape(x.shape)

    for start in ([2.0], [[2.0], [9.0]]):
        run = minimize(lambda x: np.where(x < 1, np.nan, x**2)[..., 0], start, jac=jac, lr=0.1, steps=40)
        assert run.status == Status.NONFINITE_OBJECTIVE
        assert np.array_equal(run.jac, 2 * run.x)
