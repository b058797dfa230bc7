"""Speech: who of nine men says "ae"? A recurrent network over twelve numbers per frame; 31,113 float32 parameters.

    h = mean over t of GRU(x)[t], both directions;  loss = mean of -log softmax(W h + b)[speaker]

Source of the data: M. Kudo, J. Toyama and M. Shimbo, Multidimensional Curve Classification Using Passing-Through
Regions, Pattern Recognition Letters 20, 1999: Japanese Vowels, by way of the UCI Machine Learning Repository.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rmsprop.errors import FileError
from rmsprop.race import data as sources
from rmsprop.race.task import Budget, Data, Metric
from rmsprop.race.tasks._learner import Classifier
from rmsprop.race.tasks._split import split_evenly
from rmsprop.race.tasks._torch import TorchTask, seeded

if TYPE_CHECKING:
    import torch

__all__ = ["TASK", "Listener", "Voices", "utterances"]

BATCH, HIDDEN = 16, 64
SPEAKERS, COEFFICIENTS, LONGEST = 9, 12, 29
SHARES = (0.8, 0.2)
SPLIT_SEED = 1999
METRIC = Metric(name="accuracy", better="higher", percent=True, target=0.93)
BUDGET = Budget(epochs=15, seeds=5, tuning_seeds=2, grid=(0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0))
QUICK = Budget(epochs=4, seeds=1, tuning_seeds=1, grid=(0.003, 0.3))


class Examples(NamedTuple):
    """Sounds: float32 frames, shape (n, longest, width), zero after the end; lengths and classes, int64, shape (n,)."""

    frames: torch.Tensor
    lengths: torch.Tensor
    classes: torch.Tensor


class Listener(Classifier):
    """A learner (see `rmsprop.race.task`) over sounds of several classes.

    Args:
        splits: "train", "valid" and "test". Read.
        seed: Of the initial weights and of the order of the batches.
        device: Where it trains.
        shape: Numbers per frame, units in each direction, classes, and filters in front if there are any.
        batch: Utterances per step.
    """

    def __init__(
        self,
        splits: Mapping[str, Examples],
        seed: int,
        *,
        device: str = "cpu",
        shape: tuple[int, ...] = (COEFFICIENTS, HIDDEN, SPEAKERS),
        batch: int = BATCH,
    ) -> None:
        from rmsprop.race.tasks._models import Recogniser

        with seeded(seed):
            model = Recogniser(*shape)
        super().__init__(model, splits, seed, batch=batch, device=device)

    def scores(self, batch: Examples) -> torch.Tensor:
        """Return a score for each class."""
        found: torch.Tensor = self.model(batch.frames, batch.lengths)
        return found


@dataclasses.dataclass(frozen=True)
class Voices(TorchTask):
    """The task; `TASK` is the one instance."""

    name: str = "speech"
    title: str = "Speakers by their voices"
    model: str = "a GRU of 64 units both ways in PyTorch, averaged over time; 31,113 float32 parameters, batch 16"
    source: str = (
        "Japanese Vowels: 640 utterances of nine men, 12 coefficients in 7 to 29 frames (M. Kudo, J. Toyama and M. "
        "Shimbo, 1999), from PyPI's aeon 1.6.0"
    )
    licence: str = "Data: CC BY 4.0 (UCI); carried by aeon under BSD-3-Clause"
    notes: tuple[str, ...] = (
        "Speaker identification: who speaks is asked, not what is said.",
        "The published split: the same nine men speak in training and test. A fifth of the published training part is "
        "kept for validation.",
    )
    metric: Metric = METRIC
    budget: Budget = BUDGET
    quick: Budget = QUICK
    # Its matrices are too small to share: a second thread would spend its time waiting.
    threads: int = 1
    needs: tuple[str, ...] = ("speech",)

    def load(self) -> Data:
        """Read the published training and test parts; 54 of the 270 training utterances become the validation split.

        Raises:
            MissingDependency: The utterances or torch are not here.
            FileError: A file is damaged.
        """
        self.ready()
        import torch

        frames, lengths, speakers = utterances("TRAIN")
        train, valid = split_evenly(speakers, SHARES, seed=SPLIT_SEED)
        # In the units of the training frames alone: the test is not looked at.
        heard = np.concatenate([one[:length] for one, length in zip(frames[train], lengths[train], strict=True)])
        mean, spread = heard.mean(axis=0), heard.std(axis=0)
        parts = {
            "train": (frames[train], lengths[train], speakers[train]),
            "valid": (frames[valid], lengths[valid], speakers[valid]),
            "test": utterances("TEST"),
        }
        digest = hashlib.sha256()
        splits = {}
        for name, (raw, counts, who) in parts.items():
            there = np.arange(LONGEST)[None, :, None] < counts[:, None, None]
            scaled = np.where(there, (raw - mean) / spread, 0).astype(np.float32)
            splits[name] = Examples(*(torch.from_numpy(array) for array in (scaled, counts, who)))
            for array in (scaled, counts, who):
                digest.update(array.tobytes())
        return Data(
            content=splits,
            sizes={name: len(part.classes) for name, part in splits.items()},
            versions={"torch": str(torch.__version__), "numpy": np.__version__},
            fingerprint=digest.hexdigest()[:16],
        )

    def learner(self, data: Data, seed: int) -> Listener:
        """Build the model with the weights of `seed`."""
        return Listener(data.content, seed, device=self.device)


def utterances(part: str) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return frames, shape (n, LONGEST, 12), padded with zeros; lengths and speakers, shape (n,).

    Args:
        part: "TRAIN" or "TEST".

    Raises:
        MissingDependency: They are not here.
        FileError: The file is damaged.
    """
    text = sources.read("speech", f"JapaneseVowels_{part}.ts").decode("ascii")
    _, found, body = text.partition("@data\n")
    if not found:
        raise FileError(f"JapaneseVowels_{part}.ts has no line @data: expected a time series file of aeon's")
    # A line is one utterance: twelve rows of frames and the speaker, parted by colons.
    lines = [line.split(":") for line in body.strip().splitlines()]
    frames = np.zeros((len(lines), LONGEST, COEFFICIENTS))
    lengths = np.zeros(len(lines), np.int64)
    for k, line in enumerate(lines):
        rows = np.array([[float(value) for value in row.split(",")] for row in line[:-1]])
        lengths[k] = rows.shape[1]
        frames[k, : rows.shape[1]] = rows.T
    return frames, lengths, np.array([int(line[-1]) - 1 for line in lines], np.int64)


TASK = Voices()
