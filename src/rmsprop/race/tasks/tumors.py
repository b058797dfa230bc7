"""Breast tumors, benign or malignant: logistic regression in NumPy on features in the units they were measured in.

    z = x W + b;  loss = mean over the batch of -log softmax(z)[label]
    dW = x^T s;  db = sum s;  s = (softmax(z) - onehot(label)) / batch size

How it was chosen, before any score was seen: of scikit-learn's bundled data sets of real examples, which need no
download, it is the one whose features differ most in scale. The standard deviation of the worst area is 215,000 times
that of the error of the fractal dimension. RMSprop divides each coordinate by its own root mean square, so this is
where that can help; the metric is the loss, as 85 test examples are too few for an accuracy.

Source of the data: W. H. Wolberg, O. L. Mangasarian and W. N. Street, Breast Cancer Wisconsin (Diagnostic), UCI Machine
Learning Repository, 1995; 569 tumors with 30 features, in scikit-learn.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rmsprop.race.task import Data, Split, Task
from rmsprop.race.tasks import digits
from rmsprop.race.tasks.digits import F32, Examples, Weights

SPLIT_SEED = 1995


class Learner(digits.Learner):
    """A learner (see `rmsprop.race.task`): the weights start at zero, the seed decides the order of the batches."""

    def __init__(self, task: Task, splits: dict[str, Examples], seed: int) -> None:
        self._splits, self._seed = splits, seed
        self.params: Weights = {"w": np.zeros((splits["train"].images.shape[1], 2), np.float32)}
        self.params["b"] = np.zeros(2, np.float32)

    def gradients(self, batch: Examples) -> tuple[float, Weights]:
        """Return the loss and its gradient, a dict of the shapes of `params`."""
        x, labels = batch
        loss, s = digits.compute_residuals(self._forward(x)[1], labels)
        return loss, {"w": x.T @ s, "b": s.sum(axis=0)}

    def score(self, split: Split) -> tuple[float, float]:
        """Return the mean loss, which is the metric too."""
        _, loss = super().score(split)
        return loss, loss

    def _forward(self, x: F32) -> tuple[F32, F32]:
        return x, digits.log_softmax(x @ self.params["w"] + self.params["b"])


def load(task: Task) -> Data:
    """Read scikit-learn's breast cancer table and split it 70 : 15 : 15, each diagnosis in proportion."""
    features, labels = read_table()
    return digits.make_splits(features.astype(np.float32), labels, seed=SPLIT_SEED)


def read_table() -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return the features, shape (569, 30), as they were measured, and the diagnoses: 0 malignant, 1 benign."""
    digits.import_sklearn("the table of tumors")
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer(return_X_y=True)
