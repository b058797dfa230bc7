"""Text generation: a character LSTM that reads the King James Bible, 201,039 float32 parameters.

    h[t], c[t] = LSTM(embedding(x[t]), h[t-1], c[t-1]);  loss = mean of -log softmax(W h[t] + b)[x[t+1]]

64 streams run through the text side by side, 64 characters per step; what the LSTM remembers goes on from step to step,
gradients do not. Bits per character are the mean loss divided by log 2. Source of the recipe: A. Karpathy, The
Unreasonable Effectiveness of Recurrent Neural Networks, 2015: RMSprop on characters, gradients clipped.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from rmsprop.errors import FileError
from rmsprop.race import data as sources
from rmsprop.race.task import Budget, Data, Metric, Split
from rmsprop.race.tasks._torch import TorchLearner, TorchTask, seeded

if TYPE_CHECKING:
    import torch

__all__ = ["TASK", "Scripture", "Writer", "books"]

STREAMS, LENGTH = 64, 64
EMBEDDED, HIDDEN = 48, 192
STEPS, SHORT_STEPS = 100, 15
SCORED, SHORT_SCORED = 2048, 128
"""Characters per stream that a score reads."""
WHOLE = "gen1:1-rev22:21"
SHA256 = "cd45f0c9cedab8e4439bd6486c8952c77cc8b0ecc5d1f6ae3513f2039f47229d"
METRIC = Metric(name="bits per character", better="lower", percent=False, target=2.25)
BUDGET = Budget(epochs=8, seeds=3, tuning_seeds=1, grid=(0.0005, 0.0025, 0.012, 0.06, 0.3, 1.5, 7.5))
QUICK = Budget(epochs=1, seeds=1, tuning_seeds=1, grid=(0.0025, 1.5))


class Letters(NamedTuple):
    """The text as numbers, int64, shape (n,), per split; and the symbols they stand for."""

    splits: Mapping[str, torch.Tensor]
    symbols: str


class Writer(TorchLearner):
    """A learner (see `rmsprop.race.task`) over the text.

    Args:
        letters: Read.
        seed: Of the initial weights and of where in the text the streams begin.
        device: Where it trains.
        steps: Per epoch.
    """

    max_norm: ClassVar[float | None] = 1.0

    def __init__(self, letters: Letters, seed: int, *, device: str = "cpu", steps: int = STEPS) -> None:
        from rmsprop.race.tasks._models import Reader

        with seeded(seed):
            model = Reader(len(letters.symbols), embedded=EMBEDDED, hidden=HIDDEN)
        super().__init__(model, device=device)
        self._symbols = letters.symbols
        self._splits = {name: text.to(self.device) for name, text in letters.splits.items()}
        self._steps = steps
        self._first = int(np.random.default_rng(seed).integers(len(letters.splits["train"])))
        self._memory: Any = None

    def batches(self, epoch: int) -> Iterator[torch.Tensor]:
        """Yield characters, int64, shape (LENGTH + 1, STREAMS): each stream goes on where it stood."""
        import torch

        text = self._splits["train"]
        begins = self._first + torch.arange(STREAMS, device=self.device) * (len(text) // STREAMS)
        window = torch.arange(LENGTH + 1, device=self.device)[:, None]
        for step in range((epoch - 1) * self._steps, epoch * self._steps):
            yield text[(begins + step * LENGTH + window) % len(text)]

    def loss(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the mean loss in nats per character."""
        import torch

        logits, memory = self.model(batch[:-1], self._memory)
        self._memory = tuple(part.detach() for part in memory)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[1:].flatten())

    def score(self, split: Split) -> tuple[float, float]:
        """Return the bits per character and the loss in nats, over the beginnings of 64 pieces of the split."""
        import torch

        text = self._splits[split]
        piece = len(text) // STREAMS
        length = min(SCORED, piece - 1)
        block = torch.stack([text[k * piece : k * piece + length + 1] for k in range(STREAMS)], dim=1)
        total, memory = 0.0, None
        with self.evaluating():
            for begin in range(0, length, 256):
                end = min(begin + 256, length)
                logits, memory = self.model(block[begin:end], memory)
                after = block[begin + 1 : end + 1].flatten()
                total += float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), after, reduction="sum"))
        loss = total / (length * STREAMS)
        return loss / float(np.log(2)), loss

    def sample(self, *, characters: int = 300, temperature: float = 0.7) -> str:
        """Return text that the model makes up, drawn with a fixed seed; it begins a verse."""
        import torch

        # Drawn on the CPU, so that the same weights write the same text on every device.
        generator = torch.Generator().manual_seed(0)
        letter, memory, drawn = self._symbols.index("\n"), None, []
        with self.evaluating():
            for _ in range(characters):
                logits, memory = self.model(torch.full((1, 1), letter, device=self.device), memory)
                weights = torch.softmax(logits[0, 0].float().cpu() / temperature, dim=0)
                letter = int(torch.multinomial(weights, 1, generator=generator))
                drawn.append(self._symbols[letter])
        return "".join(drawn)


