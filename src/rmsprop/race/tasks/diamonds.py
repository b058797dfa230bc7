"""Diamonds: the price from weight, measures, cut, color and clarity.

The network predicts log(price), standardized; R2 = 1 - sum (y - f)^2 / sum (y - mean y)^2 of log(price), so that a
share of the price counts alike for a cheap and an expensive diamond.

Source of the data: H. Wickham, ggplot2 (Springer, 2016), data set `diamonds`.
"""

from __future__ import annotations

import csv
import io
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from rmsprop.race import data
from rmsprop.race.task import Data, Split, TorchTask
from rmsprop.race.tasks._learner import TorchLearner, make_torch_data, split_arrays
from rmsprop.race.tasks._split import split_at_random

SPLIT_SEED = 2016
SHORT = 4000
MEASURES = ("carat", "depth", "table", "x", "y", "z")
GRADES = {
    "cut": ("Fair", "Good", "Very Good", "Premium", "Ideal"),
    "color": ("D", "E", "F", "G", "H", "I", "J"),
    "clarity": ("I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"),
}


class Diamonds(NamedTuple):
    """Features, float32 of shape (n, 27), and standardized log prices, float32 of shape (n,)."""

    features: Tensor
    prices: Tensor


class Learner(TorchLearner):
    """A learner of one number; the loss is the mean squared error."""

    batch = 128

    def build(self, spec: None) -> nn.Module:
        return nn.Sequential(nn.Linear(27, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))

    def loss(self, batch: Diamonds) -> Tensor:
        return nn.functional.mse_loss(self.model(batch.features).squeeze(1), batch.prices)

    def evaluate(self, split: Split) -> tuple[float, float]:
        """Return R2 and the mean squared error."""
        features, prices = self._splits[split]
        error = float((self.model(features).squeeze(1) - prices).square().mean())
        return 1 - error / float((prices - prices.mean()).square().mean()), error


def load(task: TorchTask) -> Data:
    """Read the table and split it 70 : 15 : 15."""
    raw = data.read("diamonds", "diamonds.csv")
    x, y = make_features(raw.decode())
    parts = split_at_random(len(y), (0.7, 0.15, 0.15), seed=SPLIT_SEED, keep=SHORT if task.short else None)
    arrays = [_standardize(array, parts["train"]).astype(np.float32) for array in (x, y)]
    return make_torch_data(
        split_arrays(Diamonds, arrays, parts), [raw, *(part.astype("<i8").tobytes() for part in parts.values())]
    )


def make_features(text: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Return the features and the logarithms of the prices, float64 of shapes (n, 27) and (n,).

    Six measures, the logarithm of the weight, and one column for each grade of cut, color and clarity. `text` is the
    table as comma-separated values with a heading.

    Example:
        >>> x, y = make_features("carat,cut,color,clarity,depth,table,price,x,y,z\n1,Fair,D,I1,61,55,100,4,4,2\n")
        >>> x.shape, float(np.exp(y[0]).round())
        ((1, 27), 100.0)
    """
    rows = list(csv.DictReader(io.StringIO(text)))
    measures = np.array([[float(row[name]) for name in MEASURES] for row in rows])
    columns: list[Any] = [measures, np.log(measures[:, :1])]
    for name, grades in GRADES.items():
        columns.append(np.eye(len(grades))[[grades.index(row[name]) for row in rows]])
    return np.concatenate(columns, axis=1), np.log([float(row["price"]) for row in rows])


def _standardize(array: NDArray[np.float64], train: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the array with mean 0 and standard deviation 1 over the training rows."""
    std = array[train].std(axis=0)
    return (array - array[train].mean(axis=0)) / np.where(std > 0, std, 1.0)
