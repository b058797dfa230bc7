"""What the NumPy front end tells about a run: effective learning rate, mean square, repr; reset and copies."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest

import rmsprop
from cases import COVERING, ULP, Layer, leaves, same_bits, tree
from rmsprop import Rule

# ---- what it tells ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", COVERING.values(), ids=COVERING)
def test_the_effective_learning_rate_is_what_the_gradient_was_multiplied_by(rule):
    rule = rule.replace(weight_decay=0.0, weight_decay_mode="none", buffer="none", momentum=0.0, nesterov="none")
    rng = np.random.default_rng(0)
    params = {"w": np.zeros(50)}
    optimizer = rmsprop.RMSprop(params, lr=0.5, dialect=rule)
    for _ in range(4):
        params["w"][...] = 0
        grad = rng.uniform(0.5, 2.0, 50)
        optimizer.step({"w": grad})
        sign = -1 if rule.maximize else 1
        effective = optimizer.effective_lr()["w"]
        np.testing.assert_allclose(-params["w"] / (sign * grad), effective, rtol=16 * ULP["float64"])


def test_the_effective_learning_rate_is_that_of_the_formula():
    optimizer = rmsprop.RMSprop(np.zeros(1), lr=lambda step: 0.1 * (step + 1))
    assert optimizer.effective_lr() == 0.1 / math.sqrt(1e-8)
    for grad in (3.0, 1.0):
        optimizer.step(np.array([grad]))
    square = 0.9 * (0.1 * 9.0) + 0.1 * 1.0
    np.testing.assert_allclose(optimizer.effective_lr(), 0.2 / math.sqrt(square + 1e-8), rtol=8 * ULP["float64"])


def test_the_effective_learning_rate_of_a_zero_denominator_is_infinite():
    optimizer = rmsprop.RMSprop(np.zeros(1), lr=0.1, dialect=Rule(eps=0.0))
    assert optimizer.effective_lr() == [math.inf]


@pytest.mark.parametrize("centered", [False, True])
def test_the_mean_square_is_the_average_of_squares(centered):
    params = {"w": np.zeros(3)}
    optimizer = rmsprop.RMSprop(params, lr=0.1, dialect=Rule(centered=centered))
    expected = np.zeros(3)
    for t in range(1, 30):
        grad = np.array([1.0, -2.0, 0.1]) * t
        optimizer.step({"w": grad})
        expected = 0.9 * expected + 0.1 * grad**2
    np.testing.assert_allclose(optimizer.mean_square()["w"], expected, rtol=64 * ULP["float64"])
    optimizer.mean_square()["w"][...] = -1  # a copy
    np.testing.assert_allclose(optimizer.mean_square()["w"], expected, rtol=64 * ULP["float64"])


def test_what_it_tells_is_a_tree_like_the_parameters():
    params = tree()
    for told in (rmsprop.RMSprop(params, lr=0.1).effective_lr(), rmsprop.RMSprop(params, lr=0.1).mean_square()):
        assert isinstance(told["head"], Layer)
        assert [leaf.shape for leaf in leaves(told)] == [leaf.shape for leaf in leaves(params)]


@pytest.mark.parametrize("rule", COVERING.values(), ids=COVERING)
def test_a_reset_forgets_everything_but_the_parameters(rule):
    grads = [tree(seed=t) for t in range(3)]
    ours, theirs = tree(), tree()
    optimizer = rmsprop.RMSprop(ours, lr=0.1, dialect=rule)
    for grad in grads:
        optimizer.step(grad)
    for mine, other in zip(leaves(ours), leaves(theirs)):
        other[...] = mine
    optimizer.reset_state()
    fresh = rmsprop.RMSprop(theirs, lr=0.1, dialect=rule)
    assert (optimizer.step_count, optimizer.steps.tolist()) == (0, [0, 0, 0, 0])
    for grad in grads:
        optimizer.step(grad)
        fresh.step(grad)
    assert all(same_bits(a, b) for a, b in zip(leaves(ours), leaves(theirs)))


def test_the_repr_counts_and_names_the_rule():
    optimizer = rmsprop.RMSprop({"w": np.zeros((1000, 2)), "b": np.zeros(2)}, lr=0.001)
    assert repr(optimizer) == f"RMSprop(2 arrays, 2,002 elements, lr=0.001, dialect='rmsprop', {Rule()!r})"
    assert "lr=a function" in repr(rmsprop.RMSprop(np.zeros(2), lr=lambda step: 0.1))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))])
def test_a_copy_goes_on_with_the_same_bits_and_shares_nothing(copied):
    original = rmsprop.RMSprop(tree(), lr=0.1, dialect=COVERING["graves"])
    original.step(tree(seed=1))
    other = copied(original)
    original.step(tree(seed=2))
    changed = [leaf.copy() for leaf in leaves(original.params)]
    other.step(tree(seed=2))
    assert all(same_bits(a, b) for a, b in zip(leaves(other.params), changed))
    assert not any(np.shares_memory(a, b) for a, b in zip(leaves(other.params), leaves(original.params)))
