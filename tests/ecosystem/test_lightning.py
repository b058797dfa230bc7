"""Inside Lightning: the same weights as with torch's own, in every precision, resumed and clipped."""

from __future__ import annotations

import pytest
import torch
from problem import OPTIMIZERS, assert_same_bits
from torch import nn

from example_programs import load_example
from rmsprop.torch import RMSprop

# Warnings of the framework, none about the optimizer.
pytestmark = [
    pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated"),
    pytest.mark.filterwarnings("ignore:The '.*' does not have many workers"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated"),
]


@pytest.fixture
def lightning():
    return load_example("torch_lightning", "lightning")


def train_in_a_loop(lightning, module, epochs, clip=None):
    (optimizer,), (scheduler,) = module.configure_optimizers()
    for _ in range(epochs):
        for x, y in lightning.load_data():
            optimizer.zero_grad()
            nn.functional.mse_loss(module.model(x), y).backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(module.parameters(), clip)
            optimizer.step()
        scheduler.step()
    return module


def test_lightning_trains_to_the_bits_of_a_plain_loop(lightning):
    module = lightning.main()
    assert module.losses[-1] < module.losses[0] * 0.8
    assert_same_bits(module, train_in_a_loop(lightning, lightning.Regression(max_norm=50.0), 4))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_lightnings_own_clipping_works_in_every_precision_as_with_torchs(lightning, precision):
    modules = []
    for cls in OPTIMIZERS:
        modules.append(lightning.Regression(optimizer_class=cls))
        trainer = lightning.make_trainer(max_epochs=2, gradient_clip_val=1.0, precision=precision)
        trainer.fit(modules[-1], lightning.load_data())
    for theirs, ours in zip(*(module.parameters() for module in modules)):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    if precision == "32-true":
        assert_same_bits(modules[1], train_in_a_loop(lightning, lightning.Regression(), 2, clip=1.0))


def test_lightning_resumes_from_its_checkpoint_with_the_same_bits(lightning, tmp_path):
    options = {"momentum": 0.9, "centered": True, "dialect": "timm"}
    first, resumed = lightning.Regression(**options), lightning.Regression(**options)
    trainer = lightning.make_trainer(max_epochs=2)
    trainer.fit(first, lightning.load_data())
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    lightning.make_trainer(max_epochs=4).fit(resumed, lightning.load_data(), ckpt_path=tmp_path / "half.ckpt")
    assert_same_bits(resumed, train_in_a_loop(lightning, lightning.Regression(**options), 4))


def test_lightning_in_mixed_precision_clips_by_max_norm(lightning):
    module = lightning.main(precision="bf16-mixed", max_epochs=2)
    assert module.losses[-1] < module.losses[0]
    assert all(p.isfinite().all() for p in module.parameters())
    assert module.optimizers().optimizer.grad_norm > 0


def test_lightning_in_16_bit_clips_the_unscaled_gradients_as_with_torchs(lightning):
    from lightning.pytorch.plugins.precision import MixedPrecision

    class Clipped(lightning.Regression):
        """Clips itself, and records the norms before clipping and the gradients after the step."""

        def on_train_start(self):
            self.norms, self.grads = [], []

        def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
            self.norms.append(float(nn.utils.clip_grad_norm_(self.parameters(), 1.0)))

        def optimizer_step(self, *args, **kwargs):
            super().optimizer_step(*args, **kwargs)
            self.grads.append(max(float(p.grad.abs().max()) for p in self.parameters()))

    modules = []
    for cls in OPTIMIZERS:
        modules.append(Clipped(optimizer_class=cls))
        scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
        precision = MixedPrecision("16-mixed", "cpu", scaler=scaler)
        lightning.make_trainer(max_epochs=2, plugins=[precision]).fit(modules[-1], lightning.load_data())
    theirs, ours = modules
    assert ours.norms == pytest.approx(theirs.norms, rel=1e-2)
    assert ours.grads == pytest.approx(theirs.grads, rel=1e-2)
    assert max(ours.grads) <= 1.0
    for a, b in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3)


def test_only_a_step_that_clips_gets_the_scale_of_mixed_precision():
    weight = [nn.Parameter(torch.ones(2))]
    assert not RMSprop(weight)._step_supports_amp_scaling
    assert RMSprop(weight, max_norm=1.0)._step_supports_amp_scaling
