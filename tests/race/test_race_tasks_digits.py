"""The digits task: the images of scikit-learn, a network whose gradient is right, and even splits."""

import numpy as np
import pytest
from task_data import load, train_task

from rmsprop.race import get
from rmsprop.race.tasks._split import split_at_random, split_evenly
from rmsprop.race.tasks.digits import Examples, Learner

sklearn_datasets = pytest.importorskip("sklearn.datasets")


def test_the_splits_contain_every_image_once_and_every_digit_in_proportion():
    _, data = load("digits")
    images, labels = sklearn_datasets.load_digits(return_X_y=True)
    ours = np.concatenate([np.column_stack([part.images * 16, part.labels]) for part in data.content.values()])
    assert np.array_equal(np.unique(ours, axis=0), np.unique(np.column_stack([images, labels]), axis=0))
    assert len(ours) == sum(data.sizes.values()) == 1797
    for name, share in (("train", 0.7), ("valid", 0.15), ("test", 0.15)):
        assert np.abs(np.bincount(data.content[name].labels) - share * np.bincount(labels)).max() <= 1, name


def test_an_even_split_depends_on_its_seed_alone():
    labels = np.tile(np.arange(5), 20)
    first, again, other = (split_evenly(labels, (0.5, 0.5), seed=seed) for seed in (3, 3, 4))
    assert all(np.array_equal(first[name], again[name]) for name in ("train", "valid"))
    assert not np.array_equal(first["train"], other["train"])


def test_a_random_split_uses_each_example_once_and_a_part_of_it_the_first_ones():
    parts = list(split_at_random(101, (0.7, 0.15, 0.15), seed=3).values())
    assert sorted(np.concatenate(parts)) == list(range(101))
    assert [len(part) for part in parts] == [71, 15, 15]
    few = np.concatenate(list(split_at_random(101, (0.7, 0.15, 0.15), seed=3, keep=40).values()))
    assert few.tolist() == np.concatenate(parts)[:40].tolist()


def test_the_gradient_agrees_with_finite_differences():
    rng = np.random.default_rng(0)
    batch = Examples(rng.random((7, 64)), rng.integers(0, 10, 7))
    empty = Examples(np.zeros((1, 64), np.float32), np.zeros(1, np.intp))
    network = Learner(get("digits"), {"train": empty}, seed=1)
    network.params = {name: array.astype(np.float64) for name, array in network.params.items()}
    _, grads = network.gradients(batch)
    for name, array in network.params.items():
        for index in [tuple(rng.integers(0, size) for size in array.shape) for _ in range(8)]:
            value, h = array[index], 1e-6
            array[index] = value + h
            above, _ = network.gradients(batch)
            array[index] = value - h
            below, _ = network.gradients(batch)
            array[index] = value
            assert grads[name][index] == pytest.approx((above - below) / (2 * h), rel=1e-6, abs=1e-9), (name, index)


def test_the_network_is_float32_and_begins_as_good_as_a_guess():
    task, data = load("digits")
    learner = task.learner(data, 0)
    _, grads = learner.gradients(next(learner.batches(1)))
    assert {array.dtype for array in (*learner.params.values(), *grads.values())} == {np.dtype(np.float32)}
    accuracy, loss = learner.score("test")
    assert accuracy < 0.4
    assert loss == pytest.approx(np.log(10), rel=0.5)


def test_rmsprop_reaches_the_target():
    task, data = load("digits")
    scores = [train_task(task, data, lr=0.01, seed=seed, epochs=30).score[-1] for seed in range(3)]
    assert np.mean(scores) >= task.metric.target == 0.96


def test_a_weight_or_gradient_that_is_not_finite_is_named():
    task, data = load("digits")
    learner = task.learner(data, 0)
    _, grads = learner.gradients(next(learner.batches(1)))
    assert learner.find_nonfinite(grads) == "the loss"
    grads["b1"][3] = np.inf
    assert learner.find_nonfinite(grads) == "the gradient of b1"
    learner.params["w2"][0, 0] = np.nan
    assert learner.find_nonfinite(grads) == "w2"
    # Of several weights the nearest to the loss.
    learner.params["w1"][0, 0] = np.nan
    assert learner.find_nonfinite(grads) == "w2"
