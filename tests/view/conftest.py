"""Runs to draw."""

import pytest

from rmsprop import landscapes, minimize

RAVINE = landscapes.get("ravine")


@pytest.fixture(scope="session")
def make_trace():
    """Return a function that minimizes a landscape or an expression and returns the trace."""

    def make(optimizer=None, *, f=RAVINE, start=None, lr=None, steps=None, **options):
        return minimize(
            f,
            list(f.start if start is None else start),
            jac=f.gradient if hasattr(f, "gradient") else f.grad,
            lr=f.lr if lr is None else lr,
            steps=f.steps if steps is None else steps,
            optimizer=optimizer,
            trace=True,
            **options,
        ).trace

    return make


@pytest.fixture(scope="session")
def pair(make_trace):
    """RMSprop and AdaGrad on the ravine."""
    return [make_trace(), make_trace("adagrad")]


@pytest.fixture(scope="session")
def unstable_trace(make_trace):
    """Gradient descent with a learning rate so large that it leaves the picture."""
    return make_trace("gradient_descent", lr=0.6, steps=200)
