"""Handwritten digits: a 64-64-10 network in NumPy, 4,810 float32 parameters.

    h = max(x W1 + b1, 0);  z = h W2 + b2;  loss = mean over the batch of -log softmax(z)[label]

Backward, with s = softmax(z) - onehot(label), divided by the batch size:

    dW2 = h^T s;  db2 = sum s;  dh = (s W2^T) where h > 0;  dW1 = x^T dh;  db1 = sum dh

Source of the data: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
Repository, 1998; the 1,797 images of 8 x 8 pixels that scikit-learn carries.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rmsprop.errors import MissingDependency
from rmsprop.race.task import Budget, Data, Framework, Metric, Split
from rmsprop.race.tasks._split import split_evenly

__all__ = ["TASK", "Digits", "Network"]

F32 = NDArray[np.float32]
Weights = dict[str, F32]

BATCH = 32
HIDDEN = 64
SPLIT_SEED = 1998
SHARES = (0.7, 0.15, 0.15)
METRIC = Metric(name="accuracy", better="higher", percent=True, target=0.96)
BUDGET = Budget(epochs=30, seeds=5, tuning_seeds=4, grid=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0))
QUICK = Budget(epochs=8, seeds=2, tuning_seeds=1, grid=(0.001, 0.01, 0.1, 1.0))


class Examples(NamedTuple):
    """Images, shape (n, 64), float32 in [0, 1], and labels, shape (n,), integers 0 to 9."""

    images: F32
    labels: NDArray[np.intp]


class Network:
    """A learner (see `rmsprop.race.task`) over the digits.

    Args:
        splits: "train", "valid" and "test" examples. Read.
        seed: Of the initial weights and of the order of the batches.
    """

    def __init__(self, splits: dict[str, Examples], seed: int) -> None:
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
        """Yield the training examples once, in an order drawn from the seed and the epoch."""
        images, labels = self._splits["train"]
        order = np.random.default_rng([self._seed, epoch]).permutation(len(labels))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            yield Examples(images[chosen], labels[chosen])

    def gradients(self, batch: Examples) -> tuple[float, Weights]:
        """Return the loss and its gradient, a dict of the shapes of `params`."""
        x, labels = batch
        hidden, logp = self._forward(x)
        rows = np.arange(len(labels))
        loss = -float(logp[rows, labels].mean())
        s = np.exp(logp)
        s[rows, labels] -= 1
        s /= np.float32(len(labels))
        dh = np.where(hidden > 0, s @ self.params["w2"].T, np.float32(0))
        return loss, {"w1": x.T @ dh, "b1": dh.sum(axis=0), "w2": hidden.T @ s, "b2": s.sum(axis=0)}

    def score(self, split: Split) -> tuple[float, float]:
        """Return the share of images recognised and the mean loss."""
        images, labels = self._splits[split]
        _, logp = self._forward(images)
        return float((logp.argmax(axis=1) == labels).mean()), -float(logp[np.arange(len(labels)), labels].mean())

    def culprit(self, grads: Weights) -> str:
        """Name the weight, else the gradient, that is not finite; of several the one nearest to the loss.

        They overflow on the way back from there.
        """
        for kind, tree in (("", self.params), ("the gradient of ", grads)):
            for name, array in reversed(tree.items()):
                if not np.isfinite(array).all():
                    return kind + name
        return "the loss"

    def _forward(self, x: F32) -> tuple[F32, F32]:
        hidden = np.maximum(x @ self.params["w1"] + self.params["b1"], 0)
        z = hidden @ self.params["w2"] + self.params["b2"]
        # Subtracting the row's maximum changes no probability and keeps exp finite.
        z = z - z.max(axis=1, keepdims=True)
        return hidden, z - np.log(np.exp(z).sum(axis=1, keepdims=True))


@dataclasses.dataclass(frozen=True)
class Digits:
    """The task; `TASK` is the one instance."""

    name: str = "digits"
    title: str = "Handwritten digits"
    model: str = "a 64-64-10 network in NumPy: one hidden layer, rectifier, softmax; 4,810 float32 parameters, batch 32"
    source: str = (
        "1,797 real handwritten digits of 8 x 8 pixels, as carried by scikit-learn (E. Alpaydin and C. Kaynak, "
        "Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998)"
    )
    licence: str = "Data: CC BY 4.0 (UCI); carried by scikit-learn under BSD-3-Clause"
    notes: tuple[str, ...] = (
        "The same 13 people wrote the training, validation and test images: these accuracies say how fast and how "
        "surely an optimizer learns, not how well strangers' digits would be read.",
    )
    framework: Framework = "numpy"
    metric: Metric = METRIC
    budget: Budget = BUDGET
    quick: Budget = QUICK

    def load(self) -> Data:
        """Read scikit-learn's digits and split them 70 : 15 : 15, each digit in proportion, always alike.

        Raises:
            MissingDependency: scikit-learn is not installed.
        """
        try:
            import sklearn
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise MissingDependency.of("scikit-learn", extra="lab", purpose="the digits' images") from error
        images, labels = load_digits(return_X_y=True)
        images = (images / 16).astype(np.float32)
        parts = split_evenly(labels, SHARES, seed=SPLIT_SEED)
        splits = {
            name: Examples(images[part], labels[part].astype(np.intp))
            for name, part in zip(("train", "valid", "test"), parts, strict=True)
        }
        digest = hashlib.sha256()
        for part in splits.values():
            digest.update(part.images.tobytes())
            digest.update(part.labels.astype(np.int8).tobytes())
        return Data(
            content=splits,
            sizes={name: len(part.labels) for name, part in splits.items()},
            versions={"numpy": np.__version__, "scikit-learn": sklearn.__version__},
            fingerprint=digest.hexdigest()[:16],
        )

    def learner(self, data: Data, seed: int) -> Network:
        """Build the network with the weights of `seed`."""
        return Network(data.content, seed)

    def session(self) -> AbstractContextManager[Any]:
        """Hold NumPy's matrix products to one thread: these are too small to share."""
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        return threadpool_limits(limits=1)


TASK = Digits()
