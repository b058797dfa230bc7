"""Fine-tuning: MiniLM, a transformer of six layers that read English before, learns to tell kind reviews from unkind.

The mean of the last layer's vectors goes into one new layer of two scores; 22,566,146 parameters, all of them trained.
This is the slow task: about a minute per trial on two cores, and 84 MB to fetch.

Source of the model: N. Reimers and I. Gurevych, Sentence-BERT, EMNLP 2019, all-MiniLM-L6-v2; of the sentences: see
`sentiment`.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from rmsprop.errors import MissingDependency
from rmsprop.race import data as sources
from rmsprop.race.task import Budget, Data, Metric
from rmsprop.race.tasks import sentiment
from rmsprop.race.tasks._learner import Classifier
from rmsprop.race.tasks._split import split_evenly
from rmsprop.race.tasks._torch import TorchTask, seeded

if TYPE_CHECKING:
    import torch

__all__ = ["TASK", "FineTune", "Tuned"]

BATCH = 32
BATCHES = 40
"""An epoch: about a sixth of the training sentences."""
LONGEST = 48
SPLIT_SEED = 2019
SHARES = (0.82, 0.06, 0.12)
SHORT = {"train": 32, "valid": 16, "test": 16}
METRIC = Metric(name="accuracy", better="higher", percent=True, target=0.80)
BUDGET = Budget(epochs=3, seeds=2, tuning_seeds=1, grid=(0.00001, 0.0001, 0.001, 0.01, 0.1))
QUICK = Budget(epochs=1, seeds=1, tuning_seeds=1, grid=(0.00002, 0.01))


class Sentences(NamedTuple):
    """Numbers of word pieces and 1 where there is one, int64, shape (n, LONGEST); 1 for kind, int64, shape (n,)."""

    tokens: torch.Tensor
    mask: torch.Tensor
    kind: torch.Tensor


class Content(NamedTuple):
    """The splits, and the transformer as it was fetched; a trial trains a copy."""

    splits: dict[str, Sentences]
    transformer: Any


class Tuned(Classifier):
    """A learner (see `rmsprop.race.task`) over the sentences; gradients are clipped to norm 1 for all.

    Args:
        content: Read.
        seed: Of the new layer and of the order of the batches.
        device: Where it trains.
    """

    max_norm: ClassVar[float | None] = 1.0
    at_once: ClassVar[int] = 4 * BATCH

    def __init__(self, content: Content, seed: int, *, device: str = "cpu") -> None:
        from torch import nn

        with seeded(seed):
            transformer = copy.deepcopy(content.transformer)
            head = nn.Linear(transformer.config.hidden_size, 2)
        model = nn.ModuleDict({"transformer": transformer, "head": head})
        super().__init__(model, content.splits, seed, batch=BATCH, device=device)

    def batches(self, epoch: int) -> Iterator[Sentences]:
        """Yield the next BATCHES batches; a new order begins when the sentences are used up."""
        part = self._splits["train"]
        per_round = len(part.kind) // BATCH
        for number in range((epoch - 1) * min(BATCHES, per_round), epoch * min(BATCHES, per_round)):
            chosen = self.order(number // per_round)[number % per_round * BATCH :][:BATCH]
            yield Sentences(*(tensor[chosen] for tensor in part))

    def scores(self, batch: Sentences) -> torch.Tensor:
        """Return two scores for each sentence, from the mean of the transformer's last vectors."""
        longest = int(batch.mask.sum(1).max())
        tokens, mask = batch.tokens[:, :longest], batch.mask[:, :longest]
        read = self.model["transformer"](input_ids=tokens, attention_mask=mask).last_hidden_state
        weights = mask[..., None].to(read.dtype)
        found: torch.Tensor = self.model["head"]((read * weights).sum(1) / weights.sum(1))
        return found


@dataclasses.dataclass(frozen=True)
class FineTune(TorchTask):
    """The task; `TASK` is the one instance."""

    name: str = "finetune"
    title: str = "Fine-tuning a transformer"
    model: str = (
        "MiniLM (6 layers, 384 wide) and one new layer over the mean of its last vectors; 22,566,146 parameters, "
        "batch 32, an epoch is 40 batches; gradients clipped to norm 1 for all, no dropout"
    )
    source: str = (
        "film review sentences rated by people (C. J. Hutto and E. Gilbert, VADER, ICWSM 2014); the transformer "
        "all-MiniLM-L6-v2 (N. Reimers and I. Gurevych, EMNLP 2019)"
    )
    licence: str = "Data: MIT (C. J. Hutto); model: Apache-2.0 (sentence-transformers)"
    notes: tuple[str, ...] = ("One schedule for all: a constant rate. What people use here is AdamW with a decay.",)
    metric: Metric = METRIC
    budget: Budget = BUDGET
    quick: Budget = QUICK
    needs: tuple[str, ...] = ("sentiment", "minilm")

    def load(self) -> Data:
        """Read sentences and transformer from this machine; nothing is asked of a hub.

        Raises:
            MissingDependency: Either is not here, or torch or transformers is not.
            FileError: A file is damaged.
        """
        self.ready()
        try:
            import transformers
        except ImportError as error:
            raise MissingDependency.of("transformers", extra="race", purpose="the task finetune") from error
        import torch

        folder = str(sources.folder("minilm"))
        texts, kinds = sentiment.sentences()
        with _quiet(transformers.utils.logging):
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = transformers.AutoModel.from_pretrained(
                folder, local_files_only=True, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
                add_pooling_layer=False,
            )  # fmt: skip
        parts = dict(zip(("train", "valid", "test"), split_evenly(kinds, SHARES, seed=SPLIT_SEED), strict=True))
        splits, digest = {}, hashlib.sha256()
        for name, part in parts.items():
            # The positions are sorted, and the file is in order of its films: a short split is spread over all of it.
            chosen = part[:: max(1, len(part) // SHORT[name])][: SHORT[name]] if self.short else part
            coded = tokenizer(
                [texts[i] for i in chosen], padding="max_length", truncation=True, max_length=LONGEST,
                return_tensors="pt",
            )  # fmt: skip
            labels = torch.from_numpy(kinds[chosen].astype(np.int64))
            splits[name] = Sentences(coded["input_ids"], coded["attention_mask"], labels)
            digest.update(coded["input_ids"].numpy().tobytes())
            digest.update(labels.numpy().tobytes())
        return Data(
            content=Content(splits, model),
            sizes={name: len(part.kind) for name, part in splits.items()},
            versions={"torch": torch.__version__, "transformers": transformers.__version__},
            fingerprint=digest.hexdigest()[:16],
        )

    def learner(self, data: Data, seed: int) -> Tuned:
        """Copy the transformer and put a new layer on it."""
        return Tuned(data.content, seed, device=self.device)


@contextlib.contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """Hold back the progress bar and the remark that the unused pooling layer is left out."""
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


TASK = FineTune()
