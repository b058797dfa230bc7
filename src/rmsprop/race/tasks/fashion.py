"""Fashion-MNIST: a small convolutional network, 105,866 parameters.

Source of the data: H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking machine
learning algorithms, arXiv:1708.07747.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from rmsprop.race.task import Budget, Metric
from rmsprop.race.tasks._images import ImageTask

if TYPE_CHECKING:
    import torch

__all__ = ["TASK", "Fashion"]

METRIC = Metric(name="accuracy", better="higher", percent=True, target=0.87)
BUDGET = Budget(epochs=3, seeds=3, tuning_seeds=1, grid=(0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3))
QUICK = Budget(epochs=2, seeds=2, tuning_seeds=1, grid=(0.001, 0.1))


@dataclasses.dataclass(frozen=True)
class Fashion(ImageTask):
    """The task; `TASK` is the one instance."""

    name: str = "fashion"
    title: str = "Pictures of clothes"
    model: str = (
        "two convolutions of 3 x 3 with 16 and 32 channels, each with rectifier and pooling, then 64 units; "
        "105,866 parameters, batch 128"
    )
    source: str = "Fashion-MNIST, 70,000 pictures of 28 x 28 pixels in ten classes (Xiao and others, arXiv:1708.07747)"
    licence: str = "Data: MIT (Zalando SE)"
    metric: Metric = METRIC
    budget: Budget = BUDGET
    quick: Budget = QUICK
    needs: tuple[str, ...] = ("fashion",)

    def network(self) -> torch.nn.Module:
        """Return the network, from (n, 1, 28, 28) to (n, 10)."""
        from torch import nn

        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, 10),
        )  # fmt: skip


TASK = Fashion()
