"""Fashion-MNIST and MNIST: the files as published, and splits without overlap."""

import numpy as np
import pytest
from task_data import load

from rmsprop.race import data as task_data

torch = pytest.importorskip("torch")

# Of the training labels 0 to 9, as published with the sets.
COUNTS = {
    "fashion": [6000] * 10,
    "mnist": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
}


@pytest.fixture(scope="module", params=list(COUNTS))
def full_task(request):
    return load(request.param)


def test_the_sizes_and_the_classes_are_the_published_ones(full_task):
    task, data = full_task
    assert data.sizes == {"train": 54_000, "valid": 6_000, "test": 10_000}
    train, valid = (torch.bincount(data.content.splits[name].labels) for name in ("train", "valid"))
    assert (train + valid).tolist() == COUNTS[task.name]
    assert ((valid / (train + valid)) - 0.1).abs().max() < 0.001


@pytest.mark.slow
def test_every_image_is_in_one_split_only(full_task):
    task, data = full_task
    ours = np.concatenate([data.content.splits[name].images.numpy() for name in ("train", "valid")])
    raw = np.frombuffer(task_data.read(task.name, "train-images-idx3-ubyte"), np.uint8, offset=16)
    key = np.random.default_rng(0).integers(1, 2**31, 784)
    assert np.array_equal(*(np.sort(part.reshape(-1, 784).astype(np.int64) @ key) for part in (ours, raw)))


def test_the_data_of_quick_are_a_small_part_with_all_classes(full_task):
    task, data = full_task
    _, short = load(task.name, short=True)
    assert all(0.03 < short.sizes[name] / data.sizes[name] < 0.05 for name in data.sizes)
    assert len(torch.bincount(short.content.splits["test"].labels)) == 10


@pytest.mark.slow
def test_accuracy_and_loss_by_hand(full_task):
    task, data = full_task
    learner = task.learner(data, 0)
    # All weights 0 and one bias: every image is given class 3, with a known probability.
    for param in learner.params:
        param.data.zero_()
    learner.params[-1].data[3] = np.log(2.0)
    with task.session():
        accuracy, loss = learner.score("test")
    assert accuracy == {"fashion": 0.1, "mnist": 0.101}[task.name]
    # Of eleven parts class 3 has two: -log(2/11) for its own images, -log(1/11) for the others.
    assert loss == pytest.approx(np.log(11) - accuracy * np.log(2), rel=1e-5)
