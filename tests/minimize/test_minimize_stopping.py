"""Promise: minimize() stops at the right point and says why."""

import math

import numpy as np
import pytest

from rmsprop import Rule
from rmsprop.minimize import Status, minimize


def bowl(x):
    return float(x @ x)


def slope(x):
    return 2 * x


def run_bowl(**options):
    return minimize(bowl, [1.0, -2.0], **{"jac": slope, "trace": True, **options})


def decay(step):
    return 0.1 * 0.97**step


def test_gtol_stops_when_the_gradient_is_small():
    run = run_bowl(lr=decay, gtol=1e-3)
    assert (run.status, run.success) == (Status.GRADIENT, True)
    assert np.abs(run.jac).max() <= 1e-3 < np.abs(run.trace.grad[-1]).max()
    assert run.message == f"No element of the gradient is larger than gtol=0.001 after {run.nit} steps."
    assert run.nit == len(run.trace) < 1000
    at_minimum = minimize(bowl, [0.0, 0.0], jac=slope, gtol=0.0)
    assert (at_minimum.nit, at_minimum.nfev, at_minimum.njev, at_minimum.status) == (0, 1, 1, Status.GRADIENT)


def test_xtol_stops_when_the_step_is_small():
    run = run_bowl(lr=decay, xtol=1e-3)
    assert (run.status, run.success) == (Status.STEP_SIZE, True)
    moved = np.abs(run.trace.update).max(axis=1)
    assert moved[-1] <= 1e-3
    assert np.all(moved[:-1] > 1e-3)
    assert run.message == f"No element of x moved by more than xtol=0.001 in step {run.nit}."


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("values", "nit"),
    [
        ([10, 9, 8.95, 9.5, 8.92, 1, 1], 4),
        # A step before patience ends, it improves by more than ftol.
        ([10, 9, 8.95, 9.5, 8.8, 8.75, 8.74, 8.71, 1], 7),
        # A small improvement at every step is not enough.
        ([1.0, 0.98, 0.96, 0.94, 0.92], 3),
    ],
)
def test_ftol_stops_when_the_best_objective_does_not_improve(sign, values, nit):
    answers = iter(values)
    rule = Rule(maximize=sign < 0)
    run = minimize(lambda x: sign * next(answers), [1.0], jac=np.ones_like, dialect=rule, ftol=0.1, patience=3)
    assert (run.status, run.success, run.nit) == (Status.STALL, True, nit)
    assert run.message == f"The best objective improved by no more than ftol=0.1 in 3 steps, {nit} in all."


def test_steps_that_end_before_a_tolerance_is_met_are_no_success():
    run = run_bowl(steps=3, gtol=1e-9)
    assert (run.status, run.success, run.nit) == (Status.STEPS_USED_UP, False, 3)
    assert run.message == "All 3 steps were done before a tolerance was met."


MOVES = " fun_best is better than fun: a constant lr keeps RMSprop moving; let lr decay, or use x_best."


@pytest.mark.parametrize(
    ("options", "is_worse", "says_so"),
    [
        ({}, True, True),
        ({"gtol": 0.0}, True, True),
        ({"steps": 3}, False, False),
        ({"lr": lambda step: 0.3}, True, False),
        ({"optimizer": "momentum"}, True, False),
        ({"batches": [()]}, True, False),
    ],
    ids=["", "with a tolerance", "the last point is the best", "lr is a function", "not RMSprop", "batches"],
)
def test_the_message_says_that_a_constant_lr_led_away_from_the_best_point(options, is_worse, says_so):
    run = run_bowl(**{"lr": 0.3, "steps": 60, **options})
    assert (run.fun_best < run.fun) == is_worse
    assert run.message.endswith(MOVES) == says_so


def test_the_callback_gets_a_copy_of_x_after_every_step():
    points = []
    run = run_bowl(steps=5, callback=points.append)
    assert np.array_equal(points, run.trace.x[1:])
    assert not any(np.shares_memory(x, run.x) for x in points)
    # A built-in function without a signature.
    assert run_bowl(steps=2, callback=min).nit == 2


