"""Promise: a run of many starts is all of them run one by one, at once, and the best of them."""

import math

import numpy as np
import pytest

from rmsprop import Rule, baselines
from rmsprop.errors import InputError
from rmsprop.minimize import Status, minimize

STARTS = np.array([[-2.0, 1.0], [-0.5, 0.3], [0.4, -1.5], [2.5, 2.0]])


def valleys(x):
    """Two valleys along the last axis' first coordinate, near -1 and 1; the left one is deeper."""
    return (x[..., 0] ** 2 - 1) ** 2 + 0.3 * x[..., 0] + x[..., 1] ** 2


def slopes(x):
    return np.stack([4 * x[..., 0] * (x[..., 0] ** 2 - 1) + 0.3, 2 * x[..., 1]], axis=-1)


@pytest.mark.parametrize(
    "options", [{}, {"gtol": 0.02}, {"xtol": 0.004}, {"ftol": 1e-4, "patience": 5}, {"optimizer": "adam"}]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_start_goes_its_way_as_if_alone(options, dtype):
    starts = STARTS.astype(dtype)
    together = minimize(valleys, starts, jac=slopes, steps=300, **options)
    for i, start in enumerate(starts):
        alone = minimize(valleys, start, jac=slopes, steps=300, **options)
        assert np.array_equal(together.xs[i], alone.x)
        np.testing.assert_allclose(together.funs[i], alone.fun, rtol=1e-15 if dtype is np.float64 else 1e-6)
        assert np.array_equal(together.jacs[i], alone.jac)
        assert (together.nits[i], together.statuses[i]) == (alone.nit, alone.status)


def test_the_result_is_the_best_start():
    run = minimize(valleys, STARTS, jac=slopes, lr=lambda t: 0.05 * 0.99**t, steps=600)
    assert run.start == int(np.argmin(run.funs))
    assert run.xs[run.start][0] < 0 < run.xs[3][0]
    assert run.fun == run.funs.min()
    assert np.array_equal(run.x, run.xs[run.start])
    assert np.array_equal(run.jac, run.jacs[run.start])
    assert run.message.startswith(f"Start {run.start} of 4 is the best. All 600 steps were done")
    assert run.success


def test_the_best_point_is_that_of_all_starts_and_steps():
    run = minimize(valleys, STARTS, jac=slopes, lr=0.3, steps=60, trace=True)
    t, start = np.unravel_index(np.argmin(run.trace.f), run.trace.f.shape)
    assert t < 60
    assert np.array_equal(run.x_best, run.trace.x[t, start])
    assert run.fun_best == run.trace.f[t, start] < run.fun


def test_a_maximizing_rule_takes_the_greatest():
    run = minimize(
        lambda x: -valleys(x),
        STARTS,
        jac=lambda x: -slopes(x),
        dialect=Rule(maximize=True),
        lr=lambda t: 0.05 * 0.99**t,
    )
    assert run.fun == run.funs.max()
    assert run.x[0] < 0


@pytest.mark.parametrize(("jac", "per_point", "atol"), [(None, 3, 1e-6), ("3-point", 5, 1e-8), ("cs", 3, 1e-13)])
def test_differences_need_calls_for_n_not_for_all_starts(jac, per_point, atol):
    calls = []

    def fun(x):
        calls.append(x.shape)
        return valleys(x)

    run = minimize(fun, STARTS, jac=jac, steps=4)
    np.testing.assert_allclose(run.jacs, slopes(run.xs), atol=atol)
    assert len(calls) == run.nfev == 5 * per_point
    assert set(calls) == {(4, 2)}


@pytest.mark.parametrize("jac", [slopes, True])
def test_calls_of_many_starts_are_counted_once(jac):
    calls = []

    def fun(x):
        calls.append(x)
        return (valleys(x), slopes(x)) if jac is True else valleys(x)

    run = minimize(fun, STARTS, jac=jac, steps=7)
    assert run.nfev == run.njev == len(calls) == 8


def test_a_start_that_falls_off_a_cliff_stays_where_it_last_had_a_value():
    def fun(x):
        return np.where(x[:, 0] > 0, x[:, 0] ** 2, np.nan)

    starts = np.array([[0.35], [3.0], [-1.0]])
    run = minimize(fun, starts, jac=lambda x: 2 * np.abs(x), lr=0.1, steps=12, trace=True)
    assert run.statuses.tolist() == [Status.NONFINITE_OBJECTIVE, Status.STEPS_DONE, Status.NO_START]
    assert 0 < run.xs[0, 0] < 0.35
    assert run.funs[0] == run.xs[0, 0] ** 2
    assert run.nits[1] == 12 > run.nits[0]
    assert run.start == 0
    assert not run.success
    assert np.array_equal(run.trace.x[run.nits[0] :, 0], np.full((13 - run.nits[0], 1), run.xs[0, 0]))
    assert f"Step {run.nits[0] + 1} led to a point where fun is nan" in run.message


def test_an_ended_start_does_not_drift_on_its_momentum():
    rule = Rule(buffer="unit", momentum=0.9)
    run = minimize(
        valleys, STARTS, jac=slopes, dialect=rule, gtol=0.05, steps=3000, lr=lambda t: 0.02 * 0.995**t, trace=True
    )
    assert len(set(run.nits.tolist())) > 1
    assert np.all(run.statuses == Status.GRADIENT)
    assert np.all(np.abs(slopes(run.xs)) <= 0.05)


def test_if_no_start_has_a_value_that_is_said():
    run = minimize(lambda x: np.full(len(x), math.inf), STARTS, jac=slopes)
    assert not run.success
    assert run.statuses.tolist() == [Status.NO_START] * 4
    assert "fun(x0) is inf" in run.message


def test_the_callback_sees_the_best_and_all():
    seen = []

    def callback(intermediate_result):
        seen.append(intermediate_result)
        if len(seen) == 3:
            raise StopIteration

    run = minimize(valleys, STARTS, jac=slopes, callback=callback)
    assert run.statuses.tolist() == [Status.CALLBACK] * 4
    assert np.array_equal(seen[-1].xs, run.xs)
    assert np.array_equal(seen[-1].x, run.x)
    assert seen[-1].fun == seen[-1].funs.min()


def test_batches_reach_all_starts_at_once():
    pull = [np.array([1.0, 0.0]), np.array([0.0, 2.0])]
    run = minimize(lambda x, c: ((x - c) ** 2).sum(axis=1), STARTS, jac=lambda x, c: 2 * (x - c), batches=pull, steps=4)
    for i, start in enumerate(STARTS):
        alone = minimize(lambda x, c: ((x - c) ** 2).sum(), start, jac=lambda x, c: 2 * (x - c), batches=pull, steps=4)
        assert np.array_equal(run.xs[i], alone.x)


def test_two_axes_with_one_value_are_one_start():
    column = minimize(lambda x: x[0] ** 2 + x[1] ** 2, np.ones((2, 1)), jac=lambda x: 2 * x, steps=3)
    assert column.x.shape == (2, 1)
    assert "xs" not in column
    matrix = minimize(lambda x: np.sum(x**2), np.ones((3, 3)), jac=lambda x: 2 * x, steps=3)
    assert matrix.x.shape == (3, 3)


def test_vectorized_may_be_said_outright():
    forced = minimize(lambda x: (x**2).sum(axis=1), np.ones((1, 2)), vectorized=True, steps=3)
    assert forced.xs.shape == (1, 2)
    assert forced.x.shape == (2,)
    with pytest.raises(InputError, match=r"fun\(x\): shape \(2,\), expected one number; .* x0 of shape \(starts, n\)"):
        minimize(lambda x: (x**2).sum(axis=1), np.ones((2, 2)), vectorized=False)
    with pytest.raises(InputError, match=r"x0: shape \(2,\), expected \(starts, n\) because vectorized=True"):
        minimize(lambda x: x, np.ones(2), vectorized=True)
    with pytest.raises(InputError, match=r"fun\(x\): shape \(3,\), expected \(2,\), one number per start"):
        minimize(lambda x: np.ones(3), np.ones((2, 3)), vectorized=True)


@pytest.mark.parametrize("name", baselines.names())
def test_baselines_run_from_many_starts_too(name):
    run = minimize(valleys, STARTS, jac=slopes, optimizer=name, steps=5, trace=True)
    assert run.trace.x.shape == (6, 4, 2)
    assert run.trace.optimizer == name
