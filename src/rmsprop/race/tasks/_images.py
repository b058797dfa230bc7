"""What the image tasks share: the IDX files, their split, and a learner that reads labels off pictures."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rmsprop.errors import FileError
from rmsprop.race import data as sources
from rmsprop.race.task import Data
from rmsprop.race.tasks._learner import Classifier
from rmsprop.race.tasks._split import split_evenly
from rmsprop.race.tasks._torch import TorchTask, seeded

if TYPE_CHECKING:
    import torch

__all__ = ["ImageLearner", "ImageTask", "Pictures", "idx", "load"]

BATCH = 128
SPLIT_SEED = 2017
SHARES = (0.9, 0.1)
SHORT = 0.04
"""The part of each split that `--quick` keeps."""


class Pictures(NamedTuple):
    """Images, uint8 of shape (n, 28, 28), and labels, int64 of shape (n,), 0 to 9."""

    images: torch.Tensor
    labels: torch.Tensor


class ImageLearner(Classifier):
    """A classifier of pictures, from float32 of shape (n, 1, 28, 28) in [0, 1] to ten scores."""

    def scores(self, batch: Pictures) -> torch.Tensor:
        """Return ten scores for each picture."""
        found: torch.Tensor = self.model(batch.images.unsqueeze(1).float().div_(255))
        return found


@dataclasses.dataclass(frozen=True)
class ImageTask(TorchTask):
    """The base of a task over pictures: `needs` names the one source, and a subclass adds the network."""

    def load(self) -> Data:
        """Read the pictures; see the function `load`."""
        self.ready()
        return load(self.needs[0], short=self.short)

    def learner(self, data: Data, seed: int) -> ImageLearner:
        """Build the network with the weights of `seed`."""
        with seeded(seed):
            model = self.network()
        return ImageLearner(model, data.content, seed, batch=BATCH, device=self.device)

    def network(self) -> torch.nn.Module:
        """Return the network, from (n, 1, 28, 28) to (n, 10)."""
        raise NotImplementedError


def load(source: str, *, short: bool) -> Data:
    """Read the four files: 60,000 training images, of which every tenth of a class validates, and 10,000 test images.

    Args:
        source: A name in `rmsprop.race.sources` whose files are called like MNIST's.
        short: Keep a part of each split only.

    Raises:
        MissingDependency: They are not here, or torch is not.
        FileError: One is damaged.
    """
    import torch

    train, test = (
        (idx(sources.read(source, f"{kind}-images-idx3-ubyte")), idx(sources.read(source, f"{kind}-labels-idx1-ubyte")))
        for kind in ("train", "t10k")
    )
    keep, held = split_evenly(train[1], SHARES, seed=SPLIT_SEED)
    parts = {"train": (train, keep), "valid": (train, held), "test": (test, np.arange(len(test[1])))}
    splits, digest = {}, hashlib.sha256()
    for name, ((images, labels), chosen) in parts.items():
        if short:
            chosen = chosen[split_evenly(labels[chosen], (SHORT, 1 - SHORT), seed=SPLIT_SEED)[0]]  # noqa: PLW2901
        digest.update(images[chosen].tobytes())
        digest.update(labels[chosen].tobytes())
        splits[name] = Pictures(torch.from_numpy(images[chosen]), torch.from_numpy(labels[chosen].astype(np.int64)))
    return Data(
        content=splits,
        sizes={name: len(part.labels) for name, part in splits.items()},
        versions={"torch": torch.__version__},
        fingerprint=digest.hexdigest()[:16],
    )


def idx(raw: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Read the IDX format: two zeros, the type (8: bytes), the number of axes, each length as 4 bytes, the numbers.

    Args:
        raw: The file's content, unpacked.

    Raises:
        FileError: It is none, or not of bytes, or too short.

    Example:
        >>> idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
        array([7, 8, 9], dtype=uint8)
    """
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise FileError("not an IDX file of bytes: it should begin with 0, 0, 8")
    start = 4 + 4 * raw[3]
    shape = tuple(int.from_bytes(raw[at : at + 4], "big") for at in range(4, start, 4))
    if len(raw) != start + int(np.prod(shape)):
        raise FileError(f"an IDX file of shape {shape} has {start + int(np.prod(shape))} bytes, this one {len(raw)}")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape).copy()
