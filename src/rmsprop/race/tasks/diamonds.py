"""Diamonds: the price from weight, measures, cut, colour and clarity; a 27-64-64-1 network, 6,017 parameters.

The network predicts log(price), standardised; R2 = 1 - sum (y - f)^2 / sum (y - mean y)^2 of log(price), so that a
share of the price counts alike for a cheap and a dear stone.

Source of the data: H. Wickham, ggplot2 (Springer, 2016), data set `diamonds`.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rmsprop.race import data as sources
from rmsprop.race.task import Budget, Data, Metric, Split
from rmsprop.race.tasks._learner import SplitLearner
from rmsprop.race.tasks._split import split_at_random
from rmsprop.race.tasks._torch import TorchTask, seeded

if TYPE_CHECKING:
    import torch

__all__ = ["TASK", "Diamonds", "features"]

BATCH = 128
SPLIT_SEED = 2016
SHARES = (0.7, 0.15, 0.15)
SHORT = 4000
METRIC = Metric(name="R2", better="higher", percent=False, target=0.98)
BUDGET = Budget(epochs=8, seeds=5, tuning_seeds=2, grid=(0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0))
QUICK = Budget(epochs=4, seeds=2, tuning_seeds=1, grid=(0.01, 0.1))
MEASURES = ("carat", "depth", "table", "x", "y", "z")
GRADES = {
    "cut": ("Fair", "Good", "Very Good", "Premium", "Ideal"),
    "color": ("D", "E", "F", "G", "H", "I", "J"),
    "clarity": ("I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"),
}


class Stones(NamedTuple):
    """Features, float32 of shape (n, 27), and standardised log prices, float32 of shape (n,)."""

    features: torch.Tensor
    prices: torch.Tensor


class Regression(SplitLearner):
    """A learner (see `rmsprop.race.task`) that predicts one number from (n, 27); the loss is the mean squared error."""

    def loss(self, batch: Stones) -> torch.Tensor:
        """Return the mean squared error."""
        import torch

        return torch.nn.functional.mse_loss(self.model(batch.features).squeeze(1), batch.prices)

    def score(self, split: Split) -> tuple[float, float]:
        """Return R2 and the mean squared error."""
        features, prices = self._splits[split]
        with self.evaluating():
            error = float((self.model(features).squeeze(1) - prices).square().mean())
        return 1 - error / float((prices - prices.mean()).square().mean()), error


@dataclasses.dataclass(frozen=True)
class Diamonds(TorchTask):
    """The task; `TASK` is the one instance."""

    name: str = "diamonds"
    title: str = "Prices of diamonds"
    model: str = "a 27-64-64-1 network with rectifiers; 6,017 parameters, batch 128"
    source: str = "53,940 diamonds, ten columns (H. Wickham, ggplot2, 2016), from the PyPI package plotnine"
    licence: str = "Data: MIT (ggplot2, plotnine)"
    notes: tuple[str, ...] = (
        "The table has some stones twice: 35 of the 8,091 test rows are exact copies of training rows.",
    )
    threads: int = 1
    metric: Metric = METRIC
    budget: Budget = BUDGET
    quick: Budget = QUICK
    needs: tuple[str, ...] = ("diamonds",)

    def load(self) -> Data:
        """Read the table and split it 70 : 15 : 15; means and spreads are the training part's.

        Raises:
            MissingDependency: It is not here, or torch is not.
            FileError: It is damaged.
        """
        self.ready()
        import torch

        raw = sources.read("diamonds", "diamonds.csv")
        x, y = features(raw.decode())
        parts = split_at_random(len(y), SHARES, seed=SPLIT_SEED, keep=SHORT if self.short else None)
        x, y = (_standardised(array, parts[0]) for array in (x, y))
        splits = {
            name: Stones(torch.from_numpy(x[part].astype(np.float32)), torch.from_numpy(y[part].astype(np.float32)))
            for name, part in zip(("train", "valid", "test"), parts, strict=True)
        }
        return Data(
            content=splits,
            sizes={name: len(part.prices) for name, part in splits.items()},
            versions={"torch": torch.__version__},
            fingerprint=hashlib.sha256(raw + np.concatenate(parts).astype("<i8").tobytes()).hexdigest()[:16],
        )

    def learner(self, data: Data, seed: int) -> Regression:
        """Build the network with the weights of `seed`."""
        from torch import nn

        with seeded(seed):
            model = nn.Sequential(
                nn.Linear(27, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
            )  # fmt: skip
        return Regression(model, data.content, seed, batch=BATCH, device=self.device)


def features(text: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Return the features and the logarithms of the prices, float64 of shapes (n, 27) and (n,).

    Six measures, the logarithm of the weight, and one column for each grade of cut, colour and clarity.

    Args:
        text: The table as comma-separated values with a heading.

    Example:
        >>> x, y = features("carat,cut,color,clarity,depth,table,price,x,y,z\n1,Fair,D,I1,61,55,100,4,4,2\n")
        >>> x.shape, float(np.exp(y[0]).round())
        ((1, 27), 100.0)
    """
    rows = list(csv.DictReader(io.StringIO(text)))
    measures = np.array([[float(row[name]) for name in MEASURES] for row in rows])
    columns: list[Any] = [measures, np.log(measures[:, :1])]
    for name, grades in GRADES.items():
        columns.append(np.eye(len(grades))[[grades.index(row[name]) for row in rows]])
    return np.concatenate(columns, axis=1), np.log([float(row["price"]) for row in rows])


def _standardised(array: NDArray[np.float64], by: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return it with mean 0 and standard deviation 1 over the rows `by`."""
    spread = array[by].std(axis=0)
    scaled: NDArray[np.float64] = (array - array[by].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return scaled


TASK = Diamonds()
