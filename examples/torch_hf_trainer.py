"""Train a tiny GPT-2 with Hugging Face's Trainer and RMSprop; the model is made from a configuration, not downloaded.

With `optimizer_cls_and_kwargs` the Trainer makes the groups (no weight decay for biases and norms) and the schedule.
The model learns to count: after 3 4 5 comes 6.
"""

import tempfile

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from rmsprop.torch import RMSprop


class Counting(torch.utils.data.Dataset):
    """Sequences i, i+1, i+2, ... modulo 16."""

    def __len__(self):
        return 64

    def __getitem__(self, i):
        ids = (torch.arange(12) + i) % 16
        return {"input_ids": ids, "labels": ids}


def make_trainer(folder, steps=60, **options):
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=16, n_positions=12, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    arguments = {
        "output_dir": folder,
        "max_steps": steps,
        "per_device_train_batch_size": 16,
        "learning_rate": 2e-3,
        "max_grad_norm": 0.0,  # clipping is done in the step: max_norm below
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "seed": 0,
    }
    return Trainer(
        model=GPT2LMHeadModel(config),
        args=TrainingArguments(**arguments | options),
        train_dataset=Counting(),
        optimizer_cls_and_kwargs=(RMSprop, {"dialect": "keras3", "max_norm": 1.0, "lr": 2e-3}),
    )


def main():
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(folder)
        loss = trainer.train().training_loss
    with torch.no_grad():
        following = int(trainer.model(torch.tensor([[3, 4, 5]])).logits[0, -1].argmax())
    print(f"mean loss {loss:.2f}; after 3 4 5 comes {following}")
    return trainer, following


if __name__ == "__main__":
    main()
