"""Inside flax: linen's TrainState and nnx's Optimizer train as with optax's own, and a saved state resumes."""

from __future__ import annotations

import numpy as np
import pytest
from problem import assert_close, make_data

pytest.importorskip("flax", reason="flax is not installed")
jax = pytest.importorskip("jax", reason="jax is not installed")
optax = pytest.importorskip("optax", reason="optax is not installed")
import flax.linen  # noqa: E402
from flax import nnx, serialization  # noqa: E402
from flax.training import train_state  # noqa: E402

import rmsprop.jax  # noqa: E402

FACTORIES = (optax.rmsprop, rmsprop.jax.rmsprop)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def load():
    return [jax.numpy.asarray(array.numpy()) for array in make_data()]


def ravel(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_a_train_state_trains_as_with_optaxs_own_and_resumes():
    x, y = load()
    net = flax.linen.Sequential([flax.linen.Dense(16), flax.linen.tanh, flax.linen.Dense(1)])
    start = net.init(jax.random.key(0), x)

    @jax.jit
    def step(state):
        grads = jax.grad(lambda params: ((state.apply_fn(params, x) - y) ** 2).mean())(state.params)
        return state.apply_gradients(grads=grads)

    ends = []
    for make in FACTORIES:
        state = train_state.TrainState.create(apply_fn=net.apply, params=start, tx=make(1e-2, momentum=0.9))
        fresh = state
        for _ in range(5):
            state = step(state)
        resumed = serialization.from_bytes(fresh, serialization.to_bytes(state))
        for _ in range(5):
            state, resumed = step(state), step(resumed)
        np.testing.assert_array_equal(ravel(resumed.params), ravel(state.params))
        ends.append(ravel(state.params))
    assert_close(ends[1], ends[0], ravel(start))


def test_an_nnx_optimizer_trains_as_with_optaxs_own():
    x, y = load()
    ends = []
    for make in (None, *FACTORIES):
        model = nnx.Sequential(nnx.Linear(4, 16, rngs=nnx.Rngs(0)), nnx.tanh, nnx.Linear(16, 1, rngs=nnx.Rngs(1)))
        if make is not None:
            optimizer = nnx.Optimizer(model, make(1e-2, momentum=0.9), wrt=nnx.Param)
            for _ in range(10):
                optimizer.update(model, nnx.grad(lambda model: ((model(x) - y) ** 2).mean())(model))
        ends.append(ravel(nnx.state(model, nnx.Param)))
    assert_close(ends[2], ends[1], ends[0])
