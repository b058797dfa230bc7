"""Sentiment: is a sentence of a film review kind or unkind?

    e[t] = embedding(word[t]);  z = W [mean over t of e[t], mean over t of GRU(e)[t], both directions] + b

The loss is the binary cross-entropy of z. Source of the data: C. J. Hutto and E. Gilbert, VADER: A Parsimonious
Rule-based Model for Sentiment Analysis of Social Media Text, ICWSM 2014: sentences of film reviews collected by B. Pang
and L. Lee, rated by twenty people each.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rmsprop.race import data as sources
from rmsprop.race.task import Budget, Data, Metric, Split
from rmsprop.race.tasks._learner import SplitLearner
from rmsprop.race.tasks._split import split_evenly
from rmsprop.race.tasks._torch import TorchTask, seeded

if TYPE_CHECKING:
    import torch

__all__ = ["TASK", "Critic", "Reviews", "sentences", "words"]

BATCH = 64
LONGEST = 48
EMBEDDED, HIDDEN = 32, 32
SEEN, RARE = 2, 1
HIDE = 0.3
"""The share of words hidden in training: what a rare word means is learned from them, and none is learned by heart."""
SHARES = (0.7, 0.15, 0.15)
SPLIT_SEED = 2014
METRIC = Metric(name="accuracy", better="higher", percent=True, target=0.74)
BUDGET = Budget(epochs=4, seeds=5, tuning_seeds=1, grid=(0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0))
QUICK = Budget(epochs=1, seeds=1, tuning_seeds=1, grid=(0.003, 0.3))


class Examples(NamedTuple):
    """Sentences: numbers of words, int64, shape (n, LONGEST), 0 where it has ended; and 1.0 for kind, shape (n,)."""

    tokens: torch.Tensor
    kind: torch.Tensor


class Critic(SplitLearner):
    """A learner (see `rmsprop.race.task`) over the sentences.

    Args:
        splits: "train", "valid" and "test". Read.
        vocabulary: How many words there are, with the two that stand for the end and for a rare word.
        seed: Of the initial weights and of the order of the batches.
        device: Where it trains.
    """

    def __init__(self, splits: Mapping[str, Examples], vocabulary: int, seed: int, *, device: str = "cpu") -> None:
        from rmsprop.race.tasks._models import Judge

        with seeded(seed):
            model = Judge(vocabulary, embedded=EMBEDDED, hidden=HIDDEN)
        super().__init__(model, splits, seed, batch=BATCH, device=device)

    def batches(self, epoch: int) -> Iterator[Examples]:
        """Yield the training sentences once; the order and the words that are hidden come from seed and epoch."""
        import torch

        tokens, kind = self._splits["train"]
        drawn = np.random.default_rng([self._seed, epoch, 1]).random(tokens.shape, dtype=np.float32) < HIDE
        hidden = torch.from_numpy(drawn).to(self.device) & (tokens > 0)
        for chosen in self.order(epoch).split(BATCH):
            yield _trimmed(Examples(tokens[chosen].masked_fill(hidden[chosen], RARE), kind[chosen]))

    def loss(self, batch: Examples) -> torch.Tensor:
        """Return the mean binary cross-entropy in nats."""
        import torch

        return torch.nn.functional.binary_cross_entropy_with_logits(self.model(batch.tokens), batch.kind)

    def score(self, split: Split) -> tuple[float, float]:
        """Return the share of sentences judged right and the mean loss."""
        import torch

        tokens, kind = self._splits[split]
        with self.evaluating():
            logits = torch.cat([self.model(_trimmed(Examples(part, part)).tokens) for part in tokens.split(512)])
            loss = float(torch.nn.functional.binary_cross_entropy_with_logits(logits, kind))
            return float(((logits > 0) == (kind > 0.5)).float().mean()), loss


@dataclasses.dataclass(frozen=True)
class Reviews(TorchTask):
    """The task; `TASK` is the one instance."""

    name: str = "sentiment"
    title: str = "Sentiment of sentences"
    model: str = (
        "embeddings of 32 numbers and a GRU of 32 units both ways in PyTorch, averaged over the sentence; 275,553 "
        "float32 parameters, batch 64, three words of ten hidden in training"
    )
    source: str = (
        "10,568 sentences of film reviews with human ratings (C. J. Hutto and E. Gilbert, ICWSM 2014), from PyPI's "
        "vaderSentiment 0.5"
    )
    licence: str = "Data: MIT, as distributed with VADER"
    notes: tuple[str, ...] = (
        "Sentences of one review may fall into different splits; 37 sentences that were rated exactly neutral are "
        "left out.",
    )
    metric: Metric = METRIC
    budget: Budget = BUDGET
    quick: Budget = QUICK
    # Its matrices are too small to share: a second thread would spend its time waiting.
    threads: int = 1
    needs: tuple[str, ...] = ("sentiment",)

    def load(self) -> Data:
        """Read the sentences, number their words and split them 70 : 15 : 15; a fifth of them if `short`.

        Raises:
            MissingDependency: The sentences or torch are not here.
            FileError: The file is damaged.
        """
        self.ready()
        import torch

        texts, kind = sentences()
        if self.short:
            texts, kind = texts[::5], kind[::5]
        split = dict(zip(("train", "valid", "test"), split_evenly(kind, SHARES, seed=SPLIT_SEED), strict=True))
        counts = Counter(word for k in split["train"] for word in words(texts[k]))
        # 0 ends a sentence and 1 is every word that the training sentences hold only once, or never.
        number = {word: k for k, word in enumerate(sorted(word for word in counts if counts[word] >= SEEN), start=2)}
        tokens = np.zeros((len(texts), LONGEST), np.int64)
        for row, text in zip(tokens, texts, strict=True):
            found = [number.get(word, RARE) for word in words(text)[:LONGEST]]
            row[: len(found)] = found
        splits = {
            name: Examples(torch.from_numpy(tokens[part]), torch.from_numpy(kind[part].astype(np.float32)))
            for name, part in split.items()
        }
        digest = hashlib.sha256("\n".join(texts).encode())
        for part in split.values():
            digest.update(part.astype(np.int64).tobytes())
        return Data(
            content=(splits, len(number) + 2),
            sizes={name: len(part) for name, part in split.items()},
            versions={"torch": str(torch.__version__)},
            fingerprint=digest.hexdigest()[:16],
        )

    def learner(self, data: Data, seed: int) -> Critic:
        """Build the model with the weights of `seed`."""
        splits, vocabulary = data.content
        return Critic(splits, vocabulary, seed, device=self.device)


def sentences() -> tuple[list[str], NDArray[np.intp]]:
    """Return the sentences that are not neutral, and 1 for those rated kind, 0 for unkind.

    Raises:
        MissingDependency: They are not here.
        FileError: The file is damaged.
    """
    lines = sources.read("sentiment", "movieReviewSnippets_GroundTruth.txt").decode("utf-8").strip("\n").split("\n")
    rated = [(float(rating), text) for _, rating, text in (line.split("\t") for line in lines)]
    return [text for rating, text in rated if rating], np.array([rating > 0 for rating, _ in rated if rating], np.intp)


def words(text: str) -> list[str]:
    """Return a sentence's words and marks, in small letters.

    Example:
        >>> words("It's (almost) great!")
        ["it's", '(', 'almost', ')', 'great', '!']
    """
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)?|[^\sa-z0-9]", text.lower())


def _trimmed(batch: Examples) -> Examples:
    """Cut off the columns in which every sentence has ended."""
    longest = int((batch.tokens > 0).sum(dim=1).max())
    return Examples(batch.tokens[:, :longest], batch.kind)


TASK = Reviews()
