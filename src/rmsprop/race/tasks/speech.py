"""Speech: which of nine men says "ae"? A recurrent network over twelve numbers per frame.

    h = mean over t of GRU(x)[t], both directions;  loss = mean of -log softmax(W h + b)[speaker]

Source of the data: M. Kudo, J. Toyama and M. Shimbo, Multidimensional Curve Classification Using Passing-Through
Regions, Pattern Recognition Letters 20, 1999: Japanese Vowels, by way of the UCI Machine Learning Repository.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rmsprop.race import data
from rmsprop.race.task import Data, TorchTask
from rmsprop.race.tasks._learner import Classifier, make_torch_data, run_gru
from rmsprop.race.tasks._split import split_evenly

HIDDEN, SPEAKERS, COEFFICIENTS, LONGEST = 64, 9, 12, 29
SPLIT_SEED = 1999


class Utterances(NamedTuple):
    """Float32 frames, shape (n, longest, width), zero after the end; lengths and speakers, int64, shape (n,)."""

    frames: Tensor
    lengths: Tensor
    speakers: Tensor


class Learner(Classifier):
    """A learner of who speaks."""

    batch = 16

    def build(self, spec: None) -> nn.Module:
        gru = nn.GRU(COEFFICIENTS, HIDDEN, batch_first=True, bidirectional=True)
        return nn.ModuleDict({"gru": gru, "output": nn.Linear(2 * HIDDEN, SPEAKERS)})

    def predict(self, batch: Utterances) -> Tensor:
        hidden, _ = run_gru(self.model["gru"], batch.frames, batch.lengths)
        return self.model["output"](hidden.sum(dim=1) / batch.lengths.unsqueeze(1))


def load(task: TorchTask) -> Data:
    """Read the published training and test parts; 54 of the 270 training utterances become the validation split."""
    frames, lengths, speakers = read_utterances("TRAIN")
    parts = split_evenly(speakers, (0.8, 0.2), seed=SPLIT_SEED)
    arrays = {name: (frames[part], lengths[part], speakers[part]) for name, part in parts.items()}
    arrays["test"] = read_utterances("TEST")
    # Standardized with the mean and standard deviation of the training frames alone.
    train = arrays["train"]
    spoken = np.concatenate([rows[:length] for rows, length in zip(train[0], train[1], strict=True)])
    mean, std = spoken.mean(axis=0), spoken.std(axis=0)
    splits, digest_of = {}, []
    for name, (raw, counts, labels) in arrays.items():
        is_frame = np.arange(LONGEST)[None, :, None] < counts[:, None, None]
        scaled = np.where(is_frame, (raw - mean) / std, 0).astype(np.float32)
        splits[name] = Utterances(*map(torch.from_numpy, (scaled, counts, labels)))
        digest_of += [array.tobytes() for array in (scaled, counts, labels)]
    return make_torch_data(splits, digest_of, numpy=np.__version__)


def read_utterances(part: str) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the frames of "TRAIN" or "TEST", (n, LONGEST, 12), padded with zeros; lengths and speakers, shape (n,)."""
    text = data.read("speech", f"JapaneseVowels_{part}.ts").decode("ascii")
    # A line is an utterance: twelve rows of frames and the speaker, separated by colons.
    lines = [line.split(":") for line in text.partition("@data\n")[2].strip().splitlines()]
    frames = np.zeros((len(lines), LONGEST, COEFFICIENTS))
    lengths = np.zeros(len(lines), np.int64)
    for k, line in enumerate(lines):
        rows = np.array([[float(value) for value in row.split(",")] for row in line[:-1]])
        lengths[k] = rows.shape[1]
        frames[k, : rows.shape[1]] = rows.T
    return frames, lengths, np.array([int(line[-1]) - 1 for line in lines], np.int64)
