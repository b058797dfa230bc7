"""Spoken digits: learned from a synthesiser, tried on a human; 28,458 float32 parameters.

    y = max(convolution of x over five frames, 0);  h = mean over t of GRU(y)[t], both directions
    loss = mean of -log softmax(W h + b)[digit]

x[t] is the log power in 24 mel bands, 100 times a second. A synthesiser speaks more evenly than people do, so the clips
are disturbed: noise, bands that are missing, and bands moved up or down as another throat would. A demonstration: the
test is ten recordings of one voice.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

import numpy as np

from rmsprop.race.task import Budget, Data, Metric
from rmsprop.race.tasks._torch import TorchTask
from rmsprop.race.tasks._voices import BANDS, VARIANTS, human, synthetic
from rmsprop.race.tasks.speech import Examples, Listener

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

__all__ = ["TASK", "Pupil", "SpokenDigits"]

BATCH = 32
NOISE, GAP, SHIFT = 0.5, 8, 2
SHAPE = (BANDS, 48, 10, 32)
METRIC = Metric(name="accuracy", better="higher", percent=True, target=0.7)
BUDGET = Budget(epochs=8, seeds=5, tuning_seeds=2, grid=(0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0))
QUICK = Budget(epochs=2, seeds=1, tuning_seeds=1, grid=(0.003, 0.3))


class Pupil(Listener):
    """A learner (see `rmsprop.race.task`) over the clips.

    Args:
        splits: "train", "valid" and "test". Read.
        seed: Of the initial weights, of the order of the batches and of what disturbs them.
        device: Where it trains.
    """

    def __init__(self, splits: dict[str, Examples], seed: int, *, device: str = "cpu") -> None:
        super().__init__(splits, seed, device=device, shape=SHAPE, batch=BATCH)

    def batches(self, epoch: int) -> Iterator[Examples]:
        """Yield the training clips once, disturbed; all of it is drawn from the seed and the epoch."""
        import torch

        frames, lengths, classes = self._splits["train"]
        rng = np.random.default_rng([self._seed, epoch, 1])
        band = torch.arange(BANDS)
        time = torch.arange(frames.shape[1])
        for chosen in self.order(epoch).split(BATCH):
            count = len(chosen)
            noise = torch.from_numpy(rng.standard_normal((count, *frames.shape[1:]), dtype=np.float32))
            begin, width = (torch.from_numpy(rng.integers(0, top, (count, 1, 1))) for top in (BANDS, GAP + 1))
            heard = (band < begin) | (band >= begin + width)
            moved = _moved(frames[chosen].cpu(), int(rng.integers(-SHIFT, SHIFT + 1)))
            there = (time < lengths[chosen].cpu()[:, None]).unsqueeze(-1)
            disturbed = (moved + NOISE * noise) * heard * there
            yield Examples(disturbed.to(self.device), lengths[chosen], classes[chosen])


def _moved(frames: torch.Tensor, by: int) -> torch.Tensor:
    """Return the frames with their bands moved up by `by`; what comes in at the edge repeats the outermost band."""
    import torch

    return frames[:, :, (torch.arange(BANDS) - by).clamp(0, BANDS - 1)]


@dataclasses.dataclass(frozen=True)
class SpokenDigits(TorchTask):
    """The task; `TASK` is the one instance."""

    name: str = "digits-speech"
    title: str = "Spoken digits"
    model: str = (
        "a convolution of 32 filters and a GRU of 48 units both ways in PyTorch, averaged over time; 28,458 float32 "
        "parameters, batch 32, clips disturbed in training"
    )
    source: str = (
        "800 clips that espeak-ng makes, to learn from, and ten recordings of Allison Smith for the test, from "
        "Debian's asterisk-core-sounds-en-wav"
    )
    licence: str = "Recordings: CC BY-SA 3.0 (Digium); clips: made on this machine"
    notes: tuple[str, ...] = (
        "A demonstration: ten recordings of one voice are not a statistic. One digit more or less is ten points, and "
        "differences between optimizers on them mean nothing.",
        "Validation uses two synthetic voices that were not trained on.",
    )
    metric: Metric = METRIC
    budget: Budget = BUDGET
    quick: Budget = QUICK
    # Its matrices are too small to share: a second thread would spend its time waiting.
    threads: int = 1
    needs: tuple[str, ...] = ("spoken-digits", "espeak-ng")

    def load(self) -> Data:
        """Make the clips, or read those made earlier, and read the recordings.

        Raises:
            MissingDependency: The synthesiser, the recordings or torch are not here.
            FileError: A recording is damaged, or the synthesiser fails.
        """
        self.ready()
        import torch

        recordings = human()
        made = synthetic()
        kept = made.variants >= len(VARIANTS) - 2
        parts = {
            "train": (made.frames[~kept], made.lengths[~kept], made.digits[~kept]),
            "valid": (made.frames[kept], made.lengths[kept], made.digits[kept]),
            "test": (recordings.frames, recordings.lengths, recordings.digits),
        }
        digest = hashlib.sha256(b"".join(array.tobytes() for part in parts.values() for array in part))
        return Data(
            content={name: Examples(*map(torch.from_numpy, part)) for name, part in parts.items()},
            sizes={name: len(part[2]) for name, part in parts.items()},
            versions={"torch": str(torch.__version__), "numpy": np.__version__},
            fingerprint=digest.hexdigest()[:16],
        )

    def learner(self, data: Data, seed: int) -> Pupil:
        """Build the model with the weights of `seed`."""
        return Pupil(data.content, seed, device=self.device)


TASK = SpokenDigits()
