"""Promise: minimize() steps on stochastic gradients, objective and gradient of a step on the same batch."""

import numpy as np
import pytest

from rmsprop import RMSprop
from rmsprop.errors import InputError, InputTypeError
from rmsprop.minimize import Status, minimize

rng = np.random.default_rng(3)
X = rng.normal(size=(60, 3))
Y = X @ [1.0, -2.0, 0.5] + 0.01 * rng.normal(size=60)
BATCHES = [(X[i : i + 10], Y[i : i + 10]) for i in range(0, 60, 10)]


def loss(w, x, y):
    return float(np.mean((x @ w - y) ** 2))


def grad(w, x, y):
    return 2 / len(y) * x.T @ (x @ w - y)


def by_hand(batches, lr=0.01):
    w = np.zeros(3)
    optimizer = RMSprop(w, lr=lr)
    for batch in batches:
        optimizer.step(grad(w, *batch))
    return w


def test_a_list_of_batches_starts_over_until_the_steps_are_done():
    run = minimize(loss, np.zeros(3), jac=grad, batches=BATCHES, steps=15)
    assert np.array_equal(run.x, by_hand(BATCHES + BATCHES + BATCHES[:3]))
    assert (run.nit, run.nfev, run.njev) == (15, 16, 16)
    # The last evaluation has no step of its own; it is that of the last batch.
    assert run.fun == loss(run.x, *BATCHES[2])


def test_a_generator_that_ends_ends_the_run():
    run = minimize(loss, np.zeros(3), jac=grad, batches=iter(BATCHES), steps=1000)
    assert np.array_equal(run.x, by_hand(BATCHES))
    assert (run.status, run.success, run.nit) == (Status.BATCHES_ENDED, True, 6)
    assert run.message == "The batches ended after 6 steps."


def test_no_more_batches_are_taken_than_steps_are_done():
    taken = []

    def endless():
        while True:
            taken.append(len(taken))
            yield BATCHES[0]

    minimize(loss, np.zeros(3), jac=grad, batches=endless(), steps=7)
    assert len(taken) == 7


def test_objective_and_gradient_see_the_same_batch():
    seen = []

    def fun(w, i):
        seen.append(("f", i))
        return 0.0

    def jac(w, i):
        seen.append(("g", i))
        return np.ones_like(w)

    minimize(fun, np.zeros(2), jac=jac, batches=[10, 11, 12], steps=3)
    assert seen == [(what, i) for i in (10, 11, 12, 12) for what in "fg"]


@pytest.mark.parametrize("jac", [True, "2-point", "3-point"])
def test_batches_work_with_every_kind_of_gradient(jac):
    fun = (lambda w, x, y: (loss(w, x, y), grad(w, x, y))) if jac is True else loss
    run = minimize(fun, np.zeros(3), jac=jac, batches=BATCHES, steps=40)
    np.testing.assert_allclose(run.x, by_hand((BATCHES * 7)[:40]), atol=1e-6)


@pytest.mark.parametrize("wrap", [lambda b: b, list, lambda b: np.array(b[1])], ids=["tuple", "list", "one array"])
def test_a_tuple_or_list_is_spread_and_anything_else_is_one_argument(wrap):
    lengths = set()

    def fun(w, *batch):
        lengths.add(len(batch))
        return 0.0

    minimize(fun, np.zeros(3), jac=lambda w, *batch: w, batches=[wrap(b) for b in BATCHES], steps=2)
    assert lengths == ({1} if isinstance(wrap(BATCHES[0]), np.ndarray) else {2})


def test_args_come_after_the_batch():
    def fun(w, x, y, power):
        assert power == 2
        return loss(w, x, y)

    run = minimize(fun, np.zeros(3), jac=lambda w, x, y, power: grad(w, x, y), batches=BATCHES, args=(2,), steps=6)
    assert np.array_equal(run.x, by_hand(BATCHES))


def test_stochastic_steps_find_the_solution_of_the_normal_equations():
    run = minimize(loss, np.zeros(3), jac=grad, batches=BATCHES, steps=3000, lr=lambda t: 0.05 * 0.998**t)
    np.testing.assert_allclose(run.x, np.linalg.lstsq(X, Y, rcond=None)[0], atol=5e-3)


@pytest.mark.parametrize("empty", [[], iter(()), (b for b in ())])
def test_batches_without_a_batch_are_refused(empty):
    with pytest.raises(InputError, match="batches: empty, expected at least one batch"):
        minimize(loss, np.zeros(3), jac=grad, batches=empty)


def test_batches_that_are_no_iterable_are_refused():
    with pytest.raises(InputTypeError, match="batches: int, expected an iterable"):
        minimize(loss, np.zeros(3), jac=grad, batches=32)
