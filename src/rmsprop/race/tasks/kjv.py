"""Text generation: a character LSTM that reads the King James Bible.

    h[t], c[t] = LSTM(embedding(x[t]), h[t-1], c[t-1]);  loss = mean of -log softmax(W h[t] + b)[x[t+1]]

64 streams run through the text in parallel, 64 characters per step; the LSTM's state is carried from step to step,
gradients are not. Bits per character are the mean loss divided by log 2. Source of the recipe: A. Karpathy, The
Unreasonable Effectiveness of Recurrent Neural Networks, 2015: RMSprop on characters, gradients clipped.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rmsprop.errors import FileError
from rmsprop.race import data
from rmsprop.race.task import Data, Split, TorchTask
from rmsprop.race.tasks._learner import Content, TorchLearner, make_torch_data

STREAMS, LENGTH = 64, 64
EMBEDDED, HIDDEN = 48, 192
STEPS, SHORT_STEPS = 100, 15
SCORED, SHORT_SCORED = 2048, 128
"""Characters per stream that an evaluation reads."""
SHA256 = "cd45f0c9cedab8e4439bd6486c8952c77cc8b0ecc5d1f6ae3513f2039f47229d"


class Text(NamedTuple):
    """The text as character numbers, int64, shape (n,)."""

    characters: Tensor


class Learner(TorchLearner):
    """A learner of the next character; the seed also draws where in the text the streams begin."""

    max_norm: ClassVar[float | None] = 1.0

    def __init__(self, task: TorchTask, content: Content, seed: int) -> None:
        super().__init__(task, content, seed)
        self._alphabet: str = content.spec
        self._steps = SHORT_STEPS if task.short else STEPS
        self._first = int(np.random.default_rng(seed).integers(len(content.splits["train"].characters)))
        self._state: Any = None

    def build(self, spec: str) -> nn.Module:
        embedding, lstm = nn.Embedding(len(spec), EMBEDDED), nn.LSTM(EMBEDDED, HIDDEN)
        return nn.ModuleDict({"embedding": embedding, "lstm": lstm, "output": nn.Linear(HIDDEN, len(spec))})

    def predict(self, text: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Return logits, shape (time, streams, characters), and the LSTM's state; `text` is (time, streams)."""
        hidden, state = self.model["lstm"](self.model["embedding"](text), state)
        return self.model["output"](hidden), state

    def batches(self, epoch: int) -> Iterator[Tensor]:
        """Yield characters, int64, shape (LENGTH + 1, STREAMS): each stream goes on where it ended."""
        (text,) = self._splits["train"]
        begins = self._first + torch.arange(STREAMS, device=self.device) * (len(text) // STREAMS)
        window = torch.arange(LENGTH + 1, device=self.device)[:, None]
        for step in range((epoch - 1) * self._steps, epoch * self._steps):
            yield text[(begins + step * LENGTH + window) % len(text)]

    def loss(self, batch: Tensor) -> Tensor:
        logits, state = self.predict(batch[:-1], self._state)
        self._state = tuple(part.detach() for part in state)
        return nn.functional.cross_entropy(logits.flatten(0, 1), batch[1:].flatten())

    def evaluate(self, split: Split) -> tuple[float, float]:
        """Return the bits per character and the loss in nats, over the beginnings of 64 pieces of the split."""
        (text,) = self._splits[split]
        piece = len(text) // STREAMS
        length = min(SCORED, piece - 1)
        block = torch.stack([text[k * piece : k * piece + length + 1] for k in range(STREAMS)], dim=1)
        total, state = 0.0, None
        for begin in range(0, length, 256):
            end = min(begin + 256, length)
            logits, state = self.predict(block[begin:end], state)
            following = block[begin + 1 : end + 1].flatten()
            total += float(nn.functional.cross_entropy(logits.flatten(0, 1), following, reduction="sum"))
        loss = total / (length * STREAMS)
        return loss / float(np.log(2)), loss

    @torch.no_grad()
    def sample(self, *, characters: int = 300, temperature: float = 0.7) -> str:
        """Return text from the model, drawn with a fixed seed, from the beginning of a verse."""
        # Drawn on the CPU, so that the same weights write the same text on every device.
        generator = torch.Generator().manual_seed(0)
        last, state, text = self._alphabet.index("\n"), None, ""
        for _ in range(characters):
            logits, state = self.predict(torch.full((1, 1), last, device=self.device), state)
            weights = torch.softmax(logits[0, 0].float().cpu() / temperature, dim=0)
            last = int(torch.multinomial(weights, 1, generator=generator))
            text += self._alphabet[last]
        return text


def load(task: TorchTask) -> Data:
    """Read the Bible and split it by chapters 18 : 1 : 1; if `short`, little of it is scored."""
    texts = read_bible()
    alphabet = "".join(sorted(set("".join(texts.values()))))
    if task.short:
        scored = STREAMS * (SHORT_SCORED + 1)
        texts = {name: text if name == "train" else text[:scored] for name, text in texts.items()}
    number = {character: k for k, character in enumerate(alphabet)}
    splits = {name: Text(torch.tensor([number[character] for character in text])) for name, text in texts.items()}
    return make_torch_data(splits, ["\x00".join(texts.values()).encode()], spec=alphabet)


def read_bible() -> dict[str, str]:
    """Return "train", "valid" and "test": verses without their references, one per line.

    FileError is raised if the program that reads the text fails, or prints another text.
    """
    program, folder = data.find_program("kjv"), data.find_folder("kjv")
    # The program wraps its lines to the width of a terminal if COLUMNS is set.
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    command = [str(program), "-p", str(folder), "-f", "gen1:1-rev22:21"]
    try:
        run = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FileError(f"{program} cannot read {folder / 'bible.data'}: {error}") from error
    if (actual := hashlib.sha256(run.stdout).hexdigest()) != SHA256:
        raise FileError(
            f"{program} printed an unexpected text from {folder / 'bible.data'}: SHA-256 {actual}, expected {SHA256}; "
            "install bible-kjv 4.38"
        )
    return split_chapters(run.stdout.decode("ascii").splitlines())


def split_chapters(lines: list[str]) -> dict[str, str]:
    r"""Split chapters 18 : 1 : 1 and drop the references.

    Example:
        >>> split_chapters(["Ge1:1 In the beginning", "Ge1:2 And the earth", "Ge2:1 Thus the heavens"])["train"]
        'In the beginning\nAnd the earth\nThus the heavens\n'
    """
    splits: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    chapters: dict[str, None] = {}
    for line in lines:
        reference, _, verse = line.partition(" ")
        chapters.setdefault(reference.partition(":")[0])
        position = (len(chapters) - 1) % 20
        splits[{9: "valid", 19: "test"}.get(position, "train")].append(verse + "\n")
    return {name: "".join(verses) for name, verses in splits.items()}