@dataclasses.dataclass(frozen=True)
class Scripture(TorchTask):
    """The task; `TASK` is the one instance."""

    name: str = "kjv"
    title: str = "Text generation"
    model: str = (
        "a character LSTM in PyTorch: 48 numbers per character, 192 units; 201,039 float32 parameters, "
        "64 streams of 64 characters per step, gradients clipped to norm 1, 100 steps per epoch"
    )
    source: str = "the King James Bible, 31,102 verses and 4.1 million characters, from Debian's bible-kjv-text"
    licence: str = "Text: public domain"
    notes: tuple[str, ...] = (
        "Every twentieth chapter is kept for validation and another one for the test: the same books, other chapters.",
    )
    metric: Metric = METRIC
    budget: Budget = BUDGET
    quick: Budget = QUICK
    # Its matrices are too small to share: a second thread would spend its time waiting.
    threads: int = 1
    needs: tuple[str, ...] = ("kjv",)

    def load(self) -> Data:
        """Read the Bible through its own program and split it by chapters 18 : 1 : 1; if `short`, score little of it.

        Raises:
            MissingDependency: The text, its program or torch is not here.
            FileError: The text is not the one expected.
        """
        self.ready()
        import torch

        text = books()
        symbols = "".join(sorted(set("".join(text.values()))))
        if self.short:
            # The training text costs nothing until it is read.
            scored = STREAMS * (SHORT_SCORED + 1)
            text = {name: part if name == "train" else part[:scored] for name, part in text.items()}
        number = {symbol: k for k, symbol in enumerate(symbols)}
        splits = {
            name: torch.tensor([number[symbol] for symbol in part], dtype=torch.int64) for name, part in text.items()
        }
        return Data(
            content=Letters(splits, symbols),
            sizes={name: len(part) for name, part in splits.items()},
            versions={"torch": str(torch.__version__)},
            fingerprint=hashlib.sha256("\x00".join(text.values()).encode()).hexdigest()[:16],
        )

    def learner(self, data: Data, seed: int) -> Writer:
        """Build the model with the weights of `seed`."""
        return Writer(data.content, seed, device=self.device, steps=SHORT_STEPS if self.short else STEPS)


def books() -> dict[str, str]:
    """Return "train", "valid" and "test": verses without their references, one per line.

    Raises:
        MissingDependency: The text or its program is not here.
        FileError: The program brings something else.
    """
    program, folder = sources.program("kjv"), sources.folder("kjv")
    # The program wraps its lines to the width of a terminal when it is told of one.
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    try:
        done = subprocess.run(
            [program, "-p", folder, "-f", WHOLE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FileError(f"{program} cannot read {folder / 'bible.data'}: {error}") from error
    if (actual := hashlib.sha256(done.stdout).hexdigest()) != SHA256:
        raise FileError(
            f"{program} read another text out of {folder / 'bible.data'} than was expected: SHA-256 {actual}, expected "
            f"{SHA256}; bible-kjv 4.38 reads the right one"
        )
    return by_chapter(done.stdout.decode("ascii").splitlines())


def by_chapter(lines: list[str]) -> dict[str, str]:
    r"""Deal chapters out to the splits, 18 : 1 : 1, and drop the references.

    Args:
        lines: "Ge1:1 In the beginning ...", in order. Read.

    Example:
        >>> by_chapter(["Ge1:1 In the beginning", "Ge1:2 And the earth", "Ge2:1 Thus the heavens"])["train"]
        'In the beginning\nAnd the earth\nThus the heavens\n'
    """
    splits: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    chapters: dict[str, None] = {}
    for line in lines:
        reference, _, verse = line.partition(" ")
        chapters.setdefault(reference.partition(":")[0])
        turn = (len(chapters) - 1) % 20
        splits[{9: "valid", 19: "test"}.get(turn, "train")].append(verse + "\n")
    return {name: "".join(verses) for name, verses in splits.items()}


TASK = Scripture()
