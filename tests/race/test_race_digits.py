"""The digits task: real images, a network whose gradient is right, and a fair start for everyone."""

import sys

import numpy as np
import pytest

from rmsprop.errors import MissingDependency
from rmsprop.race import get
from rmsprop.race.record import Job
from rmsprop.race.run import train
from rmsprop.race.tasks._split import split_at_random, split_evenly
from rmsprop.race.tasks.digits import Examples, Network

sklearn_datasets = pytest.importorskip("sklearn.datasets")


@pytest.fixture(scope="module")
def digits():
    task = get("digits")
    return task, task.load()


def test_the_three_parts_hold_every_image_once(digits):
    _, data = digits
    images, labels = sklearn_datasets.load_digits(return_X_y=True)
    parts = data.content.values()
    assert data.sizes == {name: len(part.labels) for name, part in data.content.items()}
    ours = np.concatenate([np.column_stack([part.images * 16, part.labels]) for part in parts])
    theirs = np.column_stack([images, labels])
    assert np.array_equal(np.unique(ours, axis=0), np.unique(theirs, axis=0))
    assert len(ours) == len(theirs) == 1797


def test_every_digit_is_shared_out_in_proportion(digits):
    _, data = digits
    whole = np.bincount(sklearn_datasets.load_digits(return_X_y=True)[1])
    for name, share in (("train", 0.7), ("valid", 0.15), ("test", 0.15)):
        assert np.abs(np.bincount(data.content[name].labels) - share * whole).max() <= 1, name


def test_a_split_does_not_depend_on_anything_but_its_seed():
    labels = np.tile(np.arange(5), 20)
    first, again = (split_evenly(labels, (0.5, 0.5), seed=3) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], split_evenly(labels, (0.5, 0.5), seed=4)[0])


def test_a_split_at_random_deals_out_each_example_once_and_of_a_part_the_same_first_ones():
    whole = split_at_random(101, (0.7, 0.15, 0.15), seed=3)
    assert sorted(np.concatenate(whole)) == list(range(101))
    assert [len(part) for part in whole] == [71, 15, 15]
    few = np.concatenate(split_at_random(101, (0.7, 0.15, 0.15), seed=3, keep=40))
    assert few.tolist() == np.concatenate(whole)[:40].tolist()


def test_the_gradient_agrees_with_finite_differences():
    rng = np.random.default_rng(0)
    batch = Examples(rng.random((7, 64)), rng.integers(0, 10, 7))
    network = Network({"train": Examples(np.zeros((1, 64), np.float32), np.zeros(1, np.intp))}, seed=1)
    network.params = {name: array.astype(np.float64) for name, array in network.params.items()}
    _, grads = network.gradients(batch)
    for name, array in network.params.items():
        for where in [tuple(rng.integers(0, size) for size in array.shape) for _ in range(8)]:
            kept, h = array[where], 1e-6
            array[where] = kept + h
            above, _ = network.gradients(batch)
            array[where] = kept - h
            below, _ = network.gradients(batch)
            array[where] = kept
            assert grads[name][where] == pytest.approx((above - below) / (2 * h), rel=1e-6, abs=1e-9), (name, where)


def test_an_untrained_network_is_as_good_as_a_guess(digits):
    task, data = digits
    accuracy, loss = task.learner(data, 0).score("test")
    assert accuracy < 0.4
    assert loss == pytest.approx(np.log(10), rel=0.5)


def test_everyone_starts_from_the_same_weights_and_sees_the_same_batches(digits):
    task, data = digits
    one, other = task.learner(data, 5), task.learner(data, 5)
    assert all(np.array_equal(one.params[name], other.params[name]) for name in one.params)
    for mine, theirs in zip(one.batches(3), other.batches(3), strict=True):
        assert np.array_equal(mine.images, theirs.images)
        assert np.array_equal(mine.labels, theirs.labels)


def test_another_seed_brings_other_weights_and_another_epoch_another_order(digits):
    task, data = digits
    learner = task.learner(data, 5)
    assert not np.array_equal(learner.params["w1"], task.learner(data, 6).params["w1"])
    assert not np.array_equal(next(learner.batches(1)).labels, next(learner.batches(2)).labels)


def test_an_epoch_passes_over_every_training_image_once(digits):
    task, data = digits
    seen = np.concatenate([batch.images for batch in task.learner(data, 0).batches(1)])
    ours = data.content["train"].images
    assert seen.shape == ours.shape
    assert np.array_equal(np.sort(seen.sum(axis=1)), np.sort(ours.sum(axis=1)))


def test_the_model_is_float32_throughout(digits):
    task, data = digits
    learner = task.learner(data, 0)
    _, grads = learner.gradients(next(learner.batches(1)))
    assert {array.dtype for array in (*learner.params.values(), *grads.values())} == {np.dtype(np.float32)}
    assert sum(array.size for array in learner.params.values()) == 4810


def test_rmsprop_reaches_the_target(digits):
    task, data = digits
    with task.session():
        scores = [
            train(task, data, Job(phase="final", optimizer="rmsprop", lr=0.01, seed=seed), epochs=30).score[-1]
            for seed in range(3)
        ]
    assert np.mean(scores) >= task.metric.target == 0.96


def test_a_culprit_is_named(digits):
    task, data = digits
    learner = task.learner(data, 0)
    _, grads = learner.gradients(next(learner.batches(1)))
    grads["b1"][3] = np.inf
    assert learner.culprit(grads) == "the gradient of b1"
    learner.params["w2"][0, 0] = np.nan
    assert learner.culprit(grads) == "w2"
    # Of several the one nearest to the loss: it overflows first, on the way back from there.
    learner.params["w1"][0, 0] = np.nan
    assert learner.culprit(grads) == "w2"


def test_without_scikit_learn_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingDependency, match=r'scikit-learn is needed for .*: pip install "rmsprop\[lab\]"'):
        get("digits").load()
