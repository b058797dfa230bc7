"""Inside TRL: `optimizers=(optimizer, scheduler)` of its trainers, with a tiny model made from a configuration."""

from __future__ import annotations

import pytest
import torch
from problem import OPTIMIZERS, assert_close, read_weights

trl = pytest.importorskip("trl", reason="trl is not installed")
datasets = pytest.importorskip("datasets", reason="datasets is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # the warnings of trl, datasets and transformers

WORDS = {**{str(i): i for i in range(16)}, "<pad>": 16, "<eos>": 17, "<unk>": 18}


def make_tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def make_language_model():
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    ends = {"bos_token_id": 17, "eos_token_id": 17, "pad_token_id": 16}
    return GPT2LMHeadModel(GPT2Config(vocab_size=19, n_positions=16, n_embd=16, n_layer=1, n_head=2, **ends))


def count_from(start):
    return " ".join(str((start + i) % 16) for i in range(10))


def finetune(rows):
    return trl.SFTTrainer, trl.SFTConfig, {"text": [count_from(i) for i in rows]}, {}


def prefer(rows):
    texts = [count_from(i).rsplit(" ", 5) for i in rows]
    good, bad = ([" " + " ".join(words) for words in each] for each in zip(*[(t[1:], t[:0:-1]) for t in texts]))
    columns = {"prompt": [t[0] for t in texts], "chosen": good, "rejected": bad}
    return trl.DPOTrainer, trl.DPOConfig, columns, {"ref_model": make_language_model()}


@pytest.mark.slow
@pytest.mark.parametrize("task", [finetune, prefer])
def test_a_trainer_trains_as_with_torchs_own(task, tmp_path):
    trainer_class, config_class, columns, models = task(range(64))
    weights = [read_weights(make_language_model())]
    for cls in OPTIMIZERS:
        model = make_language_model()
        config = config_class(
            output_dir=str(tmp_path / cls.__module__), max_steps=5, per_device_train_batch_size=8, max_length=16,
            use_cpu=True, bf16=False, report_to=[], disable_tqdm=True, save_strategy="no", logging_strategy="no",
        )  # fmt: skip
        trainer = trainer_class(
            model=model,
            args=config,
            train_dataset=datasets.Dataset.from_dict(columns),
            processing_class=make_tokenizer(),
            **models,
            optimizers=(cls(model.parameters(), lr=1e-3), None),
        )
        trainer.train()
        weights.append(read_weights(model))
    assert_close(weights[2], weights[1], weights[0], atol=1e-5)
