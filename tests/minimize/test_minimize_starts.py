"""Promise: a run from many starts gives the results of separate runs, and the best of them."""

import math

import numpy as np
import pytest

from rmsprop import Rule, baselines
from rmsprop.errors import InputError
from rmsprop.minimize import Status, minimize

STARTS = np.array([[-2.0, 1.0], [-0.5, 0.3], [0.4, -1.5], [2.5, 2.0]])


def valleys(x):
    """Two valleys, at x = -1 and 1; the left one is deeper."""
    return (x[..., 0] ** 2 - 1) ** 2 + 0.3 * x[..., 0] + x[..., 1] ** 2


def slopes(x):
    return np.stack([4 * x[..., 0] * (x[..., 0] ** 2 - 1) + 0.3, 2 * x[..., 1]], axis=-1)


OPTIONS = [{}, {"gtol": 0.02}, {"xtol": 0.004}, {"ftol": 1e-4, "patience": 5}]


@pytest.mark.parametrize("options", OPTIONS + [{"optimizer": name} for name in baselines.names()], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_start_runs_as_if_alone(options, dtype):
    starts = STARTS.astype(dtype)
    run = minimize(valleys, starts, jac=slopes, steps=200, lr=0.005, trace=True, **options)
    assert run.trace.x.shape == (run.nit + 1, 4, 2)
    for i, start in enumerate(starts):
        alone = minimize(valleys, start, jac=slopes, steps=200, lr=0.005, **options)
        assert np.array_equal(run.xs[i], alone.x)
        np.testing.assert_allclose(run.funs[i], alone.fun, rtol=1e-15 if dtype is np.float64 else 1e-6)
        assert np.array_equal(run.jacs[i], alone.jac)
        assert (run.nits[i], run.statuses[i]) == (alone.nit, alone.status)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_result_is_the_best_start(sign):
    run = minimize(
        lambda x: sign * valleys(x),
        STARTS,
        jac=lambda x: sign * slopes(x),
        dialect=Rule(maximize=sign < 0),
        lr=lambda t: 0.05 * 0.99**t,
        steps=600,
    )
    assert run.start == int(np.argmin(sign * run.funs))
    assert run.xs[run.start][0] < 0 < run.xs[3][0]
    assert run.fun == sign * (sign * run.funs).min()
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


@pytest.mark.parametrize(
    ("jac", "per_point", "atol"),
    [(slopes, 1, 0), (True, 1, 0), (None, 3, 1e-6), ("3-point", 5, 1e-8), ("cs", 3, 1e-13)],
)
def test_a_call_evaluates_all_starts(jac, per_point, atol):
    shapes = []

    def fun(x):
        shapes.append(x.shape)
        return (valleys(x), slopes(x)) if jac is True else valleys(x)

    run = minimize(fun, STARTS, jac=jac, steps=4)
    np.testing.assert_allclose(run.jacs, slopes(run.xs), atol=atol)
    assert len(shapes) == run.nfev == 5 * per_point
    assert run.njev == 5
    assert set(shapes) == {(4, 2)}


def test_a_start_that_reaches_nan_stays_at_its_last_finite_point():
    def fun(x):
        return np.where(x[:, 0] > 0, x[:, 0] ** 2, np.nan)

    starts = np.array([[0.35], [3.0], [-1.0]])
    run = minimize(fun, starts, jac=lambda x: 2 * np.abs(x), lr=0.1, steps=12, trace=True)
    assert run.statuses.tolist() == [Status.NONFINITE_OBJECTIVE, Status.STEPS_DONE, Status.NO_START]
    assert 0 < run.xs[0, 0] < 0.35
    assert run.funs[0] == run.xs[0, 0] ** 2
    assert run.nits[1] == 12 > run.nits[0]
    assert (run.start, run.success) == (0, False)
    assert np.array_equal(run.trace.x[run.nits[0] :, 0], np.full((13 - run.nits[0], 1), run.xs[0, 0]))
    assert f"Step {run.nits[0] + 1} led to a point where fun is nan" in run.message


def test_a_start_that_has_ended_does_not_move_by_its_momentum():
    rule = Rule(buffer="unit", momentum=0.9)
    run = minimize(valleys, STARTS, jac=slopes, dialect=rule, gtol=0.05, steps=3000, lr=lambda t: 0.02 * 0.995**t)
    assert len(set(run.nits.tolist())) > 1
    assert np.all(run.statuses == Status.GRADIENT)
    assert np.all(np.abs(slopes(run.xs)) <= 0.05)


def test_a_run_without_a_finite_start_ends_at_once():
    run = minimize(lambda x: np.full(len(x), math.inf), STARTS, jac=slopes)
    assert run.statuses.tolist() == [Status.NO_START] * 4
    assert not run.success
    assert "fun(x0) is inf" in run.message


def test_the_callback_gets_the_best_start_and_all_starts():
    results = []

    def callback(intermediate_result):
        results.append(intermediate_result)
        if len(results) == 3:
            raise StopIteration

    run = minimize(valleys, STARTS, jac=slopes, callback=callback)
    assert run.statuses.tolist() == [Status.CALLBACK] * 4
    assert np.array_equal(results[-1].xs, run.xs)
    assert np.array_equal(results[-1].x, run.x)
    assert results[-1].fun == results[-1].funs.min()


def test_all_starts_get_the_same_batch():
    centers = [np.array([1.0, 0.0]), np.array([0.0, 2.0])]
    options = {"jac": lambda x, c: 2 * (x - c), "batches": centers, "steps": 4}
    run = minimize(lambda x, c: ((x - c) ** 2).sum(axis=1), STARTS, **options)
    for i, start in enumerate(STARTS):
        assert np.array_equal(run.xs[i], minimize(lambda x, c: ((x - c) ** 2).sum(), start, **options).x)


@pytest.mark.parametrize("shape", [(2, 1), (3, 3)])
def test_an_array_with_one_value_is_one_start(shape):
    run = minimize(lambda x: np.sum(x**2), np.ones(shape), jac=lambda x: 2 * x, steps=3)
    assert run.x.shape == shape
    assert "xs" not in run


def test_vectorized_overrides_the_detection():
    run = minimize(lambda x: (x**2).sum(axis=1), np.ones((1, 2)), vectorized=True, steps=3)
    assert (run.xs.shape, run.x.shape) == ((1, 2), (2,))


@pytest.mark.parametrize(
    ("x0", "size", "vectorized", "message"),
    [
        (np.ones((2, 2)), 2, False, r"fun\(x\): shape \(2,\), expected one number; .* x0 of shape \(starts, n\)"),
        (np.ones(2), 2, True, r"x0: shape \(2,\), expected \(starts, n\) because vectorized=True"),
        (np.ones((2, 3)), 3, True, r"fun\(x\): shape \(3,\), expected \(2,\), one number per start"),
    ],
)
def test_vectorized_with_other_shapes_raises(x0, size, vectorized, message):
    with pytest.raises(InputError, match=message):
        minimize(lambda x: np.ones(size), x0, vectorized=vectorized)
