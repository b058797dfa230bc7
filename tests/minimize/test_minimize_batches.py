"""Promise: minimize() steps on stochastic gradients; a step has its objective and gradient from the same batch."""

import numpy as np
import pytest

from rmsprop import RMSprop
from rmsprop.minimize import Status, minimize

rng = np.random.default_rng(3)
X = rng.normal(size=(60, 3))
Y = X @ [1.0, -2.0, 0.5] + 0.01 * rng.normal(size=60)
BATCHES = [(X[i : i + 10], Y[i : i + 10]) for i in range(0, 60, 10)]


def loss(w, x, y):
    return float(np.mean((x @ w - y) ** 2))


def grad(w, x, y):
    return 2 / len(y) * x.T @ (x @ w - y)


def take_steps(batches):
    w = np.zeros(3)
    optimizer = RMSprop(w, lr=0.01)
    for batch in batches:
        optimizer.step(grad(w, *batch))
    return w


def test_a_list_of_batches_is_repeated_until_the_steps_are_done():
    run = minimize(loss, np.zeros(3), jac=grad, batches=BATCHES, steps=15)
    assert np.array_equal(run.x, take_steps(BATCHES + BATCHES + BATCHES[:3]))
    assert (run.nit, run.nfev, run.njev) == (15, 16, 16)
    # The last evaluation has no step of its own; it uses the last batch again.
    assert run.fun == loss(run.x, *BATCHES[2])


def test_the_end_of_a_generator_ends_the_run():
    run = minimize(loss, np.zeros(3), jac=grad, batches=iter(BATCHES), steps=1000)
    assert np.array_equal(run.x, take_steps(BATCHES))
    assert (run.status, run.success, run.nit) == (Status.BATCHES_ENDED, True, 6)
    assert run.message == "The batches ended after 6 steps."


def test_one_batch_is_used_per_step():
    count = 0

    def generate():
        nonlocal count
        while True:
            count += 1
            yield BATCHES[0]

    minimize(loss, np.zeros(3), jac=grad, batches=generate(), steps=7)
    assert count == 7


def test_objective_and_gradient_get_the_same_batch():
    calls = []

    def fun(w, i):
        calls.append(("f", i))
        return 0.0

    def jac(w, i):
        calls.append(("g", i))
        return np.ones_like(w)

    minimize(fun, np.zeros(2), jac=jac, batches=[10, 11, 12], steps=3)
    assert calls == [(what, i) for i in (10, 11, 12, 12) for what in "fg"]


@pytest.mark.parametrize("jac", [True, "2-point", "3-point"])
def test_batches_work_with_any_kind_of_gradient(jac):
    fun = (lambda w, x, y: (loss(w, x, y), grad(w, x, y))) if jac is True else loss
    run = minimize(fun, np.zeros(3), jac=jac, batches=BATCHES, steps=40)
    np.testing.assert_allclose(run.x, take_steps((BATCHES * 7)[:40]), atol=1e-6)


@pytest.mark.parametrize(
    ("batch", "count"), [((1, 2), 2), ([1, 2], 2), (np.ones(2), 1)], ids=["tuple", "list", "array"]
)
def test_args_follow_the_elements_of_a_tuple_or_list_or_one_argument(batch, count):
    def fun(w, *args):
        assert len(args) == count + 1
        assert args[-1] == "last"
        return 0.0

    assert minimize(fun, np.zeros(3), jac=lambda w, *_: w, batches=[batch], args=("last",), steps=2).nit == 2


def test_stochastic_steps_find_the_solution_of_the_normal_equations():
    run = minimize(loss, np.zeros(3), jac=grad, batches=BATCHES, steps=3000, lr=lambda t: 0.05 * 0.998**t)
    np.testing.assert_allclose(run.x, np.linalg.lstsq(X, Y, rcond=None)[0], atol=5e-3)
