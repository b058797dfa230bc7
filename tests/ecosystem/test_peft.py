"""Inside PEFT: LoRA's adapters train, and nothing else."""

from __future__ import annotations

import pytest
import torch
from problem import OPTIMIZERS, assert_close, make_data, make_model, read_weights

peft = pytest.importorskip("peft", reason="peft is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")


def test_adapters_train_as_with_torchs_own_and_the_base_stays():
    x, y = make_data()
    weights = []
    for cls in (None, *OPTIMIZERS):
        model = peft.get_peft_model(make_model(), peft.LoraConfig(r=2, target_modules=["0"]))
        if cls is not None:
            optimizer = cls(model.parameters(), lr=1e-2, momentum=0.9)
            for _ in range(10):
                optimizer.zero_grad()
                torch.nn.functional.mse_loss(model(x), y).backward()
                optimizer.step()
            assert all((p.grad is not None) == ("lora" in name) for name, p in model.named_parameters())
            assert len(optimizer.state) == 2
        weights.append(read_weights(model))
    assert_close(weights[2], weights[1], weights[0])
