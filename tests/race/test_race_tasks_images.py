"""Fashion-MNIST and MNIST: the files as their makers published them, and a split without overlap."""

import dataclasses

import numpy as np
import pytest

from rmsprop.errors import FileError, MissingDependency
from rmsprop.race import data as sources
from rmsprop.race import get
from rmsprop.race.tasks._images import idx

torch = pytest.importorskip("torch")

TASKS = ["fashion", "mnist"]
# Of the training labels 0 to 9, as published with the sets.
COUNTS = {
    "fashion": [6000] * 10,
    "mnist": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
}


@pytest.fixture(scope="module", params=TASKS)
def whole(request):
    task = get(request.param)
    try:
        return task, task.load()
    except MissingDependency as error:
        pytest.skip(str(error))


def test_the_sizes_and_the_classes_are_the_published_ones(whole):
    task, data = whole
    assert (
        data.sizes
        == {"train": 54_000, "valid": 6_000, "test": 10_000}
        == {name: len(part.labels) for name, part in data.content.items()}
    )
    together = torch.cat([data.content[name].labels for name in ("train", "valid")])
    assert torch.bincount(together).tolist() == COUNTS[task.name]


def test_every_picture_is_in_one_part_only(whole):
    task, data = whole
    ours = np.concatenate([data.content[name].images.numpy() for name in ("train", "valid")])
    file = idx(sources.read(task.name, "train-images-idx3-ubyte"))
    key = np.random.default_rng(0).integers(1, 2**31, 784)
    sums = [np.sort(part.reshape(-1, 784).astype(np.int64) @ key) for part in (ours, file)]
    assert np.array_equal(*sums)


def test_every_class_validates_in_proportion(whole):
    _, data = whole
    train, valid = (torch.bincount(data.content[name].labels) for name in ("train", "valid"))
    assert ((valid / (train + valid)) - 0.1).abs().max() < 0.001


def test_the_short_form_is_a_part_of_the_whole_and_another_race(whole):
    task, data = whole
    short = dataclasses.replace(task, short=True).load()
    assert short.fingerprint != data.fingerprint
    assert all(0.03 < short.sizes[name] / data.sizes[name] < 0.05 for name in data.sizes)
    assert len(torch.bincount(short.content["test"].labels)) == 10


def test_accuracy_is_the_share_of_right_answers(whole):
    task, data = whole
    learner = task.learner(data, 0)
    # All weights 0 and one bias: every picture is said to be of class 3, with a known probability.
    for param in learner.params:
        param.data.zero_()
    learner.params[-1].data[3] = np.log(2.0)
    accuracy, loss = learner.score("test")
    assert accuracy == 0.1 if task.name == "fashion" else accuracy == 0.101
    # Of eleven parts class 3 has two: -log(2/11) for its own pictures, -log(1/11) for the others.
    assert loss == pytest.approx(np.log(11) - accuracy * np.log(2), rel=1e-5)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not an IDX file"),
        (b"\0\0\x0d\1\0\0\0\1\0", "not an IDX file of bytes"),
        (b"\0\0\x08\1\0\0\0\3ab", "has 11 bytes, this one 10"),
    ],
)
def test_a_file_that_is_no_idx_is_refused(raw, reason):
    with pytest.raises(FileError, match=reason):
        idx(raw)


def test_idx_keeps_the_order_of_axes():
    assert idx(b"\0\0\x08\2\0\0\0\2\0\0\0\3" + bytes(range(6))).tolist() == [[0, 1, 2], [3, 4, 5]]
