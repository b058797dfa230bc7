"""Fine-tuning: MiniLM, a pretrained transformer of six layers, learns to tell positive reviews from negative ones.

The mean of the last layer's vectors goes into one new layer of two logits; all parameters are trained. This is the slow
task: about a minute per trial on two cores, and 84 MB to fetch.

Source of the model: N. Reimers and I. Gurevych, Sentence-BERT, EMNLP 2019, all-MiniLM-L6-v2; of the sentences: see
`sentiment`.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rmsprop.race import data
from rmsprop.race.task import Data, TorchTask, import_package
from rmsprop.race.tasks._learner import Classifier, make_torch_data
from rmsprop.race.tasks._split import split_evenly
from rmsprop.race.tasks.sentiment import read_sentences

BATCHES = 40
"""Per epoch: about a sixth of the training sentences."""
LONGEST = 48
SPLIT_SEED = 2019
SHORT = {"train": 32, "valid": 16, "test": 16}


class Sentences(NamedTuple):
    """Token numbers and 1 where there is a token, int64, shape (n, LONGEST); 1 for positive, int64, shape (n,)."""

    tokens: Tensor
    mask: Tensor
    positive: Tensor


class Learner(Classifier):
    """A learner of the sentiment; the seed draws the new layer and the order of the batches."""

    batch = 32
    max_norm: ClassVar[float | None] = 1.0
    eval_batch: ClassVar[int] = 128

    def build(self, spec: Any) -> nn.Module:
        transformer = copy.deepcopy(spec)
        return nn.ModuleDict({"transformer": transformer, "head": nn.Linear(transformer.config.hidden_size, 2)})

    def batches(self, epoch: int) -> Iterator[Sentences]:
        """Yield the next BATCHES batches; a new order begins when all sentences have been used."""
        part = self._splits["train"]
        per_pass = len(part.positive) // self.batch
        per_epoch = min(BATCHES, per_pass)
        for number in range((epoch - 1) * per_epoch, epoch * per_epoch):
            chosen = self.shuffle(number // per_pass)[number % per_pass * self.batch :][: self.batch]
            yield Sentences(*(tensor[chosen] for tensor in part))

    def predict(self, batch: Sentences) -> Tensor:
        longest = int(batch.mask.sum(1).max())
        tokens, mask = batch.tokens[:, :longest], batch.mask[:, :longest]
        hidden = self.model["transformer"](input_ids=tokens, attention_mask=mask).last_hidden_state
        weights = mask[..., None].to(hidden.dtype)
        return self.model["head"]((hidden * weights).sum(1) / weights.sum(1))


def load(task: TorchTask) -> Data:
    """Read sentences and transformer from this machine, without a request to the Hugging Face Hub."""
    transformers = import_package("transformers", extra="race", purpose="the task finetune")
    folder = str(data.find_folder("minilm"))
    texts, positive = read_sentences()
    with _silence(transformers.utils.logging):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = transformers.AutoModel.from_pretrained(
            folder, local_files_only=True, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
            add_pooling_layer=False,
        )  # fmt: skip
    splits, digest_of = {}, []
    for name, part in split_evenly(positive, (0.82, 0.06, 0.12), seed=SPLIT_SEED).items():
        # The positions are sorted, and the file is in order of its films: a short split uses all parts of it.
        chosen = part[:: max(1, len(part) // SHORT[name])][: SHORT[name]] if task.short else part
        encoded = tokenizer(
            [texts[i] for i in chosen], padding="max_length", truncation=True, max_length=LONGEST, return_tensors="pt"
        )
        labels = torch.from_numpy(positive[chosen].astype(np.int64))
        splits[name] = Sentences(encoded["input_ids"], encoded["attention_mask"], labels)
        digest_of += [encoded["input_ids"].numpy().tobytes(), labels.numpy().tobytes()]
    return make_torch_data(splits, digest_of, spec=model, transformers=transformers.__version__)


@contextlib.contextmanager
def _silence(logging: Any) -> Iterator[None]:
    """Hide the progress bar and the remark that the unused pooling layer is left out."""
    level, had_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if had_bar:
            logging.enable_progress_bar()
