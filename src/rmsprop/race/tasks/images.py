"""Fashion-MNIST and MNIST: images of 28 x 28 pixels in ten classes.

Sources of the data: H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking machine
learning algorithms, arXiv:1708.07747; Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Gradient-based learning applied to
document recognition, Proceedings of the IEEE 86 (1998).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rmsprop.race import data
from rmsprop.race.task import Data, TorchTask
from rmsprop.race.tasks._learner import Classifier, make_torch_data
from rmsprop.race.tasks._split import split_evenly

SPLIT_SEED = 2017
SHORT = 0.04
"""The part of each split that `--quick` keeps."""


class Images(NamedTuple):
    """Images, uint8 of shape (n, 28, 28), and labels, int64 of shape (n,), 0 to 9."""

    images: Tensor
    labels: Tensor


class Learner(Classifier):
    """A convolutional network for fashion, a fully connected one for mnist."""

    batch = 128

    def build(self, spec: None) -> nn.Module:
        if self.task.name == "mnist":
            return nn.Sequential(
                nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)
            )
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, 10),
        )  # fmt: skip

    def predict(self, batch: Images) -> Tensor:
        return self.model(batch.images.unsqueeze(1).float().div_(255))


def load(task: TorchTask) -> Data:
    """Read 60,000 training images, of which a tenth of each class is for validation, and 10,000 test images."""
    arrays = {}
    for kind in ("train", "t10k"):
        # IDX files: the type and the lengths of the axes, 4 bytes each, then the numbers.
        images = np.frombuffer(data.read(task.name, f"{kind}-images-idx3-ubyte"), np.uint8, offset=16)
        labels = np.frombuffer(data.read(task.name, f"{kind}-labels-idx1-ubyte"), np.uint8, offset=8)
        arrays[kind] = images.reshape(-1, 28, 28), labels
    parts = split_evenly(arrays["train"][1], (0.9, 0.1), seed=SPLIT_SEED) | {"test": np.arange(len(arrays["t10k"][1]))}
    splits, digest_of = {}, []
    for name, part in parts.items():
        images, labels = (array[part] for array in arrays["t10k" if name == "test" else "train"])
        if task.short:
            few = split_evenly(labels, (SHORT, 1 - SHORT), seed=SPLIT_SEED)["train"]
            images, labels = images[few], labels[few]
        digest_of += [images.tobytes(), labels.tobytes()]
        splits[name] = Images(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))
    return make_torch_data(splits, digest_of)
