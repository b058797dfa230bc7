"""Sentiment: is a sentence of a film review positive or negative?

    e[t] = embedding(word[t]);  z = W [mean over t of e[t], mean over t of GRU(e)[t], both directions] + b

The loss is the binary cross-entropy of z. Source of the data: C. J. Hutto and E. Gilbert, VADER: A Parsimonious
Rule-based Model for Sentiment Analysis of Social Media Text, ICWSM 2014: sentences of film reviews collected by B. Pang
and L. Lee, rated by twenty people each.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rmsprop.race import data
from rmsprop.race.task import Data, Split, TorchTask
from rmsprop.race.tasks._learner import TorchLearner, make_torch_data, pad, run_gru, split_arrays, trim
from rmsprop.race.tasks._split import split_evenly

EMBEDDED, HIDDEN, LONGEST = 32, 32, 48
MIN_COUNT = 2
PAD, RARE = 0, 1
HIDE = 0.3
"""The share of words that are replaced by RARE in training, so that RARE is learned and no sentence is memorized."""
SPLIT_SEED = 2014


class Sentences(NamedTuple):
    """Word numbers, int64, shape (n, LONGEST), PAD after the end; and 1.0 for positive, float32, shape (n,)."""

    tokens: Tensor
    positive: Tensor


class Learner(TorchLearner):
    """A learner of the sentiment."""

    batch = 64

    def build(self, spec: int) -> nn.Module:
        embedding = nn.Embedding(spec, EMBEDDED, padding_idx=PAD)
        # With embeddings of unit size most of a sentence's mean would be noise for many epochs.
        embedding.weight.data.mul_(0.1)
        gru = nn.GRU(EMBEDDED, HIDDEN, batch_first=True, bidirectional=True)
        return nn.ModuleDict({"embedding": embedding, "gru": gru, "output": nn.Linear(EMBEDDED + 2 * HIDDEN, 1)})

    def predict(self, tokens: Tensor) -> Tensor:
        """Return logits, shape (n,), from the means of the embeddings and of the GRU's outputs over each sentence."""
        is_word = (tokens > PAD).unsqueeze(-1)
        embedded = self.model["embedding"](tokens)
        length = is_word.sum(dim=1).clamp(min=1)
        hidden, _ = run_gru(self.model["gru"], embedded, length.squeeze(-1))
        means = [(part * is_word).sum(dim=1) / length for part in (embedded, hidden)]
        return self.model["output"](torch.cat(means, dim=1)).squeeze(-1)

    def batches(self, epoch: int) -> Iterator[Sentences]:
        """Yield every training sentence once; the order and the hidden words depend on seed and epoch."""
        tokens, positive = self._splits["train"]
        random = np.random.default_rng([self._seed, epoch, 1]).random(tokens.shape, dtype=np.float32)
        hide = torch.from_numpy(random < HIDE).to(self.device) & (tokens > PAD)
        for chosen in self.shuffle(epoch).split(self.batch):
            yield Sentences(trim(tokens[chosen].masked_fill(hide[chosen], RARE)), positive[chosen])

    def loss(self, batch: Sentences) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(self.predict(batch.tokens), batch.positive)

    def evaluate(self, split: Split) -> tuple[float, float]:
        """Return the accuracy and the mean loss."""
        tokens, positive = self._splits[split]
        logits = torch.cat([self.predict(trim(part)) for part in tokens.split(512)])
        loss = float(nn.functional.binary_cross_entropy_with_logits(logits, positive))
        return float(((logits > 0) == (positive > 0.5)).float().mean()), loss


def load(task: TorchTask) -> Data:
    """Read the sentences, number their words and split them 70 : 15 : 15; a fifth of them if `short`."""
    texts, positive = read_sentences()
    if task.short:
        texts, positive = texts[::5], positive[::5]
    parts = split_evenly(positive, (0.7, 0.15, 0.15), seed=SPLIT_SEED)
    counts = Counter(word for k in parts["train"] for word in split_words(texts[k]))
    known = sorted(word for word in counts if counts[word] >= MIN_COUNT)
    number = {word: k for k, word in enumerate(known, start=2)}
    tokens = pad([[number.get(word, RARE) for word in split_words(text)[:LONGEST]] for text in texts], LONGEST)
    splits = split_arrays(Sentences, (tokens, positive.astype(np.float32)), parts)
    digest_of = ["\n".join(texts).encode(), *(part.astype(np.int64).tobytes() for part in parts.values())]
    return make_torch_data(splits, digest_of, spec=len(number) + 2)


def read_sentences() -> tuple[list[str], NDArray[np.intp]]:
    """Return the sentences whose rating is not 0, and 1 for those rated positive, 0 for negative."""
    lines = data.read("sentiment", "movieReviewSnippets_GroundTruth.txt").decode("utf-8").strip("\n").split("\n")
    rated = [(float(rating), text) for _, rating, text in (line.split("\t") for line in lines)]
    return [text for rating, text in rated if rating], np.array([rating > 0 for rating, _ in rated if rating], np.intp)


def split_words(text: str) -> list[str]:
    """Return a sentence's words and punctuation marks, in lower case.

    Example:
        >>> split_words("It's (almost) great!")
        ["it's", '(', 'almost', ')', 'great', '!']
    """
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)?|[^\sa-z0-9]", text.lower())
