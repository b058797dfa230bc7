"""What tasks over a fixed table of examples share: splits of tensors that are indexed alike, and batches of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from rmsprop.race.task import Split
from rmsprop.race.tasks._torch import TorchLearner, shuffled

if TYPE_CHECKING:
    import torch

__all__ = ["Classifier", "SplitLearner"]


class SplitLearner(TorchLearner):
    """A learner (see `rmsprop.race.task`) over splits; a subclass adds `loss` and `score`.

    Args:
        model: Its trainable parameters are what is raced. Moved to `device`.
        splits: "train", "valid" and "test": each a named tuple of tensors with an entry per example. Read.
        seed: Of the order of the batches.
        batch: Examples per step.
        device: Where it trains.
    """

    def __init__(
        self, model: torch.nn.Module, splits: Mapping[str, Any], seed: int, *, batch: int, device: str = "cpu"
    ) -> None:
        super().__init__(model, device=device)
        self._splits = {name: type(part)(*(t.to(self.device) for t in part)) for name, part in splits.items()}
        self._seed = seed
        self._batch = batch

    def order(self, epoch: int) -> torch.Tensor:
        """Return the training examples' numbers in an order drawn from the seed and the epoch."""
        return shuffled(len(self._splits["train"][0]), seed=self._seed, epoch=epoch).to(self.device)

    def batches(self, epoch: int) -> Iterator[Any]:
        """Yield the training examples once, in the order of the epoch."""
        part = self._splits["train"]
        for chosen in self.order(epoch).split(self._batch):
            yield type(part)(*(tensor[chosen] for tensor in part))


class Classifier(SplitLearner):
    """A learner of classes, the last tensor of each split: cross-entropy, and the share of examples recognised.

    A subclass adds `scores`.

    Attributes:
        at_once: Examples scored together, which is a matter of memory alone.
    """

    at_once: ClassVar[int] = 1000

    def scores(self, batch: Any) -> torch.Tensor:
        """Return a score for each class, shape (n, classes)."""
        raise NotImplementedError

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the mean cross-entropy in nats."""
        import torch

        return torch.nn.functional.cross_entropy(self.scores(batch), batch[-1])

    def score(self, split: Split) -> tuple[float, float]:
        """Return the share of examples recognised and the mean loss."""
        import torch

        part, right, loss = self._splits[split], 0, 0.0
        with self.evaluating():
            for tensors in zip(*(tensor.split(self.at_once) for tensor in part), strict=True):
                scores = self.scores(type(part)(*tensors))
                right += int((scores.argmax(1) == tensors[-1]).sum())
                loss += float(torch.nn.functional.cross_entropy(scores, tensors[-1], reduction="sum"))
        return right / len(part[-1]), loss / len(part[-1])
