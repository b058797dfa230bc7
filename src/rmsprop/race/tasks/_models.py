"""The models of the tasks that read text or sound. Imports torch: only `learner` imports this module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Judge", "Reader", "Recogniser", "Translator"]


class Reader(nn.Module):
    """Embedding, LSTM, and a distribution over the next symbol.

    Args:
        symbols: How many there are.
        embedded: Numbers per symbol.
        hidden: Units.
    """

    def __init__(self, symbols: int, *, embedded: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, embedded)
        self.lstm = nn.LSTM(embedded, hidden)
        self.output = nn.Linear(hidden, symbols)

    def forward(self, text: Tensor, memory: Any = None) -> tuple[Tensor, Any]:
        """Return logits, shape (time, streams, symbols), and what the LSTM remembers; `text` is (time, streams)."""
        hidden, memory = self.lstm(self.embedding(text), memory)
        return self.output(hidden), memory


class Judge(nn.Module):
    """One number per sentence: from the mean of its embeddings and the mean of a GRU run over them both ways.

    Args:
        vocabulary: Words, counting 0 for the end.
        embedded: Numbers per word.
        hidden: Units in each direction.
    """

    def __init__(self, vocabulary: int, *, embedded: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedded, padding_idx=0)
        # Of unit size, as they come, most of a sentence's mean would be noise for many epochs.
        with torch.no_grad():
            self.embedding.weight.mul_(0.1)
        self.gru = nn.GRU(embedded, hidden, batch_first=True, bidirectional=True)
        self.output = nn.Linear(embedded + 2 * hidden, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits, shape (n,); `tokens` is (n, time)."""
        there = (tokens > 0).unsqueeze(-1)
        embedded = self.embedding(tokens)
        length = there.sum(dim=1).clamp(min=1)
        packed = nn.utils.rnn.pack_padded_sequence(
            embedded, length.squeeze(-1).cpu(), batch_first=True, enforce_sorted=False
        )
        hidden, _ = nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True)
        means = [(part * there).sum(dim=1) / length for part in (embedded, hidden)]
        return self.output(torch.cat(means, dim=1)).squeeze(-1)


class Translator(nn.Module):
    """Letters in, phonemes out, with attention; 0 pads and 1 ends a word on both sides.

    Args:
        letters: How many there are, with those two.
        phonemes: The same.
        embedded: Numbers per symbol.
        hidden: Units in each direction of the reading GRU; the speaking one has twice as many.
    """

    def __init__(self, letters: int, phonemes: int, *, embedded: int, hidden: int) -> None:
        super().__init__()
        width = 2 * hidden
        self.letters = nn.Embedding(letters, embedded, padding_idx=0)
        self.phonemes = nn.Embedding(phonemes, embedded)
        self.reader = nn.GRU(embedded, hidden, batch_first=True, bidirectional=True)
        self.speaker = nn.GRU(embedded, width, batch_first=True)
        self.mixer = nn.Linear(2 * width, width)
        self.output = nn.Linear(width, phonemes)

    def forward(self, letters: Tensor, phonemes: Tensor) -> Tensor:
        """Return logits, shape (n, time, phonemes), of each phoneme given those before it."""
        keys, there, memory = self._read(letters)
        # A word begins as it ends: with symbol 1.
        before = torch.cat([torch.ones_like(phonemes[:, :1]), phonemes[:, :-1]], dim=1)
        return self._speak(before, keys, there, memory)[0]

    def say(self, letters: Tensor, *, limit: int) -> Tensor:
        """Return the likeliest phonemes, one after the other, shape (n, at most limit)."""
        keys, there, memory = self._read(letters)
        last = torch.ones_like(letters[:, :1])
        ended = torch.zeros_like(last, dtype=torch.bool)
        said = []
        for _ in range(limit):
            logits, memory = self._speak(last, keys, there, memory)
            last = logits.argmax(dim=-1)
            said.append(last)
            ended |= last == 1
            if bool(ended.all()):
                break
        return torch.cat(said, dim=1)

    def _read(self, letters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        there = letters > 0
        packed = nn.utils.rnn.pack_padded_sequence(
            self.letters(letters), there.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False
        )
        hidden, last = self.reader(packed)
        keys, _ = nn.utils.rnn.pad_packed_sequence(hidden, batch_first=True)
        return keys, there, torch.cat([last[0], last[1]], dim=1).unsqueeze(0)

    def _speak(self, before: Tensor, keys: Tensor, there: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        queries, memory = self.speaker(self.phonemes(before), memory)
        weights = queries @ keys.transpose(1, 2) / keys.shape[-1] ** 0.5
        weights = weights.masked_fill(~there.unsqueeze(1), float("-inf")).softmax(dim=-1)
        return self.output(torch.tanh(self.mixer(torch.cat([queries, weights @ keys], dim=-1)))), memory


class Recogniser(nn.Module):
    """A GRU both ways over frames, averaged over time, and a class.

    Args:
        width: Numbers per frame.
        hidden: Units in each direction.
        classes: How many there are.
        filters: Of a convolution over five frames before the GRU, which halves their number; 0: none.
    """

    def __init__(self, width: int, hidden: int, classes: int, filters: int = 0) -> None:
        super().__init__()
        self.front = nn.Conv1d(width, filters, 5, stride=2, padding=2) if filters else None
        self.gru = nn.GRU(filters or width, hidden, batch_first=True, bidirectional=True)
        self.output = nn.Linear(2 * hidden, classes)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return logits, shape (n, classes); `frames` is (n, time, width) and ends after `lengths`."""
        if self.front is not None:
            frames = torch.relu(self.front(frames.transpose(1, 2))).transpose(1, 2)
            lengths = (lengths + 1) // 2
        packed = nn.utils.rnn.pack_padded_sequence(frames, lengths.cpu(), batch_first=True, enforce_sorted=False)
        hidden, _ = nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True)
        return self.output(hidden.sum(dim=1) / lengths.unsqueeze(1))
