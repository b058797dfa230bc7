"""Use RMSprop with Hugging Face Accelerate: `prepare` it with the model, save and load with `save_state`.

accelerate launch --cpu examples/torch_accelerate.py     or simply     python examples/torch_accelerate.py
"""

import tempfile

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from rmsprop.torch import RMSprop


def make_problem():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    x = torch.randn(256, 8)
    return model, TensorDataset(x, x.square().sum(1, keepdim=True))


def train_epoch(accelerator, model, optimizer, loader):
    for x, y in loader:
        with accelerator.accumulate(model):
            loss = nn.functional.mse_loss(model(x), y)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
    return float(loss.detach())


def main(accumulate=2):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
    model, dataset = make_problem()
    optimizer = RMSprop(model.parameters(), lr=2e-3, momentum=0.9, max_norm=20.0)
    model, optimizer, loader = accelerator.prepare(model, optimizer, DataLoader(dataset, batch_size=32))
    losses = [train_epoch(accelerator, model, optimizer, loader) for _ in range(4)]
    with tempfile.TemporaryDirectory() as folder:
        accelerator.save_state(folder)
        uninterrupted = train_epoch(accelerator, model, optimizer, loader)
        accelerator.load_state(folder)
        resumed = train_epoch(accelerator, model, optimizer, loader)
    print(
        f"loss {losses[0]:.1f} -> {losses[-1]:.1f}; the next epoch: {uninterrupted:.6f}, again from disk: {resumed:.6f}"
    )
    return accelerator.unwrap_model(model), uninterrupted, resumed


if __name__ == "__main__":
    main()
