"""Handwritten digits: a 64-64-10 network in NumPy.

    h = max(x W1 + b1, 0);  z = h W2 + b2;  loss = mean over the batch of -log softmax(z)[label]

Backward, with s = softmax(z) - onehot(label), divided by the batch size:

    dW2 = h^T s;  db2 = sum s;  dh = (s W2^T) where h > 0;  dW1 = x^T dh;  db1 = sum dh

Source of the data: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
Repository, 1998; the 1,797 images of 8 x 8 pixels in scikit-learn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rmsprop.race.task import Data, Split, Task, import_package, make_data
from rmsprop.race.tasks._split import split_evenly

F32 = NDArray[np.float32]
Weights = dict[str, F32]

BATCH = 32
HIDDEN = 64
SPLIT_SEED = 1998


class Examples(NamedTuple):
    """Images, shape (n, 64), float32 in [0, 1], and labels, shape (n,), integers 0 to 9."""

    images: F32
    labels: NDArray[np.intp]


class Learner:
    """A learner (see `rmsprop.race.task`); the seed decides the initial weights and the order of the batches."""

    def __init__(self, task: Task, splits: dict[str, Examples], seed: int) -> None:
        self._splits = splits
        self._seed = seed
        rng = np.random.default_rng(seed)
        pixels, classes = splits["train"].images.shape[1], 10
        # Weights of variance 2 / fan-in keep the size of the signal through a rectifier (He et al., 2015).
        self.params: Weights = {
            "w1": rng.normal(0.0, np.sqrt(2 / pixels), (pixels, HIDDEN)).astype(np.float32),
            "b1": np.zeros(HIDDEN, np.float32),
            "w2": rng.normal(0.0, np.sqrt(2 / HIDDEN), (HIDDEN, classes)).astype(np.float32),
            "b2": np.zeros(classes, np.float32),
        }

    def batches(self, epoch: int) -> Iterator[Examples]:
        """Yield every training example once, in random order from the seed and the epoch."""
        images, labels = self._splits["train"]
        order = np.random.default_rng([self._seed, epoch]).permutation(len(labels))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            yield Examples(images[chosen], labels[chosen])

    def gradients(self, batch: Examples) -> tuple[float, Weights]:
        """Return the loss and its gradient, a dict of the shapes of `params`."""
        x, labels = batch
        hidden, logp = self._forward(x)
        loss, s = compute_residuals(logp, labels)
        dh = np.where(hidden > 0, s @ self.params["w2"].T, np.float32(0))
        return loss, {"w1": x.T @ dh, "b1": dh.sum(axis=0), "w2": hidden.T @ s, "b2": s.sum(axis=0)}

    def score(self, split: Split) -> tuple[float, float]:
        """Return the accuracy and the mean loss."""
        images, labels = self._splits[split]
        _, logp = self._forward(images)
        return float((logp.argmax(axis=1) == labels).mean()), -float(logp[np.arange(len(labels)), labels].mean())

    def find_nonfinite(self, grads: Weights) -> str:
        """Name the weight, else the gradient, that is not finite; of several the one nearest to the loss.

        Values overflow on the way back from there.
        """
        for kind, tree in (("", self.params), ("the gradient of ", grads)):
            for name, array in reversed(tree.items()):
                if not np.isfinite(array).all():
                    return kind + name
        return "the loss"

    def _forward(self, x: F32) -> tuple[F32, F32]:
        hidden = np.maximum(x @ self.params["w1"] + self.params["b1"], 0)
        return hidden, log_softmax(hidden @ self.params["w2"] + self.params["b2"])


def log_softmax(z: F32) -> F32:
    """Return the logarithms of the probabilities, row by row."""
    # Subtracting the row's maximum changes no probability and keeps exp finite.
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def compute_residuals(logp: F32, labels: NDArray[np.intp]) -> tuple[float, F32]:
    """Return the mean loss of a batch and its gradient by the logits, of the shape of `logp`."""
    rows = np.arange(len(labels))
    s = np.exp(logp)
    s[rows, labels] -= 1
    s /= np.float32(len(labels))
    return -float(logp[rows, labels].mean()), s


def load(task: Task) -> Data:
    """Read scikit-learn's digits and split them 70 : 15 : 15, each digit in proportion."""
    import_sklearn("the digits' images")
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return make_splits((images / 16).astype(np.float32), labels, seed=SPLIT_SEED)


def import_sklearn(purpose: str) -> Any:
    """Import scikit-learn, or raise MissingDependency."""
    return import_package("sklearn", extra="lab", purpose=purpose, package="scikit-learn")


def make_splits(rows: F32, labels: NDArray[Any], *, seed: int) -> Data:
    """Split examples 70 : 15 : 15, each label in proportion."""
    parts = split_evenly(labels, (0.7, 0.15, 0.15), seed=seed)
    splits = {name: Examples(rows[part], labels[part].astype(np.intp)) for name, part in parts.items()}
    digest_of = [array.tobytes() for part in splits.values() for array in (part.images, part.labels.astype(np.int8))]
    versions = {"numpy": np.__version__, "scikit-learn": import_sklearn("the table").__version__}
    return make_data(splits, {name: len(part.labels) for name, part in splits.items()}, digest_of, **versions)
