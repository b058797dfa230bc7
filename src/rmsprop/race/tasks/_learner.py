"""What the torch tasks share: their data, a learner over splits of examples, and sequences of several lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rmsprop.race.task import Data, Split, TorchTask, make_data

__all__ = ["Classifier", "Content", "TorchLearner", "make_torch_data", "pad", "run_gru", "split_arrays", "trim"]


class Content(NamedTuple):
    """The content of a torch task's data."""

    splits: dict[str, Any]  # "train", "valid" and "test", each a named tuple of tensors with an entry per example
    spec: Any = None  # what `build` needs besides, such as the number of words or a pretrained model


def split_arrays(
    kind: Callable[..., Any], arrays: Iterable[NDArray[Any]], parts: Mapping[str, NDArray[np.intp]]
) -> dict[str, Any]:
    """Return for each split the rows of the arrays at its positions, as tensors in a `kind`."""
    return {name: kind(*(torch.from_numpy(array[part]) for array in arrays)) for name, part in parts.items()}


def make_torch_data(splits: dict[str, Any], digest_of: Iterable[bytes], *, spec: Any = None, **versions: str) -> Data:
    """Make the data of a torch task; arguments as those of `Content` and `rmsprop.race.task.make_data`."""
    sizes = {name: len(splits[name][-1]) for name in ("train", "valid", "test")}
    return make_data(Content(splits, spec), sizes, digest_of, torch=str(torch.__version__), **versions)


class TorchLearner:
    """A learner (see `rmsprop.race.task`) over a torch model; a subclass adds `build`, `loss` and `evaluate`.

    The seed decides the initial weights and the order of the batches.
    """

    batch: ClassVar[int]  # examples per step
    max_norm: ClassVar[float | None] = None  # clip all gradients to this global norm, for every optimizer

    def __init__(self, task: TorchTask, content: Content, seed: int) -> None:
        self.task = task
        self.device = torch.device(task.device)
        # The user's own random numbers stay as they are.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.build(content.spec)
        self.model = model.to(self.device).train()
        self._named = [(name, param) for name, param in self.model.named_parameters() if param.requires_grad]
        self.params = [param for _, param in self._named]
        self._splits = {name: type(part)(*(t.to(self.device) for t in part)) for name, part in content.splits.items()}
        self._seed = seed
        self._last_batch: Any = None

    def build(self, spec: Any) -> nn.Module:
        """Return the model, with weights from torch's generator."""
        raise NotImplementedError

    def loss(self, batch: Any) -> Tensor:
        """Return the batch's mean loss, a tensor of one element."""
        raise NotImplementedError

    def evaluate(self, split: Split) -> tuple[float, float]:
        """Return the metric and the mean loss on a split; called without gradients, in evaluation mode."""
        raise NotImplementedError

    def shuffle(self, epoch: int) -> Tensor:
        """Return the positions of the training examples in random order, from the seed and the epoch."""
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._splits["train"][-1]))
        return torch.from_numpy(order).to(self.device)

    def batches(self, epoch: int) -> Iterator[Any]:
        """Yield every training example once."""
        part = self._splits["train"]
        for chosen in self.shuffle(epoch).split(self.batch):
            yield type(part)(*(tensor[chosen] for tensor in part))

    def gradients(self, batch: Any) -> tuple[float, None]:
        """Return the loss; the gradients are in the parameters' `.grad`, where the optimizer expects them."""
        for param in self.params:
            param.grad = None
        self._last_batch = batch
        loss = self.loss(batch)
        loss.backward()
        if self.max_norm is not None:
            nn.utils.clip_grad_norm_(self.params, self.max_norm)
        return float(loss.detach()), None

    def score(self, split: Split) -> tuple[float, float]:
        """Return the metric and the mean loss on a split."""
        self.model.eval()
        try:
            with torch.no_grad():
                return self.evaluate(split)
        finally:
            self.model.train()

    def find_nonfinite(self, grads: None = None) -> str:
        """Name where a loss that is not finite began, as far as that can be seen.

        A weight, if one is not finite: the step before made it so. Else the first layer whose output is not finite when
        the last batch passes once more, else a gradient. Of several weights or gradients the nearest to the loss is
        named, because values overflow on the way back from there.
        """
        if weights := [name for name, param in self._named if not _is_finite(param.detach())]:
            return weights[-1]
        if layer := self._find_nonfinite_layer():
            return layer
        named_grads = [(name, param.grad) for name, param in self._named if param.grad is not None]
        found = [name for name, grad in named_grads if not _is_finite(grad)]
        return f"the gradient of {found[-1]}" if found else "the loss"

    def _find_nonfinite_layer(self) -> str:
        found: list[str] = []

        def check_output(name: str, module: nn.Module, output: Any) -> None:
            if not found and not _is_finite(output):
                found.append(f"the output of {name or 'the model'} ({type(module).__name__})")

        hooks = [
            module.register_forward_hook(lambda module, inputs, output, name=name: check_output(name, module, output))
            for name, module in self.model.named_modules()
        ]
        try:
            with torch.no_grad():
                self.loss(self._last_batch)
        finally:
            for hook in hooks:
                hook.remove()
        return found[0] if found else ""


class Classifier(TorchLearner):
    """A learner of classes, the last tensor of each split; a subclass adds `build` and `predict`.

    The loss is the cross-entropy in nats, the metric is the accuracy.
    """

    eval_batch: ClassVar[int] = 1000  # examples per forward pass of an evaluation, a matter of memory

    def predict(self, batch: Any) -> Tensor:
        """Return logits, shape (n, classes)."""
        raise NotImplementedError

    def loss(self, batch: Any) -> Tensor:
        """Return the mean cross-entropy."""
        return nn.functional.cross_entropy(self.predict(batch), batch[-1])

    def evaluate(self, split: Split) -> tuple[float, float]:
        """Return the accuracy and the mean cross-entropy."""
        part, correct, loss = self._splits[split], 0, 0.0
        for tensors in zip(*(tensor.split(self.eval_batch) for tensor in part), strict=True):
            logits = self.predict(type(part)(*tensors))
            correct += int((logits.argmax(1) == tensors[-1]).sum())
            loss += float(nn.functional.cross_entropy(logits, tensors[-1], reduction="sum"))
        return correct / len(part[-1]), loss / len(part[-1])


def pad(sequences: Sequence[Sequence[int]], length: int) -> NDArray[np.int64]:
    """Return the sequences as rows of `length` numbers, with 0 after each end."""
    padded = np.zeros((len(sequences), length), np.int64)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    return padded


def trim(tokens: Tensor) -> Tensor:
    """Cut off the columns in which every sequence has ended."""
    return tokens[:, : int((tokens != 0).sum(dim=1).max())]


def run_gru(gru: nn.GRU, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Run a GRU over sequences of several lengths; return its outputs, 0 after each end, and its last states."""
    packed = nn.utils.rnn.pack_padded_sequence(inputs, lengths.cpu(), batch_first=True, enforce_sorted=False)
    outputs, last = gru(packed)
    return nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)[0], last


def _is_finite(output: Any) -> bool:
    """Return whether all numbers are finite, of a tensor or of what a layer returns: tuples and dicts of tensors."""
    if isinstance(output, Tensor):
        values = output.coalesce().values() if output.is_sparse else output
        return not values.is_floating_point() or bool(torch.isfinite(values).all())
    if isinstance(output, dict):
        return all(map(_is_finite, output.values()))
    return all(map(_is_finite, output)) if isinstance(output, (tuple, list)) else True
