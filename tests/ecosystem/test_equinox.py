"""Inside equinox: the arrays of a module, filtered, train as with optax's own."""

from __future__ import annotations

import numpy as np
import pytest
from problem import assert_close, make_data

eqx = pytest.importorskip("equinox", reason="equinox is not installed")
jax = pytest.importorskip("jax", reason="jax is not installed")
optax = pytest.importorskip("optax", reason="optax is not installed")


def test_a_module_trains_as_with_optaxs_own():
    import rmsprop.jax

    x, y = (jax.numpy.asarray(array.numpy()) for array in make_data())
    start = eqx.nn.MLP(4, 1, 16, 1, activation=jax.numpy.tanh, key=jax.random.key(0))

    def loss_of(model):
        return ((jax.vmap(model)(x) - y) ** 2).mean()

    def train(transformation):
        @eqx.filter_jit
        def step(model, state):
            updates, state = transformation.update(eqx.filter_grad(loss_of)(model), state, model)
            return eqx.apply_updates(model, updates), state

        model, state = start, transformation.init(eqx.filter(start, eqx.is_inexact_array))
        for _ in range(10):
            model, state = step(model, state)
        return np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_array))])

    before = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(eqx.filter(start, eqx.is_array))])
    theirs, ours = (train(make(1e-2, momentum=0.9)) for make in (optax.rmsprop, rmsprop.jax.rmsprop))
    assert_close(ours, theirs, before)
