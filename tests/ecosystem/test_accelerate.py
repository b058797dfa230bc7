"""Inside Accelerate: checkpoints, accumulation and overflows as with torch's own."""

from __future__ import annotations

import pytest
import torch
from problem import OPTIMIZERS, assert_same_bits
from torch import nn

from example_programs import load_example
from rmsprop.torch import RMSprop

# Warnings of the framework, none about the optimizer.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*'pin_memory' argument is set as true but no accelerator is found"),
]


def test_accelerate_saves_loads_and_accumulates_like_a_plain_loop():
    accelerate = load_example("torch_accelerate", "accelerate")
    trained, uninterrupted, resumed = accelerate.main(accumulate=2)
    assert uninterrupted == resumed
    model, dataset = accelerate.make_problem()
    optimizer = RMSprop(model.parameters(), lr=2e-3, momentum=0.9, max_norm=20.0)
    for _ in range(5):
        for i, (x, y) in enumerate(torch.utils.data.DataLoader(dataset, batch_size=32)):
            (nn.functional.mse_loss(model(x), y) / 2).backward()
            if i % 2:
                optimizer.step()
                optimizer.zero_grad()
    assert_same_bits(trained, model)


def test_accelerate_sees_an_overflow_as_with_torchs():
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    runs = []
    for cls in OPTIMIZERS:
        weight = nn.Parameter(torch.ones(3))
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        plain = cls([weight], lr=0.1)
        scheduler = accelerator.prepare_scheduler(torch.optim.lr_scheduler.ExponentialLR(plain, 0.5))
        optimizer = accelerate.optimizer.AcceleratedOptimizer(plain, scaler=scaler)
        scheduler.optimizers = [optimizer]
        seen = []
        for step in range(4):
            scaler.scale((weight * (torch.inf if step == 2 else 1.0)).sum()).backward()
            optimizer.step()
            scheduler.step()
            seen.append((optimizer.step_was_skipped, scheduler.get_last_lr(), scaler.get_scale(), weight.grad.tolist()))
            optimizer.zero_grad()
        runs.append((seen, weight))
    assert runs[0][0] == runs[1][0]
    assert [skipped for skipped, *_ in runs[1][0]] == [False, False, True, False]
    assert runs[1][0][3][3] == [1.0, 1.0, 1.0], "the gradients after the step are still scaled"
    torch.testing.assert_close(runs[0][1], runs[1][1])