def test_a_callback_with_the_parameter_intermediate_result_gets_a_result():
    results = []

    def callback(intermediate_result):
        results.append(intermediate_result)

    run = run_bowl(steps=5, callback=callback)
    assert [r.nit for r in results] == [1, 2, 3, 4, 5]
    assert [r.fun for r in results] == run.trace.f[1:].tolist()
    assert np.array_equal([r.x for r in results], run.trace.x[1:])
    assert np.array_equal(results[-1].jac, run.jac)


def test_stop_iteration_in_the_callback_stops_the_run():
    points = []

    def callback(x):
        points.append(x)
        if len(points) == 4:
            raise StopIteration

    run = run_bowl(callback=callback)
    assert (run.status, run.success, run.nit) == (Status.CALLBACK, False, 4)
    assert np.array_equal(run.x, points[-1])
    assert run.message == "The callback raised StopIteration after 4 steps."


def test_another_error_of_the_callback_is_not_hidden():
    with pytest.raises(KeyError):
        run_bowl(callback=lambda x: {}["no key"])


def make_cliff(bad):
    """x^2 above 1, and not finite below; RMSprop reaches it from 2."""
    return lambda x: bad if x[0] < 1 else float(x[0] ** 2)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("size", [1, 20])
@pytest.mark.parametrize("jac", ["function", True, None])
def test_it_stops_at_the_last_finite_point(bad, size, jac):
    cliff = make_cliff(bad)

    def grad(x):
        # Where the objective is not finite, the gradient is not asked for.
        assert x[0] >= 1 or jac is True
        return np.array([2 * x[0]] + [0.0] * (size - 1))

    fun = (lambda x: (cliff(x), grad(x))) if jac is True else cliff
    run = minimize(fun, np.full(size, 2.0), jac=grad if jac == "function" else jac, lr=0.1, trace=True)
    assert (run.status, run.success) == (Status.NONFINITE_OBJECTIVE, False)
    assert 1 <= run.x[0] < 1.2
    assert run.fun == run.x[0] ** 2
    np.testing.assert_allclose(run.jac[0], 2 * run.x[0], rtol=1e-6)
    assert run.nit == len(run.trace)
    assert np.array_equal(run.trace.x[-1], run.x)
    assert run.nfev >= run.nit + 2
    step = run.nit + 1
    assert run.message == f"Step {step} led to a point where fun is {bad}; x is the last point where it is finite."


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


def test_a_huge_but_finite_gradient_does_not_stop_the_run():
    run = minimize(lambda x: 0.0, [1.0, 1.0], jac=lambda x: np.full(2, 1.5e308), steps=3)
    assert run.status == Status.STEPS_DONE
    assert np.isfinite(run.x).all()


@pytest.mark.parametrize("jac", [slope, "2-point"])
def test_a_start_that_is_not_finite_ends_the_run(jac):
    run = minimize(lambda x: math.nan, [1.0, 2.0], jac=jac, trace=True)
    assert (run.status, run.success, run.nit) == (Status.NO_START, False, 0)
    assert run.x.tolist() == run.x_best.tolist() == [1.0, 2.0]
    assert len(run.trace) == 0
    assert run.message == "fun(x0) is nan: there is no finite point to start from."


@pytest.mark.parametrize("start", [[2.0], [[2.0], [9.0]]])
def test_the_gradient_of_the_last_finite_point_is_kept_if_all_are_written_to_one_array(start):
    out = np.empty_like(start)

    def jac(x):
        out[:] = 2 * x
        return out

    run = minimize(lambda x: np.where(x < 1, np.nan, x**2)[..., 0], start, jac=jac, lr=0.1, steps=40)
    assert run.status == Status.NONFINITE_OBJECTIVE
    assert np.array_equal(run.jac, 2 * run.x)
