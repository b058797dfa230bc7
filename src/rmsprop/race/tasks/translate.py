"""Translation: from spelling to sound, letters to phonemes, with attention.

    k[s] = GRU(letters)[s], both directions;  q[t] = GRU(phonemes before t)
    a[t] = softmax over s of k[s] . q[t] / sqrt(d);  logits[t] = W tanh(V [q[t], sum over s of a[t, s] k[s]])

The loss is the mean cross-entropy per phoneme. The metric is the phoneme error rate: the edit distance between the
model's phonemes and the dictionary's, summed over words, divided by the number of the dictionary's phonemes. Source of
the attention: T. Luong, H. Pham and C. Manning, Effective Approaches to Attention-based Neural Machine Translation,
2015.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rmsprop.race import data
from rmsprop.race.task import Data, Split, TorchTask
from rmsprop.race.tasks._learner import TorchLearner, make_torch_data, pad, run_gru, split_arrays, trim

EMBEDDED, HIDDEN = 48, 96
STEPS, SHORT_STEPS = 300, 25
SCORED, SHORT_SCORED = 2000, 100
LONGEST = 20
"""Letters, and phonemes, of a word; the few longer words are left out."""
PAD, END = 0, 1
SPLIT_SEED = 1993


class Words(NamedTuple):
    """Numbers of letters and of phonemes, int64, shapes (n, longest); END ends a word, PAD fills it up."""

    letters: Tensor
    phonemes: Tensor


class Learner(TorchLearner):
    """A learner of pronunciation."""

    batch = 128
    max_norm: ClassVar[float | None] = 1.0

    def build(self, spec: tuple[int, int]) -> nn.Module:
        letters, phonemes = spec
        width = 2 * HIDDEN
        layers = {
            "letters": nn.Embedding(letters, EMBEDDED, padding_idx=PAD),
            "phonemes": nn.Embedding(phonemes, EMBEDDED),
            "encoder": nn.GRU(EMBEDDED, HIDDEN, batch_first=True, bidirectional=True),
            "decoder": nn.GRU(EMBEDDED, width, batch_first=True),
            "combine": nn.Linear(2 * width, width),
            "output": nn.Linear(width, phonemes),
        }
        return nn.ModuleDict(layers)

    def batches(self, epoch: int) -> Iterator[Words]:
        """Yield random words, none twice in an epoch."""
        letters, phonemes = self._splits["train"]
        steps = SHORT_STEPS if self.task.short else STEPS
        for chosen in self.shuffle(epoch)[: steps * self.batch].split(self.batch):
            yield Words(trim(letters[chosen]), trim(phonemes[chosen]))

    def predict(self, batch: Words) -> Tensor:
        """Return logits, shape (n, time, phonemes), of each phoneme given those before it."""
        # The symbol before the first phoneme is END.
        before = torch.cat([torch.full_like(batch.phonemes[:, :1], END), batch.phonemes[:, :-1]], dim=1)
        return self._decode(before, *self._encode(batch.letters))[0]

    def generate(self, letters: Tensor, *, limit: int) -> Tensor:
        """Return the most likely phonemes, one after the other, shape (n, at most limit)."""
        keys, is_letter, state = self._encode(letters)
        last = torch.full_like(letters[:, :1], END)
        has_ended = torch.zeros_like(last, dtype=torch.bool)
        phonemes: list[Tensor] = []
        while len(phonemes) < limit and not has_ended.all():
            logits, state = self._decode(last, keys, is_letter, state)
            last = logits.argmax(dim=-1)
            phonemes.append(last)
            has_ended |= last == END
        return torch.cat(phonemes, dim=1)

    def _encode(self, letters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        is_letter = letters > PAD
        keys, last = run_gru(self.model["encoder"], self.model["letters"](letters), is_letter.sum(dim=1))
        return keys, is_letter, torch.cat([last[0], last[1]], dim=1).unsqueeze(0)

    def _decode(self, before: Tensor, keys: Tensor, is_letter: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        queries, state = self.model["decoder"](self.model["phonemes"](before), state)
        weights = queries @ keys.transpose(1, 2) / keys.shape[-1] ** 0.5
        weights = weights.masked_fill(~is_letter.unsqueeze(1), float("-inf")).softmax(dim=-1)
        combined = self.model["combine"](torch.cat([queries, weights @ keys], dim=-1))
        return self.model["output"](torch.tanh(combined)), state

    def loss(self, batch: Words) -> Tensor:
        logits = self.predict(batch)
        return nn.functional.cross_entropy(logits.flatten(0, 1), batch.phonemes.flatten(), ignore_index=PAD)

    def evaluate(self, split: Split) -> tuple[float, float]:
        """Return the phoneme error rate of the generated phonemes and the mean loss per phoneme."""
        errors = true_phonemes = count = 0
        total = 0.0
        for parts in zip(*(tensor.split(500) for tensor in self._splits[split]), strict=True):
            batch = Words(*map(trim, parts))
            # The loss is a mean over all symbols but PAD.
            symbols = int((batch.phonemes != PAD).sum())
            total, count = total + symbols * float(self.loss(batch)), count + symbols
            generated = self.generate(batch.letters, limit=LONGEST + 5)
            for guess, truth in zip(generated.tolist(), batch.phonemes.tolist(), strict=True):
                errors += compute_edit_distance(_cut_at_end(guess), _cut_at_end(truth))
                true_phonemes += len(_cut_at_end(truth))
        return errors / true_phonemes, total / count


def load(task: TorchTask) -> Data:
    """Read the dictionary; 2,000 words each are for validation and test. If `short`, read an eighth of it."""
    words, sounds = read_dictionary()
    scored = SCORED
    if task.short:
        words, sounds, scored = words[::8], sounds[::8], SHORT_SCORED
    letters, letter_count = _number_symbols(words)
    phonemes, phoneme_count = _number_symbols(sounds)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(words))
    parts = {"valid": order[:scored], "test": order[scored : 2 * scored], "train": order[2 * scored :]}
    splits = split_arrays(Words, (letters, phonemes), parts)
    digest_of = ["\n".join(words).encode(), phonemes.tobytes(), order.astype(np.int64).tobytes()]
    return make_torch_data(splits, digest_of, spec=(letter_count, phoneme_count))


def read_dictionary() -> tuple[list[str], list[list[str]]]:
    """Return words and their phonemes without stress, of the words made of letters and apostrophes."""
    words, sounds = [], []
    for line in data.read("translate", "dict.txt").decode("utf-8").splitlines():
        word, _, pronunciation = line.partition("  ")
        phonemes = re.sub(r"\d", "", pronunciation).split()
        if re.fullmatch(r"[A-Z]+(?:'[A-Z]*)*", word) and max(len(word), len(phonemes)) <= LONGEST:
            words.append(word)
            sounds.append(phonemes)
    return words, sounds


def compute_edit_distance(a: Sequence[object], b: Sequence[object]) -> int:
    """Return how many symbols to insert, delete or replace to make `a` into `b`.

    Example:
        >>> compute_edit_distance("kitten", "sitting")
        3

    Source: V. Levenshtein, 1966; computed row by row as R. Wagner and M. Fischer did in 1974.
    """
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, start=1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(b, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1]


def _number_symbols(sequences: Sequence[Sequence[str]]) -> tuple[NDArray[np.int64], int]:
    """Return symbol numbers, shape (n, LONGEST + 1), and how many symbols there are, with PAD and END."""
    alphabet = sorted({symbol for sequence in sequences for symbol in sequence})
    number = {symbol: k for k, symbol in enumerate(alphabet, start=2)}
    padded = pad([[*(number[symbol] for symbol in sequence), END] for sequence in sequences], LONGEST + 1)
    return padded, len(number) + 2


def _cut_at_end(tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(END)] if END in tokens else tokens
